//! New partitions, of new topics and of old ones: who holds the replicas, and CreatePartitions (KIP-195).

use std::collections::BTreeSet;
use std::sync::Arc;

use moldau_base::{LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, Rng, Uuid, limits};
use moldau_wire::ErrorCode;

use crate::controller::Controller;
use crate::image::{Image, Partition, Topic};
use crate::placement;
use crate::record::Record;
use crate::request::{CreatePartitions, Decision, Mode, MorePartitions, Refusal, Reply};
use crate::topics::repeated;

/// Most brokers that a refusal names.
const BROKERS_NAMED: usize = 20;

/// Who holds a new partition.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    /// All replicas, the preferred leader first.
    pub(crate) replicas: Vec<NodeId>,
    /// Those that are active, in the same order; never empty.
    pub(crate) isr: Vec<NodeId>,
}

impl Assigned {
    /// The record of partition `index` of `topic`: the first replica of the ISR leads it.
    pub(crate) fn record(self, image: &Image, topic: Uuid, index: i32) -> Record {
        let directories = self.replicas.iter().map(|id| image.only_directory(*id)).collect();
        let partition = Partition {
            leader: self.isr[0],
            replicas: self.replicas.into(),
            directories,
            isr: self.isr.into(),
            removing: [].into(),
            adding: [].into(),
            eligible: [].into(),
            last_known_eligible: [].into(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            recovering: false,
        };
        Record::Partition { topic, index: PartitionIndex(index), partition }
    }
}

pub(crate) fn assign_by_placement(
    c: &Controller,
    rng: &mut Rng,
    count: i32,
    factor: i16,
) -> Result<Vec<Assigned>, Refusal> {
    let refuse = |why: &dyn std::fmt::Display| {
        let message = format!("Unable to replicate the partition {factor} time(s): {why}");
        Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message)
    };
    let (Ok(count), Ok(replicas)) = (usize::try_from(count), usize::try_from(factor)) else {
        return Err(refuse(&format_args!(
            "Invalid replication factor {factor}: the replication factor must be positive."
        )));
    };
    let placed = placement::place(&c.image, count, replicas, rng).map_err(|why| refuse(&why))?;
    Ok(placed
        .into_iter()
        .map(|replicas| {
            let isr = replicas.iter().copied().filter(|id| c.is_active(*id)).collect();
            Assigned { replicas, isr }
        })
        .collect())
}

/// Checks that replicas that the asker chose are brokers, each named once.
pub(crate) fn check_by_hand(image: &Image, replicas: &[NodeId]) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut seen = BTreeSet::new();
    let mut sorted = replicas.to_vec();
    sorted.sort();
    for id in sorted {
        if image.broker(id).is_none() {
            let ids: Vec<String> =
                image.brokers().keys().take(BROKERS_NAMED).map(NodeId::to_string).collect();
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered. Registered are {}.",
                ids.join(", ")
            ));
        }
        if !seen.insert(id) {
            return invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
    }
    Ok(())
}

/// Checks replicas that the asker chose; `factor` is what the partitions before it have.
pub(crate) fn assign_by_hand(
    c: &Controller,
    index: i32,
    replicas: &[NodeId],
    factor: Option<usize>,
) -> Result<Assigned, Refusal> {
    check_by_hand(&c.image, replicas)?;
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    if let Some(factor) = factor.filter(|factor| *factor != replicas.len()) {
        return invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {factor} replica(s).",
            replicas.len()
        ));
    }
    let isr: Vec<NodeId> = replicas.iter().copied().filter(|id| c.is_active(*id)).collect();
    if isr.is_empty() {
        return invalid(format!(
            "All brokers specified in the manual partition assignment for partition {index} are fenced or in controlled shutdown."
        ));
    }
    Ok(Assigned { replicas: replicas.to_vec(), isr })
}

pub(crate) fn create(c: &Controller, rng: &mut Rng, request: &CreatePartitions) -> Decision {
    let repeated = repeated(request.topics.iter().map(|topic| &topic.name));
    let mut left = i64::from(limits::PARTITIONS_PER_TOPIC);
    let mut records = Vec::new();
    let mut replies: Vec<(Arc<str>, Result<(), Refusal>)> = Vec::with_capacity(request.topics.len());
    let mut answered = BTreeSet::new();
    for more in &request.topics {
        if !answered.insert(more.name.clone()) {
            continue;
        }
        let result = match repeated.contains(&more.name) {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.")),
            false => add(c, rng, more, &mut left),
        };
        let result = result.map(|added| records.extend(added));
        replies.push((more.name.clone(), result));
    }
    if request.mode == Mode::Validate {
        records.clear();
    }
    Decision { records, reply: Reply::PartitionsCreated(replies) }
}

fn add(c: &Controller, rng: &mut Rng, more: &MorePartitions, left: &mut i64) -> Result<Vec<Record>, Refusal> {
    let topic = c
        .image
        .topic_named(&more.name)
        .ok_or_else(|| Refusal::plain(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
    let has = topic.partition_count();
    let added = check_count(topic, more, has)?;
    *left -= i64::from(added);
    if *left < 0 {
        return Err(Refusal::new(
            ErrorCode::POLICY_VIOLATION,
            "Excessively large number of partitions per request.",
        ));
    }
    let factor = topic.replication_factor();
    let assigned = match &more.assignments {
        None => assign_by_placement(c, rng, added, factor)?,
        Some(chosen) => {
            let factor = usize::try_from(factor).ok();
            let each =
                (has..).zip(chosen).map(|(index, replicas)| assign_by_hand(c, index, replicas, factor));
            each.collect::<Result<_, _>>()?
        }
    };
    Ok((has..).zip(assigned).map(|(index, assigned)| assigned.record(&c.image, topic.id, index)).collect())
}

/// How many partitions are to be added.
fn check_count(topic: &Topic, more: &MorePartitions, has: i32) -> Result<i32, Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message));
    if more.count == has {
        return invalid(format!("Topic already has {has} partition(s)."));
    }
    if more.count < has {
        return invalid(format!(
            "The topic {} currently has {has} partition(s); {} would not be an increase.",
            topic.name, more.count
        ));
    }
    let added = more.count - has;
    if let Some(chosen) = more.assignments.as_ref().filter(|chosen| i32::try_from(chosen.len()) != Ok(added))
    {
        let message = format!(
            "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
            chosen.len()
        );
        return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    Ok(added)
}
