//! One change of one partition: who is in sync, who may lead, whether a move is complete.
//!
//! [`Change::build`] is a pure function of the partition and of who is up. The controller builds with it what it
//! writes down; the image derives with it what a broker's fence does to each partition, the same on every node and
//! in every replay ([`crate::fencing`]). It never elects outside of what is safe unless it is told [`Election::Unclean`].
//! After Kafka's `PartitionChangeBuilder`, with eligible leader replicas (KIP-966) always on.

use moldau_base::planted::{Bug, planted};
use moldau_base::{NodeId, PartitionIndex, Uuid};

use crate::image::{NO_LEADER, Partition};
use crate::record::PartitionChange;

/// Whom an election may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Election {
    /// The leader stays if it can; otherwise the first replica in sync, or one that is eligible when nobody is in sync.
    #[default]
    Clean,
    /// As clean, with the first replica preferred to the present leader.
    Preferred,
    /// As clean; if nobody is safe to elect, any replica that is up: acknowledged records may be lost.
    Unclean,
}

/// What a partition is to become.
pub(crate) struct Change<'a> {
    before: &'a Partition,
    min_isr: usize,
    may_lead: &'a dyn Fn(NodeId) -> bool,
    /// Whom to elect, if somebody must be.
    pub(crate) election: Election,
    /// The in-sync set wanted.
    pub(crate) isr: Vec<NodeId>,
    /// The replicas wanted.
    pub(crate) replicas: Vec<NodeId>,
    /// Replicas to take away when those to add are in sync.
    pub(crate) removing: Vec<NodeId>,
    /// Replicas to add.
    pub(crate) adding: Vec<NodeId>,
    /// Whether the leader still recovers from an unclean election.
    pub(crate) recovering: bool,
    lost: Option<NodeId>,
    eligible: Vec<NodeId>,
    last_known: Vec<NodeId>,
}

struct Elected {
    leader: NodeId,
    unclean: bool,
}

