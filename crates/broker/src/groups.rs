//! Group coordinators: one per partition of `__consumer_offsets` that this shard leads. A coordinator first replays its
//! partition; requests that come meanwhile are held, not refused (some clients do not survive COORDINATOR_LOAD_IN_PROGRESS).

use std::collections::BTreeMap;

use moldau_base::{PartitionIndex, Rng, TopicPartition};
use moldau_batch::{Builder, Codec};
use moldau_controller::{InternalTopic, PartitionDelta};
use moldau_group::{Config, Coordinator, DeletedTopic, Effect, Input, Reply, Request};
use moldau_storage::{Read, ReadRequest};
use moldau_wire::ErrorCode;

use crate::Shard;
use crate::message::{Answer, Ask, Return};
use crate::partitions::{self, Token, Waiting};
use crate::timers::Timer;
use crate::waist::{ShardId, Trace};

/// Bytes of the log that are replayed at a time.
const LOAD_BYTES: u32 = 1 << 20;
/// A batch of the group log is never larger than this when decompressed; ours are not compressed at all.
const BATCH_LIMIT: usize = 64 << 20;
/// Requests held for one coordinator while it loads; more are told to come again.
const HELD_REQUESTS: usize = 10_000;

/// The coordinators of a shard.
pub(crate) struct Groups {
    config: Config,
    rng: Rng,
    coordinators: BTreeMap<i32, Place>,
    /// Coordinators that wait for the end of their logs to be stored, by the logs' slots.
    unstored: BTreeMap<u32, i32>,
    next_token: u64,
    /// Who waits for an answer: by the token that the coordinator knows the request by.
    waiting: BTreeMap<u64, Return>,
    /// Requests to every coordinator, collected until the last has answered.
    collecting: BTreeMap<Return, (usize, Vec<Reply>)>,
}

/// One coordinator and its log.
struct Place {
    id: TopicPartition,
    coordinator: Coordinator,
    loading: Option<Loading>,
}

struct Loading {
    next_offset: i64,
    /// Where the log ended when this node began to lead it.
    end_offset: i64,
    held: Vec<(Return, Request)>,
}

impl Groups {
    pub(crate) fn new(config: Config, rng: Rng) -> Groups {
        Groups {
            config,
            rng,
            coordinators: BTreeMap::new(),
            unstored: BTreeMap::new(),
            next_token: 1,
            waiting: BTreeMap::new(),
            collecting: BTreeMap::new(),
        }
    }

    /// The coordinators that have replayed their logs, for checks that another replay gives the same.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = (i32, &Coordinator)> {
        self.coordinators
            .iter()
            .filter(|(_, place)| place.loading.is_none())
            .map(|(partition, place)| (*partition, &place.coordinator))
    }
}

/// Asks the coordinator of a group; `finish` gets its reply, or why there is none.
pub(crate) fn ask(
    shard: &mut Shard,
    group: &str,
    request: Request,
    finish: impl FnOnce(&mut Shard, Result<Reply, ErrorCode>) + 'static,
) {
    let question = question(shard, group, request);
    shard.gather(vec![question], None, move |shard, answers| {
        let reply = match answers.into_iter().next().flatten() {
            Some(Answer::Group(reply)) => Ok(reply),
            Some(Answer::Unavailable(code)) => Err(code),
            _ => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        };
        finish(shard, reply);
    });
}

/// The question to the coordinator of `group`.
pub(crate) fn question(shard: &Shard, group: &str, request: Request) -> (ShardId, Ask) {
    let topic = shard.cluster.image.topic_named(InternalTopic::ConsumerOffsets.name());
    match topic {
        Some(topic) => {
            let partition = moldau_group::partition_for(group, topic.partition_count());
            let id = TopicPartition { topic: topic.id, partition: PartitionIndex(partition) };
            (shard.owner_of(id), Ask::Group { partition, request })
        }
        // Nobody has asked for a coordinator yet: this shard will say that it has none.
        None => (shard.id, Ask::Group { partition: -1, request }),
    }
}

/// A request to the coordinator of one partition.
pub(crate) fn request(shard: &mut Shard, to: Return, partition: i32, request: Request) {
    let Some(place) = shard.groups.coordinators.get_mut(&partition) else {
        let code = match shard.cluster.image.topic_named(InternalTopic::ConsumerOffsets.name()) {
            Some(_) => ErrorCode::NOT_COORDINATOR,
            None => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        };
        return shard.answer(to, Answer::Unavailable(code));
    };
    match &mut place.loading {
        Some(loading) if loading.held.len() < HELD_REQUESTS => loading.held.push((to, request)),
        Some(_) => shard.answer(to, Answer::Unavailable(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)),
        None => {
            let token = shard.groups.next_token;
            shard.groups.next_token += 1;
            shard.groups.waiting.insert(token, to);
            step(shard, partition, Input::Request { token, request: Box::new(request) });
        }
    }
}

