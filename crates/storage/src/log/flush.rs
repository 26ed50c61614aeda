//! Making things durable: each append's own sync where the topic asks for it, and flushes that move the recovery point.
//!
//! A flush is a list of operations that are asked for at once: sync the log file, write and sync new index entries, replace
//! the epoch checkpoint and the producer snapshot. Since a host carries out a log's operations in order, they describe the log
//! at the offset where it ended when the flush began; when all have succeeded, that offset is the recovery point.

use bytes::Bytes;
use moldau_base::disk::{Done, Fault, FileId, Op};
use moldau_base::planted::{Bug, planted};
use moldau_base::{Mono, Now};

use super::{IndexCache, Log, Metadata, Pending, Place, Producers};
use crate::checkpoint::encode_epochs;
use crate::index::{INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES, encode_index, encode_time_index};
use crate::names::{EPOCH_CHECKPOINT, FileKind, deleted_name, file_name};
use crate::snapshot;

/// A flush starts this long after the first byte that is not durable, or after `flush.ms` if that is less.
pub const FLUSH_INTERVAL_MS: i64 = 1_000;
/// A flush starts when this many bytes are not durable: with [`FLUSH_INTERVAL_MS`], the bound on what recovery reads.
pub const FLUSH_BYTES: u64 = 64 << 20;

/// What no flush has been started for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dirty {
    bytes: u64,
    records: i64,
    /// A flush failed for want of space: sealed segments may have index entries that are not written.
    behind: bool,
    pub(super) since: Option<Mono>,
}

impl Dirty {
    /// Of a log that was recovered: a flush is due if something is not flushed.
    pub(super) fn behind(due: bool) -> Dirty {
        Dirty { since: due.then_some(Mono::default()), ..Dirty::default() }
    }

    pub(super) fn add(&mut self, now: Now, bytes: u64, records: i64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.records = self.records.saturating_add(records);
        self.since.get_or_insert(now.mono);
    }
}

/// A sync of a log file that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syncing {
    seq: u32,
    to: Place,
    done: bool,
    /// It was asked for by an append, not by a flush.
    for_append: bool,
}

/// A flush that is on its way.
#[derive(Clone, Debug)]
pub(super) struct FlushJob {
    id: u32,
    target: i64,
    steps: u32,
    indexes: Vec<IndexGoal>,
    snapshot: bool,
    epochs: bool,
    outcome: Outcome,
}

/// Entries that a segment's index files have when a flush is done.
#[derive(Clone, Copy, Debug)]
struct IndexGoal {
    segment: i64,
    index: u32,
    time: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// So far.
    Good,
    /// The disk was full: to be tried again.
    Full,
    /// What it flushed was cut off.
    Void,
}

impl Log {
    /// Starts a flush of everything appended, for a clean stop; its end is [`super::Events::flushed`]. False when there is nothing
    /// to do.
    pub fn flush(&mut self, now: Now, producers: Producers<'_>) -> bool {
        if self.is_unusable() || self.flushed == self.end {
            return false;
        }
        if self.dirty.since.is_some() || self.busy.flushes.is_empty() {
            self.start_flush(now, producers);
        }
        true
    }

    pub(super) fn flush_deadline(&self) -> Option<Mono> {
        if self.is_unusable() || !self.busy.flushes.is_empty() {
            return None;
        }
        let wait = self.config.flush_ms.clamp(0, FLUSH_INTERVAL_MS);
        self.dirty.since.map(|since| since.after_ms(wait))
    }

    pub(super) fn flush_if_due(&mut self, now: Now, producers: Producers<'_>) {
        if self.flush_deadline().is_some_and(|due| due <= now.mono) {
            self.start_flush(now, producers);
        }
    }

    /// Starts a flush when too much is dirty, whatever the time.
    pub(super) fn flush_if_heavy(&mut self, now: Now, producers: Producers<'_>) {
        let by_records = self.config.flush_messages > 1 && self.dirty.records >= self.config.flush_messages;
        if (self.dirty.bytes >= FLUSH_BYTES || by_records) && self.busy.flushes.is_empty() {
            self.start_flush(now, producers);
        }
    }

