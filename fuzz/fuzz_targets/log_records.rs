//! What lies in logs and blobs: metadata records, keys and values of `__consumer_offsets`, the consumers' own protocol.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moldau_wire::{Message, consumer_protocol, group_records, metadata_frame};

fn read_and_write<M: Message>(bytes: &Bytes, version: i16) {
    if let Ok(message) = M::from_bytes(bytes.clone(), version) {
        let again = message.to_bytes(version).expect("what was read can be written");
        assert_eq!(M::from_bytes(again, version), Ok(message));
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok((record, version)) = metadata_frame::decode(bytes.clone()) {
        let again = metadata_frame::encode(&record, version).expect("what was read can be written");
        assert_eq!(metadata_frame::decode(again), Ok((record, version)));
    }
    let Some(version) = data.first().map(|byte| i16::from(byte % 6)) else { return };
    let rest = bytes.slice(1..);
    read_and_write::<group_records::OffsetCommitKey>(&rest, version);
    read_and_write::<group_records::OffsetCommitValue>(&rest, version);
    read_and_write::<group_records::GroupMetadataKey>(&rest, version);
    read_and_write::<group_records::GroupMetadataValue>(&rest, version);
    read_and_write::<consumer_protocol::Subscription>(&rest, version);
    read_and_write::<consumer_protocol::Assignment>(&rest, version);
});
