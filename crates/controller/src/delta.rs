//! What changed between two images, so that a shard reacts to changes and not to the size of the cluster.
//!
//! A delta is computed from the images and from nothing else, so it cannot disagree with them; parts that
//! both images share are skipped whole, which makes the cost proportional to the changes.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use moldau_base::{NodeId, PartitionIndex};

use crate::image::{Image, Partition, Resource, Topic};

/// A partition that came, changed or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDelta {
    /// Its topic, as it is after the change; as it was, when the topic went.
    pub topic: Arc<Topic>,
    /// The partition.
    pub index: PartitionIndex,
    /// Before; `None` when the partition is new.
    pub before: Option<Arc<Partition>>,
    /// After; `None` when the topic is gone.
    pub after: Option<Arc<Partition>>,
}

/// What changed between two images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Topics that are new.
    pub topics_created: Vec<Arc<Topic>>,
    /// Topics that are gone, as they were.
    pub topics_deleted: Vec<Arc<Topic>>,
    /// Every partition that is new, changed or gone, those of new and deleted topics too.
    pub partitions: Vec<PartitionDelta>,
    /// Resources with a config set, changed or removed.
    pub configs: Vec<Resource>,
    /// Brokers that came, changed or went.
    pub brokers: Vec<NodeId>,
    /// Whether a finalized feature changed.
    pub features_changed: bool,
}

impl Delta {
    /// What happened from `before` to `after`.
    pub fn between(before: &Image, after: &Image) -> Delta {
        let mut delta = Delta { features_changed: before.features() != after.features(), ..Delta::default() };
        for item in before.topics().diff(after.topics()) {
            match item {
                DiffItem::Add(_, topic) => {
                    delta.topics_created.push(topic.clone());
                    delta.all_partitions(topic, |p| (None, Some(p)));
                }
                DiffItem::Remove(_, topic) => {
                    delta.topics_deleted.push(topic.clone());
                    delta.all_partitions(topic, |p| (Some(p), None));
                }
                DiffItem::Update { old: (_, old), new: (_, new) } => delta.partitions_between(old, new),
            }
        }
        delta.configs.extend(before.all_configs().diff(after.all_configs()).map(|item| match item {
            DiffItem::Add(resource, _) | DiffItem::Remove(resource, _) => resource.clone(),
            DiffItem::Update { new: (resource, _), .. } => resource.clone(),
        }));
        delta.brokers.extend(before.brokers().diff(after.brokers()).map(|item| match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) => *id,
            DiffItem::Update { new: (id, _), .. } => *id,
        }));
        delta
    }

    /// True when nothing changed that anybody reacts to.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    fn all_partitions(
        &mut self,
        topic: &Arc<Topic>,
        sides: impl Fn(Arc<Partition>) -> (Option<Arc<Partition>>, Option<Arc<Partition>>),
    ) {
        self.partitions.extend(topic.partitions.iter().map(|(index, partition)| {
            let (before, after) = sides(partition.clone());
            PartitionDelta { topic: topic.clone(), index: *index, before, after }
        }));
    }

    fn partitions_between(&mut self, old: &Arc<Topic>, new: &Arc<Topic>) {
        for item in old.partitions.diff(&new.partitions) {
            let (index, before, after) = match item {
                DiffItem::Add(index, p) => (index, None, Some(p.clone())),
                DiffItem::Remove(index, p) => (index, Some(p.clone()), None),
                DiffItem::Update { old: (_, before), new: (index, after) } => {
                    (index, Some(before.clone()), Some(after.clone()))
                }
            };
            self.partitions.push(PartitionDelta { topic: new.clone(), index: *index, before, after });
        }
    }
}
