//! Inputs to begin with that need not be kept as files: what Apache Kafka wrote (the golden bytes that other crates test with), and what the
//! code itself can say of each API and file. What real clients sent is in `fuzz/seeds`.

use bytes::{Buf, Bytes};
use moldau_base::config::broker_keys;
use moldau_base::disk::{Disk, Path};
use moldau_batch::{Batch, HEADER_BYTES};
use moldau_sim::disk::SimDisk;
use moldau_storage::{
    RecoveryPolicy, encode_epochs, encode_metadata, encode_offsets, encode_snapshot, recover,
};
use moldau_wire::{ApiKey, DecodeError, Request, decode_response};

use crate::directory::DIR;
use crate::input::put_piece;
use crate::{broker, directory, groups, storage, voters};

/// Written by the generated classes of Kafka: a line of JSON for each record or blob.
const KAFKA_MESSAGES: &str = include_str!("../../wire/tests/data/kafka_4_3_1.jsonl");
/// Written by Kafka's coordinator: a line for each record of `__consumer_offsets`.
const KAFKA_GROUPS: &str = include_str!("../../group/tests/fixtures/kafka-4.3.1-records.txt");
/// Written by the encoder of Kafka's Java client.
const KAFKA_BATCHES: [&[u8]; 7] = [
    include_bytes!("../../batch/tests/golden/none.batch"),
    include_bytes!("../../batch/tests/golden/gzip.batch"),
    include_bytes!("../../batch/tests/golden/snappy.batch"),
    include_bytes!("../../batch/tests/golden/lz4.batch"),
    include_bytes!("../../batch/tests/golden/zstd.batch"),
    include_bytes!("../../batch/tests/golden/commit.batch"),
    include_bytes!("../../batch/tests/golden/append-time.batch"),
];

/// The inputs to begin with for this target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frames" => {
            let stream: Vec<u8> = requests().iter().flat_map(frame).collect();
            stream.chunks(2000).map(|part| [&[7], part].concat()).collect()
        }
        "requests" => {
            requests().iter().map(|(api, version, body)| [&[*api, *version][..], body].concat()).collect()
        }
        "responses" => responses(),
        "log_records" => {
            let golden = golden();
            golden.records.into_iter().chain(golden.others).collect()
        }
        "batch_split" => {
            KAFKA_BATCHES.iter().map(|batch| batch.to_vec()).chain([KAFKA_BATCHES.concat()]).collect()
        }
        "batch_records" => KAFKA_BATCHES.iter().map(|batch| inside(batch)).collect(),
        "recovery" => directories(|name| name.starts_with("orders-0") || !name.contains('/')),
        "indexes" => indexes(),
        "small_files" => small_files(),
        "quorum" => directories(|name| name.starts_with("__cluster_metadata-0")),
        "voters" => voters::conversations(),
        "image" => images(),
        "groups" => vec![groups::describe(&group_records())],
        "config" => config(),
        "start" => directories(|_| true),
        "broker" => conversations(),
        _ => Vec::new(),
    }
}

/// A message as the targets of requests and responses read it.
pub fn message(key: ApiKey, version: i16, bytes: &[u8]) -> Vec<u8> {
    let place = ApiKey::ALL.iter().position(|known| *known == key).unwrap_or_default();
    [&[place as u8, version as u8][..], bytes].concat()
}

/// A frame as the target of frames reads it.
pub fn stream(frame: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    [&[7][..], &len.to_be_bytes(), frame].concat()
}

/// A request as the target of the whole broker reads it.
pub fn conversation(key: ApiKey, version: i16, body: &Bytes) -> Vec<u8> {
    broker::describe(&[(0, key, version, body.clone())])
}

/// For every API and version a body that is accepted: API and version as targets number them, and the body.
fn requests() -> Vec<(u8, u8, Vec<u8>)> {
    every_version(|key, version, body| Request::decode(key, version, body).err())
}

fn responses() -> Vec<Vec<u8>> {
    let bodies = every_version(|key, version, frame| decode_response(key, version, frame).err());
    bodies.iter().map(|(api, version, body)| [&[*api, *version][..], body].concat()).collect()
}

fn every_version(error: impl Fn(ApiKey, i16, Bytes) -> Option<DecodeError>) -> Vec<(u8, u8, Vec<u8>)> {
    let mut found = Vec::new();
    for (place, key) in ApiKey::ALL.iter().enumerate() {
        for version in key.versions().iter() {
            if let Some(body) = plain_body(|body| error(*key, version, body)) {
                found.push((place as u8, version as u8, body));
            }
        }
    }
    found
}