    /// Starts a flush of the active segment, to which everything not flushed or being flushed belongs.
    pub(super) fn start_flush(&mut self, _now: Now, producers: Producers<'_>) {
        let Some(active) = self.segments.len().checked_sub(1) else { return };
        let behind = std::mem::take(&mut self.dirty).behind;
        let id = self.next_flush;
        self.next_flush = self.next_flush.wrapping_add(1);
        let mut job = FlushJob {
            id,
            target: self.end,
            steps: 1,
            indexes: Vec::with_capacity(1),
            snapshot: false,
            epochs: self.epochs_dirty,
            outcome: Outcome::Good,
        };
        self.sync_log(active, Some(id));
        let first = if behind { 0 } else { active };
        for at in first..=active {
            let segment = &self.segments[at];
            let (index, time) = (segment.index.len(), segment.time.len());
            if at == active || segment.index.emitted < index || segment.time.emitted < time {
                job.indexes.push(IndexGoal { segment: segment.base, index, time });
                job.steps += self.flush_index(at, id);
            }
        }
        if self.metadata == Metadata::Missing {
            self.write_metadata();
        }
        job.steps += self.sync_metadata(Some(id));
        if self.epochs_dirty {
            self.epochs_dirty = false;
            let data = Bytes::from(encode_epochs(self.epochs.entries()));
            self.write_file(id, EPOCH_CHECKPOINT.to_owned(), data);
            job.steps += 1;
        }
        let entries = producers();
        if (!entries.is_empty() || self.snapshot.is_some()) && self.snapshot != Some(job.target) {
            let data = Bytes::from(snapshot::encode(&entries));
            self.write_file(id, file_name(job.target, FileKind::Snapshot), data);
            job.snapshot = true;
            job.steps += 1;
        }
        self.busy.flushes.push_back(job);
    }

    /// Writes a file of a flush, after those of the flushes before it: the disk may end what it does at once in any order, and an older
    /// file must not come in the place of a newer one.
    fn write_file(&mut self, job: u32, name: String, data: Bytes) {
        self.busy.files.push_back((job, name, data));
        if self.busy.files.len() == 1 {
            self.write_next();
        }
    }

    fn write_next(&mut self) {
        let Some((job, name, data)) = self.busy.files.front().cloned() else { return };
        self.ask(Op::Replace { path: self.path(&name), data }, Pending::Written(job));
    }

    pub(super) fn written(&mut self, now: Now, cache: &mut IndexCache, job: u32, done: Done) {
        self.busy.files.pop_front();
        self.write_next();
        self.step_done(now, cache, job, done);
    }

    /// Makes `partition.metadata` durable if it is not. Returns the number of steps.
    fn sync_metadata(&mut self, job: Option<u32>) -> u32 {
        let Metadata::Written(file) = self.metadata else { return 0 };
        self.metadata = Metadata::Syncing(file);
        self.ask(Op::Sync { file }, Pending::SyncMetadata(file, job));
        1
    }

    pub(super) fn metadata_synced(
        &mut self,
        now: Now,
        cache: &mut IndexCache,
        (file, job): (FileId, Option<u32>),
        done: Done,
    ) {
        let is_current = self.metadata == Metadata::Syncing(file);
        let done = match done {
            // It could not be made, or what was written has no place: the next flush writes it again.
            Done::Failed(Fault::Missing | Fault::Full) => {
                if is_current {
                    self.forget_metadata();
                }
                Done::Failed(Fault::Full)
            }
            Done::Failed(fault) => return self.go_offline(fault),
            done => {
                // One that was refused and written again since waits for a sync of its own.
                if is_current {
                    self.ask(Op::Close { file }, Pending::May);
                    self.metadata = Metadata::Durable;
                    self.advance_stored();
                }
                done
            }
        };
        if let Some(job) = job {
            self.step_done(now, cache, job, done);
        }
    }

    /// The disk was too full for `partition.metadata`.
    pub(super) fn metadata_refused(&mut self, now: Now) {
        self.forget_metadata();
        self.fail_flushes(now.mono, Outcome::Full);
    }

    fn forget_metadata(&mut self) {
        if let Metadata::Written(file) | Metadata::Syncing(file) = self.metadata {
            self.ask(Op::Close { file }, Pending::May);
            self.metadata = Metadata::Missing;
        }
    }

