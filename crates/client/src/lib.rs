//! A small asynchronous Kafka client for the command line, the benches and the tests on real processes. It speaks
//! to Moldau and to a real Kafka alike, so that the two can be compared by one program.
//!
//! [`Client`] knows the cluster and keeps one connection per broker; [`Producer`], [`Fetcher`] and [`Member`] are
//! built on it, and the administrative calls are methods of it. Everything has a bound: requests in flight, bytes
//! of a response, bytes waiting to be sent, tries. It must never retry what could be applied twice, unless the
//! producer is idempotent.

mod admin;
mod client;
mod connection;
mod error;
mod fetcher;
mod groups;
mod member;
mod moves;
mod partitioner;
mod producer;

pub use admin::{ConfigChange, ConfigEntry, NewTopic, Resource};
pub use client::{Broker, Client, Options, Partition, Topic, Tries};
pub use connection::Connection;
pub use error::ClientError;
pub use fetcher::{Fetched, Fetcher, Position};
pub use groups::{CommittedOffset, GroupDescription, GroupListing, GroupMember};
pub use member::{Member, MemberOptions};
pub use moldau_batch::{Codec, Record};
pub use moldau_wire as wire;
pub use moves::{Move, Moving, Node};
pub use partitioner::partition_of;
pub use producer::{Delivery, Message, Producer, ProducerOptions};

/// Result of a call to a cluster.
pub type Result<T> = std::result::Result<T, ClientError>;
