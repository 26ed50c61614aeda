//! The inside of a batch, with a header that is right: any bytes as records, under every codec.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moldau_batch::{Attributes, Batch, HEADER_BYTES, Header, LENGTH_PREFIX_BYTES, checksum};

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&[attributes, count], records)) = data.split_first_chunk() else { return };
    let header = Header {
        base_offset: 5,
        length: (HEADER_BYTES - LENGTH_PREFIX_BYTES + records.len()) as i32,
        leader_epoch: 0,
        crc: 0,
        attributes: Attributes(i16::from(attributes)),
        last_offset_delta: i32::from(count) - 1,
        base_timestamp: i64::MAX,
        max_timestamp: 0,
        producer_id: 1,
        producer_epoch: 0,
        base_sequence: 0,
        count: i32::from(count),
    };
    let mut bytes = [&header.to_bytes(), records].concat();
    let crc = checksum(&bytes);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let batch = Batch::verify(&Bytes::from(bytes)).expect("the header is right");
    let _ = batch.marker();
    let Ok(read) = batch.records(LIMIT) else { return };
    let mut total = 0;
    for record in read.map_while(Result::ok) {
        assert_eq!(record.headers.clone().count(), record.headers.len());
        total += record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len());
    }
    assert!(total <= LIMIT.max(records.len()));
});
