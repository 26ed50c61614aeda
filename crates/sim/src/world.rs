//! The event loop of a run: takes the next thing from the clock, lets the broker or a client see it, and arranges what follows.

mod disk;
mod faults;
mod start;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::task::Waker;

use moldau_base::{Mono, Now, Rng};
use moldau_broker::{ConnId, FromPeer, Input};
use moldau_check::Watch;

use crate::boot;
use crate::clock::Clock;
use crate::cx::{Shared, Wish};
use crate::disk::{SimDisk, Sync, Ticket};
use crate::exec::Executor;
use crate::failure::{self, Failure};
use crate::metadata::Quorum;
use crate::net::{Arrival, Link, Net, Side};
use crate::process::{Process, Want};
use crate::replay;
use crate::trace::{Text, Trace};
use crate::weather::{Fault, Weather};

/// More happenings than any sound run has: a loop that makes no progress.
const MOST_EVENTS: u64 = 20_000_000;
/// Happenings between two looks at what a replay of the logs would give.
const REPLAY_EVERY: u64 = 5_000;
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
        life: u32,
        shard: u16,
        owner: u32,
    },
    DiskRuns {
        life: u32,
        shard: u16,
        ticket: Ticket,
    },
    SyncEnds {
        life: u32,
        shard: u16,
        sync: Sync,
    },
    Mail {
        life: u32,
        from: u16,
        to: u16,
    },
    News {
        life: u32,
    },
    QuorumTick {
        life: u32,
    },
    MustHaveStopped {
        life: u32,
    },
    Tick {
        life: u32,
        shard: u16,
        due: Mono,
    },
    Fault(Fault),
    /// The operator's restart after a fault of the disk; it waits for nothing.
    Die(Fault),
    Boot,
    Room,
    FastAgain,
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
    pub(crate) process: Option<Process>,
    pub(crate) disk: SimDisk,
    pub(crate) events: u64,
    /// Faults that happened, by kind.
    pub(crate) struck: BTreeMap<&'static str, u64>,
    net: Net,
    quorum: Option<Quorum>,
    rng: Rng,
    lives: u32,
    wall_skew_ms: i64,
    sync_at_least: u64,
    /// A death that waits for so many changes of the disk by the next recovery.
    dies_in_recovery: Option<(u64, Fault)>,
    /// A death that waits for so many disk operations.
    dies_after: Option<(u64, Fault)>,
    /// A death that waits for the next sync, to come before its end.
    dies_in_sync: Option<Fault>,
    /// A death that waits for the metadata log's use of the disk, to come in the middle of it.
    dies_in_metadata: Option<Fault>,
}

