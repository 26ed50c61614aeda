//! The event loop of a run: takes the next thing from the clock, lets the broker or a client see it, and arranges what follows.

mod arrivals;
mod calls;
mod compare;
mod disk;
mod faults;
mod node;
mod replicas;
mod silence;
mod start;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::task::Waker;

use moldau_base::{Mono, Now, Rng};
use moldau_broker::{FromPeer, Input};
use moldau_check::Watch;

use crate::boot;
use crate::clock::Clock;
use crate::cx::{Shared, Wish};
use crate::disk::{Sync, Ticket};
use crate::exec::Executor;
use crate::failure::{self, Failure};
use crate::metadata::Quorum;
use crate::net::{Arrival, Link, Net, Side, Spot};
use crate::process::{Process, Want};
use crate::trace::{Text, Trace};
use crate::weather::{Fault, Weather};

use calls::Caller;
use compare::Seen;
pub(crate) use node::{Life, Node};
use replicas::History;
use silence::Silence;

/// More happenings than any sound run has: a loop that makes no progress.
const MOST_EVENTS: u64 = 2_000_000;
/// Happenings between two looks at what a replay of the logs would give.
const REPLAY_EVERY: u64 = 5_000;
/// Happenings between two looks at where the replicas of partitions end, and at who is silent.
const ENDS_EVERY: u64 = 50;
const MILLI: u64 = 1_000_000;
/// How errors of the disk's faults begin.
const SIMULATED: &str = "simulated:";

/// Something that will happen.
pub(crate) enum Happening {
    Wake(Waker),
    Arrives(Link, Side),
    /// The broker learns that a client vanished.
    Vanished(Link),
    DiskDone {
        life: Life,
        shard: u16,
        owner: u32,
    },
    DiskRuns {
        life: Life,
        shard: u16,
        ticket: Ticket,
    },
    SyncEnds {
        life: Life,
        shard: u16,
        sync: Sync,
    },
    Mail {
        life: Life,
        from: u16,
        to: u16,
    },
    News {
        life: Life,
    },
    QuorumTick {
        life: Life,
        due: Mono,
    },
    MustHaveStopped {
        life: Life,
    },
    Tick {
        life: Life,
        shard: u16,
        due: Mono,
    },
    Fault {
        node: usize,
        fault: Fault,
    },
    /// The operator's restart after a fault of the disk; it waits for nothing.
    Die {
        node: usize,
        fault: Fault,
    },
    Boot(usize),
    Room(usize),
    FastAgain(usize),
    /// A node has waited long enough for a connection to be made.
    NotConnected(Link),
}

/// What a run is set up with.
pub(crate) struct Setup {
    pub(crate) weather: Weather,
    pub(crate) overrides: boot::Overrides,
    /// Everything acknowledged is synced before that: a power loss may take nothing.
    pub(crate) synced: bool,
    pub(crate) text: Text,
    /// There are clients that send what they like.
    pub(crate) strangers: bool,
}

/// One run.
pub(crate) struct World {
    pub(crate) clock: Clock<Happening>,
    pub(crate) shared: Rc<RefCell<Shared>>,
    pub(crate) executor: Executor,
    pub(crate) trace: Trace,
    pub(crate) setup: Setup,
    pub(crate) nodes: Vec<Node>,
    pub(crate) events: u64,
    /// Faults that happened, by kind.
    pub(crate) struck: BTreeMap<&'static str, u64>,
    net: Net,
    rng: Rng,
    lives: u32,
    /// Who waits at the calling end of the connections between nodes.
    callers: BTreeMap<Link, Caller>,
    /// What the nodes have shown of themselves so far.
    seen: Seen,
    /// What leaders have shown of themselves.
    history: History,
    /// Who was silent, and since when.
    silence: Silence,
}

