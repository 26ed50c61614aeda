//! The offline reader behind `moldau log dump`: what is in a partition's files, batch by batch, and whether its indexes say
//! the same. It changes nothing, and finds damage anywhere: a running log looks only at what it needs.

use std::collections::VecDeque;
use std::io;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_batch::Header;

use crate::index::{IndexEntry, TimeEntry, parse_index, parse_time_index};
use crate::names::{FileKind, LogDirEntry, PartitionFile, file_name, log_dir_entry, partition_file};
use crate::scan::{Depth, Flaw, Scanned, Scanner};

/// An index is read up to this length, or that of its log file if that is more.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// What a dump comes across, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A segment begins.
    Segment {
        /// Its base offset.
        base: i64,
        /// Bytes of its log file.
        bytes: u64,
    },
    /// A batch.
    Batch {
        /// Base offset of its segment.
        segment: i64,
        /// Where it begins.
        position: u64,
        /// Its header.
        header: Header,
    },
    /// Bytes that are no batch or not the one that was written.
    Damage {
        /// Base offset of its segment.
        segment: i64,
        /// Where they begin.
        position: u64,
        /// Where the next undamaged batch begins; `None` when there is none.
        resumes: Option<u64>,
        /// What is wrong.
        flaw: Flaw,
    },
    /// An index that does not fit the log.
    Index {
        /// Base offset of its segment.
        segment: i64,
        /// Which.
        kind: FileKind,
        /// What is wrong.
        why: String,
    },
}

/// What a dump counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments.
    pub segments: u64,
    /// Batches.
    pub batches: u64,
    /// Records, by the headers.
    pub records: u64,
    /// Bytes of the log files.
    pub bytes: u64,
    /// [`Found::Damage`] and [`Found::Index`] together.
    pub problems: u64,
}

/// The directories of a log directory that hold partitions, sorted.
pub fn partitions(disk: &dyn Disk, dir: DirId) -> io::Result<Vec<String>> {
    let entries = disk.list(&Path::new(dir, ""))?;
    let is_partition = |name: &str| matches!(log_dir_entry(name), LogDirEntry::Partition { .. });
    Ok(entries.into_iter().filter(|e| e.is_dir && is_partition(&e.name)).map(|e| e.name).collect())
}

/// Base offsets of a partition's segments, ascending, with the bytes of their log files.
pub fn segments(disk: &dyn Disk, dir: DirId, partition: &str) -> io::Result<Vec<(i64, u64)>> {
    let entries = disk.list(&Path::new(dir, partition))?;
    let base = |name: &str| match partition_file(name) {
        PartitionFile::Segment(base, FileKind::Log) => Some(base),
        _ => None,
    };
    let mut found: Vec<_> = entries.iter().filter_map(|e| Some((base(&e.name)?, e.len))).collect();
    found.sort_unstable();
    Ok(found)
}

/// Goes through all segments of a partition and tells `visit` what it finds. With [`Depth::Checksums`] all bytes are read.
pub fn dump(
    disk: &dyn Disk,
    dir: DirId,
    partition: &str,
    depth: Depth,
    visit: &mut dyn FnMut(Found),
) -> io::Result<Summary> {
    let mut summary = Summary::default();
    let mut next = 0;
    for (base, bytes) in segments(disk, dir, partition)? {
        summary.segments += 1;
        summary.bytes += bytes;
        let mut count = |found: Found| {
            summary.problems += u64::from(matches!(found, Found::Damage { .. } | Found::Index { .. }));
            if let Found::Batch { header, .. } = &found {
                summary.batches += 1;
                summary.records += u64::try_from(header.count).unwrap_or(0);
            }
            visit(found);
        };
        count(Found::Segment { base, bytes });
        let file = Path::new(dir, format!("{partition}/{}", file_name(base, FileKind::Log)));
        let scanner = Scanner::new(disk, file, bytes, 0, base.max(next));
        let indexes = Indexes::load(disk, dir, partition, base, bytes, &mut count)?;
        next = dump_segment(scanner, indexes, depth, &mut count)?;
    }
    Ok(summary)
}

