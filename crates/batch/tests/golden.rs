//! Batches that Kafka's Java client wrote are read as it meant them, and ours has the same bytes where no codec is involved.

use std::path::Path;

use bytes::Bytes;
use moldau_batch::{
    Batch, BatchError, Builder, Codec, Marker, Outcome, Record, Stamp, TimestampType, checksum, split,
};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const LIMIT: usize = 1 << 20;

fn golden(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    Bytes::from(std::fs::read(path).unwrap())
}

fn long_value(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|i| format!("line {}\n", i % 97).into_bytes()).collect()
}

fn text(bytes: &Option<Bytes>) -> Option<&str> {
    bytes.as_ref().map(|bytes| std::str::from_utf8(bytes).unwrap())
}

#[test]
fn every_codec_is_read() {
    for codec in CODECS {
        let bytes = golden(&format!("{codec}.batch"));
        let batches = split(&bytes).unwrap();
        assert_eq!(batches.len(), 1);
        let header = batches[0].header();
        assert_eq!(header.attributes.codec(), Ok(codec));
        assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence()),
            (4711, 3, 17, 21)
        );
        assert_eq!(
            (header.count, header.base_timestamp, header.max_timestamp),
            (5, 1_700_000_000_000, 1_700_000_000_005)
        );
        let records: Vec<Record> = batches[0].records(LIMIT).unwrap().collect::<Result<_, _>>().unwrap();
        let rows: Vec<_> = records
            .iter()
            .map(|r| {
                (r.offset, r.timestamp - header.base_timestamp, text(&r.key), text(&r.value).map(str::len))
            })
            .collect();
        let lines = if codec == Codec::None { 20 } else { 5000 };
        let long = long_value(lines);
        assert_eq!(
            rows,
            [
                (0, 0, Some("key"), Some(5)),
                (1, 5, None, Some(6)),
                (2, -10, Some("tombstone"), None),
                (3, 1, Some(""), Some(0)),
                (4, 2, Some("long"), Some(long.len())),
            ]
        );
        assert_eq!(records[4].value.as_deref(), Some(&long[..]));
        let headers: Vec<_> = records[0].headers.clone().collect();
        let bytes = |s: &'static str| Bytes::from_static(s.as_bytes());
        assert_eq!(
            headers,
            [
                (bytes("trace"), Some(bytes("abc"))),
                (bytes("empty"), Some(Bytes::new())),
                (bytes("none"), None)
            ]
        );
        assert!(records[1].headers.is_empty());
    }
}

#[test]
fn the_builder_writes_what_kafka_writes() {
    let mut builder = Builder::new(Codec::None).producer(4711, 3, 17);
    let base = 1_700_000_000_000;
    builder.push(
        base,
        Some(b"key"),
        Some(b"value"),
        &[(b"trace", Some(b"abc")), (b"empty", Some(b"")), (b"none", None)],
    );
    builder.push(base + 5, None, Some(b"no key"), &[]);
    builder.push(base - 10, Some(b"tombstone"), None, &[]);
    builder.push(base + 1, Some(b""), Some(b""), &[]);
    builder.push(base + 2, Some(b"long"), Some(&long_value(20)), &[]);
    assert_eq!(builder.build().unwrap(), golden("none.batch"));
}

#[test]
fn a_commit_marker() {
    let bytes = golden("commit.batch");
    assert_eq!(split(&bytes), Err(BatchError::ControlFromClient));
    let batch = Batch::verify(&bytes).unwrap();
    assert!(batch.header().attributes.is_control() && batch.header().attributes.is_transactional());
    let record = batch.records(LIMIT).unwrap().next().unwrap().unwrap();
    let marker = Marker { outcome: Outcome::Commit, coordinator_epoch: 9 };
    assert_eq!(Marker::read(record.key.unwrap(), record.value.unwrap()), Some(marker));
    let ours =
        Builder::marker(4711, 3, marker, 1_700_000_000_000).base_offset(42).leader_epoch(5).build().unwrap();
    assert_eq!(ours, bytes);
}

#[test]
fn append_time_counts_for_every_record() {
    let bytes = golden("append-time.batch");
    assert_eq!(split(&bytes), Err(BatchError::AppendTimeFromClient));
    let batch = Batch::verify(&bytes).unwrap();
    assert_eq!(batch.header().attributes.timestamp_type(), TimestampType::LogAppendTime);
    let stamps: Vec<_> =
        batch.records(LIMIT).unwrap().map(|r| r.map(|r| (r.offset, r.timestamp)).unwrap()).collect();
    assert_eq!(stamps, [(100, 1_700_000_001_234), (101, 1_700_000_001_234)]);
}