    /// Writes the index entries that no flush has written, and syncs their files. Returns the number of steps.
    fn flush_index(&mut self, segment: usize, id: u32) -> u32 {
        let mut steps = 0;
        let (first, entries) = self.segments[segment].index.emit();
        let index = (u64::from(first) * INDEX_ENTRY_BYTES, encode_index(entries));
        let (first, entries) = self.segments[segment].time.emit();
        let time = (u64::from(first) * TIME_ENTRY_BYTES, encode_time_index(entries));
        for (kind, (position, bytes)) in [(FileKind::Index, index), (FileKind::TimeIndex, time)] {
            if !bytes.is_empty() {
                let file = self.file(segment, kind);
                self.ask(Op::Write { file, position, parts: vec![bytes] }, Pending::Step(id));
                self.ask(Op::Sync { file }, Pending::StepSync(id));
                steps += 2;
            }
        }
        steps
    }

    fn sync_log(&mut self, segment: usize, job: Option<u32>) {
        let file = self.file(segment, FileKind::Log);
        let seq = self.ask(Op::Sync { file }, Pending::Sync(job));
        let to = self.end_place();
        self.busy.syncs.push_back(Syncing { seq, to, done: false, for_append: job.is_none() });
    }

    /// With a sync per append: one is on its way at a time, and the next takes all appends that came meanwhile.
    pub(super) fn sync_if_wanted(&mut self) {
        let wanted = self.config.syncs_every_append()
            && !self.segments.is_empty()
            && self.busy.syncs.back().map_or(self.synced.offset, |s| s.to.offset) < self.end;
        if wanted {
            self.sync_metadata(None);
        }
        if wanted && !self.busy.syncs.iter().any(|s| s.for_append && !s.done) {
            self.sync_log(self.active(), None);
        }
    }

    pub(super) fn sync_done(
        &mut self,
        now: Now,
        cache: &mut IndexCache,
        seq: u32,
        job: Option<u32>,
        done: Done,
    ) {
        let to = self.busy.syncs.iter().find(|s| s.seq == seq).map(|s| s.to);
        let is_empty = to.is_none_or(|to| to.position == 0);
        match done {
            // Nothing was written to it, or that was taken back.
            Done::Failed(Fault::Missing) if is_empty => {}
            Done::Failed(_) if planted(Bug::RetrySync) => return self.sync_again(seq, job),
            Done::Failed(fault) => return self.go_offline(fault),
            // Its name is durable with it.
            _ => to.into_iter().for_each(|to| self.named(now, to.segment)),
        }
        if let Some(sync) = self.busy.syncs.iter_mut().find(|s| s.seq == seq) {
            sync.done = true;
        }
        while self.busy.syncs.front().is_some_and(|s| s.done) {
            let to = self.busy.syncs.pop_front().map_or(self.synced, |s| s.to);
            if to.offset > self.synced.offset {
                self.synced = to;
            }
        }
        self.advance_stored();
        self.sync_if_wanted();
        if let Some(job) = job {
            self.step_done(now, cache, job, Done::Ok);
        }
    }

    /// What must not be done about a sync that failed: the system has forgotten what it did not write.
    fn sync_again(&mut self, seq: u32, job: Option<u32>) {
        let Some(at) = self.busy.syncs.iter().position(|s| s.seq == seq) else { return };
        let Some(segment) = self.segment_at(self.busy.syncs[at].to.segment) else { return };
        let file = self.file(segment, FileKind::Log);
        self.busy.syncs[at].seq = self.ask(Op::Sync { file }, Pending::Sync(job));
    }

    pub(super) fn step_done(&mut self, now: Now, cache: &mut IndexCache, id: u32, done: Done) {
        let Some(job) = self.busy.flushes.iter_mut().find(|j| j.id == id) else { return };
        job.steps -= 1;
        match done {
            // Later flushes write behind what this one could not write: they fail with it.
            Done::Failed(Fault::Full) => self.fail_flushes(now.mono, Outcome::Full),
            Done::Failed(fault) => return self.go_offline(fault),
            _ => {}
        }
        while self.busy.flushes.front().is_some_and(|j| j.steps == 0) {
            if let Some(job) = self.busy.flushes.pop_front() {
                self.finish_flush(now, cache, job);
            }
        }
    }

