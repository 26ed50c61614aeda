//! The steps of a move: each waits for something, and when that has come the next one is taken.

use bytes::Bytes;
use moldau_base::ProducerEntry;
use moldau_base::disk::{DirId, Fault};
use moldau_batch::{Batch, BatchError};
use moldau_storage::{Chunk, Events, ReadRequest, State};

use super::super::{Waiting, drain, read, read_or_wait, take_offline};
use super::{HOLD_MS, Move, Step, begin, begin_again, give_up, release};
use crate::Shard;
use crate::timers::Timer;
use crate::waist::{Effect, Trace};

/// Bytes that are copied at a time; when no more are missing, what is produced may wait for them.
const CHUNK_BYTES: u32 = 1 << 20;
/// Most logs of a shard that are copied at the same time; others wait for their turn.
const MOST_COPYING: usize = 4;
/// A move that cannot go on just now is looked at again after so long, in milliseconds.
const REST_MS: i64 = 50;

/// Nobody is told of producers while a log is copied: what is known of them is true of its end.
pub(super) fn nobody() -> Vec<ProducerEntry> {
    Vec::new()
}

/// Does what can be done about a move, and about the operations of its copy.
pub(super) fn go_on(shard: &mut Shard, at: u32) {
    loop {
        let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
        for (op, what) in under_way.copy.take_ops() {
            shard.effect(Effect::Disk { op, what });
        }
        let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
        let events = under_way.copy.take_events();
        if !events.is_empty() {
            copy_changed(shard, at, events);
        } else if !advance(shard, at) {
            break;
        }
    }
    let (now, is_stopping) = (shard.now.mono, shard.partitions.stopping.is_some());
    let Some(under_way) = shard.partitions.moves.all.get(&at) else { return };
    let rest = match under_way.step {
        Step::Resting(until) | Step::Lingering(until) => Some(until),
        _ => None,
    };
    let hold = under_way.held.map(|since| since.after_ms(HOLD_MS)).filter(|_| !under_way.step.is_decided());
    let flush = under_way.copy.deadline().filter(|_| under_way.step.copies());
    let next = [rest, hold, flush].into_iter().flatten().min().filter(|_| !is_stopping);
    shard.timers.set(Timer::Log(at), next.map(|next| next.max(now)));
}

fn copy_changed(shard: &mut Shard, at: u32, events: Events) {
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
    let (dir, name) = (under_way.copy.dir(), under_way.copy.folder().to_owned());
    if events.renamed.is_some() {
        under_way.renamed = events.renamed;
    }
    for fault in events.leftovers {
        shard.trace(Trace::Warning(format!("{name}: a file could not be removed: {fault}")));
    }
    if let Some(fault) = events.offline {
        take_offline(shard, dir, &name, &fault);
    }
    if events.rolled_back.is_some() {
        give_up(shard, at, "its disk is full");
    }
    if events.deleted {
        shard.timers.set(Timer::Log(at), None);
        shard.partitions.moves.all.remove(&at);
        next_in_line(shard);
    }
}

/// Another move may have its turn.
pub(super) fn next_in_line(shard: &mut Shard) {
    let queued = |(at, m): (&u32, &Move)| (m.step == Step::Queued).then_some(*at);
    if let Some(at) = shard.partitions.moves.all.iter().find_map(queued) {
        go_on(shard, at);
    }
}

/// Takes the next step, if it can be taken; whether it was.
fn advance(shard: &mut Shard, at: u32) -> bool {
    if shard.partitions.stopping.is_some() {
        // The next start begins again, or ends what only needs names.
        return false;
    }
    let now = shard.now.mono;
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return false };
    let copy = &under_way.copy;
    let is_stored = copy.stored_offset() == copy.end_offset();
    let is_flushed = copy.flushed_offset() == copy.end_offset();
    match under_way.step {
        Step::Queued => {
            let active = |m: &&Move| m.step != Step::Queued && !m.step.has_ended();
            if shard.partitions.moves.all.values().filter(active).count() >= MOST_COPYING {
                return false;
            }
            read_next(shard, at)
        }
        Step::Resting(until) if until <= now => read_next(shard, at),
        Step::Lingering(until) if until <= now => {
            under_way.step = Step::Leaving;
            under_way.copy.delete();
            true
        }
        Step::Storing { .. } if !is_stored => false,
        Step::Storing { .. } if under_way.held.is_some() => step(shard, at, Step::Draining),
        Step::Storing { last: false, .. } => read_next(shard, at),
        Step::Storing { from, .. } if copy.flushed_offset() >= from => hold(shard, at),
        Step::Storing { .. } => {
            under_way.step = Step::Flushing;
            under_way.copy.flush(shard.now, &mut nobody);
            true
        }
        Step::Flushing if is_flushed => read_next(shard, at),
        Step::Draining => drain_log(shard, at),
        Step::Sealing if is_flushed => {
            under_way.step = Step::Marking;
            crate::checkpoints::before_move(shard, at);
            true
        }
        // A flush that has ended and is to be tried again.
        Step::Flushing | Step::Sealing if copy.deadline().is_some() => {
            give_up(shard, at, "its disk is full");
            false
        }
        Step::Calling | Step::Clearing | Step::Naming => match under_way.renamed.take() {
            Some(renamed) => switch(shard, at, renamed),
            None => false,
        },
        _ => false,
    }
}

