//! The steps of a read: from an offset or timestamp to a batch boundary, and from there to the end of the range.
//!
//! Index files are hints. What one says is held against the header that it leads to, which has to be looked at anyway; where that shows it to be
//! wrong, the entry is passed over from then on and the search begins earlier.

use moldau_base::disk::Fault;
use moldau_base::planted::{Bug, planted};
use moldau_batch::{HEADER_BYTES, Header};

use super::read::{Cursor, Damage, Expects, Job, Range, Read, ReadRequest, Refusal, Want};
use super::{IndexCache, Log, Place};
use crate::index::{
    INDEX_ENTRY_BYTES, IndexEntry, TIME_ENTRY_BYTES, TimeEntry, floor, last_believed, last_within,
};
use crate::names::FileKind;

/// Bytes of the first read of headers; each further one of a job is twice as large, up to [`WINDOW_BYTES_MAX`].
const WINDOW_BYTES: u32 = 8 << 10;
const WINDOW_BYTES_MAX: u32 = 128 << 10;

/// How far a job has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// In a segment, nothing known.
    Enter,
    /// Reading headers from `at` on, for the first batch that fits; none ends before `next`. While that is the segment's base offset, `at`
    /// is what an index says.
    Seek { at: u64, next: i64 },
    /// The first batch begins at `start`: look for the end.
    Bound { start: u64, first: i64 },
    /// The range ends at `cut`: its header tells the next offset.
    Probe { start: u64, first: i64, cut: u64 },
    /// Reading headers for the end of the range.
    Walk { start: u64, first: i64, at: u64, next: i64 },
    /// Reading the range itself.
    Data(Range),
}

/// What comes next.
pub(super) enum Step {
    Again,
    Done(Read),
    Load { kind: FileKind, position: u64, len: u32, expects: Expects },
}

/// A header that was looked for.
enum Peek {
    Is(Header),
    Load(Step),
    Damaged(Damage),
}

/// The last entry of a time index that is older than `timestamp_ms`.
fn older(entries: &[TimeEntry], timestamp_ms: i64) -> Option<TimeEntry> {
    let beyond_ms = if planted(Bug::TimeBeyond) { 1_000 } else { 0 };
    let below = entries.partition_point(|e| e.timestamp_ms < timestamp_ms.saturating_add(beyond_ms));
    below.checked_sub(1).map(|i| entries[i])
}

/// An answer from an index.
enum Lookup<T> {
    Is(T),
    /// The index file must be read first.
    Load,
}

impl Log {
    pub(super) fn step(&mut self, cache: &mut IndexCache, job: &mut Job) -> Step {
        let Some(at) = self.segment_at(job.segment) else {
            return Step::Done(Read::Refused(Refusal::OutOfRange));
        };
        match job.stage {
            Stage::Enter => self.enter(cache, job, at),
            Stage::Seek { at: position, next } => self.seek(cache, job, at, position, next),
            Stage::Bound { start, first } => match job.want {
                Want::Range(request) | Want::Bytes(request) => {
                    self.bound(cache, job, at, start, first, request)
                }
                _ => Step::Done(Read::Empty),
            },
            Stage::Probe { start, first, cut } => self.probe(cache, job, at, start, first, cut),
            Stage::Walk { start, first, at: position, next } => {
                self.walk(job, at, start, first, position, next)
            }
            Stage::Data(range) => Step::Load {
                kind: FileKind::Log,
                position: range.position,
                len: range.len,
                expects: Expects::Data,
            },
        }
    }