/// A message of zeros and ones that a decoder takes: zeros are lengths of nothing in the old form, ones in the compact form. Whatever is
/// not only too short is a dead end, so that hardly anything is tried in vain.
fn plain_body(error: impl Fn(Bytes) -> Option<DecodeError>) -> Option<Vec<u8>> {
    let mut body: Vec<u8> = Vec::new();
    for _ in 0..10_000 {
        match error(Bytes::from(body.clone())) {
            None => return Some(body),
            Some(DecodeError::Truncated { .. }) if body.len() < 300 => body.push(0),
            Some(_) => {
                // The next of the same length, or of a shorter one when all of these are tried.
                while body.pop()? == 1 {}
                body.push(1);
            }
        }
    }
    None
}

fn frame((api, version, body): &(u8, u8, Vec<u8>)) -> Vec<u8> {
    let key = ApiKey::ALL[usize::from(*api)];
    broker::request(key, i16::from(*version), body)
}

/// The golden messages: metadata records in the frame that the log has around them, anything else behind its version.
struct Golden {
    records: Vec<Vec<u8>>,
    others: Vec<Vec<u8>>,
}

/// Numbers of the metadata records, by their names in the golden file.
const RECORDS: &[(&str, u8)] = &[
    ("RegisterBroker", 0),
    ("UnregisterBroker", 1),
    ("Topic", 2),
    ("Partition", 3),
    ("Config", 4),
    ("PartitionChange", 5),
    ("FenceBroker", 7),
    ("UnfenceBroker", 8),
    ("RemoveTopic", 9),
    ("FeatureLevel", 12),
    ("ProducerIds", 15),
    ("BrokerRegistrationChange", 17),
    ("NoOp", 20),
];

