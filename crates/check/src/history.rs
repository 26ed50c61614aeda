//! What clients did and saw, as data: the one language between whoever produces load (the simulator, or real clients
//! against a real process) and the checkers. It knows nothing of the broker's inside and never judges; it only records.

use std::fmt;
use std::sync::Arc;

use moldau_base::Mono;

/// A client of the run, numbered by whoever drives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(pub u32);

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// A partition of one life of a topic. A topic that is deleted and made again under the same name is another topic: the
/// driver gives it another name here (`orders#2`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic, with its life where there are several.
    pub topic: Arc<str>,
    /// The partition's number.
    pub index: i32,
}

impl Partition {
    /// A partition of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, index: i32) -> Partition {
        Partition { topic: topic.into(), index }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// A record's identity, written into its value: no two sends of the application share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Who sent it.
    pub producer: Client,
    /// Grows with every record that this producer sends.
    pub number: u64,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.number)
    }
}

/// What a producer may expect of its retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// A retry may store the record again, and out of order.
    AtLeastOnce,
    /// Idempotent: stored at most once, in the order of sending (KIP-98).
    Once,
}

/// What happened, from a client's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A producer sends a record for the first time; until more is known it may or may not be stored.
    Sent {
        /// What.
        record: Record,
        /// Where to.
        partition: Partition,
        /// With which promise.
        delivery: Delivery,
    },
    /// The record is promised to be stored at this offset.
    Acknowledged {
        /// What.
        record: Record,
        /// Where.
        partition: Partition,
        /// At which offset.
        offset: i64,
    },
    /// The record is promised not to be stored: every attempt was refused by name.
    Refused {
        /// What.
        record: Record,
        /// Where to.
        partition: Partition,
    },
    /// The producer gave up without an answer; the record may or may not be stored, now or a little later.
    Unknown {
        /// What.
        record: Record,
        /// Where to.
        partition: Partition,
    },
    /// A reader begins, or begins anew, to read a partition; what it polled before binds nothing from here on.
    Assigned {
        /// Who.
        reader: Client,
        /// What.
        partition: Partition,
        /// The first offset it will ask for.
        position: i64,
    },
    /// A fetch was answered.
    Read(Read),
    /// A reader met bytes that nobody sent, or that do not decode.
    Garbled {
        /// Who.
        reader: Client,
        /// Where.
        partition: Partition,
        /// At which offset.
        offset: i64,
        /// What was wrong.
        what: String,
    },
    /// From here on records below `before` may be deleted, by retention or by request.
    Trimmable {
        /// Where.
        partition: Partition,
        /// The first offset that must stay.
        before: i64,
    },
    /// Retention may delete records of this partition, but none before it has this age.
    Expires {
        /// Where.
        partition: Partition,
        /// `retention.ms`; 0 when only the size decides.
        keep_ms: u64,
    },
    /// Somebody was told where the log begins.
    LogStart {
        /// Where.
        partition: Partition,
        /// The first offset that there is.
        offset: i64,
    },
    /// Somebody was told where the log ends for readers.
    LogEnd {
        /// Where.
        partition: Partition,
        /// When the question was sent.
        asked: Mono,
        /// The leader epoch that answered, where several nodes may lead.
        epoch: Option<i32>,
        /// The high watermark.
        offset: i64,
    },
    /// The first record at or after a time was asked for. Producers stamp records with the time at which they are sent.
    FoundByTime {
        /// Where.
        partition: Partition,
        /// When the question was sent.
        asked: Mono,
        /// The time, a whole millisecond.
        since: Mono,
        /// The answer; `None` when there is no such record.
        offset: Option<i64>,
    },
    /// A fault took away what nobody promised to keep: everything from `from` on may be gone, and other records may follow there.
    MayBeLost {
        /// Where.
        partition: Partition,
        /// The first offset that may be gone.
        from: i64,
    },
    /// A group asks to commit an offset.
    Committing(Commit),
    /// The commit is acknowledged.
    Committed(Commit),
    /// The commit was refused by name: it has not happened and will not.
    CommitRefused(Commit),
    /// A group's committed offset was asked for and told.
    CommittedRead {
        /// Whose.
        group: Arc<str>,
        /// Of what.
        partition: Partition,
        /// When the question was sent.
        asked: Mono,
        /// The answer; `None` when there is none.
        offset: Option<i64>,
    },
    /// A member of a group learned what it owns.
    Owns {
        /// The group.
        group: Arc<str>,
        /// Its generation.
        generation: i32,
        /// The member's id, as the coordinator gave it.
        member: Arc<str>,
        /// What it owns.
        partitions: Vec<Partition>,
    },
    /// The group's state and offsets may be gone: it was deleted, or a fault took what nobody promised to keep.
    GroupMayBeLost {
        /// The group.
        group: Arc<str>,
    },
}

