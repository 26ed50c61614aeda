//! What the metadata log is after a crash.
//!
//! The entries of one append become durable together, so a crash can tear only the last append. Each batch
//! says its place within its append; an intact batch that begins an append *after* a damaged one therefore
//! proves that the damaged one had been durable, and that is no crash but damage: the node must not start on
//! it, or it would forget metadata that was acknowledged. After a clean stop nothing can be torn, and
//! [`check_end`] takes no end for that.

use std::io;

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_batch::Header;

use crate::codec;
use crate::log::{DIRECTORY, Segment, path, read_all, span};
use crate::snapshot::SnapshotId;

/// Why a metadata log or snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The disk failed.
    #[error("{what}: {error}")]
    Io {
        /// The file or directory.
        what: String,
        /// In the words of the system.
        error: io::Error,
    },
    /// A batch within the log is damaged although later ones are whole.
    #[error(
        "{file} is damaged at byte {position} ({why}), but intact batches follow: this is no crash; restore the file"
    )]
    Middle {
        /// The file.
        file: String,
        /// Where.
        position: u64,
        /// What is wrong.
        why: String,
    },
    /// The last batch is damaged although nothing was being written when the node stopped.
    #[error(
        "{file} is damaged at byte {position} ({why}), and the node had stopped cleanly: this is no crash; restore the file"
    )]
    End {
        /// The file.
        file: String,
        /// Where.
        position: u64,
        /// What is wrong.
        why: String,
    },
    /// Entries are missing.
    #[error("{DIRECTORY}: entries {from} to {to} are missing")]
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A file that cannot be what its name says.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
}

impl Damage {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Damage {
        let what = path.name.clone();
        move |error| Damage::Io { what, error }
    }
}

/// How often the bytes of a torn end may be gone over in search of later appends. An end that a crash left has hardly any place that
/// looks like one.
const PASSES: usize = 16;

/// Refuses a log that does not end with a whole batch. For a node that stopped cleanly, before anything else is done: what a start
/// appends may be torn again.
pub fn check_end(disk: &dyn Disk, dir: DirId) -> Result<(), Damage> {
    let Some(last) = segment_names(disk, dir)?.pop() else { return Ok(()) };
    let Scanned { segment, torn, .. } = scan(disk, dir, last, None)?;
    match torn {
        Some(Torn { position, why, .. }) => Err(Damage::End { file: segment.name(), position, why }),
        None => Ok(()),
    }
}

/// The segments that follow `snapshot`, and how many bytes of a torn end were cut.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: DirId,
    snapshot: Option<SnapshotId>,
) -> Result<(Vec<Segment>, u64), Damage> {
    let names = segment_names(disk, dir)?;
    let mut segments: Vec<Segment> = Vec::new();
    let (mut cut, mut last_append) = (0, 0);
    for (i, base_offset) in names.iter().enumerate() {
        let expected = segments.last().map(Next::behind);
        let later = &names[i + 1..];
        let Scanned { segment, torn, last_append: begins } = scan(disk, dir, *base_offset, expected)?;
        if !segment.entries.is_empty() {
            last_append = begins;
        }
        if let Some(torn) = torn {
            let file = path(dir, &segment.name());
            cut += torn.len;
            refuse_damage(&segment, &torn, later)?;
            disk.truncate(&file, segment.size).map_err(Damage::io(&file))?;
            disk.sync(&file).map_err(Damage::io(&file))?;
            push(&mut segments, segment, disk, dir)?;
            break;
        }
        push(&mut segments, segment, disk, dir)?;
    }
    let segments = after_snapshot(disk, dir, segments, snapshot)?;
    if let Some(last) = segments.last() {
        write_again(disk, &path(dir, &last.name()), last_append, last.size)?;
    }
    Ok((segments, cut))
}

/// Makes the last append durable, which may not be: its sync may not have begun, or may have failed, after which the system takes for
/// clean what it did not write, and a sync alone would do nothing. The ones before it were durable when it began.
fn write_again(disk: &dyn Disk, file: &Path, from: u64, to: u64) -> Result<(), Damage> {
    let again = || {
        let bytes = disk.read(file, from, usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX))?;
        disk.write(file, from, &[bytes])?;
        disk.sync(file)
    };
    again().map_err(Damage::io(file))
}

/// What the next entry must be: its index and offset, and the least it may have for a term.
#[derive(Clone, Copy)]
struct Next {
    index: u64,
    offset: i64,
    term: u64,
}

impl Next {
    fn behind(segment: &Segment) -> Next {
        let (offset, term) =
            segment.entries.last().map_or((segment.base_offset, 0), |span| (span.next_offset, span.term));
        Next { index: segment.next_index(), offset, term }
    }
}

/// Keeps a segment; an empty file is what a crash leaves of a segment that was only begun.
fn push(segments: &mut Vec<Segment>, segment: Segment, disk: &dyn Disk, dir: DirId) -> Result<(), Damage> {
    if segment.entries.is_empty() {
        let path = path(dir, &segment.name());
        return disk.remove(&path).map_err(Damage::io(&path));
    }
    segments.push(segment);
    Ok(())
}