impl World {
    pub(crate) fn new(mut rng: Rng, setup: Setup) -> World {
        let nodes = setup.weather.nodes;
        let brokers = setup.weather.brokers();
        let shared = Rc::new(RefCell::new(Shared::new(Watch::all(2_000), brokers)));
        let mut world = World {
            clock: Clock::new(rng.fork()),
            shared,
            executor: Executor::default(),
            trace: Trace::new(setup.text),
            net: Net::new(rng.fork(), setup.weather.network),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            events: 0,
            struck: BTreeMap::new(),
            lives: 0,
            callers: BTreeMap::new(),
            seen: Seen::default(),
            history: History::default(),
            silence: Silence::default(),
            rng,
            setup,
        };
        for due in world.setup.weather.faults.clone() {
            world.clock.at(due.at, Happening::Fault { node: due.node, fault: due.fault });
        }
        (0..nodes).for_each(|node| world.clock.after(0, Happening::Boot(node)));
        world
    }

    /// Whether something was found.
    pub(crate) fn has_failed(&self) -> bool {
        let shared = self.shared.borrow();
        shared.violation.is_some() || shared.problem.is_some()
    }

    fn fail(&mut self, checker: &'static str, what: impl Into<String>) {
        self.shared.borrow_mut().problem.get_or_insert_with(|| Failure::new(checker, what));
    }

    /// Runs until `end`, until `done` says so, or until something is found.
    pub(crate) fn run(&mut self, end: Mono, mut done: impl FnMut(&World) -> bool) {
        loop {
            self.clients();
            if self.has_failed() || done(self) {
                return;
            }
            let Some(what) = self.clock.next_before(end) else { return };
            self.events += 1;
            if self.events > MOST_EVENTS {
                return self.fail(failure::NO_PROGRESS, "too many events");
            }
            self.shared.borrow_mut().now = self.clock.now();
            self.trace.number(self.clock.now().0);
            self.happen(what);
            if self.events.is_multiple_of(ENDS_EVERY) {
                self.look_for_silent();
            }
            if self.events.is_multiple_of(REPLAY_EVERY) {
                self.compare_replays();
                self.compare_nodes();
                self.compare_observers();
            } else if self.events.is_multiple_of(ENDS_EVERY) {
                self.compare_ends();
            }
        }
    }

    /// Lets clients do what they can do now.
    fn clients(&mut self) {
        self.executor.run();
        loop {
            let wishes = std::mem::take(&mut self.shared.borrow_mut().wishes);
            let notes = std::mem::take(&mut self.shared.borrow_mut().notes);
            for note in notes {
                self.trace.line(self.clock.now(), || note);
            }
            if wishes.is_empty() {
                return;
            }
            wishes.into_iter().for_each(|wish| self.grant(wish));
            self.executor.run();
        }
    }

    fn grant(&mut self, wish: Wish) {
        let now = self.clock.now();
        match wish {
            Wish::Wake(at, waker) => self.clock.at(at, Happening::Wake(waker)),
            Wish::Spawn(task) => self.executor.spawn(task),
            Wish::Connect(link, node) => {
                self.net.open(link, Spot::Clients, Spot::Node(node), 0);
                let due = self.net.send(now, link, Side::Broker, Arrival::Open);
                self.arrives(link, Side::Broker, due);
            }
            Wish::Send(link, bytes) => {
                self.trace.bytes(&bytes);
                for due in self.net.send_bytes(now, link, Side::Broker, bytes) {
                    self.arrives(link, Side::Broker, Some(due));
                }
            }
            Wish::Close(link) => {
                let due = self.net.close(now, link, Side::Client);
                self.arrives(link, Side::Broker, due);
            }
            Wish::Stall(link, ms) => self.net.stall(Mono(now.0 + ms * MILLI), link),
            Wish::Vanish(link) => {
                self.net.shut(link, Side::Client);
                let delay = (1 + self.rng.below(60_000)) * MILLI;
                self.clock.after(delay, Happening::Vanished(link));
            }
        }
    }

    fn arrives(&mut self, link: Link, side: Side, due: Option<Mono>) {
        if let Some(due) = due {
            self.clock.at(due, Happening::Arrives(link, side));
        }
    }

