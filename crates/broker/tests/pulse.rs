//! A broker of which one shard stands still gives no signs of life: shard 0, its inputs and effects. The test is the other shard and the
//! active controller.

use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::Done;
use moldau_base::{NodeId, Now, Rng, Uuid};
use moldau_broker::{
    Address, Effect, FromPeer, FromQuorum, Input, Lane, LogDir, Message, Purpose, Role, Settings, Shard,
    ShardId, ToPeer, Trace,
};
use moldau_controller::{Controller, Image, Listener, RegisterBroker, Request as ToController};
use moldau_wire::frame::LENGTH_PREFIX;
use moldau_wire::{
    ApiKey, Frame, Response, api_versions, broker_heartbeat, broker_registration, encode_response,
};

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
const ME: NodeId = NodeId(2);
const CONTROLLER: NodeId = NodeId(1);
const OTHER: ShardId = ShardId(1);

fn listener(id: NodeId) -> Listener {
    Listener { name: "PLAINTEXT".into(), host: format!("node-{id}").into(), port: 9092, security_protocol: 0 }
}

fn settings() -> Settings {
    let voter = |id| (NodeId(id), Address { host: format!("node-{id}").into(), port: 9093 });
    Settings {
        node_id: ME,
        role: Role::Both,
        cluster_id: CLUSTER.into(),
        rack: None,
        listeners: vec![listener(ME)],
        inter_broker_listener: "PLAINTEXT".into(),
        voters: (1..=3).map(voter).collect(),
        bootstrapped: false,
        controller_listener: "CONTROLLER".into(),
        log_dirs: vec![LogDir { path: "/data".into(), id: Uuid([2; 16]), space: Default::default() }],
        stopped_at: None,
        boot: None,
        rack_aware_reads: false,
        shards: 2,
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
        newest_versions: Default::default(),
    }
}

/// Shard 0 of node 2.
struct Node {
    shard: Shard,
    now: Now,
    /// The other shard answers.
    goes_on: bool,
    /// It was asked and has not answered.
    asked: bool,
    /// Signs of life so far.
    beats: usize,
    /// What an operator was told.
    warnings: Vec<String>,
}

