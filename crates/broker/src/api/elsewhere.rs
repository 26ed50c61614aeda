//! Where a client should go instead (KIP-951): the leader of a partition that is not led here, with its address, so that nobody has to
//! ask for metadata and wait.
//!
//! It is told only when this node's metadata is of one piece: another node leads, is there, and has a listener of the name that the
//! client came through.

use bytestring::ByteString;
use moldau_base::{LeaderEpoch, NodeId, TopicPartition};

use super::text;
use crate::Shard;

/// How a client reaches a node.
pub(crate) struct Endpoint {
    pub(crate) host: ByteString,
    pub(crate) port: i32,
    pub(crate) rack: Option<ByteString>,
}

/// Who leads this partition, if it is another node that can be reached through a listener like this one.
pub(crate) fn leader(shard: &Shard, id: TopicPartition, listener: u16) -> Option<(NodeId, LeaderEpoch)> {
    let partition = shard.cluster.image.partition(id)?;
    let leader = partition.leader().filter(|leader| *leader != shard.settings.node_id)?;
    let reachable =
        !crate::suspects::is_suspect(shard, leader) && endpoint(shard, leader, listener).is_some();
    reachable.then_some((leader, partition.leader_epoch))
}

/// Where clients of this listener reach a node.
pub(crate) fn endpoint(shard: &Shard, node: NodeId, listener: u16) -> Option<Endpoint> {
    let name = &shard.settings.listeners.get(usize::from(listener))?.name;
    let broker = shard.cluster.image.broker(node).filter(|broker| broker.is_active())?;
    let listener = broker.listener(name)?;
    let rack = broker.rack.as_deref().map(text);
    Some(Endpoint { host: text(&listener.host), port: i32::from(listener.port), rack })
}
