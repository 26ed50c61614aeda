//! Cluster metadata: records, image, decisions.
//!
//! [`Controller`] is a log machine (decide, append, apply, reply when committed): it decides on an [`Image`]
//! and changes it only by [`Record`]s of the metadata log, which are Kafka's own (KIP-631). Brokers hold
//! images too and react to the [`Delta`] between two of them. Nothing here does I/O, knows the time of day or
//! talks to a peer: the log belongs to the quorum, and what a reply looks like on the wire to the API layer.

mod brokers;
mod change;
mod configs;
mod controller;
mod delta;
mod elections;
mod fencing;
mod heartbeats;
mod image;
mod in_sync;
mod liveness;
pub mod names;
mod partitions;
mod placement;
pub mod producer_ids;
mod reassignments;
mod record;
mod request;
pub mod snapshot;
mod topics;

pub use controller::{Controller, InternalTopicSettings, Settings, UncleanElections};
pub use delta::{Delta, PartitionDelta};
pub use image::{
    Broker, FeatureRange, Image, Listener, METADATA_VERSION, Misfit, NO_LEADER, Partition, Resource, Topic,
};
pub use record::{BadRecord, BrokerChange, PartitionChange, Record};
pub use request::{
    AlterConfigs, AlterPartition, AlterPartitions, AlterReassignments, ConfigOp, CreatePartitions,
    CreateTopics, CreatedTopic, Decision, ElectLeaders, ElectionKind, Evidence, FactorChange, Heartbeat,
    HeartbeatReply, InternalTopic, Mode, MorePartitions, NewTopic, PartitionOutcome, ProducerIdBlock,
    Reassignment, Refusal, RegisterBroker, Reply, Request, ResourceName, TopicCreated, TopicDeleted,
    TopicRef, Wants,
};
