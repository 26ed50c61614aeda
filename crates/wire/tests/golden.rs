//! Records and blobs that the other codec of the oracle does not know: random ones, which the generated classes of
//! Apache Kafka 4.3.1 read as the values beside them and wrote back as the same bytes.

mod walk;

use std::collections::BTreeMap;

use moldau_wire::Message;
use serde_json::Value;
use walk::show::{hex, show, unhex};
use walk::{Kind, Visitor, Walk, visit_all};

struct Golden(BTreeMap<String, Vec<Value>>);

impl Visitor for Golden {
    fn visit<M: Message + Walk>(&mut self, _: Kind) {
        for line in self.0.remove(M::NAME).unwrap_or_default() {
            let version = line["version"].as_i64().and_then(|v| i16::try_from(v).ok()).expect("a version");
            let bytes = line["hex"].as_str().expect("hexadecimal digits");
            let message = M::from_bytes(unhex(bytes).into(), version).expect("a message of this version");
            assert_eq!(show(&message, version), line["value"], "{} v{version}", M::NAME);
            assert_eq!(
                hex(&message.to_bytes(version).expect("it was read")),
                bytes,
                "{} v{version}",
                M::NAME
            );
        }
    }
}

#[test]
fn kafka_reads_and_writes_the_same() {
    let mut golden = Golden(BTreeMap::new());
    for line in include_str!("data/kafka_4_3_1.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        golden.0.entry(line["name"].as_str().expect("a name").to_owned()).or_default().push(line);
    }
    assert_eq!(golden.0.len(), 21, "kinds of records and blobs");
    visit_all(&mut golden);
    assert!(golden.0.is_empty(), "nothing reads {:?}", golden.0.keys());
}
