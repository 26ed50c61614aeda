//! Operation histories and the named safety checkers. Each checker is one promise of the log to its users, stated in one
//! sentence and checked from what clients saw alone, so that the simulator and the tests on real processes use the same ones.
//!
//! Nothing here drives load or knows the broker.

pub mod commits;
pub mod history;
pub mod order;
pub mod ownership;
mod ranges;
pub mod records;
mod retention;
mod times;
pub mod transcript;
pub mod watch;
pub mod watermark;

pub use history::{Client, Commit, Delivery, Event, Moment, Partition, Read, Record};
pub use watch::{Checker, Violation, Watch};

#[cfg(test)]
mod tests;
