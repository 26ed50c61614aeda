//! From the records bytes of a produce request to batches that may be appended. No decompression, no copy, no
//! allocation per record: a batch is a slice of the request's frame.

use bytes::Bytes;

use crate::error::BatchError;
use crate::header::{Header, TimestampType};

/// One complete batch whose header, length and checksum have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: Header,
    bytes: Bytes,
}

impl Batch {
    /// The batch at the start of `bytes`, checked as a file's content is: complete and undamaged. What follows it is left out.
    pub fn verify(bytes: &Bytes) -> Result<Batch, BatchError> {
        let header = Header::verify(bytes)?;
        Ok(Batch { header, bytes: bytes.slice(..header.size()) })
    }

    /// The batch at the start of `bytes`, checked as what a client sends must be ([`split`] explains).
    pub fn from_client(bytes: &Bytes) -> Result<Batch, BatchError> {
        let batch = Batch::verify(bytes)?;
        check_client(&batch.header)?;
        Ok(batch)
    }

    /// Its header, as in the bytes.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All its bytes, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its bytes, given away.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Takes apart the records of one partition of a produce request and checks each batch as Kafka's `LogValidator` does for
/// clients: format v2, whole, CRC-32C, a known codec, as many offsets as records, no control batch, an epoch and a
/// sequence with each producer id, no append time. The first bad batch refuses all of them, as does a torn end.
///
/// Differs from Kafka 4.3 on purpose. Taken here: several batches; a base offset other than 0, since it is overwritten. Refused here: a torn
/// batch behind a whole one, which Kafka drops in silence; an append time from a client and a producer id without epoch, which Kafka
/// stores; an unknown codec, by its name (Kafka: unknown server error).
pub fn split(records: &Bytes) -> Result<Vec<Batch>, BatchError> {
    if records.is_empty() {
        return Err(BatchError::Empty);
    }
    let mut batches = Vec::with_capacity(1);
    let mut at = 0;
    while at < records.len() {
        let batch = Batch::from_client(&records.slice(at..))?;
        at += batch.bytes.len();
        batches.push(batch);
    }
    Ok(batches)
}

fn check_client(header: &Header) -> Result<(), BatchError> {
    let attributes = header.attributes;
    attributes.codec()?;
    if header.count <= 0 || i64::from(header.count) != i64::from(header.last_offset_delta) + 1 {
        return Err(BatchError::BadCount {
            count: header.count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    if attributes.is_control() {
        return Err(BatchError::ControlFromClient);
    }
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(BatchError::BadSequence {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
        });
    }
    if attributes.is_transactional() && !header.has_producer_id() {
        return Err(BatchError::TransactionalWithoutProducer);
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::AppendTimeFromClient);
    }
    Ok(())
}
