//! Followers' side of replication: what this shard's replicas fetch from the leaders of their partitions, and what comes of it.
//!
//! One fetcher per leading node, over a connection of its own, with a fetch session (KIP-227): a request names only partitions whose
//! place has moved, an answer only those with news. A fetch waits at the leader until there is something. What has to be asked
//! meanwhile (a new partition, the end of a sync) goes out as a second fetch, which makes the leader answer the one that waits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use moldau_base::{BrokerEpoch, LeaderEpoch, Mono, NodeId, PartitionIndex, TopicPartition};
use moldau_batch::{Batch, BatchError};
use moldau_partition::{Effect, EpochEnd, Fetched, Input, News};
use moldau_wire::fetch::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Records, Response as AnyResponse};

use crate::Shard;
use crate::partitions::{self, Slot};
use crate::timers::Timer;
use crate::waist::{Lane, Purpose, Trace};

/// How long a fetch may wait at the leader, in milliseconds (`replica.fetch.wait.max.ms`).
const WAIT_MS: i32 = 500;
/// How much longer its answer may take, in milliseconds.
const PATIENCE_MS: i64 = 1_500;
/// Most bytes of one partition in an answer (`replica.fetch.max.bytes`).
const PARTITION_BYTES: i32 = 1 << 20;
/// Most bytes in an answer (`replica.fetch.response.max.bytes`).
const RESPONSE_BYTES: i32 = 10 << 20;
/// After a refusal or a broken connection nothing is asked for so long, in milliseconds.
const REST_MS: i64 = 20;
/// The next fetch waits so long at most for what the last one brought to be stored, in milliseconds.
const STORE_MS: i64 = 2;
/// Fetches on their way to one leader.
const UNDER_WAY: usize = 2;

/// The fetchers of a shard, by leading node.
#[derive(Debug, Default)]
pub(crate) struct Replication {
    fetchers: BTreeMap<NodeId, Fetcher>,
}

#[derive(Debug, Default)]
struct Fetcher {
    session: Session,
    /// What the leader was told: in which request, and where the fetch reads.
    named: BTreeMap<TopicPartition, Named>,
    /// To be told, or to be forgotten.
    dirty: BTreeSet<TopicPartition>,
    /// Named, and not to be fetched just now: its log is storing or cutting something.
    storing: BTreeSet<TopicPartition>,
    /// Refused; to be asked again then.
    resting: BTreeMap<TopicPartition, Mono>,
    /// Throttled; to be looked at again then.
    throttled: BTreeMap<TopicPartition, Mono>,
    under_way: usize,
    next_request: u64,
    /// Nothing is sent before, unless what is stored is stored.
    store_until: Option<Mono>,
    /// Nothing is sent before.
    rest_until: Option<Mono>,
}

impl Fetcher {
    /// When something that rests is to be asked for again.
    fn rested(&self) -> Option<Mono> {
        self.resting.values().chain(self.throttled.values()).min().copied()
    }
}

#[derive(Clone, Copy, Debug)]
struct Named {
    request: u64,
    leader_epoch: LeaderEpoch,
    offset: i64,
}

/// A fetch session as the leader knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Session {
    /// Counts sessions, so that answers of an earlier one are known.
    generation: u64,
    id: i32,
    /// Of the next fetch.
    epoch: i32,
}

/// A replica has changed: what it wants to be fetched may be something else.
pub(crate) fn look(shard: &mut Shard, number: u32) {
    let Some(slot) = shard.partitions.slot_mut(number) else { return };
    let from = slot.replica.to_fetch().map(|wanted| wanted.leader);
    if from.is_none() && slot.fetched_from.is_none() {
        return;
    }
    let id = slot.id;
    let before = slot.fetched_from;
    slot.fetched_from = from.or(before);
    if let Some(before) = before.filter(|before| Some(*before) != from) {
        let fetcher = shard.replication.fetchers.entry(before).or_default();
        let storing = from.is_none() && fetcher.named.contains_key(&id);
        let set = if storing { &mut fetcher.storing } else { &mut fetcher.dirty };
        set.insert(id);
        shard.timers.set(Timer::Fetcher(before), Some(shard.now.mono));
    }
    if let Some(from) = from {
        let fetcher = shard.replication.fetchers.entry(from).or_default();
        fetcher.storing.remove(&id);
        fetcher.throttled.remove(&id);
        fetcher.dirty.insert(id);
        shard.timers.set(Timer::Fetcher(from), Some(shard.now.mono));
    }
}

