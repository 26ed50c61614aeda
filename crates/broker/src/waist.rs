//! The narrow waist between the broker and its host: everything that happens to a shard is an [`Input`], everything it
//! wants done is an [`Effect`]. `node` and `sim` implement exactly these; nothing else crosses.
//!
//! Ordering: a host carries out the effects of one step in order. Every [`Input::Frame`] is answered by exactly one
//! [`Effect::Reply`] (an empty one when the request has no response) or by [`Effect::Close`]; replies of one connection come
//! in the order of its frames. A message that must wait for durability is not emitted before the completion came back.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::NodeId;
use moldau_base::disk::{Done, Op, OpId, Path};
use moldau_base::voter::{QuorumState, VoterChange, VoterRefusal, Voters};
use moldau_quorum::{Pull, Pulled};
use moldau_wire::Frame;

use crate::message::Message;

/// A shard of this node, 0 to M - 1. Shard 0 also holds the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A connection of one shard; never used twice while the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What happens to a shard.
#[derive(Debug)]
pub enum Input {
    /// A client has connected.
    Accepted {
        /// Its connection.
        conn: ConnId,
        /// Where it comes from.
        address: IpAddr,
        /// Which of the node's listeners it reached, by its place in the configuration.
        listener: u16,
    },
    /// A whole request has arrived, without its length prefix.
    Frame {
        /// On this connection.
        conn: ConnId,
        /// Request header and body.
        bytes: Bytes,
    },
    /// The connection is gone; nothing more is sent to it.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// News from the metadata quorum, or what became of a call to another node.
    Peer(FromPeer),
    /// A disk operation has finished.
    DiskDone {
        /// Which.
        op: OpId,
        /// How.
        done: Done,
    },
    /// A message of another shard of this node; messages of one shard arrive in the order they were sent.
    FromShard {
        /// The sender.
        from: ShardId,
        /// What it says.
        message: Box<Message>,
    },
    /// The moment of [`crate::Shard::deadline`] has come, or the host saw fit.
    Tick,
}

/// What a shard wants done.
#[derive(Debug)]
pub enum Effect {
    /// The answer to the oldest unanswered frame of `conn`. Empty when the request has no response: the host then only
    /// releases the request's memory.
    Reply {
        /// To this connection.
        conn: ConnId,
        /// Length prefix, header and body, as segments; `None` when nothing is sent.
        frame: Option<Frame>,
    },
    /// Close the connection once what was replied before is sent.
    Close {
        /// Which.
        conn: ConnId,
        /// For the log.
        reason: String,
    },
    /// Ask the metadata quorum or another node.
    Send(ToPeer),
    /// Do this on disk; its end comes back as [`Input::DiskDone`].
    Disk {
        /// Names the operation.
        op: OpId,
        /// What to do.
        what: Op,
    },
    /// Tell another shard.
    ToShard {
        /// The receiver.
        to: ShardId,
        /// What to tell.
        message: Box<Message>,
    },
    /// Something worth a log line or a metric.
    Trace(Trace),
}

/// What comes from beyond the node's shards.
#[derive(Debug)]
pub enum FromPeer {
    /// The metadata quorum tells shard 0.
    Quorum(FromQuorum),
    /// Another node has answered a [`ToPeer::Call`] of this shard.
    Answer {
        /// Which call.
        call: u64,
        /// Response header and body, without the length.
        frame: Bytes,
    },
    /// There will be no answer to a [`ToPeer::Call`] of this shard.
    NoAnswer {
        /// Which call.
        call: u64,
        /// Why.
        why: NoAnswer,
    },
}

/// Why another node does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoAnswer {
    /// Nobody listens at its address: its process is gone.
    Refused,
    /// The connection ended before the answer came; the call may have been carried out.
    Broken,
    /// The node could not be reached, which says nothing about its process.
    Unreachable,
    /// The caller waited long enough.
    Late,
}

/// What a shard sends beyond the node's shards.
#[derive(Debug)]
pub enum ToPeer {
    /// Shard 0 tells the metadata quorum.
    Quorum(ToQuorum),
    /// Send a request to another node; calls of one lane travel on one connection, in order. It is opened when it is needed.
    Call {
        /// Names the call; unique in the shard while the host runs.
        call: u64,
        /// Over which connection.
        lane: Lane,
        /// Where the node listens. A lane whose address changes is opened anew.
        address: Address,
        /// The request.
        frame: Frame,
    },
    /// Close the connection of this lane. Calls that wait on it are not answered any more.
    HangUp {
        /// Which.
        lane: Lane,
    },
}

/// A connection of a shard to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    /// The node.
    pub node: NodeId,
    /// What it is used for, so that a large transfer does not stand before a sign of life.
    pub purpose: Purpose,
}

