//! What a quorum tells its host.

use bytes::Bytes;
use moldau_base::NodeId;
use moldau_base::voter::{VoterRefusal, Voters};

use crate::observe::Pulled;

/// Names a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProposalId(pub u64);

/// Names a call to another voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The image starts over with these records, which a snapshot held. Their offsets are gone; the image is
    /// as of `next_offset - 1`.
    Restored {
        /// The offset after the last record that the snapshot contains.
        next_offset: i64,
        /// The values of its records.
        values: Vec<Bytes>,
    },
    /// Records are committed: they will never be lost or change.
    Committed(Committed),
    /// Another leader, or none. A node that leads has applied everything that was committed before.
    Leader {
        /// The epoch; a node that proposes does so in this epoch.
        epoch: i32,
        /// Who leads, if it is known.
        leader: Option<NodeId>,
    },
    /// A proposal has its outcome.
    Proposed {
        /// Which.
        id: ProposalId,
        /// The offset of its first record, which is committed and came before as [`Event::Committed`].
        result: Result<i64, ProposeError>,
    },
    /// Carry this to another voter; its answer, or that there is none, comes back by [`crate::Quorum::answered`].
    Call {
        /// Which call.
        id: CallId,
        /// To whom.
        to: NodeId,
        /// What is asked.
        request: Bytes,
    },
    /// The answer to a call of another voter, which came by [`crate::Quorum::called`].
    Answer {
        /// The host's name for the call.
        token: u64,
        /// What is answered.
        answer: Bytes,
    },
    /// The answer to [`crate::Quorum::pull`].
    Pulled {
        /// The host's name for the question.
        token: u64,
        /// What the observer is told.
        pulled: Pulled,
    },
    /// These are the voters from here on.
    Voters(Voters),
    /// These voters did not answer what they were asked last.
    Silent(Vec<NodeId>),
    /// A change of the voters has its outcome.
    Changed {
        /// The host's name for it.
        token: u64,
        /// It is committed, or why not.
        result: Result<(), VoterRefusal>,
    },
    /// Something that an operator has to mend.
    Warning(String),
    /// Enough has been appended since the last snapshot to write one.
    SnapshotDue,
    /// The metadata log is offline and nothing will be committed any more. The node must stop.
    Failed(String),
}

/// Committed records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Offset of the first.
    pub base_offset: i64,
    /// Offset after the last.
    pub next_offset: i64,
    /// Epoch of the leader that appended them.
    pub epoch: i32,
    /// Their values; empty for control records, which are the quorum's own and take offsets too.
    pub values: Vec<Bytes>,
}

/// Why a proposal is not known to be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was not appended, or is known to be lost: this node does not lead.
    #[error("not the leader of the metadata quorum")]
    NotLeader(Option<NodeId>),
    /// It was not appended: it holds no record, or too much.
    #[error("cannot propose: {0}")]
    Refused(&'static str),
    /// It was not appended: the disk has no place for it.
    #[error("no room in the metadata log: {0}")]
    NoRoom(String),
    /// It may be committed or may become so: leadership or the log was lost meanwhile.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}
