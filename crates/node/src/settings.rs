//! From the node's configuration to what the broker needs of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use moldau_base::{BrokerEpoch, NodeId, Uuid};
use moldau_broker::{Address, LogDir, Settings, SpaceGauge};
use moldau_controller::{FeatureRange, InternalTopicSettings, Listener, UncleanElections};
use moldau_quorum::meta::Meta;

use crate::config::{GroupDefaults, NodeConfig, Voter};

/// A broker that was silent for so long is fenced. A process that is gone is noticed by its connections long before.
const SESSION: Duration = Duration::from_secs(1);

/// Kafka's features that are here, each with the level that holds. Those that stand for what is not here yet are not claimed.
const FEATURES: &[(&str, i16)] = &[
    // That of Kafka 4.3: the formats of records in the metadata log.
    ("metadata.version", 30),
    // KIP-966.
    ("eligible.leader.replicas.version", 1),
];

/// The broker's settings. `bound` are the addresses that the listeners have got, `metas` what the log directories say of
/// themselves, `boot` in which boot of the machine this is, `stopped_at` the epoch of the incarnation before
/// this one, if nothing was lost since.
pub fn settings(
    config: &NodeConfig,
    metas: &[Meta],
    bound: &[SocketAddr],
    dirs: &[PathBuf],
    boot: Option<Uuid>,
    stopped_at: Option<BrokerEpoch>,
) -> Settings {
    // A controller leaves what it may have had as a broker alone.
    let count = if config.role.is_broker() { config.log_dirs.len() } else { 0 };
    let log_dirs = dirs.iter().zip(metas).take(count).map(|(path, meta)| LogDir {
        path: absolute(path),
        id: meta.directory,
        space: SpaceGauge::default(),
    });
    Settings {
        node_id: config.node_id,
        role: config.role,
        cluster_id: metas.first().map_or("", |meta| &*meta.cluster_id).into(),
        rack: config.rack.clone(),
        listeners: listeners(config, bound),
        inter_broker_listener: config.inter_broker_listener.as_str().into(),
        voters: config.voters.iter().map(voter).collect(),
        bootstrapped: !config.bootstrap.is_empty(),
        controller_listener: config.controller_listeners.first().map_or("", |first| &*first.name).into(),
        log_dirs: log_dirs.collect(),
        stopped_at,
        boot,
        shards: u16::try_from(config.shards).unwrap_or(u16::MAX),
        auto_create_topics: config.topics.auto_create,
        delete_topics: config.topics.delete,
        controller: controller(config),
        features: FEATURES
            .iter()
            .map(|(name, level)| FeatureRange { name: (*name).into(), min: *level, max: *level })
            .collect(),
        finalized_features: FEATURES.iter().map(|(name, level)| ((*name).into(), *level)).collect(),
        fetch_max_bytes: i32::try_from(config.limits.fetch_bytes).unwrap_or(i32::MAX),
        rack_aware_reads: config.topics.rack_aware_reads,
        fetch_sessions: config.limits.fetch_sessions,
        retention_check_ms: config.logs.retention_check_interval_ms,
        producer_expiration_ms: config.logs.producer_expiration_ms,
        groups: groups(&config.groups),
        layers: config.layers.clone(),
        throttles: Default::default(),
        newest_versions: Default::default(),
    }
}

fn voter(voter: &Voter) -> (NodeId, Address) {
    (voter.id, Address { host: voter.endpoint.host.as_str().into(), port: voter.endpoint.port })
}

fn absolute(path: &std::path::Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// What clients are told of each listener; a port of 0 means the one that the kernel chose.
fn listeners(config: &NodeConfig, bound: &[SocketAddr]) -> Vec<Listener> {
    let told = config.listeners.iter().zip(bound).map(|(listener, bound)| {
        let advertised = config.advertised.iter().find(|advertised| advertised.name == listener.name);
        let endpoint = &advertised.unwrap_or(listener).endpoint;
        Listener {
            name: listener.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: if endpoint.port == 0 { bound.port() } else { endpoint.port },
            security_protocol: 0,
        }
    });
    told.collect()
}

fn controller(config: &NodeConfig) -> moldau_controller::Settings {
    let several = !config.is_alone();
    let mut controller = moldau_controller::Settings {
        partitions: config.topics.partitions,
        replication_factor: config.topics.replication_factor,
        session_timeout: several.then_some(SESSION),
        rebalance_interval: config.topics.rebalance.filter(|_| several),
        unclean_elections: match config.topics.unclean_elections {
            true => UncleanElections::AtOnce,
            false => UncleanElections::ByRequest,
        },
        min_insync_replicas: several.then_some(config.topics.min_insync_replicas),
        ..moldau_controller::Settings::default()
    };
    let offsets: &mut InternalTopicSettings = &mut controller.offsets_topic;
    offsets.partitions = config.groups.offsets_partitions;
    offsets.replication_factor = config.groups.offsets_replication_factor;
    offsets.configs.insert("segment.bytes".into(), config.groups.offsets_segment_bytes.to_string());
    controller
}

fn groups(groups: &GroupDefaults) -> moldau_group::Config {
    moldau_group::Config {
        initial_rebalance_delay_ms: groups.initial_rebalance_delay_ms,
        min_session_timeout_ms: groups.min_session_timeout_ms,
        max_session_timeout_ms: groups.max_session_timeout_ms,
        max_size: usize::try_from(groups.max_size).unwrap_or(usize::MAX),
        offsets_retention_ms: groups.offsets_retention_ms,
        retention_check_ms: groups.offsets_check_interval_ms,
        offset_metadata_max_bytes: usize::try_from(groups.offset_metadata_bytes).unwrap_or(0),
        ..moldau_group::Config::default()
    }
}

/// For error messages.
pub fn names(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(",")
}