/// The answer to one fetch of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Who asked.
    pub reader: Client,
    /// What.
    pub partition: Partition,
    /// When the request was sent.
    pub asked: Mono,
    /// The offset asked for.
    pub from: i64,
    /// What came, without records below `from`.
    pub records: Vec<(i64, Record)>,
    /// The offset to ask for next: everything in `from..next` was delivered.
    pub next: i64,
    /// The high watermark that came with it; -1 when it is not known.
    pub high_watermark: i64,
    /// The leader epoch that answered, where several nodes may lead.
    pub epoch: Option<i32>,
}

/// A group's position in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Whose.
    pub group: Arc<str>,
    /// Of what.
    pub partition: Partition,
    /// The next offset to read.
    pub offset: i64,
}

/// An event and when its client knew of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never goes back within a history.
    pub at: Mono,
    /// What.
    pub event: Event,
}

impl Event {
    /// The partition it is about, when it is about one.
    pub fn partition(&self) -> Option<&Partition> {
        match self {
            Event::Sent { partition, .. }
            | Event::Acknowledged { partition, .. }
            | Event::Refused { partition, .. }
            | Event::Unknown { partition, .. }
            | Event::Assigned { partition, .. }
            | Event::Garbled { partition, .. }
            | Event::Trimmable { partition, .. }
            | Event::Expires { partition, .. }
            | Event::LogStart { partition, .. }
            | Event::LogEnd { partition, .. }
            | Event::FoundByTime { partition, .. }
            | Event::MayBeLost { partition, .. }
            | Event::CommittedRead { partition, .. } => Some(partition),
            Event::Read(read) => Some(&read.partition),
            Event::Committing(commit) | Event::Committed(commit) | Event::CommitRefused(commit) => {
                Some(&commit.partition)
            }
            Event::Owns { .. } | Event::GroupMayBeLost { .. } => None,
        }
    }

    /// The group it is about, when it is about one.
    pub fn group(&self) -> Option<&Arc<str>> {
        match self {
            Event::Committing(commit) | Event::Committed(commit) | Event::CommitRefused(commit) => {
                Some(&commit.group)
            }
            Event::CommittedRead { group, .. }
            | Event::Owns { group, .. }
            | Event::GroupMayBeLost { group } => Some(group),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Sent { record, partition, delivery } => {
                write!(f, "send {record} to {partition} ({delivery:?})")
            }
            Event::Acknowledged { record, partition, offset } => {
                write!(f, "ack {record} at {partition}@{offset}")
            }
            Event::Refused { record, partition } => write!(f, "refused {record} to {partition}"),
            Event::Unknown { record, partition } => write!(f, "gave up {record} to {partition}"),
            Event::Assigned { reader, partition, position } => {
                write!(f, "{reader} assigned {partition}@{position}")
            }
            Event::Read(read) => read.fmt(f),
            Event::Garbled { reader, partition, offset, what } => {
                write!(f, "{reader} read garbage at {partition}@{offset}: {what}")
            }
            Event::Trimmable { partition, before } => write!(f, "{partition} may be trimmed before {before}"),
            Event::Expires { partition, keep_ms } => write!(f, "{partition} keeps records for {keep_ms} ms"),
            Event::LogStart { partition, offset } => write!(f, "{partition} begins at {offset}"),
            Event::LogEnd { partition, epoch, offset, .. } => match epoch {
                Some(epoch) => write!(f, "{partition} ends at {offset} in epoch {epoch}"),
                None => write!(f, "{partition} ends at {offset}"),
            },
            Event::FoundByTime { partition, since, offset, .. } => {
                write!(f, "{partition} has {offset:?} as the first at or after {:.3}s", since.0 as f64 / 1e9)
            }
            Event::MayBeLost { partition, from } => write!(f, "{partition} may be lost from {from}"),
            Event::Committing(commit) => write!(f, "{commit} asked"),
            Event::Committed(commit) => write!(f, "{commit} done"),
            Event::CommitRefused(commit) => write!(f, "{commit} refused"),
            Event::CommittedRead { group, partition, offset, .. } => match offset {
                Some(offset) => write!(f, "{group} has committed {partition}@{offset}"),
                None => write!(f, "{group} has committed nothing of {partition}"),
            },
            Event::Owns { group, generation, member, partitions } => {
                write!(f, "{member} owns in {group} generation {generation}:")?;
                partitions.iter().try_for_each(|partition| write!(f, " {partition}"))
            }
            Event::GroupMayBeLost { group } => write!(f, "{group} may be forgotten"),
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit of {} at {}@{}", self.group, self.partition, self.offset)
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read {}@{}..{}", self.reader, self.partition, self.from, self.next)?;
        write!(f, " (high watermark {}", self.high_watermark)?;
        self.epoch.map_or(Ok(()), |epoch| write!(f, " in epoch {epoch}"))?;
        f.write_str(")")?;
        self.records.iter().take(50).try_for_each(|(offset, record)| write!(f, " {offset}={record}"))?;
        if self.records.len() > 50 { write!(f, " …{} more", self.records.len() - 50) } else { Ok(()) }
    }
}