/// Base offsets of the segment files, in order.
fn segment_names(disk: &dyn Disk, dir: DirId) -> Result<Vec<i64>, Damage> {
    let directory = Path::new(dir, DIRECTORY);
    let entries = disk.list(&directory).map_err(Damage::io(&directory))?;
    let mut names: Vec<i64> = entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| entry.name.strip_suffix(".log").filter(|stem| stem.len() == 20)?.parse().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Bytes at the end of a file that are no batch.
struct Torn {
    position: u64,
    len: u64,
    why: String,
    bytes: Bytes,
    next_index: u64,
}

struct Scanned {
    segment: Segment,
    torn: Option<Torn>,
    /// Where the last append begins.
    last_append: u64,
}

/// Reads a segment up to its end or to the first batch that is damaged or out of order. `expected` is the
/// entry that it must begin with; the first segment says itself.
fn scan(disk: &dyn Disk, dir: DirId, base_offset: i64, expected: Option<Next>) -> Result<Scanned, Damage> {
    let first_index = expected.map_or(0, |next| next.index);
    let mut segment = Segment { base_offset, first_index, entries: vec![], size: 0 };
    let path = path(dir, &segment.name());
    let bytes = read_all(disk, &path).map_err(Damage::io(&path))?;
    let mut next = expected;
    let (mut at, mut last_append) = (0, 0);
    while at < bytes.len() {
        let checked = Header::verify(&bytes[at..])
            .map_err(|error| error.to_string())
            .and_then(|header| in_order(&header, next, base_offset).map(|id| (header, id)));
        match checked {
            Ok((header, (index, term))) => {
                if segment.entries.is_empty() {
                    segment.first_index = index;
                }
                if header.base_sequence == 0 {
                    last_append = at as u64;
                }
                segment.entries.push(span(&header, at as u64, term));
                next = Some(Next { index: index + 1, offset: header.next_offset(), term });
                at += header.size();
            }
            Err(why) => {
                segment.size = at as u64;
                let torn = Torn {
                    position: at as u64,
                    len: (bytes.len() - at) as u64,
                    why,
                    bytes: bytes.slice(at..),
                    next_index: next.map_or(0, |next| next.index),
                };
                return Ok(Scanned { segment, torn: Some(torn), last_append });
            }
        }
    }
    segment.size = at as u64;
    Ok(Scanned { segment, torn: None, last_append })
}

fn in_order(header: &Header, next: Option<Next>, base_offset: i64) -> Result<(u64, u64), String> {
    let (index, term) = codec::id(header).ok_or("a batch without index or epoch")?;
    if header.count < 1 || header.last_offset_delta != header.count - 1 {
        return Err(format!("{} records for {} offsets", header.count, header.last_offset_delta));
    }
    let next = next.unwrap_or(Next { index, offset: base_offset, term: 0 });
    if index != next.index || header.base_offset != next.offset {
        let Next { index: expected, offset: at, .. } = next;
        let offset = header.base_offset;
        return Err(format!("entry {index} at offset {offset} where entry {expected} at {at} belongs"));
    }
    // No checksum covers it.
    if term < next.term {
        return Err(format!("entry {index} of epoch {term} behind epoch {}", next.term));
    }
    Ok((index, term))
}

/// Refuses a torn end that is none. A file after this one was begun when all of this one was durable, and an
/// append that begins after the damage was made when what is damaged was durable.
fn refuse_damage(segment: &Segment, torn: &Torn, later: &[i64]) -> Result<(), Damage> {
    let (file, position, why) = (segment.name(), torn.position, torn.why.clone());
    if !later.is_empty() {
        return Err(Damage::Middle { file, position, why });
    }
    let mut budget = torn.bytes.len() * PASSES;
    for at in 1..torn.bytes.len() {
        let bytes = &torn.bytes[at..];
        let Some(size) = append_at(bytes, torn.next_index) else { continue };
        let Some(left) = budget.checked_sub(size) else {
            let why =
                format!("byte {position}: {why}; too much of what follows looks like batches for a crash");
            return Err(Damage::File { file, why });
        };
        budget = left;
        if Header::verify(bytes).is_ok() {
            return Err(Damage::Middle { file, position, why });
        }
    }
    Ok(())
}

/// How long the batch is that begins here by its header, if it is the first of its append and comes after entry `index`.
fn append_at(bytes: &[u8], index: u64) -> Option<usize> {
    let header = Header::parse(bytes).ok()?;
    let (other, _) = codec::id(&header)?;
    let fits = other > index && header.base_sequence == 0 && header.size() <= bytes.len();
    fits.then(|| header.size())
}

/// Drops segments that the snapshot makes needless, and checks that nothing is missing between it and the
/// log.
fn after_snapshot(
    disk: &dyn Disk,
    dir: DirId,
    mut segments: Vec<Segment>,
    snapshot: Option<SnapshotId>,
) -> Result<Vec<Segment>, Damage> {
    let first_needed = snapshot.map_or(0, |snapshot| snapshot.id.index + 1);
    while segments.first().is_some_and(|first| first.next_index() <= first_needed) && snapshot.is_some() {
        let path = path(dir, &segments[0].name());
        disk.remove(&path).map_err(Damage::io(&path))?;
        segments.remove(0);
    }
    match segments.first() {
        Some(first) if first.first_index > first_needed => {
            Err(Damage::Gap { from: first_needed, to: first.first_index - 1 })
        }
        _ => Ok(segments),
    }
}
