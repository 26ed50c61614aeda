//! Recovery: from a log directory, however it was left, to logs that can be appended to and read.
//!
//! After a clean stop only the headers behind the last index entry of each log are looked at. After any other, each log is read from its
//! recovery point on, which a running log keeps within [`crate::FLUSH_BYTES`] and [`crate::FLUSH_INTERVAL_MS`] of its end. What of a
//! segment is believed:
//!
//! 1. A batch from the recovery point on: its checksum is right, and neither its offset nor its leader epoch goes back.
//! 2. A batch below, all of them after a clean stop: its header is one, ends in the file, and its offset does not go back.
//! 3. But it is damaged if its checksum is wrong, what follows does not go on from it, and something whole begins behind its first byte;
//! 4. or if it leaves a hole, and whole batches behind have their place in that ([`Scanner::next_in_place`] has both).
//! 5. Damage below the recovery point is reported and stays, and the log goes on with the next whole batch behind it; reads refuse it.
//! 6. Where nothing whole is behind it, and at what is not believed from the recovery point on, the log is cut: it is torn there. What
//!    is left is gone over again then where what was cut may have spoken against it, or for it.
//!
//! So a start finds what the one before left. Everything that was changed or doubted is a [`Finding`].
//!
//! [`Scanner::next_in_place`]: crate::Scanner::next_in_place

mod files;
mod moves;
mod partition;
mod producers;
mod segments;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use moldau_base::Uuid;
use moldau_base::disk::{DirId, Disk, Fault, Path};
use moldau_base::planted::{Bug, planted};
use moldau_batch::Header;

use crate::checkpoint::{
    BadText, encode_clean_shutdown, encode_offsets, encode_topic_ids, parse_boot, parse_clean_shutdown,
    parse_offsets, parse_topic_ids,
};
use crate::config::LogConfig;
use crate::log::{Log, LogParts};
use crate::names::{
    BOOT_CHECKPOINT, CLEAN_SHUTDOWN, FileKind, HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, LogDirEntry,
    RECOVERY_POINT_CHECKPOINT, TOPIC_ID_CHECKPOINT, log_dir_entry,
};
use crate::segment::FileIds;
use moldau_base::ProducerEntry;
pub use moves::{Moves, recover_moves};

/// No mark of a directory is longer.
const MOST_MARK_BYTES: usize = 1024;

/// How to recover.
#[derive(Clone, Debug)]
pub struct RecoveryPolicy {
    /// Directories that belong to others, such as `__cluster_metadata-0`.
    pub skip: Vec<String>,
    /// Distance of the index entries that are rebuilt, in bytes.
    pub index_interval_bytes: u32,
    /// Wall clock, in milliseconds: the age of active segments counts from here.
    pub now_ms: i64,
}

impl Default for RecoveryPolicy {
    fn default() -> RecoveryPolicy {
        RecoveryPolicy { skip: Vec::new(), index_interval_bytes: 4096, now_ms: 0 }
    }
}

/// What is in a log directory.
#[derive(Debug)]
pub struct Recovered {
    /// The logs, in the order of their names.
    pub logs: Vec<RecoveredLog>,
    /// The node stopped cleanly.
    pub clean: bool,
    /// What was repaired, cut or doubted.
    pub findings: Vec<Finding>,
    /// Bytes of log files that were read.
    pub scanned_bytes: u64,
}

/// A recovery on its way.
struct Work {
    recovered: Recovered,
    /// What has to be made durable before the logs are used.
    unsynced: Vec<Path>,
    /// Producer snapshots that newer ones replace, once that is done: what the newest tells of may be in the page cache only.
    outdated: Vec<Outdated>,
}

/// A file that is removed, and the name that it is given before, which is durable.
#[derive(Debug)]
struct Outdated {
    path: Path,
    deleted: Path,
}

impl Outdated {
    fn remove(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.rename(&self.path, &self.deleted)?;
        disk.remove(&self.deleted)
    }
}

