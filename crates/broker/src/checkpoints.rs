//! The offset checkpoints of the log directories: up to where each log is flushed (recovery reads from there), where it starts,
//! and its high watermark. Files belong to directories and logs to shards, so every shard reports what changed to shard 0,
//! which writes the files, at most once a second.
//!
//! The files are keyed by names, and a name may be used again at any time: a fourth file says which topics the others speak of. It is
//! written behind them, and only when all three are, so that it never gives a log the marks of one that had its name before.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moldau_base::disk::{DirId, Done, Op, Path};
use moldau_base::{TopicPartition, Uuid};
use moldau_partition::Partition;
use moldau_storage::names::{
    HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, TOPIC_ID_CHECKPOINT,
};
use moldau_storage::{Log, RecoveredLog, State};

use crate::Shard;
use crate::message::Message;
use crate::partitions::{log_of, shard_op};
use crate::timers::Timer;
use crate::waist::{ShardId, Trace};

/// Time between a change and the files that hold it, in milliseconds.
const DELAY_MS: i64 = 1_000;

/// What is written down of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Not known of a log that was found without its id.
    topic: Option<Uuid>,
    recovery_point: i64,
    start: i64,
    high_watermark: i64,
}

/// Whose marks have to be written before it goes on.
#[derive(Clone, Debug)]
enum Unmarked {
    /// A log that was cut, and where.
    Cut(u32, i64),
    /// A copy that is to take the place of its log.
    Copy(u32),
    /// Logs that are deleted, whose partitions may come back here.
    Gone(Vec<(TopicPartition, u32)>),
}

/// A log's directory entry with its marks; none for a log that is gone.
pub type Report = (DirId, String, Option<Marks>);

/// What a shard has to report and, in shard 0, what all have reported.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    changed: BTreeMap<(DirId, String), Option<Marks>>,
    known: BTreeMap<DirId, BTreeMap<String, Marks>>,
    /// Shards that have reported; a file is written when all have, or it would forget logs of the others.
    heard: std::collections::BTreeSet<ShardId>,
    /// Directories whose files are behind.
    behind: std::collections::BTreeSet<DirId>,
    /// Directories where a file could not be written: the next report tries all of them again.
    unwritten: std::collections::BTreeSet<DirId>,
    /// Files being written.
    writing: BTreeMap<u32, DirId>,
    /// What the topic id checkpoint of a directory will say once the offsets that are being written are.
    topics_next: BTreeMap<DirId, Bytes>,
    /// Directories whose topic id checkpoint is behind.
    topics_behind: std::collections::BTreeSet<DirId>,
    timer_set: bool,
    /// What of this shard waits for its marks to be written, which is asked for in order.
    unmarked: VecDeque<Unmarked>,
    /// Logs that are deleted since the last report.
    gone: Vec<(TopicPartition, u32)>,
    /// Shard 0: who waits for everything reported so far to be written.
    waiting: Vec<ShardId>,
}

impl Checkpoints {
    /// What recovery found, so that the first file written names every log, also those that nothing happens to.
    pub(crate) fn found(logs: &[RecoveredLog]) -> Checkpoints {
        let marks = |log: &RecoveredLog| Marks {
            topic: log.topic_id,
            recovery_point: log.flushed_offset(),
            start: log.start_offset(),
            high_watermark: log.high_watermark,
        };
        let changed = logs.iter().map(|log| ((log.dir(), log.name().to_owned()), Some(marks(log))));
        Checkpoints { changed: changed.collect(), ..Checkpoints::default() }
    }
}

/// A log has flushed: its recovery point moves.
pub(crate) fn flushed(shard: &mut Shard, number: u32) {
    changed(shard, number);
    crate::stop::flushed(shard, number);
}

/// A mark of a log has moved, or its deletion begins.
pub(crate) fn changed(shard: &mut Shard, number: u32) {
    note(shard, number);
    write_soon(shard);
}

/// Notes where a log's marks are.
fn note(shard: &mut Shard, number: u32) {
    let Some((log, replica)) = log_of(&mut shard.partitions, number) else { return };
    let marks = Marks {
        topic: Some(log.topic()),
        recovery_point: log.flushed_offset(),
        start: log.start_offset(),
        high_watermark: replica.high_watermark(),
    };
    // From the beginning of its deletion on, a log's name may belong to another one.
    let marks = (*log.state() != State::Deleting).then_some(marks);
    let key = (log.dir(), log.name().to_owned());
    shard.partitions.checkpoints().changed.insert(key, marks);
}

