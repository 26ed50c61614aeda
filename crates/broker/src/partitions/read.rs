//! Reading: fetches, reads that needed the disk, and what else is asked about a log.

use moldau_base::planted::{Bug, planted};
use moldau_base::{LeaderEpoch, NodeId, TopicPartition};
use moldau_partition::{FollowerFetch, Input, Told, View, takes_over};
use moldau_storage::{Read, ReadRequest};
use moldau_wire::{ErrorCode, FileRange};

use super::{Bounds, Slot, Token, Waiting, carry_out, drain};
use crate::Shard;
use crate::lookup::{self, code_of};
use crate::message::{Answer, Fetch, Fetched, Follower, Return};

/// Finds records for a fetch.
pub(crate) fn fetch(shard: &mut Shard, to: Return, fetch: Fetch) {
    let me = shard.settings.node_id;
    // A node that stops serves nobody who can read elsewhere.
    let stays = shard.cluster.image.broker(me).is_none_or(|broker| broker.is_active());
    let allowed = match fetch.rack.is_some() && stays {
        true => shard.partitions.reader(fetch.partition, fetch.current_epoch),
        false => shard.partitions.leader(fetch.partition, fetch.current_epoch),
    };
    let slot = match allowed {
        Ok(found) => found,
        Err(code) => return shard.answer(to, Answer::Fetched(Fetched::error(code))),
    };
    let leads = slot.replica.leadership().is_some();
    let is_replica = |node| {
        node != me && slot.replica.leadership().is_some_and(|leadership| leadership.replicas.contains(&node))
    };
    if fetch.follower.is_some_and(|follower| !is_replica(follower.node)) {
        let refused = Fetched::error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        return shard.answer(to, Answer::Fetched(refused));
    }
    let view = match fetch.follower {
        Some(_) => View::Stored,
        None if fetch.read_committed => View::Committed,
        None => View::Replicated,
    };
    let bounds = Bounds {
        high_watermark: slot.replica.high_watermark(),
        last_stable: slot.replica.last_stable_offset(),
        log_start: slot.log.start_offset(),
        view,
        upto: slot.replica.end_of(view),
        throttled: false,
    };
    // How far the leader's log goes is not a follower's to say: what is not here yet is waited for.
    if let Some(diverging) = diverging(slot, &fetch).filter(|_| leads) {
        let fetched = Fetched { diverging: Some(diverging), ..found(bounds, None) };
        return shard.answer(to, Answer::Fetched(fetched));
    }
    if fetch.offset < bounds.log_start || leads && fetch.offset > slot.log.end_offset() {
        // A follower has to know where the log begins.
        let log_start = if fetch.follower.is_some() { bounds.log_start } else { -1 };
        let refused = Fetched { log_start, ..Fetched::error(ErrorCode::OFFSET_OUT_OF_RANGE) };
        return shard.answer(to, Answer::Fetched(refused));
    }
    let number = slot.slot;
    if let Some(preferred) = nearer(shard, number, &fetch) {
        let fetched = Fetched { preferred: Some(preferred), ..found(bounds, None) };
        return shard.answer(to, Answer::Fetched(fetched));
    }
    if let Some(follower) = fetch.follower.filter(|follower| follower.heard) {
        followed(shard, number, follower, &fetch);
    }
    fetch_below(shard, to, number, fetch, bounds);
}

/// The replica in the consumer's rack that it should read from, if the leader is elsewhere (KIP-392): of those in sync that have what it
/// asks for, the one that has most.
fn nearer(shard: &Shard, number: u32, fetch: &Fetch) -> Option<NodeId> {
    let rack = fetch.rack.as_deref().filter(|_| shard.settings.rack_aware_reads)?;
    if shard.settings.rack.as_deref() == Some(rack) {
        return None;
    }
    let slot = shard.partitions.slot(number)?;
    let image = &shard.cluster.image;
    let is_near = |node: &NodeId| {
        let broker = image.broker(*node).filter(|broker| broker.is_active());
        broker.is_some_and(|broker| broker.rack.as_deref() == Some(rack))
            && !crate::suspects::is_suspect(shard, *node)
    };
    let in_sync = slot.replica.leadership()?.isr.iter().copied().filter(is_near);
    let ends = in_sync.filter_map(|node| Some((slot.replica.follower_end(node)?, node)));
    let best = ends
        .filter(|(end, _)| *end >= fetch.offset)
        .max_by_key(|(end, node)| (*end, std::cmp::Reverse(*node)));
    best.map(|(_, node)| node)
}

