//! One segment of a log as its log sees it: three files, their lengths, and the index entries that are not in files yet.

use moldau_base::disk::FileId;

use crate::index::{INDEX_ENTRY_BYTES, IndexEntry, TIME_ENTRY_BYTES, TimeEntry};
use crate::names::FileKind;

/// Hands out file ids, one block of them to each log. One per shard; ids of different shards differ.
#[derive(Debug)]
pub struct FileIds {
    shard: u16,
    logs: u32,
}

const LOG_BITS: u32 = 26;
const FILE_BITS: u32 = 26;

impl FileIds {
    /// The allocator of this shard (0 to 4,095).
    pub fn new(shard: u16) -> FileIds {
        assert!(u32::from(shard) < 1 << (64 - LOG_BITS - FILE_BITS), "shard {shard} has no file ids");
        FileIds { shard, logs: 0 }
    }

    pub(crate) fn block(&mut self) -> FileBlock {
        let log = self.logs;
        assert!(log < 1 << LOG_BITS, "a shard opened 2^26 logs");
        self.logs += 1;
        FileBlock { high: (u64::from(self.shard) << LOG_BITS | u64::from(log)) << FILE_BITS, next: 0 }
    }
}

/// The file ids of one log.
#[derive(Debug)]
pub(crate) struct FileBlock {
    high: u64,
    next: u32,
}

impl FileBlock {
    /// Ids for the files of one segment, or for `partition.metadata`: the first of [`FILES_PER_SEGMENT`].
    pub(crate) fn take(&mut self) -> FileId {
        let first = self.next;
        assert!(first < (1 << FILE_BITS) - FILES_PER_SEGMENT, "a log opened 2^26 files");
        self.next += FILES_PER_SEGMENT;
        FileId(self.high | u64::from(first))
    }

    /// A number no other log of this host has while it runs.
    pub(crate) fn unique(&self) -> u64 {
        self.high
    }
}

const FILES_PER_SEGMENT: u32 = 4;

/// Index entries: how many are in the file, and those that are not known to be there.
#[derive(Clone, Debug)]
pub(crate) struct Tail<E> {
    /// Entries in the file for sure.
    pub(crate) flushed: u32,
    /// Entries whose write was asked for, the flushed ones included.
    pub(crate) emitted: u32,
    /// The entries after the flushed ones.
    pub(crate) entries: Vec<E>,
}

impl<E> Tail<E> {
    fn new(flushed: u32) -> Tail<E> {
        Tail { flushed, emitted: flushed, entries: Vec::new() }
    }

    pub(crate) fn len(&self) -> u32 {
        self.flushed + self.entries.len() as u32
    }

    /// The entries to write next; they count as emitted from here on.
    pub(crate) fn emit(&mut self) -> (u32, &[E]) {
        let first = self.emitted;
        self.emitted = self.len();
        (first, &self.entries[(first - self.flushed) as usize..])
    }

    /// The first `upto` entries are in the file: takes out those that were not known to be.
    pub(crate) fn complete(&mut self, upto: u32) -> Vec<E> {
        let count = upto.saturating_sub(self.flushed) as usize;
        let rest = self.entries.split_off(count.min(self.entries.len()));
        self.flushed = self.flushed.max(upto);
        std::mem::replace(&mut self.entries, rest)
    }

    /// What was emitted and is not flushed must be written again.
    pub(crate) fn retry(&mut self) {
        self.emitted = self.flushed;
    }
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Offset of the first record it may hold.
    pub(crate) base: i64,
    /// Bytes of its log file, those on their way included.
    pub(crate) size: u64,
    files: FileId,
    opened: u8,
    /// Its name is durable.
    pub(crate) named: bool,
    /// Greatest timestamp, -1 if there is none.
    pub(crate) max_timestamp: i64,
    /// Last offset of the batch with that timestamp.
    pub(crate) max_timestamp_last: i64,
    /// Greatest timestamp of the first batch; -1 while there is none or it is not known.
    pub(crate) first_timestamp: i64,
    /// Wall clock when it became the active one.
    pub(crate) created_ms: i64,
    /// Bytes behind the last index entry.
    pub(crate) since_entry: u64,
    pub(crate) index: Tail<IndexEntry>,
    pub(crate) time: Tail<TimeEntry>,
    /// Timestamp of the last time index entry.
    pub(crate) last_time_entry: i64,
    /// Timestamp of the last time index entry that is in the file.
    pub(crate) time_flushed_ms: i64,
}

