//! What a broker does with its clients when it does not hear the active controller: one shard, its inputs and effects.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::{BrokerEpoch, NodeId, Now, Rng, Uuid};
use moldau_broker::{
    Address, ConnId, Effect, FromPeer, FromQuorum, Input, Lane, LogDir, NoAnswer, Purpose, Role, Settings,
    Shard, ShardId, ToPeer, ToQuorum,
};
use moldau_controller::{
    BrokerChange, Controller, Image, Listener, Record, RegisterBroker, Reply, Request as ToController,
};
use moldau_wire::frame::LENGTH_PREFIX;
use moldau_wire::{
    Request, Response, broker_heartbeat, broker_registration, describe_cluster, encode_request,
    encode_response, metadata,
};

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
const ME: i32 = 2;
const CONTROLLER: NodeId = NodeId(1);

fn listener(id: i32) -> Listener {
    Listener { name: "PLAINTEXT".into(), host: format!("node-{id}").into(), port: 9092, security_protocol: 0 }
}

fn registration(id: i32) -> RegisterBroker {
    RegisterBroker {
        id: NodeId(id),
        cluster_id: CLUSTER.into(),
        incarnation: Uuid([id as u8; 16]),
        listeners: vec![listener(id)],
        rack: None,
        features: vec![],
        log_dirs: vec![Uuid([id as u8; 16])],
        fenced: false,
        stopped_at: None,
    }
}

fn settings() -> Settings {
    let voter = |id| (NodeId(id), Address { host: format!("node-{id}").into(), port: 9093 });
    Settings {
        node_id: NodeId(ME),
        role: Role::Both,
        cluster_id: CLUSTER.into(),
        rack: None,
        listeners: vec![listener(ME)],
        inter_broker_listener: "PLAINTEXT".into(),
        voters: (1..=3).map(voter).collect(),
        bootstrapped: false,
        controller_listener: "CONTROLLER".into(),
        log_dirs: vec![LogDir { path: "/data".into(), id: Uuid([ME as u8; 16]), space: Default::default() }],
        stopped_at: None,
        boot: None,
        rack_aware_reads: false,
        shards: 1,
        auto_create_topics: false,
        delete_topics: true,
        controller: moldau_controller::Settings::default(),
        features: Vec::new(),
        finalized_features: Vec::new(),
        fetch_max_bytes: 50 << 20,
        fetch_sessions: 16,
        retention_check_ms: 300_000,
        producer_expiration_ms: 86_400_000,
        groups: moldau_group::Config::default(),
        layers: Default::default(),
        throttles: Default::default(),
    }
}

/// A call of the shard that is not answered: its lane and its header's version.
type Call = (Lane, i16);

/// Node 2 of three, which the test plays the others for.
struct Node {
    shard: Shard,
    now: Now,
    calls: BTreeMap<u64, Call>,
    /// What happened to connections: an answer, or the end.
    conns: BTreeMap<ConnId, Vec<bool>>,
    next_conn: u64,
    /// Whether the active controller answers signs of life.
    heard: bool,
    /// This node is the active controller, and the other brokers give it signs of life.
    beats: bool,
    /// The connections that they come on.
    peers: BTreeMap<i32, ConnId>,
    /// The next record of the metadata log.
    next_offset: i64,
    /// What the others say of this one, if they are reached.
    hearsay: Option<bool>,
    /// Questions about this broker so far, and most at once.
    asked: (usize, usize),
}

impl Node {
    /// Registered, and counted on, as the other two are.
    fn new() -> Node {
        Node::among(3, false)
    }

    /// One of so many brokers, of which those behind the controller are fenced or not.
    fn among(brokers: i32, fenced: bool) -> Node {
        let now = Now::default();
        let shard = Shard::new(ShardId(0), Arc::new(settings()), Rng::seeded(7), vec![], now);
        let mut node = Node {
            shard,
            now,
            calls: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            heard: true,
            beats: false,
            peers: BTreeMap::new(),
            next_offset: 0,
            hearsay: Some(false),
            asked: (0, 0),
        };
        let mut controller = Controller::new(moldau_controller::Settings::default(), Image::new(CLUSTER));
        let (mut records, mut rng) = (Vec::new(), Rng::seeded(1));
        for id in 1..=brokers {
            let others = id != ME && NodeId(id) != CONTROLLER;
            let registration = RegisterBroker { fenced: fenced && others, ..registration(id) };
            let wanted = ToController::RegisterBroker(registration);
            for record in controller.decide(now, &mut rng, &wanted).expect("registers").records {
                controller.apply(records.len() as i64, &record).expect("fits");
                records.push(record.encode().expect("has bytes"));
            }
        }
        node.quorum(FromQuorum::Leader { node: Some(CONTROLLER), epoch: 1 });
        node.committed(records);
        node.pass(1_000);
        node
    }

    fn quorum(&mut self, news: FromQuorum) {
        self.input(Input::Peer(FromPeer::Quorum(news)));
    }