/// A follower has everything below the offset of its fetch.
fn followed(shard: &mut Shard, number: u32, follower: Follower, fetch: &Fetch) {
    let broker = shard.cluster.image.broker(follower.node).filter(|broker| broker.is_active());
    let registered = broker.map(|broker| broker.epoch);
    let Some(slot) = shard.partitions.slot_mut(number) else { return };
    let fetch = FollowerFetch {
        node: follower.node,
        broker_epoch: follower.broker_epoch,
        registered,
        leader_epoch: fetch.current_epoch.unwrap_or(slot.replica.epoch()),
        offset: fetch.offset,
    };
    let now = shard.now;
    let mut effects = Vec::new();
    slot.replica.step(now, Input::FollowerFetch(fetch), &mut effects);
    carry_out(shard, number, effects);
}

/// Reads what there is for a fetch within its bounds.
fn fetch_below(shard: &mut Shard, to: Return, number: u32, fetch: Fetch, mut bounds: Bounds) {
    let partitions = &mut shard.partitions;
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    let cache = &mut partitions.cache;
    bounds.high_watermark = slot.replica.high_watermark();
    let (me, throttles) = (shard.settings.node_id, &shard.settings.throttles);
    let meter = fetch.follower.and_then(|f| crate::throttle::of_follower(throttles, slot, me, f.node));
    bounds.throttled = meter.is_some();
    let is_held = meter.is_some_and(|meter| meter.closed_until(shard.now.mono).is_some());
    let read = match is_held || fetch.offset >= bounds.upto {
        true => Read::Empty,
        false => slot.log.read(
            cache,
            ReadRequest {
                offset: fetch.offset,
                max_bytes: meter.map_or(fetch.max_bytes, |meter| fetch.max_bytes.min(meter.portion())),
                min_one_batch: true,
                upto: bounds.upto,
            },
        ),
    };
    read_or_wait(shard, number, read, Waiting::Fetch { to, fetch, bounds });
}

/// Where the client's log parts from ours, if it does (KIP-595).
fn diverging(slot: &Slot, fetch: &Fetch) -> Option<(i32, i64)> {
    let epoch = fetch.last_fetched_epoch.filter(|_| !planted(Bug::LogsNeverPart))?;
    let (known, known_end) = end_of(slot, epoch.0);
    (known < epoch.0 || known_end < fetch.offset).then_some((known, known_end))
}

/// The largest epoch not above this one that the log knows, and where it ends. Of one that is older than all of them nothing is here: as
/// Kafka has it, it ends where the first one that is known begins.
fn end_of(slot: &Slot, epoch: i32) -> (i32, i64) {
    let (epochs, end) = (slot.log.epochs(), slot.log.end_offset());
    let first = epochs.entries().first().map_or(end, |(_, start)| *start);
    epochs.end_of(epoch, end).unwrap_or((epoch, first))
}

fn found(bounds: Bounds, records: Option<FileRange>) -> Fetched {
    Fetched {
        error: ErrorCode::NONE,
        high_watermark: bounds.high_watermark,
        last_stable: bounds.last_stable,
        log_start: bounds.log_start,
        records,
        diverging: None,
        preferred: None,
        throttled: bounds.throttled,
    }
}

fn fetch_read(shard: &mut Shard, number: u32, to: Return, fetch: &Fetch, bounds: Bounds, read: Read) {
    let fetched = match read {
        Read::Ready(range) => {
            let records = FileRange { file: range.file.0, position: range.position, len: range.len };
            found(bounds, Some(records))
        }
        Read::Empty | Read::Bytes(_) | Read::Pending(_) => found(bounds, None),
        Read::Refused(refusal) => Fetched::error(code_of(&refusal)),
    };
    // A follower that is sent something, or told of a higher high watermark, is answered and does not wait.
    let reached = takes_over(fetched.high_watermark, fetch.offset);
    let is_told = fetch.follower.is_some_and(|follower| reached > follower.told);
    let is_sent = fetch.follower.is_some() && fetched.records.is_some();
    if fetch.wait && fetched.error.is_ok() && !is_told && !is_sent {
        wait(shard, number, to, fetch, bounds);
    }
    shard.answer(to, Answer::Fetched(fetched));
}

