//! What is in a partition's directory, and reading its small files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::planted::{Bug, planted};

use super::Outdated;
use crate::names::{FileKind, PartitionFile, deleted_name, file_name, partition_file};

/// Largest small file that is read whole: a checkpoint of some million partitions, or a snapshot of as many producers.
const WHOLE_BYTES_MAX: u64 = 256 << 20;

/// What is written again goes in pieces of this size.
const AGAIN_BYTES: u64 = 1 << 20;

/// Lengths of the files of one segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SegmentFiles {
    pub(super) log: Option<u64>,
    pub(super) index: Option<u64>,
    pub(super) time: Option<u64>,
}

/// A partition's directory.
pub(super) struct Files<'a> {
    pub(super) disk: &'a dyn Disk,
    dir: DirId,
    name: String,
    pub(super) segments: BTreeMap<i64, SegmentFiles>,
    pub(super) snapshots: BTreeSet<i64>,
}

impl<'a> Files<'a> {
    /// Lists the directory; removes what a crash left over, and indexes without a log.
    pub(super) fn list(disk: &'a dyn Disk, dir: DirId, name: &str) -> io::Result<Files<'a>> {
        let mut files =
            Files { disk, dir, name: name.to_owned(), segments: BTreeMap::new(), snapshots: BTreeSet::new() };
        for entry in disk.list(&Path::new(dir, name))?.into_iter().filter(|e| !e.is_dir) {
            match partition_file(&entry.name) {
                PartitionFile::Segment(offset, FileKind::Snapshot) => {
                    files.snapshots.insert(offset);
                }
                PartitionFile::Segment(base, kind) => {
                    let segment = files.segments.entry(base).or_default();
                    match kind {
                        FileKind::Log => segment.log = Some(entry.len),
                        FileKind::Index => segment.index = Some(entry.len),
                        FileKind::TimeIndex => segment.time = Some(entry.len),
                        FileKind::TxnIndex | FileKind::Snapshot => {}
                    }
                }
                PartitionFile::Leftover => disk.remove(&files.path(&entry.name))?,
                PartitionFile::Other => {}
            }
        }
        let orphans: Vec<i64> =
            files.segments.iter().filter(|(_, s)| s.log.is_none()).map(|(&base, _)| base).collect();
        for base in orphans {
            files.remove_segment(base)?;
        }
        Ok(files)
    }

    pub(super) fn path(&self, file: &str) -> Path {
        Path::new(self.dir, format!("{}/{file}", self.name))
    }

    pub(super) fn segment_path(&self, base: i64, kind: FileKind) -> Path {
        self.path(&file_name(base, kind))
    }

    /// Removes a segment's files, the log first: indexes without one are no segment.
    pub(super) fn remove_segment(&mut self, base: i64) -> io::Result<()> {
        for kind in [FileKind::Log, FileKind::Index, FileKind::TimeIndex, FileKind::TxnIndex] {
            self.disk.remove(&self.segment_path(base, kind))?;
        }
        self.segments.remove(&base);
        Ok(())
    }

    /// Removes a snapshot for good: one that came back after a truncation would describe what is gone.
    pub(super) fn remove_snapshot(&mut self, offset: i64) -> io::Result<()> {
        self.outdated_snapshot(offset).remove(self.disk)
    }

    /// A snapshot that is to be removed for good.
    pub(super) fn outdated_snapshot(&mut self, offset: i64) -> Outdated {
        self.snapshots.remove(&offset);
        let deleted = self.path(&deleted_name(offset, FileKind::Snapshot));
        Outdated { path: self.segment_path(offset, FileKind::Snapshot), deleted }
    }

    /// Writes what can be read there once more, to be synced. What lies above the recovery point is in the page cache at best; and a
    /// process that is gone may have asked for a sync of it that failed, after which the system takes it for clean and a sync
    /// of ours for done.
    pub(super) fn write_again(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to && !planted(Bug::TrustPageCache) {
            let bytes = self.disk.read(path, at, (to - at).min(AGAIN_BYTES) as usize)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = bytes.len() as u64;
            self.disk.write(path, at, &[bytes])?;
            at += len;
        }
        Ok(())
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Option<Bytes>> {
        read_whole(self.disk, path)
    }
}

/// The content of a small file; `None` if it is missing. A file larger than any that is written reads as empty, which no
/// parser takes.
pub(super) fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Option<Bytes>> {
    match disk.len(path)? {
        None => Ok(None),
        Some(len) if len > WHOLE_BYTES_MAX => Ok(Some(Bytes::new())),
        Some(len) => disk.read(path, 0, len as usize).map(Some),
    }
}