    /// Finds where to begin reading headers, or that there is no need to.
    fn enter(&mut self, cache: &mut IndexCache, job: &mut Job, at: usize) -> Step {
        let needs_times = matches!(job.want, Want::Timestamp { .. } | Want::Cut { .. });
        let segment = &self.segments[at];
        if needs_times && job.times.is_none() {
            if segment.time.flushed > 0 {
                let len = segment.time.flushed * TIME_ENTRY_BYTES as u32;
                return Step::Load {
                    kind: FileKind::TimeIndex,
                    position: 0,
                    len,
                    expects: Expects::TimeIndex,
                };
            }
            job.times = Some(Vec::new());
        }
        if let Want::Timestamp { timestamp_ms, from, .. } = job.want {
            let ours = older(&segment.time.entries, timestamp_ms);
            job.passed = ours.or_else(|| older(job.times.as_deref()?, timestamp_ms));
            let first = job.passed.map_or(segment.base, |e| segment.base + i64::from(e.last) + 1);
            job.target = first.max(from);
        }
        if matches!(job.want, Want::Range(_) | Want::Bytes(_))
            && let Some(start) = self.exact(cache, at, job.target)
        {
            job.stage = Stage::Bound { start, first: job.target };
            return Step::Again;
        }
        let position = match job.want {
            Want::Cut { .. } => self.cut_position(cache, at, job.target),
            // With the batch that the time index names.
            Want::Timestamp { .. } if job.passed.is_some() => self.floor_position(cache, at, job.target - 1),
            _ => self.floor_position(cache, at, job.target),
        };
        match position {
            Lookup::Is(position) => {
                job.stage = Stage::Seek { at: position, next: self.segments[at].base };
                Step::Again
            }
            Lookup::Load => self.load_index(at),
        }
    }

    fn load_index(&self, at: usize) -> Step {
        let len = self.segments[at].index.flushed * INDEX_ENTRY_BYTES as u32;
        Step::Load { kind: FileKind::Index, position: 0, len, expects: Expects::Index }
    }

    /// Where to begin looking for the place of a cut at `offset`: at the last indexed batch that stays, since the time index tells
    /// the greatest timestamp up to there. Needs the index file, to know how much of it stays.
    fn cut_position(&self, cache: &mut IndexCache, at: usize, offset: i64) -> Lookup<u64> {
        let segment = &self.segments[at];
        let relative = segment.relative(offset);
        let last = |entries: &[IndexEntry]| {
            let below = entries.partition_point(|e| e.last < relative);
            last_believed(&entries[..below]).map(|e| u64::from(e.position))
        };
        let in_memory = last(&segment.index.entries);
        if segment.index.flushed == 0 {
            return Lookup::Is(in_memory.unwrap_or(0));
        }
        match cache.get(segment.file(FileKind::Index)) {
            Some(entries) => Lookup::Is(in_memory.or_else(|| last(entries)).unwrap_or(0)),
            None => Lookup::Load,
        }
    }

    /// A position at or before the batch that holds `offset`.
    fn floor_position(&self, cache: &mut IndexCache, at: usize, offset: i64) -> Lookup<u64> {
        let segment = &self.segments[at];
        let relative = segment.relative(offset);
        let file = segment.file(FileKind::Index);
        if let Some(entry) = floor(&segment.index.entries, relative) {
            return Lookup::Is(entry.position.into());
        }
        if segment.index.flushed == 0 {
            return Lookup::Is(0);
        }
        match cache.get(file) {
            Some(entries) => Lookup::Is(floor(entries, relative).map_or(0, |e| e.position.into())),
            None => Lookup::Load,
        }
    }

    /// Where the batch that begins at `offset` begins, if that is known without a read.
    fn exact(&self, cache: &mut IndexCache, at: usize, offset: i64) -> Option<u64> {
        let segment = &self.segments[at];
        if offset == segment.base {
            return Some(0);
        }
        if at == self.active()
            && let Ok(i) = self.busy.marks.binary_search_by_key(&offset, |m| m.offset)
        {
            return Some(self.busy.marks[i].position);
        }
        if let Some(cursor) =
            self.busy.cursors.iter().find(|c| c.offset == offset && c.segment == segment.base)
        {
            return Some(cursor.position);
        }
        let relative = segment.relative(offset);
        let begins = |e: &IndexEntry| e.base() == Some(relative);
        if let Some(entry) = floor(&segment.index.entries, relative).filter(begins) {
            return Some(entry.position.into());
        }
        let entries = cache.get(segment.file(FileKind::Index))?;
        floor(entries, relative).filter(begins).map(|e| e.position.into())
    }

