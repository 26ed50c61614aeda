//! Appending: offsets and epochs are stamped over the front of each batch, the payload is written as it came.

use bytes::Bytes;
use moldau_base::disk::{Done, Fault, Op};
use moldau_base::planted::{Bug, planted};
use moldau_base::{LeaderEpoch, Now};
use moldau_batch::{Batch, Header, Stamp};

use super::{FULL_RETRY_MS, IndexCache, Log, Metadata, Pending, Place, Producers, State};
use crate::checkpoint::encode_metadata;
use crate::config::SEGMENT_BYTES_MAX;
use crate::names::{FileKind, PARTITION_METADATA};
use crate::segment::{PlacedBatch, Segment, SegmentMeta};

/// Batch boundaries near the end that are remembered, so that readers at the tail need no index.
const MARKS_MAX: usize = 128;

/// What an append was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// It began a new segment.
    pub rolled: bool,
}

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A write or sync failed before.
    #[error("the log is offline: {0}")]
    Offline(Fault),
    /// The disk is full.
    #[error("the log's disk is full")]
    Full,
    /// A truncation is on its way.
    #[error("the log is being truncated")]
    Truncating,
    /// The log is being deleted.
    #[error("the log is being deleted")]
    Deleting,
    /// There is no batch.
    #[error("nothing to append")]
    Empty,
    /// Together, the batches are larger than a segment may be.
    #[error("{bytes} bytes do not fit into a segment of {limit}")]
    TooLarge {
        /// Bytes of the batches.
        bytes: u64,
        /// `segment.bytes`.
        limit: u64,
    },
    /// The log has batches of a newer leader.
    #[error("leader epoch {epoch} is older than the log's {latest}")]
    StaleEpoch {
        /// Of the append.
        epoch: i32,
        /// Of the log.
        latest: i32,
    },
    /// A batch of a verbatim append does not follow the log's end.
    #[error("a batch begins at offset {offset}, the log ends at {end}")]
    NotNext {
        /// First offset of the batch.
        offset: i64,
        /// End of what is before it.
        end: i64,
    },
    /// There are no more offsets.
    #[error("the log's offsets are used up")]
    OffsetsExhausted,
}

/// A write that has not been acknowledged by the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appending {
    seq: u32,
    from: Place,
    to: Place,
    /// The segment's greatest timestamp before, to go back to.
    before: (i64, i64),
    done: bool,
}

impl Appending {
    pub(super) fn ends_by(&self, end: i64) -> bool {
        self.to.offset <= end
    }
}

/// A batch boundary in the active segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) offset: i64,
    pub(super) position: u64,
}

/// A batch ready to be written.
struct Ready {
    header: Header,
    parts: [Bytes; 2],
}

impl Log {
    /// Appends complete validated batches back to back, giving them the next offsets and the leader's epoch; with
    /// `append_time`, also that timestamp. The producer state is asked for before the batches are taken, if at all.
    pub fn append(
        &mut self,
        now: Now,
        epoch: LeaderEpoch,
        append_time: Option<i64>,
        batches: &[Batch],
        producers: Producers<'_>,
    ) -> Result<Appended, AppendError> {
        self.check_epoch(epoch.0)?;
        let mut next = self.end;
        let mut ready = Vec::with_capacity(batches.len());
        for batch in batches {
            let stamp = match append_time {
                None => Stamp::new(batch.header(), next, epoch.0),
                Some(ms) => Stamp::with_append_time(batch.header(), batch.bytes(), next, epoch.0, ms),
            };
            let header = *stamp.header();
            next = header.next_offset();
            ready.push(Ready { header, parts: stamp.parts(batch.bytes()) });
        }
        self.take(now, ready, producers)
    }

    /// Appends batches as they are, offsets and epochs included: for replicas. They begin at the log's end or later and
    /// follow each other.
    pub fn append_verbatim(
        &mut self,
        now: Now,
        batches: &[Batch],
        producers: Producers<'_>,
    ) -> Result<Appended, AppendError> {
        let mut end = self.end;
        for header in batches.iter().map(Batch::header) {
            if header.base_offset < end || header.last_offset_delta < 0 {
                return Err(AppendError::NotNext { offset: header.base_offset, end });
            }
            self.check_epoch(header.leader_epoch)?;
            end = header.next_offset();
        }
        let ready = batches
            .iter()
            .map(|b| Ready { header: *b.header(), parts: [b.bytes().clone(), Bytes::new()] })
            .collect();
        self.take(now, ready, producers)
    }

    fn check_epoch(&self, epoch: i32) -> Result<(), AppendError> {
        match self.epochs.latest() {
            Some(latest) if epoch < latest => Err(AppendError::StaleEpoch { epoch, latest }),
            _ => Ok(()),
        }
    }

