//! The rules of the protocol that no schema says: headers, versions, what is refused, and some frames byte by byte.

use bytes::Bytes;
use bytestring::ByteString;
use moldau_wire::header::RequestHeader;
use moldau_wire::{
    ApiKey, DecodeError, EncodeError, FileRange, Message, Records, Request, Response, VersionRange,
    api_versions, decode_header, decode_request, decode_response, encode_request, encode_response, fetch,
    group_records, metadata, metadata_frame, metadata_records, produce,
};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect::<Vec<u8>>().into()
}

#[test]
fn headers_follow_the_flexible_versions() {
    for key in ApiKey::ALL {
        for version in key.versions().iter() {
            let flexible = key.flexible_since().is_some_and(|first| version >= first);
            assert_eq!(key.request_header_version(version), 1 + i16::from(flexible), "{key} {version}");
            let response = i16::from(flexible && key != ApiKey::ApiVersions);
            assert_eq!(key.response_header_version(version), response, "{key} {version}");
        }
        assert_eq!(ApiKey::from_code(key as i16), Some(key));
    }
    assert_eq!(ApiKey::from_code(-1), None);
    assert_eq!(ApiKey::from_code(4), None);
}

#[test]
fn produce_is_advertised_from_0_and_read_from_3() {
    assert_eq!(ApiKey::Produce.advertised(), VersionRange { min: 0, max: 13 });
    assert_eq!(ApiKey::Produce.versions(), VersionRange { min: 3, max: 13 });
    for version in 0..3 {
        let refused = Request::decode(ApiKey::Produce, version, Bytes::from_static(&[0; 20]));
        assert_eq!(refused, Err(DecodeError::UnsupportedVersion { api: ApiKey::Produce, version }));
    }
    for key in ApiKey::ALL.into_iter().filter(|key| *key != ApiKey::Produce) {
        assert_eq!(key.advertised(), key.versions());
    }
}

#[test]
fn an_api_versions_request_of_the_future_still_has_a_header() {
    // ApiVersions version 99, correlation id 5, client id "x", no tags, and a body that means nothing here.
    let frame = hex("0012 0063 00000005 0001 78 00 deadbeef");
    let (key, header, body) = decode_header(frame.clone()).unwrap();
    assert_eq!((key, header.correlation_id, body.len()), (ApiKey::ApiVersions, 5, 4));
    let refused = decode_request(frame);
    assert_eq!(refused, Err(DecodeError::UnsupportedVersion { api: ApiKey::ApiVersions, version: 99 }));
}

#[test]
fn an_api_versions_response_has_the_old_header_always() {
    let response: Response = api_versions::Response::default().into();
    let frame = encode_response(9, 4, &response).unwrap().into_bytes().unwrap();
    // length, correlation id, then at once: error code, an empty compact array, throttle time, no tags.
    assert_eq!(frame, hex("0000000c 00000009 0000 01 00000000 00"));
    assert_eq!(decode_response(ApiKey::ApiVersions, 4, frame.slice(4..)), Ok((9, response)));
}

#[test]
fn a_metadata_request_byte_by_byte() {
    let topic = metadata::request::Topic { name: Some("t".into()), ..Default::default() };
    let request = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
    let frame =
        encode_request(1, Some("c".into()), 4, &request.clone().into()).unwrap().into_bytes().unwrap();
    assert_eq!(frame, hex("00000013 0003 0004 00000001 0001 63 00000001 0001 74 01"));
    let (header, read) = decode_request(frame.slice(4..)).unwrap();
    assert_eq!(read, Request::Metadata(request));
    let expected = RequestHeader {
        request_api_key: 3,
        request_api_version: 4,
        correlation_id: 1,
        client_id: Some(ByteString::from_static("c")),
    };
    assert_eq!(header, expected);
}

