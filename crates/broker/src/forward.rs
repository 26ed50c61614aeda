//! Requests that only the active controller can decide, carried there from the node that a client happened to ask (KIP-590).
//!
//! A client's request travels as it came, and its answer goes back as it is, when this node's shards have the change that it
//! tells of. While no controller is known, or the one that was asked is gone, it waits and is asked again: an election is over
//! in less time than a client is ready to wait.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{BrokerEpoch, Mono, NodeId};
use moldau_controller::{
    AlterPartitions, CreateTopics, CreatedTopic, NewTopic, ProducerIdBlock, Refusal, Reply, Request,
    TopicCreated,
};
use moldau_wire::frame::LENGTH_PREFIX;
use moldau_wire::{ErrorCode, Frame, Response, allocate_producer_ids, create_topics, forward};

use crate::Shard;
use crate::connections::{Carriage, Context, Envelope};
use crate::control::{self, Confirmed};
use crate::message::{Answer, Return};
use crate::waist::{Address, Lane, Purpose, Trace};

/// How long a request may wait for a controller, in milliseconds.
const PATIENCE_MS: i64 = 30_000;
/// How long a request of this broker may take that it asks again, in milliseconds.
const SHORT_PATIENCE_MS: i64 = 2_000;
/// How long a request waits when too many voters do not answer for an election, in milliseconds: longer than a restart of one.
const HOPELESS_MS: i64 = 5_000;
/// Between two attempts, in milliseconds.
const RETRY_MS: i64 = 20;
/// Most requests that wait for a controller; more are told that there is none.
const WAITING_REQUESTS: usize = 4_096;
/// The version in which brokers ask for topics of their own.
const CREATE_TOPICS: i16 = 7;

/// What is to be carried once a controller is known.
#[derive(Default)]
pub(crate) struct Stalled {
    waiting: VecDeque<Job>,
    /// When to try again.
    pub(crate) again: Option<Mono>,
}

/// A request on its way.
pub(crate) struct Job {
    to: Return,
    since: Mono,
    until: Mono,
    /// Request header and body.
    frame: Bytes,
    /// The request of this broker itself that the frame stands for.
    own: Option<Box<Request>>,
}

/// A client's request; the answer is [`Answer::Forwarded`].
pub(crate) fn client(shard: &mut Shard, to: Return, Carriage { frame, since, resigned }: Carriage) {
    let job = Job { to, since, until: since.after_ms(PATIENCE_MS), frame, own: None };
    // Who has resigned may be the last to hear of the next one.
    if resigned > 0 { stall(shard, job) } else { send(shard, job) }
}

/// Whether there is time left to ask another controller.
pub(crate) fn may_wait(shard: &Shard, carriage: &Carriage) -> bool {
    shard.now.mono < carriage.since.after_ms(PATIENCE_MS)
}

/// A request of this broker to the controller, which is elsewhere; the answer is [`Answer::Controller`].
pub(crate) fn own(shard: &mut Shard, to: Return, request: Request) {
    let topics = match &request {
        Request::CreateTopics(CreateTopics { topics, .. }) => topics.clone(),
        Request::AlterPartitions(alter) => return alter_partitions(shard, to, alter),
        Request::CreateInternalTopic(topic) => vec![shard.settings.controller.internal_topic(*topic)],
        _ => {
            let refusal = control::no_controller(shard);
            return shard.answer(to, Answer::Controller(Err(refusal)));
        }
    };
    let topics = topics.iter().map(wire_topic).collect();
    let timeout_ms = PATIENCE_MS as i32;
    let wire = create_topics::Request { topics, timeout_ms, validate_only: false };
    let client = Some(ByteString::from(format!("node-{}", shard.settings.node_id)));
    let frame =
        moldau_wire::encode_request(0, client, CREATE_TOPICS, &moldau_wire::Request::CreateTopics(wire));
    match frame.and_then(Frame::into_bytes) {
        Ok(frame) => {
            let since = shard.now.mono;
            let (until, own) = (since.after_ms(PATIENCE_MS), Some(Box::new(request)));
            let frame = frame.slice(LENGTH_PREFIX..);
            send(shard, Job { to, since, until, frame, own });
        }
        Err(error) => {
            let refusal = Refusal::new(ErrorCode::INVALID_REQUEST, error.to_string());
            shard.answer(to, Answer::Controller(Err(refusal)));
        }
    }
}