    fn committed(&mut self, records: Vec<Bytes>) {
        let offset = self.next_offset;
        self.next_offset += records.len() as i64;
        let next_offset = self.next_offset;
        self.quorum(FromQuorum::Committed { offset, next_offset, epoch: 1, records });
    }

    /// The metadata says that a broker is fenced.
    fn forgets(&mut self, broker: NodeId) {
        let epoch = BrokerEpoch(i64::from(broker.0) - 1);
        let change =
            BrokerChange { id: broker, epoch, fenced: Some(true), stopping: false, log_dirs: vec![] };
        let record = Record::BrokerChange(change).encode().expect("has bytes");
        self.committed(vec![record]);
    }

    /// Signs of life of the other two.
    fn beat(&mut self) {
        for id in [1, 3] {
            let request = Request::BrokerHeartbeat(broker_heartbeat::Request {
                broker_id: id,
                broker_epoch: i64::from(id) - 1,
                current_metadata_offset: self.next_offset - 1,
                ..Default::default()
            });
            let version = request.api_key().versions().max;
            let frame = encode_request(1, None, version, &request).and_then(|frame| frame.into_bytes());
            let known = self.peers.get(&id).copied();
            let conn = known.unwrap_or_else(|| self.connect_to(1));
            self.peers.insert(id, conn);
            self.input(Input::Frame { conn, bytes: frame.expect("has bytes").slice(LENGTH_PREFIX..) });
        }
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.shard.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Reply { conn, frame: Some(_) } => self.conns.entry(conn).or_default().push(true),
                Effect::Close { conn, .. } => self.conns.entry(conn).or_default().push(false),
                Effect::Send(ToPeer::Call { call, lane, frame, .. }) => {
                    let bytes = frame.into_bytes().expect("in memory");
                    let version = i16::from_be_bytes([bytes[LENGTH_PREFIX + 2], bytes[LENGTH_PREFIX + 3]]);
                    self.calls.insert(call, (lane, version));
                }
                Effect::Send(ToPeer::Quorum(ToQuorum::Propose { proposal, records })) => {
                    let offset = self.next_offset;
                    self.committed(records);
                    self.quorum(FromQuorum::Accepted { proposal, offset });
                }
                _ => {}
            }
        }
    }

    /// Time passes in steps of ten milliseconds; whoever is reached answers.
    fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 10 {
            self.now = self.now.after_ms(10);
            self.input(Input::Tick);
            if self.beats && self.now.mono.0 / 10_000_000 % 10 == 0 {
                self.beat();
            }
            let asked = self.calls.values().filter(|(lane, _)| lane.purpose == Purpose::Hearsay).count();
            self.asked = (self.asked.0 + asked, self.asked.1.max(asked));
            for (call, (lane, version)) in std::mem::take(&mut self.calls) {
                match self.answer(lane) {
                    Some(Ok(response)) => {
                        let frame =
                            encode_response(0, version, &response).and_then(|frame| frame.into_bytes());
                        let frame = frame.expect("has bytes").slice(LENGTH_PREFIX..);
                        self.input(Input::Peer(FromPeer::Answer { call, frame }));
                    }
                    Some(Err(why)) => self.input(Input::Peer(FromPeer::NoAnswer { call, why })),
                    // It is lost: the shard gives it up itself.
                    None => {}
                }
            }
        }
    }

    fn answer(&self, lane: Lane) -> Option<Result<Response, NoAnswer>> {
        let epoch = self.shard.broker_epoch();
        match lane.purpose {
            Purpose::Liveness if !self.heard => None,
            Purpose::Liveness if epoch.is_none() => {
                let registered = broker_registration::Response { broker_epoch: 1, ..Default::default() };
                Some(Ok(Response::BrokerRegistration(registered)))
            }
            Purpose::Liveness => {
                let beaten = broker_heartbeat::Response { is_fenced: false, ..Default::default() };
                Some(Ok(Response::BrokerHeartbeat(beaten)))
            }
            Purpose::Hearsay if lane.node != CONTROLLER => {
                let me = |is_fenced| describe_cluster::response::Broker {
                    broker_id: ME,
                    is_fenced,
                    ..Default::default()
                };
                let told = |fenced| describe_cluster::Response {
                    cluster_id: CLUSTER.into(),
                    brokers: vec![me(fenced)],
                    ..Default::default()
                };
                self.hearsay.map(|fenced| Ok(Response::DescribeCluster(told(fenced))))
            }
            _ => None,
        }
    }

    /// A client connects.
    fn connect(&mut self) -> ConnId {
        self.connect_to(0)
    }

    fn connect_to(&mut self, listener: u16) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.input(Input::Accepted { conn, address, listener });
        conn
    }

    /// It asks for metadata; whether it is answered, and not sent away.
    fn asks(&mut self, conn: ConnId) -> bool {
        let request = Request::Metadata(metadata::Request { topics: Some(vec![]), ..Default::default() });
        let frame = encode_request(1, None, 12, &request).and_then(|frame| frame.into_bytes());
        let bytes: Bytes = frame.expect("has bytes").slice(LENGTH_PREFIX..);
        self.input(Input::Frame { conn, bytes });
        self.conns.remove(&conn).expect("something happens") == [true]
    }

    fn is_closed(&mut self, conn: ConnId) -> bool {
        self.conns.remove(&conn).is_some_and(|happened| happened.contains(&false))
    }
}

