//! What clients send to a partition while its leadership moves away from here: it is held until the next leader is known, and then, for
//! a moment, carried there, so that a planned move is no error to anybody. Whoever is answered from elsewhere is told where
//! (KIP-951), and after that moment everybody is.
//!
//! A partition's requests are carried one after the other, behind the answers that this node still owes, so that they keep their order. What
//! is not certain to be undone is never sent twice. What is sent to a replica that changes its log directory waits here, too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use moldau_base::{Mono, NodeId, TopicPartition};
use moldau_wire::produce::{Request, Response, request};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::message::{Answer, Message, Produce, Produced, Refusal, Return, Taker};
use crate::timers::Timer;
use crate::waist::{Address, Effect, Lane, NoAnswer, Purpose, ShardId, ToPeer};

/// How long after a move requests are carried, in milliseconds: until the next leader knows that it is one, and clients have heard of it.
const CARRY_MS: i64 = 100;
/// Between two looks whether what waits can go on, in milliseconds.
const RETRY_MS: i64 = 2;
/// How long the next leader may take to answer, in milliseconds.
const PATIENCE_MS: i32 = 2_000;
/// Most requests that wait for one partition; more are told that it is not led here.
const MOST_WAITING: usize = 10_000;

/// The partitions of a shard that move.
#[derive(Debug, Default)]
pub(crate) struct HandOver {
    /// The node gives away what it leads: nothing is appended meanwhile to what others can lead.
    holding: bool,
    moving: BTreeMap<TopicPartition, Moving>,
    /// To whom something was carried.
    carriers: BTreeSet<NodeId>,
    /// When it is looked at next.
    next: Option<Mono>,
}

/// A partition that moves, or has moved a moment ago.
#[derive(Debug, Default)]
struct Moving {
    /// How long its requests are carried; `None` before it moves.
    until: Option<Mono>,
    waiting: VecDeque<(Return, Produce)>,
    /// The first of those that wait is on its way.
    carrying: bool,
}

/// Where what waits should go.
enum Place {
    Here,
    There(NodeId, Address),
    /// It will be known soon.
    NotYet,
    Nowhere,
}

/// Another shard, or this one, begins or ends holding what is produced.
pub(crate) fn hold(shard: &mut Shard, hold: bool) {
    shard.hand_over.holding = hold;
    if hold {
        return shard.tell(ShardId(0), Message::Holding);
    }
    let all: Vec<TopicPartition> = shard.hand_over.moving.keys().copied().collect();
    all.into_iter().for_each(|id| go_on(shard, id));
}

/// Keeps a request whose partition moves; gives it back when it can be done here.
pub(crate) fn keep(shard: &mut Shard, to: Return, produce: Produce) -> Option<Produce> {
    let id = produce.partition;
    let moves = shard.hand_over.moving.contains_key(&id)
        || shard.hand_over.holding && may_move(shard, id)
        || crate::partitions::is_held(shard, id);
    if !moves {
        return Some(produce);
    }
    let moving = shard.hand_over.moving.entry(id).or_default();
    if moving.waiting.len() >= MOST_WAITING {
        refuse(shard, to);
    } else {
        moving.waiting.push_back((to, produce));
        go_on(shard, id);
    }
    None
}

/// Whether somebody else could lead.
fn may_move(shard: &Shard, id: TopicPartition) -> bool {
    let leadership = shard.partitions.by_id(id).and_then(|slot| slot.replica.leadership());
    leadership.is_some_and(|leadership| leadership.isr.len() > 1)
}

/// Another node has become the leader of a partition that was led here.
pub(crate) fn moved(shard: &mut Shard, id: TopicPartition) {
    let until = shard.now.mono.after_ms(CARRY_MS);
    shard.hand_over.moving.entry(id).or_default().until = Some(until);
    look_at(shard, until);
    go_on(shard, id);
}

/// Metadata has something new about a partition.
pub(crate) fn look(shard: &mut Shard, id: TopicPartition) {
    if shard.hand_over.moving.contains_key(&id) {
        go_on(shard, id);
    }
}

/// Time has passed: what waits is looked at again, and partitions that have had their moment are forgotten.
pub(crate) fn tick(shard: &mut Shard) {
    let now = shard.now.mono;
    shard.hand_over.next = None;
    let busy = |moving: &Moving| !moving.waiting.is_empty();
    let waiting: Vec<TopicPartition> =
        shard.hand_over.moving.iter().filter(|(_, moving)| busy(moving)).map(|(id, _)| *id).collect();
    waiting.into_iter().for_each(|id| go_on(shard, id));
    let is_over = |moving: &Moving| !busy(moving) && moving.until.is_none_or(|until| until <= now);
    shard.hand_over.moving.retain(|_, moving| !is_over(moving));
    let ends =
        shard.hand_over.moving.values().filter(|moving| !busy(moving)).filter_map(|moving| moving.until);
    if let Some(first) = ends.min() {
        look_at(shard, first);
    }
    if shard.hand_over.moving.is_empty() {
        for node in std::mem::take(&mut shard.hand_over.carriers) {
            let lane = Lane { node, purpose: Purpose::Carry };
            shard.effect(Effect::Send(ToPeer::HangUp { lane }));
        }
    }
}

/// Looks at what waits at this time, or before.
fn look_at(shard: &mut Shard, at: Mono) {
    if shard.hand_over.next.is_none_or(|next| at < next) {
        shard.hand_over.next = Some(at);
        shard.timers.set(Timer::HandOver, Some(at));
    }
}