fn step(shard: &mut Shard, at: u32, to: Step) -> bool {
    if let Some(under_way) = shard.partitions.moves.all.get_mut(&at) {
        under_way.step = to;
    }
    true
}

/// Reads the next piece of the log, when the rate allows it.
fn read_next(shard: &mut Shard, at: u32) -> bool {
    let now = shard.now.mono;
    let partitions = &mut shard.partitions;
    let Some(under_way) = partitions.moves.all.get_mut(&at) else { return false };
    let Some(slot) = partitions.slots.get_mut(&under_way.slot) else { return false };
    if slot.replica.is_being_cut() {
        // What is to go can still be read.
        return false;
    }
    let (offset, upto) = (under_way.copy.end_offset(), slot.log.stored_offset());
    if offset < slot.log.start_offset() {
        begin_again(shard, at);
        return false;
    }
    if offset >= upto {
        return hold(shard, at);
    }
    let meter = &shard.settings.throttles.copied;
    let mut max_bytes = CHUNK_BYTES;
    if under_way.held.is_none() {
        if let Some(until) = meter.closed_until(now) {
            return step(shard, at, Step::Resting(until.max(now.after_ms(1))));
        }
        max_bytes = max_bytes.min(meter.portion());
    }
    under_way.step = Step::Reading;
    let number = under_way.slot;
    let request = ReadRequest { offset, max_bytes, min_one_batch: true, upto };
    let read = slot.log.read_bytes(&mut partitions.cache, request);
    read_or_wait(shard, number, read, Waiting::Copy { at });
    true
}

/// Appends what was read to the copy.
pub(super) fn take(shard: &mut Shard, at: u32, chunk: &Chunk) -> Result<(), String> {
    let now = shard.now;
    let partitions = &mut shard.partitions;
    let Some(under_way) = partitions.moves.all.get_mut(&at) else { return Ok(()) };
    let Some(slot) = partitions.slots.get(&under_way.slot) else { return Ok(()) };
    let batches = batches(&chunk.bytes).map_err(|error| format!("a batch is damaged: {error}"))?;
    let copy = &mut under_way.copy;
    let from = copy.end_offset();
    let first = batches.first().map_or(from, |batch| batch.header().base_offset);
    if first < from && !copy.is_on_disk() {
        // The log begins inside of its first batch.
        copy.begin_at(first);
    }
    let mut rest = &batches[..];
    while !rest.is_empty() {
        let mut config = *slot.log.config();
        let (first, more) = rest.split_at(fitting(rest, config.segment_bytes));
        // Batches may be larger than segments are to be by now.
        config.segment_bytes = config.segment_bytes.max(bytes_of(first));
        copy.set_config(config);
        copy.append_verbatim(now, first, &mut nobody).map_err(|error| error.to_string())?;
        rest = more;
    }
    shard.settings.throttles.copied.take(chunk.bytes.len() as u64, now.mono);
    let last = chunk.next_offset >= slot.log.stored_offset();
    under_way.step = Step::Storing { from, last };
    Ok(())
}

fn bytes_of(batches: &[Batch]) -> u64 {
    batches.iter().map(|batch| batch.bytes().len() as u64).sum()
}

/// How many of the batches fit into a segment, one at least.
fn fitting(batches: &[Batch], segment_bytes: u64) -> usize {
    let mut bytes = 0;
    let fits = |batch: &&Batch| {
        bytes += batch.bytes().len() as u64;
        bytes <= segment_bytes
    };
    batches.iter().take_while(fits).count().max(1)
}

