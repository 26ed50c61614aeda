//! Metadata: brokers, topics, partitions and their leaders; creates topics on demand where that is allowed.

use bytestring::ByteString;
use moldau_controller::{Broker, CreateTopics, Image, Mode, NewTopic, Partition, Reply, Topic};
use moldau_wire::metadata::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// "Not asked for" in a field of authorised operations.
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
/// What an unrestricted client may do with a topic, as bits of Kafka's operation numbers: read, write, create, delete, alter,
/// describe, describe configs, alter configs.
const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// With the cluster: create, alter, describe, cluster action, describe configs, alter configs, idempotent write.
const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// With a group: read, delete, describe, describe configs, alter configs.
const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8, 10, 11]);

const fn bits(operations: &[u32]) -> i32 {
    let (mut all, mut at) = (0, 0);
    while at < operations.len() {
        all |= 1 << operations[at];
        at += 1;
    }
    all
}

/// Answers from this shard's image, once it is believed to be true of every node in it.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    match crate::suspects::are_there(shard) {
        true => crate::suspects::hold(shard, context, request),
        false => answer(shard, context, request),
    }
}

/// Answers from this shard's image, after missing topics were created if the client and the configuration want that.
pub(crate) fn answer(shard: &mut Shard, context: Context, request: Request) {
    let missing = missing_topics(shard, &context, &request);
    if missing.is_empty() {
        return reply(shard, context, &request);
    }
    let topics = missing.into_iter().map(|name| NewTopic::named(&*name)).collect();
    let create = moldau_controller::Request::CreateTopics(CreateTopics { topics, mode: Mode::Apply });
    shard.gather(super::to_controller(create), super::patience(30_000), move |shard, answers| {
        // A topic that could not be created is reported like any missing topic, with the reason where there is one.
        if let Ok(Reply::TopicsCreated(created)) = super::from_controller(answers) {
            for topic in created {
                if let Err(refusal) = topic.result {
                    not_created(shard, &topic.name, &refusal);
                }
            }
        }
        reply(shard, context, &request);
    });
}

fn not_created(shard: &mut Shard, name: &str, refusal: &moldau_controller::Refusal) {
    if refusal.error != ErrorCode::TOPIC_ALREADY_EXISTS {
        let what = format!("topic {name:?} was not created on demand: {refusal}");
        shard.trace(crate::waist::Trace::Info(what));
    }
}

fn missing_topics(shard: &Shard, context: &Context, request: &Request) -> Vec<ByteString> {
    let may_create =
        shard.settings.auto_create_topics && (context.version < 4 || request.allow_auto_topic_creation);
    let Some(topics) = request.topics.as_ref().filter(|_| may_create) else { return Vec::new() };
    let image = &shard.cluster.image;
    let names = topics.iter().filter(|topic| topic.topic_id.is_zero()).filter_map(|topic| topic.name.clone());
    let mut missing: Vec<ByteString> = names
        .filter(|name| image.topic_named(name).is_none() && moldau_controller::names::check(name).is_ok())
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

fn reply(shard: &mut Shard, context: Context, request: &Request) {
    let image = &shard.cluster.image;
    let listener =
        shard.settings.listeners.get(usize::from(context.listener)).map(|listener| &*listener.name);
    let with_operations = request.include_topic_authorized_operations;
    let topics = match &request.topics {
        // Version 0 has no null: an empty list asks for all.
        None => all_topics(image, with_operations),
        Some(topics) if topics.is_empty() && context.version == 0 => all_topics(image, with_operations),
        Some(topics) => topics
            .iter()
            .map(|topic| named_topic(image, topic.name.as_ref(), topic.topic_id, with_operations))
            .collect(),
    };
    let brokers = image
        .brokers()
        .values()
        .filter(|broker| broker.is_active())
        .filter_map(|broker| broker_entry(broker, listener));
    let response = Response {
        brokers: brokers.collect(),
        cluster_id: Some(text(image.cluster_id())),
        controller_id: controller_id(image),
        topics,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_NOT_ASKED,
        },
        ..Response::default()
    };
    shard.reply(context, AnyResponse::Metadata(response));
}

/// Any live broker takes requests for the controller and passes them on; the first one is as good as any.
pub(crate) fn controller_id(image: &Image) -> i32 {
    image.brokers().values().find(|broker| broker.is_active()).map_or(-1, |broker| broker.id.0)
}

fn broker_entry(broker: &Broker, listener: Option<&str>) -> Option<response::Broker> {
    let endpoint = broker.listener(listener?)?;
    Some(response::Broker {
        node_id: broker.id.0,
        host: text(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack.as_deref().map(text),
    })
}

fn all_topics(image: &Image, with_operations: bool) -> Vec<response::Topic> {
    image.topics_by_name().map(|topic| topic_entry(image, topic, with_operations)).collect()
}

fn named_topic(
    image: &Image,
    name: Option<&ByteString>,
    id: moldau_base::Uuid,
    with_operations: bool,
) -> response::Topic {
    let by_name = name.map(|name| &**name).unwrap_or_default();
    let error_code = match super::find_topic(image, by_name, id) {
        Ok(topic) => return topic_entry(image, topic, with_operations),
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) if moldau_controller::names::check(by_name).is_err() => {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        }
        Err(code) => code,
    };
    response::Topic {
        error_code,
        name: if id.is_zero() { name.cloned() } else { None },
        topic_id: id,
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..response::Topic::default()
    }
}

fn topic_entry(image: &Image, topic: &Topic, with_operations: bool) -> response::Topic {
    response::Topic {
        error_code: ErrorCode::NONE,
        name: Some(text(&topic.name)),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: topic
            .partitions
            .iter()
            .map(|(index, partition)| partition_entry(image, index.0, partition))
            .collect(),
        topic_authorized_operations: if with_operations { TOPIC_OPERATIONS } else { OPERATIONS_NOT_ASKED },
    }
}

/// Replicas on brokers that are not live.
pub(crate) fn offline_replicas(image: &Image, partition: &Partition) -> Vec<i32> {
    let live = |id: &moldau_base::NodeId| image.broker(*id).is_some_and(|broker| broker.is_active());
    partition.replicas.iter().filter(|id| !live(id)).map(|id| id.0).collect()
}

fn partition_entry(image: &Image, index: i32, partition: &Partition) -> response::Partition {
    let leader = partition.leader();
    response::Partition {
        error_code: if leader.is_some() { ErrorCode::NONE } else { ErrorCode::LEADER_NOT_AVAILABLE },
        partition_index: index,
        leader_id: leader.map_or(-1, |id| id.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
        isr_nodes: partition.isr.iter().map(|id| id.0).collect(),
        offline_replicas: offline_replicas(image, partition),
    }
}

/// What the describing APIs say about permissions while every client may do everything.
pub(crate) mod operations {
    /// Of a topic.
    pub(crate) const TOPIC: i32 = super::TOPIC_OPERATIONS;
    /// Of the cluster.
    pub(crate) const CLUSTER: i32 = super::CLUSTER_OPERATIONS;
    /// Of a group.
    pub(crate) const GROUP: i32 = super::GROUP_OPERATIONS;
    /// Nobody asked.
    pub(crate) const NOT_ASKED: i32 = super::OPERATIONS_NOT_ASKED;
}