#[test]
fn who_is_fenced_and_cannot_hear_it_sends_clients_away() {
    let mut node = Node::new();
    assert_eq!(node.shard.broker_epoch(), Some(BrokerEpoch(1)));
    let client = node.connect();
    assert!(node.asks(client));
    (node.heard, node.hearsay) = (false, Some(false));
    node.pass(3_000);
    assert!(!node.is_closed(client), "silence proves nothing while others count on this broker");
    node.hearsay = Some(true);
    node.pass(500);
    assert!(node.is_closed(client));
    let another = node.connect();
    assert!(!node.asks(another), "nor is anybody else served");
    node.heard = true;
    node.pass(3_000);
    let after = node.connect();
    assert!(node.asks(after), "the controller counts on it again");
}

#[test]
fn who_hears_nobody_closes_connections_once_and_serves() {
    let mut node = Node::new();
    let client = node.connect();
    assert!(node.asks(client));
    (node.heard, node.hearsay) = (false, None);
    node.pass(1_000);
    assert!(!node.is_closed(client), "the others may count on it as long");
    node.pass(500);
    assert!(node.is_closed(client));
    let another = node.connect();
    assert!(node.asks(another));
    node.pass(3_000);
    assert!(!node.is_closed(another));
}

#[test]
fn who_counts_on_nobody_has_nobody_to_hear() {
    // The other brokers have left before the controller, which is none itself as far as these calls go, is silent.
    let mut node = Node::among(3, true);
    node.forgets(CONTROLLER);
    let client = node.connect();
    assert!(node.asks(client));
    (node.heard, node.hearsay) = (false, None);
    node.pass(5_000);
    assert!(!node.is_closed(client), "it is the last one, and serves");
    assert_eq!(node.asked.0, 0);
}

#[test]
fn few_are_asked_at_once_and_all_in_turn() {
    let mut node = Node::among(30, false);
    let client = node.connect();
    assert!(node.asks(client));
    (node.heard, node.hearsay) = (false, Some(false));
    node.pass(10_000);
    assert!(!node.is_closed(client));
    let (times, at_once) = node.asked;
    assert!(at_once <= 3 && (100..=300).contains(&times), "{times} questions, {at_once} at once");
}

#[test]
fn a_controller_that_hears_no_broker_any_more_is_alone() {
    let mut node = Node::new();
    let client = node.connect();
    assert!(node.asks(client));
    node.quorum(FromQuorum::Leader { node: Some(NodeId(ME)), epoch: 2 });
    node.beats = true;
    node.pass(3_000);
    assert!(!node.is_closed(client), "the others are heard");
    (node.beats, node.hearsay) = (false, None);
    node.pass(1_000);
    assert!(!node.is_closed(client));
    node.pass(500);
    assert!(node.is_closed(client), "that it answers itself says nothing");
    node.beats = true;
    node.pass(500);
    let after = node.connect();
    assert!(node.asks(after));
}

#[test]
fn the_controller_before_has_less_time_to_be_heard_of_than_others() {
    let session_timeout = Some(std::time::Duration::from_millis(800));
    let settings = moldau_controller::Settings { session_timeout, ..Default::default() };
    let mut controller = Controller::new(settings, Image::new(CLUSTER));
    let (mut offset, mut rng, begin) = (0, Rng::seeded(1), Now::default().after_ms(10_000));
    let mut ask = |controller: &mut Controller, ms: i64, request: &ToController| {
        let decision = controller.decide(begin.after_ms(ms), &mut rng, request).expect("is decided");
        for record in &decision.records {
            controller.apply(offset, record).expect("fits");
            offset += 1;
        }
        decision.reply
    };
    for id in 1..=3 {
        ask(&mut controller, 0, &ToController::RegisterBroker(registration(id)));
    }
    controller.activate(begin, Some(CONTROLLER));
    let fenced = |ids: &[i32]| Reply::Fenced(ids.iter().map(|id| NodeId(*id)).collect());
    assert_eq!(ask(&mut controller, 299, &ToController::Tick), fenced(&[]));
    assert_eq!(ask(&mut controller, 300, &ToController::Tick), fenced(&[1]));
    assert_eq!(ask(&mut controller, 500, &ToController::Tick), fenced(&[]));
    assert_eq!(ask(&mut controller, 800, &ToController::Tick), fenced(&[2, 3]));
}
