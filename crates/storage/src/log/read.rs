//! Reading: where the bytes for a fetch are, the batch for a timestamp, chunks for a loader, the place of a truncation.
//!
//! Answers are ranges of files that begin and end at batch boundaries. Boundaries come, in this order, from the marks of recent
//! appends, the ends of earlier ranges, index entries in memory, index files (whole, through the [`IndexCache`]), and headers
//! read from the log file. What needs the disk becomes a job that goes on when its operation ends.
//!
//! What is promised about damage: a header that is looked at is checked against its place in the log. The bytes of a range are
//! not; they carry the producer's checksum to the consumer. `moldau log dump --verify` checks all of them.

use std::collections::VecDeque;

use bytes::Bytes;
use moldau_base::Now;
use moldau_base::disk::{Done, Fault, FileId, Op};

use super::seek::{Stage, Step};
use super::{Chunk, IndexCache, Log, Pending, State};
use crate::index::{INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES, TimeEntry, parse_index, parse_time_index};
use crate::names::FileKind;

/// Ends of earlier ranges that are remembered per log.
const CURSORS_MAX: usize = 16;

/// Names a pending read of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u32);

/// What a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Where to begin; the range begins with the batch that holds it.
    pub offset: i64,
    /// Largest range, in bytes.
    pub max_bytes: u32,
    /// Give the first batch whole even if it is larger than `max_bytes`.
    pub min_one_batch: bool,
    /// Nothing at or behind this offset: the high watermark, the last stable offset, or the log's end.
    pub upto: i64,
}

/// Whole batches in a file. Its file stays readable as long as the host holds it, even when the segment is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The file.
    pub file: FileId,
    /// Where the first batch begins.
    pub position: u64,
    /// Length in bytes.
    pub len: u32,
    /// The offset behind the last batch: where a reader continues.
    pub next_offset: i64,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The bytes are there.
    Ready(Range),
    /// The bytes, for those who asked for bytes.
    Bytes(Chunk),
    /// There is nothing to give: the offset is at or behind `upto`, no batch matches, or the first batch is larger than `max_bytes`.
    Empty,
    /// The answer comes as an event.
    Pending(ReadId),
    /// There is no answer.
    Refused(Refusal),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The offset is before the log's start or behind its end.
    #[error("the offset is not in the log")]
    OutOfRange,
    /// A write or sync failed before.
    #[error("the log is offline: {0}")]
    Offline(Fault),
    /// The log is being deleted.
    #[error("the log is being deleted")]
    Deleting,
    /// The batch that is wanted, or one before it, is not what was written.
    #[error("{0}")]
    Damaged(Damage),
    /// The disk did not give the bytes.
    #[error("the log cannot be read: {0}")]
    Failed(Fault),
}

/// Something in a file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment}, {kind:?} file, byte {position}: {what}")]
pub struct Damage {
    /// Base offset of the segment.
    pub segment: i64,
    /// Which of its files.
    pub kind: FileKind,
    /// Where in the file.
    pub position: u64,
    /// What is wrong.
    pub what: String,
}

/// Where an earlier range ended: a batch boundary that a reader will ask for next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) offset: i64,
    pub(super) segment: i64,
    pub(super) position: u64,
}

/// What a job is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// A range.
    Range(ReadRequest),
    /// Its bytes.
    Bytes(ReadRequest),
    /// The bytes of the first batch from `from` on whose greatest timestamp is not below.
    Timestamp { timestamp_ms: i64, from: i64, upto: i64 },
    /// The bytes of the batch that holds the target.
    Batch { upto: i64 },
    /// The place where the batch that holds the target begins, to cut there. With the greatest timestamp of the batches
    /// passed on the way, and its batch's last offset.
    Cut { newest: (i64, i64), now: Now },
}

/// A read that needs the disk.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) want: Want,
    pub(super) segment: i64,
    pub(super) target: i64,
    pub(super) stage: Stage,
    /// Bytes of the log file that were read last.
    pub(super) window: Window,
    /// The segment's time index, once it was read.
    pub(super) times: Option<Vec<TimeEntry>>,
    /// The entry of a time index that lets the search for a timestamp begin behind it.
    pub(super) passed: Option<TimeEntry>,
    expects: Expects,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) position: u64,
    pub(super) bytes: Bytes,
    /// How many windows were read: later ones are larger.
    pub(super) count: u32,
}

/// What the operation on its way will bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    Nothing,
    Index,
    TimeIndex,
    Window(u64),
    Data,
}

impl Job {
    fn new(want: Want, segment: i64, target: i64) -> Job {
        Job {
            want,
            segment,
            target,
            stage: Stage::Enter,
            window: Window::default(),
            times: None,
            passed: None,
            expects: Expects::Nothing,
        }
    }
}

impl Log {
    /// Where the bytes for a fetch are.
    pub fn read(&mut self, cache: &mut IndexCache, request: ReadRequest) -> Read {
        self.begin_read(cache, request, Want::Range(request))
    }

