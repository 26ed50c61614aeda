//! What the broker needs to know of its node's configuration. The host builds it once at start; dynamic values come with
//! the metadata image instead.

use moldau_base::NodeId;

/// One listener that clients may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, for example `PLAINTEXT`.
    pub name: String,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
}

/// The node's settings, the same for all its shards.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `node.id`.
    pub node_id: NodeId,
    /// `broker.rack`: the zone of this node.
    pub rack: Option<String>,
    /// Listeners in the order of the configuration; [`crate::Input::Accepted`] names them by place.
    pub listeners: Vec<Listener>,
    /// `log.dirs`: how many there are, and their names for DescribeLogDirs.
    pub log_dirs: Vec<String>,
    /// Number of shards.
    pub shards: u16,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: i64,
    /// `fetch.max.bytes`: most bytes one Fetch response may carry, in bytes.
    pub fetch_max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`, for the whole node.
    pub fetch_sessions: u32,
    /// `log.retention.check.interval.ms`.
    pub retention_check_ms: i64,
    /// `log.flush.offset.checkpoint.interval.ms`: how often recovery points are written down.
    pub checkpoint_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// `group.*` and `offsets.*` settings.
    pub groups: moldau_group::Config,
    /// Broker configuration values, for DescribeConfigs and as defaults of topics: key to value.
    pub static_configs: std::collections::BTreeMap<String, String>,
    /// `request.timeout` of internal work: how long an administrative request may wait for the quorum, in milliseconds.
    pub metadata_timeout_ms: i64,
}
