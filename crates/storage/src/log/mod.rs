//! One partition's log as a state machine: it computes, asks for operations, and is told how they ended. It never does
//! I/O, reads a clock or waits.
//!
//! Nothing is written before the first append. An append is visible and may be acknowledged once it is below
//! [`Log::stored_offset`]; it survives a power loss once it is below [`Log::flushed_offset`] (with `flush.messages=1`, stored
//! means synced). A failed write or sync takes the log offline and is never retried; only a full disk is survived: what
//! could not be written is taken back ([`Events::rolled_back`]) and appends are refused until the disk takes them again.

mod append;
mod busy;
mod flush;
mod folder;
mod open;
mod read;
mod retain;
mod seek;

use std::collections::VecDeque;

use bytes::Bytes;
use moldau_base::disk::{DirId, Done, Fault, FileId, Op, OpId, Ops, Path};
use moldau_base::{Mono, Now, Uuid};

pub use append::{AppendError, Appended};
pub(crate) use open::LogParts;
pub use read::{Damage, Range, Read, ReadId, ReadRequest, Refusal};

use crate::config::LogConfig;
use crate::epochs::EpochHistory;
use crate::index::IndexCache;
use crate::names::{FileKind, file_name};
use crate::segment::{FileBlock, Segment};
use busy::Busy;
use flush::Dirty;
pub use flush::{FLUSH_BYTES, FLUSH_INTERVAL_MS};
use moldau_base::ProducerEntry;

/// Asked for the producer state that belongs to all batches below [`Log::end_offset`], when a snapshot is written.
pub type Producers<'a> = &'a mut dyn FnMut() -> Vec<ProducerEntry>;

/// How long appends are refused after the disk was found full, before the next one is tried.
pub const FULL_RETRY_MS: i64 = 1_000;

/// What a log can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Online,
    /// The disk is full: appends are refused until the given moment, when the next one is tried.
    Full {
        /// When.
        until: Mono,
    },
    /// A truncation is on its way: appends are refused until [`Events::truncated`].
    Truncating,
    /// A write or sync failed: nothing is possible until a restart.
    Offline(Fault),
    /// The log is being deleted.
    Deleting,
}

/// What happened to a log since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// [`Log::stored_offset`] went up to this.
    pub stored: Option<i64>,
    /// [`Log::flushed_offset`] went up to this: the recovery point may follow.
    pub flushed: Option<i64>,
    /// The disk was full. Everything from this offset on was not stored and is gone: refuse it to its producers.
    pub rolled_back: Option<i64>,
    /// [`Log::start_offset`] went up to this by retention.
    pub start: Option<i64>,
    /// A truncation has ended; the log ends here.
    pub truncated: Option<i64>,
    /// Reads that were pending.
    pub reads: Vec<(ReadId, Read)>,
    /// Batches or indexes that are not what was written.
    pub damage: Vec<Damage>,
    /// A file could not be removed; it stays.
    pub leftovers: Vec<Fault>,
    /// The log's folder has another name, or the disk was too full for that.
    pub renamed: Option<Result<(), Fault>>,
    /// The log went offline.
    pub offline: Option<Fault>,
    /// The log's files are gone.
    pub deleted: bool,
}

impl Events {
    /// True when nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Events::default()
    }
}

/// Why an operation was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    /// Batches of an append.
    Append,
    /// A sync of a log file, possibly a step of a flush.
    Sync(Option<u32>),
    /// A step of a flush that may be tried again when the disk was full.
    Step(u32),
    /// A file that is a step of a flush, as above, and after which the next one is written.
    Written(u32),
    /// The snapshot of no producers, at the log's beginning, instead of one that knows what is cut off: a step of a cut.
    Beginning { at: i64, instead_of: i64 },
    /// A sync of an index file, a step of a flush. On a full disk the file may be missing, or without what was written: the next flush
    /// writes all of it again. Any other failure is final.
    StepSync(u32),
    /// A read for this job.
    Read(ReadId),
    /// The write of `partition.metadata`, tried again with the next append when the disk was full.
    Metadata,
    /// A sync or rename of a cut: the last one ends it.
    Cut,
    /// The rename of a file of the segment with this base offset, which was cut off, a step of a cut.
    Discard(i64, FileKind, FileId),
    /// A write of nothing, which makes a file. On a full disk it is not made; what needs it finds it missing.
    Make,
    /// The sync that makes the name of the segment with this base offset durable; tried again when the disk was full.
    Named(i64),
    /// The rename that takes the segment with this base offset out of the log.
    Retire(i64),
    /// The sync of `partition.metadata` as this file, possibly a step of a flush.
    SyncMetadata(FileId, Option<u32>),
    /// Something whose failure takes the log offline and whose success needs nothing; a file that is missing needs nothing either.
    Must,
    /// Something that may fail.
    May,
    /// The rename of the log's folder.
    Folder,
    /// The rename that deletes the log.
    Leave,
    /// The same, once the files are empty.
    LeaveEmpty,
    /// The last operation of a deletion.
    Gone,
}

