//! The network model: connections of two pipes each, in which bytes keep their order and take their time. A reset loses what
//! is under way; a peer that vanishes leaves the other side waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use moldau_base::{Mono, Rng};

use crate::disk::Handle;

/// A connection, by its number in the run; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub u64);

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// That of whoever made it: a client, or a node that calls another one.
    Client,
    /// The broker's.
    Broker,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Client => Side::Broker,
            Side::Broker => Side::Client,
        }
    }
}

/// What arrives at one end.
#[derive(Debug)]
pub enum Arrival {
    /// At the broker: a client connects. At the client: the connection is made.
    Open,
    /// Bytes.
    Bytes(Bytes),
    /// Bytes of which some are still in files: they are read when they arrive, as a `sendfile` under way would.
    Late(Vec<Piece>),
    /// A file was cut while it was sent, and is shorter than what was promised of it: the sender resets the connection.
    Short,
    /// The other side has closed, or the connection was reset.
    Closed,
    /// Nobody listens there.
    Refused,
}

/// A piece of a frame on its way.
#[derive(Debug)]
pub enum Piece {
    /// In memory.
    Bytes(Bytes),
    /// In a file.
    File(Handle, u64, u32),
}

/// The bytes of all pieces, as they are at this moment, or that a file is too short.
pub(crate) fn gather(pieces: &[Piece]) -> Arrival {
    let mut all = BytesMut::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => all.extend_from_slice(bytes),
            Piece::File(file, position, len) => {
                let there = file.read(*position, *len as usize);
                if there.len() < *len as usize {
                    return Arrival::Short;
                }
                all.extend_from_slice(&there);
            }
        }
    }
    Arrival::Bytes(all.freeze())
}

#[derive(Debug, Default)]
struct Pipe {
    under_way: VecDeque<Arrival>,
    last_due: Mono,
}

/// Where an end of a connection is: at a node, by its place, or among the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Somewhere else.
    Clients,
    /// At this node.
    Node(usize),
}

/// Nothing passes this way for a while. What is sent meanwhile is sent again until it does.
#[derive(Clone, Copy, Debug)]
struct Cut {
    from: Spot,
    to: Spot,
    until: Mono,
}

#[derive(Debug)]
struct Pair {
    client: Spot,
    broker: Spot,
    /// At which of the node's listeners, by its place.
    listener: u16,
    to_client: Pipe,
    to_broker: Pipe,
    client_open: bool,
    broker_open: bool,
}

/// How slow the network of a run is.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Nanoseconds that every message takes at least.
    pub least: u64,
    /// Nanoseconds more that a message may take.
    pub jitter: u64,
    /// One message in this many takes a hundred times the jitter.
    pub slow_one_in: u64,
}

impl Speed {
    /// Nanoseconds that a message takes at most.
    pub(crate) fn slowest(&self) -> u64 {
        self.least + if self.slow_one_in > 0 { self.jitter * 100 } else { self.jitter }
    }
}

/// All connections of a run.
#[derive(Debug)]
pub(crate) struct Net {
    links: BTreeMap<Link, Pair>,
    cuts: Vec<Cut>,
    rng: Rng,
    speed: Speed,
}

impl Net {
    pub(crate) fn new(rng: Rng, speed: Speed) -> Net {
        Net { links: BTreeMap::new(), cuts: Vec::new(), rng, speed }
    }

    fn delay(&mut self) -> u64 {
        let jitter = self.rng.below(self.speed.jitter.max(1));
        let slow = self.speed.slow_one_in > 0 && self.rng.chance(1, self.speed.slow_one_in);
        self.speed.least + if slow { jitter * 100 } else { jitter }
    }

    /// Nothing passes from one spot to another until then.
    pub(crate) fn cut(&mut self, from: Spot, to: Spot, until: Mono) {
        self.cuts.push(Cut { from, to, until });
    }

    /// Whether nothing passes from one spot to another now.
    pub(crate) fn is_cut(&self, now: Mono, from: Spot, to: Spot) -> bool {
        self.cuts.iter().any(|cut| cut.from == from && cut.to == to && cut.until > now)
    }

    /// When those cuts end that hold back what is sent from this spot.
    pub(crate) fn cuts_from(&self, now: Mono, from: Spot) -> BTreeSet<Mono> {
        let cuts = self.cuts.iter().filter(|cut| cut.from == from && cut.until > now);
        cuts.map(|cut| cut.until).collect()
    }

    /// No cut lasts longer than this.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// When what is sent now would begin to travel.
    fn leaves(&mut self, now: Mono, from: Spot, to: Spot) -> Mono {
        self.cuts.retain(|cut| cut.until > now);
        let cuts = self.cuts.iter().filter(|cut| cut.from == from && cut.to == to);
        cuts.map(|cut| cut.until).max().unwrap_or(now)
    }

    /// A new connection; nothing is under way on it yet.
    pub(crate) fn open(&mut self, link: Link, client: Spot, broker: Spot, listener: u16) {
        let pair = Pair {
            client,
            broker,
            listener,
            to_client: Pipe::default(),
            to_broker: Pipe::default(),
            client_open: true,
            broker_open: true,
        };
        self.links.insert(link, pair);
    }