fn wire_topic(topic: &NewTopic) -> create_topics::request::Topic {
    use create_topics::request::{Assignment, Config};
    let assignment = |(partition_index, replicas): &(i32, Vec<NodeId>)| Assignment {
        partition_index: *partition_index,
        broker_ids: replicas.iter().map(|id| id.0).collect(),
    };
    let config = |(name, value): &(String, Option<String>)| Config {
        name: crate::api::text(name),
        value: value.as_deref().map(crate::api::text),
    };
    create_topics::request::Topic {
        name: crate::api::text(&topic.name),
        num_partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(assignment).collect(),
        configs: topic.configs.iter().map(config).collect(),
    }
}

fn send(shard: &mut Shard, job: Job) {
    let Some(control) = shard.control.as_mut() else { return };
    if control.active {
        return match job.own {
            Some(request) => control::request(shard, job.to, *request),
            None => shard.answer(job.to, Answer::Forwarded(None)),
        };
    }
    let Some((lane, address)) = controller(shard) else { return stall(shard, job) };
    let request = moldau_wire::Request::Forward(forward::Request {
        cluster_id: crate::api::text(&shard.settings.cluster_id),
        frame: job.frame.clone(),
    });
    let patience = (job.until.since(shard.now.mono).as_millis() as i64).max(1);
    crate::peers::call(shard, lane, address, &request, patience, move |shard, result| match result {
        Ok(Response::Forward(response)) if response.error_code == ErrorCode::NONE => {
            let answer = match job.own {
                None => Answer::Forwarded(Some(response.frame)),
                Some(_) => Answer::Controller(topics_created(response.frame)),
            };
            control::confirm_at(shard, response.metadata_offset, Confirmed::There(job.to, answer));
        }
        Ok(_) => stall(shard, job),
        Err(why) => {
            crate::lifecycle::no_answer(shard, lane.node, why);
            stall(shard, job);
        }
    });
}

fn stall(shard: &mut Shard, job: Job) {
    let now = shard.now.mono;
    let hopeless = job.since.after_ms(HOPELESS_MS) <= now && crate::voters::missing(shard).is_some();
    let refusal = control::no_controller(shard);
    let Some(control) = shard.control.as_mut() else { return };
    if hopeless || job.until <= now || control.stalled.waiting.len() >= WAITING_REQUESTS {
        let answer = job.own.map_or(Answer::Forwarded(None), |_| Answer::Controller(Err(refusal)));
        return shard.answer(job.to, answer);
    }
    control.stalled.waiting.push_back(job);
    control.stalled.again = Some(now.after_ms(RETRY_MS));
    control::arm(shard);
}

/// Answers a request that another node has carried here.
pub(crate) fn reply(shard: &mut Shard, context: Context, frame: Frame) {
    let Some(envelope) = context.envelope else { return shard.reply_frame(context, Some(frame)) };
    let metadata_offset = shard.cluster.offset;
    match frame.into_bytes() {
        Ok(frame) => {
            let frame = frame.slice(LENGTH_PREFIX..);
            let response = forward::Response { error_code: ErrorCode::NONE, metadata_offset, frame };
            wrapped(shard, context, envelope, response);
        }
        Err(error) => shard.close(context.conn, format!("cannot carry {}: {error}", context.api.name())),
    }
}

/// Tells the node that has carried a request here that another controller has to be asked.
pub(crate) fn resigned(shard: &mut Shard, context: Context, envelope: Envelope) {
    let error_code = ErrorCode::NOT_CONTROLLER;
    let response = forward::Response { error_code, metadata_offset: -1, ..Default::default() };
    wrapped(shard, context, envelope, response);
}

fn wrapped(shard: &mut Shard, context: Context, envelope: Envelope, response: forward::Response) {
    let Envelope { correlation, version } = envelope;
    match moldau_wire::encode_response(correlation, version, &Response::Forward(response)) {
        Ok(frame) => shard.reply_frame(context, Some(frame)),
        Err(error) => shard.close(context.conn, format!("cannot carry {}: {error}", context.api.name())),
    }
}