    /// How many bytes of a segment may be looked at.
    fn readable(&self, job: &Job, at: usize) -> u64 {
        let segment = &self.segments[at];
        match job.want {
            Want::Cut { .. } => segment.size,
            _ if segment.base < self.stored.segment => segment.size,
            _ if segment.base == self.stored.segment => self.stored.position,
            _ => 0,
        }
    }

    /// The header at `position`, which must be that of a batch whose offsets are not below `next`.
    fn peek(&mut self, job: &Job, at: usize, position: u64, next: i64) -> Peek {
        let limit = self.readable(job, at);
        let window = &job.window;
        let inside = position.checked_sub(window.position).and_then(|skip| usize::try_from(skip).ok());
        let have = inside.and_then(|skip| window.bytes.get(skip..)).unwrap_or_default();
        if have.len() < HEADER_BYTES && limit.saturating_sub(position) >= HEADER_BYTES as u64 {
            let wanted = (WINDOW_BYTES << window.count.min(8)).min(WINDOW_BYTES_MAX);
            let len = u32::try_from(limit - position).unwrap_or(u32::MAX).min(wanted);
            // A window that was read and is still too short means that the file is shorter than the log.
            if window.position != position || window.bytes.is_empty() {
                let expects = Expects::Window(position);
                return Peek::Load(Step::Load { kind: FileKind::Log, position, len, expects });
            }
        }
        let problem = match Header::parse(have) {
            Err(error) => error.to_string(),
            Ok(header) if header.size() as u64 > limit - position => {
                format!("a batch of {} bytes where {} are left", header.size(), limit - position)
            }
            Ok(header) if header.base_offset < next || header.last_offset_delta < 0 => {
                format!("offsets {} to {} where {next} is next", header.base_offset, header.last_offset())
            }
            Ok(header) if header.next_offset() > self.segment_end(at) => {
                let last = header.last_offset();
                format!("offset {last} in a segment that ends before {}", self.segment_end(at))
            }
            Ok(header) => return Peek::Is(header),
        };
        Peek::Damaged(self.damage(self.segments[at].base, position, problem))
    }

    /// Whether an index file led here: a search has passed no batch yet.
    fn is_led(&self, at: usize, position: u64, next: i64) -> bool {
        let ours = &self.segments[at].index.entries;
        position > 0
            && next == self.segments[at].base
            && ours.binary_search_by_key(&position, |e| e.position.into()).is_err()
    }

    /// What the offset index says of `position` is not so. The entry is not used again; what to do next is to begin earlier, by the entry
    /// before it.
    fn doubt(&mut self, cache: &mut IndexCache, job: &mut Job, at: usize, position: u64, what: &str) -> Step {
        let segment = &self.segments[at];
        let entry = cache.doubt(segment.file(FileKind::Index), u32::try_from(position).unwrap_or(u32::MAX));
        let Some(entry) = entry else {
            // The index has gone from the cache.
            job.stage = match job.stage {
                Stage::Probe { start, first, .. } => Stage::Walk { start, first, at: start, next: first },
                _ => Stage::Seek { at: 0, next: segment.base },
            };
            return Step::Again;
        };
        job.stage = match job.stage {
            Stage::Probe { start, first, .. } => Stage::Bound { start, first },
            _ => Stage::Enter,
        };
        let what = format!("it names byte {position}: {what}");
        self.note_damage(job.segment, FileKind::Index, entry as u64 * INDEX_ENTRY_BYTES, what);
        Step::Again
    }

