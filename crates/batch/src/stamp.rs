//! What the leader writes over the front of a batch when it appends it. The payload stays where it is: the log writes
//! the stamp and then the rest of the batch, two parts of one write.

use bytes::Bytes;

use crate::header::{ATTRIBUTES_AT, Attributes, CRC_AT, HEADER_BYTES, Header, MAX_TIMESTAMP_AT};

/// Bytes of a stamp without append time: base offset, length and leader epoch, which the checksum does not cover.
pub const STAMP_BYTES: usize = 16;

/// The front of a batch as the log keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    header: Header,
    bytes: [u8; HEADER_BYTES],
    len: usize,
}

impl Stamp {
    /// Base offset and leader epoch for `batch`.
    pub fn new(header: &Header, base_offset: i64, leader_epoch: i32) -> Stamp {
        let header = Header { base_offset, leader_epoch, ..*header };
        Stamp { header, bytes: header.to_bytes(), len: STAMP_BYTES }
    }

    /// As [`Stamp::new`], and every record gets the timestamp `append_ms` (`message.timestamp.type=LogAppendTime`). `batch` is the whole
    /// batch: its checksum is computed again, without a copy.
    pub fn with_append_time(
        header: &Header,
        batch: &[u8],
        base_offset: i64,
        leader_epoch: i32,
        append_ms: i64,
    ) -> Stamp {
        let attributes = Attributes(header.attributes.0 | Attributes::APPEND_TIME);
        let mut header =
            Header { base_offset, leader_epoch, attributes, max_timestamp: append_ms, ..*header };
        let mut bytes = header.to_bytes();
        // Attributes to the end of the header come from the stamp, the records from the batch. The unchanged fields between
        // them are the same in both.
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&bytes[ATTRIBUTES_AT..]);
        digest.update(batch.get(HEADER_BYTES..).unwrap_or_default());
        header.crc = digest.finalize() as u32;
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&header.crc.to_be_bytes());
        debug_assert_eq!(bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8], append_ms.to_be_bytes());
        Stamp { header, bytes, len: HEADER_BYTES }
    }

    /// The header of the batch in the log.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes that take the place of the first `as_bytes().len()` bytes of the batch.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The two parts to write: the stamp and what `batch` has after it.
    pub fn parts(&self, batch: &Bytes) -> [Bytes; 2] {
        [Bytes::copy_from_slice(self.as_bytes()), batch.slice(self.len.min(batch.len())..)]
    }
}
