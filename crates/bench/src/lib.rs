//! Load against a broker over the Kafka protocol, and what the same work costs this machine at the least.
//!
//! Every figure is the processor time of the serving process, so that a slow load generator cannot flatter a broker; the
//! generator itself sends from a file in memory and throws away what it receives without copying it. [`floor`] does the
//! same work with no broker around it: the ratio of the two is what the broker adds.
//!
//! | module | |
//! |---|---|
//! | [`link`] | one blocking connection for what is asked once |
//! | [`frames`], [`pump`] | produce: the same frames again and again |
//! | [`drain`] | fetch: responses whose payload is thrown away |
//! | [`floor`] | receive + checksum + append, sendfile, fdatasync, ping |
//! | [`process`], [`serving`], [`machine`] | processor time and memory, child processes, facts |
//! | [`legs`], [`startup`], [`memory`] | what is measured |
//! | [`smoke`], [`report`] | all of it in one run, as a table |
//!
//! What this crate must never do: judge. It asserts nothing about time; a slow machine gives other figures, not a failure.

pub mod drain;
pub mod floor;
pub mod frames;
pub mod legs;
pub mod link;
pub mod machine;
pub mod memory;
pub mod process;
pub mod pump;
pub mod report;
pub mod serving;
pub mod smoke;
pub mod startup;

/// Bytes of a gigabyte, as this crate counts.
pub const GB: f64 = 1e9;
