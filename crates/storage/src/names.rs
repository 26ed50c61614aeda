//! Names of files and directories in a log directory, as Kafka gives them.

use moldau_base::{Uuid, topic_name};

/// Offsets of durable prefixes, per partition (`recovery-point-offset-checkpoint`).
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
/// Log start offsets, per partition (`log-start-offset-checkpoint`).
pub const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// High watermarks, per partition (`replication-offset-checkpoint`).
pub const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";
/// Whose the offsets in the three above are: topic ids, per partition. Ours alone; Kafka leaves it where it is.
pub const TOPIC_ID_CHECKPOINT: &str = "topic-id-checkpoint";
/// Written at a clean stop, removed at the next start.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Which incarnation of the broker ran last, and in which boot of the machine. Ours alone; Kafka leaves it where it is.
pub const BOOT_CHECKPOINT: &str = "boot-checkpoint";
/// The leader epochs of one partition.
pub const EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
/// The topic id of a partition directory.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Longest name of a directory entry.
const NAME_BYTES_MAX: usize = 255;
const DELETED: &str = ".deleted";
/// Digits of the tag in the name of a copy or of a deleted directory.
const TAG_DIGITS: usize = 32;
const COPY: &str = "-future";
const WHOLE_COPY: &str = "-moved";

/// What a file of a partition directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Batches.
    Log,
    /// Offset to position.
    Index,
    /// Timestamp to offset.
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// Producer state below the offset in its name.
    Snapshot,
}

impl FileKind {
    const ALL: [FileKind; 5] =
        [FileKind::Log, FileKind::Index, FileKind::TimeIndex, FileKind::TxnIndex, FileKind::Snapshot];

    /// The extension, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            FileKind::Log => ".log",
            FileKind::Index => ".index",
            FileKind::TimeIndex => ".timeindex",
            FileKind::TxnIndex => ".txnindex",
            FileKind::Snapshot => ".snapshot",
        }
    }
}

/// The name of the file of this kind that starts at (or, a snapshot, ends before) `offset`.
pub fn file_name(offset: i64, kind: FileKind) -> String {
    format!("{offset:020}{}", kind.suffix())
}

/// The name of that file once it waits for its removal.
pub fn deleted_name(offset: i64, kind: FileKind) -> String {
    format!("{offset:020}{}{DELETED}", kind.suffix())
}

/// An entry of a partition directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionFile {
    /// One of a segment's files, or a snapshot.
    Segment(i64, FileKind),
    /// Left over from a removal, a replacement or a compaction that a crash cut short.
    Leftover,
    /// A checkpoint, `partition.metadata`, or something that is not ours.
    Other,
}

/// Recognises an entry of a partition directory.
pub fn partition_file(name: &str) -> PartitionFile {
    if [DELETED, ".tmp", ".cleaned", ".swap"].iter().any(|end| name.ends_with(end)) {
        return PartitionFile::Leftover;
    }
    for kind in FileKind::ALL {
        if let Some(digits) = name.strip_suffix(kind.suffix()) {
            let well_formed = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
            return match digits.parse() {
                Ok(offset) if well_formed => PartitionFile::Segment(offset, kind),
                _ => PartitionFile::Other,
            };
        }
    }
    PartitionFile::Other
}

/// A directory below a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDirEntry {
    /// `<topic>-<partition>`.
    Partition {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
    },
    /// A partition that was deleted, its files not gone yet.
    Deleted,
    /// What has been copied so far of the partition of this name, which moves here from another log directory.
    Copy {
        /// The partition's directory.
        of: String,
    },
    /// A copy with all that the partition has, which is about to take its name.
    WholeCopy {
        /// The partition's directory.
        of: String,
    },
    /// Not a partition that is served: a `-stray` directory of Kafka, or one that no topic can have.
    Other,
}

/// Recognises a directory below a log directory.
pub fn log_dir_entry(name: &str) -> LogDirEntry {
    if is_deleted_dir(name) {
        return LogDirEntry::Deleted;
    }
    if let Some(of) = copied(name, COPY) {
        return LogDirEntry::Copy { of };
    }
    if let Some(of) = copied(name, WHOLE_COPY) {
        return LogDirEntry::WholeCopy { of };
    }
    let Some((topic, digits)) = name.rsplit_once('-') else { return LogDirEntry::Other };
    let canonical = digits == "0" || !digits.starts_with('0');
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(partition) if canonical && numeric && topic_name::check(topic).is_ok() => {
            LogDirEntry::Partition { topic: topic.to_owned(), partition }
        }
        _ => LogDirEntry::Other,
    }
}

