//! A clean stop: every log is flushed, every shard reports its last marks, shard 0 writes the checkpoints. The host takes no
//! requests any more by then and marks the log directories clean when all shards have said that they stopped.

use std::collections::BTreeSet;

use moldau_base::disk::Path;
use moldau_storage::State;

use crate::Shard;
use crate::checkpoints;
use crate::message::Message;
use crate::partitions::{log_of, settle};
use crate::waist::{Effect, ShardId, Trace};

/// What a stop still waits for.
#[derive(Debug)]
pub(crate) struct Stopping {
    /// Logs that are being flushed.
    flushing: BTreeSet<u32>,
    /// Shard 0: shards that have not reported their last marks.
    reporting: usize,
    reported: bool,
    stopped: bool,
}

impl Shard {
    /// Flushes everything; [`Trace::Stopped`] tells the end.
    pub fn stop(&mut self, now: moldau_base::Now, effects: &mut Vec<Effect>) {
        self.within(now, effects, |shard| {
            let stopping = Stopping {
                flushing: BTreeSet::new(),
                reporting: usize::from(shard.settings.shards),
                reported: false,
                stopped: false,
            };
            shard.partitions.stopping.get_or_insert(stopping);
            for number in shard.partitions.numbers() {
                flush(shard, number);
            }
            report_if_flushed(shard);
        });
    }
}

fn flush(shard: &mut Shard, number: u32) {
    let now = shard.now;
    let Some((log, replica)) = log_of(&mut shard.partitions, number) else { return };
    let mut producers = || replica.producers().snapshot().collect();
    // What is being cut is flushed afterwards, unless its disk does not work any more.
    let is_usable = !matches!(log.state(), State::Offline(_) | State::Deleting);
    let waits = is_usable && replica.is_being_cut() || log.flush(now, &mut producers);
    if let Some(stopping) = shard.partitions.stopping.as_mut().filter(|_| waits) {
        stopping.flushing.insert(number);
    }
    settle(shard, number);
}

/// A log that was cut has its producers again.
pub(crate) fn cut_ended(shard: &mut Shard, number: u32) {
    let slot = shard.partitions.slot(number);
    if slot.is_none_or(|slot| !slot.replica.is_being_cut()) {
        flushed(shard, number);
    }
}

/// A log has flushed, or cannot.
pub(crate) fn flushed(shard: &mut Shard, number: u32) {
    let Some(stopping) = shard.partitions.stopping.as_mut() else { return };
    if stopping.flushing.remove(&number) {
        // Something may have been appended while it flushed.
        flush(shard, number);
        report_if_flushed(shard);
    }
}

fn report_if_flushed(shard: &mut Shard) {
    let ready =
        shard.partitions.stopping.as_ref().is_some_and(|stop| stop.flushing.is_empty() && !stop.reported);
    if !ready {
        return;
    }
    if let Some(stopping) = shard.partitions.stopping.as_mut() {
        stopping.reported = true;
    }
    checkpoints::note_all(shard);
    let reports = checkpoints::take_reports(shard);
    shard.tell(ShardId(0), Message::Checkpoint(reports));
    shard.tell(ShardId(0), Message::LastCheckpoint);
    if shard.id != ShardId(0) {
        shard.trace(Trace::Stopped);
    }
}

/// Shard 0: another shard, or this one, has reported for the last time.
pub(crate) fn last_report(shard: &mut Shard) {
    let shards = usize::from(shard.settings.shards);
    let stopping = shard.partitions.stopping.get_or_insert(Stopping {
        flushing: BTreeSet::new(),
        reporting: shards,
        reported: false,
        stopped: false,
    });
    stopping.reporting -= 1;
    checkpoint_written(shard);
}

/// Shard 0: a checkpoint is written; the last one ends the stop.
pub(crate) fn checkpoint_written(shard: &mut Shard) {
    let written = checkpoints::is_written(shard);
    let Some(stopping) = shard.partitions.stopping.as_mut() else { return };
    if shard.id == ShardId(0) && stopping.reporting == 0 && written && !stopping.stopped {
        stopping.stopped = true;
        for dir in checkpoints::unwritten(shard) {
            // Without the mark of a clean stop, the next start relies on less of them.
            let why = "its checkpoints could not be written".to_owned();
            shard.trace(Trace::Offline { path: Path::new(dir, ""), why });
        }
        shard.trace(Trace::Stopped);
    }
}
