//! Who agrees on cluster metadata: the voters of the metadata quorum, those who only follow it, and how far each of them is.
//!
//! The quorum keeps them in its log, the broker reaches them and tells operators. After KIP-595, KIP-836 and KIP-853.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{NodeId, Uuid};

/// The metadata quorum as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// The leader.
    pub leader: NodeId,
    /// Its epoch.
    pub epoch: i32,
    /// The offset behind the last committed record.
    pub high_watermark: i64,
    /// Those who vote, by their ids.
    pub voters: Vec<ReplicaState>,
    /// Those who follow the metadata log and do not vote.
    pub observers: Vec<ReplicaState>,
}

/// A replica of the metadata log as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// The node.
    pub node: NodeId,
    /// The id of the log directory that holds its metadata log; zero while it is not known.
    pub directory: Uuid,
    /// The offset behind its last record; -1 while it is not known.
    pub end_offset: i64,
    /// When it was heard last, in milliseconds since the epoch; -1 when it was not.
    pub heard_ms: i64,
    /// When it had everything that the leader had, in milliseconds since the epoch; -1 when that is not known.
    pub caught_up_ms: i64,
    /// Where it listens for other nodes.
    pub endpoints: Vec<VoterEndpoint>,
}

/// Where a replica of the metadata log listens for other nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VoterEndpoint {
    /// The name of the listener.
    pub listener: Arc<str>,
    /// A name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// What the metadata log says of a replica beside its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voter {
    /// The id of the log directory that holds its metadata log; zero while it is not known. A disk that was replaced has another.
    pub directory: Uuid,
    /// Where it listens for other nodes; empty while that is not known.
    pub endpoints: Vec<VoterEndpoint>,
}

impl From<Uuid> for Voter {
    fn from(directory: Uuid) -> Voter {
        Voter { directory, endpoints: Vec::new() }
    }
}

/// The replicas that the metadata log names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voters {
    /// Those who vote.
    pub voters: BTreeMap<NodeId, Voter>,
    /// Those who get the log and do not vote: on their way to become voters, or once voters.
    pub observers: BTreeMap<NodeId, Voter>,
}

impl Voters {
    /// What is wrong when these voters do not answer: nothing while the others are a majority.
    pub fn without(&self, silent: &[NodeId]) -> Option<String> {
        let missing: Vec<_> = self.voters.iter().filter(|(node, _)| silent.contains(node)).collect();
        if (self.voters.len() - missing.len()) * 2 > self.voters.len() || missing.is_empty() {
            return None;
        }
        let name = |(node, voter): &(&NodeId, &Voter)| match voter.endpoints.first() {
            Some(endpoint) => format!("{node} ({}:{})", endpoint.host, endpoint.port),
            None => node.to_string(),
        };
        let names: Vec<String> = missing.iter().map(name).collect();
        Some(format!(
            "the metadata quorum has no majority: of its {} voters these do not answer: {}",
            self.voters.len(),
            names.join(", ")
        ))
    }
}

/// A change of the voters (KIP-853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// A node becomes a voter when it has the log.
    Add {
        /// The node.
        node: NodeId,
        /// Its directory and where it listens.
        voter: Voter,
        /// How long it may take to get the log, in milliseconds.
        patience_ms: u64,
    },
    /// A voter votes no more; it still gets the log if it is there.
    Remove {
        /// The node.
        node: NodeId,
        /// Its directory.
        directory: Uuid,
    },
}

/// Why the voters were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoterRefusal {
    /// Only the leader changes them.
    #[error("this node does not lead the metadata quorum")]
    NotLeader,
    /// It votes already.
    #[error("node {0} is a voter already")]
    Duplicate(NodeId),
    /// There is no such voter.
    #[error("there is no voter {0} with directory {1}")]
    NotFound(NodeId, Uuid),
    /// Nobody could decide anything any more.
    #[error("voter {0} is the last one: a quorum cannot be without any")]
    Last(NodeId),
    /// They change one by one.
    #[error("another change of the voters is under way: try again when it is done")]
    UnderWay,
    /// It does not get the log fast enough, or is not there at all.
    #[error(
        "node {0} did not get the metadata log in time: is it running, with this directory id, and can the leader reach it at the endpoint that was given?"
    )]
    Lagging(NodeId),
    /// It may or may not be changed.
    #[error("it is not known whether the voters have changed: {0}")]
    Unknown(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missing_is_said_when_no_majority_is_left() {
        let mut all = Voters::default();
        for node in 1..=3 {
            all.voters.insert(NodeId(node), Voter::default());
        }
        let endpoint = VoterEndpoint { listener: "CONTROLLER".into(), host: "c3".into(), port: 9093 };
        all.voters.insert(NodeId(3), Voter { endpoints: vec![endpoint], ..Voter::default() });
        assert_eq!(all.without(&[NodeId(3)]), None);
        let why = all.without(&[NodeId(2), NodeId(3), NodeId(9)]);
        assert!(why.is_some_and(|why| why.ends_with("of its 3 voters these do not answer: 2, 3 (c3:9093)")));
        assert_eq!(Voters::default().without(&[NodeId(1)]), None);
    }
}