    /// Whose process is to notice this.
    fn noticed_by(&self, what: &Happening) -> Option<usize> {
        match what {
            Happening::DiskDone { life, .. }
            | Happening::DiskRuns { life, .. }
            | Happening::SyncEnds { life, .. }
            | Happening::Mail { life, .. }
            | Happening::News { life }
            | Happening::QuorumTick { life, .. }
            | Happening::MustHaveStopped { life }
            | Happening::Tick { life, .. } => Some(life.node),
            Happening::Arrives(link, side) => match self.net.spot(*link, *side)? {
                Spot::Node(node) => Some(node),
                Spot::Clients => None,
            },
            Happening::Vanished(link) => Some(self.server_of(*link)),
            Happening::NotConnected(link) => self.callers.get(link).map(|caller| caller.life.node),
            Happening::Fault { node, fault: Fault::CleanStop(_) } => Some(*node),
            _ => None,
        }
    }

    fn happen(&mut self, what: Happening) {
        let until = self.noticed_by(&what).map(|node| self.nodes[node].still_until);
        if let Some(until) = until.filter(|until| *until > self.clock.now()) {
            return self.clock.at(until, what);
        }
        match what {
            Happening::Wake(waker) => waker.wake(),
            Happening::Arrives(link, side) => {
                let node = self.server_of(link);
                if let Some(arrival) = self.net.arrive(link, side) {
                    match side {
                        _ if matches!(arrival, Arrival::Short) => self.reset_link(link),
                        Side::Broker => self.reached(node, link, arrival),
                        Side::Client if self.callers.contains_key(&link) => self.called_back(link, arrival),
                        Side::Client => self.shared.borrow_mut().arrived(link, arrival),
                    }
                }
            }
            Happening::Vanished(link) => {
                let node = self.server_of(link);
                self.net.shut(link, Side::Broker);
                self.hung_up(node, link);
            }
            Happening::NotConnected(link) => self.not_connected(link),
            Happening::DiskDone { .. }
            | Happening::DiskRuns { .. }
            | Happening::SyncEnds { .. }
            | Happening::Mail { .. }
            | Happening::News { .. }
            | Happening::QuorumTick { .. }
            | Happening::Tick { .. } => self.happen_to_process(what),
            Happening::Fault { node, fault } => self.strike(node, fault),
            Happening::Die { node, fault } => self.die(node, fault),
            Happening::MustHaveStopped { life } => {
                if self.alive(life).is_some() {
                    self.fail(failure::NO_PROGRESS, "the node has not stopped after 60 s");
                }
            }
            Happening::Boot(node) => self.boot(node),
            Happening::Room(node) => self.nodes[node].disk.set_capacity(None),
            Happening::FastAgain(node) => self.nodes[node].sync_at_least = 0,
        }
    }

    fn happen_to_process(&mut self, what: Happening) {
        match what {
            Happening::DiskDone { life, shard, owner } => {
                let input = self.alive(life).and_then(|process| process.next_done(shard, owner));
                if let Some(input) = input {
                    self.step(life.node, shard, input);
                }
            }
            Happening::DiskRuns { life, shard, ticket } => {
                let done = self.alive(life).and_then(|process| process.disk.run(ticket));
                if let Some((op, done)) = done {
                    self.step(life.node, shard, Input::DiskDone { op, done });
                }
            }
            Happening::SyncEnds { life, shard, sync } => self.sync_ends(life, shard, sync),
            Happening::Mail { life, from, to } => {
                let input = self.alive(life).and_then(|process| process.receive(from, to));
                if let Some(input) = input {
                    self.step(life.node, to, input);
                }
            }
            Happening::News { life } => {
                if self.alive(life).is_none() {
                    return;
                }
                let news = self.nodes[life.node].quorum.as_mut().and_then(|quorum| quorum.news.pop_front());
                if let Some(news) = news {
                    self.step(life.node, 0, Input::Peer(FromPeer::Quorum(news)));
                    self.compare_images(life.node);
                }
            }
            Happening::QuorumTick { life, due } => {
                // Another one has taken the place of a tick that is not the last one arranged.
                let arranged = &mut self.nodes[life.node].quorum_tick;
                if arranged.take_if(|tick| *tick == (life, due)).is_some() && self.alive(life).is_some() {
                    self.quorum_wants(life, |quorum, now| quorum.step(now));
                }
            }
            Happening::Tick { life, shard, due } => {
                let ticks = self.alive(life).is_some_and(|process| process.ticks(shard, due));
                if ticks {
                    self.step(life.node, shard, Input::Tick);
                }
            }
            _ => {}
        }
    }