    fn check_writable(&mut self, now: Now) -> Result<(), AppendError> {
        match &self.state {
            State::Online => Ok(()),
            State::Full { until } if now.mono < *until || self.cut_steps > 0 => Err(AppendError::Full),
            State::Full { .. } => {
                self.state = State::Online;
                Ok(())
            }
            State::Truncating => Err(AppendError::Truncating),
            State::Offline(fault) => Err(AppendError::Offline(fault.clone())),
            State::Deleting => Err(AppendError::Deleting),
        }
    }

    fn take(
        &mut self,
        now: Now,
        ready: Vec<Ready>,
        producers: Producers<'_>,
    ) -> Result<Appended, AppendError> {
        let (Some(first), Some(last)) = (ready.first(), ready.last()) else { return Err(AppendError::Empty) };
        let (base_offset, last_offset) = (first.header.base_offset, last.header.last_offset());
        if last_offset == i64::MAX {
            return Err(AppendError::OffsetsExhausted);
        }
        let bytes: u64 = ready.iter().map(|r| r.header.size() as u64).sum();
        let limit = self.config.segment_limit();
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        self.check_writable(now)?;
        self.flush_if_heavy(now, producers);
        let newest = ready.iter().map(|r| r.header.max_timestamp).max().unwrap_or(-1);
        let rolled = self.roll_for(now, bytes, base_offset, last_offset, newest, producers);
        self.write(now, ready, bytes, last_offset);
        Ok(Appended { base_offset, last_offset, rolled })
    }

    /// Makes the active segment one that can take these batches.
    fn roll_for(
        &mut self,
        now: Now,
        bytes: u64,
        base: i64,
        last: i64,
        newest: i64,
        producers: Producers<'_>,
    ) -> bool {
        let Some(active) = self.segments.back() else {
            self.begin_segment(now, base);
            return true;
        };
        let waited = if active.first_timestamp >= 0 && newest >= 0 {
            newest.saturating_sub(active.first_timestamp)
        } else {
            now.wall_ms.saturating_sub(active.created_ms)
        };
        let full = active.size + bytes > self.config.segment_limit()
            || waited > self.roll_after_ms(active)
            || active.index_is_full(self.config.index_max_bytes)
            || last.saturating_sub(active.base) > i64::from(i32::MAX);
        if active.size == 0 || !full {
            return false;
        }
        self.roll(now, base, producers);
        true
    }