/// Another controller is active.
pub(crate) fn leader_changed(shard: &mut Shard) {
    if shard.control.as_ref().is_some_and(|control| control.leader.is_some()) {
        tick(shard);
    }
}

/// Tries again what waits.
pub(crate) fn tick(shard: &mut Shard) {
    let Some(control) = shard.control.as_mut() else { return };
    control.stalled.again = None;
    for job in std::mem::take(&mut control.stalled.waiting) {
        send(shard, job);
    }
}

fn topics_created(frame: Bytes) -> Result<Reply, Refusal> {
    let read = moldau_wire::decode_response(moldau_wire::ApiKey::CreateTopics, CREATE_TOPICS, frame);
    let Ok((_, Response::CreateTopics(response))) = read else {
        return Err(Refusal::plain(ErrorCode::UNKNOWN_SERVER_ERROR));
    };
    let created = |topic: create_topics::response::Topic| TopicCreated {
        name: Arc::from(&*topic.name),
        result: match topic.error_code {
            ErrorCode::NONE => Ok(CreatedTopic {
                id: topic.topic_id,
                partitions: topic.num_partitions,
                replication_factor: topic.replication_factor,
                configs: Default::default(),
            }),
            error => Err(Refusal::new(error, topic.error_message.unwrap_or_default().to_string())),
        },
    };
    Ok(Reply::TopicsCreated(response.topics.into_iter().map(created).collect()))
}

/// The active controller, if it is another node, and how to reach it.
fn controller(shard: &Shard) -> Option<(Lane, Address)> {
    let node = shard.control.as_ref()?.leader.filter(|leader| *leader != shard.settings.node_id)?;
    let address = crate::voters::address(shard, node)?;
    Some((Lane { node, purpose: Purpose::Controller }, address))
}

/// Asks the active controller for in-sync sets. A leader asks again when it hears nothing.
fn alter_partitions(shard: &mut Shard, to: Return, alter: &AlterPartitions) {
    let unknown = move |shard: &mut Shard| {
        let refusal = Refusal::plain(ErrorCode::NOT_CONTROLLER);
        shard.answer(to, Answer::Controller(Err(refusal)));
    };
    let Some((lane, address)) = controller(shard) else { return unknown(shard) };
    let request = moldau_wire::Request::AlterPartition(crate::api::alter_partition::to_wire(alter));
    crate::peers::call(
        shard,
        lane,
        address,
        &request,
        SHORT_PATIENCE_MS,
        move |shard, result| match result {
            Ok(Response::AlterPartition(response)) if response.error_code == ErrorCode::NONE => {
                shard.answer(to, Answer::InSync(crate::api::alter_partition::outcomes(response)));
            }
            Ok(_) => unknown(shard),
            Err(why) => {
                crate::lifecycle::no_answer(shard, lane.node, why);
                unknown(shard);
            }
        },
    );
}

/// Asks the active controller for producer ids.
pub(crate) fn allocate_ids(shard: &mut Shard, epoch: BrokerEpoch) {
    if let Some(control) = shard.control.as_mut() {
        control.lifecycle.allocating = true;
    }
    let Some((lane, address)) = controller(shard) else {
        return control::ids_given(shard, Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    };
    let broker_id = shard.settings.node_id.0;
    let request = allocate_producer_ids::Request { broker_id, broker_epoch: epoch.0 };
    let request = moldau_wire::Request::AllocateProducerIds(request);
    crate::peers::call(shard, lane, address, &request, SHORT_PATIENCE_MS, |shard, result| {
        // A producer asks again; it is not told of controllers.
        let block = match result {
            Ok(Response::AllocateProducerIds(response)) if response.error_code == ErrorCode::NONE => {
                Ok(ProducerIdBlock { first: response.producer_id_start, len: response.producer_id_len })
            }
            Ok(Response::AllocateProducerIds(response)) => {
                let what = format!("no producer ids: {}", response.error_code.name());
                shard.trace(Trace::Warning(what));
                Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
            }
            _ => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        };
        control::ids_given(shard, block);
    });
}
