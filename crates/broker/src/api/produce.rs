//! Produce: append record batches to partitions. Batches stay as they came; each goes to the shard that owns its partition.

use moldau_base::TopicPartition;
use moldau_wire::produce::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::{elsewhere, text};
use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask, Produce, Produced, Refusal, Taker};
use crate::waist::ShardId;

/// The first version whose answers say where else to go (KIP-951).
const TELLS_LEADERS: i16 = 10;

/// Where in the response an answer belongs: topic and partition by place; and what it is about.
type Place = (usize, usize, TopicPartition);

/// Appends at once what is for topics that this node knows.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    if let Some((context, request)) = crate::early::keep(shard, context, request) {
        append(shard, context, request);
    }
}

/// The client shall send it again: what it sent before is refused.
pub(crate) fn put_off(shard: &mut Shard, context: Context, request: Request) {
    refuse_all(shard, context, request, &Refusal::from(ErrorCode::NOT_LEADER_OR_FOLLOWER));
}

/// Puts every partition's batches to its owner and answers when all have answered, or when the client's timeout is over.
pub(crate) fn append(shard: &mut Shard, context: Context, request: Request) {
    let acks = request.acks;
    if !(-1..=1).contains(&acks) || request.transactional_id.is_some() {
        let (code, why) = match request.transactional_id {
            Some(_) => (ErrorCode::UNSUPPORTED_VERSION, "this broker does not support transactions"),
            None => (ErrorCode::INVALID_REQUIRED_ACKS, "acks must be 0, 1 or -1"),
        };
        let refusal = Refusal { code, message: Some(why.into()), batch: None };
        return refuse_all(shard, context, request, &refusal);
    }
    let mut response = Response::default();
    let mut places: Vec<Place> = Vec::new();
    let mut questions: Vec<(ShardId, Ask)> = Vec::new();
    for topic in request.topic_data {
        let at = response.responses.len();
        let found = super::find_topic(&shard.cluster.image, &topic.name, topic.topic_id).cloned();
        // What a coordinator has in memory is what it wrote: nobody else writes its topic.
        let found = found.and_then(|topic| match topic.is_internal() {
            true => Err(ErrorCode::INVALID_TOPIC_EXCEPTION),
            false => Ok(topic),
        });
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let mut entry = response::Partition { index: partition.index, ..empty_entry() };
            let id = found.as_ref().map_err(|code| *code);
            match id.and_then(|topic| super::find_partition(topic, partition.index)) {
                Ok(id) => {
                    let records = partition.records.unwrap_or_default();
                    places.push((at, partitions.len(), id));
                    let ask = Ask::Produce(Produce { partition: id, acks, records });
                    questions.push((shard.owner_of(id), ask));
                }
                Err(code) => entry.error_code = code,
            }
            partitions.push(entry);
        }
        response.responses.push(response::Topic {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: partitions,
        });
    }
    let timeout = (acks == -1).then(|| i64::from(request.timeout_ms.max(0)));
    shard.gather(questions, timeout, move |shard, answers| {
        for ((topic, partition, id), answer) in places.into_iter().zip(answers) {
            let moved = has_moved(shard, &context, &answer);
            let entry = &mut response.responses[topic].partition_responses[partition];
            fill(entry, answer);
            if moved && context.version >= TELLS_LEADERS {
                tell_leader(shard, &context, id, &mut response, (topic, partition));
            }
        }
        finish(shard, context, acks, response);
    });
}

fn empty_entry() -> response::Partition {
    response::Partition {
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        ..Default::default()
    }
}

fn fill(entry: &mut response::Partition, answer: Option<Answer>) {
    match answer {
        Some(Answer::Produced(Ok(Produced { base_offset, append_time_ms, log_start, .. }))) => {
            entry.base_offset = base_offset;
            entry.log_append_time_ms = append_time_ms;
            entry.log_start_offset = log_start;
        }
        Some(Answer::Produced(Err(refusal))) => refuse(entry, &refusal),
        Some(Answer::Unavailable(code)) => entry.error_code = code,
        _ => entry.error_code = ErrorCode::REQUEST_TIMED_OUT,
    }
}

/// Whether the client is to be told of another leader. In a good answer it is only when nothing of it is on its way here any more, which
/// what it sends there could overtake. One whose batches have numbers waits by itself for all its answers before it goes on
/// elsewhere, librdkafka for up to a second: it is told by an error, after which it sends nothing before it has all of them.
fn has_moved(shard: &Shard, context: &Context, answer: &Option<Answer>) -> bool {
    match answer {
        Some(Answer::Produced(Ok(Produced { taker: Taker::Elsewhere { sequenced }, .. }))) => {
            !*sequenced && shard.connections.is_alone(context.conn)
        }
        Some(Answer::Produced(Err(refusal))) => refusal.code == ErrorCode::NOT_LEADER_OR_FOLLOWER,
        _ => false,
    }
}

/// Writes down who leads, and where that is.
fn tell_leader(
    shard: &Shard,
    context: &Context,
    id: TopicPartition,
    response: &mut Response,
    (topic, partition): (usize, usize),
) {
    let Some((leader, epoch)) = elsewhere::leader(shard, id, context.listener) else { return };
    let entry = &mut response.responses[topic].partition_responses[partition];
    entry.current_leader = response::CurrentLeader { leader_id: leader.0, leader_epoch: epoch.0 };
    if response.node_endpoints.iter().any(|known| known.node_id == leader.0) {
        return;
    }
    if let Some(elsewhere::Endpoint { host, port, rack }) =
        elsewhere::endpoint(shard, leader, context.listener)
    {
        response.node_endpoints.push(response::NodeEndpoint { node_id: leader.0, host, port, rack });
    }
}

fn refuse(entry: &mut response::Partition, refusal: &Refusal) {
    entry.error_code = refusal.code;
    entry.error_message = refusal.message.as_deref().map(text);
    if let Some(batch) = refusal.batch {
        entry.record_errors.push(response::RecordError {
            batch_index: i32::try_from(batch).unwrap_or(i32::MAX),
            batch_index_error_message: refusal.message.as_deref().map(text),
        });
    }
}

/// A client that wants no acknowledgement learns of errors by losing its connection, as in Kafka.
fn finish(shard: &mut Shard, context: Context, acks: i16, response: Response) {
    if acks != 0 {
        return shard.reply(context, AnyResponse::Produce(response));
    }
    let entries = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match entries.map(|entry| entry.error_code).find(|code| code.is_err()) {
        Some(code) => shard.close(context.conn, format!("produce without acknowledgement failed: {code}")),
        None => shard.reply_nothing(context),
    }
}

fn refuse_all(shard: &mut Shard, context: Context, request: Request, refusal: &Refusal) {
    let partition = |partition: &request::Partition| {
        let mut entry = response::Partition { index: partition.index, ..empty_entry() };
        refuse(&mut entry, refusal);
        entry
    };
    let topics = request.topic_data.iter().map(|topic| response::Topic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.iter().map(partition).collect(),
    });
    let response = Response { responses: topics.collect(), ..Response::default() };
    finish(shard, context, request.acks, response);
}