    /// `segment.ms` less this segment's share of the jitter, which its base offset and the log's name decide.
    pub(super) fn roll_after_ms(&self, segment: &Segment) -> i64 {
        let jitter = self.config.segment_jitter_ms.min(self.config.segment_ms);
        if jitter <= 0 {
            return self.config.segment_ms;
        }
        let seed = self.name.bytes().fold(segment.base as u64 ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.config.segment_ms - (seed % jitter as u64) as i64
    }

    /// Seals the active segment with a flush of its own and begins the next one at `base`.
    pub(super) fn roll(&mut self, now: Now, base: i64, producers: Producers<'_>) {
        if let Some(active) = self.segments.back_mut() {
            active.note_time();
        }
        self.start_flush(now, producers);
        self.busy.marks.clear();
        self.begin_unnamed(now, base);
    }

    /// Begins a segment whose name must be durable before those in front of it go.
    pub(super) fn begin_unnamed(&mut self, now: Now, base: i64) {
        self.begin_segment(now, base);
        if let Some(active) = self.segments.back_mut() {
            active.named = false;
        }
        self.keep_name();
    }

    /// Makes the active segment's name durable, if it is not: once the others are removed, it is all that tells where the log ends.
    pub(super) fn keep_name(&mut self) {
        let Some(active) = self.segments.back() else { return };
        let (base, wanted) = (active.base, !active.named);
        if wanted && !self.busy.pending.values().any(|why| *why == Pending::Named(base)) {
            let file = self.file(self.active(), FileKind::Log);
            self.ask(Op::Write { file, position: 0, parts: Vec::new() }, Pending::Make);
            self.ask(Op::Sync { file }, Pending::Named(base));
        }
    }

    pub(super) fn named(&mut self, now: Now, base: i64) {
        let segment = self.segment_at(base).map(|at| &mut self.segments[at]);
        if let Some(segment) = segment.filter(|segment| !segment.named) {
            segment.named = true;
            self.drop_below_start(now);
        }
    }

    pub(super) fn begin_segment(&mut self, now: Now, base: i64) {
        debug_assert!(base >= self.end);
        let files = self.files.take();
        self.segments.push_back(Segment::new(SegmentMeta::empty(base), files, now.wall_ms));
        if self.end < base && self.start == self.end {
            self.start = base;
        }
    }

    fn write(&mut self, now: Now, ready: Vec<Ready>, bytes: u64, last_offset: i64) {
        debug_assert!(bytes <= SEGMENT_BYTES_MAX);
        let active = self.active();
        let file = self.file(active, FileKind::Log);
        let from = self.end_place();
        let segment = &mut self.segments[active];
        let before = (segment.max_timestamp, segment.max_timestamp_last);
        let mut parts = Vec::with_capacity(2 * ready.len());
        for Ready { header, parts: [stamp, rest] } in ready {
            self.epochs_dirty |= self.epochs.assign(header.leader_epoch, header.base_offset);
            if self.busy.marks.len() == MARKS_MAX {
                self.busy.marks.pop_front();
            }
            self.busy.marks.push_back(Mark { offset: header.base_offset, position: segment.size });
            let placed = PlacedBatch {
                base: header.base_offset,
                last: header.last_offset(),
                max_timestamp: header.max_timestamp,
                size: header.size() as u64,
            };
            segment.push(placed, self.config.index_interval_bytes);
            parts.extend([stamp, rest].into_iter().filter(|part| !part.is_empty()));
        }
        // Its id first: a log with batches and without an id is nobody's.
        self.write_metadata();
        self.dirty.add(now, bytes, last_offset + 1 - self.end);
        self.end = last_offset + 1;
        let seq = self.ask(Op::Write { file, position: from.position, parts }, Pending::Append);
        let to = self.end_place();
        self.busy.appends.push_back(Appending { seq, from, to, before, done: false });
        self.sync_if_wanted();
    }

    /// Writes the topic's id that a crash has taken.
    pub(crate) fn give_id(&mut self) {
        self.write_metadata();
        self.dirty.since.get_or_insert_default();
    }

    /// Writes `partition.metadata` before the first batch. It becomes durable with the first flush or, with a sync per append,
    /// before the first append counts as stored.
    pub(super) fn write_metadata(&mut self) {
        if self.metadata != Metadata::Missing {
            return;
        }
        let file = self.files.take();
        let path = self.path(PARTITION_METADATA);
        self.ask(Op::Open { file, path, create: true }, Pending::Must);
        let parts = vec![Bytes::from(encode_metadata(self.topic))];
        self.ask(Op::Write { file, position: 0, parts }, Pending::Metadata);
        self.metadata = Metadata::Written(file);
    }

    pub(super) fn append_done(&mut self, now: Now, cache: &mut IndexCache, seq: u32, done: Done) {
        let at = self.busy.appends.iter().position(|a| a.seq == seq);
        match (done, at) {
            (Done::Failed(Fault::Full), Some(at)) => {
                let Appending { from, before, .. } = self.busy.appends[at];
                self.state = State::Full { until: now.mono.after_ms(FULL_RETRY_MS) };
                let rolled_back = &mut self.events().rolled_back;
                *rolled_back = Some(rolled_back.map_or(from.offset, |b| b.min(from.offset)));
                self.roll_back(cache, from, before);
            }
            // A write behind one that was taken back.
            (Done::Failed(Fault::Full), None) => {}
            (Done::Failed(fault), _) => self.go_offline(fault),
            (_, Some(at)) => {
                self.busy.appends[at].done = true;
                while self.busy.appends.front().is_some_and(|a| a.done) {
                    self.written = self.busy.appends.pop_front().map_or(self.written, |a| a.to);
                }
                self.advance_stored();
            }
            (_, None) => {}
        }
    }

    /// Forgets the appends from `from` on and cuts the file there.
    fn roll_back(&mut self, cache: &mut IndexCache, from: Place, before: (i64, i64)) {
        let Some(at) = self.segment_at(from.segment) else { return };
        let (max_timestamp, max_timestamp_last) = before;
        let segment = &mut self.segments[at];
        (segment.max_timestamp, segment.max_timestamp_last) = (max_timestamp, max_timestamp_last);
        let keep = (segment.index.flushed, segment.time.flushed);
        self.cut(cache, from, keep);
    }

    /// Moves the stored offset to where the durability that the topic asks for has come.
    pub(super) fn advance_stored(&mut self) {
        let syncs = self.config.syncs_every_append() && !planted(Bug::SkipSync);
        let reached = match syncs {
            true if self.metadata != Metadata::Durable => return,
            true => self.synced,
            false => self.written,
        };
        if reached.offset > self.stored.offset {
            self.stored = reached;
            self.events().stored = Some(reached.offset);
        }
    }
}