/// Whether a directory has a name that [`deleted_dir`] gives: Kafka's are of the same form. What it names goes for good.
fn is_deleted_dir(name: &str) -> bool {
    let parts = name.strip_suffix("-delete").and_then(|name| name.rsplit_once('.'));
    parts.is_some_and(|(_, tag)| is_tag(tag))
}

/// What makes the name of such a directory different from others.
fn is_tag(tag: &str) -> bool {
    tag.len() == TAG_DIGITS && tag.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The partition's directory whose copy has this name, if it is one's.
fn copied(name: &str, suffix: &str) -> Option<String> {
    let (of, tag) = name.strip_suffix(suffix)?.rsplit_once('.')?;
    let is_partition = matches!(log_dir_entry(of), LogDirEntry::Partition { .. });
    (is_tag(tag) && is_partition).then(|| of.to_owned())
}

/// The name of a partition's directory.
pub fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// What a partition's directory is renamed to when it is deleted: `<dir>.<tag as 32 hexadecimal digits>-delete`, cut at
/// the front so that the file system takes it.
pub fn deleted_dir(dir: &str, tag: Uuid) -> String {
    let suffix = format!(".{:032x}-delete", u128::from_be_bytes(tag.0));
    let keep = dir.len().min(NAME_BYTES_MAX - suffix.len());
    let keep = (0..=keep).rev().find(|&at| dir.is_char_boundary(at)).unwrap_or(0);
    format!("{}{suffix}", &dir[..keep])
}

/// The name of the directory into which the partition in `dir` is copied, as Kafka gives it: `<dir>.<tag>-future`. `None` if no file system
/// takes that.
pub fn copy_dir(dir: &str, tag: Uuid) -> Option<String> {
    let name = format!("{dir}.{:032x}{COPY}", u128::from_be_bytes(tag.0));
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// What the directory of a copy is called once the copy has all that the partition has: `<dir>.<tag>-moved`. Ours alone.
pub fn whole_copy_dir(copy: &str) -> String {
    format!("{}{WHOLE_COPY}", copy.strip_suffix(COPY).unwrap_or(copy))
}

/// The other way round: it counts for nothing any more.
pub(crate) fn part_copy_dir(copy: &str) -> String {
    format!("{}{COPY}", copy.strip_suffix(WHOLE_COPY).unwrap_or(copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        assert_eq!(file_name(42, FileKind::TimeIndex), "00000000000000000042.timeindex");
        for kind in FileKind::ALL {
            assert_eq!(partition_file(&file_name(7, kind)), PartitionFile::Segment(7, kind));
            assert_eq!(partition_file(&deleted_name(7, kind)), PartitionFile::Leftover);
        }
        for other in
            ["7.log", "0000000000000000000x.log", "99999999999999999999.log", "leader-epoch-checkpoint"]
        {
            assert_eq!(partition_file(other), PartitionFile::Other, "{other}");
        }
    }

    #[test]
    fn directories_are_recognised() {
        let of = |topic: &str, partition| LogDirEntry::Partition { topic: topic.into(), partition };
        assert_eq!(log_dir_entry("orders-3"), of("orders", 3));
        assert_eq!(log_dir_entry("a-b-10"), of("a-b", 10));
        for other in
            ["orders", "-3", "orders-", "orders-03", "orders-3x", "orders-99999999999", "a-1.x-future"]
        {
            assert_eq!(log_dir_entry(other), LogDirEntry::Other, "{other}");
        }
        // No topic can have them, or no deletion has named them.
        for foreign in ["my notes-3", "größe-0", "..-0", "a\tb-1", "notes.to-delete", "a-1.0123-delete"] {
            assert_eq!(log_dir_entry(foreign), LogDirEntry::Other, "{foreign}");
        }
        assert_eq!(log_dir_entry(&partition_dir(&"x".repeat(250), 1)), LogDirEntry::Other);
        for topic in ["orders", "a.b", &"x".repeat(213)] {
            let of = partition_dir(topic, 7);
            let copy = copy_dir(&of, Uuid([0xab; 16])).unwrap();
            let whole = whole_copy_dir(&copy);
            assert_eq!(log_dir_entry(&whole), LogDirEntry::WholeCopy { of: of.clone() });
            assert_eq!(part_copy_dir(&whole), copy);
            assert_eq!(log_dir_entry(&copy), LogDirEntry::Copy { of });
        }
        assert_eq!(copy_dir(&"x".repeat(216), Uuid([0xab; 16])), None);
        let long = partition_dir(&"x".repeat(249), 12);
        for dir in ["orders-3", long.as_str()] {
            let deleted = deleted_dir(dir, Uuid([0xab; 16]));
            assert!(deleted.len() <= 255);
            assert_eq!(log_dir_entry(&deleted), LogDirEntry::Deleted);
        }
    }
}
