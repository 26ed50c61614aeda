//! What a record about a broker does to the partitions that it holds.
//!
//! A broker that is fenced, stops, comes back, loses a disk or leaves for good is one record, however many partitions it
//! holds (docs/decisions/0017-one-record-fences.md). Each image derives from it, with [`Change`] and from nothing that is
//! not in the image, what Kafka writes as a record per partition: who leaves the in-sync set, who leads then. Here must
//! be no time, chance or setting: every node and every replay derives the same.

use std::sync::Arc;

use imbl::OrdSet;
use moldau_base::{NodeId, PartitionIndex, TopicPartition, Uuid};

use crate::change::Change;
use crate::image::{Broker, Image, Misfit, NO_LEADER, Partition, Resource};
use crate::record::PartitionChange;

/// The config that says how many replicas must be in sync for more to be acknowledged.
pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

impl Image {
    /// The partitions of which `broker` holds a replica.
    pub fn partitions_of(&self, broker: NodeId) -> impl Iterator<Item = TopicPartition> + '_ {
        self.held.get(&broker).into_iter().flatten().copied()
    }

    /// `min.insync.replicas` of a topic as metadata has it: its own, else the cluster's, else 1. What a broker's own file
    /// says does not count, because every image must come to the same result.
    pub fn min_insync_replicas(&self, topic: &Arc<str>) -> usize {
        let own = self.config(&Resource::Topic(topic.clone()), MIN_INSYNC_REPLICAS);
        let set = own.or_else(|| self.config(&Resource::ClusterDefault, MIN_INSYNC_REPLICAS));
        set.and_then(|value| value.parse().ok()).unwrap_or(1)
    }

    /// Whether the replica of `partition` on broker `id` may lead: the broker is up, and so is the disk it is on.
    pub(crate) fn may_lead(&self, partition: &Partition, id: NodeId) -> bool {
        let Some(broker) = self.broker(id).filter(|broker| broker.is_active()) else { return false };
        let at = partition.replicas.iter().position(|replica| *replica == id);
        let directory = at.and_then(|at| partition.directories.get(at));
        directory.is_none_or(|dir| dir.is_zero() || broker.log_dirs.contains(dir))
    }

    /// The broker's log directory when it has one; otherwise it chooses itself and the record says zero ("unassigned").
    pub(crate) fn only_directory(&self, id: NodeId) -> Uuid {
        match self.broker(id).map(|broker| broker.log_dirs.as_slice()) {
            Some([only]) => *only,
            _ => Uuid::ZERO,
        }
    }

    /// The change of a partition that `wanted` makes; `None` when there is none, or no such partition.
    pub(crate) fn changing(
        &self,
        at: TopicPartition,
        wanted: &dyn Fn(&mut Change<'_>),
    ) -> Option<PartitionChange> {
        let topic = self.topic(at.topic)?;
        let before = topic.partition(at.partition)?;
        let may_lead = |id| self.may_lead(before, id);
        let mut change = Change::of(before, self.min_insync_replicas(&topic.name), &may_lead);
        wanted(&mut change);
        change.build(at.topic, at.partition, &|id| self.only_directory(id))
    }

    /// Follows a broker's registration from `before` to what it is now.
    pub(crate) fn follow_broker(&mut self, id: NodeId, before: Option<&Broker>) -> Result<(), Misfit> {
        let Some(before) = before else { return Ok(()) };
        let Some(after) = self.broker(id).cloned() else { return self.follow_departure(id) };
        if before.incarnation == after.incarnation {
            let gone = before.log_dirs.iter().filter(|dir| !after.log_dirs.contains(dir));
            let gone: Vec<Uuid> = gone.copied().collect();
            self.follow_lost_directories(id, &gone)?;
        }
        match (before.is_active(), after.is_active()) {
            (true, false) => {
                let concerned = |p: &Partition| p.isr.contains(&id) || p.leader == id;
                self.derive(id, &concerned, &|change| change.isr.retain(|member| *member != id))
            }
            (false, true) => self.derive(id, &|p| p.leader == NO_LEADER, &|_| {}),
            _ => Ok(()),
        }
    }

    fn follow_departure(&mut self, id: NodeId) -> Result<(), Misfit> {
        let concerned = |p: &Partition| p.isr.contains(&id) || p.eligible.contains(&id) || p.leader == id;
        self.derive(id, &concerned, &|change| change.lose(id))
    }

    fn follow_lost_directories(&mut self, id: NodeId, gone: &[Uuid]) -> Result<(), Misfit> {
        if gone.is_empty() {
            return Ok(());
        }
        let concerned = |p: &Partition| {
            let at = p.replicas.iter().position(|replica| *replica == id);
            at.and_then(|at| p.directories.get(at)).is_some_and(|dir| gone.contains(dir))
        };
        self.derive(id, &concerned, &|change| change.lose(id))
    }

    /// Changes those partitions of broker `id` that are `concerned`.
    fn derive(
        &mut self,
        id: NodeId,
        concerned: &dyn Fn(&Partition) -> bool,
        wanted: &dyn Fn(&mut Change<'_>),
    ) -> Result<(), Misfit> {
        // A clone of the set costs a reference count.
        let held: OrdSet<TopicPartition> = self.held.get(&id).cloned().unwrap_or_default();
        for at in held {
            if !self.partition(at).is_some_and(|partition| concerned(partition)) {
                continue;
            }
            if let Some(change) = self.changing(at, wanted) {
                self.change_partition(&change)?;
            }
        }
        Ok(())
    }

    /// `min.insync.replicas` changed: where enough are in sync again, acknowledgements go on, and whoever was eligible
    /// falls behind.
    pub(crate) fn follow_min_insync(&mut self, resource: &Resource) -> Result<(), Misfit> {
        let concerned = |name: &Arc<str>| match resource {
            Resource::Topic(topic) => topic == name,
            Resource::ClusterDefault => true,
            _ => false,
        };
        let mut cleared = Vec::new();
        for topic in self.topics().values().filter(|topic| concerned(&topic.name)) {
            let min = self.min_insync_replicas(&topic.name);
            let enough = |p: &Partition| p.isr.len() >= min.min(p.replicas.len()).max(1);
            let remembered = |p: &Partition| !(p.eligible.is_empty() && p.last_known_eligible.is_empty());
            let stale = topic.partitions.iter().filter(|(_, p)| remembered(p) && enough(p));
            cleared.extend(stale.map(|(index, _)| (topic.id, *index)));
        }
        for (topic, index) in cleared {
            self.change_partition(&no_more_eligible(topic, index))?;
        }
        Ok(())
    }

    /// Keeps the index of who holds what.
    pub(crate) fn index_replicas(&mut self, at: TopicPartition, before: &[NodeId], after: &[NodeId]) {
        if before == after {
            return;
        }
        for id in before.iter().filter(|id| !after.contains(id)) {
            if let Some(held) = self.held.get_mut(id) {
                held.remove(&at);
                if held.is_empty() {
                    self.held.remove(id);
                }
            }
        }
        for id in after.iter().filter(|id| !before.contains(id)) {
            self.held.entry(*id).or_default().insert(at);
        }
    }
}

fn no_more_eligible(topic: Uuid, index: PartitionIndex) -> PartitionChange {
    let nobody = Some(vec![]);
    PartitionChange {
        topic,
        index,
        eligible: nobody.clone(),
        last_known_eligible: nobody,
        ..PartitionChange::default()
    }
}