/// Does what can be done with what waits.
fn go_on(shard: &mut Shard, id: TopicPartition) {
    let Some(moving) = shard.hand_over.moving.get(&id) else { return };
    if !moving.carrying && !moving.waiting.is_empty() {
        match place(shard, id, moving.until) {
            Place::Here => {
                let waiting = shard.hand_over.moving.remove(&id).map(|moving| moving.waiting);
                for (to, produce) in waiting.into_iter().flatten() {
                    crate::partitions::produce_here(shard, to, produce);
                }
            }
            Place::There(node, address) => carry(shard, id, node, address),
            Place::NotYet => {}
            Place::Nowhere => refuse_all(shard, id),
        }
    }
    if shard.hand_over.moving.get(&id).is_some_and(|moving| !moving.waiting.is_empty()) {
        let soon = shard.now.mono.after_ms(RETRY_MS);
        look_at(shard, soon);
    }
}

fn place(shard: &Shard, id: TopicPartition, until: Option<Mono>) -> Place {
    let Some(slot) = shard.partitions.by_id(id) else { return Place::Nowhere };
    if slot.replica.leadership().is_some() {
        let waits = shard.hand_over.holding || crate::partitions::is_held(shard, id);
        return if waits { Place::NotYet } else { Place::Here };
    }
    let image = &shard.cluster.image;
    let leader = image.partition(id).and_then(|partition| partition.leader());
    match leader {
        _ if until.is_none_or(|until| until <= shard.now.mono) => Place::Nowhere,
        None => Place::Nowhere,
        Some(leader) if leader == shard.settings.node_id || slot.replica.owes_answers() => Place::NotYet,
        Some(leader) => match crate::lifecycle::broker_address(shard, image, leader) {
            Some(address) => Place::There(leader, address),
            None => Place::Nowhere,
        },
    }
}

/// Refuses what waits for a partition.
fn refuse_all(shard: &mut Shard, id: TopicPartition) {
    let waiting = shard.hand_over.moving.get_mut(&id).map(|moving| std::mem::take(&mut moving.waiting));
    for (to, _) in waiting.into_iter().flatten() {
        refuse(shard, to);
    }
}

fn refuse(shard: &mut Shard, to: Return) {
    let refusal = Refusal::from(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    shard.answer(to, Answer::Produced(Err(refusal)));
}

/// Carries the first request of those that wait to the next leader.
fn carry(shard: &mut Shard, id: TopicPartition, node: NodeId, address: Address) {
    let Some(moving) = shard.hand_over.moving.get_mut(&id) else { return };
    let Some((_, produce)) = moving.waiting.front() else { return };
    moving.carrying = true;
    let partition = request::Partition { index: id.partition.0, records: Some(produce.records.clone()) };
    let topic = request::Topic { topic_id: id.topic, partition_data: vec![partition], ..Default::default() };
    // The call has an answer also where the client wants none.
    let acks = if produce.acks == 0 { 1 } else { produce.acks };
    let request = Request { acks, timeout_ms: PATIENCE_MS, topic_data: vec![topic], ..Request::default() };
    shard.hand_over.carriers.insert(node);
    let lane = Lane { node, purpose: Purpose::Carry };
    let request = moldau_wire::Request::Produce(request);
    let patience = i64::from(PATIENCE_MS);
    crate::peers::call(shard, lane, address, &request, patience, move |shard, result| {
        let result = match result {
            Ok(AnyResponse::Produce(response)) => Ok(response),
            Ok(_) => Err(NoAnswer::Broken),
            Err(why) => {
                crate::lifecycle::no_answer(shard, node, why);
                Err(why)
            }
        };
        carried(shard, id, result);
    });
}

/// The request that was carried is answered, or will not be.
fn carried(shard: &mut Shard, id: TopicPartition, result: Result<Response, NoAnswer>) {
    let now = shard.now.mono;
    let Some(moving) = shard.hand_over.moving.get_mut(&id) else { return };
    moving.carrying = false;
    let again = moving.until.is_some_and(|until| until > now);
    match outcome(result) {
        Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) if again => look_at(shard, now.after_ms(RETRY_MS)),
        outcome => {
            let Some((to, produce)) = moving.waiting.pop_front() else { return };
            let answer = outcome.map_err(Refusal::from);
            let (taker, failed) = (Taker::Elsewhere { sequenced: is_sequenced(&produce) }, answer.is_err());
            shard.answer(to, Answer::Produced(answer.map(|done| Produced { taker, ..done })));
            if failed {
                // What came behind it must not overtake it. Its producer sends all of it again.
                refuse_all(shard, id);
            }
            go_on(shard, id);
        }
    }
}

/// What became of a request; NOT_LEADER_OR_FOLLOWER when it certainly was not done.
fn outcome(result: Result<Response, NoAnswer>) -> Result<Produced, ErrorCode> {
    let response = result.map_err(|why| match why {
        NoAnswer::Refused | NoAnswer::Unreachable => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        NoAnswer::Broken | NoAnswer::Late => ErrorCode::REQUEST_TIMED_OUT,
    })?;
    let mut partitions = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
    let partition = partitions.next().ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
    match partition.error_code {
        ErrorCode::NONE => Ok(Produced {
            base_offset: partition.base_offset,
            append_time_ms: partition.log_append_time_ms,
            log_start: partition.log_start_offset,
            taker: Taker::Here,
        }),
        // It does not know the topic yet, or not that it leads.
        ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        }
        error => Err(error),
    }
}

/// Whether the producer numbers its batches, so that another order of arrival cannot become another order in the log.
fn is_sequenced(produce: &Produce) -> bool {
    let batches = moldau_batch::split(&produce.records);
    batches.is_ok_and(|batches| batches.iter().all(|batch| batch.header().has_producer_id()))
}
