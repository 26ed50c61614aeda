//! What shards of one node say to each other. A connection lives on one shard; the partitions, groups and the controller that
//! its requests name may live on others. The shard of the connection *asks*, the owner *answers*; payload travels as
//! refcounted bytes.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::disk::{DirId, Fault, FileId};
use moldau_base::voter::{QuorumState, VoterChange, VoterRefusal};
use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};
use moldau_controller::{Delta, Image};
use moldau_wire::{ErrorCode, FileRange};

use crate::checkpoints::Report;
use crate::connections::Carriage;
use crate::waist::ShardId;

/// Where an answer goes: a gather of a shard, and which of its questions this was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Return {
    /// The shard that asked.
    pub shard: ShardId,
    /// Its gather.
    pub gather: u64,
    /// The place of the question in it.
    pub index: u32,
}

/// One shard to another.
#[derive(Debug)]
pub enum Message {
    /// Questions for the receiver, in order.
    Asks(Vec<(Return, Ask)>),
    /// Answers to the receiver's questions.
    Answers(Vec<(Return, Answer)>),
    /// A parked fetch of the receiver has news in one of its partitions.
    Wake(Vec<Return>),
    /// These waits are over; nothing is answered.
    Unwait(Vec<(Return, TopicPartition)>),
    /// The metadata image after a committed change. The receiver confirms with `ImageApplied`.
    Image(Arc<Update>),
    /// The receiver (shard 0) may count this shard as having applied the image of that offset.
    ImageApplied(i64),
    /// A log of the receiver that was found on disk without its topic's id.
    Found(Box<moldau_storage::RecoveredLog>),
    /// The broker is registered: the image is current.
    Registered,
    /// A write or sync failed in a log directory.
    DirOffline {
        /// The directory.
        dir: DirId,
        /// Why.
        fault: Fault,
    },
    /// Marks of logs that changed, for shard 0 to write down.
    Checkpoint(Vec<Report>),
    /// The sender waits for its marks to be written.
    CheckpointWanted,
    /// All that the receiver has reported before is written.
    CheckpointWritten,
    /// The sender stops and has reported its last marks.
    LastCheckpoint,
    /// A connection with this node has ended: is it still there?
    Suspect(NodeId),
    /// The node gives away what it leads: hold what is produced until it has, and say [`Message::Holding`]; or do not any more.
    Hold(bool),
    /// The sender holds what is produced.
    Holding,
    /// Shard 0 asks whether the receiver goes on, which answers with [`Message::Felt`].
    Pulse,
    /// The sender goes on.
    Felt,
    /// What shard 0 thinks of a node.
    Suspected {
        /// The node.
        node: NodeId,
        /// It may be gone, or it is not.
        gone: bool,
    },
}

impl Message {
    /// The files that the message's answers name; a host sends them along.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        let answers = match self {
            Message::Answers(answers) => answers.as_slice(),
            _ => &[],
        };
        answers.iter().filter_map(|(_, answer)| match answer {
            Answer::Fetched(fetched) => fetched.records.as_ref().map(|range| FileId(range.file)),
            _ => None,
        })
    }
}

/// A metadata image and what changed since the last one.
#[derive(Debug)]
pub struct Update {
    /// Offset of the last metadata record it holds.
    pub offset: i64,
    /// The metadata.
    pub image: Image,
    /// What changed.
    pub delta: Delta,
}

