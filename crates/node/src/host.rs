//! The host of one shard: it gives the shard its inputs and carries out its effects, on one thread, in order.

mod serve;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::Waker;

use bytes::Bytes;
use moldau_base::disk::FileId;
use moldau_base::{Mono, Now};
use moldau_broker::{ConnId, Effect, Input, Shard, ShardId, ToPeer, ToQuorum, Trace};
use moldau_wire::{Frame, Segment};
use tokio::net::TcpStream;

pub use serve::run;

use crate::clock::Clock;
use crate::conn::{Conn, Piece, Sent};
use crate::files::{Files, Opened};
use crate::ids::IdMap;
use crate::links::Links;
use crate::mailbox::Item;
use crate::metrics::{HostGauges, Published};
use crate::shared::Shared;

/// While memory for requests is short, a client that says nothing for so long in the middle of a request is closed.
const STALL_MS: u64 = 5_000;

/// What of the configuration concerns connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `socket.request.max.bytes`.
    pub frame_bytes: u32,
    /// This shard's part of `queued.max.request.bytes`.
    pub queued_bytes: usize,
    /// `connections.max.idle.ms`; `None` for no limit.
    pub idle_ms: Option<u64>,
}

/// The host of one shard.
pub struct Host {
    id: ShardId,
    shard: Shard,
    files: Files,
    /// Open files of other shards that answers of theirs have named; kept no longer than a reply may name them, because a file
    /// that is removed keeps its place on the disk as long as somebody has it open.
    foreign: IdMap<FileId, Opened>,
    conns: IdMap<ConnId, Rc<RefCell<Conn>>>,
    next_conn: u64,
    clock: Clock,
    /// When this round began.
    now: Now,
    shared: Arc<Shared>,
    /// The way to the metadata quorum; only shard 0 has one.
    quorum: Option<Sender<ToQuorum>>,
    links: Links,
    limits: Limits,
    /// Bytes of requests, as far as they have arrived, that are not answered.
    queued_bytes: usize,
    /// The one connection whose request may go on arriving while memory is short, so that one can always be finished.
    favoured: Option<ConnId>,
    /// Connections that wait until less is queued.
    starved: Vec<Waker>,
    inbox: VecDeque<Input>,
    effects: Vec<Effect>,
    /// Connections that were answered in this round and are not sent to yet.
    unsent: Vec<Rc<RefCell<Conn>>>,
    /// What other shards will be told at the end of this round, by shard.
    outbound: Vec<Vec<Item>>,
    /// An empty queue to take the mailbox into.
    taken: VecDeque<Item>,
    /// The deadline that the main loop sleeps for.
    armed: Option<Mono>,
    stopping: bool,
    published: Published,
}

impl Host {
    /// A host for `shard`.
    pub fn new(
        id: ShardId,
        shard: Shard,
        files: Files,
        clock: Clock,
        shared: Arc<Shared>,
        quorum: Option<Sender<ToQuorum>>,
        limits: Limits,
    ) -> Host {
        let links = Links::new(shared.mailbox(id).clone());
        let outbound = shared.mailboxes().iter().map(|_| Vec::new()).collect();
        Host {
            id,
            shard,
            files,
            foreign: IdMap::default(),
            conns: IdMap::default(),
            next_conn: 0,
            now: clock.now(),
            clock,
            shared,
            quorum,
            links,
            limits,
            queued_bytes: 0,
            favoured: None,
            starved: Vec::new(),
            inbox: VecDeque::new(),
            effects: Vec::new(),
            unsent: Vec::new(),
            outbound,
            taken: VecDeque::new(),
            armed: None,
            stopping: false,
            published: Published::default(),
        }
    }

    /// Something has happened: what it brings, and what follows, is one round and happens at one time.
    fn begin_round(&mut self) {
        self.now = self.clock.now();
    }