    /// Puts something on the way to `to`; tells when it arrives, or nothing if that side is gone.
    pub(crate) fn send(&mut self, now: Mono, link: Link, to: Side, what: Arrival) -> Option<Mono> {
        let delay = self.delay();
        let pair = self.links.get(&link)?;
        let (sender, receiver) = match to {
            Side::Client => (pair.broker, pair.client),
            Side::Broker => (pair.client, pair.broker),
        };
        let leaves = self.leaves(now, sender, receiver);
        let pair = self.links.get_mut(&link)?;
        let (pipe, open) = match to {
            Side::Client => (&mut pair.to_client, pair.client_open),
            Side::Broker => (&mut pair.to_broker, pair.broker_open),
        };
        if !open {
            return None;
        }
        pipe.last_due = pipe.last_due.max(Mono(leaves.0 + delay));
        pipe.under_way.push_back(what);
        Some(pipe.last_due)
    }

    /// The client reads nothing before `until`: what is sent to it from here on arrives then.
    pub(crate) fn stall(&mut self, until: Mono, link: Link) {
        if let Some(pair) = self.links.get_mut(&link) {
            pair.to_client.last_due = pair.to_client.last_due.max(until);
        }
    }

    /// As [`Net::send`], in one piece or several; tells when each arrives.
    pub(crate) fn send_bytes(&mut self, now: Mono, link: Link, to: Side, mut bytes: Bytes) -> Vec<Mono> {
        let mut due = Vec::new();
        while bytes.len() > 1 && self.rng.chance(1, 16) {
            let piece = bytes.split_to(1 + self.rng.below(bytes.len() as u64 - 1) as usize);
            due.extend(self.send(now, link, to, Arrival::Bytes(piece)));
        }
        due.extend(self.send(now, link, to, Arrival::Bytes(bytes)));
        due
    }

    /// What has arrived at one end; nothing if a reset took it.
    pub(crate) fn arrive(&mut self, link: Link, at: Side) -> Option<Arrival> {
        let pair = self.links.get_mut(&link)?;
        let arrival = match at {
            Side::Client => pair.to_client.under_way.pop_front(),
            Side::Broker => pair.to_broker.under_way.pop_front(),
        };
        if matches!(arrival, Some(Arrival::Closed | Arrival::Refused)) {
            self.shut(link, at);
        }
        arrival.map(|arrival| match arrival {
            Arrival::Late(pieces) => gather(&pieces),
            other => other,
        })
    }

    /// The files of this node are about to change under its feet: what is under way is read from them before that.
    pub(crate) fn read_late(&mut self, broker: Spot) {
        let pairs = self.links.values_mut().filter(|pair| pair.broker == broker);
        let pipes = pairs.map(|pair| &mut pair.to_client);
        for arrival in pipes.flat_map(|pipe| &mut pipe.under_way) {
            if let Arrival::Late(pieces) = arrival {
                *arrival = gather(pieces);
            }
        }
    }

    /// What is on its way from this node to clients is lost.
    pub(crate) fn lose_answers(&mut self, broker: Spot) {
        let pairs = self.links.values_mut().filter(|pair| pair.broker == broker);
        let is_answer =
            |what: &Arrival| matches!(what, Arrival::Bytes(_) | Arrival::Late(_) | Arrival::Short);
        pairs.for_each(|pair| pair.to_client.under_way.retain(|what| !is_answer(what)));
    }

    /// One end is closed: it gets nothing more. Both closed, the connection is forgotten.
    pub(crate) fn shut(&mut self, link: Link, at: Side) {
        let Some(pair) = self.links.get_mut(&link) else { return };
        match at {
            Side::Client => (pair.client_open, pair.to_client.under_way) = (false, VecDeque::new()),
            Side::Broker => (pair.broker_open, pair.to_broker.under_way) = (false, VecDeque::new()),
        }
        if !pair.client_open && !pair.broker_open {
            self.links.remove(&link);
        }
    }

    /// One end closes in good order: what it sent before still arrives.
    pub(crate) fn close(&mut self, now: Mono, link: Link, by: Side) -> Option<Mono> {
        let due = self.send(now, link, by.other(), Arrival::Closed);
        self.shut(link, by);
        due
    }

    /// The connection is reset: what is under way is lost, and both ends that are still there learn it.
    pub(crate) fn reset(&mut self, now: Mono, link: Link) -> Vec<(Side, Mono)> {
        let Some(pair) = self.links.get_mut(&link) else { return Vec::new() };
        pair.to_client.under_way.clear();
        pair.to_broker.under_way.clear();
        let told = |net: &mut Net, side| Some((side, net.send(now, link, side, Arrival::Closed)?));
        [Side::Client, Side::Broker].into_iter().filter_map(|side| told(self, side)).collect()
    }

    /// Which of the node's listeners it was made to.
    pub(crate) fn listener(&self, link: Link) -> u16 {
        self.links.get(&link).map_or(0, |pair| pair.listener)
    }

    /// Where an end of a connection is.
    pub(crate) fn spot(&self, link: Link, side: Side) -> Option<Spot> {
        let pair = self.links.get(&link)?;
        Some(match side {
            Side::Client => pair.client,
            Side::Broker => pair.broker,
        })
    }

    /// Every connection that is not forgotten.
    pub(crate) fn links(&self) -> Vec<Link> {
        self.links.keys().copied().collect()
    }
}

/// Puts frames together from the pieces that arrive.
#[derive(Debug, Default)]
pub(crate) struct Assembler(BytesMut);

impl Assembler {
    /// Adds a piece and takes the whole frames, without their lengths.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<Vec<Bytes>, moldau_wire::FrameError> {
        self.0.extend_from_slice(piece);
        let mut frames = Vec::new();
        while let Some(frame) = moldau_wire::frame::split(&mut self.0, 64 << 20)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}
