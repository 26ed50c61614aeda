//! Record batches: their outside as a broker checks it, their inside as a consumer or tool reads it, under every codec.

use bytes::Bytes;
use moldau_batch::{Attributes, Batch, HEADER_BYTES, Header, LENGTH_PREFIX_BYTES, Stamp, checksum, split};

use crate::{Memory, Target};

/// The records of a produce request.
pub const BATCH_SPLIT: Target = Target {
    name: "batch_split",
    proves: "the records of a produce request are refused, or cut into whole batches that stay undamaged under the leader's stamp",
    run: batch_split,
    memory: Memory { base: 16 << 10, per_byte: 64 },
    per_mille: 1000,
};

/// The inside of a batch.
pub const BATCH_RECORDS: Target = Target {
    name: "batch_records",
    proves: "any bytes as the inside of a batch under any codec: read or refused, within the caller's limit",
    run: batch_records,
    // What a codec holds for itself: an LZ4 frame with the largest blocks needs one of input and two of output. Beside it the output, which
    // grows by doubling and is held once more while it is copied.
    memory: Memory { base: (13 << 20) + 3 * LIMIT, per_byte: 64 },
    per_mille: 1000,
};

/// What the inside of a batch may come to.
const LIMIT: usize = 1 << 20;

/// Gives the first batch a checksum that holds, as a forger would.
fn forge(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    repair(&mut bytes);
    bytes
}

/// Gives the batch at the front a checksum that holds, if it is whole; its length.
pub(crate) fn repair(bytes: &mut [u8]) -> Option<usize> {
    let size = Header::parse(bytes).ok()?.size();
    let batch = bytes.get_mut(..size)?;
    let crc = checksum(batch);
    batch.get_mut(17..21)?.copy_from_slice(&crc.to_be_bytes());
    Some(size)
}

fn batch_split(input: &[u8]) {
    for records in [Bytes::copy_from_slice(input), Bytes::from(forge(input))] {
        let Ok(batches) = split(&records) else { continue };
        assert_eq!(batches.iter().map(|batch| batch.bytes().len()).sum::<usize>(), records.len());
        for batch in batches {
            let (header, bytes) = (batch.header(), batch.bytes());
            let stamps =
                [Stamp::new(header, 1 << 40, 3), Stamp::with_append_time(header, bytes, 1 << 40, 3, 7)];
            for stamp in stamps {
                let stored = Bytes::from(stamp.parts(bytes).concat());
                let read = Batch::verify(&stored).expect("a stamped batch is whole");
                assert_eq!(read.header(), stamp.header());
            }
        }
    }
}

/// The first byte is the batch's attributes, the codec among them, the second its count of records, the rest its inside.
fn batch_records(input: &[u8]) {
    let Some((&[attributes, count], records)) = input.split_first_chunk() else { return };
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
    let bytes = forge(&[&header.to_bytes(), records].concat());
    let batch = Batch::verify(&Bytes::from(bytes)).expect("the header is right");
    let _ = batch.marker();
    let Ok(read) = batch.records(LIMIT) else { return };
    let mut total = 0;
    for record in read.map_while(Result::ok) {
        assert_eq!(record.headers.clone().count(), record.headers.len());
        total += record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len());
    }
    assert!(total <= LIMIT.max(records.len()));
}