    /// Gives the shard an input, and what follows from it.
    fn input(&mut self, input: Input) {
        self.inbox.push_back(input);
        while let Some(input) = self.inbox.pop_front() {
            let mut effects = std::mem::take(&mut self.effects);
            self.shard.step(self.now, input, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.effects = effects;
        }
        let deadline = self.shard.deadline();
        let sooner = match (deadline, self.armed) {
            (Some(deadline), Some(armed)) => deadline < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if sooner {
            self.armed = deadline;
            self.shared.mailbox(self.id).nudge();
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { conn, frame } => self.reply(conn, frame),
            Effect::Close { conn, reason: _ } => {
                if let Some(conn) = self.conns.get(&conn) {
                    let mut conn = conn.borrow_mut();
                    conn.closing = true;
                    conn.wake();
                }
            }
            Effect::Send(ToPeer::Quorum(news)) => match &self.quorum {
                // The quorum ends after its shards.
                Some(quorum) => _ = quorum.send(news),
                // A broker that is no voter has none.
                None => tracing::debug!(?news, "there is no quorum here"),
            },
            Effect::Send(ToPeer::Call { call, lane, address, frame }) => {
                self.links.call(call, lane, address, frame);
            }
            Effect::Send(ToPeer::HangUp { lane }) => self.links.hang_up(lane),
            Effect::Disk { op, what } => {
                if let Some(done) = self.files.run(op, what) {
                    self.inbox.push_back(Input::DiskDone { op, done });
                }
            }
            Effect::ToShard { to, message } => {
                // The files that an answer names travel with it, open: the log may delete them before the answer is sent.
                let ids: Vec<FileId> = message.files().collect();
                let files = ids.into_iter().filter_map(|id| Some((id, self.shared_file(id).ok()?))).collect();
                self.outbound[usize::from(to.0)].push(Item::Message { from: self.id, message, files });
            }
            Effect::Trace(trace) => self.trace(trace),
        }
    }

    fn reply(&mut self, id: ConnId, frame: Option<Frame>) {
        let Some(answered) = self.conns.get(&id).cloned() else { return };
        let mut conn = answered.borrow_mut();
        let released = conn.unanswered.pop_front().unwrap_or(0);
        self.release(released);
        let Some(frame) = frame else {
            if std::mem::take(&mut conn.held) {
                conn.wake();
            }
            return;
        };
        if conn.out.is_empty() {
            self.unsent.push(answered.clone());
        }
        for segment in frame.segments {
            match self.piece(segment) {
                Ok(piece) => conn.out.push(piece),
                Err(error) => {
                    tracing::error!(%error, conn = id.0, "a response's file cannot be opened");
                    conn.closing = true;
                    return conn.wake();
                }
            }
        }
        conn.out.push(Piece::End);
        conn.answers();
        conn.active_ms = self.now_ms();
    }

    /// Ends a round, which is what one read of a socket or one look into the mailbox has brought: each connection is sent all
    /// its answers at once, and each shard all that it is told.
    fn end_round(&mut self) {
        for (shard, mailbox) in self.outbound.iter_mut().zip(self.shared.mailboxes()) {
            if !shard.is_empty() {
                mailbox.send_all(shard.drain(..));
            }
        }
        for conn in self.unsent.drain(..) {
            let mut conn = conn.borrow_mut();
            let Conn { id, out, stream, held, .. } = &mut *conn;
            match out.flush(stream) {
                Ok(Sent::All) if !std::mem::take(held) => continue,
                Ok(Sent::All | Sent::Full) => {}
                Ok(Sent::Cold(cold)) => self.files.warm(*id, cold),
                Err(_) => conn.closing = true,
            }
            conn.wake();
        }
    }

    fn piece(&mut self, segment: Segment) -> std::io::Result<Piece> {
        Ok(match segment {
            Segment::Bytes(bytes) => Piece::Bytes(bytes),
            Segment::File(range) => Piece::File {
                opened: self.shared_file(FileId(range.file))?,
                position: range.position,
                len: u64::from(range.len),
                warm: 0,
            },
        })
    }

    /// A descriptor of a file of this shard, or one that came with an answer of another shard.
    fn shared_file(&mut self, file: FileId) -> std::io::Result<Opened> {
        match self.foreign.get(&file) {
            Some(open) => Ok(open.clone()),
            None => self.files.opened(file),
        }
    }

    fn release(&mut self, bytes: usize) {
        self.queued_bytes -= bytes.min(self.queued_bytes);
        if !self.is_full() {
            self.starved.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether requests have all the memory that they may take.
    fn is_full(&self) -> bool {
        self.queued_bytes >= self.limits.queued_bytes
    }

    /// Whether a connection may be read from. While memory is short only one may, in the middle of its request.
    fn admits(&mut self, conn: &mut Conn, waker: &Waker) -> bool {
        let favoured = conn.reader.in_frame() && self.favoured.is_none_or(|id| id == conn.id);
        let admitted = !self.is_full() || favoured;
        if self.is_full() && favoured {
            self.favoured = Some(conn.id);
        }
        if !admitted {
            self.starved.push(waker.clone());
            self.shared.metrics.request_memory_waits.inc();
        }
        conn.starved = !admitted;
        admitted
    }

    /// Counts what a connection has brought: whole frames, what they keep beside their own bytes until the last of them is
    /// answered, and its part of one.
    fn count(&mut self, conn: &mut Conn, frames: &VecDeque<Bytes>, kept: usize) {
        let arrived: usize = frames.iter().map(Bytes::len).sum();
        let held = conn.reader.held_bytes();
        self.queued_bytes += arrived + kept + held;
        self.queued_bytes -= std::mem::replace(&mut conn.counted, held).min(self.queued_bytes);
        conn.unanswered.extend(frames.iter().map(Bytes::len));
        if let Some(last) = conn.unanswered.back_mut() {
            *last += kept;
        }
        if !conn.reader.in_frame() {
            self.disfavour(conn.id);
        }
    }

    /// Lets another connection have its turn while memory is short.
    fn disfavour(&mut self, id: ConnId) {
        if self.favoured.take_if(|favoured| *favoured == id).is_some() {
            self.starved.drain(..).for_each(Waker::wake);
        }
    }

    fn now_ms(&self) -> u64 {
        self.now.mono.0 / 1_000_000
    }

    fn trace(&mut self, trace: Trace) {
        match trace {
            Trace::Ready { cluster_id } => self.shared.ready(cluster_id),
            Trace::Serving => self.shared.serve(),
            Trace::Left => self.shared.leave(),
            Trace::Stopped => {
                if self.id == ShardId(0) {
                    self.shared.stops_at(self.shard.broker_epoch());
                }
                self.shared.stopped(self.id);
            }
            Trace::Failed { why } => {
                tracing::error!(why, "the node stops");
                self.shared.fail(why);
            }
            Trace::Offline { path, why } => {
                self.shared.take_offline(path.dir);
                tracing::error!(%path, why, "taken out of service: mend the disk and restart the node");
            }
            Trace::BadClient { conn, what } => {
                self.shared.metrics.connections_bad.inc();
                let address = self.conns.get(&conn).map(|conn| conn.borrow().address.to_string());
                tracing::warn!(address, what, "connection closed");
            }
            Trace::Warning(text) => tracing::warn!("{text}"),
            Trace::Info(text) => tracing::info!("{text}"),
        }
    }

    /// A client has connected.
    fn accept(&mut self, stream: TcpStream, address: IpAddr, listener: u16) -> Rc<RefCell<Conn>> {
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        let conn = Conn::new(id, stream, address, self.limits.frame_bytes, self.now_ms());
        let conn = Rc::new(RefCell::new(conn));
        self.conns.insert(id, conn.clone());
        self.input(Input::Accepted { conn: id, address, listener });
        conn
    }

    fn forget(&mut self, conn: &Conn) {
        conn.part();
        if self.conns.remove(&conn.id).is_some() {
            let bytes = conn.unanswered.iter().sum::<usize>() + conn.counted;
            self.release(bytes);
            self.disfavour(conn.id);
            self.shared.disconnected(conn.address);
            self.input(Input::Closed { conn: conn.id });
        }
    }

    /// Publishes metrics, closes connections that were silent for too long, and lets go of files of other shards.
    fn sweep(&mut self) {
        let now_ms = self.now_ms();
        let gauges = HostGauges {
            connections: self.conns.len(),
            open_files: self.files.open_count(),
            request_memory_bytes: self.queued_bytes,
        };
        self.shared.metrics.publish(&mut self.published, self.shard.metrics(), gauges);
        if !self.foreign.is_empty() {
            let named: BTreeSet<FileId> = self.shard.named_files().collect();
            self.foreign.retain(|file, _| named.contains(file));
        }
        if self.is_full() && !self.starved.is_empty() {
            self.close_stalled(now_ms);
        }
        let Some(idle_ms) = self.limits.idle_ms else { return };
        for conn in self.conns.values() {
            let mut conn = conn.borrow_mut();
            if conn.unanswered.is_empty() && now_ms.saturating_sub(conn.active_ms) > idle_ms {
                conn.abandoned = true;
                self.shared.metrics.connections_idle.inc();
                conn.wake();
            }
        }
    }

    /// Closes clients that hold memory for half a request and do not go on, while others wait for it.
    fn close_stalled(&self, now_ms: u64) {
        for conn in self.conns.values() {
            let mut conn = conn.borrow_mut();
            if conn.counted > 0 && !conn.starved && now_ms.saturating_sub(conn.active_ms) > STALL_MS {
                conn.abandoned = true;
                let (address, bytes) = (conn.address, conn.counted);
                tracing::warn!(%address, bytes, "connection closed: half a request while memory is short (queued.max.request.bytes)");
                conn.wake();
            }
        }
    }

    fn item(&mut self, item: Item) -> Option<Rc<RefCell<Conn>>> {
        match item {
            Item::Input(input) => self.input(input),
            Item::Message { from, message, files } => {
                self.foreign.extend(files);
                self.input(Input::FromShard { from, message });
            }
            Item::Connection { stream, address, listener } => match TcpStream::from_std(stream) {
                Ok(stream) => return Some(self.accept(stream, address, listener)),
                Err(error) => tracing::warn!(%error, "a connection was lost"),
            },
            Item::Warmed(id) => {
                if let Some(conn) = self.conns.get(&id) {
                    let mut conn = conn.borrow_mut();
                    conn.out.warmed();
                    conn.wake();
                }
            }
            Item::Leave => self.ask(Shard::leave),
            Item::Stop => {
                self.stopping = true;
                self.conns.values().for_each(|conn| conn.borrow().wake());
                self.ask(Shard::stop);
            }
        }
        None
    }

    /// Asks the shard for something that is no input.
    fn ask(&mut self, what: fn(&mut Shard, Now, &mut Vec<Effect>)) {
        let mut effects = std::mem::take(&mut self.effects);
        what(&mut self.shard, self.now, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
        self.input(Input::Tick);
    }
}
