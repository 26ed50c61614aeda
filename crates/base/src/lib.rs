//! What every other crate agrees on: ids, time as a value, seeded randomness, the vocabulary of disk
//! operations, and limits. Nothing here does I/O, reads a clock or allocates without a bound.

pub mod config;
pub mod disk;
pub mod ids;
pub mod limits;
pub mod planted;
pub mod producer;
pub mod rng;
pub mod time;
pub mod topic_name;
pub mod uuid;
pub mod voter;

pub use ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicPartition};
pub use producer::ProducerEntry;
pub use rng::Rng;
pub use time::{Mono, Now};
pub use uuid::Uuid;
