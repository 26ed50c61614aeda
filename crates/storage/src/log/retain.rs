//! What takes records away: retention and DeleteRecords at the front, truncation at the end, deletion of the whole log.
//!
//! A segment that goes is renamed to `.deleted` at once, oldest first, so that a crash leaves no gap in the log; its files are
//! removed after `file.delete.delay.ms`.

use moldau_base::disk::{Done, Fault, FileId, Op, Path};
use moldau_base::planted::{Bug, planted};
use moldau_base::{Mono, Now, Uuid};

use super::{IndexCache, Log, Pending, Place, Producers, Refusal, State};
use crate::index::{INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::names::{FileKind, deleted_dir, deleted_name, file_name};
use crate::segment::Segment;

/// A removed segment whose files are still there.
#[derive(Debug)]
pub(super) struct Doomed {
    due: Mono,
    segment: Segment,
}

const KINDS: [FileKind; 3] = [FileKind::Log, FileKind::Index, FileKind::TimeIndex];

impl Log {
    /// DeleteRecords: nothing below `before` may be read any more, and segments that lie wholly below it go. `before` is at most the
    /// high watermark. The new start is durable once the host has written the start offset checkpoint.
    pub fn delete_records(&mut self, now: Now, before: i64) {
        if !self.is_unusable() && before > self.start && before <= self.end {
            self.start = before;
            self.drop_below_start(now);
        }
    }

    /// Rolls by time and applies `retention.ms` and `retention.bytes`, to what lies below the high watermark.
    pub(super) fn retain(&mut self, now: Now, high_watermark: i64, producers: Producers<'_>) {
        self.roll_by_time(now, producers);
        self.name_again();
        if self.config.delete {
            let expired = self.count_expired(now, high_watermark);
            let oversized = self.count_oversized(high_watermark);
            let doomed = expired.max(oversized);
            if doomed == self.segments.len() && doomed > 0 {
                self.roll(now, self.end, producers);
            }
            if doomed > 0 {
                self.start = self.start.max(self.segments[doomed].base);
            }
        }
        self.drop_below_start(now);
    }

    /// If the disk was too full for the name of the active segment, tries it again. Until then the one in front of it must stay; its indexes need
    /// not if nothing of it may be read any more, and a name finds its place where theirs were.
    fn name_again(&mut self) {
        let start = self.start;
        if self.segments.back().is_none_or(|active| active.named) {
            return;
        }
        if self.segments.get(1).is_some_and(|next| next.base <= start && !next.named) {
            self.segments[0].forget_indexes();
            for kind in [FileKind::Index, FileKind::TimeIndex] {
                let (file, path) =
                    (self.segments[0].file(kind), self.path(&file_name(self.segments[0].base, kind)));
                self.ask(Op::Close { file }, Pending::May);
                self.ask(Op::Remove { path }, Pending::May);
            }
        }
        self.keep_name();
    }

    fn roll_by_time(&mut self, now: Now, producers: Producers<'_>) {
        let Some(active) = self.segments.back() else { return };
        let waited = now.wall_ms.saturating_sub(active.created_ms);
        if active.size > 0 && waited > self.roll_after_ms(active) {
            self.roll(now, self.end, producers);
        }
    }

    /// How many of the oldest segments are older than `retention.ms`. A segment without timestamps counts from its creation.
    fn count_expired(&self, now: Now, high_watermark: i64) -> usize {
        let keep_ms = self.config.retention_ms / if planted(Bug::ExpireEarly) { 2 } else { 1 };
        let expired = |at: usize| {
            let segment = &self.segments[at];
            let newest = if segment.max_timestamp >= 0 { segment.max_timestamp } else { segment.created_ms };
            segment.size > 0
                && now.wall_ms.saturating_sub(newest) > keep_ms
                && self.segment_end(at) <= high_watermark
        };
        if keep_ms < 0 { 0 } else { (0..self.segments.len()).take_while(|&at| expired(at)).count() }
    }

    /// How many of the oldest segments can go while `retention.bytes` stay.
    fn count_oversized(&self, high_watermark: i64) -> usize {
        let Ok(keep) = u64::try_from(self.config.retention_bytes) else { return 0 };
        let mut surplus = self.size_bytes().saturating_sub(keep);
        let mut count = 0;
        while let Some(segment) = self.segments.get(count) {
            if segment.size == 0 || segment.size > surplus || self.segment_end(count) > high_watermark {
                break;
            }
            surplus -= segment.size;
            count += 1;
        }
        count
    }

    /// Removes the segments that lie wholly before the start, once the name of their successor is durable.
    pub(super) fn drop_below_start(&mut self, now: Now) {
        let mut dropped = false;
        let below = self.start + i64::from(planted(Bug::RetainTooLittle)) * 1_000;
        while self.segments.get(1).is_some_and(|next| next.base <= below && next.named) {
            let Some(segment) = self.segments.pop_front() else { break };
            let (from, to) =
                (file_name(segment.base, FileKind::Log), deleted_name(segment.base, FileKind::Log));
            let (from, to) = (self.path(&from), self.path(&to));
            self.ask(Op::Rename { from, to }, Pending::Retire(segment.base));
            let due = now.mono.after_ms(self.config.file_delete_delay_ms);
            self.busy.doomed.push_back(Doomed { due, segment });
            dropped = true;
        }
        if dropped {
            self.events().start = Some(self.start);
            self.epochs_dirty |= self.epochs.truncate_start(self.start);
            let first = self.segments.front().map_or(0, |s| s.base);
            self.busy.cursors.retain(|c| c.segment >= first);
        }
    }

    /// A segment has the name of one that is to be removed: nobody looks into its index any more. A full disk has no place for another name: then
    /// the file goes at once, since that is what makes room.
    pub(super) fn retired(&mut self, cache: &mut IndexCache, base: i64, done: Done) {
        if let Some(doomed) = self.busy.doomed.iter().rfind(|doomed| doomed.segment.base == base) {
            cache.remove(doomed.segment.file(FileKind::Index));
        }
        if done == Done::Failed(Fault::Full) {
            let path = self.path(&file_name(base, FileKind::Log));
            self.ask(Op::Remove { path }, Pending::May);
        } else {
            self.or_offline(done, &[Fault::Missing]);
        }
    }

    pub(super) fn remove_doomed(&mut self, now: Now) {
        while self.busy.doomed.front().is_some_and(|d| d.due <= now.mono) {
            if let Some(doomed) = self.busy.doomed.pop_front() {
                let log = deleted_name(doomed.segment.base, FileKind::Log);
                self.remove_files(&doomed.segment, log);
            }
        }
    }

    fn remove_files(&mut self, segment: &Segment, log: String) {
        let [_, index, time] = KINDS.map(|kind| file_name(segment.base, kind));
        for (kind, name) in KINDS.into_iter().zip([log, index, time]) {
            if segment.is_open(kind) {
                self.ask(Op::Close { file: segment.file(kind) }, Pending::May);
            }
            let path = self.path(&name);
            self.ask(Op::Remove { path }, Pending::May);
        }
    }

    /// Removes the files of a segment that was cut off. They are renamed first: removal is in no hurry, and the next segment may have
    /// the same base offset.
    fn discard(&mut self, segment: &Segment) {
        for kind in KINDS {
            let file = segment.file(kind);
            if segment.is_open(kind) {
                self.ask(Op::Close { file }, Pending::May);
            }
            self.rename_cut((segment.base, kind, file), Pending::Discard(segment.base, kind, file));
            self.cut_steps += 1;
        }
    }

    fn rename_cut(&mut self, (base, kind, file): (i64, FileKind, FileId), why: Pending) {
        let from = self.path(&file_name(base, kind));
        let to = self.path(&format!("{}.{}.deleted", file_name(base, kind), file.0));
        self.ask(Op::Rename { from, to: to.clone() }, why);
        self.ask(Op::Remove { path: to }, Pending::May);
    }

    /// A full disk has no place for the name that a cut gives a file: it is emptied, which makes room, and renamed then.
    pub(super) fn discard_emptied(&mut self, base: i64, kind: FileKind, file: FileId) {
        let path = self.path(&file_name(base, kind));
        self.ask(Op::Open { file, path, create: false }, Pending::Must);
        self.ask(Op::Truncate { file, len: 0 }, Pending::Must);
        self.ask(Op::Close { file }, Pending::May);
        self.rename_cut((base, kind, file), Pending::Cut);
    }

    /// Cuts the log at `place`, which lies in one of its segments. `keep` is how many entries its index and time index files keep.
    pub(super) fn cut(&mut self, cache: &mut IndexCache, place: Place, keep: (u32, u32)) {
        while self.segments.back().is_some_and(|s| s.base > place.segment) {
            if let Some(segment) = self.segments.pop_back() {
                cache.remove(segment.file(FileKind::Index));
                self.discard(&segment);
            }
        }
        let active = self.active();
        let segment = &mut self.segments[active];
        debug_assert_eq!(segment.base, place.segment);
        segment.size = place.position;
        let end = segment.relative(place.offset);
        let (index, time) = (&mut segment.index, &mut segment.time);
        index.entries.retain(|e| keep.0 == index.flushed && u64::from(e.position) < place.position);
        time.entries.retain(|e| keep.1 == time.flushed && e.last < end);
        (index.flushed, time.flushed) = keep;
        index.retry();
        time.retry();
        segment.last_time_entry =
            segment.time.entries.last().map_or(segment.time_flushed_ms, |e| e.timestamp_ms);
        let entry = segment.index.entries.last();
        segment.since_entry = entry.map_or(0, |e| place.position - u64::from(e.position));
        cache.remove(segment.file(FileKind::Index));
        for (kind, len) in [
            (FileKind::Log, place.position),
            (FileKind::Index, u64::from(keep.0) * INDEX_ENTRY_BYTES),
            (FileKind::TimeIndex, u64::from(keep.1) * TIME_ENTRY_BYTES),
        ] {
            // Synced before anything is appended: what was cut could come back behind it.
            let file = self.file(active, kind);
            self.ask(Op::Truncate { file, len }, Pending::Must);
            self.ask(Op::Sync { file }, Pending::Cut);
            self.cut_steps += 1;
        }
        self.settle_end(place);
    }

    /// Makes `place` the end of everything that is remembered in memory.
    fn settle_end(&mut self, place: Place) {
        let end = place.offset;
        self.end = end;
        self.start = self.start.min(end);
        for reached in [&mut self.written, &mut self.synced, &mut self.stored] {
            if reached.offset > end || reached.segment > place.segment {
                *reached = place;
            }
        }
        if let Some(stored) = self.events.as_mut().and_then(|events| events.stored.as_mut()) {
            *stored = end.min(*stored);
        }
        self.busy.appends.retain(|a| a.ends_by(end));
        self.busy.marks.retain(|m| m.offset < end);
        self.busy.cursors.clear();
        self.epochs_dirty |= self.epochs.truncate_end(end);
        self.void_flushes(end);
    }

    /// Drops everything and continues, empty, at `offset`: for a replica whose leader no longer has what this log ends with. As with
    /// [`Log::truncate`], a recovery point above `offset` must be lowered before the next append.
    pub fn restart_at(&mut self, now: Now, cache: &mut IndexCache, offset: i64) {
        if self.is_unusable() {
            return;
        }
        self.refuse_reads(&Refusal::OutOfRange);
        while let Some(segment) = self.segments.pop_front() {
            cache.remove(segment.file(FileKind::Index));
            self.discard(&segment);
        }
        let place = Place { offset, segment: offset, position: 0 };
        self.start = offset;
        self.busy.marks.clear();
        self.settle_end(place);
        (self.written, self.synced, self.stored) = (place, place, place);
        self.flushed = offset;
        self.dirty = super::Dirty::default();
        self.begin_unnamed(now, offset);
        self.state = State::Truncating;
        if self.cut_steps == 0 {
            self.state = State::Online;
            self.events().truncated = Some(offset);
        }
    }

    /// Deletes the log: its directory is renamed, which is what makes the deletion survive a crash, and then removed.
    /// [`super::Events::deleted`] tells the end. Works on an offline log too.
    pub fn delete(&mut self) {
        if self.state == State::Deleting {
            return;
        }
        self.refuse_reads(&Refusal::Deleting);
        self.state = State::Deleting;
        if planted(Bug::KeepDeleted) {
            self.events().deleted = true;
            return;
        }
        self.dirty = super::Dirty::default();
        self.busy.appends.clear();
        self.busy.syncs.clear();
        self.busy.flushes.clear();
        self.busy.files.clear();
        self.forget_renaming();
        if !self.is_on_disk() {
            self.events().deleted = true;
        } else if self.is_aside() {
            self.remove_aside();
        } else {
            self.rename_away(Pending::Leave);
        }
    }

    fn rename_away(&mut self, why: Pending) {
        let (from, to) = self.way_out();
        self.ask(Op::Rename { from, to }, why);
    }

    pub(super) fn way_out(&self) -> (Path, Path) {
        let tag = Uuid((u128::from_be_bytes(self.topic.0) ^ u128::from(self.files.unique())).to_be_bytes());
        (Path::new(self.dir, self.folder()), Path::new(self.dir, deleted_dir(&self.name, tag)))
    }

    /// The rename that deletes the log has ended. A full disk may have no place for another name: then the files are emptied first.
    /// Whatever else fails takes the log directory out of service, since the name may be wanted by another log.
    pub(super) fn renamed_away(&mut self, why: Pending, done: Done) {
        match done {
            Done::Failed(Fault::Full) if why == Pending::Leave => {
                for at in 0..self.segments.len() {
                    let file = self.file(at, FileKind::Log);
                    self.ask(Op::Truncate { file, len: 0 }, Pending::May);
                }
                return self.rename_away(Pending::LeaveEmpty);
            }
            Done::Failed(fault) if fault != Fault::Missing => {
                self.events().offline = Some(fault.clone());
                self.note_leftover(Done::Failed(fault));
            }
            _ => {}
        }
        self.remove_aside();
    }

    /// Removes what is not called as a partition any more.
    fn remove_aside(&mut self) {
        self.close_all();
        let (_, path) = self.way_out();
        self.ask(Op::Remove { path }, Pending::Gone);
    }

    fn close_all(&mut self) {
        let removed = self.busy.doomed.drain(..).map(|d| d.segment);
        let segments: Vec<Segment> = self.segments.drain(..).chain(removed).collect();
        for segment in &segments {
            for kind in KINDS.into_iter().filter(|&kind| segment.is_open(kind)) {
                self.ask(Op::Close { file: segment.file(kind) }, Pending::May);
            }
        }
        if let super::Metadata::Written(file) | super::Metadata::Syncing(file) = self.metadata {
            self.ask(Op::Close { file }, Pending::May);
        }
    }

    /// The fault of an offline log.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.state {
            State::Offline(fault) => Some(fault),
            _ => None,
        }
    }
}
