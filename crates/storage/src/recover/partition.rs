//! One partition: its segments in order, the end of the log, start offset, epochs, producers, topic id.

use std::io;

use moldau_base::disk::{DirId, Disk, Fault, Path};
use moldau_base::planted::{Bug, planted};
use moldau_base::{ProducerEntry, Uuid};
use moldau_batch::Header;

use super::files::Files;
use super::segments::Segments;
use super::{Finding, FindingKind, RecoveredLog, RecoveryPolicy, Work, producers};
use crate::checkpoint::{BadText, parse_epochs, parse_metadata};
use crate::epochs::EpochHistory;
use crate::log::LogParts;
use crate::names::{EPOCH_CHECKPOINT, FileKind, PARTITION_METADATA};
use crate::segment::SegmentMeta;
use crate::snapshot;

/// What the log directory's checkpoints say about the partition.
#[derive(Clone, Copy)]
pub(super) struct Hints {
    pub(super) clean: bool,
    pub(super) recovery_point: i64,
    pub(super) start: i64,
    pub(super) high_watermark: Option<i64>,
    pub(super) of: Whose,
}

/// Whose log the checkpoints speak of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Whoever's that has the name.
    Name,
    /// This topic's, or nobody's.
    Topic(Option<Uuid>),
}

impl Hints {
    /// What of them holds for the log of this topic. Checkpoints are keyed by name, and a name may have been used again since they
    /// were written: what they say of the log before is not true of this one.
    fn for_topic(self, topic: Option<Uuid>) -> Hints {
        let is_its_own = match self.of {
            Whose::Name => true,
            Whose::Topic(of) => topic.is_some() && of == topic,
        };
        if self.clean || is_its_own || planted(Bug::MarksOfNamesake) {
            return self;
        }
        Hints { recovery_point: 0, start: 0, high_watermark: None, ..self }
    }
}

/// The segments that stay, and where the log begins and ends.
struct Body {
    segments: Vec<SegmentMeta>,
    start: i64,
    end: i64,
}

/// What is known of producers: a snapshot, below which offset it holds, and the headers behind that.
struct Producers {
    snapshot: Option<i64>,
    entries: Vec<ProducerEntry>,
    offset: i64,
    replay: Vec<Header>,
}

pub(super) fn recover(
    disk: &dyn Disk,
    dir: DirId,
    name: &str,
    (topic, partition): (String, i32),
    hints: Hints,
    policy: &RecoveryPolicy,
    work: &mut Work,
) -> io::Result<RecoveredLog> {
    let mut files = Files::list(disk, dir, name)?;
    let topic_id = recover_topic_id(&mut files, name, &mut work.recovered.findings)?;
    let hints = hints.for_topic(topic_id);
    if topic_id.is_some() {
        work.unsynced.extend(store_topic_id(&mut files, hints)?);
    }
    let stored = read_text(&files, name, EPOCH_CHECKPOINT, parse_epochs, &mut work.recovered.findings)?;
    let checkpointed = stored.map(EpochHistory::from_entries);
    let (body, epochs) =
        recover_body(&mut files, name, hints, checkpointed.as_ref(), policy.index_interval_bytes, work)?;
    let producers = recover_producers(&mut files, name, &body, hints, work)?;
    let Body { segments, start, end } = body;
    let epochs_dirty = epochs != checkpointed.unwrap_or_default();
    let flushed = flushed_until(hints, (start, end), epochs_dirty, &producers);
    let parts = LogParts {
        dir,
        name: name.to_owned(),
        segments,
        start,
        end,
        flushed,
        epochs_dirty,
        epochs,
        snapshot: producers.snapshot,
        producers_dirty: !producers.replay.is_empty(),
        has_metadata: topic_id.is_some(),
        loaded_ms: policy.now_ms,
    };
    Ok(RecoveredLog {
        parts,
        topic,
        partition,
        topic_id,
        high_watermark: hints.high_watermark.unwrap_or(start).clamp(start, end),
        producers: producers.entries,
        producers_offset: producers.offset,
        replay: producers.replay,
        moves_to: None,
    })
}

