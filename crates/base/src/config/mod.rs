//! Configuration: one definition per key, from which parsing, refusals, DescribeConfigs and the reference page
//! derive. Names, types and defaults are those of Kafka 4.3. Pure: files, environment and command line are read
//! by the host. The rule for a key: honoured, or refused because its promise would not be kept, or accepted
//! with a warning because it promises nothing here; never stored and ignored.

mod broker;
mod change;
mod def;
mod layers;
mod nearest;
pub mod properties;
mod reference;
mod topic;
mod typed;
mod value;

#[cfg(test)]
mod tests;

pub use broker::{BROKER, broker_key, broker_keys};
pub use change::{Audience, Change, Op, Warning, alter_broker, alter_topic, validate_topic};
pub use def::{Bounds, Def, Dynamic, Group, Kind, Status, Unit};
pub use layers::{
    BrokerLayers, Described, Source, Synonym, Values, describe_broker_key, describe_cluster_key,
    describe_topic_key, topic_value,
};
pub use nearest::nearest;
pub use reference::reference;
pub use topic::{TOPIC, topic_key};
pub use typed::{Cleanup, ThrottledReplicas, TimestampType, TopicConfig};
pub use value::{Accepted, Invalid, Value, split_list};

/// All the public keys of a topic, as DescribeConfigs shows them.
pub fn describe_topic(topic: &Values, broker: &BrokerLayers) -> Vec<Described> {
    TOPIC.iter().filter(|def| !def.hidden).map(|def| describe_topic_key(def, topic, broker)).collect()
}

/// All the public keys of a broker, as DescribeConfigs shows them.
pub fn describe_broker(broker: &BrokerLayers) -> Vec<Described> {
    broker_keys().filter(|def| !def.hidden).map(|def| describe_broker_key(def, broker)).collect()
}

/// The keys that are set for all brokers, as DescribeConfigs shows them.
pub fn describe_cluster(broker: &BrokerLayers) -> Vec<Described> {
    broker_keys().filter_map(|def| describe_cluster_key(def, broker)).collect()
}
