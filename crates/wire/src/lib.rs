//! The Kafka protocol: messages generated from the schemas in `schema/`, framing, error codes, versions.
//!
//! The functions that most callers need are here, two for each side:
//!
//! | | reads | writes |
//! |---|---|---|
//! | a broker | [`decode_request`] | [`encode_response`] |
//! | a client | [`decode_response`] | [`encode_request`] |
//!
//! Around them: [`frame`] cuts a byte stream into frames and says what a finished frame looks like, [`ApiKey`] knows
//! names and versions, [`Request`] and [`Response`] hold any message, and one module per API (`fetch::Request`,
//! `fetch::response::Partition`) holds the types. `group_records`, `consumer_protocol` and [`metadata_frame`] are for
//! bytes that lie in logs and blobs.
//!
//! What this crate must never do: decide which versions are served, look into records, allocate what a peer's length
//! claims before comparing it with the bytes that came, or panic on them.

mod api;
mod error;
mod error_code;
pub mod frame;
mod generated;
pub mod metadata_frame;
mod reader;
mod writer;

pub use api::{Call, Message, VersionRange};
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use frame::{FileRange, Frame, FrameError, Records, Segment};
pub use generated::*;
pub use reader::{Form, MAX_REQUEST_ARRAY_BYTES, Reader};
pub use writer::Writer;

use bytes::Bytes;
use bytestring::ByteString;
use header::{RequestHeader, ResponseHeader};

/// Reads the header of a request frame (without its length) and returns what follows it.
///
/// A version that is not served still has a header; what to answer is the caller's affair. An API key that no schema
/// describes is refused, because the shape of its header is unknown.
pub fn decode_header(frame: Bytes) -> Result<(ApiKey, RequestHeader, Bytes), DecodeError> {
    let mut peek = Reader::new(frame.clone());
    let key = peek.i16()?;
    let version = peek.i16()?;
    let key = ApiKey::from_code(key).ok_or(DecodeError::UnknownApi { key })?;
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, key.request_header_version(version))?;
    Ok((key, header, reader.rest()))
}

/// Reads a whole request frame (without its length). Bytes after the end of the request are left out, as in Kafka.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), DecodeError> {
    let (key, header, body) = decode_header(frame)?;
    let request = Request::decode(key, header.request_api_version, body)?;
    Ok((header, request))
}

/// Writes the response to a request of this correlation id and version as a frame. Large records are not copied.
pub fn encode_response(correlation_id: i32, version: i16, response: &Response) -> Result<Frame, EncodeError> {
    let mut writer = Writer::frame();
    let header_version = response.api_key().response_header_version(version);
    ResponseHeader { correlation_id }.encode(&mut writer, header_version);
    response.encode(&mut writer, version);
    writer.finish()
}

/// Writes a request as a frame.
pub fn encode_request(
    correlation_id: i32,
    client_id: Option<ByteString>,
    version: i16,
    request: &Request,
) -> Result<Frame, EncodeError> {
    let key = request.api_key();
    let mut writer = Writer::frame();
    let header = RequestHeader {
        request_api_key: key as i16,
        request_api_version: version,
        correlation_id,
        client_id,
    };
    header.encode(&mut writer, key.request_header_version(version));
    request.encode(&mut writer, version);
    writer.finish()
}

/// Reads a response frame (without its length) of the API and version that the request had; its first four bytes are
/// the correlation id by which a client finds that out.
pub fn decode_response(key: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Response), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, key.response_header_version(version))?;
    let response = Response::decode(key, version, reader.rest())?;
    Ok((header.correlation_id, response))
}
