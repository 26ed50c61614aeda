//! Bytes that are no requests: each ends its own connection, with the reason in the log, and no other.

use bytes::{BufMut, Bytes, BytesMut};
use moldau_base::Rng;
use moldau_wire::{ApiKey, ErrorCode, api_versions, metadata};

use crate::client::{Client, Witness, frame};
use crate::process::{Folder, Node};

/// What is said to the node, and the parts of the log line that names what is wrong with it.
fn refused(bytes: &[u8], named: &[&str]) {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    let mut client = Client::to(&node);
    client.say(bytes);
    client.expect_closed();
    node.logs(&[&["connection closed", "127.0.0.1"], named].concat());
    witness.is_served();
    Witness::of(&node, "made-after");
    node.stop();
}

/// A request with its length, from the first bytes of its header on.
fn request(api: i16, version: i16, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(10 + body.len() as u32);
    bytes.put_i16(api);
    bytes.put_i16(version);
    bytes.put_i32(7);
    bytes.put_i16(-1);
    bytes.put(body);
    bytes.freeze()
}

#[test]
fn a_length_of_two_gigabytes_is_above_the_limit() {
    refused(
        &i32::MAX.to_be_bytes(),
        &["frame of 2147483647 bytes is longer than the limit of 104857600 bytes"],
    );
}

#[test]
fn a_negative_length_is_named() {
    refused(&(-2i32).to_be_bytes(), &["frame of negative length -2"]);
}

#[test]
fn an_api_that_nobody_knows_is_named() {
    refused(&request(9_999, 0, &[]), &["no request header", "9999"]);
}

#[test]
fn a_version_that_is_not_served_is_named() {
    refused(&request(ApiKey::Metadata as i16, 99, &[0; 8]), &["Metadata version 99 is not served"]);
}

#[test]
fn a_request_that_ends_too_early_is_named() {
    let whole =
        frame(1, 9, &metadata::Request { topics: Some(vec![Default::default()]), ..Default::default() });
    let mut cut = BytesMut::from(&whole[..whole.len() - 3]);
    let length = cut.len() as u32 - 4;
    cut[..4].copy_from_slice(&length.to_be_bytes());
    refused(&cut, &["malformed Metadata version 9"]);
}

#[test]
fn an_array_that_claims_more_than_there_is_costs_nothing() {
    refused(
        &request(ApiKey::Metadata as i16, 1, &i32::MAX.to_be_bytes()),
        &["malformed Metadata version 1", "2147483647"],
    );
}

#[test]
fn random_bytes_end_their_own_connections_only() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    let mut rng = Rng::seeded(0x6d6f_6c64_6175);
    for _ in 0..200 {
        let len = 1 + rng.below(4_096) as usize;
        let noise: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        let mut client = Client::to(&node);
        client.say(&noise);
        // The same noise as the body of a well-formed frame reaches the parsers behind the length.
        let mut client = Client::to(&node);
        let api = rng.below(80) as i16;
        client.say(&request(api, rng.below(14) as i16, &noise));
    }
    witness.is_served();
    witness.finds_everything();
    node.logs(&["connection closed"]);
    node.stop();
}

#[test]
fn a_newer_version_of_api_versions_is_answered_in_version_0() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut client = Client::to(&node);
    client.say(&request(ApiKey::ApiVersions as i16, 99, &[0, 1, 2, 3]));
    let answer = client.answer();
    assert_eq!(answer[..6], [0, 0, 0, 7, 0, 35]);
    let (_, answer) = moldau_wire::decode_response(ApiKey::ApiVersions, 0, answer).unwrap();
    let moldau_wire::Response::ApiVersions(answer) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let served = answer.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions as i16).unwrap();

    // The connection is as good as before.
    let asked =
        api_versions::Request { client_software_name: "hostile".into(), client_software_version: "1".into() };
    let answer = client.call(served.max_version.min(4), &asked);
    assert_eq!(answer.error_code, ErrorCode::NONE);
    node.stop();
}