fn batches(bytes: &Bytes) -> Result<Vec<Batch>, BatchError> {
    let mut rest = bytes.clone();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let batch = Batch::verify(&rest)?;
        rest = rest.slice(batch.bytes().len()..);
        batches.push(batch);
    }
    Ok(batches)
}

/// Little is missing: from here on nothing is appended to the log.
fn hold(shard: &mut Shard, at: u32) -> bool {
    let now = shard.now.mono;
    let partitions = &mut shard.partitions;
    let Some(under_way) = partitions.moves.all.get_mut(&at) else { return false };
    let Some(slot) = partitions.slots.get(&under_way.slot) else { return false };
    let is_busy = slot.replica.is_being_cut() || *slot.log.state() == State::Truncating;
    if is_busy && under_way.held.is_none() {
        under_way.step = Step::Resting(now.after_ms(REST_MS));
        return true;
    }
    under_way.held.get_or_insert(now);
    under_way.step = Step::Draining;
    true
}

/// Copies what was on its way into the log, and then makes the copy durable.
fn drain_log(shard: &mut Shard, at: u32) -> bool {
    let now = shard.now;
    let partitions = &mut shard.partitions;
    let Some(under_way) = partitions.moves.all.get_mut(&at) else { return false };
    let Some(slot) = partitions.slots.get_mut(&under_way.slot) else { return false };
    let (end, copy) = (slot.log.end_offset(), &mut under_way.copy);
    if slot.log.stored_offset() < end {
        return false;
    }
    if copy.end_offset() < end {
        return read_next(shard, at);
    }
    if !slot.log.is_on_disk() {
        // There is nothing to rename, nor a directory yet.
        copy.take_name();
        return take_over(shard, at);
    }
    if !copy.is_on_disk() {
        copy.restart_at(now, &mut partitions.cache, end);
        return true;
    }
    if !copy.is_quiet() {
        return false;
    }
    let replica = &slot.replica;
    copy.seal(now, &mut || replica.producers().snapshot().collect());
    under_way.step = Step::Sealing;
    true
}

/// A rename has ended: asks for the next one, or lets the copy take over.
fn switch(shard: &mut Shard, at: u32, renamed: Result<(), Fault>) -> bool {
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return false };
    match (under_way.step, renamed) {
        (Step::Naming, _) => return take_over(shard, at),
        (_, Err(_)) => {
            give_up(shard, at, "its disk is full");
            return false;
        }
        (Step::Calling, Ok(())) => {
            under_way.step = Step::Clearing;
            let number = under_way.slot;
            if let Some(slot) = shard.partitions.slots.get_mut(&number) {
                slot.log.step_aside();
            }
            drain(shard, number);
        }
        (_, Ok(())) => {
            under_way.step = Step::Naming;
            under_way.copy.take_name();
        }
    }
    true
}

/// The copy becomes the log of its partition.
fn take_over(shard: &mut Shard, at: u32) -> bool {
    let now = shard.now;
    let Some(number) = shard.partitions.moves.all.get(&at).map(|m| m.slot) else { return false };
    drain(shard, number);
    let partitions = &mut shard.partitions;
    let Some(under_way) = partitions.moves.all.get_mut(&at) else { return false };
    let Some(slot) = partitions.slots.get_mut(&number) else { return false };
    std::mem::swap(&mut slot.log, &mut under_way.copy);
    let before = &mut under_way.copy;
    slot.log.replace(before);
    slot.log.set_config(*before.config());
    slot.log.delete_records(now, before.start_offset());
    slot.moves = None;
    let readers = std::mem::take(&mut slot.reading);
    let (id, left, to) = (slot.id, (before.dir(), before.name().to_owned()), slot.log.dir());
    under_way.step = Step::Lingering(now.mono.after_ms(before.config().file_delete_delay_ms));
    let next = under_way.next.take();
    crate::checkpoints::left(shard, left.0, left.1.clone());
    crate::checkpoints::changed(shard, number);
    for (_, waiting) in readers {
        read::ask_again(shard, number, waiting);
    }
    drain(shard, number);
    let paths = &shard.settings.log_dirs;
    let path = |dir: DirId| paths.get(usize::from(dir.0)).map_or("", |dir| &*dir.path);
    let what = format!("{} has moved from {} to {}", left.1, path(left.0), path(to));
    shard.trace(Trace::Info(what));
    release(shard, at, id);
    if let Some(next) = next {
        begin(shard, number, next);
    }
    next_in_line(shard);
    true
}
