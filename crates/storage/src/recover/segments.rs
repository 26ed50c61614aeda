//! One segment at a time: trusted when it was flushed, scanned when it was not, its indexes made again when they are not to be
//! trusted.

use std::io;

use moldau_base::disk::{Fault, FileId, Path};
use moldau_batch::Header;

use super::files::Files;
use super::{Finding, FindingKind};
use crate::epochs::EpochHistory;
use crate::index::{
    INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES, TimeEntry, encode_index, encode_time_index, floor, parse_index,
    parse_time_index,
};
use crate::names::FileKind;
use crate::scan::{Depth, Scanned, Scanner};
use crate::segment::{PlacedBatch, Segment, SegmentMeta};

/// How often a segment is gone over: each time less of it is left. What would need more is left to the next start.
const MOST_PASSES: usize = 16;

/// Where in a segment a scan begins, and what is known of what is before.
struct Beginning {
    position: u64,
    next: i64,
    index: u32,
    time: u32,
    newest: (i64, i64),
}

impl Beginning {
    /// The segment as it is known so far.
    fn segment(&self, base: i64) -> Segment {
        let meta = SegmentMeta {
            size: self.position,
            max_timestamp: self.newest.0,
            max_timestamp_last: self.newest.1,
            index_entries: self.index,
            time_entries: self.time,
            last_time_entry: self.newest.0,
            ..SegmentMeta::empty(base)
        };
        Segment::new(meta, FileId(0), 0)
    }
}

/// What a scan of a segment found.
pub(super) struct ScannedSegment {
    pub(super) meta: SegmentMeta,
    /// Where in its file the scan began.
    pub(super) from: u64,
    /// Offset behind its last batch.
    pub(super) next: i64,
    /// It ends before its file does, because of this.
    pub(super) flaw: Option<String>,
}

/// What going over a segment once found.
struct Pass {
    segment: Segment,
    /// First offset of its last batch.
    last: i64,
    next: i64,
    flaw: Option<String>,
}

/// A batch that the scan has passed. It is taken when what follows it is seen, for its epoch's sake.
struct Passed {
    position: u64,
    header: Header,
    /// It says of itself that it is below the recovery point: its header alone was looked at.
    was_flushed: bool,
}

impl Passed {
    /// Why a segment from `base` on cannot hold it behind a batch of this epoch.
    fn misfit(&self, base: i64, epoch: i32) -> Option<String> {
        if !self.was_flushed && self.header.leader_epoch < epoch {
            return Some(format!("leader epoch {} behind {epoch}", self.header.leader_epoch));
        }
        let far = self.header.last_offset() - base > i64::from(i32::MAX);
        far.then(|| "offsets too far from the segment's base".to_owned())
    }
}

/// Recovers the segments of one partition.
pub(super) struct Segments<'a, 'b> {
    pub(super) files: &'b mut Files<'a>,
    pub(super) log: &'b str,
    pub(super) interval: u32,
    pub(super) findings: &'b mut Vec<Finding>,
    pub(super) scanned_bytes: &'b mut u64,
    /// Files to sync before the logs are used.
    pub(super) unsynced: &'b mut Vec<Path>,
    pub(super) epochs: &'b mut EpochHistory,
    /// What the checkpoint says, if it can be read: what a flush has written of the batches below the recovery point.
    pub(super) flushed_epochs: Option<&'b EpochHistory>,
}

impl Segments<'_, '_> {
    fn find(&mut self, what: FindingKind) {
        self.findings.push(Finding { log: self.log.to_owned(), what });
    }

    fn rebuilt(&mut self, segment: i64, kind: FileKind, why: String) {
        self.find(FindingKind::Rebuilt { segment, kind, why });
    }

    /// A sealed segment below the recovery point: only the ends of its indexes are looked at. One that cannot be trusted is
    /// made again from the headers.
    pub(super) fn trust(&mut self, base: i64, end: i64) -> io::Result<SegmentMeta> {
        match self.plausible(base, end)? {
            Ok(meta) => Ok(meta),
            Err((kind, why)) => {
                self.rebuilt(base, kind, why);
                let size = self.files.segments.get(&base).and_then(|f| f.log).unwrap_or(0);
                let none = Beginning { position: 0, next: base, index: 0, time: 0, newest: (-1, base) };
                let pass = self.pass(base, &none, end, size)?;
                if let Some(why) = pass.flaw {
                    let (offset, position) = (pass.next, pass.segment.size);
                    self.find(FindingKind::Damaged { offset, segment: base, position, why });
                }
                Ok(SegmentMeta { size, ..self.write_indexes(pass.segment, &none)? })
            }
        }
    }