/// What the segments hold, from the log's start on, and the epochs of their batches. `checkpointed` is what a flush has written of those.
fn recover_body(
    files: &mut Files<'_>,
    log: &str,
    hints: Hints,
    checkpointed: Option<&EpochHistory>,
    interval: u32,
    work: &mut Work,
) -> io::Result<(Body, EpochHistory)> {
    let Work { recovered, unsynced, .. } = work;
    let mut epochs = checkpointed.cloned().unwrap_or_default();
    let mut segments = Segments {
        files,
        log,
        interval,
        findings: &mut recovered.findings,
        scanned_bytes: &mut recovered.scanned_bytes,
        unsynced,
        epochs: &mut epochs,
        flushed_epochs: checkpointed,
    };
    let body = recover_segments(&mut segments, hints)?;
    let mut body = settle_start(files, log, body, hints.start, &mut recovered.findings)?;
    if body.segments.is_empty() {
        let (own, id) = (files.path(""), files.path(PARTITION_METADATA));
        unsynced.retain(|path| path.dir != own.dir || !path.name.starts_with(&own.name) || *path == id);
    }
    epochs.truncate_end(body.end);
    epochs.truncate_start(body.start);
    if planted(Bug::ReuseOffset) && !hints.clean {
        body.end = body.start.max(body.end - 1);
    }
    Ok((body, epochs))
}

/// The topic that the log says it is of. What cannot be read is written again from its beginning on: nothing of it may stay behind that.
fn recover_topic_id(
    files: &mut Files<'_>,
    log: &str,
    findings: &mut Vec<Finding>,
) -> io::Result<Option<Uuid>> {
    let id = read_text(files, log, PARTITION_METADATA, parse_metadata, findings)?;
    let path = files.path(PARTITION_METADATA);
    if id.is_none() && files.disk.len(&path)?.is_some_and(|len| len > 0) {
        files.disk.truncate(&path, 0)?;
    }
    Ok(id)
}

/// Writes the topic id again where no flush has made it durable; which file must be synced then.
fn store_topic_id(files: &mut Files<'_>, hints: Hints) -> io::Result<Option<Path>> {
    if hints.clean || hints.recovery_point != 0 {
        return Ok(None);
    }
    let path = files.path(PARTITION_METADATA);
    let len = files.disk.len(&path)?.unwrap_or(0);
    files.write_again(&path, 0, len)?;
    Ok(Some(path))
}

/// What is known of producers or epochs from batches only must be known from them again, until a flush has written it down. But the recovery
/// point comes down for it only where nothing else tells: what is behind damage was flushed, and stays as long as the point says so.
fn flushed_until(hints: Hints, (start, end): (i64, i64), epochs_dirty: bool, producers: &Producers) -> i64 {
    let before = if hints.clean { end } else { hints.recovery_point.clamp(start, end) };
    let of_epochs = if epochs_dirty { before } else { end };
    let of_producers = match producers.snapshot {
        _ if producers.replay.is_empty() => end,
        // The next recovery begins with it as well, wherever the recovery point is.
        Some(_) => producers.offset.max(before),
        None => producers.offset,
    };
    of_epochs.min(of_producers)
}

/// The newest snapshot of the producers and the batches behind it.
fn recover_producers(
    files: &mut Files<'_>,
    log: &str,
    body: &Body,
    hints: Hints,
    work: &mut Work,
) -> io::Result<Producers> {
    let Work { recovered, outdated, .. } = work;
    let found = producers::load(files, log, body.end, &mut recovered.findings, outdated)?;
    let (mut snapshot, entries) = found.filter(|_| !planted(Bug::ForgetSnapshot)).unzip();
    // Without a snapshot there were no producers at the recovery point; unless the log was cut below it, which takes the snapshot away.
    let is_cut = !hints.clean && hints.recovery_point > body.end;
    let without = match () {
        () if hints.clean => body.end,
        () if is_cut => body.start,
        () => hints.recovery_point,
    };
    let offset = snapshot.unwrap_or(without).clamp(body.start, body.end);
    let is_behind = offset < body.end && !planted(Bug::ForgetTail);
    let replay = if is_behind { producers::replay(files, &body.segments, offset)? } else { Vec::new() };
    if is_cut && snapshot.is_none() && !replay.is_empty() {
        // The recovery point comes down to the end, where it would say that there were none.
        snapshot = store_beginning(files, offset)?;
    }
    Ok(Producers { snapshot, entries: entries.unwrap_or_default(), offset, replay })
}

