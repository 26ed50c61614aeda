//! [`NodeConfig`]: every setting that the host uses, with its type, after the checks that need several keys.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use moldau_base::config::{BrokerLayers, Value, Values, broker_key, split_list};
use moldau_base::{NodeId, Uuid};
use moldau_broker::Role;

use super::listeners::{self, Endpoint, Listener, Listeners};
use super::machine::Machine;
use super::settings::Checked;
use super::{Origin, Problems};

/// A member of the metadata quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its node id.
    pub id: NodeId,
    /// Where its controller listens.
    pub endpoint: Endpoint,
}

/// Bounds on what clients may take of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `queued.max.request.bytes`: bytes of requests in memory at one time.
    pub request_memory_bytes: u64,
    /// `socket.request.max.bytes`: bytes of one request.
    pub request_bytes: u32,
    /// `max.connections`.
    pub connections: u32,
    /// `max.connections.per.ip`.
    pub connections_per_ip: u32,
    /// `max.connections.per.ip.overrides`.
    pub connections_of_ip: BTreeMap<IpAddr, u32>,
    /// `connections.max.idle.ms`; none for never.
    pub idle: Option<Duration>,
    /// `socket.listen.backlog.size`.
    pub backlog: u32,
    /// `socket.receive.buffer.bytes`; none for the kernel's choice.
    pub receive_buffer_bytes: Option<u32>,
    /// `socket.send.buffer.bytes`; none for the kernel's choice.
    pub send_buffer_bytes: Option<u32>,
    /// `fetch.max.bytes`.
    pub fetch_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`, of the whole node.
    pub fetch_sessions: u32,
}

/// What becomes of topics that clients ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub delete: bool,
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`.
    pub unclean_elections: bool,
    /// `leader.imbalance.check.interval.seconds`; none with `auto.leader.rebalance.enable=false`.
    pub rebalance: Option<Duration>,
    /// `replica.selector.class` names the choice by rack.
    pub rack_aware_reads: bool,
}

/// Consumer groups and their offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDefaults {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub max_size: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes: i32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_check_interval_ms: i64,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: u32,
}

/// Chores of the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDefaults {
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
}

/// The configuration of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.id`.
    pub node_id: NodeId,
    /// `process.roles`.
    pub role: Role,
    /// `cluster.id`; none to take that of the data directory, or a random one at first start.
    pub cluster_id: Option<Uuid>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Where clients connect; at least one, except on a node that is only a controller.
    pub listeners: Vec<Listener>,
    /// Listeners of the metadata quorum; not opened while it is this node alone.
    pub controller_listeners: Vec<Listener>,
    /// What clients are told; a port of 0 means the port that the listener of this name got.
    pub advertised: Vec<Listener>,
    /// Name of the listener that other brokers use.
    pub inter_broker_listener: String,
    /// `log.dirs`; at least one, each different.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, or the first of `log_dirs`.
    pub metadata_dir: PathBuf,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub metadata_snapshot_bytes: u64,
    /// The metadata quorum; empty where the file names none, which means this node alone.
    pub voters: Vec<Voter>,
    /// Where the voters of a running cluster are asked, if `voters` does not name them: `controller.quorum.bootstrap.servers` without this node.
    pub bootstrap: Vec<Endpoint>,
    /// Where /metrics is served; none where it is switched off.
    pub http: Option<Endpoint>,
    /// Number of event loops.
    pub shards: usize,
    /// Bounds on what clients may take.
    pub limits: Limits,
    /// Topics.
    pub topics: TopicDefaults,
    /// Groups.
    pub groups: GroupDefaults,
    /// Logs.
    pub logs: LogDefaults,
    /// All settings by layer, for DescribeConfigs and for the configs of topics.
    pub layers: BrokerLayers,
    /// A line each for what was accepted and changes nothing; for the log at start.
    pub warnings: Vec<String>,
}

impl NodeConfig {
    /// Whether there is no other node.
    pub fn is_alone(&self) -> bool {
        self.role == Role::Both && self.voters.len() <= 1 && self.bootstrap.is_empty()
    }
}

/// Distance from the port of the first listener to that of /metrics: 9092 and 9644.
const HTTP_PORT_ABOVE: u16 = 552;