    fn plausible(&self, base: i64, end: i64) -> io::Result<Result<SegmentMeta, (FileKind, String)>> {
        let files = self.files.segments.get(&base).copied().unwrap_or_default();
        let size = files.log.unwrap_or(0);
        let span = u64::try_from(end - base).unwrap_or(0);
        let last = |kind, len: u64, bytes: u64| -> io::Result<Option<bytes::Bytes>> {
            let path = self.files.segment_path(base, kind);
            if len == 0 {
                return Ok(None);
            }
            let bytes = bytes.min(len);
            self.files.disk.read(&path, len - bytes, bytes as usize).map(Some)
        };
        // So little that it has no entries, and no file for them.
        let index = files.index.or((size <= u64::from(self.interval)).then_some(0));
        let (Some(index), Some(time)) = (index, files.time) else {
            let kind = if index.is_none() { FileKind::Index } else { FileKind::TimeIndex };
            let needed = size > 0;
            let empty = SegmentMeta { size, ..SegmentMeta::empty(base) };
            return Ok(if needed { Err((kind, "it is missing".into())) } else { Ok(empty) });
        };
        if index % INDEX_ENTRY_BYTES != 0 || index / INDEX_ENTRY_BYTES > size {
            return Ok(Err((FileKind::Index, format!("it has {index} bytes"))));
        }
        if time % TIME_ENTRY_BYTES != 0 || time / TIME_ENTRY_BYTES > size {
            return Ok(Err((FileKind::TimeIndex, format!("it has {time} bytes"))));
        }
        if let Some(bytes) = last(FileKind::Index, index, INDEX_ENTRY_BYTES)? {
            let entry = parse_index(&bytes, size).ok().and_then(|e| e.first().copied());
            if entry.is_none_or(|e| u64::from(e.last) >= span) {
                return Ok(Err((FileKind::Index, "its last entry is not possible".into())));
            }
        }
        let mut meta = SegmentMeta { size, ..SegmentMeta::empty(base) };
        // Two of them: entries grow, and what the last one says decides what searches by time pass over and when retention takes the segment.
        if let Some(bytes) = last(FileKind::TimeIndex, time, 2 * TIME_ENTRY_BYTES)? {
            let entries = parse_time_index(&bytes).unwrap_or_default();
            let entry = entries.last().copied().filter(|e| u64::from(e.last) < span);
            let Some(entry) = entry.filter(|e| entries.len() > 1 || self.is_not_older(base, size, e)) else {
                return Ok(Err((FileKind::TimeIndex, "its last entry is not possible".into())));
            };
            meta.max_timestamp = entry.timestamp_ms;
            meta.max_timestamp_last = base + i64::from(entry.last);
            meta.last_time_entry = entry.timestamp_ms;
        }
        meta.index_entries = (index / INDEX_ENTRY_BYTES) as u32;
        meta.time_entries = (time / TIME_ENTRY_BYTES) as u32;
        Ok(Ok(meta))
    }

    /// Whether a segment's only time index entry is not older than its first batch, as far as that can be read.
    fn is_not_older(&self, base: i64, size: u64, entry: &TimeEntry) -> bool {
        let path = self.files.segment_path(base, FileKind::Log);
        let first = Scanner::new(self.files.disk, path, size, 0, base).next(Depth::Headers);
        !matches!(first, Ok(Scanned::Batch { header, .. }) if header.max_timestamp > entry.timestamp_ms)
    }

    /// A segment whose end is not known: reads it from the last index entry before `verified` on, with checksums from
    /// `verified` on. Where the end is cut off behind damage, or directly behind what was flushed, it may have spoken against a
    /// batch in front, or for one: what is left is looked at again, as the next start would.
    pub(super) fn scan(&mut self, base: i64, verified: i64) -> io::Result<ScannedSegment> {
        let beginning = self.beginning(base, verified)?;
        let (known, epochs) = (self.findings.len(), self.epochs.clone());
        let mut len = self.files.segments.get(&base).and_then(|f| f.log).unwrap_or(0);
        let (mut passes, mut flaw) = (1, None);
        let pass = loop {
            let mut pass = self.pass(base, &beginning, verified, len)?;
            flaw = pass.flaw.take().or(flaw);
            let is_doubted = self.findings.len() > known || pass.last < verified;
            if pass.segment.size >= len || !is_doubted || passes == MOST_PASSES {
                break pass;
            }
            len = pass.segment.size;
            passes += 1;
            self.findings.truncate(known);
            self.epochs.clone_from(&epochs);
        };
        let next = pass.next;
        let meta = self.write_indexes(pass.segment, &beginning)?;
        Ok(ScannedSegment { meta, from: beginning.position, next, flaw })
    }

