//! Requests: two bytes choose the API and the version, the rest is the body. What is accepted can be written and reads
//! back equal.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moldau_wire::{ApiKey, Request, Writer, decode_request};

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else { return };
    let _ = decode_request(Bytes::copy_from_slice(data));
    let key = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let version = i16::from(*version % 20);
    let Ok(request) = Request::decode(key, version, Bytes::copy_from_slice(body)) else { return };
    let mut writer = Writer::bare();
    request.encode(&mut writer, version);
    let again = writer.into_bytes().expect("what was read can be written");
    assert_eq!(Request::decode(key, version, again), Ok(request));
});