    /// Begins anew without the time index if this header shows that it is wrong: up to the batch that its entry names nothing is newer than
    /// the entry says, and that batch is as new.
    fn doubt_times(&mut self, job: &mut Job, at: usize, header: &Header) -> Option<Step> {
        let (entry, base) = (job.passed?, self.segments[at].base);
        let last = base + i64::from(entry.last);
        let names_it = (header.base_offset..header.next_offset()).contains(&last);
        let is_wrong = header.max_timestamp > entry.timestamp_ms
            || (names_it && header.max_timestamp != entry.timestamp_ms);
        if header.base_offset > last || !is_wrong || job.times.as_ref().is_none_or(Vec::is_empty) {
            return None;
        }
        let times = job.times.replace(Vec::new()).unwrap_or_default();
        let place = times.partition_point(|e| e.last < entry.last) as u64 * TIME_ENTRY_BYTES;
        let (offset, newest) = (header.last_offset(), header.max_timestamp);
        let what = format!(
            "nothing up to offset {last} is newer than {} in it; the batch that ends at {offset} is of {newest}",
            entry.timestamp_ms
        );
        self.note_damage(job.segment, FileKind::TimeIndex, place, what);
        job.stage = Stage::Enter;
        Some(Step::Again)
    }

    /// Looks for the first batch that the job wants.
    fn seek(&mut self, cache: &mut IndexCache, job: &mut Job, at: usize, position: u64, next: i64) -> Step {
        let is_led = self.is_led(at, position, next);
        if position >= self.readable(job, at) {
            return match is_led {
                true => self.doubt(cache, job, at, position, "that cannot be read yet"),
                false => self.leave(cache, job, at),
            };
        }
        let header = match self.peek(job, at, position, next) {
            Peek::Is(header) => header,
            Peek::Load(step) => return step,
            Peek::Damaged(damage) if is_led => return self.doubt(cache, job, at, position, &damage.what),
            Peek::Damaged(damage) => return Step::Done(Read::Refused(self.damaged(damage))),
        };
        if is_led && header.base_offset > job.target && !planted(Bug::IndexBeyond) {
            return self.doubt(cache, job, at, position, "the batch there begins behind the offset");
        }
        if let Some(step) = self.doubt_times(job, at, &header) {
            return step;
        }
        let reached = header.last_offset() >= job.target;
        let found = match &mut job.want {
            Want::Range(request) | Want::Bytes(request) if header.base_offset >= request.upto => {
                return Step::Done(Read::Empty);
            }
            Want::Timestamp { upto, .. } | Want::Batch { upto } if header.base_offset >= *upto => {
                return Step::Done(Read::Empty);
            }
            Want::Timestamp { timestamp_ms, .. } => reached && header.max_timestamp >= *timestamp_ms,
            Want::Cut { newest, .. } => {
                if !reached && header.max_timestamp > newest.0 {
                    *newest = (header.max_timestamp, header.last_offset());
                }
                reached
            }
            _ => reached,
        };
        if !found {
            job.stage = Stage::Seek { at: position + header.size() as u64, next: header.next_offset() };
            return Step::Again;
        }
        match job.want {
            Want::Range(_) | Want::Bytes(_) => {
                job.stage = Stage::Bound { start: position, first: header.base_offset };
                Step::Again
            }
            Want::Timestamp { .. } | Want::Batch { .. } => {
                job.stage = Stage::Data(Range {
                    file: self.segments[at].file(FileKind::Log),
                    position,
                    len: header.size() as u32,
                    next_offset: header.next_offset(),
                });
                Step::Again
            }
            Want::Cut { newest, .. } if header.base_offset >= self.start => {
                // Behind a hole, the batch begins behind the target.
                let offset = header.base_offset.min(job.target.max(self.start));
                self.cut_at(cache, job, at, position, offset, newest)
            }
            Want::Cut { now, .. } => {
                // What is left of the log lies before its start.
                self.restart_at(now, cache, self.start);
                Step::Done(Read::Empty)
            }
        }
    }