    fn beginning(&mut self, base: i64, verified: i64) -> io::Result<Beginning> {
        let none = Beginning { position: 0, next: base, index: 0, time: 0, newest: (-1, base) };
        let files = self.files.segments.get(&base).copied().unwrap_or_default();
        let size = files.log.unwrap_or(0);
        let upto = u32::try_from(verified.saturating_sub(base)).unwrap_or(u32::MAX);
        if files.index.is_none() || verified <= base || size == 0 {
            let flushed = verified > base && verified < i64::MAX;
            if files.index.is_none() && size > u64::from(self.interval) && flushed {
                self.rebuilt(base, FileKind::Index, "it is missing".into());
            }
            return Ok(none);
        }
        let read = |kind| self.files.read(&self.files.segment_path(base, kind));
        let index = match parse_index(&read(FileKind::Index)?.unwrap_or_default(), size) {
            Ok(entries) => entries,
            Err(bad) => {
                self.rebuilt(base, FileKind::Index, bad.to_string());
                return Ok(none);
            }
        };
        let times = match parse_time_index(&read(FileKind::TimeIndex)?.unwrap_or_default()) {
            Ok(entries) => entries,
            Err(bad) => {
                self.rebuilt(base, FileKind::TimeIndex, bad.to_string());
                return Ok(none);
            }
        };
        let Some(entry) = floor(&index, upto) else { return Ok(none) };
        let kept = index.partition_point(|e| e.position <= entry.position);
        let time = times.partition_point(|e| e.last <= entry.last);
        // Each index entry came with a time entry unless nothing was newer: without any there is no knowing.
        let Some(newest) = time.checked_sub(1).map(|i| times[i]) else { return Ok(none) };
        let before = kept.checked_sub(2).map_or(base, |i| base + i64::from(index[i].last) + 1);
        let path = self.files.segment_path(base, FileKind::Log);
        let mut there = Scanner::new(self.files.disk, path, size, entry.position.into(), before);
        let last = base + i64::from(entry.last);
        let first = match there.next(Depth::Headers)? {
            Scanned::Batch { header, .. } if header.last_offset() == last => header.base_offset,
            _ => {
                // What an index says must not decide where the log ends.
                self.rebuilt(base, FileKind::Index, "its last entry names no batch".to_owned());
                return Ok(none);
            }
        };
        Ok(Beginning {
            position: entry.position.into(),
            next: first,
            index: kept as u32,
            time: time as u32,
            newest: (newest.timestamp_ms, base + i64::from(newest.last)),
        })
    }

    /// Goes once over the first `len` bytes of a segment's file.
    fn pass(&mut self, base: i64, beginning: &Beginning, verified: i64, len: u64) -> io::Result<Pass> {
        let mut segment = beginning.segment(base);
        let path = self.files.segment_path(base, FileKind::Log);
        let scanner = Scanner::new(self.files.disk, path, len, beginning.position, beginning.next);
        let mut scanner = scanner.verifying_from(verified);
        if verified == i64::MAX && beginning.position > 0 {
            scanner = scanner.behind_last_entry(self.interval);
        }
        let (mut passed, mut epoch): (Option<Passed>, i32) = (None, -1);
        let mut last = beginning.next;
        let flaw = loop {
            let before = scanner.next_offset();
            let (position, why) = match scanner.next_in_place(Depth::Headers)? {
                Scanned::End => break None,
                Scanned::Flaw(flaw) => break Some(flaw.to_string()),
                Scanned::Damaged { position, flaw } => (position, flaw.to_string()),
                Scanned::Batch { position, header } => {
                    let batch = Passed { position, header, was_flushed: header.base_offset < verified };
                    self.take(&mut segment, passed.take(), Some(&batch), &mut epoch);
                    let Some(why) = batch.misfit(base, epoch) else {
                        last = header.base_offset;
                        passed = Some(batch);
                        continue;
                    };
                    scanner.go_to(position, before);
                    if before >= verified || !scanner.resync()? {
                        break Some(why);
                    }
                    (position, why)
                }
            };
            self.take(&mut segment, passed.take(), None, &mut epoch);
            self.find(FindingKind::Damaged { offset: before, segment: base, position, why });
        };
        self.take(&mut segment, passed, None, &mut epoch);
        // A sealed segment's last time entry tells its greatest timestamp; it may have been behind the entries that were kept.
        segment.note_time();
        *self.scanned_bytes += scanner.read_bytes;
        let next = if segment.size > 0 { scanner.next_offset() } else { base };
        Ok(Pass { segment, last, next, flaw })
    }

