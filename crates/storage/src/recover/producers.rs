//! Producer state: the newest usable snapshot, and the headers behind it.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use moldau_base::limits::BATCHES_PER_PRODUCER;
use moldau_batch::Header;

use super::files::Files;
use super::{Finding, FindingKind, Outdated};
use crate::index::{floor, parse_index};
use crate::names::{FileKind, file_name};
use crate::scan::{Depth, Scanned, Scanner};
use crate::segment::SegmentMeta;
use crate::snapshot;
use moldau_base::ProducerEntry;

/// The newest snapshot at or before `end` that can be used. All others are removed, those before it once the log is durable.
pub(super) fn load(
    files: &mut Files<'_>,
    log: &str,
    end: i64,
    findings: &mut Vec<Finding>,
    outdated: &mut Vec<Outdated>,
) -> io::Result<Option<(i64, Vec<ProducerEntry>)>> {
    let mut found = None;
    for offset in files.snapshots.clone().into_iter().rev() {
        if found.is_some() {
            outdated.push(files.outdated_snapshot(offset));
            continue;
        }
        if offset <= end {
            let path = files.segment_path(offset, FileKind::Snapshot);
            match snapshot::parse(&files.read(&path)?.unwrap_or_default()) {
                Ok(entries) => {
                    found = Some((offset, entries));
                    continue;
                }
                Err(bad) => {
                    let what = FindingKind::BadFile {
                        file: file_name(offset, FileKind::Snapshot),
                        why: bad.to_string(),
                    };
                    findings.push(Finding { log: log.to_owned(), what });
                }
            }
        }
        files.remove_snapshot(offset)?;
    }
    Ok(found)
}

/// Headers of the batches of producers from `from` on, the last ones of each.
pub(super) fn replay(files: &Files<'_>, segments: &[SegmentMeta], from: i64) -> io::Result<Vec<Header>> {
    let mut last: BTreeMap<i64, VecDeque<Header>> = BTreeMap::new();
    for (i, segment) in segments.iter().enumerate() {
        if segments.get(i + 1).is_some_and(|next| next.base <= from) {
            continue;
        }
        let mut scanner = begin(files, segment, from)?;
        loop {
            let header = match scanner.next_in_place(Depth::Headers)? {
                Scanned::Batch { header, .. } => header,
                Scanned::Damaged { .. } => continue,
                Scanned::Flaw(_) | Scanned::End => break,
            };
            if header.last_offset() >= from && header.has_producer_id() {
                let batches = last.entry(header.producer_id).or_default();
                if batches.len() == BATCHES_PER_PRODUCER {
                    batches.pop_front();
                }
                batches.push_back(header);
            }
        }
    }
    let mut headers: Vec<Header> = last.into_values().flatten().collect();
    headers.sort_by_key(|h| h.base_offset);
    Ok(headers)
}

/// A scanner at or before the first batch of the segment that reaches `from`. What the index says is held against the header there.
fn begin<'a>(files: &Files<'a>, segment: &SegmentMeta, from: i64) -> io::Result<Scanner<'a>> {
    let index = files.read(&files.segment_path(segment.base, FileKind::Index))?.unwrap_or_default();
    let entries = parse_index(&index, segment.size).unwrap_or_default();
    let relative = u32::try_from(from.saturating_sub(segment.base)).unwrap_or(0);
    let position = floor(&entries, relative).map_or(0, |e| e.position.into());
    let at = |position| {
        let path = files.segment_path(segment.base, FileKind::Log);
        Scanner::new(files.disk, path, segment.size, position, segment.base)
    };
    let mut scanner = at(position);
    match scanner.next(Depth::Headers)? {
        Scanned::Batch { header, .. } if header.base_offset <= from => {
            scanner.go_to(position, segment.base);
            Ok(scanner)
        }
        _ => Ok(at(0)),
    }
}
