//! What openraft is told about this quorum: its ids, its entries, its runtime.

use std::fmt;

use bytes::Bytes;
use moldau_base::NodeId;
pub use moldau_base::voter::Voter;
use openraft::impls::leader_id_std;

use crate::event::ProposalId;
use crate::runtime::Runtime;

/// The values of the records of one entry: appended and committed all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// When the leader took them, in milliseconds since the epoch.
    pub timestamp: i64,
    /// The values; the quorum does not look into them.
    pub values: Vec<Bytes>,
    /// The proposal that they were, on the node that proposed them and until it restarts; not part of the
    /// log.
    pub proposal: Option<ProposalId>,
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.values.len())
    }
}

openraft::declare_raft_types!(
    /// The types of this quorum.
    pub Types:
        D = Records,
        R = i64,
        NodeId = NodeId,
        Node = Voter,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, NodeId>,
        Vote = openraft::impls::Vote<leader_id_std::LeaderId<u64, NodeId>>,
        AsyncRuntime = Runtime,
);

/// An entry of the log.
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
/// Index and term of an entry.
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
/// The promise a voter made last.
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
/// The voters.
pub(crate) type Membership = openraft::Membership<NodeId, Voter>;
/// The voters, and the entry that made them so.
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;

/// The id of the entry with this index and term.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::alias::CommittedLeaderIdOf::<Types>::new(term), index)
}

/// The term of an entry.
pub(crate) fn term(id: &LogId) -> u64 {
    id.committed_leader_id().term
}
