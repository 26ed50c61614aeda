//! What the broker needs to know of its node's configuration. The host builds it once at start; dynamic values come with
//! the metadata image instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use moldau_base::config::BrokerLayers;
use moldau_base::{BrokerEpoch, NodeId, Uuid};
use moldau_controller::{FeatureRange, Listener};
use moldau_wire::ApiKey;

use crate::throttle::Throttles;
use crate::waist::Address;

/// A log directory as clients are told about it.
#[derive(Debug)]
pub struct LogDir {
    /// Its path.
    pub path: String,
    /// Its id, for the broker's registration.
    pub id: Uuid,
    /// The room on its disk, kept up to date by the host.
    pub space: SpaceGauge,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: i64,
    /// What is free for us.
    pub usable_bytes: i64,
}

/// The room on a disk, written by the host and read by shards.
#[derive(Debug, Default)]
pub struct SpaceGauge {
    total: AtomicI64,
    usable: AtomicI64,
}

impl SpaceGauge {
    /// What was measured last; `None` before the first time.
    pub fn get(&self) -> Option<Space> {
        let total_bytes = self.total.load(Ordering::Relaxed);
        let usable_bytes = self.usable.load(Ordering::Relaxed);
        (total_bytes > 0).then_some(Space { total_bytes, usable_bytes })
    }

    /// Notes a measurement.
    pub fn set(&self, space: Space) {
        self.usable.store(space.usable_bytes, Ordering::Relaxed);
        self.total.store(space.total_bytes, Ordering::Relaxed);
    }
}

/// `process.roles`: what a node is to its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A broker that votes in the metadata quorum.
    #[default]
    Both,
    /// A broker; it observes the quorum.
    Broker,
    /// A voter: it has no partitions and serves no clients.
    Controller,
}

impl Role {
    /// Whether such a node has partitions and clients.
    pub fn is_broker(self) -> bool {
        self != Role::Controller
    }

    /// Whether such a node votes in the metadata quorum.
    pub fn is_voter(self) -> bool {
        self != Role::Broker
    }
}

/// The node's settings, the same for all its shards.
#[derive(Debug)]
pub struct Settings {
    /// `node.id`.
    pub node_id: NodeId,
    /// `process.roles`.
    pub role: Role,
    /// The cluster that the node belongs to.
    pub cluster_id: Arc<str>,
    /// `broker.rack`: the zone of this node.
    pub rack: Option<String>,
    /// Listeners in the order of the configuration; [`crate::Input::Accepted`] names them by place.
    pub listeners: Vec<Listener>,
    /// `inter.broker.listener.name`: over which of their listeners brokers reach each other.
    pub inter_broker_listener: Arc<str>,
    /// `controller.quorum.voters`: where each voter of the metadata quorum listens for other nodes. Empty for a node that is alone.
    /// Its own listeners for other nodes come after `listeners` in [`crate::Input::Accepted`].
    pub voters: BTreeMap<NodeId, Address>,
    /// The node came to a cluster that runs (`controller.quorum.bootstrap.servers`): a voter knows the others from its log, `voters` is empty there.
    pub bootstrapped: bool,
    /// The first of `controller.listener.names`: the name of the listener that `voters` tells.
    pub controller_listener: Arc<str>,
    /// `log.dirs`.
    pub log_dirs: Vec<LogDir>,
    /// The broker's epoch before this start, if everything that it had written then is still there (KIP-966): it was stopped cleanly, or
    /// only its process has ended since.
    pub stopped_at: Option<BrokerEpoch>,
    /// The boot of the machine that this process runs in, if the system tells.
    pub boot: Option<Uuid>,
    /// Number of shards.
    pub shards: u16,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// Defaults of new topics and of internal ones.
    pub controller: moldau_controller::Settings,
    /// Feature levels that this program can run with.
    pub features: Vec<FeatureRange>,
    /// Levels that a new cluster begins with.
    pub finalized_features: Vec<(Arc<str>, i16)>,
    /// `fetch.max.bytes`: most bytes one Fetch response may carry, in bytes.
    pub fetch_max_bytes: i32,
    /// `replica.selector.class`: consumers are sent to a replica in their rack (KIP-392).
    pub rack_aware_reads: bool,
    /// `max.incremental.fetch.session.cache.slots`, for the whole node.
    pub fetch_sessions: u32,
    /// `log.retention.check.interval.ms`.
    pub retention_check_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// `group.*` and `offsets.*` settings.
    pub groups: moldau_group::Config,
    /// Broker configuration values, for DescribeConfigs and as defaults of topics.
    pub layers: BrokerLayers,
    /// What replication may take of the network.
    pub throttles: Throttles,
    /// APIs of which less than the newest version is spoken, and up to which: what an older release is like. Only the simulator has
    /// such nodes.
    pub newest_versions: BTreeMap<ApiKey, i16>,
}

impl Settings {
    /// Whether there is no other node.
    pub fn is_alone(&self) -> bool {
        self.role == Role::Both && self.voters.len() <= 1 && !self.bootstrapped
    }

    /// Whether the listener at this place is for nodes of the cluster and not for clients.
    pub fn is_for_nodes(&self, listener: u16) -> bool {
        usize::from(listener) >= self.listeners.len()
    }
}
