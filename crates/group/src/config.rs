//! The settings of a group coordinator, under the names they have in `server.properties`, and its limits that are no
//! setting.

use moldau_base::limits;

/// Settings of a [`crate::Coordinator`]. All times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `group.initial.rebalance.delay.ms`: how long a new group waits for more members.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: most members of a group.
    pub max_size: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_ms: i64,
    /// `offset.metadata.max.bytes`: longest text a consumer may store with an offset, in UTF-16 units as in Kafka.
    pub offset_metadata_max_bytes: usize,
    /// Most groups one coordinator keeps; further ones are answered COORDINATOR_NOT_AVAILABLE.
    pub max_groups: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_check_ms: 600_000,
            offset_metadata_max_bytes: 4_096,
            max_groups: 100_000,
        }
    }
}

/// How long a member that has never been in a generation may wait in JoinGroup. It cannot send heartbeats and its
/// connection may be gone unnoticed, so this time stands in for its session timeout (as in Kafka).
pub(crate) const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

/// How soon a rebalance that nobody has joined is looked at again, at the earliest.
pub(crate) const JOIN_RETRY_MS: i32 = 1_000;

/// Most members of a group that were given an id and have not come back with it (KIP-394).
pub(crate) const PENDING_MEMBERS: usize = 10_000;

/// Longest string that the records of `__consumer_offsets` can hold, in bytes.
pub(crate) const STRING_BYTES: usize = limits::STRING_BYTES;

/// What is appended to a client id or instance id to make a member id: a dash and a UUID.
pub(crate) const MEMBER_ID_SUFFIX_BYTES: usize = 1 + 36;

const _: () = assert!(MEMBER_ID_SUFFIX_BYTES < STRING_BYTES);
