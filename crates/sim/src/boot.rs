//! Starts a node of a run as the production host does: recovers the log directories, gives each shard its logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moldau_base::config::BrokerLayers;
use moldau_base::disk::DirId;
use moldau_base::{BrokerEpoch, NodeId, Now, PartitionIndex, Rng, TopicPartition, Uuid};
use moldau_broker::{Address, LogDir, Settings, Shard, ShardId, owner};
use moldau_controller::Listener;
use moldau_storage::{
    RecoveredLog, RecoveryPolicy, common_boot_epoch, common_clean_epoch, is_marked_clean, recover,
    recover_moves,
};
use moldau_wire::ApiKey;

use crate::disk::SimDisk;
use crate::world::{Node, Setup};

/// The port of each node's listener for clients.
const CLIENTS: u16 = 9092;
/// The port of each node's listener for other nodes.
const NODES: u16 = 9093;

/// The id of the node at this place.
pub(crate) fn node_id(place: usize) -> NodeId {
    NodeId(1 + place as i32)
}

fn host(place: usize, nodes: usize) -> String {
    if nodes == 1 { "broker".to_owned() } else { format!("broker-{}", node_id(place)) }
}

/// Which node listens at an address, by its place, and with which of its listeners.
pub(crate) fn listener_at(address: &Address) -> Option<(usize, u16)> {
    let id: usize = address.host.strip_prefix("broker-")?.parse().ok()?;
    let listener = match address.port {
        CLIENTS => 0,
        NODES => 1,
        _ => return None,
    };
    Some((id.checked_sub(1)?, listener))
}

/// As the node sets it: a broker of a cluster that was silent for so long is fenced.
pub(crate) const SESSION: Duration = Duration::from_secs(1);

/// What nodes ask of each other in several versions, and the oldest of them that a node of a run may be restarted with.
const OLDER: [(ApiKey, i16); 4] = [
    (ApiKey::Fetch, 15),
    (ApiKey::FetchSnapshot, 0),
    (ApiKey::BrokerRegistration, 3),
    (ApiKey::BrokerHeartbeat, 1),
];

/// Broker settings of a workload, by their names in `server.properties`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, String>);

impl Overrides {
    /// Sets a key.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.0.insert(key.to_owned(), value.to_string());
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.0.get(key)?.parse().ok()
    }
}

/// The id of the cluster.
pub(crate) fn cluster_id() -> String {
    Uuid([7; 16]).to_string()
}

/// A node that has recovered.
pub(crate) struct Booted {
    pub(crate) shards: Vec<Shard>,
    /// What recovery found, for the trace.
    pub(crate) findings: Vec<String>,
}

/// Recovers what the disk of a node holds and makes its shards.
pub(crate) fn boot(
    setup: &Setup,
    place: usize,
    node: &Node,
    mut rng: Rng,
    now: Now,
) -> Result<Booted, String> {
    let disk = &node.disk;
    let mut findings = Vec::new();
    check_metadata(disk)?;
    let boot = boot_id(place, node.boots);
    let stopped_at = stopped_at(setup, disk, boot).map_err(|error| error.to_string())?;
    let newest_versions = if setup.weather.nodes > 1 { release(&mut rng) } else { BTreeMap::new() };
    let settings = settings(setup, place, node.replaced);
    let settings = Settings { stopped_at, boot: Some(boot), newest_versions, ..settings };
    let settings = Arc::new(settings);
    let mut logs: Vec<Vec<RecoveredLog>> = (0..settings.shards).map(|_| Vec::new()).collect();
    let moves =
        recover_moves(disk, (0..setup.weather.log_dirs).map(DirId)).map_err(|error| error.to_string())?;
    findings.extend(moves.findings.iter().map(|(dir, finding)| format!("directory {}: {finding}", dir.0)));
    for dir in 0..setup.weather.log_dirs {
        let skip = vec!["__cluster_metadata-0".to_owned()];
        let policy = RecoveryPolicy { skip, now_ms: now.wall_ms, ..RecoveryPolicy::default() };
        let mut recovered = recover(disk, DirId(dir), &policy).map_err(|error| error.to_string())?;
        moves.resume(&mut recovered.logs);
        findings.extend(recovered.findings.iter().map(ToString::to_string));
        for log in recovered.logs {
            findings.push(format!("{}: {}..{}", log.name(), log.start_offset(), log.end_offset()));
            let partition = PartitionIndex(log.partition);
            // Shard 0 finds out whose a log without an id is.
            let owner = log
                .topic_id
                .map_or(ShardId(0), |topic| owner(TopicPartition { topic, partition }, settings.shards));
            logs[usize::from(owner.0)].push(log);
        }
    }
    let shards = logs.into_iter().zip(0..);
    let shards = shards.map(|(logs, id)| Shard::new(ShardId(id), settings.clone(), rng.fork(), logs, now));
    Ok(Booted { shards: shards.collect(), findings })
}

