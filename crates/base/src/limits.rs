//! Every limit that is not a configuration key, and the relations between them.

/// Longest topic name, in bytes, as in Kafka.
pub const TOPIC_NAME_BYTES: usize = 249;
/// Most partitions one request may create in one topic.
pub const PARTITIONS_PER_TOPIC: i32 = 100_000;
/// Most topics one CreateTopics, DeleteTopics or CreatePartitions request may name.
pub const TOPICS_PER_REQUEST: usize = 10_000;
/// Batches remembered per producer and partition, to recognise duplicates (as in Kafka, KIP-98).
pub const BATCHES_PER_PRODUCER: usize = 5;
/// Producers remembered per partition; beyond it those that wrote longest ago are forgotten.
pub const PRODUCERS_PER_PARTITION: usize = 1 << 16;
/// Batches of producers remembered per partition beyond what is not stored, so that a follower whose log is cut need not read it again.
pub const BATCHES_TO_TAKE_BACK: usize = 1_024;
/// Longest string the protocol can carry, in bytes.
pub const STRING_BYTES: usize = i16::MAX as usize;
/// Most fetch sessions a shard keeps (`max.incremental.fetch.session.cache.slots` divides this among shards).
pub const FETCH_SESSIONS: usize = 1_000;
/// Longest consumer group or member id, in bytes.
pub const GROUP_ID_BYTES: usize = STRING_BYTES;

const _: () = assert!(TOPIC_NAME_BYTES < STRING_BYTES);