    fn alive(&mut self, life: Life) -> Option<&mut Process> {
        self.nodes[life.node].process.as_mut().filter(|process| process.life == life)
    }

    // ---- shards

    fn now(&self, node: usize, born: Mono) -> Now {
        let now = self.clock.now();
        let skew = self.nodes[node].wall_skew_ms;
        let wall = self.shared.borrow().wall_zero_ms + (now.0 / MILLI) as i64 + skew;
        Now { wall_ms: wall, mono: Mono(now.0 - born.0) }
    }

    /// Lets a shard take in an input.
    fn step(&mut self, node: usize, shard: u16, input: Input) {
        self.record(node, shard, &input);
        self.act(node, shard, |process, shard, now| process.step(shard, now, input));
    }

    /// Lets a shard do something, and arranges what it wants.
    fn act(&mut self, node: usize, shard: u16, what: impl FnOnce(&mut Process, u16, Now) -> Vec<Want>) {
        let Some(born) = self.nodes[node].process.as_ref().map(|process| process.born) else { return };
        let now = self.now(node, born);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let wants = what(process, shard, now);
        let tick = process.next_tick(shard);
        let life = process.life;
        for (op, what) in std::mem::take(&mut process.asked) {
            let who = self.who(node, shard);
            self.trace.line(self.clock.now(), || format!("{who} → disk {}.{}: {what}", op.owner, op.seq));
        }
        wants.into_iter().for_each(|want| self.arrange(life, shard, want));
        if let Some(due) = tick {
            self.clock.at(due, Happening::Tick { life, shard, due });
        }
    }

    /// A shard, as the trace names it.
    fn who(&self, node: usize, shard: u16) -> Who {
        Who { node: (self.nodes.len() > 1).then(|| boot::node_id(node).0), shard }
    }

    fn record(&mut self, node: usize, shard: u16, input: &Input) {
        let who = self.who(node, shard);
        let trace = &mut self.trace;
        trace.number((node as u64) << 16 | u64::from(shard));
        match input {
            Input::Frame { conn, bytes } => {
                trace.number(conn.0);
                trace.bytes(bytes);
            }
            Input::DiskDone { op, .. } => trace.number(u64::from(op.owner) << 32 | u64::from(op.seq)),
            Input::Accepted { conn, .. } | Input::Closed { conn } => trace.number(conn.0),
            Input::FromShard { from, .. } => trace.number(u64::from(from.0)),
            Input::Peer(FromPeer::Answer { frame, .. }) => trace.bytes(frame),
            Input::Peer(_) | Input::Tick => {}
        }
        trace.line(self.clock.now(), || format!("{who} ← {}", brief(input)));
    }

    fn arrange(&mut self, life: Life, shard: u16, want: Want) {
        let now = self.clock.now();
        if self.alive(life).is_none() {
            // It died in the middle of what it wanted.
            return;
        }
        match want {
            Want::Disk(op, what) => self.operate(life, shard, op, what),
            Want::Send(link, pieces) => {
                let arrival = match self.rng.chance(1, 2) {
                    true => Arrival::Late(pieces),
                    false => crate::net::gather(&pieces),
                };
                if let Arrival::Bytes(bytes) = &arrival {
                    self.trace.bytes(bytes);
                }
                let due = self.net.send(now, link, Side::Client, arrival);
                self.arrives(link, Side::Client, due);
            }
            Want::Close(link) => {
                let due = self.net.close(now, link, Side::Broker);
                self.arrives(link, Side::Client, due);
            }
            Want::Mail(to) => {
                let delay = if self.rng.chance(1, 2) { 0 } else { self.rng.below(30_000) };
                self.clock.after(delay, Happening::Mail { life, from: shard, to });
            }
            Want::Quorum(news) => self.quorum_wants(life, |quorum, now| quorum.take(now, news)),
            Want::Call(call) => self.call(life, shard, call),
            Want::HangUp(lane) => self.hang_up(life, shard, lane),
            Want::Ready => {
                if let Some(process) = self.nodes[life.node].process.as_mut() {
                    process.ready = true;
                }
                self.trace.line(now, || format!("node {} is ready", boot::node_id(life.node)));
            }
            Want::Stopped => self.stopped(life.node),
            Want::Say(what) => {
                let who = self.who(life.node, shard);
                self.trace.line(now, || format!("{who}: {what}"));
            }
            Want::Failed(why) => self.node_failed(life.node, &why),
            Want::Broken(what) => self.fail(failure::BAD_SHARD, what),
        }
    }

