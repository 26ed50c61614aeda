//! The 61 bytes before the records of a batch.
//!
//! Parsing checks only what is needed to find the next batch (format, length); what a producer must get right is
//! checked by [`crate::split`], what a file must get right by [`Header::verify`].

use std::fmt;

use crate::error::BatchError;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length field: the bytes of a batch that its length does not count.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The producer id of a batch without one.
pub const NO_PRODUCER_ID: i64 = -1;
/// The timestamp of a record without one.
pub const NO_TIMESTAMP: i64 = -1;

pub(crate) const MAGIC_AT: usize = 16;
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;
pub(crate) const MAGIC: i8 = 2;

/// How the records section is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the frames of snappy-java.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

impl Codec {
    /// The codec of the low three bits of the attributes.
    pub fn from_id(id: u8) -> Option<Codec> {
        [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].get(usize::from(id)).copied()
    }

    /// Its number in the attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the timestamps of a batch mean (KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Each record's own, from its producer.
    CreateTime,
    /// That of the append, the same for every record: the batch's greatest timestamp.
    LogAppendTime,
}

/// The flags of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    pub(crate) const APPEND_TIME: i16 = 0x08;
    pub(crate) const TRANSACTIONAL: i16 = 0x10;
    pub(crate) const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec, or its unknown number.
    pub fn codec(self) -> Result<Codec, BatchError> {
        let id = (self.0 & Self::CODEC) as u8;
        Codec::from_id(id).ok_or(BatchError::UnknownCodec(id))
    }

    /// What the timestamps mean.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Holds markers for brokers and clients, not records for users.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp is the time when compaction may drop the batch's tombstones.
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// A batch's header, its numbers as they stand in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record (in a compacted log: of the place where it was).
    pub base_offset: i64,
    /// Bytes after this field.
    pub length: i32,
    /// Epoch of the leader that appended it; -1 before that.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Last offset minus base offset; survives compaction.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, in milliseconds; -1 if none.
    pub base_timestamp: i64,
    /// Greatest timestamp, or the append time.
    pub max_timestamp: i64,
    /// The idempotent producer's id, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records that are in the batch.
    pub count: i32,
}

impl Header {
    /// Reads the header of the batch that starts at `bytes`; the records need not be there. The length is at least that
    /// of a header and the format is v2.
    pub fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
        if let Some(&magic) = bytes.get(MAGIC_AT) {
            let magic = magic as i8;
            if magic != MAGIC {
                return Err(BatchError::UnsupportedMagic(magic));
            }
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { need: HEADER_BYTES, have: bytes.len() });
        };
        let header = Header::read(bytes);
        if header.length < (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32 {
            return Err(BatchError::BadLength(header.length));
        }
        Ok(header)
    }

    /// Reads the batch that starts at `bytes` and checks that all of it is there and undamaged.
    pub fn verify(bytes: &[u8]) -> Result<Header, BatchError> {
        let header = Header::parse(bytes)?;
        let need = header.size();
        let batch = bytes.get(..need).ok_or(BatchError::Truncated { need, have: bytes.len() })?;
        let computed = checksum(batch);
        if computed != header.crc {
            return Err(BatchError::BadChecksum { stored: header.crc, computed });
        }
        Ok(header)
    }

    fn read(bytes: &[u8; HEADER_BYTES]) -> Header {
        fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
            std::array::from_fn(|i| bytes[at + i])
        }
        Header {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            length: i32::from_be_bytes(field(bytes, 8)),
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            count: i32::from_be_bytes(field(bytes, 57)),
        }
    }

    /// The header as bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.base_offset.to_be_bytes());
        put(8, &self.length.to_be_bytes());
        put(12, &self.leader_epoch.to_be_bytes());
        put(MAGIC_AT, &MAGIC.to_be_bytes());
        put(CRC_AT, &self.crc.to_be_bytes());
        put(ATTRIBUTES_AT, &self.attributes.0.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.to_be_bytes());
        put(43, &self.producer_id.to_be_bytes());
        put(51, &self.producer_epoch.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header included.
    pub fn size(&self) -> usize {
        LENGTH_PREFIX_BYTES + usize::try_from(self.length).unwrap_or(0)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// True when an idempotent or transactional producer sent it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Sequence number of the last record; sequences wrap from `i32::MAX` to 0. -1 without a producer.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            -1
        } else {
            self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
        }
    }

    /// Refuses timestamps outside `before_max_ms` before and `after_max_ms` after `now_ms` (KIP-937). The header knows the first
    /// and the greatest timestamp; a batch without timestamps passes.
    pub fn check_timestamps(
        &self,
        now_ms: i64,
        before_max_ms: i64,
        after_max_ms: i64,
    ) -> Result<(), BatchError> {
        let earliest = now_ms.saturating_sub(before_max_ms);
        let latest = now_ms.saturating_add(after_max_ms);
        let (base, max) = (self.base_timestamp, self.max_timestamp);
        let within = |t: i64| t == NO_TIMESTAMP || (earliest <= t && t <= latest);
        if within(base) && within(max) {
            Ok(())
        } else {
            Err(BatchError::BadTimestamp { base, max, earliest, latest })
        }
    }
}

/// The CRC-32C that belongs into the header of this whole batch; 0 for bytes without a header.
pub fn checksum(batch: &[u8]) -> u32 {
    batch.get(ATTRIBUTES_AT..).map_or(0, crc_fast::crc32_iscsi)
}