pub(super) fn resolve(checked: Checked, machine: &Machine) -> Result<NodeConfig, Problems> {
    let mut read = Read { checked, derived: Values::new() };
    let role = read.role();
    let listeners = read.listeners(role, machine);
    let node_id = read.node_id();
    let bootstrap = read.bootstrap_servers(role, &listeners, machine);
    let voters = read.voters(role, node_id, &listeners, &bootstrap);
    read.derive_replication(role == Role::Both && bootstrap.is_empty(), voters.len());
    let (log_dirs, metadata_dir) = read.directories();
    let config = NodeConfig {
        node_id: NodeId(node_id),
        role,
        cluster_id: read.cluster_id(),
        rack: read.set_text("broker.rack"),
        http: read.http(&listeners),
        listeners: listeners.client,
        controller_listeners: listeners.controller,
        advertised: listeners.advertised,
        inter_broker_listener: listeners.inter_broker,
        log_dirs,
        metadata_dir,
        metadata_snapshot_bytes: read
            .number("metadata.log.max.record.bytes.between.snapshots")
            .max(1)
            .unsigned_abs(),
        voters,
        bootstrap,
        shards: read.shards(role, machine),
        limits: read.limits(machine),
        topics: read.topics(),
        groups: read.groups(),
        logs: read.logs(),
        layers: BrokerLayers { fixed: read.fixed(), derived: read.derived, ..BrokerLayers::default() },
        warnings: read.checked.warnings,
    };
    if read.checked.problems.is_empty() { Ok(config) } else { Err(Problems(read.checked.problems)) }
}

/// Reads typed values; a default stands in for what was refused, so that all problems are found in one pass.
struct Read {
    checked: Checked,
    derived: Values,
}

impl Read {
    fn value(&self, key: &str) -> Option<Value> {
        if let Some(taken) = self.checked.taken.get(key) {
            return Some(taken.value.clone());
        }
        let def = broker_key(key)?;
        let default = self.derived.get(key).map(String::as_str).or(def.default)?;
        def.read(default).ok()
    }

    fn number(&self, key: &str) -> i64 {
        self.value(key).map_or(0, |value| value.number())
    }

    fn int(&self, key: &str) -> i32 {
        i32::try_from(self.number(key)).unwrap_or(i32::MAX)
    }

    fn short(&self, key: &str) -> i16 {
        i16::try_from(self.number(key)).unwrap_or(i16::MAX)
    }

    fn size(&self, key: &str) -> u32 {
        u32::try_from(self.number(key).max(0)).unwrap_or(u32::MAX)
    }