/// One partition's log.
#[derive(Debug)]
pub struct Log {
    dir: DirId,
    name: String,
    /// What its directory is called, where that is not its name.
    folder: Option<Box<str>>,
    topic: Uuid,
    config: LogConfig,
    state: State,
    ops: Ops,
    files: FileBlock,
    /// The file `partition.metadata` while it is not known to be durable.
    metadata: Metadata,
    segments: VecDeque<Segment>,
    start: i64,
    end: i64,
    /// End of what is in the page cache, of what is synced, and of what may be served, each with its place.
    written: Place,
    synced: Place,
    stored: Place,
    flushed: i64,
    epochs: EpochHistory,
    epochs_dirty: bool,
    /// Offset of the producer snapshot on disk.
    snapshot: Option<i64>,
    /// That of the one before, whose removal may not be durable.
    removed_snapshot: Option<i64>,
    dirty: Dirty,
    busy: Busy,
    next_flush: u32,
    next_read: u32,
    /// Syncs of a cut that are on their way.
    cut_steps: u32,
    /// In a box, and only when something happened.
    events: Option<Box<Events>>,
}

/// State of `partition.metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    Missing,
    Written(FileId),
    Syncing(FileId),
    Durable,
}

/// An offset that is a batch boundary, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: i64,
    segment: i64,
    position: u64,
}