impl Node {
    fn new() -> Node {
        let now = Now::default();
        let shard = Shard::new(ShardId(0), Arc::new(settings()), Rng::seeded(7), vec![], now);
        let mut node = Node { shard, now, goes_on: true, asked: false, beats: 0, warnings: Vec::new() };
        let mut controller = Controller::new(moldau_controller::Settings::default(), Image::new(CLUSTER));
        let registration = RegisterBroker {
            id: ME,
            cluster_id: CLUSTER.into(),
            incarnation: Uuid([2; 16]),
            listeners: vec![listener(ME)],
            rack: None,
            features: vec![],
            log_dirs: vec![Uuid([2; 16])],
            fenced: false,
            stopped_at: None,
        };
        let wanted = ToController::RegisterBroker(registration);
        let decided = controller.decide(now, &mut Rng::seeded(1), &wanted).expect("registers");
        let records: Vec<Bytes> =
            decided.records.iter().map(|record| record.encode().expect("has bytes")).collect();
        node.input(quorum(FromQuorum::Leader { node: Some(CONTROLLER), epoch: 1 }));
        let next_offset = records.len() as i64;
        node.input(quorum(FromQuorum::Committed { offset: 0, next_offset, epoch: 1, records }));
        node.pass(1_000);
        node
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.shard.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::ToShard { message, .. } => match *message {
                    Message::Pulse => {
                        assert!(!self.asked, "it is asked once");
                        self.asked = true;
                    }
                    Message::Image(update) => self.says(Message::ImageApplied(update.offset)),
                    _ => {}
                },
                Effect::Send(ToPeer::Call { call, lane, frame, .. }) => self.call(call, lane, frame),
                // What a shard of itself asks of the disk is done at once.
                Effect::Disk { op, .. } => self.input(Input::DiskDone { op, done: Done::Ok }),
                Effect::Trace(Trace::Warning(text)) => self.warnings.push(text),
                _ => {}
            }
        }
    }

    /// The other shard tells this one something.
    fn says(&mut self, message: Message) {
        self.input(Input::FromShard { from: OTHER, message: Box::new(message) });
    }

    fn call(&mut self, call: u64, lane: Lane, frame: Frame) {
        let bytes = frame.into_bytes().expect("in memory");
        let version = i16::from_be_bytes([bytes[LENGTH_PREFIX + 2], bytes[LENGTH_PREFIX + 3]]);
        if lane.purpose != Purpose::Liveness {
            return;
        }
        let key = i16::from_be_bytes([bytes[LENGTH_PREFIX], bytes[LENGTH_PREFIX + 1]]);
        let response = match self.shard.broker_epoch() {
            _ if key == ApiKey::ApiVersions as i16 => {
                Response::ApiVersions(api_versions::Response { api_keys: spoken(), ..Default::default() })
            }
            None => Response::BrokerRegistration(broker_registration::Response {
                broker_epoch: 0,
                ..Default::default()
            }),
            Some(_) => {
                self.beats += 1;
                Response::BrokerHeartbeat(broker_heartbeat::Response {
                    is_fenced: false,
                    ..Default::default()
                })
            }
        };
        let frame = encode_response(0, version, &response).and_then(|frame| frame.into_bytes());
        let frame = frame.expect("has bytes").slice(LENGTH_PREFIX..);
        self.input(Input::Peer(FromPeer::Answer { call, frame }));
    }

    /// Time passes in steps of ten milliseconds.
    fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 10 {
            self.now = self.now.after_ms(10);
            self.input(Input::Tick);
            if self.goes_on && std::mem::take(&mut self.asked) {
                self.says(Message::Felt);
            }
        }
    }

    /// Signs of life while so much time passes.
    fn beats_in(&mut self, ms: i64) -> usize {
        let before = self.beats;
        self.pass(ms);
        self.beats - before
    }
}

/// What the controller speaks.
fn spoken() -> Vec<api_versions::response::Api> {
    let api = |key: ApiKey| api_versions::response::Api {
        api_key: key as i16,
        min_version: key.versions().min,
        max_version: key.versions().max,
    };
    [ApiKey::BrokerRegistration, ApiKey::BrokerHeartbeat].map(api).to_vec()
}

fn quorum(news: FromQuorum) -> Input {
    Input::Peer(FromPeer::Quorum(news))
}

#[test]
fn who_goes_on_is_counted_on() {
    let mut node = Node::new();
    assert!((9..=11).contains(&node.beats_in(1_000)));
    assert!(node.warnings.is_empty());
}

#[test]
fn a_broker_one_of_whose_shards_stands_still_falls_silent_until_it_goes_on() {
    let mut node = Node::new();
    node.goes_on = false;
    assert!(node.beats_in(1_900) > 15, "a busy disk may take some time");
    node.pass(300);
    assert_eq!(node.beats_in(5_000), 0);
    let told: Vec<&String> = node.warnings.iter().filter(|text| text.contains("shard 1")).collect();
    assert_eq!(told.len(), 1, "{:?}", node.warnings);
    node.goes_on = true;
    node.pass(200);
    assert!(node.beats_in(1_000) >= 9);
}

#[test]
fn who_was_paused_itself_blames_nobody() {
    let mut node = Node::new();
    node.goes_on = false;
    node.pass(150);
    // The machine stood still; everything goes on in an order that nobody knows.
    node.now = node.now.after_ms(60_000);
    node.input(Input::Tick);
    node.goes_on = true;
    assert!(node.beats_in(1_000) >= 9);
    assert!(node.warnings.is_empty(), "{:?}", node.warnings);
}
