//! Makes batches: for internal topics, markers, the client, tests. Never used on the data path.

use bytes::Bytes;

use crate::codec::compress;
use crate::control::Marker;
use crate::error::BatchError;
use crate::header::{
    Attributes, CRC_AT, Codec, HEADER_BYTES, Header, LENGTH_PREFIX_BYTES, NO_PRODUCER_ID, NO_TIMESTAMP,
    checksum,
};
use crate::varint;

/// Collects records and turns them into one batch.
#[derive(Clone, Debug)]
pub struct Builder {
    codec: Codec,
    header: Header,
    records: Vec<u8>,
}

impl Builder {
    /// An empty batch at base offset 0, without a producer.
    pub fn new(codec: Codec) -> Builder {
        let header = Header {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes(i16::from(codec.id())),
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        };
        Builder { codec, header, records: Vec::new() }
    }

    /// The control batch that ends a transaction.
    pub fn marker(producer_id: i64, producer_epoch: i16, marker: Marker, timestamp: i64) -> Builder {
        let mut builder = Builder::new(Codec::None).producer(producer_id, producer_epoch, -1);
        builder.header.attributes.0 |= Attributes::TRANSACTIONAL | Attributes::CONTROL;
        builder.push(timestamp, Some(&marker.key()), Some(&marker.value()), &[]);
        builder
    }

    /// Offset of the first record.
    pub fn base_offset(mut self, base_offset: i64) -> Builder {
        self.header.base_offset = base_offset;
        self
    }

    /// Epoch of the leader that appends it.
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Builder {
        self.header.leader_epoch = leader_epoch;
        self
    }

    /// From this idempotent producer, starting with this sequence number.
    pub fn producer(mut self, producer_id: i64, epoch: i16, base_sequence: i32) -> Builder {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Part of a transaction.
    pub fn transactional(mut self) -> Builder {
        self.header.attributes.0 |= Attributes::TRANSACTIONAL;
        self
    }

    /// A control batch; its records are the caller's.
    pub fn control(mut self) -> Builder {
        self.header.attributes.0 |= Attributes::CONTROL;
        self
    }

    /// Appends a record with `timestamp` in milliseconds (-1: none).
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        let header = &mut self.header;
        if header.count == 0 {
            header.base_timestamp = timestamp;
        }
        header.max_timestamp = header.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(header.base_timestamp);
        let offset_delta = i64::from(header.count);
        header.count += 1;
        header.last_offset_delta += 1;

        let size = 1
            + varint::size(timestamp_delta)
            + varint::size(offset_delta)
            + field_size(key)
            + field_size(value)
            + varint::size(headers.len() as i64)
            + headers.iter().map(|(key, value)| field_size(Some(key)) + field_size(*value)).sum::<usize>();
        let out = &mut self.records;
        varint::put(out, size as i64);
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, offset_delta);
        put_field(out, key);
        put_field(out, value);
        varint::put(out, headers.len() as i64);
        for (key, value) in headers {
            put_field(out, Some(key));
            put_field(out, *value);
        }
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.header.count
    }

    /// Bytes so far, header included, before compression.
    pub fn size(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch. Fails when it is empty, or larger than the format can say.
    pub fn build(mut self) -> Result<Bytes, BatchError> {
        const LIMIT: usize = i32::MAX as usize;
        if self.header.count == 0 {
            return Err(BatchError::Empty);
        }
        if self.size() > LIMIT {
            return Err(BatchError::TooLarge { limit: LIMIT });
        }
        let records = match self.codec {
            Codec::None => self.records,
            codec => compress(codec, &self.records).map_err(|_| BatchError::BadCompression { codec })?,
        };
        let size = HEADER_BYTES + records.len();
        self.header.length =
            i32::try_from(size - LENGTH_PREFIX_BYTES).map_err(|_| BatchError::TooLarge { limit: LIMIT })?;
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&self.header.to_bytes());
        bytes.extend_from_slice(&records);
        let crc = checksum(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        Ok(Bytes::from(bytes))
    }
}

fn field_size(field: Option<&[u8]>) -> usize {
    field.map_or(varint::size(-1), |field| varint::size(field.len() as i64) + field.len())
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::put(out, -1),
        Some(field) => {
            varint::put(out, field.len() as i64);
            out.extend_from_slice(field);
        }
    }
}
