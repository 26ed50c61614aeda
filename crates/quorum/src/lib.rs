//! The metadata quorum: an adapter around openraft.
//!
//! It owns the directory `__cluster_metadata-0`: a log of record batches in Kafka's format, where an entry of
//! openraft is one batch, snapshots of what the host makes of it, and the last vote. It does not look into
//! the records: what they mean belongs to the controller. It does not own a thread, a clock or a socket:
//! [`Quorum`] is stepped by its host, and a node and a simulation run the same code. After KIP-595, KIP-630
//! and KIP-853.

mod calls;
mod codec;
mod control;
mod event;
mod log;
mod message;
pub mod meta;
mod observe;
mod peers;
mod progress;
mod proposals;
mod quorum;
mod recovery;
mod room;
pub mod runtime;
mod serve;
mod snapshot;
mod start;
mod store;
mod types;
mod vote;
mod voters;

pub use event::{CallId, Committed, Event, ProposalId, ProposeError};
pub use observe::{Given, Observer, Pull, Pulled, Wanted, read_batches, read_snapshot};
pub use quorum::{Config, MAX_PROPOSAL_BYTES, MAX_PROPOSALS, Pace, Quorum, StartError};
pub use recovery::{Damage, check_end};
pub use types::Voter;