fn golden() -> Golden {
    let text = |line: &str, name: &str| -> Option<String> {
        let rest = line.split_once(&format!("\"{name}\":\""))?.1;
        Some(rest[..rest.find('"')?].to_owned())
    };
    let mut golden = Golden { records: Vec::new(), others: Vec::new() };
    for line in KAFKA_MESSAGES.lines() {
        // The version is the last field: values may hold one too.
        let version =
            line.rsplit_once("\"version\":").and_then(|(_, rest)| rest.trim_end_matches('}').parse().ok());
        let version: u8 = version.unwrap_or(0);
        let bytes = text(line, "hex").map(|digits| unhex(&digits)).unwrap_or_default();
        let name = text(line, "name").unwrap_or_default();
        match RECORDS.iter().find(|(record, _)| *record == name) {
            Some((_, key)) => golden.records.push([&[1, *key, version][..], &bytes].concat()),
            None => golden.others.push([&[version][..], &bytes].concat()),
        }
    }
    golden
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Attributes, count and inside of a batch.
fn inside(batch: &[u8]) -> Vec<u8> {
    let count = batch.get(HEADER_BYTES - 1).copied().unwrap_or(0);
    [&[batch[22], count], &batch[HEADER_BYTES..]].concat()
}

/// The golden records, and those that a node wrote.
fn images() -> Vec<Vec<u8>> {
    let pieces = |records: &[Vec<u8>]| {
        let mut out = Vec::new();
        records.iter().for_each(|record| put_piece(&mut out, record));
        out
    };
    let mut own = Vec::new();
    for (name, content) in broker::stopped_node() {
        // A snapshot may have taken the place of the log.
        let is_one = name.ends_with(".log") || name.ends_with(".checkpoint");
        if name.starts_with("__cluster_metadata-0/") && is_one {
            for batch in batches(content) {
                let values =
                    batch.records(1 << 20).into_iter().flatten().filter_map(|record| record.ok()?.value);
                own.extend(values.map(|value| value.to_vec()));
            }
        }
    }
    vec![pieces(&golden().records), pieces(&own)]
}

/// The batches of a log file.
fn batches(mut log: Bytes) -> Vec<Batch> {
    let mut found = Vec::new();
    while let Ok(batch) = Batch::verify(&log) {
        log.advance(batch.bytes().len());
        found.push(batch);
    }
    found
}

fn group_records() -> Vec<(Bytes, Option<Bytes>)> {
    let lines = KAFKA_GROUPS.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    pairs.map(|(key, value)| (unhex(key).into(), (value != "-").then(|| unhex(value).into()))).collect()
}

/// The files of a stopped node, one input with those that are wanted; and Kafka's batches as a log.
fn directories(wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let mut files = broker::stopped_node();
    files.retain(|(name, _)| wanted(name));
    let log = ("orders-0/00000000000000000000.log".to_owned(), Bytes::from(renumbered()));
    let mut foreign = files.clone();
    foreign.retain(|(name, _)| !name.starts_with("orders-0"));
    foreign.push(log);
    vec![directory::describe(&files), directory::describe(&foreign)]
}

/// Kafka's batches one behind the other, with the offsets of a log.
fn renumbered() -> Vec<u8> {
    let (mut log, mut next) = (Vec::new(), 0i64);
    for batch in KAFKA_BATCHES {
        let mut batch = batch.to_vec();
        batch[..8].copy_from_slice(&next.to_be_bytes());
        next += batch
            .get(23..27)
            .map_or(0, |last| i64::from(i32::from_be_bytes([last[0], last[1], last[2], last[3]])))
            + 1;
        log.extend_from_slice(&batch);
    }
    log
}

/// The indexes that recovery makes for a log that has none.
fn indexes() -> Vec<Vec<u8>> {
    let disk = SimDisk::default();
    let path = |kind: &str| Path::new(DIR, format!("orders-0/00000000000000000000.{kind}"));
    disk.replace(&path("log"), &storage::whole_log()).expect("a disk in memory has room");
    let policy = RecoveryPolicy { index_interval_bytes: 300, ..RecoveryPolicy::default() };
    recover(&disk, DIR, &policy).expect("the disk works");
    let read = |kind: &str| disk.read(&path(kind), 0, 1 << 20).expect("it was made");
    (0..3)
        .map(|how| {
            let mut out = vec![how];
            put_piece(&mut out, &read("index"));
            out.extend_from_slice(&read("timeindex"));
            out
        })
        .collect()
}

fn small_files() -> Vec<Vec<u8>> {
    let entry = moldau_base::ProducerEntry {
        producer_id: 1,
        epoch: 2,
        last_sequence: Some(3),
        last_offset: Some(4),
        offset_delta: 5,
        timestamp: 6,
        coordinator_epoch: None,
        txn_first_offset: None,
    };
    let meta =
        b"#\ncluster.id=BwcHBwcHBwcHBwcHBwcHBw\ndirectory.id=3Nzz3vQ9TEyR9rI7pw0yyQ\nnode.id=1\nversion=1\n";
    let texts = [
        encode_offsets([("orders-0", 17), ("a-b-3", 5)]),
        encode_epochs(&[(0, 0), (3, 10), (4, 25)]),
        encode_metadata(moldau_base::Uuid([7; 16])),
        encode_snapshot(&[entry, entry]),
        meta.to_vec(),
    ];
    (0..).zip(texts).map(|(kind, text)| [&[kind][..], &text].concat()).collect()
}

/// Every key with its default, twenty to a file, and the forms that the format of Java's properties has.
fn config() -> Vec<Vec<u8>> {
    let lines: Vec<String> =
        broker_keys().map(|def| format!("{}={}\n", def.name, def.default.unwrap_or(""))).collect();
    let mut files: Vec<Vec<u8>> = lines.chunks(20).map(|part| part.concat().into_bytes()).collect();
    files.push(b"# comment\n! another\nnode.id : 1\nlog.dirs=/a,\\\n  /b\nbroker.rack = z\\u00e9\\t1\nlisteners=PLAINTEXT://:9092,C://h:1\nadvertised.listeners=PLAINTEXT://[::1]:9092\ncontroller.quorum.voters=1@h:9093\n".to_vec());
    files
}

/// A stranger for each API, and one that asks all of them.
fn conversations() -> Vec<Vec<u8>> {
    let asked: Vec<(u8, ApiKey, i16, Bytes)> = requests()
        .into_iter()
        .map(|(api, version, body)| {
            (api, ApiKey::ALL[usize::from(api)], i16::from(version), Bytes::from(body))
        })
        .collect();
    let mut inputs: Vec<Vec<u8>> = ApiKey::ALL
        .iter()
        .map(|key| {
            let of_key: Vec<_> = asked.iter().filter(|(_, asked, ..)| asked == key).cloned().collect();
            broker::describe(&of_key)
        })
        .collect();
    inputs.push(broker::describe(&asked));
    inputs
}

#[cfg(test)]
mod tests {
    use moldau_wire::metadata_frame;

    use super::*;

    #[test]
    fn every_version_of_every_request_is_reached() {
        let reached = requests();
        for (place, key) in ApiKey::ALL.iter().enumerate() {
            for version in key.versions().iter() {
                let is_it = |(api, at, _): &(u8, u8, Vec<u8>)| {
                    usize::from(*api) == place && i16::from(*at) == version
                };
                assert!(reached.iter().any(is_it), "no request of {key} version {version}");
            }
        }
    }

    #[test]
    fn golden_messages_are_found() {
        let found = golden();
        assert_eq!(found.records.len() + found.others.len(), KAFKA_MESSAGES.lines().count());
        assert!(found.records.iter().all(|record| metadata_frame::decode(record.clone().into()).is_ok()));
        assert!(found.others.iter().all(|other| other.len() > 1));
        assert!(!group_records().is_empty());
        assert!(images().iter().all(|image| image.len() > 100));
    }
}
