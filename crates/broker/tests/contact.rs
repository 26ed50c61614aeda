//! What a broker does with its clients when it does not hear the active controller: one shard, its inputs and effects.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::{BrokerEpoch, NodeId, Now, Rng, Uuid};
use moldau_broker::{
    Address, ConnId, Effect, FromPeer, FromQuorum, Input, Lane, LogDir, NoAnswer, Purpose, Role, Settings,
    Shard, ShardId, ToPeer,
};
use moldau_controller::{Controller, Image, Listener, RegisterBroker, Reply, Request as ToController};
use moldau_wire::frame::LENGTH_PREFIX;
use moldau_wire::{
    Request, Response, broker_heartbeat, broker_registration, describe_cluster, encode_request,
    encode_response, metadata,
};

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
const ME: i32 = 2;
const CONTROLLER: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(3);

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
    /// What node 3 says of this one, if it is reached.
    hearsay: Option<bool>,
}

impl Node {
    /// Registered, and counted on.
    fn new() -> Node {
        let now = Now::default();
        let shard = Shard::new(ShardId(0), Arc::new(settings()), Rng::seeded(7), vec![], now);
        let mut node = Node {
            shard,
            now,
            calls: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            heard: true,
            hearsay: Some(false),
        };
        let mut controller = Controller::new(moldau_controller::Settings::default(), Image::new(CLUSTER));
        let (mut records, mut rng) = (Vec::new(), Rng::seeded(1));
        for id in 1..=3 {
            let wanted = ToController::RegisterBroker(registration(id));
            for record in controller.decide(now, &mut rng, &wanted).expect("registers").records {
                controller.apply(records.len() as i64, &record).expect("fits");
                records.push(record.encode().expect("has bytes"));
            }
        }
        let next_offset = records.len() as i64;
        node.quorum(FromQuorum::Leader { node: Some(CONTROLLER), epoch: 1 });
        node.quorum(FromQuorum::Committed { offset: 0, next_offset, epoch: 1, records });
        node.pass(1_000);
        node
    }

    fn quorum(&mut self, news: FromQuorum) {
        self.input(Input::Peer(FromPeer::Quorum(news)));
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
                _ => {}
            }
        }
    }

    /// Time passes in steps of ten milliseconds; whoever is reached answers.
    fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 10 {
            self.now = self.now.after_ms(10);
            self.input(Input::Tick);
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
            Purpose::Hearsay if lane.node == OTHER => {
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
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.input(Input::Accepted { conn, address, listener: 0 });
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
    assert!(!node.is_closed(client), "an election may take as long");
    node.pass(1_500);
    assert!(node.is_closed(client));
    let another = node.connect();
    assert!(node.asks(another));
    node.pass(3_000);
    assert!(!node.is_closed(another));
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