/// What a connection between nodes is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// What voters of the metadata quorum say to each other.
    Voter,
    /// A broker's requests to the active controller.
    Controller,
    /// A broker's signs of life to the active controller.
    Liveness,
    /// Whether a node is there at all.
    Probe,
    /// Replication.
    Fetch,
    /// What clients sent to a partition that has moved there.
    Carry,
    /// A broker that is no voter reads the metadata log.
    Metadata,
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// What the metadata quorum tells shard 0.
#[derive(Debug)]
pub enum FromQuorum {
    /// The metadata log begins with this state; comes before the first `Committed`, when there is a snapshot, and again when another
    /// voter has sent one.
    Snapshot {
        /// Metadata up to and including this offset.
        offset: i64,
        /// Its records.
        records: Vec<Bytes>,
    },
    /// These records are committed, in order, without gaps.
    Committed {
        /// Offset of the first record.
        offset: i64,
        /// Offset behind the last one; records of the quorum itself take offsets too and are not told.
        next_offset: i64,
        /// Epoch of the leader that wrote them.
        epoch: i32,
        /// The records, each in the metadata frame.
        records: Vec<Bytes>,
    },
    /// A proposal is committed; its records have been told before.
    Accepted {
        /// Which.
        proposal: u64,
        /// Offset of its first record.
        offset: i64,
    },
    /// A proposal was not accepted, or it is not known whether it was.
    Refused {
        /// Which.
        proposal: u64,
        /// Why.
        reason: String,
        /// It will never be committed; otherwise nobody knows.
        certain: bool,
    },
    /// A proposal was not accepted and never will be: this node does not lead.
    NotLeader {
        /// Which.
        proposal: u64,
    },
    /// A proposal was not accepted and never will be: the disk of the metadata log is full.
    NoRoom {
        /// Which.
        proposal: u64,
        /// Why.
        reason: String,
    },
    /// Who leads the metadata quorum; a node that leads has been told everything that was committed by earlier leaders.
    Leader {
        /// The active controller, if one is known.
        node: Option<NodeId>,
        /// Its epoch.
        epoch: i32,
    },
    /// Carry this to another voter; its answer goes back as [`ToQuorum::Answered`].
    Call {
        /// Names the call.
        call: u64,
        /// The voter.
        to: NodeId,
        /// What is asked.
        message: Bytes,
    },
    /// The answer to a [`ToQuorum::Called`].
    Answer {
        /// Which.
        token: u64,
        /// What is answered.
        message: Bytes,
    },
    /// The answer to a [`ToQuorum::Pull`].
    Pulled {
        /// Which.
        token: u64,
        /// What the observer is told.
        pulled: Pulled,
    },
    /// The answer to a [`ToQuorum::Describe`].
    State {
        /// Which.
        token: u64,
        /// The quorum, if this node leads it.
        state: Option<QuorumState>,
    },
    /// The outcome of a [`ToQuorum::Change`].
    Changed {
        /// Which.
        token: u64,
        /// The change is committed, or why not.
        result: Result<(), VoterRefusal>,
    },
    /// Who votes from here on.
    Voters(Voters),
    /// The voters that do not answer.
    Silent(Vec<NodeId>),
}

/// What shard 0 tells the metadata quorum.
#[derive(Debug)]
pub enum ToQuorum {
    /// Append these records to the metadata log as one atomic entry.
    Propose {
        /// Names the proposal; unique while the host runs.
        proposal: u64,
        /// The records, each in the metadata frame.
        records: Vec<Bytes>,
    },
    /// Another voter asks.
    Called {
        /// Names its call.
        token: u64,
        /// The voter.
        from: NodeId,
        /// What it asks.
        message: Bytes,
    },
    /// The answer to a [`FromQuorum::Call`]; `None` when there is none.
    Answered {
        /// Which.
        call: u64,
        /// What is answered.
        message: Option<Bytes>,
    },
    /// An observer of the quorum asks.
    Pull {
        /// Names the question.
        token: u64,
        /// What it asks.
        pull: Pull,
    },
    /// How far is each voter?
    Describe {
        /// Names the question, among the tokens of [`ToQuorum::Called`].
        token: u64,
    },
    /// Change who votes.
    Change {
        /// Names the change, among the tokens of [`ToQuorum::Called`].
        token: u64,
        /// What to change.
        change: VoterChange,
    },
    /// The process of this node is gone beyond doubt.
    Lost(NodeId),
    /// This node stops: another should lead.
    HandOver(NodeId),
}

/// What a host writes to its log, or shows to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Shard 0: the broker is registered and its image is current; connections of clients and of other brokers can be taken.
    Ready {
        /// The cluster it belongs to.
        cluster_id: String,
    },
    /// Shard 0, after `Ready`: the controller counts on this broker, which may be given replicas and leadership from now on.
    Serving,
    /// Shard 0: others lead what this node led, after [`crate::Shard::leave`], or nobody can; it may be stopped.
    Left,
    /// The shard has flushed everything after [`crate::Shard::stop`]; shard 0 has also written all checkpoints.
    Stopped,
    /// Shard 0: the broker can never serve clients, and the node has to end.
    Failed {
        /// Why.
        why: String,
    },
    /// A log directory or a partition had to be taken out of service.
    Offline {
        /// The directory or partition directory.
        path: Path,
        /// Why.
        why: String,
    },
    /// A client did something that was refused by closing its connection.
    BadClient {
        /// Which connection.
        conn: ConnId,
        /// What was wrong.
        what: String,
    },
    /// Anything else an operator should read.
    Warning(String),
    /// Something normal that is worth a line.
    Info(String),
}