/// A log was cut at `end_offset`: its marks are written down before anything is appended to it.
pub(crate) fn before_append(shard: &mut Shard, number: u32, end_offset: i64) {
    note(shard, number);
    want(shard, Unmarked::Cut(number, end_offset));
}

/// A copy has all that its log has: its marks are written down before it takes the place of the log.
pub(crate) fn before_move(shard: &mut Shard, at: u32) {
    let Some((copy, slot)) = crate::partitions::copy_of(&shard.partitions, at) else { return };
    let marks = Marks {
        topic: Some(copy.topic()),
        recovery_point: copy.flushed_offset(),
        start: slot.log.start_offset(),
        high_watermark: slot.replica.high_watermark(),
    };
    let key = (copy.dir(), copy.name().to_owned());
    shard.partitions.checkpoints().changed.insert(key, Some(marks));
    want(shard, Unmarked::Copy(at));
}

/// A log is deleted. Until its marks are, one that takes its name would be given them.
pub(crate) fn after_deletion(shard: &mut Shard, id: TopicPartition, number: u32) {
    shard.partitions.checkpoints().gone.push((id, number));
    write_soon(shard);
}

/// There is no log of this name in that log directory, or no longer.
pub(crate) fn left(shard: &mut Shard, dir: DirId, name: String) {
    shard.partitions.checkpoints().changed.insert((dir, name), None);
    write_soon(shard);
}

fn want(shard: &mut Shard, waits: Unmarked) {
    let reports = take_reports(shard);
    shard.partitions.checkpoints().unmarked.push_back(waits);
    shard.tell(ShardId(0), Message::Checkpoint(reports));
    shard.tell(ShardId(0), Message::CheckpointWanted);
}

/// Shard 0: another shard waits for what it has reported.
pub(crate) fn wanted(shard: &mut Shard, from: ShardId) {
    shard.partitions.checkpoints().waiting.push(from);
    tell_if_written(shard);
}

/// A mark that could not be written is tried again: the one on disk is above the cut.
fn tell_if_written(shard: &mut Shard) {
    let checkpoints = shard.partitions.checkpoints();
    if !checkpoints.waiting.is_empty() && checkpoints.unwritten.is_empty() && is_written(shard) {
        for waiting in std::mem::take(&mut shard.partitions.checkpoints().waiting) {
            shard.tell(waiting, Message::CheckpointWritten);
        }
    }
}

/// What this shard reported with the oldest that waits is written; what it has reported since may not be.
pub(crate) fn written(shard: &mut Shard) {
    match shard.partitions.checkpoints().unmarked.pop_front() {
        Some(Unmarked::Cut(number, end_offset)) => {
            crate::partitions::cut_is_written(shard, number, end_offset);
        }
        Some(Unmarked::Copy(at)) => crate::partitions::move_is_marked(shard, at),
        Some(Unmarked::Gone(gone)) => {
            gone.into_iter().for_each(|(id, number)| shard.partitions.has_left(id, number));
        }
        None => {}
    }
}

/// Something changed that shall be written down.
pub(crate) fn write_soon(shard: &mut Shard) {
    if !std::mem::replace(&mut shard.partitions.checkpoints().timer_set, true) {
        let at = shard.now.mono.after_ms(DELAY_MS);
        shard.timers.set(Timer::Checkpoint, Some(at));
    }
}

/// Reports what changed in this shard's logs.
pub(crate) fn tick(shard: &mut Shard) {
    shard.partitions.checkpoints().timer_set = false;
    let gone = std::mem::take(&mut shard.partitions.checkpoints().gone);
    if !gone.is_empty() {
        return want(shard, Unmarked::Gone(gone));
    }
    let reports = take_reports(shard);
    shard.tell(ShardId(0), Message::Checkpoint(reports));
}

pub(crate) fn take_reports(shard: &mut Shard) -> Vec<Report> {
    let changed = std::mem::take(&mut shard.partitions.checkpoints().changed);
    changed.into_iter().map(|((dir, name), marks)| (dir, name, marks)).collect()
}

/// Notes every log, for the last report before a stop.
pub(crate) fn note_all(shard: &mut Shard) {
    for number in shard.partitions.numbers() {
        let deleting = |(log, _): (&mut Log, &Partition)| *log.state() == State::Deleting;
        if !log_of(&mut shard.partitions, number).is_some_and(deleting) {
            note(shard, number);
        }
    }
}

