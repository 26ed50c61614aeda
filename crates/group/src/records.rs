//! The records of `__consumer_offsets`, in the versions that Kafka 4.3 writes: keys 1 (offset) and 2 (group), offset
//! values version 4 (1 if the offset has an expiry of its own), group values version 3. Every version that Kafka has ever
//! written is read.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_wire::group_records::{self as schema, MemberMetadata};
use moldau_wire::{DecodeError, EncodeError, Message};

const LEGACY_OFFSET_KEY: i16 = 0;
const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const KEY_LAYOUT: i16 = 0;
const OFFSET_VALUE: i16 = 4;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;

/// A record for the log of the coordinator. A value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the record is about.
    pub key: Bytes,
    /// What it says.
    pub value: Option<Bytes>,
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The bytes do not follow the schema.
    #[error("malformed record of a group: {0}")]
    Malformed(#[from] DecodeError),
    /// A group of another kind (KIP-848, share, streams), or a later invention.
    #[error("records with key version {0} are not known here")]
    UnknownKey(i16),
}

/// Names what a record is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Offset { group: ByteString, topic: ByteString, partition: i32 },
    Group(ByteString),
}

/// A record as the coordinator means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Offset { group: ByteString, topic: ByteString, partition: i32, value: Option<OffsetValue> },
    Group { group: ByteString, value: Option<GroupValue> },
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetValue {
    pub(crate) offset: i64,
    /// -1 for none.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: ByteString,
    pub(crate) commit_ms: i64,
    /// Only from clients that ask for a retention of their own.
    pub(crate) expire_ms: Option<i64>,
    /// Zero if it was not known.
    pub(crate) topic_id: Uuid,
}

/// A group as it survives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupValue {
    pub(crate) protocol_type: ByteString,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<ByteString>,
    pub(crate) leader: Option<ByteString>,
    /// -1 in records of old brokers.
    pub(crate) since_ms: i64,
    pub(crate) members: Vec<MemberValue>,
}

/// A member as it survives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberValue {
    pub(crate) id: ByteString,
    pub(crate) instance: Option<ByteString>,
    pub(crate) client_id: ByteString,
    pub(crate) client_host: ByteString,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

impl Entry {
    /// Writes the record.
    pub(crate) fn encode(&self) -> Result<Record, EncodeError> {
        match self {
            Entry::Offset { group, topic, partition, value } => {
                let key = schema::OffsetCommitKey {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                };
                let value = value.as_ref().map(encode_offset).transpose()?;
                Ok(Record { key: prefixed(OFFSET_KEY, KEY_LAYOUT, &key)?, value })
            }
            Entry::Group { group, value } => {
                let key = schema::GroupMetadataKey { group: group.clone() };
                let value = value.as_ref().map(encode_group).transpose()?;
                Ok(Record { key: prefixed(GROUP_KEY, KEY_LAYOUT, &key)?, value })
            }
        }
    }

    /// Reads the record.
    pub(crate) fn decode(key: Bytes, value: Option<Bytes>) -> Result<Entry, BadRecord> {
        match decode_key(key)? {
            Key::Offset { group, topic, partition } => {
                let value = value.map(decode_offset).transpose()?;
                Ok(Entry::Offset { group, topic, partition, value })
            }
            Key::Group(group) => {
                let value = value.map(decode_group).transpose()?;
                Ok(Entry::Group { group, value })
            }
        }
    }
}

/// A copy that does not keep the frame alive that it came in.
pub(crate) fn own(text: &ByteString) -> ByteString {
    ByteString::from(String::from(&**text))
}

/// A copy that does not keep the frame alive that it came in.
pub(crate) fn own_bytes(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn prefixed<M: Message>(prefix: i16, version: i16, message: &M) -> Result<Bytes, EncodeError> {
    let body = message.to_bytes(version)?;
    let mut bytes = BytesMut::with_capacity(2 + body.len());
    bytes.put_i16(prefix);
    bytes.put_slice(&body);
    Ok(bytes.freeze())
}

fn prefix(mut bytes: Bytes) -> Result<(i16, Bytes), DecodeError> {
    let mut reader = moldau_wire::Reader::new(bytes.clone());
    let prefix = reader.i16()?;
    Ok((prefix, bytes.split_off(2)))
}

fn decode_key(key: Bytes) -> Result<Key, BadRecord> {
    let (kind, body) = prefix(key)?;
    match kind {
        LEGACY_OFFSET_KEY | OFFSET_KEY => {
            let key = schema::OffsetCommitKey::from_bytes(body, KEY_LAYOUT)?;
            Ok(Key::Offset { group: own(&key.group), topic: own(&key.topic), partition: key.partition })
        }
        GROUP_KEY => Ok(Key::Group(own(&schema::GroupMetadataKey::from_bytes(body, KEY_LAYOUT)?.group))),
        other => Err(BadRecord::UnknownKey(other)),
    }
}

fn encode_offset(value: &OffsetValue) -> Result<Bytes, EncodeError> {
    let version = if value.expire_ms.is_some() { OFFSET_VALUE_WITH_EXPIRY } else { OFFSET_VALUE };
    let message = schema::OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.clone(),
        commit_timestamp: value.commit_ms,
        expire_timestamp: value.expire_ms.unwrap_or(-1),
        topic_id: value.topic_id,
    };
    prefixed(version, version, &message)
}

