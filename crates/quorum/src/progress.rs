//! What a voter hears of the others: whether they answer, and, while it leads, how far they are and in which directory.

use std::collections::{BTreeMap, BTreeSet};

use moldau_base::voter::{QuorumState, ReplicaState};
use moldau_base::{NodeId, Uuid};

use crate::store::Shared;
use crate::types::{Membership, Voter};

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    end_offset: i64,
    at_ms: i64,
    caught_up_ms: i64,
    directory: Uuid,
}

impl Default for Heard {
    fn default() -> Heard {
        Heard { end_offset: -1, at_ms: -1, caught_up_ms: -1, directory: Uuid::ZERO }
    }
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Since this node leads.
    followers: BTreeMap<NodeId, Heard>,
    /// Those that did not answer what they were asked last.
    silent: BTreeSet<NodeId>,
}

impl Progress {
    /// The node has appended what was sent to it at `sent_ms`, up to this offset, when the leader's log ended at `leader_end`.
    pub(crate) fn appended(&mut self, node: NodeId, end_offset: Option<i64>, leader_end: i64, sent_ms: i64) {
        let heard = self.followers.entry(node).or_default();
        heard.at_ms = heard.at_ms.max(sent_ms);
        // A heartbeat names an older entry than what is on its way beside it.
        heard.end_offset = heard.end_offset.max(end_offset.unwrap_or(-1));
        if heard.end_offset >= leader_end {
            heard.caught_up_ms = heard.caught_up_ms.max(sent_ms);
        }
    }

    /// The node lacks what it was thought to have.
    pub(crate) fn lacks(&mut self, node: NodeId, sent_ms: i64) {
        let heard = self.followers.entry(node).or_default();
        heard.at_ms = heard.at_ms.max(sent_ms);
        heard.end_offset = -1;
    }

    /// The log of a node that was asked to append lies in this directory.
    pub(crate) fn has_directory(&mut self, node: NodeId, directory: Uuid) {
        self.followers.entry(node).or_default().directory = directory;
    }

    /// The directory of a node that has something of this leader's log.
    pub(crate) fn directory(&self, node: NodeId) -> Option<Uuid> {
        let heard = self.followers.get(&node).filter(|heard| heard.end_offset > 0)?;
        (!heard.directory.is_zero()).then_some(heard.directory)
    }

    /// Whether the node had everything at some time since it was forgotten.
    pub(crate) fn has_caught_up(&self, node: NodeId) -> bool {
        self.followers.get(&node).is_some_and(|heard| heard.caught_up_ms >= 0 && heard.end_offset >= 0)
    }

    /// Forgets what is known of a node: it is another now.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.followers.remove(&node);
    }

    /// Forgets all, for another leader: who does not lead asks nobody.
    pub(crate) fn clear(&mut self) {
        *self = Progress::default();
    }

    /// A call to the node was answered, or not.
    pub(crate) fn reached(&mut self, node: NodeId, answered: bool) {
        match answered {
            true => self.silent.remove(&node),
            false => self.silent.insert(node),
        };
    }

    /// Those that did not answer what they were asked last.
    pub(crate) fn silent(&self) -> impl Iterator<Item = NodeId> {
        self.silent.iter().copied()
    }

    fn replica(&self, node: NodeId, voter: &Voter) -> ReplicaState {
        let Heard { end_offset, at_ms, caught_up_ms, .. } =
            self.followers.get(&node).copied().unwrap_or_default();
        ReplicaState {
            node,
            directory: voter.directory,
            end_offset,
            heard_ms: at_ms,
            caught_up_ms,
            endpoints: voter.endpoints.clone(),
        }
    }
}

/// The quorum, as this node sees it, which leads it.
pub(crate) fn state(shared: &Shared, epoch: i32, membership: &Membership) -> QuorumState {
    let replica = |node: NodeId, voter: &Voter| {
        let mut replica = shared.progress.replica(node, voter);
        if node == shared.node {
            replica.end_offset = shared.log.next_offset();
            (replica.heard_ms, replica.caught_up_ms) = (shared.wall_ms, shared.wall_ms);
        }
        if let Some(configured) = shared.configured.get(&node).filter(|_| voter.endpoints.is_empty()) {
            replica.endpoints.clone_from(&configured.endpoints);
        }
        replica
    };
    let votes = |node: &NodeId| membership.voter_ids().any(|voter| voter == *node);
    let (voters, observers) = membership.nodes().partition::<Vec<_>, _>(|(node, _)| votes(node));
    let replicas =
        |of: Vec<(&NodeId, &Voter)>| of.into_iter().map(|(node, voter)| replica(*node, voter)).collect();
    QuorumState {
        leader: shared.node,
        epoch,
        high_watermark: shared.applied.next_offset,
        voters: replicas(voters),
        observers: replicas(observers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_does_not_take_back_what_was_appended() {
        let (mut progress, node) = (Progress::default(), NodeId(2));
        progress.appended(node, Some(10), 12, 1_000);
        progress.appended(node, Some(4), 12, 1_050);
        let seen = progress.replica(node, &Voter::default());
        assert_eq!((seen.end_offset, seen.heard_ms, seen.caught_up_ms), (10, 1_050, -1));
        assert!(!progress.has_caught_up(node));
        progress.appended(node, Some(12), 12, 1_100);
        assert!(progress.has_caught_up(node));
        progress.lacks(node, 1_200);
        let seen = progress.replica(node, &Voter::default());
        assert_eq!((seen.end_offset, seen.heard_ms, seen.caught_up_ms), (-1, 1_200, 1_100));
        assert!(!progress.has_caught_up(node));
    }
}
