//! What Kafka's own tools make of the files. Needs the jars of a Kafka 4.3 in `MOLDAU_KAFKA_LIBS` and Java;
//! without them the test says so and passes.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::{Disk, Path};
use moldau_base::{NodeId, Now, Uuid};
use moldau_quorum::{Config, Quorum};
use moldau_wire::metadata_frame;
use moldau_wire::metadata_records::{NoOp, Record, Topic};

use crate::model::ModelDisk;

fn dump(libs: &str, file: &std::path::Path) -> String {
    let output = Command::new("java")
        .args(["-cp", &format!("{libs}/*"), "org.apache.kafka.tools.DumpLogSegments"])
        .args(["--cluster-metadata-decoder", "--files"])
        .arg(file)
        .output()
        .expect("java runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn dump_log_reads_the_log_and_the_snapshot() {
    let Some(libs) = libs() else {
        eprintln!("skipped: MOLDAU_KAFKA_LIBS is not set");
        return;
    };
    let disk = Arc::new(ModelDisk::default());
    let mut events = Vec::new();
    let config = Config::alone(NodeId(7), Uuid([9; 16]), 1);
    let mut quorum = Quorum::start(config, disk.clone(), Now::default(), &mut events).expect("starts");
    let topic = Record::from(Topic { name: "orders".into(), topic_id: Uuid([3; 16]) });
    let encode = |record: &Record| metadata_frame::encode(record, 0).expect("encodes");
    let values: Vec<Bytes> = vec![encode(&topic), encode(&NoOp {}.into())];
    quorum.propose(values.clone());
    quorum.step(Now { wall_ms: 1_700_000_000_000, ..Now::default() }, &mut events);
    quorum.snapshot(values.into_iter()).expect("snapshot");

    let dir = std::env::temp_dir().join(format!("moldau-quorum-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("__cluster_metadata-0")).expect("a directory");
    for name in disk.names() {
        let path = Path::new(Default::default(), &name);
        let len = disk.len(&path).expect("len").unwrap_or(0);
        std::fs::write(dir.join(&name), disk.read(&path, 0, len as usize).expect("read")).expect("written");
    }
    let log = dump(&libs, &dir.join("__cluster_metadata-0/00000000000000000000.log"));
    for expected in ["LeaderChange", "KRaftVoters", "TOPIC_RECORD", "orders", "NO_OP_RECORD", "isvalid: true"]
    {
        assert!(log.contains(expected), "{expected} in\n{log}");
    }
    let snapshot = disk.names().into_iter().find(|name| name.ends_with(".checkpoint")).expect("a snapshot");
    let dumped = dump(&libs, &dir.join(snapshot));
    for expected in ["SnapshotHeader", "KRaftVersion", "KRaftVoters", "orders", "SnapshotFooter"] {
        assert!(dumped.contains(expected), "{expected} in\n{dumped}");
    }
    println!("{log}\n{dumped}");
    std::fs::remove_dir_all(dir).expect("removed");
}

fn libs() -> Option<String> {
    std::env::vars().find(|(name, _)| name == "MOLDAU_KAFKA_LIBS").map(|(_, value)| value)
}
