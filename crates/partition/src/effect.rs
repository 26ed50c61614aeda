//! What a partition wants done.

use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};

use crate::input::Token;
use crate::refusal::Refusal;

/// A change of the in-sync set that a leader asks the controller for (AlterPartition, KIP-497).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that it changes.
    pub partition_epoch: PartitionEpoch,
    /// The in-sync set. With each follower the incarnation that fetched last, where one did (KIP-903).
    pub isr: Box<[(NodeId, Option<BrokerEpoch>)]>,
}

/// Where and what a follower fetches. The epoch of its last batch is its log's to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToFetch {
    /// From whom.
    pub leader: NodeId,
    /// In which leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// From where on; everything below is stored.
    pub offset: i64,
}

/// What a partition wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Note in the log that this leader epoch begins at this offset. Comes before the epoch's first [`Effect::Append`].
    StartEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Where it begins: the end of the log.
        start_offset: i64,
    },
    /// Append the batches of this request to the log. It is the last effect of its step, and the partition's next input tells what came
    /// of it: [`Input::Appended`](crate::Input::Appended) or [`Input::NotAppended`](crate::Input::NotAppended). While the log takes them, this state knows nothing of them: a producer
    /// snapshot that the log wants for its new segment holds what is before them.
    Append {
        /// The request that brought the batches.
        token: Token,
        /// To be stamped on each batch.
        epoch: LeaderEpoch,
        /// To be stamped on each batch, if there is one.
        append_time: Option<i64>,
    },
    /// Readers may see everything below this offset. Comes before the acknowledgements and wake-ups it causes.
    HighWatermark {
        /// The high watermark; it only grows, unless an unclean election made this log shorter than it was.
        offset: i64,
    },
    /// Ask the controller for this in-sync set, and give its answer as [`Input::IsrAnswer`](crate::Input::IsrAnswer). One proposal is on its way at a time.
    ProposeIsr(Proposal),
    /// Append the first `count` batches that the fetch brought, as they are. It is the last effect of its step, and the partition's next
    /// input tells what came of it: [`Input::FetchedAppended`](crate::Input::FetchedAppended) or [`Input::FetchedNotAppended`](crate::Input::FetchedNotAppended).
    AppendFetched {
        /// How many.
        count: usize,
    },
    /// Cut the log at this offset, which its leader's epochs have told, and say [`Input::Truncated`](crate::Input::Truncated) when it is done.
    Truncate {
        /// The log's end.
        offset: i64,
    },
    /// Drop the whole log and go on, empty, at this offset: its leader has nothing of it. Say [`Input::Truncated`](crate::Input::Truncated) when it is done.
    Restart {
        /// The log's start and end.
        offset: i64,
    },
    /// What is known of producers does not reach back to where the log was cut: replay them from the log and give [`Input::Replayed`](crate::Input::Replayed).
    ReplayProducers,
    /// Records below this offset are gone at the leader: remove them here.
    MoveLogStart {
        /// The first offset that is left.
        offset: i64,
    },
    /// Tell the producer that its batches are safe, as it asked. Never comes before the [`Input::Stored`](crate::Input::Stored) and
    /// [`Input::FollowerFetch`](crate::Input::FollowerFetch) that make it true.
    Acknowledge {
        /// Which request.
        token: Token,
        /// Offset of the first record; of the first append if this was a duplicate.
        base_offset: i64,
        /// The append time, or -1; for a duplicate the timestamp that is remembered, as in Kafka.
        append_time: i64,
        /// First offset of the log.
        log_start_offset: i64,
    },
    /// Tell the producer that it gets no acknowledgement. [`Refusal::is_certain`] says whether anything was appended.
    Refuse {
        /// Which request.
        token: Token,
        /// Why.
        refusal: Refusal,
    },
    /// There is more to read for this wait, or another answer to give. The token is forgotten.
    Wake {
        /// Which wait.
        token: Token,
    },
}