impl<'a> Change<'a> {
    /// No change yet; `min_isr` is the topic's `min.insync.replicas`, `may_lead` says who is up.
    pub(crate) fn of(
        before: &'a Partition,
        min_isr: usize,
        may_lead: &'a dyn Fn(NodeId) -> bool,
    ) -> Change<'a> {
        Change {
            before,
            min_isr,
            may_lead,
            election: Election::Clean,
            isr: before.isr.to_vec(),
            replicas: before.replicas.to_vec(),
            removing: before.removing.to_vec(),
            adding: before.adding.to_vec(),
            recovering: before.recovering,
            lost: None,
            eligible: before.eligible.to_vec(),
            last_known: before.last_known_eligible.to_vec(),
        }
    }

    /// The change as a record of partition `index` of `topic`; `None` when nothing changes. `directory` says where a
    /// replica that is new goes.
    pub(crate) fn build(
        mut self,
        topic: Uuid,
        index: PartitionIndex,
        directory: &dyn Fn(NodeId) -> Uuid,
    ) -> Option<PartitionChange> {
        self.complete_reassignment();
        self.settle_eligible();
        let elected = self.elect();
        let leader = self.take_office(&elected);
        self.settle_last_known(&elected);

        let before = self.before;
        let other = |wanted: Vec<NodeId>, has: &[NodeId]| (wanted != has).then_some(wanted);
        let directories = directories(before, &self.replicas, directory);
        let change = PartitionChange {
            topic,
            index,
            leader,
            isr: other(self.isr, &before.isr),
            directories: (directories != *before.directories).then_some(directories),
            replicas: other(self.replicas, &before.replicas),
            removing: other(self.removing, &before.removing),
            adding: other(self.adding, &before.adding),
            eligible: other(self.eligible, &before.eligible),
            last_known_eligible: other(self.last_known, &before.last_known_eligible),
            recovering: (self.recovering != before.recovering).then_some(self.recovering),
        };
        (change != PartitionChange { topic, index, ..PartitionChange::default() }).then_some(change)
    }

    /// Replica `id` may have lost what it had: it is neither in sync nor eligible.
    pub(crate) fn lose(&mut self, id: NodeId) {
        let had_all = self.isr.contains(&id) || self.eligible.contains(&id);
        self.isr.retain(|member| *member != id);
        self.lost = Some(id);
        if had_all && !self.last_known.contains(&id) {
            self.last_known.push(id);
        }
    }

    /// Nothing is left of what replica `id` had: an empty disk is not the best there is, even of the one that led last.
    pub(crate) fn lose_all(&mut self, id: NodeId) {
        self.lose(id);
        self.last_known.retain(|other| *other != id);
    }

    /// A move is complete when every replica that stays is in sync (KIP-455).
    fn complete_reassignment(&mut self) {
        if self.removing.is_empty() && self.adding.is_empty() {
            return;
        }
        let stays = |ids: &[NodeId]| -> Vec<NodeId> {
            ids.iter().copied().filter(|id| !self.removing.contains(id)).collect()
        };
        let (isr, replicas) = (stays(&self.isr), stays(&self.replicas));
        let isr = if planted(Bug::MovedTooEarly) { replicas.clone() } else { isr };
        if isr.is_empty() || replicas.is_empty() || !replicas.iter().all(|id| isr.contains(id)) {
            return;
        }
        self.isr = isr;
        self.replicas = replicas;
        self.removing.clear();
        self.adding.clear();
    }

    /// While fewer than `min.insync.replicas` are in sync, nothing more is acknowledged: whoever leaves the in-sync set
    /// then still has all that ever was (KIP-966).
    fn settle_eligible(&mut self) {
        // A replica that is taken away and added again begins with nothing.
        self.last_known.retain(|id| self.replicas.contains(id));
        if self.isr.len() >= self.min_isr.min(self.replicas.len()).max(1) {
            self.eligible.clear();
            self.last_known.clear();
            return;
        }
        for id in &self.before.isr {
            if !self.eligible.contains(id) {
                self.eligible.push(*id);
            }
        }
        self.eligible
            .retain(|id| !self.isr.contains(id) && self.replicas.contains(id) && self.lost != Some(*id));
        self.eligible.sort_unstable();
    }

    fn is_safe(&self, id: NodeId) -> bool {
        let has_all = self.isr.contains(&id)
            || self.isr.is_empty() && self.eligible.contains(&id)
            || planted(Bug::ElectOutsideIsr);
        has_all && (self.may_lead)(id)
    }

    fn elect(&self) -> Elected {
        let preferred = self.replicas.first().filter(|_| self.election == Election::Preferred);
        let present = Some(&self.before.leader).filter(|leader| **leader != NO_LEADER);
        let in_turn = preferred.into_iter().chain(present).chain(&self.replicas);
        if let Some(leader) = in_turn.copied().find(|id| self.is_safe(*id)) {
            return Elected { leader, unclean: false };
        }
        let last = self.last_leader().filter(|_| self.isr.is_empty() && self.eligible.is_empty());
        let any = self.replicas.iter().copied().filter(|_| self.election == Election::Unclean);
        match last.into_iter().chain(any).find(|id| (self.may_lead)(*id)) {
            Some(leader) => Elected { leader, unclean: true },
            None => Elected { leader: NO_LEADER, unclean: false },
        }
    }

    /// The one that led last, when everybody that was in sync may have lost something: the best there is (KIP-966). If its
    /// disk is gone, the next that had all there was and has its disk.
    fn last_leader(&self) -> Option<NodeId> {
        self.last_known.first().copied()
    }

    /// Makes the sets fit whoever is elected; what the record says of the leader. Naming it begins a leader epoch.
    fn take_office(&mut self, elected: &Elected) -> Option<NodeId> {
        let leader = elected.leader;
        if leader == self.before.leader {
            // Replicas went: fetches of theirs must not count any more.
            let shrunk = self.before.replicas.iter().any(|id| !self.replicas.contains(id));
            return shrunk.then_some(leader);
        }
        if elected.unclean {
            self.isr = vec![leader];
            self.eligible.clear();
            self.recovering = true;
        } else if leader != NO_LEADER && !self.isr.contains(&leader) {
            self.isr = vec![leader];
            self.eligible.retain(|id| *id != leader);
            self.settle_after_eligible();
        }
        Some(leader)
    }

    /// One that was eligible leads and is in sync by itself: with `min.insync.replicas=1` that is enough, and from then on
    /// it may acknowledge what the others do not have.
    fn settle_after_eligible(&mut self) {
        if self.isr.len() >= self.min_isr.min(self.replicas.len()).max(1) {
            self.eligible.clear();
            self.last_known.clear();
        }
    }

    /// Those that were eligible until they may have lost something, kept while fewer than `min.insync.replicas` are in sync;
    /// in front of them, while nobody is, the one that led last.
    fn settle_last_known(&mut self, elected: &Elected) {
        let before = self.before.leader;
        if elected.unclean {
            self.last_known.clear();
        } else if elected.leader != NO_LEADER {
            self.last_known.retain(|id| !self.isr.contains(id) && !self.eligible.contains(id));
        } else if before != NO_LEADER && self.isr.is_empty() {
            self.last_known.retain(|id| *id != before);
            self.last_known.insert(0, before);
        }
    }
}

/// The directories of `replicas`, in their order.
fn directories(before: &Partition, replicas: &[NodeId], directory: &dyn Fn(NodeId) -> Uuid) -> Vec<Uuid> {
    let known = |id: &NodeId| before.replicas.iter().position(|other| other == id);
    let of = |id: &NodeId| known(id).and_then(|at| before.directories.get(at).copied());
    replicas.iter().map(|id| of(id).unwrap_or_else(|| directory(*id))).collect()
}