fn dump_segment(
    mut scanner: Scanner<'_>,
    mut indexes: Indexes,
    depth: Depth,
    visit: &mut dyn FnMut(Found),
) -> io::Result<i64> {
    let segment = indexes.segment;
    loop {
        match scanner.next_in_place(depth)? {
            Scanned::Batch { position, header } => {
                visit(Found::Batch { segment, position, header });
                indexes.pass(position, &header, visit);
            }
            Scanned::Damaged { position, flaw } => {
                visit(Found::Damage { segment, position, resumes: Some(scanner.position()), flaw });
            }
            Scanned::Flaw(flaw) => {
                visit(Found::Damage { segment, position: scanner.position(), resumes: None, flaw });
                break;
            }
            Scanned::End => break,
        }
    }
    indexes.finish(scanner.position(), visit);
    Ok(scanner.next_offset())
}

/// Index entries that wait for their batch.
struct Indexes {
    segment: i64,
    index: VecDeque<IndexEntry>,
    time: VecDeque<TimeEntry>,
    newest: i64,
}

impl Indexes {
    fn load(
        disk: &dyn Disk,
        dir: DirId,
        partition: &str,
        segment: i64,
        log_bytes: u64,
        visit: &mut dyn FnMut(Found),
    ) -> io::Result<Indexes> {
        let read = |kind| {
            let path = Path::new(dir, format!("{partition}/{}", file_name(segment, kind)));
            match disk.len(&path)? {
                Some(len) => {
                    // An entry is smaller than its batch; Kafka adds a tail of zeros while it runs.
                    let most = log_bytes.max(INDEX_BYTES_MAX).min(len);
                    disk.read(&path, 0, usize::try_from(most).unwrap_or(usize::MAX)).map(Some)
                }
                None => Ok(None),
            }
        };
        let mut bad = |kind, why: &dyn ToString| visit(Found::Index { segment, kind, why: why.to_string() });
        let index = read(FileKind::Index)?.map_or(Ok(Vec::new()), |bytes| parse_index(&bytes, log_bytes));
        let index = index.unwrap_or_else(|error| {
            bad(FileKind::Index, &error);
            Vec::new()
        });
        let time = read(FileKind::TimeIndex)?.map_or(Ok(Vec::new()), |bytes| parse_time_index(&bytes));
        let time = time.unwrap_or_else(|error| {
            bad(FileKind::TimeIndex, &error);
            Vec::new()
        });
        Ok(Indexes { segment, index: index.into(), time: time.into(), newest: -1 })
    }

    /// Compares the entries that name this batch, or one that should have come before it.
    fn pass(&mut self, position: u64, header: &Header, visit: &mut dyn FnMut(Found)) {
        let segment = self.segment;
        while let Some(entry) = self.index.front().filter(|e| u64::from(e.position) <= position) {
            let last = segment + i64::from(entry.last);
            if u64::from(entry.position) < position || last != header.last_offset() {
                let why = format!("no batch at byte {} ends with offset {last}", entry.position);
                visit(Found::Index { segment, kind: FileKind::Index, why });
            }
            self.index.pop_front();
        }
        while let Some(entry) =
            self.time.front().filter(|e| segment + i64::from(e.last) <= header.last_offset())
        {
            let last = segment + i64::from(entry.last);
            let fits = last >= header.base_offset
                && entry.timestamp_ms == header.max_timestamp
                && entry.timestamp_ms > self.newest;
            if !fits {
                let why = format!("timestamp {} is not the first of offset {last}", entry.timestamp_ms);
                visit(Found::Index { segment, kind: FileKind::TimeIndex, why });
            }
            self.time.pop_front();
        }
        self.newest = self.newest.max(header.max_timestamp);
    }

    /// What is left names batches that are not there.
    fn finish(&mut self, end: u64, visit: &mut dyn FnMut(Found)) {
        let segment = self.segment;
        for (kind, count) in [(FileKind::Index, self.index.len()), (FileKind::TimeIndex, self.time.len())] {
            if count > 0 {
                let why = format!("{count} entries for batches behind byte {end}");
                visit(Found::Index { segment, kind, why });
            }
        }
    }
}