/// Writes a snapshot that says that no producers were known at `start`: recovery asks the batches behind it. `None` if the disk is full.
fn store_beginning(files: &Files<'_>, start: i64) -> io::Result<Option<i64>> {
    let path = files.segment_path(start, FileKind::Snapshot);
    match files.disk.replace(&path, &snapshot::encode(&[])) {
        Err(error) if Fault::from(&error) == Fault::Full => Ok(None),
        stored => stored.map(|()| Some(start)),
    }
}

/// Reads one of the partition's text files; `None` if it is missing or damaged.
fn read_text<T>(
    files: &Files<'_>,
    log: &str,
    file: &str,
    parse: fn(&[u8]) -> Result<T, BadText>,
    findings: &mut Vec<Finding>,
) -> io::Result<Option<T>> {
    let Some(data) = files.read(&files.path(file))? else { return Ok(None) };
    match parse(&data) {
        Ok(value) => Ok(Some(value)),
        Err(bad) => {
            let what = FindingKind::BadFile { file: file.to_owned(), why: bad.to_string() };
            findings.push(Finding { log: log.to_owned(), what });
            Ok(None)
        }
    }
}

/// Goes through the segments in order. Behind the first that ends before its file does, or before the next one begins, nothing stays.
fn recover_segments(segments: &mut Segments<'_, '_>, hints: Hints) -> io::Result<Body> {
    let bases: Vec<i64> = segments.files.segments.keys().copied().collect();
    let verified = if hints.clean { i64::MAX } else { hints.recovery_point };
    let first = bases.first().copied().unwrap_or(0);
    let mut body = Body { segments: Vec::with_capacity(bases.len()), start: first, end: first };
    for (i, &base) in bases.iter().enumerate() {
        let next_base = bases.get(i + 1).copied();
        if let Some(next) = next_base.filter(|&next| next <= verified) {
            body.segments.push(segments.trust(base, next)?);
            body.end = next;
            continue;
        }
        let scanned = segments.scan(base, verified)?;
        let len = segments.files.segments.get(&base).and_then(|f| f.log).unwrap_or(0);
        let path = segments.files.segment_path(base, FileKind::Log);
        let size = scanned.meta.size;
        body.end = scanned.next;
        body.segments.push(scanned.meta);
        if size < len {
            segments.files.disk.truncate(&path, size)?;
        }
        let is_ahead = !hints.clean && scanned.next > hints.recovery_point;
        if is_ahead {
            segments.files.write_again(&path, scanned.from, size)?;
        }
        if size < len || is_ahead {
            segments.unsynced.push(path);
        }
        let why = match (scanned.flaw, next_base) {
            (Some(flaw), _) => flaw,
            (None, Some(next)) if next != scanned.next => {
                format!("the next segment begins at {next}, this one ends at {}", scanned.next)
            }
            _ => continue,
        };
        let mut bytes = len - size;
        for &later in &bases[i + 1..] {
            bytes += segments.files.segments.get(&later).and_then(|f| f.log).unwrap_or(0);
            segments.files.remove_segment(later)?;
        }
        let what = FindingKind::Cut { offset: body.end, segment: base, bytes, why };
        segments.findings.push(Finding { log: segments.log.to_owned(), what });
        break;
    }
    if body.end < hints.recovery_point {
        let what = FindingKind::EndsEarly { end: body.end, recovery_point: hints.recovery_point };
        segments.findings.push(Finding { log: segments.log.to_owned(), what });
    }
    Ok(body)
}

/// The log from its checkpointed start offset on; nothing is left of it when that lies behind its end.
fn settle_start(
    files: &mut Files<'_>,
    log: &str,
    body: Body,
    checkpointed: i64,
    findings: &mut Vec<Finding>,
) -> io::Result<Body> {
    let Body { segments, end, .. } = body;
    let start = segments.first().map_or(checkpointed, |s| s.base.max(checkpointed));
    if start <= end || segments.is_empty() {
        return Ok(Body { segments, start, end: end.max(start) });
    }
    for segment in &segments {
        files.remove_segment(segment.base)?;
    }
    let what = FindingKind::StartBehindEnd { start, end };
    findings.push(Finding { log: log.to_owned(), what });
    Ok(Body { segments: Vec::new(), start, end: start })
}