/// A log that waits for its slot.
#[derive(Debug)]
pub struct RecoveredLog {
    parts: LogParts,
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The topic's id; `None` when its file is missing or damaged, as after a crash just behind the first append.
    pub topic_id: Option<Uuid>,
    /// The high watermark that was checkpointed last, not above the log's end.
    pub high_watermark: i64,
    /// Producer state of a snapshot.
    pub producers: Vec<ProducerEntry>,
    /// Offset below which `producers` holds.
    pub producers_offset: i64,
    /// Headers of the batches behind that offset that have a producer id, oldest first; at most
    /// [`moldau_base::limits::BATCHES_PER_PRODUCER`] of each producer, the last ones.
    pub replay: Vec<Header>,
    /// The log directory that it was on its way to ([`Moves::resume`]).
    pub moves_to: Option<DirId>,
}

impl RecoveredLog {
    /// The directory's name.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Its log directory.
    pub fn dir(&self) -> DirId {
        self.parts.dir
    }

    /// First offset.
    pub fn start_offset(&self) -> i64 {
        self.parts.start
    }

    /// Recovery point: below this offset everything is durable.
    pub fn flushed_offset(&self) -> i64 {
        self.parts.flushed
    }

    /// Next offset.
    pub fn end_offset(&self) -> i64 {
        self.parts.end
    }

    /// Gives the log its slot. `topic` is the id that metadata knows; it is written when the directory does not have it.
    pub fn into_log(self, slot: u32, files: &mut FileIds, topic: Uuid, config: LogConfig) -> Log {
        let has_id = self.parts.has_metadata || self.parts.segments.is_empty();
        let mut log = Log::from_parts(slot, files, self.parts, topic, config);
        if !has_id {
            log.give_id();
        }
        log
    }
}

/// Something that recovery changed or doubts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{log}: {what}")]
pub struct Finding {
    /// The directory's name, or the file's in the log directory.
    pub log: String,
    /// What.
    pub what: FindingKind,
}

/// The kinds of [`Finding`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindingKind {
    /// The end of the log was cut off: it had not been flushed and is not whole.
    #[error("cut {bytes} bytes at offset {offset}, segment {segment}: {why}")]
    Cut {
        /// The log ends here.
        offset: i64,
        /// Base offset of its last segment.
        segment: i64,
        /// Bytes that are gone, those of later segments included.
        bytes: u64,
        /// What the first of them were.
        why: String,
    },
    /// Flushed data is damaged. It stays; reads of it are refused.
    #[error("damage behind offset {offset} in segment {segment}, byte {position}: {why}")]
    Damaged {
        /// First offset that is not there.
        offset: i64,
        /// Base offset of the segment.
        segment: i64,
        /// Where in its log file.
        position: u64,
        /// What was found.
        why: String,
    },
    /// A flushed batch says another leader epoch than the checkpoint, or one that the batch behind it goes back from: it is left out.
    #[error("leader epoch {epoch} of the batch at offset {offset} in segment {segment} cannot be")]
    Epoch {
        /// First offset of the first such batch.
        offset: i64,
        /// Base offset of the segment.
        segment: i64,
        /// What it says.
        epoch: i32,
    },
    /// An index was missing or not to be trusted, and was made again.
    #[error("rebuilt the {kind:?} file of segment {segment}: {why}")]
    Rebuilt {
        /// Base offset of the segment.
        segment: i64,
        /// Which file.
        kind: FileKind,
        /// What was wrong.
        why: String,
    },
    /// The disk is full: what is there was left without indexes, which a later start makes.
    #[error("no room for the indexes of segment {segment}: it is read without")]
    NoRoom {
        /// Base offset of the segment.
        segment: i64,
    },
    /// A checkpoint, snapshot or id file is damaged and was left out.
    #[error("{file} is not usable: {why}")]
    BadFile {
        /// Its name.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The start offset was behind the log's end: the log begins there, empty.
    #[error("begins at {start}, where checkpoints say it does; it had ended at {end}")]
    StartBehindEnd {
        /// The start offset.
        start: i64,
        /// The end that was found.
        end: i64,
    },
    /// The log ends before its recovery point: flushed data is gone, unless the log was truncated just before the crash.
    #[error("ends at {end}, before its recovery point {recovery_point}")]
    EndsEarly {
        /// The end that was found.
        end: i64,
        /// What was checkpointed.
        recovery_point: i64,
    },
    /// A deletion that a crash had cut short was finished.
    #[error("finished the deletion")]
    Deleted,
    /// All of the partition had been copied here: its move from another log directory is done.
    #[error("has all of {0} and is called so")]
    Moved(String),
    /// A part of the partition had been copied here.
    #[error("was removed: not all of {0} had been copied")]
    PartCopy(String),
    /// A directory that is not a partition was left alone.
    #[error("not a partition, left alone")]
    Foreign,
}