/// A request to every coordinator of this shard.
pub(crate) fn request_all(shard: &mut Shard, to: Return, all: Request) {
    let partitions: Vec<i32> = shard.groups.coordinators.keys().copied().collect();
    if partitions.is_empty() {
        return shard.answer(to, Answer::Groups(Vec::new()));
    }
    shard.groups.collecting.insert(to, (partitions.len(), Vec::new()));
    for partition in partitions {
        request(shard, to, partition, all.clone());
    }
}

/// Gives a coordinator an input and does what it says.
fn step(shard: &mut Shard, partition: i32, input: Input) {
    let Some(place) = shard.groups.coordinators.get_mut(&partition) else { return };
    let mut effects = Vec::new();
    place.coordinator.step(shard.now, input, &mut effects);
    let deadline = place.coordinator.deadline();
    shard.timers.set(Timer::Group(partition), deadline);
    carry_out(shard, partition, effects);
}

fn carry_out(shard: &mut Shard, partition: i32, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Reply { token, reply } => {
                if let Some(to) = shard.groups.waiting.remove(&token) {
                    replied(shard, to, reply);
                }
            }
            Effect::Append { id, records } => append(shard, partition, id, &records),
        }
    }
}

fn replied(shard: &mut Shard, to: Return, reply: Reply) {
    let Some((missing, replies)) = shard.groups.collecting.get_mut(&to) else {
        return shard.answer(to, Answer::Group(reply));
    };
    replies.push(reply);
    *missing -= 1;
    if *missing == 0 {
        let replies = shard.groups.collecting.remove(&to).map(|(_, replies)| replies).unwrap_or_default();
        shard.answer(to, Answer::Groups(replies));
    }
}

/// Writes a coordinator's records as one batch to its partition.
fn append(shard: &mut Shard, partition: i32, id: u64, records: &[moldau_group::Record]) {
    let Some(place) = shard.groups.coordinators.get(&partition) else { return };
    let topic_partition = place.id;
    let mut builder = Builder::new(Codec::None);
    for record in records {
        builder.push(shard.now.wall_ms, Some(&record.key), record.value.as_deref(), &[]);
    }
    let token = Token::Group { partition, id };
    match builder.build() {
        Ok(bytes) => partitions::append_own(shard, topic_partition, token, bytes),
        Err(error) => {
            shard.trace(Trace::Warning(format!("group records cannot be written: {error}")));
            failed(shard, partition, id, ErrorCode::UNKNOWN_SERVER_ERROR);
        }
    }
}

/// A coordinator's records are in its log.
pub(crate) fn appended(shard: &mut Shard, partition: i32, id: u64, first_offset: i64) {
    step(shard, partition, Input::Appended { id, first_offset });
}

/// A coordinator's records are committed.
pub(crate) fn committed(shard: &mut Shard, partition: i32, id: u64) {
    step(shard, partition, Input::Committed { id });
}

/// A coordinator's records are in its log, and too few replicas are in sync for them to be committed.
pub(crate) fn in_doubt(shard: &mut Shard, partition: i32, id: u64) {
    step(shard, partition, Input::AppendInDoubt { id, error: ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND });
}

/// A coordinator's records are not in its log.
pub(crate) fn failed(shard: &mut Shard, partition: i32, id: u64, error: ErrorCode) {
    step(shard, partition, Input::AppendFailed { id, error });
}

/// A coordinator's deadline has come.
pub(crate) fn tick(shard: &mut Shard, partition: i32) {
    step(shard, partition, Input::Tick);
}

/// The image has changed: coordinators come with the partitions that this shard leads; offsets of deleted topics go.
pub(crate) fn follow_image(shard: &mut Shard) {
    let update = shard.cluster.clone();
    for change in &update.delta.partitions {
        if &*change.topic.name == InternalTopic::ConsumerOffsets.name() {
            follow_partition(shard, change);
        }
    }
    let deleted: Vec<DeletedTopic> = update
        .delta
        .topics_deleted
        .iter()
        .map(|topic| DeletedTopic { name: crate::api::text(&topic.name), id: topic.id })
        .collect();
    if !deleted.is_empty() {
        let loaded: Vec<i32> = shard.groups.loaded().map(|(partition, _)| partition).collect();
        for partition in loaded {
            step(shard, partition, Input::TopicsDeleted(deleted.clone()));
        }
    }
}

fn follow_partition(shard: &mut Shard, change: &PartitionDelta) {
    let id = TopicPartition { topic: change.topic.id, partition: change.index };
    if shard.owner_of(id) != shard.id {
        return;
    }
    let me = shard.settings.node_id;
    let leads = change.after.as_ref().is_some_and(|partition| partition.leader() == Some(me));
    let known = shard.groups.coordinators.contains_key(&change.index.0);
    match (leads, known) {
        (true, false) => load(shard, id),
        (false, true) => resign(shard, change.index.0),
        (true, true) | (false, false) => {}
    }
}

