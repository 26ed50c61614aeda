//! Responses, as a client reads them: two bytes choose the API and the version, the rest is the frame.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moldau_wire::{ApiKey, decode_response, encode_response};

fuzz_target!(|data: &[u8]| {
    let [api, version, frame @ ..] = data else { return };
    let key = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let version = i16::from(*version % 20);
    let Ok(read) = decode_response(key, version, Bytes::copy_from_slice(frame)) else { return };
    let again = encode_response(read.0, version, &read.1).and_then(|frame| frame.into_bytes());
    let again = again.expect("what was read can be written");
    assert_eq!(decode_response(key, version, again.slice(4..)), Ok(read));
});