fn wait(shard: &mut Shard, number: u32, to: Return, fetch: &Fetch, bounds: Bounds) {
    let now = shard.now;
    let partitions = &mut shard.partitions;
    let token = partitions.token(Token::Wait(to));
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    if let Some(before) = slot.waits.insert(to, token) {
        partitions.tokens.remove(&before.0);
        slot.replica.step(now, Input::Cancel { token: before }, &mut Vec::new());
    }
    let mut effects = Vec::new();
    slot.replica.step(
        now,
        Input::Wait {
            token,
            view: bounds.view,
            offset: fetch.offset,
            beyond: bounds.upto,
            told: fetch.follower.map(|f| Told { node: f.node, high_watermark: f.told }),
        },
        &mut effects,
    );
    carry_out(shard, number, effects);
}

/// Passes on what a read found, now or when the disk has been read.
pub(crate) fn read_or_wait(shard: &mut Shard, number: u32, read: Read, waiting: Waiting) {
    match read {
        Read::Pending(id) => {
            if let Some(slot) = shard.partitions.slots.get_mut(&number) {
                slot.reading.insert(id, waiting);
            }
        }
        read => read_done(shard, number, waiting, read),
    }
    drain(shard, number);
}

pub(super) fn read_done(shard: &mut Shard, number: u32, waiting: Waiting, read: Read) {
    match waiting {
        Waiting::Fetch { to, fetch, bounds } => fetch_read(shard, number, to, &fetch, bounds, read),
        Waiting::Timestamp { to, wanted, .. } => lookup::batch_found(shard, number, to, wanted, read),
        Waiting::Load { partition } => crate::groups::read(shard, partition, read),
        Waiting::Replay { producers, next_offset } => {
            super::cut::replayed(shard, number, producers, next_offset, read);
        }
        Waiting::Copy { at } => super::relocate::read(shard, at, read),
    }
}

/// A copy has taken the place of the log that was asked.
pub(super) fn ask_again(shard: &mut Shard, number: u32, waiting: Waiting) {
    match waiting {
        Waiting::Fetch { to, fetch, .. } => super::fetch(shard, to, fetch),
        Waiting::Timestamp { to, search, .. } => lookup::list_offsets(shard, to, search),
        Waiting::Load { partition } => crate::groups::read_again(shard, partition),
        Waiting::Replay { producers, next_offset } => {
            super::cut::replay_from(shard, number, producers, next_offset);
        }
        Waiting::Copy { .. } => {}
    }
}

/// The end of a leader epoch.
pub(crate) fn epoch_end(
    shard: &mut Shard,
    id: TopicPartition,
    known: Option<LeaderEpoch>,
    epoch: LeaderEpoch,
) -> Result<(i32, i64), ErrorCode> {
    let slot = shard.partitions.leader(id, known)?;
    if epoch == slot.replica.epoch() {
        return Ok((epoch.0, slot.log.end_offset()));
    }
    if epoch > slot.replica.epoch() || slot.log.epochs().entries().is_empty() {
        return Ok((-1, -1));
    }
    Ok(end_of(slot, epoch.0))
}

/// Moves the log start offset up to `before`; -1 means the high watermark. The new start is durable with the next checkpoint.
pub(crate) fn delete_records(shard: &mut Shard, id: TopicPartition, before: i64) -> Result<i64, ErrorCode> {
    let now = shard.now;
    let slot = shard.partitions.leader(id, None)?;
    if !slot.config.cleanup.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let high_watermark = slot.replica.high_watermark();
    let before = if before == -1 { high_watermark } else { before };
    if before < 0 || before > high_watermark {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let mut effects = Vec::new();
    if before > slot.log.start_offset() {
        slot.log.delete_records(now, before);
        slot.replica.step(now, Input::LogStart { offset: slot.log.start_offset() }, &mut effects);
    }
    let (start, number) = (slot.log.start_offset(), slot.slot);
    carry_out(shard, number, effects);
    drain(shard, number);
    crate::checkpoints::changed(shard, number);
    Ok(start)
}
