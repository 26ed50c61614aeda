//! The deterministic host: the whole broker from Kafka bytes to disk sectors in one thread, one seed.
//!
//! A run has a virtual clock, a disk model, a network model, simulated clients and a list of faults; the broker's shards are the
//! real ones, driven through the same waist as in the node. What clients do and see goes to the checkers of `moldau-check`.
//! Nothing here reads a clock, starts a thread or asks the system for randomness: the same seed is the same run.

mod boot;
pub mod clients;
mod clock;
pub mod cx;
pub mod disk;
pub mod exec;
pub mod failure;
pub mod guard;
pub mod kafka;
mod loss;
mod metadata;
mod net;
pub mod planted;
mod process;
mod replay;
pub mod run;
pub mod schedule;
pub mod shrink;
pub mod siege;
mod trace;
pub mod weather;
pub mod workload;
mod world;

pub use boot::Overrides;
pub use trace::Text;