/// The log directory could not be read or repaired: it must not be used.
#[derive(Debug, thiserror::Error)]
#[error("recovery of {what}: {source}")]
pub struct RecoverError {
    /// Where.
    what: String,
    /// Why.
    source: io::Error,
}

/// What the checkpoints of a log directory say, by directory name.
struct Checkpoints {
    recovery: BTreeMap<String, i64>,
    start: BTreeMap<String, i64>,
    high_watermark: BTreeMap<String, i64>,
    /// The topics whose offsets these are; none in a directory that Kafka has written.
    topics: Option<BTreeMap<String, Uuid>>,
}

impl Checkpoints {
    fn read(disk: &dyn Disk, dir: DirId, findings: &mut Vec<Finding>) -> Result<Checkpoints, RecoverError> {
        let mut offsets = |name: &str| {
            let read = read_checkpoint(disk, dir, name, parse_offsets, findings);
            read.map(Option::unwrap_or_default).map_err(at(name))
        };
        Ok(Checkpoints {
            recovery: offsets(RECOVERY_POINT_CHECKPOINT)?,
            start: offsets(LOG_START_CHECKPOINT)?,
            high_watermark: offsets(HIGH_WATERMARK_CHECKPOINT)?,
            topics: read_checkpoint(disk, dir, TOPIC_ID_CHECKPOINT, parse_topic_ids, findings)
                .map_err(at(TOPIC_ID_CHECKPOINT))?,
        })
    }

    /// What is said of the log in this directory.
    fn hints(&self, name: &str, clean: bool) -> partition::Hints {
        partition::Hints {
            clean,
            recovery_point: self.recovery.get(name).copied().unwrap_or(0),
            start: self.start.get(name).copied().unwrap_or(0),
            high_watermark: self.high_watermark.get(name).copied(),
            of: match &self.topics {
                Some(topics) => match topics.get(name).copied() {
                    Some(unknown) if unknown.is_zero() => partition::Whose::Name,
                    topic => partition::Whose::Topic(topic),
                },
                None => partition::Whose::Name,
            },
        }
    }
}

fn at(what: &str) -> impl FnOnce(io::Error) -> RecoverError + use<> {
    let what = what.to_owned();
    move |source| RecoverError { what, source }
}

