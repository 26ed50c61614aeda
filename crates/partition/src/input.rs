//! What a partition is told.

use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};
use moldau_batch::Batch;

use crate::leader::Leadership;
use crate::producers::Producers;
use crate::refusal::Refusal;

/// The caller's name for a request that is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// `acks=0`: nothing. There is no [`Effect::Acknowledge`](crate::Effect::Acknowledge), but there is a refusal, for the caller to close the connection.
    None,
    /// `acks=1`: the leader has stored it.
    Leader,
    /// `acks=all`: every in-sync replica has stored it.
    All,
    /// As `All`, for who keeps what is in the log, whatever it was told: one that was refused after its append because too few are in sync
    /// is acknowledged all the same once it is replicated.
    Standing,
}

impl Acks {
    /// From the number of the request; `None` for one that does not exist (INVALID_REQUIRED_ACKS).
    pub fn from_wire(acks: i16) -> Option<Acks> {
        match acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }
}

/// Up to where a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// `isolation.level=read_committed`: the last stable offset.
    Committed,
    /// `isolation.level=read_uncommitted`: the high watermark.
    Replicated,
    /// A follower: everything this replica has stored.
    Stored,
}

/// A follower's fetch, as far as it tells about the follower. To be given only when the follower's log does not part from this one
/// below `offset` (KIP-595), which the log's epochs tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// The follower.
    pub node: NodeId,
    /// Its incarnation, from its request (KIP-903).
    pub broker_epoch: BrokerEpoch,
    /// The incarnation that metadata has registered; none while the broker is fenced, shutting down or unknown.
    pub registered: Option<BrokerEpoch>,
    /// The leader epoch it follows.
    pub leader_epoch: LeaderEpoch,
    /// Where it reads: it has stored everything below.
    pub offset: i64,
}

/// The controller's decision that another node leads, or none, from its committed metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    /// Counts leaders.
    pub epoch: LeaderEpoch,
    /// Who leads.
    pub leader: Option<NodeId>,
}

/// A leader's answer to a follower's fetch.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// The leader epoch of the fetch.
    pub leader_epoch: LeaderEpoch,
    /// The offset of the fetch.
    pub offset: i64,
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// First offset of the leader's log.
    pub log_start_offset: i64,
    /// What it brought.
    pub news: News<'a>,
}

/// What a fetch brought to a follower.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// Whole batches, verified; maybe none.
    Batches(&'a [Batch]),
    /// The leader's log parts from this one (KIP-595).
    Diverging {
        /// The largest epoch of the leader's log that is not above the fetch's last one, and where it ends; none when the leader has none.
        leader: Option<EpochEnd>,
        /// The same of this node's log, for the epoch of `leader`.
        own: Option<EpochEnd>,
    },
    /// The offset of the fetch is not in the leader's log.
    OutOfRange,
}

/// A leader epoch and the offset after its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Where it ends.
    pub end_offset: i64,
}

/// A follower that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    /// The node.
    pub node: NodeId,
    /// The high watermark that it was told; those who read from it wait for a higher one.
    pub high_watermark: i64,
}

/// What came of a proposal for the in-sync set ([`Effect::ProposeIsr`](crate::Effect::ProposeIsr)). Each gets one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsrAnswer {
    /// It is committed.
    Accepted {
        /// The partition epoch that came of it.
        partition_epoch: PartitionEpoch,
        /// The in-sync set.
        isr: Box<[NodeId]>,
    },
    /// Refused, because a broker may not join (INELIGIBLE_REPLICA), or not attempted; it is not committed and will not be.
    Refused,
    /// The partition has changed (INVALID_UPDATE_VERSION, FENCED_LEADER_EPOCH, NEW_LEADER_ELECTED): metadata will tell how.
    Stale,
    /// Nobody knows: the same is proposed again.
    Unknown,
}

