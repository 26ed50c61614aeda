//! The metadata log on disk: segments of record batches in Kafka's format, one batch per entry.
//!
//! Entries count as durable when [`Log::append`] returns, after one write and one sync for all of them.
//! Recovery reads what follows the last snapshot, cuts what a crash left half written, and refuses to start
//! on damage before that: nothing that was acknowledged is ever cut silently. After a failed write or sync
//! nothing more is written.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use moldau_base::NodeId;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::planted::{Bug, planted};
use moldau_batch::{Batch, Header};

use crate::codec::{self, Place};
use crate::recovery::{self, Damage};
use crate::room::Room;
use crate::snapshot::SnapshotId;
use crate::types::{Entry, LogId, Membership, log_id, term};

/// The directory of the metadata log.
pub(crate) const DIRECTORY: &str = "__cluster_metadata-0";

/// Bytes of entries that are read at once.
const RUN_BYTES: u64 = 1 << 20;

/// The path of a file of the metadata log.
pub(crate) fn path(dir: DirId, file: &str) -> Path {
    Path::new(dir, format!("{DIRECTORY}/{file}"))
}

/// Where one entry lies in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) position: u64,
    pub(crate) size: u64,
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    pub(crate) term: u64,
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    pub(crate) first_index: u64,
    pub(crate) entries: Vec<Span>,
    pub(crate) size: u64,
}

impl Segment {
    fn new(base_offset: i64, first_index: u64) -> Segment {
        Segment { base_offset, first_index, entries: vec![], size: 0 }
    }

    pub(crate) fn name(&self) -> String {
        format!("{:020}.log", self.base_offset)
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.first_index + self.entries.len() as u64
    }
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    next_index: u64,
    next_offset: i64,
}

/// The log.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: DirId,
    /// Roll when a segment has this many bytes.
    segment_bytes: u64,
    segments: Vec<Segment>,
    end: End,
    /// The last entry that is gone, because a snapshot contains it.
    purged: Option<LogId>,
    /// The next append begins a segment.
    roll: bool,
    /// Entries that are not applied yet, and their batches, so that nobody reads them again.
    recent: VecDeque<(Entry, Bytes)>,
    room: Room,
    failed: Option<String>,
}

