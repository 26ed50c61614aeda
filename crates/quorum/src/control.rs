//! The control records of the metadata log and its snapshots, in Kafka's bytes (KIP-595, KIP-630, KIP-853):
//! who leads, who votes, where a snapshot begins and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::voter::{VoterEndpoint, Voters};
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

/// The tag behind the voters of the last configuration under which those stand who get the log and do not vote. Kafka's tools pass over
/// it: its log names voters only.
const OBSERVERS: u32 = 10_000;

/// The voters, one record per configuration: two while they change from one to another.
pub(crate) fn voters(membership: &Membership) -> Result<Vec<Bytes>, EncodeError> {
    let nodes: BTreeMap<NodeId, &Voter> = membership.nodes().map(|(id, node)| (*id, node)).collect();
    let observers: BTreeSet<NodeId> = membership.learner_ids().collect();
    let configs = membership.get_joint_config();
    let record = |at: usize, config: &BTreeSet<NodeId>| {
        let mut w = Writer::bare();
        w.i16(0);
        write_config(&mut w, config, &nodes);
        if at + 1 == configs.len() && !observers.is_empty() {
            w.uvarint(1);
            w.tagged(OBSERVERS, |w| write_config(w, &observers, &nodes));
        } else {
            w.uvarint(NO_TAGS);
        }
        w.into_bytes()
    };
    configs.iter().enumerate().map(|(at, config)| record(at, config)).collect()
}

fn write_config(w: &mut Writer, config: &BTreeSet<NodeId>, nodes: &BTreeMap<NodeId, &Voter>) {
    w.length(FORM, config.len());
    for id in config {
        let voter = nodes.get(id).copied();
        w.i32(id.0);
        w.uuid(voter.map_or(Uuid::ZERO, |voter| voter.directory));
        let endpoints = voter.map_or(&[][..], |voter| &voter.endpoints);
        w.length(FORM, endpoints.len());
        for endpoint in endpoints {
            w.string(FORM, &endpoint.listener);
            w.string(FORM, &endpoint.host);
            w.i16(endpoint.port.cast_signed());
            w.uvarint(NO_TAGS);
        }
        // KRaftVersionFeature: versions 0 to 1, and its tags.
        w.i16(0);
        w.i16(1);
        w.uvarint(NO_TAGS);
        w.uvarint(NO_TAGS);
    }
}

/// The voters that these records name, or why they name none.
pub(crate) fn read_voters(values: &[Bytes]) -> Result<Membership, String> {
    let mut configs = Vec::new();
    let mut nodes = BTreeMap::new();
    for value in values {
        let Voters { voters, observers } = read_record(value.clone()).map_err(|error| error.to_string())?;
        if voters.is_empty() {
            return Err("it names no voter".to_owned());
        }
        configs.push(voters.keys().copied().collect::<BTreeSet<_>>());
        nodes.extend(observers);
        nodes.extend(voters);
    }
    Membership::new(configs, nodes).map_err(|error| error.to_string())
}

/// Voters and observers of one record.
fn read_record(value: Bytes) -> Result<Voters, DecodeError> {
    let mut r = Reader::new(value);
    let _version = r.i16()?;
    let voters = read_config(&mut r)?;
    let mut observers = BTreeMap::new();
    for _ in 0..r.tag_count()? {
        match r.tag()? {
            (OBSERVERS, size) => observers = r.tagged(size, read_config)?,
            (_, size) => r.skip(size)?,
        }
    }
    Ok(Voters { voters, observers })
}

fn read_config(r: &mut Reader) -> Result<BTreeMap<NodeId, Voter>, DecodeError> {
    // id, directory, no endpoints, the versions, two sets of tags.
    let smallest = 4 + 16 + 1 + 4 + 1 + 1;
    let voters = r.array(FORM, smallest, |r| {
        let id = NodeId(r.i32()?);
        let directory = r.uuid()?;
        // Name, host, port, tags.
        let endpoints = r.array(FORM, 1 + 1 + 2 + 1, |r| {
            let listener = Arc::from(&*r.string(FORM)?);
            let host = Arc::from(&*r.string(FORM)?);
            let port = r.i16()?.cast_unsigned();
            r.skip_tags()?;
            Ok(VoterEndpoint { listener, host, port })
        })?;
        r.i16()?;
        r.i16()?;
        r.skip_tags()?;
        r.skip_tags()?;
        Ok((id, Voter { directory, endpoints }))
    })?;
    Ok(voters.into_iter().collect())
}