    /// As [`Log::read`], but the answer is the bytes: for loaders of internal topics. Their checksums are the caller's to check.
    pub fn read_bytes(&mut self, cache: &mut IndexCache, request: ReadRequest) -> Read {
        self.begin_read(cache, request, Want::Bytes(request))
    }

    /// The bytes of the first batch below `upto` whose greatest timestamp is at least `timestamp_ms`, or [`Read::Empty`]. The record
    /// is somewhere in it.
    pub fn find_timestamp(&mut self, cache: &mut IndexCache, timestamp_ms: i64, upto: i64) -> Read {
        if let Some(refusal) = self.refusal() {
            return Read::Refused(refusal);
        }
        let upto = upto.min(self.stored.offset);
        let want = Want::Timestamp { timestamp_ms, from: self.start, upto };
        match self.segments.iter().find(|s| s.max_timestamp >= timestamp_ms) {
            Some(segment) => {
                let job = Job::new(want, segment.base, segment.base.max(self.start));
                self.begin(cache, job)
            }
            None => Read::Empty,
        }
    }

    /// The bytes of the batch below `upto` with the greatest timestamp of the log, the first of them if there are several;
    /// [`Read::Empty`] when there is none.
    pub fn max_timestamp(&mut self, cache: &mut IndexCache, upto: i64) -> Read {
        if let Some(refusal) = self.refusal() {
            return Read::Refused(refusal);
        }
        let upto = upto.min(self.stored.offset);
        // The first of the greatest: `max_by_key` would give the last.
        let newest = self.segments.iter().rev().max_by_key(|s| s.max_timestamp);
        match newest {
            Some(s) if s.max_timestamp >= 0 && s.max_timestamp_last < upto => {
                let target = s.max_timestamp_last.max(self.start);
                let job = Job::new(Want::Batch { upto }, s.base, target);
                self.begin(cache, job)
            }
            _ => Read::Empty,
        }
    }

    /// Cuts the log so that it ends at `to`, or where the batch that holds `to` begins. Ends with [`super::Events::truncated`].
    ///
    /// If the recovery point on disk is above [`Log::flushed_offset`] then, it must be lowered before the next append: recovery trusts
    /// what lies below it.
    pub fn truncate(&mut self, now: Now, cache: &mut IndexCache, to: i64) {
        if self.is_unusable() || self.state == State::Truncating {
            return;
        }
        if to >= self.end {
            self.events().truncated = Some(self.end);
            return;
        }
        match self.segment_of(to) {
            Some(at) if to > self.segments[0].base => {
                self.state = State::Truncating;
                let base = self.segments[at].base;
                let read = self.begin(cache, Job::new(Want::Cut { newest: (-1, base), now }, base, to));
                self.cut_sought(now, cache, (base, to), read);
            }
            _ => self.restart_at(now, cache, to),
        }
    }

    fn begin_read(&mut self, cache: &mut IndexCache, mut request: ReadRequest, want: Want) -> Read {
        if let Some(refusal) = self.refusal() {
            return Read::Refused(refusal);
        }
        if request.offset < self.start || request.offset > self.end {
            return Read::Refused(Refusal::OutOfRange);
        }
        request.upto = request.upto.min(self.stored.offset);
        if request.offset >= request.upto {
            return Read::Empty;
        }
        let Some(at) = self.segment_of(request.offset) else { return Read::Refused(Refusal::OutOfRange) };
        let want = match want {
            Want::Bytes(_) => Want::Bytes(request),
            _ => Want::Range(request),
        };
        let job = Job::new(want, self.segments[at].base, request.offset);
        self.begin(cache, job)
    }

    fn refusal(&self) -> Option<Refusal> {
        match &self.state {
            State::Offline(fault) => Some(Refusal::Offline(fault.clone())),
            State::Deleting => Some(Refusal::Deleting),
            _ => None,
        }
    }

    fn begin(&mut self, cache: &mut IndexCache, job: Job) -> Read {
        let id = ReadId(self.next_read);
        self.next_read = self.next_read.wrapping_add(1);
        let is_cut = matches!(job.want, Want::Cut { .. });
        match self.busy.renaming.is_some() && !is_cut {
            true => self.hold(id, job),
            false => self.drive(cache, id, job),
        }
    }

    /// Goes on with a job until it ends or needs the disk.
    pub(super) fn drive(&mut self, cache: &mut IndexCache, id: ReadId, mut job: Job) -> Read {
        loop {
            match self.step(cache, &mut job) {
                Step::Again => {}
                Step::Done(read) => return read,
                Step::Load { kind, position, len, expects } => {
                    let Some(at) = self.segment_at(job.segment) else {
                        return Read::Refused(Refusal::OutOfRange);
                    };
                    let file = self.file(at, kind);
                    self.ask(Op::Read { file, position, len }, Pending::Read(id));
                    job.expects = expects;
                    self.busy.jobs.insert(id, job);
                    return Read::Pending(id);
                }
            }
        }
    }

