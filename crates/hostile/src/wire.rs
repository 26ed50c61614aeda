//! Frames, requests, responses, and the messages that lie in logs and blobs.

use bytes::{Bytes, BytesMut};
use moldau_wire::{
    ApiKey, Message, Request, Writer, consumer_protocol, decode_request, decode_response, encode_response,
    frame, group_records, metadata_frame,
};

use crate::{Memory, Target};

/// A byte stream that comes in pieces.
pub const FRAMES: Target = Target {
    name: "frames",
    proves: "frames are cut from a stream the same way however it comes in pieces, and each is read as a request or refused",
    run: frames,
    memory: Memory { base: 16 << 10, per_byte: 160 },
    per_mille: 1000,
};

/// Requests of every API and version.
pub const REQUESTS: Target = Target {
    name: "requests",
    proves: "a request body of any API and version is refused, or can be written and reads back equal",
    run: requests,
    memory: Memory { base: 16 << 10, per_byte: 160 },
    per_mille: 1000,
};

/// Responses of every API and version, as our client reads them.
pub const RESPONSES: Target = Target {
    name: "responses",
    proves: "a response of any API and version is refused, or can be written and reads back equal",
    run: responses,
    memory: Memory { base: 16 << 10, per_byte: 160 },
    per_mille: 1000,
};

/// Messages in logs and blobs.
pub const LOG_RECORDS: Target = Target {
    name: "log_records",
    proves: "metadata records, keys and values of __consumer_offsets and the consumers' own protocol: refused, or read back equal",
    run: log_records,
    memory: Memory { base: 16 << 10, per_byte: 320 },
    per_mille: 1000,
};

/// Longest frame.
const LIMIT: u32 = 1 << 16;

/// The frames of `stream`, given in pieces of this size, and whether it ended in an error.
fn cut(stream: &[u8], piece: usize) -> (Vec<Bytes>, bool) {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for bytes in stream.chunks(piece.max(1)) {
        buffer.extend_from_slice(bytes);
        loop {
            match frame::split(&mut buffer, LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// The first byte is the size of the pieces, the rest is the stream.
fn frames(input: &[u8]) {
    let Some((piece, stream)) = input.split_first() else { return };
    let whole = cut(stream, stream.len());
    assert_eq!(whole, cut(stream, usize::from(*piece)));
    for frame in whole.0 {
        let _ = decode_request(frame);
    }
}

/// The API and version that two bytes choose; every one is reached.
fn chosen(api: u8, version: u8) -> (ApiKey, i16) {
    (ApiKey::ALL[usize::from(api) % ApiKey::ALL.len()], i16::from(version % 20))
}

/// Two bytes choose the API and the version, the rest is the body.
fn requests(input: &[u8]) {
    let [api, version, body @ ..] = input else { return };
    let _ = decode_request(Bytes::copy_from_slice(input));
    let (key, version) = chosen(*api, *version);
    let Ok(request) = Request::decode(key, version, Bytes::copy_from_slice(body)) else { return };
    let mut writer = Writer::bare();
    request.encode(&mut writer, version);
    let again = writer.into_bytes().expect("what was read can be written");
    assert_eq!(Request::decode(key, version, again), Ok(request));
}

/// Two bytes choose the API and the version, the rest is the frame.
fn responses(input: &[u8]) {
    let [api, version, frame @ ..] = input else { return };
    let (key, version) = chosen(*api, *version);
    let Ok(read) = decode_response(key, version, Bytes::copy_from_slice(frame)) else { return };
    let again = encode_response(read.0, version, &read.1).and_then(|frame| frame.into_bytes());
    let again = again.expect("what was read can be written");
    assert_eq!(decode_response(key, version, again.slice(4..)), Ok(read));
}

fn read_and_write<M: Message>(bytes: &Bytes, version: i16) {
    if let Ok(message) = M::from_bytes(bytes.clone(), version) {
        let again = message.to_bytes(version).expect("what was read can be written");
        assert_eq!(M::from_bytes(again, version), Ok(message));
    }
}

/// The input is read as a metadata record; without its first byte, which chooses a version, as everything else.
fn log_records(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok((record, version)) = metadata_frame::decode(bytes.clone()) {
        let again = metadata_frame::encode(&record, version).expect("what was read can be written");
        assert_eq!(metadata_frame::decode(again), Ok((record, version)));
    }
    let Some(version) = input.first().map(|byte| i16::from(byte % 6)) else { return };
    let rest = bytes.slice(1..);
    read_and_write::<group_records::OffsetCommitKey>(&rest, version);
    read_and_write::<group_records::OffsetCommitValue>(&rest, version);
    read_and_write::<group_records::GroupMetadataKey>(&rest, version);
    read_and_write::<group_records::GroupMetadataValue>(&rest, version);
    read_and_write::<consumer_protocol::Subscription>(&rest, version);
    read_and_write::<consumer_protocol::Assignment>(&rest, version);
}
