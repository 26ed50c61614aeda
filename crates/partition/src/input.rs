//! What a partition is told and what it wants done.

use moldau_base::{LeaderEpoch, NodeId};
use moldau_batch::Batch;

use crate::leader::Leadership;

/// The caller's name for a request that is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// `acks=0`: nothing. There is no [`Effect::Acknowledge`], but there is a refusal, for the caller to close the connection.
    None,
    /// `acks=1`: the leader has stored it.
    Leader,
    /// `acks=all`: every in-sync replica has stored it.
    All,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// `isolation.level=read_committed`: the last stable offset.
    Committed,
    /// `isolation.level=read_uncommitted`: the high watermark.
    Replicated,
    /// A follower: everything this replica has stored.
    Stored,
}

/// What happens to a partition.
#[derive(Debug)]
pub enum Input<'a> {
    /// The controller made this node its leader, or changed the replicas around it.
    Lead(Leadership),
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
    /// The log has taken the batches of the last [`Effect::Append`]; they are not stored yet.
    Appended {
        /// The request that brought them.
        token: Token,
        /// The offset that the log gave to the first record.
        base_offset: i64,
        /// The same batches as in [`Input::Produce`].
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
    /// A follower has stored everything below `end_offset`.
    ReplicaStored {
        /// The follower.
        node: NodeId,
        /// Offset after its last record.
        end_offset: i64,
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
    /// of it: [`Input::Appended`] or [`Input::NotAppended`]. While the log takes them, this state knows nothing of them: a producer
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
        /// The high watermark; it only grows.
        offset: i64,
    },
    /// Tell the producer that its batches are safe, as it asked. Never comes before the [`Input::Stored`] and
    /// [`Input::ReplicaStored`] that make it true.
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

/// Why a request gets no good answer, with Kafka's error code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The topic is gone.
    #[error("the partition is deleted")]
    Deleted,
    /// Another node leads, or none.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// The log directory has failed.
    #[error("the partition's log is offline")]
    Storage,
    /// The client knows an older leader epoch than this one.
    #[error("the leader epoch of the request is over")]
    FencedLeaderEpoch,
    /// The client knows a newer leader epoch.
    #[error("the leader epoch of the request has not been seen here")]
    UnknownLeaderEpoch,
    /// The batches are larger than a segment may be.
    #[error("the batches do not fit into a segment of the log")]
    TooLarge,
    /// Fewer replicas are in sync than `min.insync.replicas`; nothing was appended.
    #[error("fewer replicas are in sync than min.insync.replicas asks for")]
    NotEnoughReplicas,
    /// The same, found after the append.
    #[error("appended, but fewer replicas are in sync than min.insync.replicas asks for")]
    NotEnoughReplicasAfterAppend,
    /// A newer instance of the producer has written.
    #[error("the producer's epoch is older than the newest one seen")]
    InvalidProducerEpoch,
    /// Batches are missing before this one, or it is an old one.
    #[error("the sequence number does not follow the last one")]
    OutOfOrderSequence,
    /// Some batches of the request are duplicates and others are not.
    #[error("the request mixes batches that were appended before with others")]
    DuplicateSequence,
    /// A batch without transaction while the producer has one open.
    #[error("the producer has a transaction open")]
    InvalidTxnState,
    /// A fresh leader does not know the newest offset that clients may see.
    #[error("the high watermark has not reached the leader's epoch")]
    OffsetNotAvailable,
}

impl Refusal {
    /// Kafka's number for it.
    pub fn code(self) -> i16 {
        match self {
            Refusal::Deleted => 3,
            Refusal::NotLeader => 6,
            Refusal::TooLarge => 18,
            Refusal::NotEnoughReplicas => 19,
            Refusal::NotEnoughReplicasAfterAppend => 20,
            Refusal::OutOfOrderSequence => 45,
            Refusal::DuplicateSequence => 46,
            Refusal::InvalidProducerEpoch => 47,
            Refusal::InvalidTxnState => 48,
            Refusal::Storage => 56,
            Refusal::FencedLeaderEpoch => 74,
            Refusal::UnknownLeaderEpoch => 75,
            Refusal::OffsetNotAvailable => 78,
        }
    }

    /// True when a produce request with this answer has certainly appended nothing; with the others its batches may be in the log.
    pub fn is_certain(self) -> bool {
        !matches!(
            self,
            Refusal::Deleted | Refusal::NotLeader | Refusal::Storage | Refusal::NotEnoughReplicasAfterAppend
        )
    }
}
