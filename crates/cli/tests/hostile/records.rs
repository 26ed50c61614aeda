//! Records that are no record batches, and names that are no topics: refused by name, and nothing of them is stored.

use bytes::{BufMut, Bytes, BytesMut};
use moldau_wire::{ErrorCode, metadata};

use crate::client::{Client, Witness, batch};
use crate::process::{Folder, Node};

/// Produces these bytes to a topic that is in use: their error, what it says, and nobody else's harm.
fn refused(records: Bytes, code: ErrorCode, said: &str) {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    let mut client = Client::to(&node);
    let answer = client.produce("watched", records);
    assert_eq!((answer.error_code, answer.base_offset), (code, -1));
    let message = answer.error_message.unwrap_or_default();
    assert!(message.contains(said), "`{message}` does not say `{said}`");
    witness.is_served();
    witness.finds_everything();

    // The connection that was refused goes on, too.
    assert_eq!(client.produce("watched", batch(b"good")).error_code, ErrorCode::NONE);
    node.stop();
}

/// A batch with some of its bytes changed, and its checksum true again.
fn forged(change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = BytesMut::from(&batch(b"some value")[..]);
    change(&mut bytes);
    let checksum = moldau_batch::checksum(&bytes);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    bytes.freeze()
}

#[test]
fn a_wrong_checksum() {
    let mut bytes = BytesMut::from(&batch(b"some value")[..]);
    *bytes.last_mut().unwrap() ^= 1;
    refused(bytes.freeze(), ErrorCode::CORRUPT_MESSAGE, "the batch is corrupt: its checksum is 0x");
}

#[test]
fn an_unknown_codec() {
    let records = forged(|bytes| bytes[22] |= 7);
    refused(records, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "compression codec 7 is not known");
}

#[test]
fn a_forged_number_of_records() {
    let records = forged(|bytes| bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes()));
    refused(records, ErrorCode::INVALID_RECORD, "the batch has 2147483647 records");
}

#[test]
fn a_forged_batch_length() {
    let records = forged(|bytes| bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes()));
    refused(records, ErrorCode::INVALID_RECORD, "the batch needs 2147483659 bytes");
}

#[test]
fn a_torn_batch() {
    let whole = batch(b"some value");
    refused(whole.slice(..whole.len() - 1), ErrorCode::INVALID_RECORD, "the batch needs");
}

#[test]
fn a_control_batch_of_a_client() {
    refused(
        forged(|bytes| bytes[22] |= 0x20),
        ErrorCode::INVALID_RECORD,
        "clients may not write control batches",
    );
}

/// A record as it was written before Kafka 0.11. The checksum is not looked at: the format comes first.
fn old_format(magic: u8) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u32(0);
    message.put_u8(magic);
    message.put_u8(0);
    if magic == 1 {
        message.put_i64(1);
    }
    message.put_i32(-1);
    message.put_i32(64);
    message.put_bytes(b'x', 64);
    let mut set = BytesMut::new();
    set.put_i64(0);
    set.put_u32(message.len() as u32);
    set.put(message);
    set.freeze()
}

#[test]
fn the_record_formats_of_old_kafka() {
    refused(old_format(0), ErrorCode::INVALID_RECORD, "record format v0 is not supported, only v2 is");
    refused(old_format(1), ErrorCode::INVALID_RECORD, "record format v1 is not supported, only v2 is");
}

#[test]
fn a_topic_name_that_climbs_out_of_the_data_directory() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    let mut client = Client::to(&node);
    for name in ["../evil", "..", ".", "a/../../evil", "/evil", "evil\0", ""] {
        let answer = client.create(name);
        assert_eq!(answer.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
        assert!(answer.error_message.is_some_and(|message| !message.is_empty()), "{name:?}");

        let topic = metadata::request::Topic { name: Some(name.into()), ..Default::default() };
        let asked = metadata::Request {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let answer = client.call(9, &asked).topics.remove(0);
        assert_eq!(answer.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
        assert!(client.produce(name, batch(b"climbing")).error_code.is_err(), "{name:?}");
    }
    witness.is_served();
    node.stop();
    let mut found: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    found.retain(|name| name != "data");
    assert!(found.is_empty(), "{found:?}");
    let inside = std::fs::read_dir(folder.data()).unwrap().map(|e| e.unwrap().file_name());
    for name in inside {
        assert!(!name.to_string_lossy().contains("evil"), "{name:?}");
    }
}
