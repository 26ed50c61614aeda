//! Administration as clients do it: make a topic and learn its id, find offsets, delete records and topics.

use std::rc::Rc;

use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_check::{Event, Partition};
use moldau_wire::{
    ApiKey, ErrorCode, create_topics, delete_records, delete_topics, incremental_alter_configs, list_offsets,
    metadata,
};

use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;

/// ListOffsets: the high watermark.
pub const LATEST: i64 = -1;
/// ListOffsets: the log start offset.
pub const EARLIEST: i64 = -2;
/// In ConfigResource: a broker; without a name all of them.
const BROKER: i8 = 4;
/// In IncrementalAlterConfigs.
const SET: i8 = 0;

/// A topic as clients know it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name at the broker.
    pub name: ByteString,
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its name in the history: the name, and its life when it is not the first.
    pub life: String,
}

impl Topic {
    /// A partition, as the checkers name it.
    pub fn partition(&self, index: i32) -> Partition {
        Partition::new(self.life.as_str(), index)
    }
}

/// A topic to make.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// Its configuration.
    pub configs: Vec<(&'static str, String)>,
    /// Which topic of this name it is.
    pub life: u32,
}

/// Sets the cluster's default of a topic configuration, trying until it is set.
pub async fn set_default(cx: &Cx, name: &'static str, value: &'static str) {
    loop {
        let kafka = Kafka::connect_at_last(cx).await;
        let config = incremental_alter_configs::request::Config {
            name: ByteString::from_static(name),
            config_operation: SET,
            value: Some(ByteString::from_static(value)),
        };
        let resource = incremental_alter_configs::request::Resource {
            resource_type: BROKER,
            resource_name: ByteString::new(),
            configs: vec![config],
        };
        let request = incremental_alter_configs::Request { resources: vec![resource], validate_only: false };
        let answered = kafka.call(request).await;
        let code = answered.ok().and_then(|response| Some(response.responses.first()?.error_code));
        match code {
            Some(ErrorCode::NONE) => return,
            Some(code) if !code.is_retriable() => {
                cx.problem(format!("the default of {name} was refused: {code:?}"));
                return;
            }
            _ => cx.pause_ms(50, 200).await,
        }
    }
}

/// Makes a topic, trying until it is there.
pub async fn create(cx: &Cx, wanted: Wanted) -> Rc<Topic> {
    loop {
        let kafka = Kafka::connect_at_last(cx).await;
        match try_create(cx, &kafka, &wanted).await {
            Ok(Some(topic)) => {
                let topic = Rc::new(topic);
                cx.has_topic(topic.clone());
                return topic;
            }
            Ok(None) | Err(Gone) => cx.pause_ms(50, 200).await,
        }
    }
}