    fn finish_flush(&mut self, now: Now, cache: &mut IndexCache, job: FlushJob) {
        if job.outcome != Outcome::Good {
            // The snapshot may describe what is gone, or not be there.
            let wanted = |offset| {
                self.snapshot == Some(offset) || self.busy.flushes.iter().any(|j| j.target == offset)
            };
            if job.snapshot && !wanted(job.target) {
                self.remove_snapshot(job.target);
            }
            if job.outcome == Outcome::Full {
                // Not at once: the disk is full.
                self.dirty.since = Some(now.mono);
            }
            return;
        }
        for goal in &job.indexes {
            let Some(at) = self.segment_at(goal.segment) else { continue };
            let segment = &mut self.segments[at];
            let before = segment.index.flushed as usize;
            let added = segment.index.complete(goal.index);
            if let Some(last) = segment.time.complete(goal.time).last() {
                segment.time_flushed_ms = last.timestamp_ms;
            }
            cache.extend(segment.file(FileKind::Index), before, &added);
        }
        if job.snapshot
            && let Some(old) = self.snapshot.replace(job.target)
            && old != job.target
        {
            self.removed_snapshot = Some(old);
            self.remove_snapshot(old);
        }
        if job.target > self.flushed {
            self.flushed = job.target;
            self.events().flushed = Some(job.target);
        }
    }

    /// None of the flushes on their way brings what it promised: the next one writes everything again.
    fn fail_flushes(&mut self, since: Mono, outcome: Outcome) {
        for job in &mut self.busy.flushes {
            if job.outcome == Outcome::Good {
                job.outcome = outcome;
            }
            self.epochs_dirty |= job.epochs;
            for goal in &job.indexes {
                if let Ok(at) = self.segments.binary_search_by_key(&goal.segment, |s| s.base) {
                    self.segments[at].index.retry();
                    self.segments[at].time.retry();
                }
            }
        }
        self.dirty.behind = true;
        self.dirty.since.get_or_insert(since);
    }

    /// Removes a snapshot that must not come back after a crash.
    fn discard_snapshot(&mut self, offset: i64) {
        let from = self.path(&file_name(offset, FileKind::Snapshot));
        let to = self.path(&deleted_name(offset, FileKind::Snapshot));
        self.ask(Op::Rename { from, to: to.clone() }, Pending::May);
        self.ask(Op::Remove { path: to }, Pending::May);
    }

    fn remove_snapshot(&mut self, offset: i64) {
        let path = self.path(&file_name(offset, FileKind::Snapshot));
        self.ask(Op::Remove { path }, Pending::May);
    }

    /// The log was cut at `end`, index files included: flushes on their way do not bring what they promised. The next one does.
    pub(super) fn void_flushes(&mut self, end: i64) {
        self.fail_flushes(Mono::default(), Outcome::Void);
        self.busy.syncs.retain(|s| s.to.offset <= end);
        self.flushed = self.flushed.min(end);
        if let Some(offset) = self.snapshot.take_if(|offset| *offset > end) {
            // Without a snapshot recovery takes it that there were no producers at the recovery point, which may be that of an
            // older one. So first comes one that says that there were none where the log begins.
            let path = self.path(&file_name(self.start, FileKind::Snapshot));
            let data = Bytes::from(snapshot::encode(&[]));
            self.ask(Op::Replace { path, data }, Pending::Beginning { at: self.start, instead_of: offset });
            self.cut_steps += 1;
            // Producers that are left are known only from the batches, until the next flush.
            self.flushed = self.start;
        }
    }

    /// Producers are known from the log's beginning on, or the disk is full: what was known of the end that was cut off goes.
    pub(super) fn begun(&mut self, at: i64, instead_of: i64, done: Done) {
        match done {
            Done::Failed(Fault::Full | Fault::Missing) => {}
            Done::Failed(fault) => return self.go_offline(fault),
            _ => self.snapshot = self.snapshot.or(Some(at)),
        }
        for offset in [self.removed_snapshot.take(), Some(instead_of)].into_iter().flatten() {
            if offset != at {
                self.discard_snapshot(offset);
            }
        }
        self.cut_done();
    }
}