impl Log {
    /// Opens the log after a snapshot; `cut` bytes of a torn end are gone.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: DirId,
        segment_bytes: u64,
        snapshot: Option<SnapshotId>,
    ) -> Result<(Log, u64), Damage> {
        let (segments, cut) = recovery::recover(&*disk, dir, snapshot)?;
        let after = snapshot.map_or(End { next_index: 0, next_offset: 0 }, |s| End {
            next_index: s.id.index + 1,
            next_offset: s.end_offset,
        });
        let end = segments.last().map_or(after, |segment| End {
            next_index: segment.next_index(),
            next_offset: segment.entries.last().map_or(segment.base_offset, |span| span.next_offset),
        });
        let log = Log {
            disk,
            dir,
            segment_bytes,
            segments,
            end,
            purged: snapshot.map(|s| s.id),
            roll: false,
            recent: VecDeque::new(),
            room: Room::default(),
            failed: None,
        };
        Ok((log, cut))
    }

    /// Offset of the next record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.end.next_offset
    }

    /// The last entry that is gone.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry, which may be gone.
    pub(crate) fn last(&self) -> Option<LogId> {
        let index = self.end.next_index.checked_sub(1)?;
        self.span(index).map(|(_, span)| log_id(span.term, index)).or(self.purged)
    }

    /// The term of the entry with this index, if it is still there.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        self.span(index).map(|(_, span)| span.term)
    }

    /// The offset behind an entry, or that of the first one; `None` if the entry is not known here.
    pub(crate) fn offset_after(&self, id: Option<LogId>) -> Option<i64> {
        let Some(id) = id else { return Some(0) };
        let here = self.span(id.index).filter(|(_, span)| span.term == term(&id));
        let at_end =
            (self.purged == Some(id) && self.end.next_index == id.index + 1).then_some(self.end.next_offset);
        here.map(|(_, span)| span.next_offset).or(at_end)
    }

    /// The first offset that is there; the next one, if none is.
    pub(crate) fn start_offset(&self) -> i64 {
        self.segments.first().map_or(self.end.next_offset, |first| first.base_offset)
    }

    /// The epoch of the record before this offset, if that is still there.
    pub(crate) fn epoch_before(&self, offset: i64) -> Option<i32> {
        let (segment, place) = self.at_offset(offset.checked_sub(1)?)?;
        i32::try_from(segment.entries[place].term).ok()
    }

    /// The batches from the one with the record `from` on, those before `end`, in the order of the log: not more than `limit` bytes if they
    /// are more than one, and not all if they lie in several segments.
    pub(crate) fn batches_from(&self, from: i64, end: i64, limit: usize) -> io::Result<Bytes> {
        let Some((segment, first)) = self.at_offset(from) else { return Ok(Bytes::new()) };
        let position = segment.entries[first].position;
        let mut len = 0;
        for span in segment.entries[first..].iter().take_while(|span| span.next_offset <= end) {
            let longer = usize::try_from(span.position + span.size - position).unwrap_or(usize::MAX);
            if len > 0 && longer > limit {
                break;
            }
            len = longer;
        }
        self.disk.read(&path(self.dir, &segment.name()), position, len)
    }

    /// The segment of a record, and the place of its entry there.
    fn at_offset(&self, offset: i64) -> Option<(&Segment, usize)> {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        let segment = &self.segments[after.checked_sub(1)?];
        let place = segment.entries.partition_point(|span| span.next_offset <= offset);
        (place < segment.entries.len()).then_some((segment, place))
    }

    /// Why nothing more is written.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Bytes of the entries after the last snapshot.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    fn span(&self, index: u64) -> Option<(&Segment, &Span)> {
        let after = self.segments.partition_point(|segment| segment.first_index <= index);
        let segment = &self.segments[after.checked_sub(1)?];
        Some((segment, segment.entries.get(usize::try_from(index - segment.first_index).ok()?)?))
    }

    /// Finds room for entries of `bytes`, which are appended before [`Log::settle_room`]. An error, the disk being full, changes nothing.
    pub(crate) fn find_room(&mut self, bytes: u64) -> io::Result<()> {
        self.check()?;
        let goes_on = self.segments.last().filter(|last| !self.rolls(last));
        let (base_offset, size) =
            goes_on.map_or((self.end.next_offset, 0), |last| (last.base_offset, last.size));
        let path = path(self.dir, &Segment::new(base_offset, 0).name());
        self.room.let_in(&*self.disk, &path, (base_offset, size), bytes)
    }

    /// Nothing that was let in waits to be appended.
    pub(crate) fn settle_room(&mut self) {
        self.room.settle();
    }

    /// Whether the next append begins a segment behind this one.
    fn rolls(&self, last: &Segment) -> bool {
        self.roll || last.size >= self.segment_bytes
    }

    /// Appends `entries` and makes them durable. Those that came from the leader have a batch in `received`.
    pub(crate) fn append(
        &mut self,
        entries: Vec<Entry>,
        received: Vec<Option<Batch>>,
        timestamp: i64,
        leader: NodeId,
        voters: &Membership,
    ) -> io::Result<()> {
        self.check()?;
        if entries.is_empty() {
            return Ok(());
        }
        let result = self.try_append(entries, &received, timestamp, leader, voters);
        self.remember_failure(result)
    }

    fn try_append(
        &mut self,
        entries: Vec<Entry>,
        received: &[Option<Batch>],
        timestamp: i64,
        leader: NodeId,
        voters: &Membership,
    ) -> io::Result<()> {
        let mut end = self.end;
        if self.segments.last().is_none_or(|last| self.rolls(last)) {
            self.segments.push(Segment::new(end.next_offset, end.next_index));
        }
        self.roll = false;
        let segment = self.segments.last_mut().ok_or_else(|| io::Error::other("no segment"))?;
        let mut position = segment.size;
        let mut parts = Vec::with_capacity(entries.len());
        let mut spans = Vec::with_capacity(entries.len());
        for (in_group, (entry, received)) in (0..).zip(entries.iter().zip(received)) {
            if entry.log_id.index != end.next_index {
                let (index, expected) = (entry.log_id.index, end.next_index);
                return Err(io::Error::other(format!("entry {index} where entry {expected} belongs")));
            }
            let place = Place { base_offset: end.next_offset, in_group, timestamp, leader };
            let bytes = match received {
                Some(batch) if batch.header().base_offset == end.next_offset => {
                    codec::regroup(batch, in_group)
                }
                Some(batch) => return Err(misplaced(batch, end.next_offset)),
                None => codec::encode(entry, place, voters)?,
            };
            let next_offset = end.next_offset + codec::offsets(entry);
            spans.push(Span {
                position,
                size: bytes.len() as u64,
                base_offset: end.next_offset,
                next_offset,
                term: term(&entry.log_id),
            });
            position += bytes.len() as u64;
            end = End { next_index: end.next_index + 1, next_offset };
            parts.push(bytes);
        }
        let path = path(self.dir, &segment.name());
        self.disk.write(&path, segment.size, &parts)?;
        if !planted(Bug::MetadataUnsynced) {
            self.disk.sync(&path)?;
        }
        segment.size = position;
        segment.entries.extend(spans);
        self.end = end;
        self.recent.extend(entries.into_iter().zip(parts));
        Ok(())
    }

    /// The entries with these indexes that are there.
    pub(crate) fn entries(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        // What could not be written must not count as if it were there and empty.
        self.check()?;
        let mut next = self.purged.map_or(0, |id| id.index + 1).max(range.start);
        let end = self.end.next_index.min(range.end);
        let in_memory = self.recent.front().map_or(end, |(entry, _)| entry.log_id.index);
        let mut entries = Vec::new();
        while next < end.min(in_memory) {
            next = self.read_run(next, end.min(in_memory), &mut entries)?;
        }
        let recent = self.recent.iter().map(|(entry, _)| entry);
        entries.extend(recent.filter(|entry| (next..end).contains(&entry.log_id.index)).cloned());
        Ok(entries)
    }

    /// Reads entries that lie one after the other, from `first` on and before `end`; answers with the index after the last.
    fn read_run(&self, first: u64, end: u64, entries: &mut Vec<Entry>) -> io::Result<u64> {
        let (segment, first_span) = self.span(first).ok_or_else(|| damaged(first, "it is not there"))?;
        let (mut next, mut stop) = (first, first_span.position);
        while next < end.min(segment.next_index()) && stop - first_span.position < RUN_BYTES {
            next += 1;
            stop = self.span(next - 1).map_or(stop, |(_, span)| span.position + span.size);
        }
        let len = usize::try_from(stop - first_span.position).unwrap_or(usize::MAX);
        let mut bytes = self.disk.read(&path(self.dir, &segment.name()), first_span.position, len)?;
        for index in first..next {
            let batch = Batch::verify(&bytes).map_err(|error| damaged(index, error))?;
            let entry = codec::decode(&batch).map_err(|why| damaged(index, why))?;
            if entry.log_id.index != index {
                return Err(damaged(index, format_args!("it says {}", entry.log_id)));
            }
            bytes.advance(batch.bytes().len());
            entries.push(entry);
        }
        Ok(next)
    }

    /// The batches of the first of `entries`, not more than `limit` bytes if they are more than one, and how many
    /// they are.
    pub(crate) fn batches(&self, entries: &[Entry], limit: usize) -> io::Result<(Bytes, usize)> {
        let mut bytes = BytesMut::new();
        for (count, entry) in entries.iter().enumerate() {
            let batch = self.batch(&entry.log_id)?;
            if count > 0 && bytes.len() + batch.len() > limit {
                return Ok((bytes.freeze(), count));
            }
            bytes.extend_from_slice(&batch);
        }
        Ok((bytes.freeze(), entries.len()))
    }

    /// The batch of one entry.
    fn batch(&self, id: &LogId) -> io::Result<Bytes> {
        if let Some((_, bytes)) = self.recent.iter().find(|(entry, _)| entry.log_id == *id) {
            return Ok(bytes.clone());
        }
        let span = self.span(id.index).filter(|(_, span)| span.term == term(id));
        let (segment, span) = span.ok_or_else(|| damaged(id.index, "it is not there"))?;
        let len = usize::try_from(span.size).unwrap_or(usize::MAX);
        self.disk.read(&path(self.dir, &segment.name()), span.position, len)
    }

    /// A snapshot of the leader stands for everything up to it: without the entries before it, the log goes on
    /// after it.
    pub(crate) fn follow(&mut self, snapshot: SnapshotId) -> io::Result<()> {
        self.check()?;
        let known = self.span(snapshot.id.index).is_some_and(|(_, span)| span.term == term(&snapshot.id));
        if known {
            return Ok(());
        }
        let result = self.try_truncate(self.segments.first().map_or(0, |first| first.first_index));
        self.purged = self.purged.max(Some(snapshot.id));
        self.end = End { next_index: snapshot.id.index + 1, next_offset: snapshot.end_offset };
        self.remember_failure(result)
    }

    /// Forgets what was kept in memory of entries up to `index`.
    pub(crate) fn applied(&mut self, index: u64) {
        while self.recent.front().is_some_and(|(entry, _)| entry.log_id.index <= index) {
            self.recent.pop_front();
        }
    }

    /// Removes all entries after `last`.
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.check()?;
        let result = self.try_truncate(last.map_or(0, |id| id.index + 1));
        self.remember_failure(result)
    }

    fn try_truncate(&mut self, next_index: u64) -> io::Result<()> {
        self.recent.retain(|(entry, _)| entry.log_id.index < next_index);
        self.room.forget();
        while let Some(segment) = self.segments.last_mut() {
            let path = path(self.dir, &segment.name());
            if segment.first_index >= next_index {
                self.disk.remove(&path)?;
                self.end = End { next_index: segment.first_index, next_offset: segment.base_offset };
                self.segments.pop();
                continue;
            }
            let keep = usize::try_from(next_index - segment.first_index).unwrap_or(usize::MAX);
            if let Some(first_cut) = segment.entries.get(keep).copied() {
                self.disk.truncate(&path, first_cut.position)?;
                self.disk.sync(&path)?;
                segment.size = first_cut.position;
                segment.entries.truncate(keep);
                self.end = End { next_index, next_offset: first_cut.base_offset };
            }
            return Ok(());
        }
        Ok(())
    }

    /// Removes the segments that hold nothing after `id`, which a snapshot contains.
    pub(crate) fn purge(&mut self, id: LogId) -> io::Result<()> {
        self.check()?;
        self.purged = self.purged.max(Some(id));
        let result = self.try_purge(id.index);
        self.remember_failure(result)
    }

    fn try_purge(&mut self, index: u64) -> io::Result<()> {
        while self.segments.first().is_some_and(|first| first.next_index() <= index + 1) {
            self.disk.remove(&path(self.dir, &self.segments[0].name()))?;
            self.segments.remove(0);
        }
        Ok(())
    }

    /// Begins a segment with the next append, so that a snapshot lets the earlier ones go.
    pub(crate) fn roll(&mut self) {
        self.roll = self.segments.last().is_some_and(|last| !last.entries.is_empty());
    }

    fn check(&self) -> io::Result<()> {
        match &self.failed {
            Some(why) => Err(io::Error::other(format!("the metadata log is offline: {why}"))),
            None => Ok(()),
        }
    }

    fn remember_failure(&mut self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            self.failed = Some(error.to_string());
        }
        result
    }
}

fn misplaced(batch: &Batch, next_offset: i64) -> io::Error {
    let offset = batch.header().base_offset;
    io::Error::other(format!("an entry of the leader is at offset {offset} where {next_offset} belongs"))
}

fn damaged(index: u64, why: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{DIRECTORY}: entry {index} is damaged: {why}"))
}

/// The span of a batch header at `position`.
pub(crate) fn span(header: &Header, position: u64, term: u64) -> Span {
    Span {
        position,
        size: header.size() as u64,
        base_offset: header.base_offset,
        next_offset: header.next_offset(),
        term,
    }
}

/// Reads a whole file.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let len = disk.len(path)?.unwrap_or(0);
    let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    disk.read(path, 0, len)
}