/// Recovers all logs of a log directory and repairs its files; [`recover_moves`] comes first. Removes the mark of a clean stop, so that a crash from here on is seen
/// as one.
pub fn recover(disk: &dyn Disk, dir: DirId, policy: &RecoveryPolicy) -> Result<Recovered, RecoverError> {
    let clean = is_marked_clean(disk, dir).map_err(at(CLEAN_SHUTDOWN))?;
    let recovered = Recovered { logs: Vec::new(), clean, findings: Vec::new(), scanned_bytes: 0 };
    let mut work = Work { recovered, unsynced: Vec::new(), outdated: Vec::new() };
    let checkpoints = Checkpoints::read(disk, dir, &mut work.recovered.findings)?;
    for entry in disk.list(&Path::new(dir, "")).map_err(at("the log directory"))? {
        let name = entry.name;
        if !entry.is_dir || policy.skip.contains(&name) {
            continue;
        }
        match log_dir_entry(&name) {
            LogDirEntry::Partition { topic, partition } => {
                let hints = checkpoints.hints(&name, clean);
                let log = partition::recover(disk, dir, &name, (topic, partition), hints, policy, &mut work)
                    .map_err(at(&name))?;
                work.recovered.logs.push(log);
            }
            LogDirEntry::Deleted => {
                disk.remove(&Path::new(dir, name.clone())).map_err(at(&name))?;
                work.recovered.findings.push(Finding { log: name, what: FindingKind::Deleted });
            }
            LogDirEntry::Copy { .. } | LogDirEntry::WholeCopy { .. } | LogDirEntry::Other => {
                work.recovered.findings.push(Finding { log: name, what: FindingKind::Foreign });
            }
        }
    }
    // In one go: a file system does that in a fraction of the time that many single syncs take.
    disk.sync_all(&work.unsynced).map_err(at("the log directory"))?;
    for outdated in &work.outdated {
        outdated.remove(disk).map_err(at(&outdated.path.name))?;
    }
    if checkpoints.topics.is_none() {
        match claim_checkpoints(disk, dir, &work.recovered.logs) {
            // The host writes it once there is room.
            Err(error) if Fault::from(&error) == Fault::Full => {}
            claimed => claimed.map_err(at(TOPIC_ID_CHECKPOINT))?,
        }
    }
    match lower_recovery_points(disk, dir, checkpoints.recovery, &work.recovered) {
        Err(error) if Fault::from(&error) == Fault::Full => {}
        lowered => lowered.map_err(at(RECOVERY_POINT_CHECKPOINT))?,
    }
    if clean {
        unmark_clean(disk, dir).map_err(at(CLEAN_SHUTDOWN))?;
    }
    Ok(work.recovered)
}

/// Says whose the offsets in the checkpoints are, in a directory where nothing does: a log that is made later under one of these
/// names must not be found with them. A log that does not know its topic keeps its own, so that the next recovery leaves what this one left.
fn claim_checkpoints(disk: &dyn Disk, dir: DirId, logs: &[RecoveredLog]) -> io::Result<()> {
    let topics = logs.iter().map(|log| (log.name(), log.topic_id));
    disk.replace(&Path::new(dir, TOPIC_ID_CHECKPOINT), &encode_topic_ids(topics))
}

/// A log that was cut just before a crash is appended to again at once: with a recovery point above its end the next recovery would
/// believe what no flush has made durable. It comes down no further than it must: damage below it takes nothing else with it.
fn lower_recovery_points(
    disk: &dyn Disk,
    dir: DirId,
    mut points: BTreeMap<String, i64>,
    recovered: &Recovered,
) -> io::Result<()> {
    let ends_early = |finding: &Finding| matches!(finding.what, FindingKind::EndsEarly { .. });
    let early: BTreeSet<&str> =
        recovered.findings.iter().filter(|f| ends_early(f)).map(|f| f.log.as_str()).collect();
    if early.is_empty() {
        return Ok(());
    }
    for log in recovered.logs.iter().filter(|log| early.contains(log.name())) {
        points.insert(log.name().to_owned(), log.flushed_offset());
    }
    let entries = points.iter().map(|(name, offset)| (name.as_str(), *offset));
    disk.replace(&Path::new(dir, RECOVERY_POINT_CHECKPOINT), &encode_offsets(entries))
}

/// Marks a clean stop: everything is flushed and all checkpoints are written.
pub fn mark_clean(disk: &dyn Disk, dir: DirId, broker_epoch: i64) -> io::Result<()> {
    disk.replace(&Path::new(dir, CLEAN_SHUTDOWN), &encode_clean_shutdown(broker_epoch))
}

