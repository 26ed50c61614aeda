//! The connections of a shard: which frames wait, which requests run, and in what order their responses leave.
//!
//! Kafka reads the next request of a connection when the last one is answered. So do we, with one exception: produce requests behind
//! produce requests run together, so that a pipelining producer does not wait for replication once per request. Responses always
//! leave in the order of the requests.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{Mono, NodeId};
use moldau_wire::{ApiKey, Frame};

use crate::waist::{ConnId, Effect};

/// A request that is being worked on. It is given up exactly once, to [`crate::Shard::reply`] and its like, and cannot be copied:
/// a request is answered once.
#[derive(Debug)]
pub struct Context {
    /// The connection.
    pub conn: ConnId,
    /// The request's place on its connection.
    pub(crate) sequence: u64,
    /// To be sent back.
    pub correlation: i32,
    /// Which API.
    pub api: ApiKey,
    /// Which version of it.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<ByteString>,
    /// Where the client is.
    pub address: IpAddr,
    /// The listener it came through, by place.
    pub listener: u16,
    /// The request came inside of another node's; the answer goes back inside of the answer to that.
    pub(crate) envelope: Option<Envelope>,
    /// What another controller would be asked.
    pub(crate) carriage: Option<Carriage>,
}

/// A request for the active controller, which another one may have to be asked.
#[derive(Clone, Debug)]
pub struct Carriage {
    /// Header and body.
    pub(crate) frame: Bytes,
    /// When it came.
    pub(crate) since: Mono,
    /// How many controllers have resigned before they decided it.
    pub(crate) resigned: u32,
}

/// A request that carries another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) correlation: i32,
    pub(crate) version: i16,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Where the client is.
    pub address: IpAddr,
    /// The listener it came through, by place.
    pub listener: u16,
    /// The node that speaks here.
    peer: Option<NodeId>,
    next_sequence: u64,
    /// Requests that run or are answered out of turn: API and, when it is known, the response.
    running: VecDeque<Running>,
    /// Frames that wait for the requests before them. The host bounds them by reading no further.
    waiting: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Running {
    sequence: u64,
    pipelined: bool,
    /// The outer option: is it answered? The inner: is there a response to send?
    response: Option<Option<Frame>>,
}

/// All connections of a shard.
#[derive(Debug, Default)]
pub struct Connections {
    open: BTreeMap<ConnId, Connection>,
}

impl Connections {
    /// A client has connected.
    pub fn accept(&mut self, conn: ConnId, address: IpAddr, listener: u16) {
        let connection = Connection {
            address,
            listener,
            peer: None,
            next_sequence: 0,
            running: VecDeque::new(),
            waiting: VecDeque::new(),
        };
        let before = self.open.insert(conn, connection);
        assert!(before.is_none(), "connection ids are never used twice");
    }

    /// The connection is gone, with everything that waited on it. Tells which node spoke there.
    pub fn remove(&mut self, conn: ConnId) -> Option<NodeId> {
        self.open.remove(&conn)?.peer
    }

    /// It is this node that speaks here.
    pub fn is_of(&mut self, conn: ConnId, node: NodeId) {
        if let Some(connection) = self.open.get_mut(&conn) {
            connection.peer = Some(node);
        }
    }

    /// The connection, while it is open.
    pub fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.open.get(&conn)
    }

    /// Number of open connections.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether a node of the cluster asks for something more here while a request of it is not answered.
    pub fn is_pressed(&self, conn: ConnId) -> bool {
        let pressed = |connection: &Connection| {
            connection.peer.is_some() && !connection.waiting.is_empty() && !connection.running.is_empty()
        };
        self.open.get(&conn).is_some_and(pressed)
    }

    /// Whether one request of this connection is in work, and nothing waits behind it.
    pub fn is_alone(&self, conn: ConnId) -> bool {
        let alone = |connection: &Connection| connection.running.len() == 1 && connection.waiting.is_empty();
        self.open.get(&conn).is_some_and(alone)
    }

    /// A frame has arrived.
    pub fn push(&mut self, conn: ConnId, frame: Bytes) {
        if let Some(connection) = self.open.get_mut(&conn) {
            connection.waiting.push_back(frame);
        }
    }

    /// The next frame whose turn it is, with its place on the connection.
    pub fn next_frame(&mut self, conn: ConnId) -> Option<(u64, Bytes)> {
        let connection = self.open.get_mut(&conn)?;
        let pipelined = is_produce(connection.waiting.front()?);
        let free = connection.running.iter().all(|request| request.pipelined && pipelined);
        if !free {
            return None;
        }
        let frame = connection.waiting.pop_front()?;
        let sequence = connection.next_sequence;
        connection.next_sequence += 1;
        connection.running.push_back(Running { sequence, pipelined, response: None });
        Some((sequence, frame))
    }

    /// The request at `sequence` is answered; sends what may leave in order. True if the connection may take another frame.
    pub fn answer(
        &mut self,
        conn: ConnId,
        sequence: u64,
        response: Option<Frame>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(connection) = self.open.get_mut(&conn) else { return false };
        let Some(request) = connection.running.iter_mut().find(|request| request.sequence == sequence) else {
            return false;
        };
        assert!(request.response.is_none(), "a request is answered once");
        request.response = Some(response);
        while let Some(Running { response: Some(_), .. }) = connection.running.front() {
            let frame = connection.running.pop_front().and_then(|request| request.response).flatten();
            effects.push(Effect::Reply { conn, frame });
        }
        !connection.waiting.is_empty()
    }
}

/// Produce is API key 0 and stands in the first two bytes of the header.
fn is_produce(frame: &Bytes) -> bool {
    frame.starts_with(&[0, 0])
}
