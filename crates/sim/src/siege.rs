//! The broker among strangers: arbitrary bytes on several connections, or arbitrary files at start, and one client that behaves and
//! must get its answers all the same. Quiet weather, one seed: what happens is decided by the moves alone. For fuzzers.

use std::rc::Rc;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{Mono, Rng, Uuid};
use moldau_batch::{Builder, Codec};
use moldau_wire::{
    ApiKey, Call, create_topics, describe_cluster, fetch, find_coordinator, list_offsets, metadata,
    offset_commit, produce,
};

use crate::boot::Overrides;
use crate::clients::admin::{self, LATEST};
use crate::cx::{Conn, Cx, Gone};
use crate::disk::SimDisk;
use crate::kafka::Kafka;
use crate::net::Speed;
use crate::trace::Text;
use crate::weather::Weather;
use crate::workload::Scene;
use crate::world::{Setup, World};

/// Milliseconds of virtual time in which everyone must be done.
const PATIENCE_MS: i64 = 600_000;
/// Milliseconds in which it must be ready or have refused.
const START_MS: i64 = 10_000;
/// Milliseconds that the broker is left alone with what strangers left behind. Not longer: virtual time is not free.
const AFTERMATH_MS: i64 = 15_000;
/// Rounds of the client that behaves.
const ROUNDS: usize = 3;

/// What strangers' answers are counted as.
const ANSWERS: &str = "answers to strangers";

/// What a stranger does on one of its connections, which is made when it is first named.
#[derive(Clone, Debug)]
pub enum Move {
    /// Sends bytes.
    Send(usize, Bytes),
    /// Closes.
    Close(usize),
    /// Vanishes: the broker is not told.
    Vanish(usize),
    /// Lets so many milliseconds pass.
    Wait(u64),
}

/// A broker to be beset.
#[derive(Debug)]
pub struct Siege {
    /// What it finds when it starts, and leaves when it is stopped.
    pub disk: SimDisk,
    /// What strangers do, in order.
    pub moves: Vec<Move>,
    /// Whether it may refuse to start, because of what is on the disk.
    pub may_refuse: bool,
}

/// How it ended, if nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The broker refused to start.
    Refused,
    /// It served; strangers got so many answers.
    Served(u64),
}

impl Siege {
    /// Lets everything happen; what went wrong, if something did.
    pub fn run(self) -> Result<End, String> {
        let mut rng = Rng::seeded(1);
        let setup = Setup {
            weather: weather(),
            overrides: Overrides::default(),
            synced: false,
            text: Text::None,
            strangers: true,
        };
        let mut world = World::new(rng.fork(), setup);
        world.nodes[0].disk = self.disk;
        world.run(Mono(0), |_| false);
        let end = world.clock.now().after_ms(START_MS);
        world.run(end, |world| world.nodes[0].process.as_ref().is_none_or(|process| process.ready));
        if self.may_refuse && world.nodes[0].process.is_none() {
            return Ok(End::Refused);
        }
        let scene = Scene::new(world.shared.clone(), rng.fork(), false, Default::default());
        let (moves, company) = (self.moves, scene.clone());
        scene.client(|cx| async move {
            let Ok(kafka) = Kafka::connect(&cx, 100).await else {
                return cx.problem("the broker does not answer at all");
            };
            let Ok(topic) = prepare(&kafka).await else {
                return cx.problem("the broker closed the connection of a client that behaves");
            };
            company.client(|cx| strangers(cx, moves));
            behave(&cx, &kafka, topic.unwrap_or_default()).await;
        });
        let end = world.clock.now().after_ms(PATIENCE_MS);
        world.run(end, |_| scene.running() == 0);
        if !world.has_failed() && scene.running() > 0 {
            return Err("NoProgress: a client that behaves waits for ever".to_owned());
        }
        let end = world.clock.now().after_ms(AFTERMATH_MS);
        world.run(end, |_| false);
        scene.client(|cx| async move {
            if Kafka::connect(&cx, 1).await.is_err() {
                cx.problem("in the end the broker does not answer");
            }
        });
        let end = world.clock.now().after_ms(PATIENCE_MS);
        world.run(end, |_| scene.running() == 0);
        let problem = world.shared.borrow().problem.clone();
        world.executor.clear();
        let answers = world.shared.borrow().counts.get(ANSWERS).copied().unwrap_or(0);
        problem.map_or(Ok(End::Served(answers)), |failure| Err(failure.to_string()))
    }
}

fn weather() -> Weather {
    Weather {
        nodes: 1,
        controllers: 0,
        shards: 2,
        log_dirs: 1,
        network: Speed { least: 1_000, jitter: 0, slow_one_in: 0 },
        disk_wait: 0,
        sync: 1_000,
        faults: Vec::new(),
        trouble: Mono(0),
        dark_end: false,
    }
}

