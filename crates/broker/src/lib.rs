//! The broker: connections, requests, and the way from them to partitions, groups and the controller.
//!
//! [`Shard`] is the machine. It is pure: what happens comes in as [`Input`], what it wants done goes out as [`Effect`], and
//! nothing below this crate's hosts opens a socket, a file or a clock. One file per API under `api`; `partitions` ties
//! each partition's core to its log, `groups` each coordinator, `control` the controller.

mod api;
mod boot;
mod checkpoints;
mod connections;
mod control;
mod early;
mod followed;
mod forward;
mod gather;
mod groups;
mod handover;
mod in_sync;
mod leaving;
mod lifecycle;
mod lookup;
mod message;
mod metrics;
mod observer;
mod partitions;
mod peers;
mod pulse;
mod replication;
mod sessions;
mod settings;
mod shard;
mod stop;
mod suspects;
mod throttle;
mod timers;
mod voters;
mod waist;

pub use api::SERVED;
pub use message::{Message, Update};
pub use metrics::Metrics;
pub use settings::{LogDir, Role, Settings, Space, SpaceGauge};
pub use shard::{Shard, owner};
pub use throttle::Throttles;
pub use waist::{
    Address, ConnId, Effect, FromPeer, FromQuorum, Input, Lane, NoAnswer, Purpose, ShardId, ToPeer, ToQuorum,
    Trace,
};