    fn flag(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.is_true())
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            Some(Value::List(items)) => items,
            Some(Value::Text(text)) => split_list(&text),
            _ => Vec::new(),
        }
    }

    /// A text that somebody set, and not to nothing.
    fn set_text(&self, key: &str) -> Option<String> {
        match self.checked.taken.get(key).map(|taken| &taken.value) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    fn is_set(&self, key: &str) -> bool {
        self.checked.taken.contains_key(key)
    }

    fn problem(&mut self, key: &str, message: String) {
        let origin: Option<Origin> = self.checked.origin(key).cloned();
        self.checked.problem(origin.as_ref(), message);
    }

    fn fixed(&self) -> Values {
        self.checked.taken.iter().map(|(key, taken)| ((*key).to_owned(), taken.value.to_string())).collect()
    }

    fn listeners(&mut self, role: Role, machine: &Machine) -> Listeners {
        let inter_broker = self.set_text("inter.broker.listener.name");
        let keys = listeners::Keys {
            role,
            listeners: &self.list("listeners"),
            advertised: &self.list("advertised.listeners"),
            controller_names: &self.list("controller.listener.names"),
            protocol_map: &self.list("listener.security.protocol.map"),
            inter_broker: inter_broker.as_deref(),
            hostname: &machine.hostname,
        };
        listeners::resolve(&keys, &mut self.checked)
    }

    fn node_id(&mut self) -> i32 {
        let node_id = self.int("node.id");
        let broker_id = self.int("broker.id");
        if broker_id < 0 || (self.is_set("node.id") && broker_id == node_id) {
            self.derived.insert("broker.id".to_owned(), node_id.to_string());
            return node_id;
        }
        if self.is_set("node.id") {
            let message = format!("broker.id={broker_id} contradicts node.id={node_id}; remove broker.id");
            self.problem("broker.id", message);
            return node_id;
        }
        self.derived.insert("node.id".to_owned(), broker_id.to_string());
        broker_id
    }

    fn role(&mut self) -> Role {
        let roles = self.list("process.roles");
        let has = |role: &str| roles.iter().any(|named| named == role);
        match (has("broker"), has("controller")) {
            (true, false) => Role::Broker,
            (false, true) => Role::Controller,
            (true, true) => Role::Both,
            (false, false) => {
                let message = "process.roles is empty; write broker, controller or broker,controller";
                self.problem("process.roles", message.to_owned());
                Role::Both
            }
        }
    }

    fn voters(
        &mut self,
        role: Role,
        node_id: i32,
        listeners: &Listeners,
        bootstrap: &[Endpoint],
    ) -> Vec<Voter> {
        let key = "controller.quorum.voters";
        let texts = self.list(key);
        let mut voters = Vec::new();
        for text in &texts {
            let voter = text.split_once('@').and_then(|(id, address)| {
                Some(Voter {
                    id: NodeId(id.trim().parse().ok()?),
                    endpoint: Endpoint::parse(address.trim())?,
                })
            });
            match voter {
                Some(voter) => voters.push(voter),
                None => self.problem(key, format!("{key}: `{text}` is no voter; write id@host:port")),
            }
        }
        match bootstrap.is_empty() {
            true => self.check_voters(role, &voters, node_id, listeners),
            false => self.check_listener(role, "controller.quorum.bootstrap.servers", listeners),
        }
        voters
    }

    /// Each is named once, this node among them if it is a controller, and it listens where it is named.
    fn check_voters(&mut self, role: Role, voters: &[Voter], node_id: i32, listeners: &Listeners) {
        let key = "controller.quorum.voters";
        let ids: Vec<i32> = voters.iter().map(|voter| voter.id.0).collect();
        if let Some(twice) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(id)) {
            self.problem(
                key,
                format!("{key} names node {} twice; give each voter an id of its own", twice.1),
            );
        }
        if voters.is_empty() && role != Role::Both {
            let message = format!(
                "{key} is not set; name the controllers there as id@host:port, the same on each node, or those of a running \
                 cluster as host:port in controller.quorum.bootstrap.servers"
            );
            self.problem("process.roles", message);
        }
        if role == Role::Broker && ids.contains(&node_id) {
            let message = format!(
                "{key} names node {node_id}, which is this one, and with process.roles=broker it is no voter; give it a node.id \
                 of its own, or write process.roles=broker,controller"
            );
            self.problem(key, message);
        }
        if role.is_voter() && !voters.is_empty() && !ids.contains(&node_id) {
            let names = ids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
            let message = format!(
                "{key} names the nodes {names}, and this is node {node_id}; add it there, correct node.id, or write \
                 process.roles=broker"
            );
            self.problem(key, message);
        }
        if voters.len() > 1 {
            self.check_listener(role, key, listeners);
        }
    }

    fn check_listener(&mut self, role: Role, key: &'static str, listeners: &Listeners) {
        if role == Role::Both && listeners.controller.is_empty() {
            let message = format!(
                "{key} names other nodes, and this node has no listener for them; add one to listeners, and its name to \
                 controller.listener.names"
            );
            self.problem(key, message);
        }
    }

    /// Where the voters of a running cluster are asked who they are. Empty where they are named, and where all addresses are this node's
    /// own: it is alone then.
    fn bootstrap_servers(&mut self, role: Role, listeners: &Listeners, machine: &Machine) -> Vec<Endpoint> {
        let key = "controller.quorum.bootstrap.servers";
        let servers = self.list(key);
        for server in &servers {
            if Endpoint::parse(server).is_none() {
                self.problem(key, format!("{key}: `{server}` is no address; write host:port"));
            }
        }
        if !self.list("controller.quorum.voters").is_empty() {
            return Vec::new();
        }
        let advertised = self.list("advertised.listeners");
        let is_here = |host: &str| {
            ["localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""].contains(&host) || host == machine.hostname
        };
        let is_own = |server: &Endpoint| {
            let mut own = listeners.controller.iter().map(|listener| &listener.endpoint);
            let is_mine = |own: &Endpoint| {
                own.port == server.port && (is_here(&server.host) || own.host == server.host)
            };
            own.any(is_mine) || advertised.iter().any(|told| told.ends_with(&format!("://{server}")))
        };
        let servers = servers.iter().filter_map(|server| Endpoint::parse(server));
        // A node without a listener for others is what it was before its file named one: alone.
        let listens = role != Role::Both || !listeners.controller.is_empty();
        servers.filter(|server| !is_own(server) && (listens || !is_here(&server.host))).collect()
    }

    /// Internal topics whose factor nobody chose get as many replicas as there are nodes, up to Kafka's three; where brokers are not
    /// counted by the voters, three.
    fn derive_replication(&mut self, are_brokers: bool, voters: usize) {
        let nodes = if are_brokers { voters } else { 3 };
        let factor = nodes.clamp(1, 3).to_string();
        self.derived.insert("offsets.topic.replication.factor".to_owned(), factor);
    }

    fn directories(&mut self) -> (Vec<PathBuf>, PathBuf) {
        let key = if self.is_set("log.dirs") { "log.dirs" } else { "log.dir" };
        let mut texts = self.list(key);
        if texts.is_empty() {
            self.problem(key, format!("{key} is empty; name a data directory"));
            texts.push("moldau-data".to_owned());
        }
        self.derived.insert("log.dirs".to_owned(), texts.join(","));
        let log_dirs: Vec<PathBuf> = texts.iter().map(PathBuf::from).collect();
        let metadata_dir = self.set_text("metadata.log.dir").map(PathBuf::from);
        let metadata_dir = metadata_dir.or_else(|| log_dirs.first().cloned()).unwrap_or_default();
        (log_dirs, metadata_dir)
    }

    fn cluster_id(&mut self) -> Option<Uuid> {
        let text = self.set_text("cluster.id")?;
        let id = text.parse::<Uuid>().ok().filter(|id| !id.is_zero());
        if id.is_none() {
            self.problem(
                "cluster.id",
                format!("cluster.id={text} is no id; it has 22 letters, digits, - and _"),
            );
        }
        id
    }

    fn http(&mut self, listeners: &Listeners) -> Option<Endpoint> {
        let key = "moldau.http.listener";
        match self.checked.taken.get(key).map(|taken| taken.value.to_string()) {
            None => {
                let first = listeners.client.first().or(listeners.controller.first());
                let port = first.map_or(0, |l| l.endpoint.port);
                let above = if port == 0 { 0 } else { port.checked_add(HTTP_PORT_ABOVE).unwrap_or(0) };
                let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: above };
                self.derived.insert(key.to_owned(), endpoint.to_string());
                Some(endpoint)
            }
            Some(text) if text.is_empty() => None,
            Some(text) => self.http_at(key, &text, listeners),
        }
    }

    fn http_at(&mut self, key: &str, text: &str, listeners: &Listeners) -> Option<Endpoint> {
        let Some(endpoint) = Endpoint::parse(text) else {
            self.problem(key, format!("{key}={text} is no address; write host:port, such as 127.0.0.1:9644"));
            return None;
        };
        let taken = |l: &&Listener| l.endpoint.port == endpoint.port && endpoint.port != 0;
        if let Some(listener) = listeners.client.iter().chain(&listeners.controller).find(taken) {
            self.problem(
                key,
                format!("{key}={text} is on the port of listener {}; choose another", listener.name),
            );
        }
        Some(endpoint)
    }

    /// A node without partitions and clients has work for one.
    fn shards(&mut self, role: Role, machine: &Machine) -> usize {
        let shards = match usize::try_from(self.number("moldau.shards")) {
            Ok(shards) => shards.max(1),
            Err(_) if !role.is_broker() => 1,
            Err(_) => machine.cores.saturating_sub(1).max(1),
        };
        self.derived.insert("moldau.shards".to_owned(), shards.to_string());
        shards
    }

    fn limits(&mut self, machine: &Machine) -> Limits {
        Limits {
            request_memory_bytes: self.request_memory(machine),
            request_bytes: self.size("socket.request.max.bytes"),
            connections: self.size("max.connections"),
            connections_per_ip: self.size("max.connections.per.ip"),
            connections_of_ip: self.connections_of_ip(),
            idle: u64::try_from(self.number("connections.max.idle.ms")).ok().map(Duration::from_millis),
            backlog: self.size("socket.listen.backlog.size"),
            receive_buffer_bytes: self.buffer("socket.receive.buffer.bytes"),
            send_buffer_bytes: self.buffer("socket.send.buffer.bytes"),
            fetch_bytes: self.size("fetch.max.bytes"),
            fetch_sessions: self.size("max.incremental.fetch.session.cache.slots"),
        }
    }

    fn buffer(&self, key: &str) -> Option<u32> {
        u32::try_from(self.number(key)).ok().filter(|bytes| *bytes > 0)
    }

    /// An eighth of the memory, at least 128 MiB and room for the largest request, at most 4 GiB.
    fn request_memory(&mut self, machine: &Machine) -> u64 {
        let key = "queued.max.request.bytes";
        let largest = u64::from(self.size("socket.request.max.bytes"));
        let chosen = self.number(key);
        if chosen > 0 {
            let bytes = chosen.unsigned_abs();
            if bytes < largest {
                let message =
                    format!("{key}={bytes} is less than socket.request.max.bytes={largest}; raise it");
                self.problem(key, message);
            }
            return bytes;
        }
        let bytes = (machine.memory_bytes / 8).clamp(128 << 20, 4 << 30).max(largest);
        self.derived.insert(key.to_owned(), bytes.to_string());
        bytes
    }

    fn connections_of_ip(&mut self) -> BTreeMap<IpAddr, u32> {
        let key = "max.connections.per.ip.overrides";
        let text = self.set_text(key).unwrap_or_default();
        let mut limits = BTreeMap::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let pair = item.rsplit_once(':').and_then(|(host, limit)| {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Some((host.parse::<IpAddr>().ok()?, limit.trim().parse::<u32>().ok()?))
            });
            match pair {
                Some((address, limit)) => drop(limits.insert(address, limit)),
                None => {
                    self.problem(key, format!("{key}: `{item}` is no pair; write address:limit, not a name"))
                }
            }
        }
        limits
    }

    fn topics(&self) -> TopicDefaults {
        TopicDefaults {
            auto_create: self.flag("auto.create.topics.enable"),
            delete: self.flag("delete.topic.enable"),
            partitions: self.int("num.partitions"),
            replication_factor: self.short("default.replication.factor"),
            unclean_elections: self.flag("unclean.leader.election.enable"),
            rebalance: self.flag("auto.leader.rebalance.enable").then(|| {
                let seconds = self.number("leader.imbalance.check.interval.seconds");
                Duration::from_secs(seconds.max(1).unsigned_abs())
            }),
            rack_aware_reads: self.set_text("replica.selector.class").is_some(),
            min_insync_replicas: u32::try_from(self.number("min.insync.replicas")).unwrap_or(1),
        }
    }

    fn groups(&mut self) -> GroupDefaults {
        let groups = GroupDefaults {
            initial_rebalance_delay_ms: self.int("group.initial.rebalance.delay.ms"),
            min_session_timeout_ms: self.int("group.min.session.timeout.ms"),
            max_session_timeout_ms: self.int("group.max.session.timeout.ms"),
            max_size: self.int("group.max.size"),
            offset_metadata_bytes: self.int("offset.metadata.max.bytes"),
            offsets_retention_ms: self.number("offsets.retention.minutes").saturating_mul(60_000),
            offsets_check_interval_ms: self.number("offsets.retention.check.interval.ms"),
            offsets_partitions: self.int("offsets.topic.num.partitions"),
            offsets_replication_factor: self.short("offsets.topic.replication.factor"),
            offsets_segment_bytes: self.size("offsets.topic.segment.bytes"),
        };
        let (min, max) = (groups.min_session_timeout_ms, groups.max_session_timeout_ms);
        if min > max {
            let message = format!(
                "group.min.session.timeout.ms={min} is above group.max.session.timeout.ms={max}; lower it"
            );
            self.problem("group.min.session.timeout.ms", message);
        }
        groups
    }

    fn logs(&self) -> LogDefaults {
        LogDefaults {
            retention_check_interval_ms: self.number("log.retention.check.interval.ms"),
            producer_expiration_ms: self.number("producer.id.expiration.ms"),
        }
    }
}