    /// Takes a batch into the segment. `epoch` is the last one that was believed.
    fn take(
        &mut self,
        segment: &mut Segment,
        batch: Option<Passed>,
        follower: Option<&Passed>,
        epoch: &mut i32,
    ) {
        let Some(batch) = batch else { return };
        *epoch = self.settle_epoch(segment.base, &batch, follower, *epoch);
        let Passed { position, header, .. } = batch;
        // Behind damage, positions jump.
        segment.size = position;
        let placed = PlacedBatch {
            base: header.base_offset,
            last: header.last_offset(),
            max_timestamp: header.max_timestamp,
            size: header.size() as u64,
        };
        segment.push(placed, self.interval);
    }

    /// Notes the leader epoch of a batch, which is not under its checksum. What a flush has written into the checkpoint stands against that of
    /// a batch below the recovery point; without it, that of the batch behind, since epochs do not go back. Returns the last one
    /// that is believed.
    fn settle_epoch(&mut self, base: i64, batch: &Passed, follower: Option<&Passed>, before: i32) -> i32 {
        let (offset, found) = (batch.header.base_offset, batch.header.leader_epoch);
        let flushed = self.flushed_epochs.filter(|_| batch.was_flushed);
        let expected = match flushed {
            Some(epochs) => epochs.epoch_at(offset).unwrap_or(before),
            None => {
                let next = follower.filter(|next| batch.was_flushed && next.was_flushed);
                if next.is_some_and(|next| next.header.leader_epoch < found) { before } else { found }
            }
        };
        if expected != found {
            let wrong = |f: &Finding| {
                f.log == self.log && matches!(f.what, FindingKind::Epoch { segment, .. } if segment == base)
            };
            if !self.findings.iter().any(wrong) {
                self.find(FindingKind::Epoch { offset, segment: base, epoch: found });
            }
        } else if flushed.is_none() {
            self.epochs.assign(found, offset);
        }
        expected
    }

    /// Writes the entries that the scan made behind those that were kept.
    fn write_indexes(&mut self, mut segment: Segment, beginning: &Beginning) -> io::Result<SegmentMeta> {
        let base = segment.base;
        let files = self.files.segments.get(&base).copied().unwrap_or_default();
        let (first, entries) = segment.index.emit();
        let index = (u64::from(first) * INDEX_ENTRY_BYTES, encode_index(entries));
        let (first, entries) = segment.time.emit();
        let time = (u64::from(first) * TIME_ENTRY_BYTES, encode_time_index(entries));
        debug_assert_eq!(first, beginning.time);
        let disk = self.files.disk;
        for (kind, len, (position, bytes)) in
            [(FileKind::Index, files.index, index), (FileKind::TimeIndex, files.time, time)]
        {
            let path = self.files.segment_path(base, kind);
            let end = position + bytes.len() as u64;
            if len.is_some_and(|len| len > end) {
                disk.truncate(&path, position)?;
            }
            if !bytes.is_empty() {
                match disk.write(&path, position, &[bytes]) {
                    Err(error) if Fault::from(&error) == Fault::Full => {
                        segment.forget_indexes();
                        segment.last_time_entry = -1;
                        self.leave_indexes_out(base)?;
                        break;
                    }
                    written => written?,
                }
                self.unsynced.push(path);
            }
        }
        Ok(SegmentMeta {
            base,
            size: segment.size,
            max_timestamp: segment.max_timestamp,
            max_timestamp_last: segment.max_timestamp_last,
            first_timestamp: segment.first_timestamp,
            since_entry: segment.since_entry,
            index_entries: segment.index.len(),
            time_entries: segment.time.len(),
            last_time_entry: segment.last_time_entry,
        })
    }

    /// The disk is full: what is there can be read without indexes, and a later start makes them.
    fn leave_indexes_out(&mut self, base: i64) -> io::Result<()> {
        let paths = [FileKind::Index, FileKind::TimeIndex].map(|kind| self.files.segment_path(base, kind));
        for path in &paths {
            self.files.disk.remove(path)?;
        }
        self.unsynced.retain(|path| !paths.contains(path));
        // A sync of a file beside them makes it durable that they are gone: a part of one would be taken for all of it.
        self.unsynced.push(self.files.segment_path(base, FileKind::Log));
        self.find(FindingKind::NoRoom { segment: base });
        Ok(())
    }
}
