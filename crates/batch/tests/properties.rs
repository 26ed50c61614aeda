//! What is built is read back with every codec; what is damaged never panics and never grows past the limit.

use bytes::Bytes;
use moldau_batch::{Batch, BatchError, Builder, Codec, HEADER_BYTES, Header, checksum, split};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

type Field = Option<Vec<u8>>;
type Row = (i64, Field, Field, Vec<(Vec<u8>, Field)>);

fn codec() -> impl Strategy<Value = Codec> {
    (0u8..5).prop_map(|id| Codec::from_id(id).unwrap())
}

fn field() -> impl Strategy<Value = Field> {
    option::of(prop_oneof![
        vec(any::<u8>(), 0..60),
        (any::<u8>(), 0usize..70_000).prop_map(|(byte, len)| vec![byte; len])
    ])
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let headers = vec((vec(any::<u8>(), 0..9), option::of(vec(any::<u8>(), 0..9))), 0..4);
    vec((-1i64..i64::MAX / 2, field(), field(), headers), 1..8)
}

fn build(codec: Codec, rows: &[Row]) -> Bytes {
    let mut builder = Builder::new(codec).producer(7, 0, 0);
    for (timestamp, key, value, headers) in rows {
        let headers: Vec<_> = headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    let size = builder.size();
    let bytes = builder.build().unwrap();
    assert!(codec != Codec::None || bytes.len() == size);
    bytes
}

fn read(batch: &Batch, limit: usize) -> Result<Vec<Row>, BatchError> {
    let own = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.to_vec());
    let row = |record: moldau_batch::Record| {
        let headers = record.headers.map(|(key, value)| (key.to_vec(), own(value))).collect();
        (record.timestamp, own(record.key), own(record.value), headers)
    };
    batch.records(limit)?.map(|record| record.map(row)).collect()
}

fn repair(bytes: &mut [u8]) {
    let crc = checksum(bytes);
    if let Some(field) = bytes.get_mut(17..21) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn built_is_read(codec in codec(), rows in rows()) {
        let bytes = build(codec, &rows);
        let batches = split(&bytes).unwrap();
        prop_assert_eq!(batches.len(), 1);
        prop_assert_eq!(Header::parse(&batches[0].header().to_bytes()).unwrap(), *batches[0].header());
        prop_assert_eq!(read(&batches[0], 1 << 20).unwrap(), rows);
    }

    #[test]
    fn limits_hold(codec in codec(), rows in rows()) {
        let batch = Batch::verify(&build(codec, &rows)).unwrap();
        let inside = build(Codec::None, &rows).len() - HEADER_BYTES;
        prop_assert!(read(&batch, inside).is_ok());
        if codec != Codec::None {
            prop_assert_eq!(read(&batch, inside - 1), Err(BatchError::TooLarge { limit: inside - 1 }));
        }
    }

    #[test]
    fn damage_is_an_error_or_other_records(codec in codec(), rows in rows(), hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in option::of(any::<prop::sample::Index>())) {
        let mut bytes = build(codec, &rows).to_vec();
        for (at, value) in hits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = split(&Bytes::copy_from_slice(&bytes));
        // A forger computes the checksum and the length as well.
        if bytes.len() >= HEADER_BYTES {
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
        }
        repair(&mut bytes);
        if let Ok(batch) = Batch::verify(&Bytes::from(bytes)) {
            let limit = 100_000;
            if let Ok(records) = batch.records(limit) {
                let total: usize = records.filter_map(Result::ok).map(|r| r.key.map_or(0, |k| k.len()) + r.value.map_or(0, |v| v.len())).sum();
                prop_assert!(total <= limit.max(batch.bytes().len()));
            }
        }
    }

    #[test]
    fn noise_is_refused(noise in vec(any::<u8>(), 0..200)) {
        prop_assert!(split(&Bytes::from(noise)).is_err());
    }
}

#[test]
fn a_bomb_is_refused() {
    let zeros = vec![0u8; 64 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = Builder::new(codec);
        builder.push(0, None, Some(&zeros), &[]);
        let bytes = builder.build().unwrap();
        let batch = Batch::verify(&bytes).unwrap();
        assert_eq!(batch.records(1 << 20).unwrap_err(), BatchError::TooLarge { limit: 1 << 20 });
    }
}

#[test]
fn raw_snappy_is_read() {
    // What librdkafka and Go clients may send: a plain snappy block without frames.
    let mut builder = Builder::new(Codec::None);
    builder.push(5, Some(b"k"), Some(b"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"), &[]);
    let plain = builder.build().unwrap();
    let block = snap::raw::Encoder::new().compress_vec(&plain[HEADER_BYTES..]).unwrap();
    let mut header = Header::parse(&plain).unwrap();
    header.attributes.0 |= i16::from(Codec::Snappy.id());
    header.length = (HEADER_BYTES + block.len() - 12) as i32;
    let mut bytes = [&header.to_bytes()[..], &block].concat();
    repair(&mut bytes);
    let batch = Batch::from_client(&Bytes::from(bytes)).unwrap();
    assert_eq!(read(&batch, 1000).unwrap(), read(&Batch::verify(&plain).unwrap(), 1000).unwrap());
}