/// What recovery found out about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) base: i64,
    pub(crate) size: u64,
    pub(crate) max_timestamp: i64,
    pub(crate) max_timestamp_last: i64,
    pub(crate) first_timestamp: i64,
    pub(crate) since_entry: u64,
    pub(crate) index_entries: u32,
    pub(crate) time_entries: u32,
    pub(crate) last_time_entry: i64,
}

impl SegmentMeta {
    pub(crate) fn empty(base: i64) -> SegmentMeta {
        SegmentMeta {
            base,
            size: 0,
            max_timestamp: -1,
            max_timestamp_last: base,
            first_timestamp: -1,
            since_entry: 0,
            index_entries: 0,
            time_entries: 0,
            last_time_entry: -1,
        }
    }
}

impl Segment {
    pub(crate) fn new(meta: SegmentMeta, files: FileId, created_ms: i64) -> Segment {
        Segment {
            base: meta.base,
            size: meta.size,
            files,
            opened: 0,
            named: true,
            max_timestamp: meta.max_timestamp,
            max_timestamp_last: meta.max_timestamp_last,
            first_timestamp: meta.first_timestamp,
            created_ms,
            since_entry: meta.since_entry,
            index: Tail::new(meta.index_entries),
            time: Tail::new(meta.time_entries),
            last_time_entry: meta.last_time_entry,
            time_flushed_ms: meta.last_time_entry,
        }
    }

    pub(crate) fn file(&self, kind: FileKind) -> FileId {
        FileId(self.files.0 + kind as u64)
    }

    /// Marks the file as opened; true the first time.
    pub(crate) fn open(&mut self, kind: FileKind) -> bool {
        let bit = 1 << kind as u8;
        let first = self.opened & bit == 0;
        self.opened |= bit;
        first
    }

    pub(crate) fn is_open(&self, kind: FileKind) -> bool {
        self.opened & (1 << kind as u8) != 0
    }

    /// An offset relative to the base; offsets that do not fit are at the end.
    pub(crate) fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset.saturating_sub(self.base)).unwrap_or(u32::MAX)
    }

    /// Notes a batch that is put at the end.
    pub(crate) fn push(&mut self, batch: PlacedBatch, interval: u32) {
        if self.first_timestamp < 0 {
            self.first_timestamp = batch.max_timestamp;
        }
        if batch.max_timestamp > self.max_timestamp {
            self.max_timestamp = batch.max_timestamp;
            self.max_timestamp_last = batch.last;
        }
        if self.since_entry > u64::from(interval) {
            let (base, last) = (self.relative(batch.base), self.relative(batch.last));
            self.index.entries.push(IndexEntry::new(base, last, self.size as u32));
            self.note_time();
            self.since_entry = 0;
        }
        self.since_entry += batch.size;
        self.size += batch.size;
    }

    /// Adds a time index entry for the greatest timestamp, unless it has one.
    pub(crate) fn note_time(&mut self) {
        if self.max_timestamp > self.last_time_entry {
            let last = self.relative(self.max_timestamp_last);
            self.time.entries.push(TimeEntry { timestamp_ms: self.max_timestamp, last });
            self.last_time_entry = self.max_timestamp;
        }
    }

    /// Its index files are going to be removed.
    pub(crate) fn forget_indexes(&mut self) {
        (self.index, self.time) = (Tail::new(0), Tail::new(0));
    }

    /// True when one more entry would make an index larger than `max_bytes`.
    pub(crate) fn index_is_full(&self, max_bytes: u32) -> bool {
        let (index, time) = (u64::from(self.index.len()) + 1, u64::from(self.time.len()) + 2);
        index * INDEX_ENTRY_BYTES > u64::from(max_bytes) || time * TIME_ENTRY_BYTES > u64::from(max_bytes)
    }
}

/// What a segment must know of a batch that it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacedBatch {
    pub(crate) base: i64,
    pub(crate) last: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) size: u64,
}
