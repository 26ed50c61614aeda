//! Cluster metadata: records, image, decisions.
//!
//! [`Controller`] is a log machine (decide, append, apply, reply when committed): it decides on an [`Image`]
//! and changes it only by [`Record`]s of the metadata log, which are Kafka's own (KIP-631). Brokers hold
//! images too and react to the [`Delta`] between two of them. Nothing here does I/O, knows the time of day or
//! talks to a peer: the log belongs to the quorum, and what a reply looks like on the wire to the API layer.

mod brokers;
mod configs;
mod controller;
mod delta;
mod image;
pub mod names;
mod partitions;
mod placement;
pub mod producer_ids;
mod record;
mod request;
pub mod snapshot;
mod topics;

pub use controller::{Controller, InternalTopicSettings, Settings};
pub use delta::{Delta, PartitionDelta};
pub use image::{
    Broker, FeatureRange, Image, Listener, METADATA_VERSION, Misfit, NO_LEADER, Partition, Resource, Topic,
};
pub use record::{BadRecord, BrokerChange, PartitionChange, Record};
pub use request::{
    AlterConfigs, ConfigOp, CreatePartitions, CreateTopics, CreatedTopic, Decision, InternalTopic, Mode,
    MorePartitions, NewTopic, ProducerIdBlock, Refusal, RegisterBroker, Reply, Request, ResourceName,
    TopicCreated, TopicDeleted, TopicRef,
};