#[test]
fn what_a_version_cannot_say_is_refused_or_dropped() {
    let all = metadata::Request { topics: None, ..Default::default() };
    let null = EncodeError::Null { message: "MetadataRequest", field: "topics", version: 0 };
    assert_eq!(all.to_bytes(0), Err(null));
    let quiet = metadata::Request { allow_auto_topic_creation: false, ..Default::default() };
    let field = "allow_auto_topic_creation";
    assert_eq!(
        quiet.to_bytes(3),
        Err(EncodeError::Unrepresentable { message: "MetadataRequest", field, version: 3 })
    );
    let throttled = produce::Response { throttle_time_ms: 5, ..Default::default() };
    assert!(throttled.to_bytes(3).is_ok());
    let hinted = produce::Response {
        node_endpoints: vec![produce::response::NodeEndpoint::default()],
        ..Default::default()
    };
    assert_eq!(
        hinted.to_bytes(9),
        Err(EncodeError::Unrepresentable { message: "ProduceResponse", field: "node_endpoints", version: 9 })
    );
}

#[test]
fn an_unknown_leader_is_minus_one_by_default() {
    let leader = fetch::response::Partition::default().current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (-1, -1));
    let leader = produce::response::Partition::default().current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (-1, -1));
}

#[test]
fn tagged_fields_that_nobody_knows_are_passed_over() {
    // ApiVersions v3: header with tag 5 of two bytes; software name "a", version "b"; tag 7 of one byte.
    let frame = hex("0012 0003 00000001 ffff 01 05 02 aabb  02 61 02 62 01 07 01 cc");
    let (header, request) = decode_request(frame).unwrap();
    assert_eq!(header.client_id, None);
    let Request::ApiVersions(request) = request else { panic!("{request:?}") };
    assert_eq!((&*request.client_software_name, &*request.client_software_version), ("a", "b"));
}

#[test]
fn a_tagged_field_fills_its_size() {
    // Fetch v12 up to the tags: replica -1, four numbers, session, no topics, nothing forgotten, no rack.
    let start = "ffffffff 00000000 00000000 00000000 00 00000000 00000000 01 01 01";
    let cluster = |tag: &str| Request::decode(ApiKey::Fetch, 12, hex(&format!("{start} {tag}")));
    assert!(cluster("01 00 02 02 61").is_ok());
    let longer = cluster("01 00 03 02 61 61");
    assert!(matches!(longer, Err(DecodeError::TaggedSize { size: 3, .. })), "{longer:?}");
    let shorter = cluster("01 00 01 02 61");
    assert!(matches!(shorter, Err(DecodeError::Truncated { .. })), "{shorter:?}");
}

#[test]
fn a_fetch_response_refers_to_files() {
    let range = FileRange { file: 3, position: 1 << 40, len: 5000 };
    let partition = fetch::response::Partition { records: range.into(), ..Default::default() };
    let topic = fetch::response::Topic { partitions: vec![partition], ..Default::default() };
    let response = fetch::Response { responses: vec![topic], ..Default::default() };
    for version in ApiKey::Fetch.versions().iter() {
        let frame = encode_response(1, version, &response.clone().into()).unwrap();
        let before: usize = frame.segments.iter().map(|segment| segment.len()).sum();
        assert_eq!(frame.len, before);
        assert!(frame.segments.iter().any(|s| *s == moldau_wire::Segment::File(range)));
    }
    assert_eq!(Records::from(range).len(), 5000);
}

#[test]
fn metadata_records_have_kafkas_frame() {
    let record = metadata_records::Topic { name: "foo".into(), ..Default::default() };
    let bytes = metadata_frame::encode(&record.into(), 0).unwrap();
    assert_eq!(bytes, hex("01 02 00 04 666f6f 00000000000000000000000000000000 00"));
    let (read, version) = metadata_frame::decode(bytes).unwrap();
    assert_eq!((read.key(), read.name(), version), (2, "Topic", 0));
    for bad in ["00 02 00", "02 02 00", "01 7f 00", "01 ffffffff0f 00", "01 02 01", "01 02 00 04 66"] {
        assert!(metadata_frame::decode(hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn an_offset_commit_value_byte_by_byte() {
    let value = group_records::OffsetCommitValue {
        offset: 5,
        leader_epoch: 2,
        metadata: "m".into(),
        commit_timestamp: 1,
        ..Default::default()
    };
    assert_eq!(value.to_bytes(3).unwrap(), hex("0000000000000005 00000002 0001 6d 0000000000000001"));
}
