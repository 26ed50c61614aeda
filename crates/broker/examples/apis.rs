//! Prints `docs/apis.md`: the APIs and versions that a broker says it serves, beside those of Apache Kafka 4.3.

use std::collections::BTreeSet;

use moldau_broker::SERVED;
use moldau_wire::{ApiKey, VersionRange};

/// What a real broker answered to ApiVersions.
const KAFKA: &str = include_str!("../../../docs/kafka-4.3-apis.txt");

/// An API of Kafka.
struct Api<'a> {
    key: i16,
    name: &'a str,
    versions: VersionRange,
}

impl<'a> Api<'a> {
    /// `key name oldest newest`.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let key = words.next()?.parse().ok()?;
        let name = words.next()?;
        let versions = VersionRange { min: words.next()?.parse().ok()?, max: words.next()?.parse().ok()? };
        Some(Self { key, name, versions })
    }
}

fn main() {
    let kafka: Vec<Api<'_>> =
        KAFKA.lines().filter(|line| !line.starts_with('#')).filter_map(Api::parse).collect();
    let served: BTreeSet<i16> = SERVED.iter().map(|key| *key as i16).collect();
    let known = kafka.iter().filter(|api| served.contains(&api.key)).count();
    println!("<!-- Written by `cargo xtask docs`. -->");
    println!("# APIs\n");
    println!(
        "What a node answers to ApiVersions: {} APIs. A broker of Apache Kafka 4.3 answers",
        served.len()
    );
    println!(
        "with {}, {known} of them among these. An API that is not served is not advertised: clients that",
        kafka.len()
    );
    println!("can do without it do, others say which one they miss.\n");
    println!("| key | API | Moldau | Kafka 4.3 | |\n|--:|---|---|---|---|");
    for api in &kafka {
        let ours = ApiKey::from_code(api.key).filter(|key| SERVED.contains(key)).map(ApiKey::advertised);
        let note = match ours {
            None => "",
            Some(range) if range == api.versions => "the same",
            Some(_) => "not the same versions",
        };
        let ours = ours.map_or_else(|| "–".to_owned(), |range| range.to_string());
        println!("| {} | {} | {ours} | {} | {note} |", api.key, api.name, api.versions);
    }
}