fn decode_offset(value: Bytes) -> Result<OffsetValue, BadRecord> {
    let (version, body) = prefix(value)?;
    let message = schema::OffsetCommitValue::from_bytes(body, version)?;
    Ok(OffsetValue {
        offset: message.offset,
        leader_epoch: message.leader_epoch,
        metadata: own(&message.metadata),
        commit_ms: message.commit_timestamp,
        expire_ms: (message.expire_timestamp != -1).then_some(message.expire_timestamp),
        topic_id: message.topic_id,
    })
}

fn encode_group(value: &GroupValue) -> Result<Bytes, EncodeError> {
    let members = value.members.iter().map(|member| MemberMetadata {
        member_id: member.id.clone(),
        group_instance_id: member.instance.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    });
    let message = schema::GroupMetadataValue {
        protocol_type: value.protocol_type.clone(),
        generation: value.generation,
        protocol: value.protocol.clone(),
        leader: value.leader.clone(),
        current_state_timestamp: value.since_ms,
        members: members.collect(),
    };
    prefixed(GROUP_VALUE, GROUP_VALUE, &message)
}

fn decode_group(value: Bytes) -> Result<GroupValue, BadRecord> {
    let (version, body) = prefix(value)?;
    let message = schema::GroupMetadataValue::from_bytes(body, version)?;
    let members = message.members.iter().map(|member| MemberValue {
        id: own(&member.member_id),
        instance: member.group_instance_id.as_ref().map(own),
        client_id: own(&member.client_id),
        client_host: own(&member.client_host),
        rebalance_timeout_ms: match member.rebalance_timeout {
            -1 => member.session_timeout,
            timeout => timeout,
        },
        session_timeout_ms: member.session_timeout,
        subscription: own_bytes(&member.subscription),
        assignment: own_bytes(&member.assignment),
    });
    Ok(GroupValue {
        protocol_type: own(&message.protocol_type),
        generation: message.generation,
        protocol: message.protocol.as_ref().map(own),
        leader: message.leader.as_ref().map(own),
        since_ms: message.current_state_timestamp,
        members: members.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Bytes {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn records_of_kafka_are_read_and_written_alike() {
        let text = include_str!("../tests/fixtures/kafka-4.3.1-records.txt");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut kinds = std::collections::BTreeSet::new();
        for line in lines {
            let (key, value) = line.split_once(' ').expect("two words");
            let record = Record { key: unhex(key), value: (value != "-").then(|| unhex(value)) };
            let entry = Entry::decode(record.key.clone(), record.value.clone()).expect(line);
            assert_eq!(entry.encode().expect("writable"), record, "{entry:?}");
            kinds.insert((record.key[1], record.value.map(|value| value[1])));
        }
        let all = [(1, None), (1, Some(1)), (1, Some(4)), (2, None), (2, Some(3))];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn old_and_damaged_records() {
        // An offset as brokers before 0.9 wrote it: key version 0, value version 0.
        let key = unhex("000000016700017400000005");
        let value = unhex("0000000000000000002a0000000000000000002a");
        let entry = Entry::decode(key.clone(), Some(value.clone())).expect("readable");
        let Entry::Offset { partition: 5, value: Some(offset), .. } = entry else { panic!("{entry:?}") };
        assert_eq!((offset.offset, offset.commit_ms, offset.leader_epoch), (42, 42, -1));

        for cut in 0..key.len() {
            assert!(Entry::decode(key.slice(..cut), None).is_err());
        }
        for cut in 0..value.len() {
            assert!(Entry::decode(key.clone(), Some(value.slice(..cut))).is_err());
        }
        assert_eq!(Entry::decode(unhex("0003000167"), None), Err(BadRecord::UnknownKey(3)));
    }
}