/// Shard 0: takes in a report and writes the files that it changes.
pub(crate) fn report(shard: &mut Shard, from: ShardId, reports: Vec<Report>) {
    let checkpoints = shard.partitions.checkpoints();
    checkpoints.heard.insert(from);
    checkpoints.behind.append(&mut checkpoints.unwritten);
    for (dir, name, marks) in reports {
        let known = checkpoints.known.entry(dir).or_default();
        let topic = marks.map(|marks| marks.topic);
        let before = match marks {
            Some(marks) => known.insert(name, marks),
            None => known.remove(&name),
        };
        checkpoints.behind.insert(dir);
        if before.map(|marks| marks.topic) != topic {
            checkpoints.topics_behind.insert(dir);
        }
    }
    write(shard);
}

fn write(shard: &mut Shard) {
    let shards = usize::from(shard.settings.shards);
    let checkpoints = shard.partitions.checkpoints();
    if checkpoints.heard.len() < shards {
        return;
    }
    let writing: Vec<DirId> = checkpoints.writing.values().copied().collect();
    let dirs: Vec<DirId> = checkpoints.behind.iter().copied().filter(|dir| !writing.contains(dir)).collect();
    for dir in dirs {
        let checkpoints = shard.partitions.checkpoints();
        checkpoints.behind.remove(&dir);
        let known = checkpoints.known.get(&dir);
        let file = |mark: fn(&Marks) -> i64| {
            let entries = known.into_iter().flatten().map(|(name, marks)| (name.as_str(), mark(marks)));
            Bytes::from(moldau_storage::encode_offsets(entries))
        };
        let files = [
            (RECOVERY_POINT_CHECKPOINT, file(|marks| marks.recovery_point)),
            (LOG_START_CHECKPOINT, file(|marks| marks.start)),
            (HIGH_WATERMARK_CHECKPOINT, file(|marks| marks.high_watermark)),
        ];
        let topics = checkpoints.topics_behind.remove(&dir).then(|| topics_of(known));
        checkpoints.topics_next.extend(topics.map(|data| (dir, data)));
        for (name, data) in files {
            let seq = shard_op(shard, Op::Replace { path: Path::new(dir, name), data });
            shard.partitions.checkpoints().writing.insert(seq, dir);
        }
    }
}

/// What the topic id checkpoint says once these marks are written.
fn topics_of(known: Option<&BTreeMap<String, Marks>>) -> Bytes {
    let topics = known.into_iter().flatten().map(|(name, marks)| (name.as_str(), marks.topic));
    Bytes::from(moldau_storage::encode_topic_ids(topics))
}

/// Shard 0: directories whose checkpoints do not say what was reported.
pub(crate) fn unwritten(shard: &mut Shard) -> Vec<DirId> {
    shard.partitions.checkpoints().unwritten.iter().copied().collect()
}

/// Shard 0: all that was reported is written, or was tried.
pub(crate) fn is_written(shard: &mut Shard) -> bool {
    let checkpoints = shard.partitions.checkpoints();
    checkpoints.writing.is_empty() && checkpoints.behind.is_empty()
}

/// An operation of the shard itself has ended.
pub(crate) fn shard_op_done(shard: &mut Shard, seq: u32, done: Done) {
    let Some(dir) = shard.partitions.checkpoints().writing.remove(&seq) else {
        return crate::boot::shard_op_done(shard, seq, done);
    };
    if let Done::Failed(fault) = done {
        // Recovery then reads from an older point; nothing is lost.
        shard.trace(Trace::Warning(format!(
            "log directory {}: a checkpoint could not be written: {fault}",
            dir.0
        )));
        let checkpoints = shard.partitions.checkpoints();
        checkpoints.topics_next.remove(&dir);
        checkpoints.topics_behind.insert(dir);
        checkpoints.unwritten.insert(dir);
        write_soon(shard);
    }
    let checkpoints = shard.partitions.checkpoints();
    if !checkpoints.writing.values().any(|other| *other == dir)
        && let Some(data) = checkpoints.topics_next.remove(&dir)
    {
        let seq = shard_op(shard, Op::Replace { path: Path::new(dir, TOPIC_ID_CHECKPOINT), data });
        shard.partitions.checkpoints().writing.insert(seq, dir);
    }
    write(shard);
    tell_if_written(shard);
    crate::stop::checkpoint_written(shard);
}
