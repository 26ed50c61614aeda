//! The records inside a batch, for those that must look: internal topics, tools, the client. Keys, values and headers are
//! slices of the batch's bytes, or of its one decompressed buffer.

use bytes::{Buf, Bytes};

use crate::codec::decompress;
use crate::error::BatchError;
use crate::header::{Codec, HEADER_BYTES, Header, TimestampType};
use crate::split::Batch;
use crate::varint::{take_i32, take_i64};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset, if the batch is as the log keeps it.
    pub offset: i64,
    /// Milliseconds since the epoch; -1 if none. The append time where the batch has one.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null, a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Headers,
}

/// The headers of a record, parsed as they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    count: i32,
    bytes: Bytes,
}

impl Headers {
    /// How many.
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Iterator for Headers {
    type Item = (Bytes, Option<Bytes>);

    fn next(&mut self) -> Option<(Bytes, Option<Bytes>)> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        // Checked when the record was read: both are there.
        Some((take_bytes(&mut self.bytes).ok()??, take_bytes(&mut self.bytes).ok()?))
    }
}

/// Iterates over the records of a batch; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: Header,
    bytes: Bytes,
    next: i32,
    failed: bool,
}

impl Batch {
    /// Its records. A compressed batch is decompressed first, to at most `limit` bytes.
    pub fn records(&self, limit: usize) -> Result<Records, BatchError> {
        let header = *self.header();
        let section = self.bytes().slice(HEADER_BYTES..);
        let bytes = match header.attributes.codec()? {
            Codec::None => section,
            codec => Bytes::from(decompress(codec, &section, limit)?),
        };
        Ok(Records { header, bytes, next: 0, failed: false })
    }
}

impl Records {
    fn read(&mut self) -> Result<Record, &'static str> {
        let len = take_i32(&mut self.bytes).ok_or("no length")?;
        let len = usize::try_from(len).map_err(|_| "negative length")?;
        if len > self.bytes.len() {
            return Err("longer than the batch");
        }
        let mut body = self.bytes.split_to(len);
        if body.is_empty() {
            return Err("empty");
        }
        body.advance(1); // Attributes of a record: none are defined.
        let timestamp_delta = take_i64(&mut body).ok_or("bad timestamp")?;
        let offset_delta = take_i32(&mut body).ok_or("bad offset")?;
        let key = take_bytes(&mut body)?;
        let value = take_bytes(&mut body)?;
        let headers = take_headers(&mut body)?;
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        let offset = self.header.base_offset.wrapping_add(i64::from(offset_delta));
        Ok(Record { offset, timestamp, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || (self.next >= self.header.count && self.bytes.is_empty()) {
            return None;
        }
        let index = self.next;
        let result = if index >= self.header.count { Err("more bytes than records") } else { self.read() };
        self.next += 1;
        self.failed = result.is_err();
        Some(result.map_err(|what| BatchError::BadRecord { index, what }))
    }
}

fn take_bytes(from: &mut Bytes) -> Result<Option<Bytes>, &'static str> {
    let len = take_i32(from).ok_or("bad length of a field")?;
    if len == -1 {
        return Ok(None);
    }
    let len = usize::try_from(len).map_err(|_| "negative length of a field")?;
    if len > from.len() {
        return Err("a field is longer than the record");
    }
    Ok(Some(from.split_to(len)))
}

fn take_headers(body: &mut Bytes) -> Result<Headers, &'static str> {
    let count = take_i32(body).ok_or("bad number of headers")?;
    if count < 0 {
        return Err("negative number of headers");
    }
    let bytes = body.clone();
    for _ in 0..count {
        // Each takes a byte at least or fails, so the count cannot make this long.
        take_bytes(body)?.ok_or("a header without a key")?;
        take_bytes(body)?;
    }
    if !body.is_empty() {
        return Err("bytes after the headers");
    }
    Ok(Headers { count, bytes })
}