impl Log {
    /// Changes the topic's settings.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
        self.advance_stored();
    }

    /// The settings.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Its name, `<topic>-<partition>`, under which checkpoints know it. So is its directory called, unless it is a copy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log directory.
    pub fn dir(&self) -> DirId {
        self.dir
    }

    /// The topic's id.
    pub fn topic(&self) -> Uuid {
        self.topic
    }

    /// The first offset that may be read.
    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// The next offset to be given.
    pub fn end_offset(&self) -> i64 {
        self.end
    }

    /// Everything below has been written, or, with `flush.messages=1`, synced: it may be acknowledged and served.
    pub fn stored_offset(&self) -> i64 {
        self.stored.offset
    }

    /// Everything below survives a power loss, with indexes, epochs and producer state: the recovery point.
    pub fn flushed_offset(&self) -> i64 {
        self.flushed
    }

    /// Bytes of all log files.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The leader epochs.
    pub fn epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    /// What the log can do.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Operations asked for since the last call, in order. Carry them out before using a [`Range`] that was returned after they
    /// were asked for: it may name a file that they open.
    pub fn take_ops(&mut self) -> Vec<(OpId, Op)> {
        self.ops.take()
    }

    /// True when [`Log::take_ops`] has something.
    pub fn has_ops(&self) -> bool {
        !self.ops.is_empty()
    }

    /// True when [`Log::take_events`] may have something.
    pub fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Events {
        self.events.take().map_or_else(Events::default, |events| *events)
    }

    fn events(&mut self) -> &mut Events {
        self.events.get_or_insert_default()
    }

    /// When [`Log::tick`] has something to do for a flush; `None` while nothing is dirty.
    pub fn deadline(&self) -> Option<Mono> {
        self.flush_deadline()
    }

    /// Call at [`Log::deadline`]: starts a flush that is due, removes files whose delay is over, gives memory back.
    pub fn tick(&mut self, now: Now, producers: Producers<'_>) {
        if self.is_unusable() {
            return;
        }
        self.flush_if_due(now, producers);
        self.remove_doomed(now);
        self.shrink();
    }

    /// Call every `log.retention.check.interval.ms`: rolls by time, and deletes what retention no longer keeps below
    /// `high_watermark`.
    pub fn retention_pass(&mut self, now: Now, high_watermark: i64, producers: Producers<'_>) {
        self.tick(now, producers);
        if !self.is_unusable() && self.state != State::Truncating {
            self.retain(now, high_watermark, producers);
        }
    }

    /// Tells how an operation ended. Numbers that are not known are ignored.
    pub fn done(&mut self, now: Now, cache: &mut IndexCache, seq: u32, done: Done) {
        let Some(pending) = self.busy.pending.remove(&seq) else { return };
        let is_of_folder =
            matches!(pending, Pending::Folder | Pending::Leave | Pending::LeaveEmpty | Pending::Gone);
        if self.is_unusable() && !is_of_folder {
            return;
        }
        self.take_in(now, cache, (seq, pending), done);
        self.rename_when_quiet();
    }

    fn take_in(&mut self, now: Now, cache: &mut IndexCache, (seq, pending): (u32, Pending), done: Done) {
        match pending {
            Pending::Append => self.append_done(now, cache, seq, done),
            Pending::Sync(job) => self.sync_done(now, cache, seq, job, done),
            Pending::Step(job) => self.step_done(now, cache, job, done),
            Pending::Written(job) => self.written(now, cache, job, done),
            Pending::Beginning { at, instead_of } => self.begun(at, instead_of, done),
            Pending::StepSync(job) => match done {
                Done::Failed(Fault::Missing) => self.step_done(now, cache, job, Done::Failed(Fault::Full)),
                done => self.step_done(now, cache, job, done),
            },
            Pending::Read(id) => self.read_done(now, cache, id, done),
            Pending::Must => self.or_offline(done, &[Fault::Missing]),
            Pending::Make => self.or_offline(done, &[Fault::Full]),
            Pending::Discard(base, kind, file) if done == Done::Failed(Fault::Full) => {
                self.discard_emptied(base, kind, file);
            }
            Pending::Cut | Pending::Discard(..) => match done {
                Done::Failed(fault) if fault != Fault::Missing => self.go_offline(fault),
                _ => self.cut_done(),
            },
            Pending::Named(base) => match done {
                Done::Failed(_) => self.or_offline(done, &[Fault::Missing, Fault::Full]),
                _ => self.named(now, base),
            },
            Pending::Retire(base) => self.retired(cache, base, done),
            Pending::SyncMetadata(file, job) => self.metadata_synced(now, cache, (file, job), done),
            Pending::Metadata => match done {
                Done::Failed(Fault::Full) => self.metadata_refused(now),
                done => self.or_offline(done, &[]),
            },
            Pending::May => self.note_leftover(done),
            Pending::Folder => self.folder_renamed(cache, done),
            Pending::Leave | Pending::LeaveEmpty => self.renamed_away(pending, done),
            Pending::Gone => {
                self.note_leftover(done);
                self.events().deleted = true;
            }
        }
    }

    /// A failure takes the log offline, unless it is one of `allowed`.
    fn or_offline(&mut self, done: Done, allowed: &[Fault]) {
        if let Done::Failed(fault) = done
            && !allowed.contains(&fault)
        {
            self.go_offline(fault);
        }
    }

    fn cut_done(&mut self) {
        self.cut_steps -= 1;
        if self.cut_steps == 0 && self.state == State::Truncating {
            self.state = State::Online;
            self.events().truncated = Some(self.end);
        }
    }

    fn note_leftover(&mut self, done: Done) {
        match done {
            Done::Failed(Fault::Missing) | Done::Ok | Done::Read(_) => {}
            Done::Failed(fault) => self.events().leftovers.push(fault),
        }
    }

    /// The log directory failed elsewhere: this log stops too. Pending reads are refused.
    pub fn go_offline(&mut self, fault: Fault) {
        if self.is_unusable() {
            return;
        }
        self.events().offline = Some(fault.clone());
        self.refuse_reads(&Refusal::Offline(fault.clone()));
        self.state = State::Offline(fault);
        self.busy.appends.clear();
        self.busy.syncs.clear();
        self.busy.flushes.clear();
        self.busy.files.clear();
        self.dirty = Dirty::default();
    }

    fn is_unusable(&self) -> bool {
        matches!(self.state, State::Offline(_) | State::Deleting)
    }

    fn ask(&mut self, op: Op, why: Pending) -> u32 {
        let seq = self.ops.push(op).seq;
        self.busy.pending.insert(seq, why);
        seq
    }

    fn path(&self, file: &str) -> Path {
        Path::new(self.dir, format!("{}/{file}", self.folder()))
    }

    /// The id of a segment's file, opened if it was not.
    fn file(&mut self, segment: usize, kind: FileKind) -> FileId {
        let (first, base) = (self.segments[segment].open(kind), self.segments[segment].base);
        let file = self.segments[segment].file(kind);
        if first {
            let path = self.path(&file_name(base, kind));
            self.ask(Op::Open { file, path, create: true }, Pending::Must);
        }
        file
    }

    fn active(&self) -> usize {
        self.segments.len() - 1
    }

    /// The place in [`Log::segments`] of the segment that holds `offset`, if one does.
    fn segment_of(&self, offset: i64) -> Option<usize> {
        self.segments.partition_point(|s| s.base <= offset).checked_sub(1)
    }

    fn segment_at(&self, base: i64) -> Option<usize> {
        self.segments.binary_search_by_key(&base, |s| s.base).ok()
    }

    /// Where a segment's offsets end.
    fn segment_end(&self, segment: usize) -> i64 {
        self.segments.get(segment + 1).map_or(self.end, |next| next.base)
    }

    fn end_place(&self) -> Place {
        match self.segments.back() {
            Some(active) => Place { offset: self.end, segment: active.base, position: active.size },
            None => Place { offset: self.end, segment: self.end, position: 0 },
        }
    }

    /// Gives back the memory that only an active log needs.
    fn shrink(&mut self) {
        let idle = self.dirty.since.is_none() && self.busy.flushes.is_empty() && self.busy.appends.is_empty();
        if idle {
            self.busy.rest();
        }
    }
}

/// Bytes of a file range, as [`Read::Bytes`] carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whole batches.
    pub bytes: Bytes,
    /// Offset to continue at.
    pub next_offset: i64,
}
