//! The coordinator of consumer groups: who is in a group, who reads what, and how far each group has read.
//!
//! [`Coordinator`] is the machine of one partition of `__consumer_offsets`: requests and the ends of appends go in, answers
//! and records come out. It serves the classic protocol (KIP-62, 134, 345, 394, 814), whose assignments are opaque, for any
//! protocol type, and keeps committed offsets. A group that survives a restart is what the log says of it: its last complete
//! assignment and its offsets, in the record formats of Apache Kafka.
//!
//! What this crate must never do: read a clock or draw randomness of its own, know protocol versions, decide who may ask
//! (authorisation is the broker's), or answer that something is stored before it is committed to the log.
//!
//! Where things are: requests and answers in [`request`], the table of groups and the way of an input in `coordinator`, a
//! group and its rules in `group`, `join`, `rebalance` and `session`, offsets in `commit`, `offsets` and `expiry`.

mod admin;
mod audit;
mod commit;
mod config;
mod context;
mod coordinator;
mod expiry;
mod group;
#[cfg(test)]
mod hostile;
mod join;
mod offsets;
mod rebalance;
mod records;
mod refusal;
pub mod request;
mod session;
mod text;
mod timers;

pub use config::Config;
pub use coordinator::{Coordinator, DeletedTopic, Effect, Input};
pub use records::{BadRecord, Record};
pub use request::{Reply, Request};

/// The partition of `__consumer_offsets` that a group belongs to, as every Kafka client and broker computes it: Java's hash
/// of the name, without its sign, modulo the number of partitions. 0 if there are no partitions.
pub fn partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash =
        group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The one value without a positive counterpart counts as 0, as in Kafka.
    let hash = if hash == i32::MIN { 0 } else { hash.abs() };
    if partitions > 0 { hash % partitions } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_javas() {
        // Computed with Java: "name".hashCode(), also for a name whose hash is the smallest integer.
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("console-consumer-1", 50), 24);
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("grüße-😀", 50), 27);
        assert_eq!(partition_for("group", 0), 0);
    }
}