#[test]
fn old_formats_are_refused_by_name() {
    assert_eq!(split(&golden("magic0.batch")), Err(BatchError::UnsupportedMagic(0)));
    assert_eq!(split(&golden("magic1.batch")), Err(BatchError::UnsupportedMagic(1)));
}

#[test]
fn a_stamped_batch_is_whole() {
    for codec in CODECS {
        let bytes = golden(&format!("{codec}.batch"));
        let batch = Batch::verify(&bytes).unwrap();
        for append_ms in [None, Some(1_800_000_000_000)] {
            let stamp = match append_ms {
                None => Stamp::new(batch.header(), 1000, 7),
                Some(ms) => Stamp::with_append_time(batch.header(), batch.bytes(), 1000, 7, ms),
            };
            let stored = Bytes::from(stamp.parts(batch.bytes()).concat());
            let read = Batch::verify(&stored).unwrap();
            assert_eq!(read.header(), stamp.header());
            assert_eq!(
                (read.header().base_offset, read.header().last_offset(), read.header().leader_epoch),
                (1000, 1004, 7)
            );
            let last = read.records(LIMIT).unwrap().last().unwrap().unwrap();
            assert_eq!((last.offset, last.timestamp), (1004, append_ms.unwrap_or(1_700_000_000_002)));
        }
    }
}

/// The codes are those that a real Kafka 4.3.1 answered to the same bytes, but for the unknown codec and the append time.
#[test]
fn each_fault_has_its_name_and_code() {
    // Changes a field of a good batch, and the checksum unless `at` is outside of what it covers.
    let with = |at: usize, field: &[u8]| {
        let mut bytes = golden("none.batch").to_vec();
        bytes[at..at + field.len()].copy_from_slice(field);
        let crc = checksum(&bytes);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        split(&Bytes::from(bytes)).map_err(|e| (e.code(), e)).unwrap_err()
    };
    assert_eq!(split(&Bytes::new()).unwrap_err().code(), 87);
    assert_eq!(with(8, &48i32.to_be_bytes()), (2, BatchError::BadLength(48)));
    assert_eq!(with(8, &(-1i32).to_be_bytes()), (2, BatchError::BadLength(-1)));
    assert!(matches!(with(8, &i32::MAX.to_be_bytes()), (87, BatchError::Truncated { .. })));
    assert_eq!(with(16, &[3]), (2, BatchError::UnsupportedMagic(3)));
    assert_eq!(with(21, &[0, 5]), (76, BatchError::UnknownCodec(5)));
    assert_eq!(with(21, &[0, 0x20]), (87, BatchError::ControlFromClient));
    assert_eq!(with(21, &[0, 0x08]), (32, BatchError::AppendTimeFromClient));
    assert_eq!(with(23, &5i32.to_be_bytes()), (87, BatchError::BadCount { count: 5, last_offset_delta: 5 }));
    assert_eq!(with(57, &0i32.to_be_bytes()), (87, BatchError::BadCount { count: 0, last_offset_delta: 4 }));
    assert_eq!(
        with(53, &(-1i32).to_be_bytes()),
        (87, BatchError::BadSequence { producer_id: 4711, epoch: 3, sequence: -1 })
    );
    let mut bytes = golden("none.batch").to_vec();
    bytes[100] ^= 1;
    assert!(matches!(split(&Bytes::from(bytes)), Err(e @ BatchError::BadChecksum { .. }) if e.code() == 2));
    let mut two = golden("none.batch").to_vec();
    two.extend_from_slice(&golden("zstd.batch"));
    assert_eq!(split(&Bytes::from(two.clone())).unwrap().len(), 2);
    two.pop();
    assert!(matches!(split(&Bytes::from(two)), Err(BatchError::Truncated { .. })));
}

#[test]
fn timestamps_outside_the_topics_bounds_are_refused() {
    let batch = Batch::verify(&golden("none.batch")).unwrap();
    let now = 1_700_000_001_000;
    assert!(batch.header().check_timestamps(now, i64::MAX, 3_600_000).is_ok());
    assert_eq!(batch.header().check_timestamps(now, 999, 3_600_000).unwrap_err().code(), 32);
    assert_eq!(batch.header().check_timestamps(now - 3_600_000, i64::MAX, 1000).unwrap_err().code(), 32);
}