impl World {
    pub(crate) fn new(mut rng: Rng, setup: Setup) -> World {
        let shared = Rc::new(RefCell::new(Shared::new(Watch::all(2_000))));
        let mut world = World {
            clock: Clock::new(rng.fork()),
            shared,
            executor: Executor::default(),
            trace: Trace::new(setup.text),
            net: Net::new(rng.fork(), setup.weather.network),
            process: None,
            disk: SimDisk::default(),
            events: 0,
            struck: BTreeMap::new(),
            quorum: None,
            lives: 0,
            wall_skew_ms: 0,
            sync_at_least: 0,
            dies_in_recovery: None,
            dies_after: None,
            dies_in_sync: None,
            dies_in_metadata: None,
            rng,
            setup,
        };
        for due in world.setup.weather.faults.clone() {
            world.clock.at(due.at, Happening::Fault(due.fault));
        }
        world.clock.after(0, Happening::Boot);
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
            if self.events.is_multiple_of(REPLAY_EVERY) {
                self.compare_replays();
            }
        }
    }

    /// `replay(log) == live`, for everything that shards keep in logs.
    pub(crate) fn compare_replays(&mut self) {
        if self.disk.is_limited() {
            // Writes may have failed that the shards have not been told of.
            return;
        }
        let Some(process) = &self.process else { return };
        let found = process.each_shard().iter().find_map(|shard| replay::difference(shard, &self.disk));
        if let Some(what) = found {
            self.fail(failure::REPLAY_DIFFERS, what);
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
            Wish::Connect(link) => {
                self.net.open(link);
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

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wake(waker) => waker.wake(),
            Happening::Arrives(link, Side::Client) => {
                if let Some(arrival) = self.net.arrive(link, Side::Client) {
                    self.shared.borrow_mut().arrived(link, arrival);
                }
            }
            Happening::Arrives(link, Side::Broker) => {
                if let Some(arrival) = self.net.arrive(link, Side::Broker) {
                    self.reached(link, arrival);
                }
            }
            Happening::Vanished(link) => {
                self.net.shut(link, Side::Broker);
                self.hung_up(link);
            }
            Happening::DiskDone { life, shard, owner } => {
                let input = self.alive(life).and_then(|process| process.next_done(shard, owner));
                if let Some(input) = input {
                    self.step(shard, input);
                }
            }
            Happening::DiskRuns { life, shard, ticket } => {
                let done = self.alive(life).and_then(|process| process.disk.run(ticket));
                if let Some((op, done)) = done {
                    self.step(shard, Input::DiskDone { op, done });
                }
            }
            Happening::SyncEnds { life, shard, sync } => self.sync_ends(life, shard, sync),
            Happening::Mail { life, from, to } => {
                let input = self.alive(life).and_then(|process| process.receive(from, to));
                if let Some(input) = input {
                    self.step(to, input);
                }
            }
            Happening::News { life } => {
                let news =
                    self.alive(life).is_some().then(|| self.quorum.as_mut()?.news.pop_front()).flatten();
                if let Some(news) = news {
                    self.step(0, Input::Peer(FromPeer::Quorum(news)));
                    self.compare_images();
                }
            }
            Happening::QuorumTick { life } => {
                if self.alive(life).is_some() {
                    self.quorum_wants(life, |quorum, now| quorum.step(now));
                }
            }
            Happening::Tick { life, shard, due } => {
                if self.alive(life).is_some_and(|process| process.ticks(shard, due)) {
                    self.step(shard, Input::Tick);
                }
            }
            Happening::Fault(fault) => self.strike(fault),
            Happening::Die(fault) => self.die(fault),
            Happening::MustHaveStopped { life } => {
                if self.alive(life).is_some() {
                    self.fail(failure::NO_PROGRESS, "the node has not stopped after 60 s");
                }
            }
            Happening::Boot => self.boot(),
            Happening::Room => self.disk.set_capacity(None),
            Happening::FastAgain => self.sync_at_least = 0,
        }
    }

    fn alive(&mut self, life: u32) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.life == life)
    }

    // ---- the broker's side of the network

    fn reached(&mut self, link: Link, arrival: Arrival) {
        match arrival {
            Arrival::Open => self.accept(link),
            Arrival::Closed => self.hung_up(link),
            Arrival::Bytes(piece) => {
                let Some(process) = self.process.as_mut() else { return };
                let Some(shard) = process.shard_of(link) else { return };
                let Ok(frames) = process.take(link, &piece) else { return self.cut_off(link) };
                for bytes in frames {
                    self.step(shard, Input::Frame { conn: ConnId(link.0), bytes });
                }
            }
            Arrival::Late(_) => {}
        }
    }

    fn accept(&mut self, link: Link) {
        let now = self.clock.now();
        let shards = self.process.as_ref().filter(|process| process.ready).map(Process::shards);
        let Some(shards) = shards else {
            let due = self.net.close(now, link, Side::Broker);
            return self.arrives(link, Side::Client, due);
        };
        let shard = self.rng.below(u64::from(shards)) as u16;
        if let Some(process) = self.process.as_mut() {
            process.accept(link, shard);
        }
        let due = self.net.send(now, link, Side::Client, Arrival::Open);
        self.arrives(link, Side::Client, due);
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, (link.0 >> 8) as u8, link.0 as u8));
        self.step(shard, Input::Accepted { conn: ConnId(link.0), address, listener: 0 });
    }

    fn hung_up(&mut self, link: Link) {
        let Some(process) = self.process.as_mut() else { return };
        if let Some(shard) = process.shard_of(link) {
            process.forget(link);
            self.step(shard, Input::Closed { conn: ConnId(link.0) });
        }
    }

    /// What arrives is no frame: the node closes the connection.
    fn cut_off(&mut self, link: Link) {
        if !self.setup.strangers {
            let what = format!("a good client sent a bad frame on connection {}", link.0);
            return self.fail(failure::BAD_ANSWER, what);
        }
        self.hung_up(link);
        let due = self.net.close(self.clock.now(), link, Side::Broker);
        self.arrives(link, Side::Client, due);
    }

    // ---- shards

    fn now(&self, born: Mono) -> Now {
        let now = self.clock.now();
        let wall = self.shared.borrow().wall_zero_ms + (now.0 / MILLI) as i64 + self.wall_skew_ms;
        Now { wall_ms: wall, mono: Mono(now.0 - born.0) }
    }

    /// Lets a shard take in an input.
    fn step(&mut self, shard: u16, input: Input) {
        self.record(shard, &input);
        self.act(shard, |process, shard, now| process.step(shard, now, input));
    }

    /// Lets a shard do something, and arranges what it wants.
    fn act(&mut self, shard: u16, what: impl FnOnce(&mut Process, u16, Now) -> Vec<Want>) {
        let Some(born) = self.process.as_ref().map(|process| process.born) else { return };
        let now = self.now(born);
        let Some(process) = self.process.as_mut() else { return };
        let wants = what(process, shard, now);
        let tick = process.next_tick(shard);
        let life = process.life;
        for (op, what) in std::mem::take(&mut process.asked) {
            self.trace
                .line(self.clock.now(), || format!("shard {shard} → disk {}.{}: {what}", op.owner, op.seq));
        }
        wants.into_iter().for_each(|want| self.arrange(life, shard, want));
        if let Some(due) = tick {
            self.clock.at(due, Happening::Tick { life, shard, due });
        }
    }

    fn record(&mut self, shard: u16, input: &Input) {
        let trace = &mut self.trace;
        trace.number(u64::from(shard));
        match input {
            Input::Frame { conn, bytes } => {
                trace.number(conn.0);
                trace.bytes(bytes);
            }
            Input::DiskDone { op, .. } => trace.number(u64::from(op.owner) << 32 | u64::from(op.seq)),
            Input::Accepted { conn, .. } | Input::Closed { conn } => trace.number(conn.0),
            Input::FromShard { from, .. } => trace.number(u64::from(from.0)),
            Input::Peer(_) | Input::Tick => {}
        }
        trace.line(self.clock.now(), || format!("shard {shard} ← {}", brief(input)));
    }

    fn arrange(&mut self, life: u32, shard: u16, want: Want) {
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
                    false => Arrival::Bytes(crate::net::gather(&pieces)),
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
            Want::Propose(proposal, records) => {
                self.quorum_wants(life, |quorum, now| quorum.propose(now, proposal, records));
            }
            Want::Ready => {
                if let Some(process) = self.process.as_mut() {
                    process.ready = true;
                }
                self.trace.line(now, || "the node is ready".to_owned());
            }
            Want::Stopped => self.stopped(),
            Want::Say(what) => self.trace.line(now, || what),
            Want::Failed(why) => self.node_failed(&why),
            Want::Broken(what) => self.fail(failure::BAD_SHARD, what),
        }
    }

    /// Lets the quorum do something, and arranges what follows.
    fn quorum_wants(&mut self, life: u32, act: impl FnOnce(&mut Quorum, Now)) {
        let Some(born) = self.process.as_ref().map(|process| process.born) else { return };
        let now = self.now(born);
        let Some(quorum) = self.quorum.as_mut() else { return };
        let told = quorum.news.len();
        act(quorum, now);
        if self.disk.has_blown()
            && let Some(fault) = self.dies_in_metadata.take()
        {
            self.disk.set_fuse(None);
            self.trace.line(self.clock.now(), || format!("{fault} in the middle of the metadata log's work"));
            return self.die(fault);
        }
        let (more, deadline, failed) = (quorum.news.len() - told, quorum.deadline(), quorum.failed.take());
        if let Some(why) = failed {
            return self.node_failed(&why);
        }
        for _ in 0..more {
            let delay = self.rng.below(2 * MILLI);
            self.clock.after(delay, Happening::News { life });
        }
        if let Some(deadline) = deadline {
            self.clock.at(Mono(deadline.0.saturating_add(born.0)), Happening::QuorumTick { life });
        }
    }

    /// The node ends when its metadata log is offline or its registration is refused, as it must; where the disk is good and no
    /// stranger wrote the files, that is a failure.
    fn node_failed(&mut self, why: &str) {
        self.trace.line(self.clock.now(), || format!("the node ends: {why}"));
        if self.disk.is_limited() || why.contains(SIMULATED) {
            self.kill(1_000);
        } else if self.setup.strangers {
            (self.process, self.quorum) = (None, None);
        } else {
            self.fail(failure::BROKEN_NODE, format!("the node ends: {why}"));
        }
    }

    /// `replay(log) == live`: the controller's image is what a replay of the committed records gives.
    fn compare_images(&mut self) {
        let Some((process, quorum)) = self.process.as_ref().zip(self.quorum.as_ref()) else { return };
        if !quorum.news.is_empty() || !self.rng.chance(1, 4) {
            return;
        }
        if process.image().is_some_and(|live| live != quorum.image()) {
            let what = "the controller's image is not what a replay of the metadata log gives";
            self.fail(failure::REPLAY_DIFFERS, what);
        }
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
