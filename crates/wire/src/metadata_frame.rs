//! The frame of a record in the cluster metadata log (KIP-631): frame version, record key and record version as
//! unsigned varints, then the record.
//!
//! The frame is the same as Kafka's, so that its tools can read the log.

use bytes::Bytes;

use crate::metadata_records::Record;
use crate::{DecodeError, EncodeError, Reader, Writer};

/// The only version of the frame.
const FRAME_VERSION: u32 = 1;

/// Reads the value of a record of the metadata log: the record and the version it was written in.
pub fn decode(value: Bytes) -> Result<(Record, i16), DecodeError> {
    let mut reader = Reader::new(value);
    let frame = reader.uvarint()?;
    let key = reader.uvarint()?;
    let version = reader.uvarint()?;
    let unknown = DecodeError::UnknownRecord { frame, key };
    if frame != FRAME_VERSION {
        return Err(unknown);
    }
    let key = i16::try_from(key).map_err(|_| unknown)?;
    let version = i16::try_from(version).unwrap_or(i16::MAX);
    let record = Record::decode(key, version, &mut reader)?.ok_or(unknown)?;
    reader.finish()?;
    Ok((record, version))
}

/// Writes a record as the value of a record of the metadata log, in this version of it.
pub fn encode(record: &Record, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::bare();
    writer.uvarint(FRAME_VERSION);
    writer.uvarint(record.key() as u32);
    writer.uvarint(version as u32);
    record.encode(&mut writer, version);
    writer.into_bytes()
}
