//! Producer snapshots: what a partition knows of its idempotent producers below an offset, in Kafka's `.snapshot` format
//! (version 1, with a CRC-32C), so that a restart does not read the whole log (KIP-98).

use bytes::{Buf, BufMut};
use moldau_base::ProducerEntry;

const VERSION: i16 = 1;
const HEADER_BYTES: usize = 6;
const COUNT_BYTES: usize = 4;
const ENTRY_BYTES: usize = 46;

/// A snapshot that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// Not the length that its count demands.
    #[error("{0} bytes do not hold the announced entries")]
    Length(usize),
    /// A version this program does not know.
    #[error("snapshot version {0} where 1 is needed")]
    Version(i16),
    /// Not the bytes that were written.
    #[error("the checksum does not match")]
    Checksum,
}

/// The bytes of a snapshot.
pub fn encode(entries: &[ProducerEntry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(COUNT_BYTES + entries.len() * ENTRY_BYTES);
    body.put_i32(i32::try_from(entries.len()).unwrap_or(i32::MAX));
    for entry in entries.iter().take(i32::MAX as usize) {
        body.put_i64(entry.producer_id);
        body.put_i16(entry.epoch);
        body.put_i32(entry.last_sequence.unwrap_or(-1));
        body.put_i64(entry.last_offset.unwrap_or(-1));
        body.put_i32(entry.offset_delta);
        body.put_i64(entry.timestamp);
        body.put_i32(entry.coordinator_epoch.unwrap_or(-1));
        body.put_i64(entry.txn_first_offset.unwrap_or(-1));
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.put_i16(VERSION);
    bytes.put_u32(crc_fast::crc32_iscsi(&body));
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads a snapshot.
pub fn parse(data: &[u8]) -> Result<Vec<ProducerEntry>, BadSnapshot> {
    let mut rest = data;
    let version = rest.try_get_i16().map_err(|_| BadSnapshot::Length(data.len()))?;
    if version != VERSION {
        return Err(BadSnapshot::Version(version));
    }
    let crc = rest.try_get_u32().map_err(|_| BadSnapshot::Length(data.len()))?;
    if crc_fast::crc32_iscsi(rest) != crc {
        return Err(BadSnapshot::Checksum);
    }
    let count = rest.try_get_i32().map_err(|_| BadSnapshot::Length(data.len()))?;
    let count = usize::try_from(count).map_err(|_| BadSnapshot::Length(data.len()))?;
    if count.checked_mul(ENTRY_BYTES) != Some(rest.len()) {
        return Err(BadSnapshot::Length(data.len()));
    }
    // The length was checked: no getter below can run out of bytes.
    Ok(rest.chunks_exact(ENTRY_BYTES).map(entry).collect())
}

fn entry(mut bytes: &[u8]) -> ProducerEntry {
    ProducerEntry {
        producer_id: bytes.get_i64(),
        epoch: bytes.get_i16(),
        last_sequence: Some(bytes.get_i32()).filter(|sequence| *sequence >= 0),
        last_offset: Some(bytes.get_i64()).filter(|offset| *offset >= 0),
        offset_delta: bytes.get_i32(),
        timestamp: bytes.get_i64(),
        coordinator_epoch: Some(bytes.get_i32()).filter(|epoch| *epoch >= 0),
        txn_first_offset: Some(bytes.get_i64()).filter(|offset| *offset >= 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_entry() -> impl Strategy<Value = ProducerEntry> {
        let at_least_0 = |known: Option<i64>| known.map(|number| number & i64::MAX);
        let numbers = (any::<(i64, i16, i32, i64)>(), any::<[Option<i64>; 4]>());
        numbers.prop_map(move |((producer_id, epoch, offset_delta, timestamp), known)| ProducerEntry {
            producer_id,
            epoch,
            last_sequence: at_least_0(known[0]).map(|number| (number & 0x7fff_ffff) as i32),
            last_offset: at_least_0(known[1]),
            offset_delta,
            timestamp,
            coordinator_epoch: at_least_0(known[2]).map(|number| (number & 0x7fff_ffff) as i32),
            txn_first_offset: at_least_0(known[3]),
        })
    }

    proptest! {
        #[test]
        fn entries_read_back(entries in prop::collection::vec(some_entry(), 0..8)) {
            prop_assert_eq!(parse(&encode(&entries)), Ok(entries));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_changed_byte_is_noticed(entry in some_entry(), at in 0usize..56, by in 1u8..) {
            let mut bytes = encode(&[entry]);
            bytes[at] ^= by;
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