/// The epoch of the incarnation before this one, if nothing that it had written can be lost.
fn stopped_at(setup: &Setup, disk: &SimDisk, boot: Uuid) -> std::io::Result<Option<BrokerEpoch>> {
    let dirs = || (0..setup.weather.log_dirs).map(DirId);
    let clean = common_clean_epoch(disk, dirs())?;
    let same_boot = common_boot_epoch(disk, dirs(), boot)?;
    Ok(clean.or(same_boot).map(BrokerEpoch))
}

/// Machines have other ids at each of their boots.
/// The release that a node is restarted as, half of the time an older one: the newest versions that it speaks.
fn release(rng: &mut Rng) -> BTreeMap<ApiKey, i16> {
    let mut newest = BTreeMap::new();
    if rng.chance(1, 2) {
        for (key, oldest) in OLDER {
            let more = key.versions().max - oldest;
            newest.insert(key, oldest + rng.below(1 + more as u64) as i16);
        }
    }
    newest
}

fn boot_id(place: usize, boots: u32) -> Uuid {
    let mut id = [0xb0 + place as u8; 16];
    id[12..].copy_from_slice(&boots.to_be_bytes());
    Uuid(id)
}

/// After a clean stop the metadata log ends with a whole batch, or it is damaged.
fn check_metadata(disk: &SimDisk) -> Result<(), String> {
    if is_marked_clean(disk, DirId(0)).map_err(|error| error.to_string())? {
        moldau_quorum::check_end(disk, DirId(0)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A disk in the place of another one has another id.
fn directory_id(place: usize, dir: u16, replaced: u8) -> Uuid {
    let mut id = [1 + dir as u8 + 16 * place as u8; 16];
    id[15] = id[15].wrapping_add(replaced);
    Uuid(id)
}

fn settings(setup: &Setup, place: usize, replaced: u8) -> Settings {
    let overrides = &setup.overrides;
    let nodes = setup.weather.nodes;
    let role = setup.weather.role(place);
    let host_of = |place| host(place, nodes).as_str().into();
    let listener =
        Listener { name: "PLAINTEXT".into(), host: host_of(place), port: CLIENTS, security_protocol: 0 };
    let voter = |place| (node_id(place), Address { host: host_of(place), port: NODES });
    let log_dir = |dir: u16| LogDir {
        path: format!("/data/{dir}"),
        id: directory_id(place, dir, replaced),
        space: Default::default(),
    };
    let mut controller = moldau_controller::Settings::default();
    controller.offsets_topic.partitions =
        overrides.number("offsets.topic.num.partitions").unwrap_or(3) as i32;
    controller.offsets_topic.replication_factor = setup.weather.brokers().min(3) as i16;
    controller.session_timeout = (nodes > 1).then_some(SESSION);
    let small = ("internal.segment.bytes".to_owned(), "20000".to_owned());
    controller.offsets_topic.configs.extend([small]);
    let groups = moldau_group::Config {
        initial_rebalance_delay_ms: overrides.number("group.initial.rebalance.delay.ms").unwrap_or(100)
            as i32,
        ..Default::default()
    };
    let fixed = overrides.0.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
    Settings {
        node_id: node_id(place),
        role,
        cluster_id: cluster_id().into(),
        rack: (nodes > 1).then(|| format!("zone-{place}")),
        listeners: if role.is_broker() { vec![listener] } else { vec![] },
        inter_broker_listener: "PLAINTEXT".into(),
        bootstrapped: false,
        voters: if nodes > 1 { setup.weather.voters().map(voter).collect() } else { BTreeMap::new() },
        controller_listener: "CONTROLLER".into(),
        log_dirs: if role.is_broker() { (0..setup.weather.log_dirs).map(log_dir).collect() } else { vec![] },
        stopped_at: None,
        boot: None,
        rack_aware_reads: false,
        shards: setup.weather.shards,
        auto_create_topics: false,
        delete_topics: true,
        controller,
        features: Vec::new(),
        finalized_features: Vec::new(),
        fetch_max_bytes: 50 << 20,
        fetch_sessions: 16,
        retention_check_ms: overrides.number("log.retention.check.interval.ms").unwrap_or(300_000),
        producer_expiration_ms: 86_400_000,
        groups,
        layers: BrokerLayers { fixed, ..BrokerLayers::default() },
        throttles: Default::default(),
        newest_versions: BTreeMap::new(),
    }
}
