//! What only a leader knows: its epoch, who is in sync, how far each follower is.

use std::collections::BTreeMap;

use moldau_base::{LeaderEpoch, NodeId, PartitionEpoch};

/// The controller's decision that this node leads, from its committed metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Counts leaders.
    pub epoch: LeaderEpoch,
    /// Counts changes of the partition's record.
    pub partition_epoch: PartitionEpoch,
    /// All replicas, this node among them.
    pub replicas: Box<[NodeId]>,
    /// Those in sync, this node among them.
    pub isr: Box<[NodeId]>,
    /// `min.insync.replicas` of the topic.
    pub min_isr: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) state: Leadership,
    /// End of the log when the epoch began.
    pub(crate) epoch_start: i64,
    /// End offsets of the followers that were heard of in this epoch.
    followers: BTreeMap<NodeId, i64>,
}

impl Leader {
    pub(crate) fn new(state: Leadership, epoch_start: i64) -> Leader {
        Leader { state, epoch_start, followers: BTreeMap::new() }
    }

    /// Takes a newer record of the same epoch; false for an older one.
    pub(crate) fn update(&mut self, state: Leadership) -> bool {
        let newer = state.partition_epoch >= self.state.partition_epoch;
        if newer {
            self.followers.retain(|node, _| state.replicas.contains(node));
            self.state = state;
        }
        newer
    }

    /// Notes a follower's progress. It may go back: a follower that lost its disk starts again.
    pub(crate) fn follower_stored(&mut self, node: NodeId, end_offset: i64) {
        if self.state.replicas.contains(&node) {
            self.followers.insert(node, end_offset);
        }
    }

    /// The smallest end among the in-sync replicas, of which `own` is this node's. `None` while one of them is yet to be heard of.
    pub(crate) fn replicated(&self, me: NodeId, own: i64) -> Option<i64> {
        let others = self.state.isr.iter().filter(|&&node| node != me);
        others.map(|node| self.followers.get(node).copied()).try_fold(own, |least, end| Some(least.min(end?)))
    }

    /// True when an `acks=all` write would be held by as many replicas as the topic asks for, or by all there are.
    pub(crate) fn has_min_isr(&self) -> bool {
        self.state.isr.len() >= self.state.min_isr.min(self.state.replicas.len())
    }
}
