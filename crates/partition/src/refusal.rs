//! The good reasons for a bad answer, with Kafka's numbers for them.

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