    /// The segment has no batch that fits: go on in the next one that may have.
    fn leave(&mut self, cache: &mut IndexCache, job: &mut Job, at: usize) -> Step {
        let next = match job.want {
            Want::Timestamp { timestamp_ms, .. } => {
                self.segments.iter().skip(at + 1).find(|s| s.max_timestamp >= timestamp_ms)
            }
            Want::Cut { newest, .. } => {
                // Only a hole that compaction left can lie behind the target.
                let (size, end) = (self.segments[at].size, job.target.min(self.segment_end(at)));
                return self.cut_at(cache, job, at, size, end, newest);
            }
            _ => self.segments.get(at + 1),
        };
        let Some(next) = next else { return Step::Done(Read::Empty) };
        job.segment = next.base;
        job.target = job.target.max(next.base);
        job.times = None;
        job.window = Default::default();
        job.stage = Stage::Enter;
        Step::Again
    }

    /// Chooses the end of the range, as far as boundaries are known.
    fn bound(
        &mut self,
        cache: &mut IndexCache,
        job: &mut Job,
        at: usize,
        start: u64,
        first: i64,
        request: ReadRequest,
    ) -> Step {
        let limit = self.readable(job, at);
        let end = self.segment_end(at).min(self.stored.offset);
        // Where `upto` is, if that is known.
        let stop = match request.upto >= end {
            true => Some((limit, end)),
            false => self.exact(cache, at, request.upto).map(|position| (position, request.upto)),
        };
        let reach = start + u64::from(request.max_bytes);
        if let Some((position, next)) = stop.filter(|&(position, _)| position <= reach) {
            return self.deliver(job, at, start, position, next);
        }
        let cap = reach.min(stop.map_or(limit, |(position, _)| position));
        let upto = stop.map_or(request.upto, |_| i64::MAX);
        match self.boundary(cache, at, start, cap, upto) {
            Lookup::Load => self.load_index(at),
            Lookup::Is(Some((position, Some(next)))) => self.deliver(job, at, start, position, next),
            Lookup::Is(Some((cut, None))) => {
                job.stage = Stage::Probe { start, first, cut };
                Step::Again
            }
            Lookup::Is(None) => {
                job.stage = Stage::Walk { start, first, at: start, next: first };
                Step::Again
            }
        }
    }

    /// The last known batch boundary in `start + 1..=cap` that is not behind `upto`, with its offset if that is known.
    fn boundary(
        &self,
        cache: &mut IndexCache,
        at: usize,
        start: u64,
        cap: u64,
        upto: i64,
    ) -> Lookup<Option<(u64, Option<i64>)>> {
        let segment = &self.segments[at];
        if at == self.active() {
            let within = |m: &&super::append::Mark| m.position <= cap && m.offset <= upto;
            if let Some(mark) = self.busy.marks.iter().rev().find(within).filter(|m| m.position > start) {
                return Lookup::Is(Some((mark.position, Some(mark.offset))));
            }
        }
        let within = |entries: &[IndexEntry]| {
            let upto = segment.relative(upto);
            let below = entries.partition_point(|e| e.last < upto);
            last_within(&entries[..below], start, cap)
                .map(|e| (u64::from(e.position), e.base().map(|base| segment.base + i64::from(base))))
        };
        if let Some(found) = within(&segment.index.entries) {
            return Lookup::Is(Some(found));
        }
        if segment.index.flushed == 0 {
            return Lookup::Is(None);
        }
        match cache.get(segment.file(FileKind::Index)) {
            Some(entries) => Lookup::Is(within(entries)),
            None => Lookup::Load,
        }
    }

    fn probe(
        &mut self,
        cache: &mut IndexCache,
        job: &mut Job,
        at: usize,
        start: u64,
        first: i64,
        cut: u64,
    ) -> Step {
        let (Want::Range(request) | Want::Bytes(request)) = job.want else { return Step::Done(Read::Empty) };
        match self.peek(job, at, cut, first) {
            Peek::Is(header) if header.base_offset > request.upto => {
                self.doubt(cache, job, at, cut, "the batch there begins behind the offset")
            }
            Peek::Is(header) => {
                let segment = &self.segments[at];
                let base = segment.relative(header.base_offset);
                cache.learn(segment.file(FileKind::Index), cut as u32, base);
                self.deliver(job, at, start, cut, header.base_offset)
            }
            Peek::Load(Step::Load { kind, position, expects, .. }) => {
                Step::Load { kind, position, len: HEADER_BYTES as u32, expects }
            }
            Peek::Load(step) => step,
            // If it is the log that is damaged, what is before that can be given.
            Peek::Damaged(damage) => self.doubt(cache, job, at, cut, &damage.what),
        }
    }