async fn try_create(cx: &Cx, kafka: &Kafka, wanted: &Wanted) -> Result<Option<Topic>, Gone> {
    let config = |(name, value): &(&'static str, String)| create_topics::request::Config {
        name: ByteString::from_static(name),
        value: Some(value.as_str().into()),
    };
    let topic = create_topics::request::Topic {
        name: wanted.name.as_str().into(),
        num_partitions: wanted.partitions,
        replication_factor: cx.nodes().min(3) as i16,
        configs: wanted.configs.iter().map(config).collect(),
        ..Default::default()
    };
    let request = create_topics::Request { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let response = kafka.call(request).await?;
    let code = response.topics.first().map_or(ErrorCode::NONE, |topic| topic.error_code);
    match code {
        ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS => {}
        code if code.is_retriable() => return Ok(None),
        // Not every broker has registered yet.
        ErrorCode::INVALID_REPLICATION_FACTOR if cx.nodes() > 1 => return Ok(None),
        code => {
            cx.problem(format!("CreateTopics of {} was refused: {code:?}", wanted.name));
            return Ok(None);
        }
    }
    // The answering node has applied the change, so that the next request sees it.
    let id = topic_id(kafka, &wanted.name).await?;
    if id.is_none() && code == ErrorCode::NONE {
        cx.problem(format!("{} was created, but Metadata does not know it", wanted.name));
    }
    let life = if wanted.life > 1 { format!("{}#{}", wanted.name, wanted.life) } else { wanted.name.clone() };
    let partitions = wanted.partitions;
    Ok(id.map(|id| Topic { name: wanted.name.as_str().into(), id, partitions, life }))
}

/// The id of a topic; nothing when there is no such topic.
pub async fn topic_id(kafka: &Kafka, name: &str) -> Result<Option<Uuid>, Gone> {
    kafka.use_newest(ApiKey::Metadata);
    let topic = metadata::request::Topic { name: Some(name.into()), ..Default::default() };
    let request = metadata::Request {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let response = kafka.call(request).await?;
    let found = response.topics.first().filter(|topic| topic.error_code.is_ok());
    Ok(found.map(|topic| topic.topic_id))
}

/// Deletes a topic; whether the broker says that it did, or that there is none. Nothing when it could not say.
pub async fn delete(kafka: &Kafka, topic: &Topic) -> Result<ErrorCode, Gone> {
    let request = match kafka.version(ApiKey::DeleteTopics) {
        Some(version) if version >= 6 => {
            let by_id = delete_topics::request::Topic { name: None, topic_id: topic.id };
            delete_topics::Request { topics: vec![by_id], timeout_ms: 10_000, ..Default::default() }
        }
        _ => delete_topics::Request {
            topic_names: vec![topic.name.clone()],
            timeout_ms: 10_000,
            ..Default::default()
        },
    };
    let response = kafka.call(request).await?;
    Ok(response.responses.first().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |topic| topic.error_code))
}

/// An offset by [`EARLIEST`], [`LATEST`] or a time in milliseconds. An answer to [`LATEST`] is told to the checkers: it is the
/// high watermark.
pub async fn offset(
    cx: &Cx,
    kafka: &Kafka,
    topic: &Topic,
    index: i32,
    timestamp: i64,
) -> Result<Option<i64>, Gone> {
    let partition = list_offsets::request::Partition {
        partition_index: index,
        timestamp,
        current_leader_epoch: kafka.leader_epoch().unwrap_or(-1),
    };
    let topics = vec![list_offsets::request::Topic { name: topic.name.clone(), partitions: vec![partition] }];
    let request = list_offsets::Request { replica_id: -1, topics, timeout_ms: 10_000, ..Default::default() };
    let (asked, response) = kafka.call_at(request).await?;
    let found = response.topics.first().and_then(|topic| topic.partitions.first());
    let found = found.filter(|partition| partition.error_code.is_ok());
    let epoch = found.map_or(-1, |partition| partition.leader_epoch);
    let found = found.map(|partition| partition.offset);
    if let Some(told) = found.filter(|_| timestamp >= 0) {
        let since = cx.at_wall_ms(timestamp);
        let (partition, offset) = (topic.partition(index), (told >= 0).then_some(told));
        cx.note(Event::FoundByTime { partition, asked, since, offset });
    }
    if let Some(offset) = found.filter(|_| timestamp == EARLIEST) {
        cx.note(Event::LogStart { partition: topic.partition(index), offset });
    }
    // Old versions do not tell who answers; in a cluster that says nothing then.
    let epoch = (cx.nodes() > 1).then_some(epoch);
    if let Some(offset) = found.filter(|_| timestamp == LATEST && epoch != Some(-1)) {
        cx.note(Event::LogEnd { partition: topic.partition(index), asked, epoch, offset });
    }
    Ok(found)
}

/// The end of every partition, asked until each has answered.
pub async fn ends(cx: &Cx, topic: &Topic) -> Vec<i64> {
    let mut ends = Vec::new();
    let mut kafka = Kafka::connect_at_last(cx).await;
    while (ends.len() as i32) < topic.partitions {
        match offset(cx, &kafka, topic, ends.len() as i32, LATEST).await {
            Ok(Some(end)) => ends.push(end),
            Ok(None) => cx.pause_ms(50, 200).await,
            Err(Gone) => kafka = Kafka::connect_at_last(cx).await,
        }
    }
    ends
}

/// Moves the log start offset of a partition up to `before`.
pub async fn delete_records(
    cx: &Cx,
    kafka: &Kafka,
    topic: &Topic,
    index: i32,
    before: i64,
) -> Result<ErrorCode, Gone> {
    cx.note(Event::Trimmable { partition: topic.partition(index), before });
    let partition = delete_records::request::Partition { partition_index: index, offset: before };
    let topics =
        vec![delete_records::request::Topic { name: topic.name.clone(), partitions: vec![partition] }];
    let response = kafka.call(delete_records::Request { topics, timeout_ms: 10_000 }).await?;
    let answer = response.topics.first().and_then(|topic| topic.partitions.first());
    if let Some(answer) = answer.filter(|answer| answer.error_code.is_ok() && answer.low_watermark < before) {
        cx.problem(format!("DeleteRecords before {before} left the log start at {}", answer.low_watermark));
    }
    Ok(answer.map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |answer| answer.error_code))
}