/// A question to the owner of a partition, a group or the controller.
#[derive(Debug)]
pub enum Ask {
    /// Append records.
    Produce(Produce),
    /// Find records.
    Fetch(Fetch),
    /// Find an offset.
    ListOffsets(ListOffsets),
    /// The end of an epoch (KIP-101).
    EpochEnd {
        /// The partition.
        partition: TopicPartition,
        /// What the client believes to be the current epoch.
        current_epoch: Option<LeaderEpoch>,
        /// The epoch whose end is asked.
        epoch: LeaderEpoch,
    },
    /// Move the log start offset up.
    DeleteRecords {
        /// The partition.
        partition: TopicPartition,
        /// First offset to keep; -1 is the high watermark.
        before: i64,
    },
    /// The producers that have written here.
    Producers {
        /// The partition.
        partition: TopicPartition,
    },
    /// Move a replica to another log directory of this node.
    Relocate {
        /// The partition.
        partition: TopicPartition,
        /// Where to.
        dir: DirId,
    },
    /// Sizes of all logs of the shard, or of the named ones.
    LogSizes {
        /// `None` for all.
        partitions: Option<Vec<TopicPartition>>,
    },
    /// A request to the coordinator of a group.
    Group {
        /// Partition of `__consumer_offsets`.
        partition: i32,
        /// What is asked.
        request: moldau_group::Request,
    },
    /// A request to every coordinator of the shard (ListGroups).
    EveryGroup {
        /// What is asked of each.
        request: moldau_group::Request,
    },
    /// A request to the controller.
    Controller(Box<moldau_controller::Request>),
    /// A producer id.
    ProducerId,
    /// A client's request for the active controller.
    Forward(Carriage),
    /// What another voter of the metadata quorum asks.
    Voter {
        /// The voter.
        from: NodeId,
        /// What it asks.
        message: Bytes,
    },
    /// What an observer of the metadata quorum asks.
    Pull(moldau_quorum::Pull),
    /// The metadata quorum, if this node leads it.
    Quorum,
    /// Change who votes in it.
    ChangeVoters(VoterChange),
}

/// An append.
#[derive(Clone, Debug)]
pub struct Produce {
    /// The partition.
    pub partition: TopicPartition,
    /// 0, 1 or -1.
    pub acks: i16,
    /// Record batches as they came.
    pub records: Bytes,
}

/// A read.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The partition.
    pub partition: TopicPartition,
    /// First offset wanted.
    pub offset: i64,
    /// At most this many bytes, except that one whole batch is always given.
    pub max_bytes: u32,
    /// Only what is decided: below the last stable offset.
    pub read_committed: bool,
    /// What the client believes to be the current epoch.
    pub current_epoch: Option<LeaderEpoch>,
    /// Epoch of the last record the client has.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Tell the asker when there is more than was found now.
    pub wait: bool,
    /// It is a follower that asks.
    pub follower: Option<Follower>,
    /// Where the consumer is, if it says so: it may read from a follower then (KIP-392).
    pub rack: Option<ByteString>,
}

/// A follower that fetches.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    /// The node.
    pub node: NodeId,
    /// Its broker's incarnation.
    pub broker_epoch: BrokerEpoch,
    /// The high watermark that it was told last.
    pub told: i64,
    /// It asks by itself, and so says what it has; otherwise its session asks because there may be something for it.
    pub heard: bool,
}