    pub(super) fn read_done(&mut self, now: Now, cache: &mut IndexCache, id: ReadId, done: Done) {
        let Some(mut job) = self.busy.jobs.remove(&id) else { return };
        let is_cut = matches!(job.want, Want::Cut { .. });
        let place = (job.segment, job.target);
        let done = match done {
            // As one that ends at once: without an index headers are read, a log without its file is damaged.
            Done::Failed(Fault::Missing) => Done::Read(Bytes::new()),
            done => done,
        };
        let read = match done {
            Done::Read(bytes) => match self.absorb(cache, &mut job, bytes) {
                Ok(None) => self.drive(cache, id, job),
                Ok(Some(read)) => read,
                Err(damage) => Read::Refused(self.damaged(damage)),
            },
            Done::Failed(fault) => Read::Refused(Refusal::Failed(fault)),
            Done::Ok => Read::Refused(Refusal::Failed(Fault::Io("a read brought no bytes".into()))),
        };
        match read {
            read if is_cut => self.cut_sought(now, cache, place, read),
            Read::Pending(_) => {}
            read => self.events().reads.push((id, read)),
        }
    }

    /// The search for the place of a cut at `target` has come this far, possibly without a read: what is left of a damaged file may be too
    /// short for one. It must not stay without an end.
    fn cut_sought(&mut self, now: Now, cache: &mut IndexCache, (segment, target): (i64, i64), read: Read) {
        match read {
            Read::Refused(Refusal::OutOfRange) => {
                // The segment went while its place was looked for.
                self.state = State::Online;
                self.truncate(now, cache, target);
            }
            Read::Refused(refusal) => {
                self.go_offline(Fault::Io(format!("truncation in segment {segment}: {refusal}")));
            }
            _ => {}
        }
    }

    /// Takes what a read brought. `Some` when that was all.
    fn absorb(
        &mut self,
        cache: &mut IndexCache,
        job: &mut Job,
        bytes: Bytes,
    ) -> Result<Option<Read>, Damage> {
        let Some(at) = self.segment_at(job.segment) else {
            return Ok(Some(Read::Refused(Refusal::OutOfRange)));
        };
        let segment = &self.segments[at];
        match std::mem::replace(&mut job.expects, Expects::Nothing) {
            Expects::Nothing => {}
            Expects::Index => {
                let entries = match parse_index(&bytes, segment.size) {
                    Ok(entries) => entries,
                    Err(bad) => {
                        // Without an index, headers are read from the segment's beginning.
                        let position = bad.entry as u64 * INDEX_ENTRY_BYTES;
                        self.note_damage(job.segment, FileKind::Index, position, bad.to_string());
                        Vec::new()
                    }
                };
                cache.insert(self.segments[at].file(FileKind::Index), entries);
            }
            Expects::TimeIndex => match parse_time_index(&bytes) {
                Ok(entries) => job.times = Some(entries),
                Err(bad) => {
                    let position = bad.entry as u64 * TIME_ENTRY_BYTES;
                    self.note_damage(job.segment, FileKind::TimeIndex, position, bad.to_string());
                    job.times = Some(Vec::new());
                }
            },
            Expects::Window(position) => {
                if bytes.is_empty() {
                    return Err(self.damage(job.segment, position, "the file ends here".into()));
                }
                job.window = Window { position, bytes, count: job.window.count + 1 };
            }
            Expects::Data => {
                let Stage::Data(range) = job.stage else { return Ok(Some(Read::Empty)) };
                if bytes.len() != range.len as usize {
                    let end = range.position + bytes.len() as u64;
                    return Err(self.damage(job.segment, end, "the file ends here".into()));
                }
                return Ok(Some(Read::Bytes(Chunk { bytes, next_offset: range.next_offset })));
            }
        }
        Ok(None)
    }

    pub(super) fn damage(&self, segment: i64, position: u64, what: String) -> Damage {
        Damage { segment, kind: FileKind::Log, position, what }
    }

    /// Reports damage, and refuses with it.
    pub(super) fn damaged(&mut self, damage: Damage) -> Refusal {
        self.note_damage(damage.segment, damage.kind, damage.position, damage.what.clone());
        Refusal::Damaged(damage)
    }

    pub(super) fn note_damage(&mut self, segment: i64, kind: FileKind, position: u64, what: String) {
        let damage = Damage { segment, kind, position, what };
        let known = &mut self.events().damage;
        if !known.contains(&damage) {
            known.push(damage);
        }
    }

    /// Remembers where a range ended.
    pub(super) fn remember(&mut self, cursor: Cursor) {
        if self.busy.cursors.iter().any(|c| c.offset == cursor.offset) {
            return;
        }
        if self.busy.cursors.len() == CURSORS_MAX {
            self.busy.cursors.pop_front();
        }
        self.busy.cursors.push_back(cursor);
    }

    /// Ends all jobs.
    pub(super) fn refuse_reads(&mut self, refusal: &Refusal) {
        for (id, job) in std::mem::take(&mut self.busy.jobs) {
            if !matches!(job.want, Want::Cut { .. }) {
                self.events().reads.push((id, Read::Refused(refusal.clone())));
            }
        }
        self.busy.cursors = VecDeque::new();
    }
}