/// What happens to a partition.
#[derive(Debug)]
pub enum Input<'a> {
    /// The controller made this node its leader, or changed the replicas around it.
    Lead(Leadership),
    /// The controller made another node its leader, or has none: this one follows.
    Follow(Following),
    /// `min.insync.replicas` has changed.
    MinIsr(usize),
    /// Leadership is over here: moved, deleted, or the log directory has failed. Everything that waits gets this answer. When the
    /// log has lost what it had taken, this state is ahead of it: open the partition again from the log.
    Stop {
        /// The epoch of the decision, if it came with one.
        epoch: Option<LeaderEpoch>,
        /// The answer.
        refusal: Refusal,
    },
    /// Batches to append, all or none.
    Produce {
        /// Names the request in this partition.
        token: Token,
        /// When to acknowledge.
        acks: Acks,
        /// Validated batches, in order; at least one.
        batches: &'a [Batch],
        /// The append time, where `message.timestamp.type=LogAppendTime`.
        append_time: Option<i64>,
    },
    /// The log has taken the batches of the last [`Effect::Append`](crate::Effect::Append); they are not stored yet.
    Appended {
        /// The request that brought them.
        token: Token,
        /// The offset that the log gave to the first record.
        base_offset: i64,
        /// The same batches as in [`Input::Produce`].
        batches: &'a [Batch],
    },
    /// To a leader: these batches of a client are refused without being looked at, because the log takes nothing for now.
    Refused {
        /// The batches.
        batches: &'a [Batch],
    },
    /// The log has taken nothing.
    NotAppended {
        /// The request that brought the batches.
        token: Token,
        /// The answer.
        refusal: Refusal,
    },
    /// The log has stored everything below `end_offset`, as durably as the topic asks for.
    Stored {
        /// Offset after the last stored record.
        end_offset: i64,
    },
    /// The log ends here: what was appended behind could not be written, because the disk is full. Its producers are refused with
    /// [`Refusal::Storage`] and their batches forgotten. Nothing that was stored is taken back.
    TakenBack {
        /// The log's end.
        end_offset: i64,
    },
    /// To a leader: a follower fetches.
    FollowerFetch(FollowerFetch),
    /// To a leader: there is evidence that this follower's process is gone. Forgotten when it fetches again.
    Gone {
        /// The follower.
        node: NodeId,
    },
    /// To a leader: what came of a proposal for the in-sync set.
    IsrAnswer {
        /// The leader epoch of the proposal.
        leader_epoch: LeaderEpoch,
        /// The partition epoch of the proposal.
        partition_epoch: PartitionEpoch,
        /// What came of it.
        answer: IsrAnswer,
    },
    /// [`Partition::deadline`](crate::Partition::deadline) has come.
    Tick,
    /// To a follower: its fetch is answered. Answers to other fetches than the one it [wants](crate::Partition::to_fetch) are ignored.
    Fetched(Fetched<'a>),
    /// The log has taken the batches of the last [`Effect::AppendFetched`](crate::Effect::AppendFetched); they are not stored yet.
    FetchedAppended {
        /// These batches.
        batches: &'a [Batch],
    },
    /// The log has taken nothing of them.
    FetchedNotAppended,
    /// The log was cut, as [`Effect::Truncate`](crate::Effect::Truncate) or [`Effect::Restart`](crate::Effect::Restart) asked.
    Truncated {
        /// It ends here: at the offset that was asked for, or at the last boundary of batches below it.
        end_offset: i64,
    },
    /// The producers of the log, as [`Effect::ReplayProducers`](crate::Effect::ReplayProducers) asked.
    Replayed {
        /// Their state at the log's end.
        producers: Producers,
    },
    /// Records below `offset` are gone: retention or DeleteRecords.
    LogStart {
        /// The first offset that is left.
        offset: i64,
    },
    /// A fetch found too little: wake it when there is more than it saw.
    Wait {
        /// Names the wait. One fetch may wait in several partitions.
        token: Token,
        /// What it may see.
        view: View,
        /// Where it reads: wake it also when that offset is deleted.
        offset: i64,
        /// The end of its view when it looked ([`crate::Partition::end_of`]).
        beyond: i64,
        /// Of a follower: wake it also when there is something that it does not know, or that has to be heard from itself.
        told: Option<Told>,
    },
    /// The request has been answered otherwise (its time is up, its connection gone): forget the token. An append stays.
    Cancel {
        /// Which.
        token: Token,
    },
    /// Forget producers that were idle for this long (`producer.id.expiration.ms`). Due now and then, while there are producers.
    Expire {
        /// Milliseconds.
        after_ms: i64,
    },
}
