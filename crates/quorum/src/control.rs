//! The control records of the metadata log and its snapshots, in Kafka's bytes (KIP-595, KIP-630, KIP-853):
//! who leads, who votes, where a snapshot begins and ends.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use moldau_base::{NodeId, Uuid};
use moldau_wire::{DecodeError, EncodeError, Form, Reader, Writer};

use crate::types::{Membership, Voter};

/// The kinds that this quorum writes, by their number in the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LeaderChange = 2,
    SnapshotHeader = 3,
    SnapshotFooter = 4,
    KRaftVersion = 5,
    Voters = 6,
}

impl Kind {
    /// The key of a record of this kind: version 0 and the number.
    pub(crate) fn key(self) -> [u8; 4] {
        [0, 0, 0, self as u8]
    }

    /// The kind that a key names.
    pub(crate) fn of(key: &[u8]) -> Option<Kind> {
        let [_, _, high, low] = *key.first_chunk::<4>()?;
        match i16::from_be_bytes([high, low]) {
            2 => Some(Kind::LeaderChange),
            3 => Some(Kind::SnapshotHeader),
            4 => Some(Kind::SnapshotFooter),
            5 => Some(Kind::KRaftVersion),
            6 => Some(Kind::Voters),
            _ => None,
        }
    }
}

const FORM: Form = Form::Compact;
const NO_TAGS: u32 = 0;

/// A new leader; the voters are told so by the first record of its epoch.
pub(crate) fn leader_change(leader: NodeId, voters: &[NodeId]) -> Result<Bytes, EncodeError> {
    let mut w = Writer::bare();
    w.i16(0);
    w.i32(leader.0);
    // The voters, then those among them that are known to have granted; the log does not tell more.
    for list in [voters, &[leader]] {
        w.length(FORM, list.len());
        for voter in list {
            w.i32(voter.0);
            w.uvarint(NO_TAGS);
        }
    }
    w.uvarint(NO_TAGS);
    w.into_bytes()
}

/// Begins a snapshot; `timestamp` is that of the last record it contains.
pub(crate) fn snapshot_header(timestamp: i64) -> Result<Bytes, EncodeError> {
    let mut w = Writer::bare();
    w.i16(0);
    w.i64(timestamp);
    w.uvarint(NO_TAGS);
    w.into_bytes()
}

/// The timestamp in a snapshot's first record.
pub(crate) fn read_snapshot_header(value: Bytes) -> Result<i64, DecodeError> {
    let mut r = Reader::new(value);
    let _version = r.i16()?;
    r.i64()
}

/// Ends a snapshot.
pub(crate) fn snapshot_footer() -> Result<Bytes, EncodeError> {
    let mut w = Writer::bare();
    w.i16(0);
    w.uvarint(NO_TAGS);
    w.into_bytes()
}

/// Says that voters have directory ids.
pub(crate) fn kraft_version() -> Result<Bytes, EncodeError> {
    let mut w = Writer::bare();
    w.i16(0);
    w.i16(1);
    w.uvarint(NO_TAGS);
    w.into_bytes()
}

/// The voters, one record per configuration: two while they change from one to another.
pub(crate) fn voters(membership: &Membership) -> Result<Vec<Bytes>, EncodeError> {
    let nodes: BTreeMap<NodeId, &Voter> = membership.nodes().map(|(id, node)| (*id, node)).collect();
    membership
        .get_joint_config()
        .iter()
        .map(|config| {
            let mut w = Writer::bare();
            w.i16(0);
            w.length(FORM, config.len());
            for id in config {
                w.i32(id.0);
                w.uuid(nodes.get(id).map_or(Uuid::ZERO, |voter| voter.directory));
                w.length(FORM, 0);
                // KRaftVersionFeature: versions 0 to 1, and its tags.
                w.i16(0);
                w.i16(1);
                w.uvarint(NO_TAGS);
                w.uvarint(NO_TAGS);
            }
            w.uvarint(NO_TAGS);
            w.into_bytes()
        })
        .collect()
}

/// The voters that these records name, or why they name none.
pub(crate) fn read_voters(values: &[Bytes]) -> Result<Membership, String> {
    let mut configs = Vec::new();
    let mut nodes = BTreeMap::new();
    for value in values {
        let voters = read_config(value.clone()).map_err(|error| error.to_string())?;
        configs.push(voters.keys().copied().collect::<BTreeSet<_>>());
        nodes.extend(voters);
    }
    Membership::new(configs, nodes).map_err(|error| error.to_string())
}

fn read_config(value: Bytes) -> Result<BTreeMap<NodeId, Voter>, DecodeError> {
    let mut r = Reader::new(value);
    let _version = r.i16()?;
    // id, directory, no endpoints, the versions, two sets of tags.
    let smallest = 4 + 16 + 1 + 4 + 1 + 1;
    let voters = r.array(FORM, smallest, |r| {
        let id = NodeId(r.i32()?);
        let directory = r.uuid()?;
        // Name, host, port, tags.
        r.array(FORM, 1 + 1 + 2 + 1, |r| {
            r.string(FORM)?;
            r.string(FORM)?;
            r.i16()?;
            r.skip_tags()
        })?;
        r.i16()?;
        r.i16()?;
        r.skip_tags()?;
        r.skip_tags()?;
        Ok((id, Voter { directory }))
    })?;
    Ok(voters.into_iter().collect())
}
