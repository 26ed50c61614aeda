//! The narrow waist between the broker and its host: everything that happens to a shard is an [`Input`], everything it
//! wants done is an [`Effect`]. `node` and `sim` implement exactly these; nothing else crosses.
//!
//! Ordering: a host carries out the effects of one step in order. Every [`Input::Frame`] is answered by exactly one
//! [`Effect::Reply`] (an empty one when the request has no response) or by [`Effect::Close`]; replies of one connection come
//! in the order of its frames. A message that must wait for durability is not emitted before the completion came back.

use std::net::IpAddr;

use bytes::Bytes;
use moldau_base::NodeId;
use moldau_base::disk::{Done, Op, OpId, Path};
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
    /// News from the metadata quorum or, later, from another node.
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
    /// Ask the metadata quorum or, later, another node.
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

/// What the metadata quorum tells shard 0.
#[derive(Debug)]
pub enum FromPeer {
    /// The metadata log begins with this state; comes once, before the first `Committed`, when there is a snapshot.
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
    /// Who leads the metadata quorum; everything committed by earlier leaders has been told before.
    Leader {
        /// The active controller, if one is known.
        node: Option<NodeId>,
        /// Its epoch.
        epoch: i32,
    },
}

/// What shard 0 asks of the metadata quorum.
#[derive(Debug)]
pub enum ToPeer {
    /// Append these records to the metadata log as one atomic entry.
    Propose {
        /// Names the proposal; unique while the host runs.
        proposal: u64,
        /// The records, each in the metadata frame.
        records: Vec<Bytes>,
    },
}

/// What a host writes to its log, or shows to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Shard 0: the broker is registered and its image is current; clients can be served.
    Ready {
        /// The cluster it belongs to.
        cluster_id: String,
    },
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