/// A partition is gone.
pub(crate) fn forget(shard: &mut Shard, id: TopicPartition, from: Option<NodeId>) {
    let Some(node) = from else { return };
    if let Some(fetcher) = shard.replication.fetchers.get_mut(&node) {
        fetcher.storing.remove(&id);
        fetcher.resting.remove(&id);
        fetcher.throttled.remove(&id);
        fetcher.dirty.insert(id);
        shard.timers.set(Timer::Fetcher(node), Some(shard.now.mono));
    }
}

/// Sends what there is to send to this leader, or says when.
pub(crate) fn tick(shard: &mut Shard, node: NodeId) {
    let now = shard.now.mono;
    shard.timers.set(Timer::Fetcher(node), None);
    if shard.partitions.stopping.is_some() {
        return;
    }
    let Some(fetcher) = shard.replication.fetchers.get_mut(&node) else { return };
    if let Some(until) = fetcher.rest_until {
        if until > now {
            return shard.timers.set(Timer::Fetcher(node), Some(until));
        }
        fetcher.rest_until = None;
    }
    let Fetcher { resting, throttled, dirty, .. } = fetcher;
    dirty.extend(resting.extract_if(.., |_, until| *until <= now).map(|(id, _)| id));
    dirty.extend(throttled.extract_if(.., |_, until| *until <= now).map(|(id, _)| id));
    let rested = fetcher.rested();
    shard.timers.set(Timer::Fetcher(node), rested);
    if fetcher.storing.is_empty() {
        fetcher.store_until = None;
    } else if fetcher.under_way == 0 || !fetcher.dirty.is_empty() {
        let until = *fetcher.store_until.get_or_insert(now.after_ms(STORE_MS));
        if until > now {
            let first = rested.map_or(until, |at| at.min(until));
            return shard.timers.set(Timer::Fetcher(node), Some(first));
        }
        // It is asked for again when it is stored.
        let storing = std::mem::take(&mut fetcher.storing);
        fetcher.dirty.extend(storing);
        fetcher.store_until = None;
    }
    let wants = fetcher.under_way == 0 && !fetcher.named.is_empty() || !fetcher.dirty.is_empty();
    if wants && fetcher.under_way < UNDER_WAY {
        send(shard, node);
    }
}

/// This broker's incarnation, once metadata has it.
fn own_epoch(shard: &Shard) -> Option<BrokerEpoch> {
    shard.cluster.image.broker(shard.settings.node_id).map(|broker| broker.epoch)
}

fn send(shard: &mut Shard, node: NodeId) {
    let address = crate::lifecycle::broker_address(shard, &shard.cluster.image, node);
    let (Some(address), Some(epoch)) = (address, own_epoch(shard)) else { return rest(shard, node) };
    let Some((number, request)) = next_request(shard, node, epoch) else { return };
    let Some(fetcher) = shard.replication.fetchers.get_mut(&node) else { return };
    let generation = fetcher.session.generation;
    fetcher.session.epoch += 1;
    fetcher.under_way += 1;
    let lane = Lane { node, purpose: Purpose::Fetch };
    let patience = i64::from(WAIT_MS) + PATIENCE_MS;
    let request = moldau_wire::Request::Fetch(request);
    crate::peers::call(shard, lane, address, &request, patience, move |shard, result| {
        let fetcher = shard.replication.fetchers.get_mut(&node);
        if fetcher.is_none_or(|fetcher| fetcher.session.generation != generation) {
            return;
        }
        match result {
            Ok(AnyResponse::Fetch(response)) => answered(shard, node, number, response),
            Ok(_) => restart(shard, node),
            Err(why) => {
                crate::lifecycle::no_answer(shard, node, why);
                restart(shard, node);
            }
        }
    });
}

