//! The configuration of a topic as the cores use it: read once from the layers, then plain fields.

use std::sync::Arc;

use super::broker::broker_key;
use super::def::Def;
use super::layers::{BrokerLayers, Values, topic_value};
use super::topic::topic_key;
use super::value::Value;
use crate::{NodeId, PartitionIndex};

/// Whose timestamp a record carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The leader's, at append.
    LogAppendTime,
}

/// What happens to old segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// Segments past the retention limits are deleted.
    pub delete: bool,
    /// The newest record of each key is kept, older ones may go (internal topics only, and not yet run).
    pub compact: bool,
}

/// Replicas whose replication is throttled while they catch up (KIP-73).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThrottledReplicas {
    /// None.
    #[default]
    None,
    /// All of the topic.
    All,
    /// These, as partition and broker, in order.
    Listed(Arc<[(i32, i32)]>),
}

impl ThrottledReplicas {
    /// Whether the replica of `partition` on `broker` is one of them.
    pub fn has(&self, partition: PartitionIndex, broker: NodeId) -> bool {
        match self {
            ThrottledReplicas::None => false,
            ThrottledReplicas::All => true,
            ThrottledReplicas::Listed(listed) => listed.binary_search(&(partition.0, broker.0)).is_ok(),
        }
    }

    fn read(items: &[String]) -> ThrottledReplicas {
        if items.iter().any(|item| item.trim() == "*") {
            return ThrottledReplicas::All;
        }
        let pair = |item: &String| {
            let (partition, broker) = item.split_once(':')?;
            Some((partition.trim().parse().ok()?, broker.trim().parse().ok()?))
        };
        let mut listed: Vec<(i32, i32)> = items.iter().filter_map(pair).collect();
        listed.sort_unstable();
        if listed.is_empty() { ThrottledReplicas::None } else { ThrottledReplicas::Listed(listed.into()) }
    }
}

/// The configuration of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup: Cleanup,
    /// `retention.ms`; none for no limit.
    pub retention_ms: Option<i64>,
    /// `retention.bytes` of a partition; none for no limit.
    pub retention_bytes: Option<i64>,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`, of each index.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `flush.messages`; none for never.
    pub flush_messages: Option<i64>,
    /// `flush.ms`, or `moldau.log.flush.max.ms` if that is less; none for never.
    pub flush_ms: Option<i64>,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `max.message.bytes`, of a batch.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; none for no bound.
    pub timestamp_before_max_ms: Option<i64>,
    /// `message.timestamp.after.max.ms`; none for no bound.
    pub timestamp_after_max_ms: Option<i64>,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
    /// `leader.replication.throttled.replicas`.
    pub throttled_leaders: ThrottledReplicas,
    /// `follower.replication.throttled.replicas`.
    pub throttled_followers: ThrottledReplicas,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::resolve(&Values::new(), &BrokerLayers::default())
    }
}

impl TopicConfig {
    /// The configuration of a topic that has these values of its own, on a broker with these layers. A stored
    /// value that cannot be read counts as not set.
    pub fn resolve(topic: &Values, broker: &BrokerLayers) -> TopicConfig {
        let read = Reader { topic, broker };
        let policy = read.list("cleanup.policy");
        let internal_segment_bytes = read.number("internal.segment.bytes");
        let segment_bytes = match internal_segment_bytes {
            0 => read.number("segment.bytes"),
            bytes => bytes,
        };
        TopicConfig {
            cleanup: Cleanup {
                delete: policy.iter().any(|p| p == "delete"),
                compact: policy.iter().any(|p| p == "compact"),
            },
            retention_ms: some_unless_negative(read.number("retention.ms")),
            retention_bytes: some_unless_negative(read.number("retention.bytes")),
            segment_bytes: to_u32(segment_bytes),
            segment_ms: read.number("segment.ms"),
            segment_jitter_ms: read.number("segment.jitter.ms"),
            segment_index_bytes: to_u32(read.number("segment.index.bytes")),
            index_interval_bytes: to_u32(read.number("index.interval.bytes")),
            flush_messages: some_unless_max(read.number("flush.messages")),
            flush_ms: some_unless_max(read.number("flush.ms").min(longest_unflushed_ms(broker))),
            file_delete_delay_ms: read.number("file.delete.delay.ms"),
            max_message_bytes: to_u32(read.number("max.message.bytes")),
            timestamp_type: match read.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: some_unless_max(read.number("message.timestamp.before.max.ms")),
            timestamp_after_max_ms: some_unless_max(read.number("message.timestamp.after.max.ms")),
            min_insync_replicas: to_u32(read.number("min.insync.replicas")),
            unclean_leader_election: read
                .value("unclean.leader.election.enable")
                .is_some_and(|v| v.is_true()),
            throttled_leaders: ThrottledReplicas::read(&read.list("leader.replication.throttled.replicas")),
            throttled_followers: ThrottledReplicas::read(
                &read.list("follower.replication.throttled.replicas"),
            ),
        }
    }
}

/// `moldau.log.flush.max.ms`, which bounds every topic's `flush.ms`.
fn longest_unflushed_ms(broker: &BrokerLayers) -> i64 {
    let value = broker_key("moldau.log.flush.max.ms").and_then(|def| def.read(broker.get(def).0?).ok());
    value.map_or(i64::MAX, |value| value.number())
}

fn some_unless_negative(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

fn some_unless_max(value: i64) -> Option<i64> {
    (value != i64::MAX).then_some(value)
}

fn to_u32(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(if value < 0 { 0 } else { u32::MAX })
}

struct Reader<'a> {
    topic: &'a Values,
    broker: &'a BrokerLayers,
}

impl Reader<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let def: &'static Def = topic_key(name)?;
        let (value, _) = topic_value(def, self.topic, self.broker);
        value.and_then(|raw| def.read(&raw).ok()).or_else(|| def.read(def.default?).ok())
    }

    fn number(&self, name: &str) -> i64 {
        self.value(name).map_or(0, |value| value.number())
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        }
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }
}