    /// Lets the quorum do something, and arranges what follows.
    fn quorum_wants(&mut self, life: Life, act: impl FnOnce(&mut Quorum, Now)) {
        let Some(born) = self.nodes[life.node].process.as_ref().map(|process| process.born) else { return };
        let now = self.now(life.node, born);
        let node = &mut self.nodes[life.node];
        let Some(quorum) = node.quorum.as_mut() else { return };
        let told = quorum.news.len();
        act(quorum, now);
        if node.disk.has_blown()
            && let Some(fault) = node.dies_in_metadata.take()
        {
            node.disk.set_fuse(None);
            self.trace.line(self.clock.now(), || format!("{fault} in the middle of the metadata log's work"));
            return self.die(life.node, fault);
        }
        let (more, deadline, failed) = (quorum.news.len() - told, quorum.deadline(), quorum.failed.take());
        if let Some(why) = failed {
            return self.node_failed(life.node, &why);
        }
        for _ in 0..more {
            let delay = self.rng.below(2 * MILLI);
            self.clock.after(delay, Happening::News { life });
        }
        let deadline = deadline.map(|at| Mono(at.0.saturating_add(born.0)));
        let arranged = self.nodes[life.node].quorum_tick.filter(|(of, _)| *of == life).map(|(_, at)| at);
        if let Some(due) = deadline.filter(|due| arranged.is_none_or(|arranged| *due < arranged)) {
            self.nodes[life.node].quorum_tick = Some((life, due));
            self.clock.at(due, Happening::QuorumTick { life, due });
        }
    }

    /// The node ends when its metadata log is offline or its registration is refused, as it must; where the disk is good and no
    /// stranger wrote the files, that is a failure.
    fn node_failed(&mut self, node: usize, why: &str) {
        self.trace.line(self.clock.now(), || format!("node {} ends: {why}", boot::node_id(node)));
        if self.nodes[node].disk.is_limited() || why.contains(SIMULATED) {
            self.kill(node, 1_000);
        } else if self.setup.strangers {
            (self.nodes[node].process, self.nodes[node].quorum) = (None, None);
        } else {
            self.fail(failure::BROKEN_NODE, format!("node {} ends: {why}", boot::node_id(node)));
        }
    }
}

/// A shard in the trace; of a node that is alone the number is not told.
#[derive(Clone, Copy)]
struct Who {
    node: Option<i32>,
    shard: u16,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "node {node} ")?;
        }
        write!(f, "shard {}", self.shard)
    }
}

fn brief(input: &Input) -> String {
    match input {
        Input::Frame { conn, bytes } => {
            let head = |at: usize| bytes.get(at..at + 2).map_or(-1, |b| i16::from_be_bytes([b[0], b[1]]));
            let name = moldau_wire::ApiKey::from_code(head(0)).map_or("?", moldau_wire::ApiKey::name);
            format!("{name} v{} on {}, {} bytes", head(2), conn.0, bytes.len())
        }
        Input::DiskDone { op, done } => {
            let done = match done {
                moldau_base::disk::Done::Read(bytes) => format!("read {} bytes", bytes.len()),
                other => format!("{other:?}"),
            };
            format!("disk {}.{}: {done}", op.owner, op.seq)
        }
        Input::FromShard { from, .. } => format!("message of shard {}", from.0),
        other => format!("{other:?}"),
    }
}
