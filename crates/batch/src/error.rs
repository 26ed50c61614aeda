//! Why bytes are not a batch this broker keeps, each reason with the error code that Kafka gives a client for it.

use crate::header::{Codec, HEADER_BYTES};

/// Why a batch was refused. Nothing was done with its bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no batch where one is needed.
    #[error("no record batch")]
    Empty,
    /// The bytes end before the batch does: a torn tail in a file, a bad length in a request.
    #[error("the batch needs {need} bytes, {have} are there")]
    Truncated {
        /// Bytes the batch claims, or that a header has at least.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// The length field is negative or smaller than a header.
    #[error("batch length {0} is not possible: a batch header alone has {min} bytes after it", min = HEADER_BYTES - 12)]
    BadLength(i32),
    /// Message formats v0 and v1, and what is newer than v2.
    #[error("record format v{0} is not supported, only v2 is")]
    UnsupportedMagic(i8),
    /// The bytes are not those that the producer sent.
    #[error("the batch is corrupt: its checksum is {stored:#010x} and should be {computed:#010x}")]
    BadChecksum {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// The attributes name a codec that does not exist.
    #[error("compression codec {0} is not known")]
    UnknownCodec(u8),
    /// The record count is not positive, or is not that of the offsets.
    #[error("the batch has {count} records and last offset delta {last_offset_delta}")]
    BadCount {
        /// Records by the header.
        count: i32,
        /// Last offset minus base offset by the header.
        last_offset_delta: i32,
    },
    /// Only brokers write control batches.
    #[error("clients may not write control batches")]
    ControlFromClient,
    /// A producer id comes with an epoch and a sequence.
    #[error("producer id {producer_id} with epoch {epoch} and sequence {sequence}")]
    BadSequence {
        /// The producer's id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
        /// Sequence of the first record.
        sequence: i32,
    },
    /// A transactional batch without a producer id.
    #[error("a transactional batch without a producer id")]
    TransactionalWithoutProducer,
    /// Only brokers set the append time.
    #[error("clients may not set the append time")]
    AppendTimeFromClient,
    /// The header's timestamps contradict each other or the topic's bounds.
    #[error("timestamps {base} to {max} ms are not between {earliest} and {latest} ms")]
    BadTimestamp {
        /// Timestamp of the first record.
        base: i64,
        /// Greatest timestamp.
        max: i64,
        /// Earliest that is allowed.
        earliest: i64,
        /// Latest that is allowed.
        latest: i64,
    },
    /// Something inside the records section contradicts the format.
    #[error("record {index}: {what}")]
    BadRecord {
        /// Place of the record in its batch.
        index: i32,
        /// What is wrong.
        what: &'static str,
    },
    /// The compressed bytes are not what the codec writes.
    #[error("the {codec} data is corrupt")]
    BadCompression {
        /// By the attributes.
        codec: Codec,
    },
    /// Decompressed, the batch is larger than the reader allowed.
    #[error("the batch is larger than {limit} bytes when decompressed")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
}

impl BatchError {
    /// The number of Kafka's error that a producer gets for this.
    pub fn code(&self) -> i16 {
        const CORRUPT_MESSAGE: i16 = 2;
        const INVALID_TIMESTAMP: i16 = 32;
        const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
        const INVALID_RECORD: i16 = 87;
        const MESSAGE_TOO_LARGE: i16 = 10;
        match self {
            BatchError::UnsupportedMagic(magic) if !(0..=1).contains(magic) => CORRUPT_MESSAGE,
            BatchError::BadLength(_) | BatchError::BadChecksum { .. } | BatchError::BadCompression { .. } => {
                CORRUPT_MESSAGE
            }
            BatchError::UnknownCodec(_) => UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::AppendTimeFromClient | BatchError::BadTimestamp { .. } => INVALID_TIMESTAMP,
            BatchError::TooLarge { .. } => MESSAGE_TOO_LARGE,
            // Clients repeat what was corrupt; what is torn here was sent torn, as Kafka sees it too.
            BatchError::Truncated { .. }
            | BatchError::Empty
            | BatchError::UnsupportedMagic(_)
            | BatchError::BadCount { .. }
            | BatchError::ControlFromClient
            | BatchError::BadSequence { .. }
            | BatchError::TransactionalWithoutProducer
            | BatchError::BadRecord { .. } => INVALID_RECORD,
        }
    }
}