fn load(shard: &mut Shard, id: TopicPartition) {
    let coordinator = Coordinator::new(shard.groups.config.clone(), shard.groups.rng.fork());
    let log = shard.partitions.by_id(id).map(|slot| (slot.log.start_offset(), slot.log.end_offset()));
    let (next_offset, end_offset) = log.unwrap_or_default();
    let loading = Some(Loading { next_offset, end_offset, held: Vec::new() });
    shard.groups.coordinators.insert(id.partition.0, Place { id, coordinator, loading });
    load_more(shard, id.partition.0);
}

fn load_more(shard: &mut Shard, partition: i32) {
    let Some(place) = shard.groups.coordinators.get(&partition) else { return };
    let Some(loading) = &place.loading else { return };
    let (offset, end_offset) = (loading.next_offset, loading.end_offset);
    let Ok((slot, cache)) = shard.partitions.leader_and_cache(place.id, None) else {
        return resign(shard, partition);
    };
    let upto = slot.log.stored_offset();
    if offset >= upto {
        // What was appended as a follower and is on its way to the disk counts: others may have it, and then it is committed.
        if upto < end_offset.min(slot.log.end_offset()) {
            let slot = slot.slot;
            shard.groups.unstored.insert(slot, partition);
            return;
        }
        return loaded(shard, partition);
    }
    let request = ReadRequest { offset, max_bytes: LOAD_BYTES, min_one_batch: true, upto };
    let read = slot.log.read_bytes(cache, request);
    let slot = slot.slot;
    partitions::read_or_wait(shard, slot, read, Waiting::Load { partition });
}

/// More of a log is stored, or less of it is to be.
pub(crate) fn log_changed(shard: &mut Shard, slot: u32) {
    if let Some(partition) = shard.groups.unstored.remove(&slot) {
        load_more(shard, partition);
    }
}

/// The log that a coordinator reads is another one, with the same in it.
pub(crate) fn read_again(shard: &mut Shard, partition: i32) {
    load_more(shard, partition);
}

/// The next piece of a coordinator's log has been read.
pub(crate) fn read(shard: &mut Shard, partition: i32, read: Read) {
    match read {
        Read::Bytes(chunk) => {
            let Some(place) = shard.groups.coordinators.get_mut(&partition) else { return };
            let problems = replay(&mut place.coordinator, &chunk.bytes);
            if let Some(loading) = &mut place.loading {
                loading.next_offset = chunk.next_offset;
            }
            for problem in problems {
                shard.trace(Trace::Warning(format!("__consumer_offsets-{partition}: {problem}")));
            }
            load_more(shard, partition);
        }
        Read::Empty | Read::Ready(_) | Read::Pending(_) => loaded(shard, partition),
        Read::Refused(refusal) => {
            shard.trace(Trace::Warning(format!("__consumer_offsets-{partition} cannot be read: {refusal}")));
            resign(shard, partition);
        }
    }
}

/// Replays whole batches into a coordinator; what cannot be read is named and left out.
pub(crate) fn replay(coordinator: &mut Coordinator, bytes: &bytes::Bytes) -> Vec<String> {
    let mut problems = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let batch = match moldau_batch::Batch::verify(&rest) {
            Ok(batch) => batch,
            Err(error) => {
                problems.push(format!("damaged batch: {error}"));
                return problems;
            }
        };
        rest = rest.slice(batch.bytes().len()..);
        if batch.header().attributes.is_control() {
            continue;
        }
        match batch.records(BATCH_LIMIT) {
            Ok(records) => {
                for record in records {
                    match record {
                        Ok(record) => {
                            let key = record.key.unwrap_or_default();
                            if let Err(bad) = coordinator.replay(record.offset, key, record.value) {
                                problems.push(format!("record {}: {bad}", record.offset));
                            }
                        }
                        Err(error) => problems.push(error.to_string()),
                    }
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    problems
}

fn loaded(shard: &mut Shard, partition: i32) {
    let Some(place) = shard.groups.coordinators.get_mut(&partition) else { return };
    let Some(loading) = place.loading.take() else { return };
    let mut effects = Vec::new();
    place.coordinator.loaded(shard.now, &mut effects);
    let deadline = place.coordinator.deadline();
    shard.timers.set(Timer::Group(partition), deadline);
    carry_out(shard, partition, effects);
    for (to, held) in loading.held {
        request(shard, to, partition, held);
    }
}

/// The partition is led elsewhere, or cannot be read: everybody who waits is told.
fn resign(shard: &mut Shard, partition: i32) {
    let Some(place) = shard.groups.coordinators.remove(&partition) else { return };
    shard.timers.set(Timer::Group(partition), None);
    shard.groups.unstored.retain(|_, waiting| *waiting != partition);
    // What becomes of its appends is not for a later coordinator to hear, whose names for its own are the same.
    shard.partitions.forget_appends_of(partition);
    for (to, _) in place.loading.map(|loading| loading.held).unwrap_or_default() {
        shard.answer(to, Answer::Unavailable(ErrorCode::NOT_COORDINATOR));
    }
    let mut effects = Vec::new();
    place.coordinator.resign(ErrorCode::NOT_COORDINATOR, &mut effects);
    carry_out(shard, partition, effects);
}