/// Whether the mark of a clean stop is there.
pub fn is_marked_clean(disk: &dyn Disk, dir: DirId) -> io::Result<bool> {
    Ok(disk.len(&Path::new(dir, CLEAN_SHUTDOWN))?.is_some())
}

/// The broker epoch of the clean stop that is marked, where one is and says it (KIP-966).
fn clean_epoch(disk: &dyn Disk, dir: DirId) -> io::Result<Option<i64>> {
    match is_marked_clean(disk, dir)? {
        true => Ok(parse_clean_shutdown(&disk.read(&Path::new(dir, CLEAN_SHUTDOWN), 0, MOST_MARK_BYTES)?)),
        false => Ok(None),
    }
}

/// The broker epoch of the clean stop that is marked in all of these directories (KIP-966); none when one of them was not stopped cleanly,
/// or at another time. To be asked before [`recover`].
pub fn common_clean_epoch(disk: &dyn Disk, dirs: impl IntoIterator<Item = DirId>) -> io::Result<Option<i64>> {
    common(dirs, |dir| clean_epoch(disk, dir), |one, other| (one == other).then_some(one))
}

/// The broker epoch with which all of these directories were last used, if that was in this boot of the machine: whatever the broker had
/// written then is still there, in the system's memory if not on the device, however its process ended. It may have ended before it
/// had marked all of them; what counts then is the oldest.
pub fn common_boot_epoch(
    disk: &dyn Disk,
    dirs: impl IntoIterator<Item = DirId>,
    boot: Uuid,
) -> io::Result<Option<i64>> {
    let says = |dir| {
        let path = Path::new(dir, BOOT_CHECKPOINT);
        if disk.len(&path)?.is_none() {
            return Ok(None);
        }
        let known = parse_boot(&disk.read(&path, 0, MOST_MARK_BYTES)?);
        Ok(known.filter(|(of, _)| *of == boot || planted(Bug::BootsAlike)).map(|(_, epoch)| epoch))
    };
    common(dirs, says, |one, other| Some(one.min(other)))
}

/// What all of these directories say together; nothing when one of them says nothing.
fn common(
    dirs: impl IntoIterator<Item = DirId>,
    says: impl Fn(DirId) -> io::Result<Option<i64>>,
    both: fn(i64, i64) -> Option<i64>,
) -> io::Result<Option<i64>> {
    let mut all = None;
    for dir in dirs {
        let Some(epoch) = says(dir)? else { return Ok(None) };
        all = match all {
            None => Some(epoch),
            Some(others) => both(others, epoch),
        };
        if all.is_none() {
            return Ok(None);
        }
    }
    Ok(all)
}

/// Takes the mark away for good. [`recover`] does it; for a directory that it does not read.
pub fn unmark_clean(disk: &dyn Disk, dir: DirId) -> io::Result<()> {
    // Renamed, which is durable: a power loss may undo a removal, and the next crash would be taken for a clean stop.
    let gone = Path::new(dir, format!("{CLEAN_SHUTDOWN}.deleted"));
    disk.rename(&Path::new(dir, CLEAN_SHUTDOWN), &gone)?;
    disk.remove(&gone)
}

type Parsed<V> = Result<Vec<(String, V)>, BadText>;

/// Reads a checkpoint; a damaged one says nothing, `None` is one that is not there.
fn read_checkpoint<V>(
    disk: &dyn Disk,
    dir: DirId,
    name: &str,
    parse: fn(&[u8]) -> Parsed<V>,
    findings: &mut Vec<Finding>,
) -> io::Result<Option<BTreeMap<String, V>>> {
    let path = Path::new(dir, name);
    let Some(data) = files::read_whole(disk, &path)? else { return Ok(None) };
    match parse(&data) {
        Ok(entries) => Ok(Some(entries.into_iter().collect())),
        Err(bad) => {
            let what = FindingKind::BadFile { file: name.to_owned(), why: bad.to_string() };
            findings.push(Finding { log: name.to_owned(), what });
            Ok(Some(BTreeMap::new()))
        }
    }
}