/// Does the moves in order, and takes in what the broker answers.
async fn strangers(cx: Cx, moves: Vec<Move>) {
    let mut conns: Vec<Option<Rc<Conn>>> = Vec::new();
    for what in moves {
        match what {
            Move::Send(at, bytes) => {
                if let Some(conn) = connection(&cx, &mut conns, at).await {
                    conn.send(bytes);
                }
            }
            Move::Close(at) => drop(conns.get_mut(at).and_then(Option::take).map(|conn| conn.close())),
            Move::Vanish(at) => drop(conns.get_mut(at).and_then(Option::take).map(|conn| conn.vanish())),
            Move::Wait(ms) => cx.sleep_ms(ms).await,
        }
    }
    // Long enough that most of what waits for others or for records has been answered.
    cx.sleep_ms(5_000).await;
}

/// The stranger's connection of this number; a closed one is made anew.
async fn connection(cx: &Cx, conns: &mut Vec<Option<Rc<Conn>>>, at: usize) -> Option<Rc<Conn>> {
    if conns.len() <= at {
        conns.resize(at + 1, None);
    }
    if let Some(conn) = conns[at].as_ref().filter(|conn| !conn.is_closed()) {
        return Some(conn.clone());
    }
    let conn = Rc::new(cx.connect().await.ok()?);
    let (reading, counting) = (conn.clone(), cx.clone());
    cx.spawn(async move {
        while reading.receive().await.is_ok() {
            counting.count(ANSWERS, 1);
        }
    });
    conns[at] = Some(conn.clone());
    Some(conn)
}

fn orders() -> ByteString {
    ByteString::from_static("orders")
}

/// Makes a topic, unless it is there; its id, unless there is none.
async fn prepare(kafka: &Kafka) -> Result<Option<Uuid>, Gone> {
    for key in [ApiKey::Produce, ApiKey::Fetch, ApiKey::FindCoordinator] {
        kafka.use_newest(key);
    }
    let topic = create_topics::request::Topic {
        name: orders(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    kafka
        .call(create_topics::Request { topics: vec![topic], timeout_ms: 10_000, ..Default::default() })
        .await?;
    admin::topic_id(kafka, &orders()).await
}

/// Asks what clients ask. Strangers may have deleted its topic or changed it: an answer is what it must get, not success.
async fn behave(cx: &Cx, kafka: &Kafka, topic: Uuid) {
    for round in 0..ROUNDS {
        if let Err(key) = ask_everything(kafka, topic).await {
            cx.problem(format!("round {round}: {key} of a client that behaves was not answered"));
            return;
        }
        cx.sleep_ms(1 + 200 * round as u64).await;
    }
}

/// Asks for one thing; which, if there is no answer.
async fn ask<C: Call>(kafka: &Kafka, request: C) -> Result<(), ApiKey> {
    kafka.call(request).await.map(drop).map_err(|Gone| C::KEY)
}

async fn ask_everything(kafka: &Kafka, topic: Uuid) -> Result<(), ApiKey> {
    ask(kafka, metadata::Request::default()).await?;
    ask(kafka, describe_cluster::Request::default()).await?;
    ask(kafka, records(topic)).await?;
    let partition = list_offsets::request::Partition { timestamp: LATEST, ..Default::default() };
    let topics = vec![list_offsets::request::Topic { name: orders(), partitions: vec![partition] }];
    ask(kafka, list_offsets::Request { replica_id: -1, topics, timeout_ms: 10_000, ..Default::default() })
        .await?;
    ask(kafka, read(topic)).await?;
    let group = ByteString::from_static("readers");
    let coordinator_keys = vec![group.clone()];
    ask(kafka, find_coordinator::Request { coordinator_keys, ..Default::default() }).await?;
    let partition = offset_commit::request::Partition { committed_offset: 1, ..Default::default() };
    let topics =
        vec![offset_commit::request::Topic { name: orders(), topic_id: topic, partitions: vec![partition] }];
    ask(kafka, offset_commit::Request { group_id: group, topics, ..Default::default() }).await
}

fn records(topic: Uuid) -> produce::Request {
    let mut builder = Builder::new(Codec::None);
    builder.push(1_750_000_000_000, Some(b"key"), Some(b"value"), &[]);
    let partition = produce::request::Partition { index: 0, records: builder.build().ok() };
    let topic = produce::request::Topic { name: orders(), topic_id: topic, partition_data: vec![partition] };
    produce::Request { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() }
}

fn read(topic: Uuid) -> fetch::Request {
    let partition = fetch::request::Partition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = fetch::request::Topic { topic: orders(), topic_id: topic, partitions: vec![partition] };
    fetch::Request { max_bytes: 1 << 20, topics: vec![topic], ..Default::default() }
}