/// The next fetch from this leader; `None` when there is nothing to ask of it.
fn next_request(shard: &mut Shard, node: NodeId, epoch: BrokerEpoch) -> Option<(u64, Request)> {
    let me = shard.settings.node_id;
    let (image, throttles, now) = (&shard.cluster.image, &shard.settings.throttles, shard.now.mono);
    let fetcher = shard.replication.fetchers.get_mut(&node)?;
    let number = fetcher.next_request;
    let mut topics: Vec<request::Topic> = Vec::new();
    let mut forgotten: Vec<request::ForgottenTopic> = Vec::new();
    for id in std::mem::take(&mut fetcher.dirty) {
        let slot = shard.partitions.by_id(id).filter(|_| !fetcher.resting.contains_key(&id));
        let wanted =
            slot.and_then(|slot| Some((slot, slot.replica.to_fetch().filter(|w| w.leader == node)?)));
        let meter = slot.and_then(|slot| crate::throttle::of_leader(throttles, image, slot, me));
        let closed_until = meter.and_then(|meter| meter.closed_until(now)).filter(|_| wanted.is_some());
        fetcher.throttled.extend(closed_until.map(|until| (id, until)));
        let Some((slot, wanted)) = wanted.filter(|_| closed_until.is_none()) else {
            if fetcher.named.remove(&id).is_some() {
                match forgotten.last_mut().filter(|last| last.topic_id == id.topic) {
                    Some(topic) => topic.partitions.push(id.partition.0),
                    None => forgotten.push(request::ForgottenTopic {
                        topic_id: id.topic,
                        partitions: vec![id.partition.0],
                        ..Default::default()
                    }),
                }
            }
            continue;
        };
        let place = Named { request: number, leader_epoch: wanted.leader_epoch, offset: wanted.offset };
        fetcher.named.insert(id, place);
        let partition = request::Partition {
            partition: id.partition.0,
            current_leader_epoch: wanted.leader_epoch.0,
            fetch_offset: wanted.offset,
            last_fetched_epoch: slot.log.epochs().latest().unwrap_or(-1),
            log_start_offset: slot.log.start_offset(),
            partition_max_bytes: meter.map_or(PARTITION_BYTES, |meter| portion(meter.portion())),
            high_watermark: slot.replica.high_watermark(),
            ..Default::default()
        };
        match topics.last_mut().filter(|last| last.topic_id == id.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(request::Topic {
                topic_id: id.topic,
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    shard.timers.set(Timer::Fetcher(node), fetcher.rested());
    if fetcher.named.is_empty() && (forgotten.is_empty() || fetcher.session.id == 0) {
        return None;
    }
    if topics.is_empty() && forgotten.is_empty() && fetcher.under_way > 0 {
        return None;
    }
    fetcher.next_request += 1;
    let request = Request {
        replica_state: request::ReplicaState { replica_id: me.0, replica_epoch: epoch.0 },
        max_wait_ms: WAIT_MS,
        min_bytes: 1,
        max_bytes: RESPONSE_BYTES,
        session_id: fetcher.session.id,
        session_epoch: fetcher.session.epoch,
        topics,
        forgotten_topics_data: forgotten,
        ..Request::default()
    };
    Some((number, request))
}

/// What a throttle leaves of the bytes of a partition.
fn portion(bytes: u32) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX).min(PARTITION_BYTES)
}

/// The session is lost, or the connection: everything is to be told again.
fn restart(shard: &mut Shard, node: NodeId) {
    if let Some(fetcher) = shard.replication.fetchers.get_mut(&node) {
        fetcher.session = Session { generation: fetcher.session.generation + 1, id: 0, epoch: 0 };
        let named = std::mem::take(&mut fetcher.named);
        fetcher.dirty.extend(named.into_keys());
        fetcher.storing.clear();
        fetcher.under_way = 0;
        rest(shard, node);
    }
}

fn rest(shard: &mut Shard, node: NodeId) {
    let until = shard.now.mono.after_ms(REST_MS);
    if let Some(fetcher) = shard.replication.fetchers.get_mut(&node) {
        fetcher.rest_until = Some(until);
        shard.timers.set(Timer::Fetcher(node), Some(until));
    }
}

fn answered(shard: &mut Shard, node: NodeId, number: u64, response: Response) {
    // What a stop has flushed stays as it is: it will be called clean.
    if shard.partitions.stopping.is_some() {
        return;
    }
    let Some(fetcher) = shard.replication.fetchers.get_mut(&node) else { return };
    fetcher.under_way -= 1;
    if response.error_code.is_err() {
        return restart(shard, node);
    }
    if response.session_id == 0 && fetcher.session.id == 0 {
        // The leader has no room for a session: all is told each time.
        fetcher.session.epoch = 0;
        let named: Vec<TopicPartition> = fetcher.named.keys().copied().collect();
        fetcher.dirty.extend(named);
    }
    fetcher.session.id = response.session_id;
    for topic in response.responses {
        for partition in topic.partitions {
            let index = PartitionIndex(partition.partition_index);
            let id = TopicPartition { topic: topic.topic_id, partition: index };
            let asked = shard.replication.fetchers.get(&node).and_then(|fetcher| fetcher.named.get(&id));
            if let Some(asked) = asked.copied().filter(|asked| asked.request <= number) {
                take(shard, node, id, asked, partition);
            }
        }
    }
    tick(shard, node);
}

/// What the leader answers for one partition.
fn take(shard: &mut Shard, node: NodeId, id: TopicPartition, asked: Named, answer: response::Partition) {
    let news = match answer.error_code {
        ErrorCode::NONE if answer.diverging_epoch.epoch >= 0 || answer.diverging_epoch.end_offset >= 0 => {
            Ok(Some(answer.diverging_epoch.clone()))
        }
        ErrorCode::NONE => Ok(None),
        ErrorCode::OFFSET_OUT_OF_RANGE => Ok(None),
        error => Err(error),
    };
    let diverging = match news {
        Ok(diverging) => diverging,
        Err(error) => return refused(shard, node, id, error),
    };
    let batches = match whole_batches(&answer.records) {
        Ok(batches) => batches,
        Err(error) => {
            shard.trace(Trace::Warning(format!("node {node} sends a damaged batch of {id}: {error}")));
            return refused(shard, node, id, ErrorCode::CORRUPT_MESSAGE);
        }
    };
    if partitions::is_held(shard, id) {
        // It is asked for again when its log has another place.
        return refused(shard, node, id, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let Some((number, slot)) = shard.partitions.numbered(id) else { return };
    let end = slot.log.end_offset();
    let epoch_end = |(epoch, end_offset): (i32, i64)| EpochEnd { epoch: LeaderEpoch(epoch), end_offset };
    let news = match diverging {
        _ if answer.error_code.is_err() => News::OutOfRange,
        Some(theirs) => News::Diverging {
            leader: (theirs.epoch >= 0).then(|| epoch_end((theirs.epoch, theirs.end_offset))),
            own: slot.log.epochs().end_of(theirs.epoch, end).map(epoch_end),
        },
        None => News::Batches(&batches),
    };
    let fetched = Fetched {
        leader_epoch: asked.leader_epoch,
        offset: asked.offset,
        high_watermark: answer.high_watermark,
        log_start_offset: answer.log_start_offset.max(0),
        news,
    };
    let now = shard.now;
    let (me, image, throttles) = (shard.settings.node_id, &shard.cluster.image, &shard.settings.throttles);
    if let Some(meter) = crate::throttle::of_leader(throttles, image, slot, me) {
        meter.take(batches.iter().map(|batch| batch.bytes().len() as u64).sum(), now.mono);
    }
    let mut effects = Vec::new();
    slot.replica.step(now, Input::Fetched(fetched), &mut effects);
    append(slot, now, &batches, &mut effects);
    let stands = slot.replica.to_fetch().is_some_and(|w| w.offset == asked.offset) && !batches.is_empty();
    partitions::did(shard, number, effects);
    if stands {
        // The log did not take it: not at once again.
        refused(shard, node, id, ErrorCode::KAFKA_STORAGE_ERROR);
    }
}

/// Appends what the core wants of the batches that were fetched.
fn append(slot: &mut Slot, now: moldau_base::Now, batches: &[Batch], effects: &mut Vec<Effect>) {
    let last = effects.pop_if(|last| matches!(last, Effect::AppendFetched { .. }));
    let Some(Effect::AppendFetched { count }) = last else { return };
    let Some(batches) = batches.get(..count) else { return };
    let Slot { log, replica, .. } = slot;
    let taken = log.append_verbatim(now, batches, &mut || replica.producers().snapshot().collect());
    let result = match taken {
        Ok(_) => Input::FetchedAppended { batches },
        Err(_) => Input::FetchedNotAppended,
    };
    replica.step(now, result, effects);
}

fn whole_batches(records: &Records) -> Result<Vec<Batch>, BatchError> {
    let Records::Bytes(records) = records else { return Ok(Vec::new()) };
    let mut rest: Bytes = records.clone();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let batch = Batch::verify(&rest)?;
        rest = rest.slice(batch.bytes().len()..);
        batches.push(batch);
    }
    Ok(batches)
}

/// Not from this leader, or not now: metadata will tell, or it is asked again.
fn refused(shard: &mut Shard, node: NodeId, id: TopicPartition, error: ErrorCode) {
    let until = shard.now.mono.after_ms(REST_MS);
    let Some(fetcher) = shard.replication.fetchers.get_mut(&node) else { return };
    fetcher.resting.insert(id, until);
    fetcher.dirty.insert(id);
    shard.timers.set(Timer::Fetcher(node), Some(shard.now.mono));
    let expected = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ];
    if !expected.contains(&error) {
        shard.warn_once(format!("node {node} refuses to replicate {id}: {}", error.name()));
    }
}
