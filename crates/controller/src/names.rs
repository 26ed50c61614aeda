//! Names of topics: what is allowed, what is reserved, what collides. The rules and the sentences are
//! Kafka's.

pub use moldau_base::topic_name::{BadName, check};

/// The topic of committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic of transaction states.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The topic of share group states (KIP-932).
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// The metadata log itself; it is no topic that anybody can create.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// True for topics that only brokers write.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// True when the name holds a character that metric names fold.
pub fn has_collision_chars(name: &str) -> bool {
    name.contains(['.', '_'])
}

/// The name with `.` and `_` made the same.
pub fn fold(name: &str) -> String {
    name.replace('.', "_")
}