/// A search for an offset.
#[derive(Clone, Copy, Debug)]
pub struct ListOffsets {
    /// The partition.
    pub partition: TopicPartition,
    /// Milliseconds since the epoch, or one of the protocol's negative names.
    pub timestamp: i64,
    /// Only what is decided: below the last stable offset.
    pub read_committed: bool,
    /// What the client believes to be the current epoch.
    pub current_epoch: Option<LeaderEpoch>,
    /// Asked by a consumer, which may not see beyond the high watermark; not by a replica.
    pub consumer: bool,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Produce`].
    Produced(Result<Produced, Refusal>),
    /// To [`Ask::Fetch`].
    Fetched(Fetched),
    /// To [`Ask::ListOffsets`].
    Offset(Result<FoundOffset, ErrorCode>),
    /// To [`Ask::EpochEnd`]: epoch and end offset, both -1 when unknown.
    EpochEnd(Result<(i32, i64), ErrorCode>),
    /// To [`Ask::DeleteRecords`]: the log start offset.
    LowWatermark(Result<i64, ErrorCode>),
    /// To [`Ask::Producers`].
    Producers(Result<Vec<moldau_base::producer::ProducerEntry>, ErrorCode>),
    /// To [`Ask::Relocate`].
    Relocated(ErrorCode),
    /// To [`Ask::LogSizes`].
    LogSizes(LogSizes),
    /// To [`Ask::Group`].
    Group(moldau_group::Reply),
    /// To [`Ask::EveryGroup`].
    Groups(Vec<moldau_group::Reply>),
    /// To [`Ask::Controller`].
    Controller(Result<moldau_controller::Reply, moldau_controller::Refusal>),
    /// To [`Ask::ProducerId`].
    ProducerId(Result<i64, ErrorCode>),
    /// To [`Ask::Forward`]: response header and body, or nothing when this node can answer itself, or nobody else.
    Forwarded(Option<Bytes>),
    /// To [`Ask::Controller`]: this node's controller resigned before it decided, and nothing was done.
    Resigned,
    /// To [`Ask::Controller`] with wishes for in-sync sets, when another node's controller has decided.
    InSync(Vec<(TopicPartition, moldau_partition::IsrAnswer)>),
    /// To [`Ask::Voter`].
    Voter(Bytes),
    /// To [`Ask::Pull`].
    Pulled(moldau_quorum::Pulled),
    /// To [`Ask::Quorum`].
    Quorum(Option<QuorumState>),
    /// To [`Ask::ChangeVoters`].
    VotersChanged(Result<(), VoterRefusal>),
    /// The owner cannot answer: it does not lead that partition, or is still loading it.
    Unavailable(ErrorCode),
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Milliseconds since the epoch, if the topic stamps append time; -1 otherwise.
    pub append_time_ms: i64,
    /// Log start offset.
    pub log_start: i64,
    /// Whose log has it.
    pub taker: Taker,
}

/// Who took an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taker {
    /// This node.
    Here,
    /// The node that leads the partition since a moment ago, where the client should go.
    Elsewhere {
        /// The producer numbers its batches.
        sequenced: bool,
    },
}

/// Why nothing was appended, or why it is not known to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the client.
    pub code: ErrorCode,
    /// In words, where the protocol has room for them.
    pub message: Option<String>,
    /// Place of the batch that is at fault, where one is.
    pub batch: Option<u32>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal { code, message: None, batch: None }
    }
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// `None` is right.
    pub error: ErrorCode,
    /// High watermark, -1 if unknown.
    pub high_watermark: i64,
    /// Last stable offset, -1 if unknown.
    pub last_stable: i64,
    /// Log start offset, -1 if unknown.
    pub log_start: i64,
    /// Whole batches, or nothing.
    pub records: Option<FileRange>,
    /// Where the client's log and ours part: epoch and end offset (KIP-595).
    pub diverging: Option<(i32, i64)>,
    /// The replica to read from instead of this one (KIP-392).
    pub preferred: Option<NodeId>,
    /// The records are for a follower that is throttled.
    pub throttled: bool,
}

impl Fetched {
    /// A refusal.
    pub fn error(error: ErrorCode) -> Fetched {
        Fetched {
            error,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            records: None,
            diverging: None,
            preferred: None,
            throttled: false,
        }
    }

    /// Bytes of records found.
    pub fn bytes(&self) -> u32 {
        self.records.as_ref().map_or(0, |range| range.len)
    }
}

/// An offset that was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// -1 if there is none.
    pub offset: i64,
    /// Of the record found; -1 for the named offsets.
    pub timestamp: i64,
    /// Leader epoch of the record; -1 if unknown.
    pub epoch: i32,
}

/// Sizes of a shard's logs.
#[derive(Clone, Debug, Default)]
pub struct LogSizes {
    /// One entry per log.
    pub logs: Vec<LogSize>,
    /// Log directories that are offline, by place.
    pub offline: Vec<u16>,
}

/// Size of one log.
#[derive(Clone, Copy, Debug)]
pub struct LogSize {
    /// The partition.
    pub partition: TopicPartition,
    /// Its log directory, by place.
    pub dir: u16,
    /// Bytes of its segments.
    pub bytes: u64,
    /// How many offsets it is behind: a copy behind its log, a log behind its high watermark.
    pub lag: i64,
    /// It is on its way here from another log directory.
    pub is_copy: bool,
}
