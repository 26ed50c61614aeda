//! Cutting a follower's log where its leader's epochs say so, and what has to be right before anything is appended behind the cut.

use moldau_batch::Batch;
use moldau_partition::{Input, Producers};
use moldau_storage::{Read, ReadRequest};

use super::{Waiting, drain, read_or_wait, tell_core};
use crate::Shard;
use crate::waist::Trace;

/// Bytes of the log that are replayed at a time.
const REPLAY_BYTES: u32 = 1 << 20;

/// Cuts the log at `offset`.
pub(super) fn truncate(shard: &mut Shard, number: u32, offset: i64) {
    let now = shard.now;
    super::relocate::log_is_cut(shard, number);
    let partitions = &mut shard.partitions;
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    slot.log.truncate(now, &mut partitions.cache, offset);
    drain(shard, number);
}

/// Drops the log; it goes on at `offset`.
pub(super) fn restart(shard: &mut Shard, number: u32, offset: i64) {
    let now = shard.now;
    super::relocate::log_is_cut(shard, number);
    let partitions = &mut shard.partitions;
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    slot.log.restart_at(now, &mut partitions.cache, offset);
    drain(shard, number);
}

/// The log was cut. Recovery trusts what lies below the recovery point on disk, so that is written down before anything is
/// appended here again.
pub(super) fn truncated(shard: &mut Shard, number: u32, end_offset: i64) {
    crate::checkpoints::before_append(shard, number, end_offset);
}

/// What is on disk agrees with the cut.
pub(crate) fn settled(shard: &mut Shard, number: u32, end_offset: i64) {
    tell_core(shard, number, Input::Truncated { end_offset });
    super::relocate::log_was_cut(shard, number);
    crate::stop::cut_ended(shard, number);
}

/// The producers of what is left are known.
fn producers_replayed(shard: &mut Shard, number: u32, producers: Producers) {
    tell_core(shard, number, Input::Replayed { producers });
    super::relocate::log_was_cut(shard, number);
    crate::stop::cut_ended(shard, number);
}

/// Replays the producers of the log from its start.
pub(super) fn replay_producers(shard: &mut Shard, number: u32) {
    let Some(slot) = shard.partitions.slot(number) else { return };
    let start = slot.log.start_offset();
    replay_from(shard, number, Producers::default(), start);
}

pub(super) fn replay_from(shard: &mut Shard, number: u32, producers: Producers, offset: i64) {
    let partitions = &mut shard.partitions;
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    let upto = slot.log.stored_offset();
    if offset >= upto {
        return producers_replayed(shard, number, producers);
    }
    let request = ReadRequest { offset, max_bytes: REPLAY_BYTES, min_one_batch: true, upto };
    let read = slot.log.read_bytes(&mut partitions.cache, request);
    read_or_wait(shard, number, read, Waiting::Replay { producers, next_offset: offset });
}

/// The next piece of the log has been read.
pub(super) fn replayed(shard: &mut Shard, number: u32, mut producers: Producers, offset: i64, read: Read) {
    let chunk = match read {
        Read::Bytes(chunk) => chunk,
        Read::Refused(refusal) => {
            let what = format!("producers cannot be replayed from offset {offset}: {refusal}");
            shard.trace(Trace::Warning(what));
            return producers_replayed(shard, number, producers);
        }
        Read::Empty | Read::Ready(_) | Read::Pending(_) => {
            return producers_replayed(shard, number, producers);
        }
    };
    let now = shard.now;
    let mut rest = chunk.bytes.clone();
    while !rest.is_empty() {
        let batch = match Batch::verify(&rest) {
            Ok(batch) => batch,
            Err(error) => {
                shard.trace(Trace::Warning(format!("damaged batch while producers are replayed: {error}")));
                break;
            }
        };
        rest = rest.slice(batch.bytes().len()..);
        producers.apply(batch.header(), batch.marker(), now.mono);
    }
    replay_from(shard, number, producers, chunk.next_offset);
}