    /// Reads headers until the range is full.
    fn walk(&mut self, job: &mut Job, at: usize, start: u64, first: i64, position: u64, next: i64) -> Step {
        let (Want::Range(request) | Want::Bytes(request)) = job.want else { return Step::Done(Read::Empty) };
        if position >= self.readable(job, at) {
            return self.deliver(job, at, start, position, next);
        }
        let header = match self.peek(job, at, position, next) {
            Peek::Is(header) => header,
            Peek::Load(step) => return step,
            Peek::Damaged(damage) => {
                let refusal = self.damaged(damage);
                if position == start {
                    return Step::Done(Read::Refused(refusal));
                }
                // What is before the damage can be given. The next read is to look at it again.
                let step = self.deliver(job, at, start, position, next);
                self.busy.cursors.retain(|c| c.position != position);
                return step;
            }
        };
        let end = position + header.size() as u64;
        let forced = position == start && request.min_one_batch;
        if header.base_offset >= request.upto || (end - start > u64::from(request.max_bytes) && !forced) {
            return self.deliver(job, at, start, position, next);
        }
        job.stage = Stage::Walk { start, first, at: end, next: header.next_offset() };
        Step::Again
    }

    /// The range is known.
    fn deliver(&mut self, job: &mut Job, at: usize, start: u64, end: u64, next: i64) -> Step {
        let Ok(len) = u32::try_from(end.saturating_sub(start)) else {
            return Step::Done(Read::Refused(Refusal::Failed(Fault::Io("a range over 4 GiB".into()))));
        };
        if len == 0 {
            return Step::Done(Read::Empty);
        }
        let segment = self.segments[at].base;
        let file = self.file(at, FileKind::Log);
        self.remember(Cursor { offset: next, segment, position: end });
        let range = Range { file, position: start, len, next_offset: next };
        if matches!(job.want, Want::Bytes(_)) {
            job.stage = Stage::Data(range);
            return Step::Again;
        }
        Step::Done(Read::Ready(range))
    }

    /// The place of a truncation is known.
    fn cut_at(
        &mut self,
        cache: &mut IndexCache,
        job: &mut Job,
        at: usize,
        position: u64,
        offset: i64,
        newest: (i64, i64),
    ) -> Step {
        let segment = &mut self.segments[at];
        let file_times = job.times.take().unwrap_or_default();
        let entries = cache.get(segment.file(FileKind::Index)).unwrap_or_default();
        let index = entries.partition_point(|e| u64::from(e.position) < position) as u32;
        let end = segment.relative(offset);
        let time = file_times.partition_point(|e| e.last < end);
        segment.time_flushed_ms = time.checked_sub(1).map_or(-1, |i| file_times[i].timestamp_ms);
        let kept = segment.time.entries.iter().rev().find(|e| e.last < end).copied();
        let kept = kept.filter(|_| time == file_times.len()).or(file_times[..time].last().copied());
        let entry = kept.map_or((-1, segment.base), |e| (e.timestamp_ms, segment.base + i64::from(e.last)));
        (segment.max_timestamp, segment.max_timestamp_last) = if newest.0 > entry.0 { newest } else { entry };
        if position == 0 {
            segment.first_timestamp = -1;
        }
        let keep = (index.min(segment.index.flushed), (time as u32).min(segment.time.flushed));
        self.cut(cache, Place { offset, segment: job.segment, position }, keep);
        Step::Done(Read::Empty)
    }
}
