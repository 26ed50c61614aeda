//! Moves of partitions to other replicas (KIP-455): begin, cancel, list. A move ends by itself when every replica that
//! stays is in sync ([`crate::change`]).
//!
//! While a move is under way, a partition has the replicas it had and those it shall have: nothing is taken away before
//! what is added has all records.

use std::sync::Arc;

use moldau_base::{NodeId, PartitionIndex, TopicPartition};
use moldau_wire::ErrorCode;

use crate::change::{Change, Election};
use crate::configs;
use crate::controller::Controller;
use crate::image::{Image, Partition, Resource};
use crate::partitions::check_by_hand;
use crate::record::{PartitionChange, Record};
use crate::request::{
    AlterReassignments, Decision, FactorChange, PartitionOutcome, Reassignment, Refusal, Reply,
};

pub(crate) fn alter(c: &Controller, request: &AlterReassignments) -> Decision {
    // A partition may be named twice: the second wish is about what the first has made.
    let mut scratch = c.image.clone();
    let mut records = Vec::new();
    let mut replies = Vec::with_capacity(request.partitions.len());
    for wish in &request.partitions {
        let result = alter_one(c, &scratch, wish, request.factor).and_then(|change| {
            let Some(change) = change else { return Ok(()) };
            let applied = scratch.change_partition(&change);
            applied.map_err(|_| Refusal::plain(ErrorCode::UNKNOWN_SERVER_ERROR))?;
            records.push(Record::PartitionChange(change));
            Ok(())
        });
        replies.push(PartitionOutcome { topic: wish.topic.clone(), index: wish.index, result });
    }
    Decision { records, reply: Reply::ReassignmentsAltered(replies) }
}

fn alter_one(
    c: &Controller,
    image: &Image,
    wish: &Reassignment,
    factor: FactorChange,
) -> Result<Option<PartitionChange>, Refusal> {
    let (name, index) = (&wish.topic, wish.index);
    let unknown = |what: String| Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what);
    let topic =
        image.topic_named(name).ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
    let partition =
        topic.partition(index).ok_or_else(|| unknown(format!("Unable to find partition {name}:{index}.")))?;
    let at = TopicPartition { topic: topic.id, partition: index };
    match &wish.target {
        Some(target) => {
            check_factor(image, name, partition, target)?;
            begin(image, at, partition, target, factor)
        }
        None => cancel(c, image, at, partition, name),
    }
}

/// Refuses a move that would leave a topic fewer replicas than it says acknowledgements come from.
fn check_factor(
    image: &Image,
    name: &Arc<str>,
    partition: &Partition,
    target: &[NodeId],
) -> Result<(), Refusal> {
    let set = image.configs(&Resource::Topic(name.clone()));
    let min = set.and_then(|set| configs::min_insync(set)).unwrap_or(0);
    let replicas = target.len();
    if target.is_empty() || replicas >= min || replicas >= partition.replicas.len() {
        return Ok(());
    }
    let message = format!(
        "{replicas} replica(s) cannot keep min.insync.replicas={min} of topic {name}: name {min} brokers, or set it to {replicas} \
         at most first"
    );
    Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message))
}

fn begin(
    image: &Image,
    at: TopicPartition,
    partition: &Partition,
    target: &[NodeId],
    factor: FactorChange,
) -> Result<Option<PartitionChange>, Refusal> {
    check_by_hand(image, target)?;
    let stays = partition.replicas.iter().filter(|id| !partition.removing.contains(id)).count();
    if factor == FactorChange::Refused && stays != target.len() {
        let message = format!("The replication factor is changed from {stays} to {}", target.len());
        return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
    }
    let less = |a: &[NodeId], b: &[NodeId]| -> Vec<NodeId> {
        let mut rest: Vec<NodeId> = a.iter().copied().filter(|id| !b.contains(id)).collect();
        rest.sort_unstable();
        rest
    };
    let removing = less(&partition.replicas, target);
    // What an earlier move adds, and this one keeps, is still being added.
    let had: Vec<NodeId> =
        partition.replicas.iter().copied().filter(|id| !partition.adding.contains(id)).collect();
    let adding = less(target, &had);
    Ok(image.changing(at, &|change: &mut Change<'_>| {
        change.replicas = [target, removing.as_slice()].concat();
        change.removing = removing.clone();
        change.adding = adding.clone();
    }))
}

fn cancel(
    c: &Controller,
    image: &Image,
    at: TopicPartition,
    partition: &Partition,
    name: &str,
) -> Result<Option<PartitionChange>, Refusal> {
    if !partition.is_moving() {
        return Err(Refusal::plain(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS));
    }
    let keep = |ids: &[NodeId]| -> Vec<NodeId> {
        ids.iter().copied().filter(|id| !partition.adding.contains(id)).collect()
    };
    let (replicas, mut isr) = (keep(&partition.replicas), keep(&partition.isr));
    let best = partition.best();
    let unclean = keep(best).is_empty() && !best.is_empty();
    if unclean && !c.elects_uncleanly(name) {
        let index = at.partition;
        return Err(Refusal::new(
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            format!(
                "Unable to revert partition assignment for {name}:{index} because it would require an unclean leader election."
            ),
        ));
    }
    if unclean {
        isr.extend(replicas.first());
    }
    Ok(image.changing(at, &|change| {
        change.isr.clone_from(&isr);
        change.replicas.clone_from(&replicas);
        change.removing.clear();
        change.adding.clear();
        change.recovering |= unclean;
        if c.elects_uncleanly(name) {
            change.election = Election::Unclean;
        }
    }))
}

impl Partition {
    /// The replicas that have everything that was acknowledged; when it is not certain that any has, those that had it.
    fn best(&self) -> &[NodeId] {
        let known: [&[NodeId]; 3] = [&self.isr, &self.eligible, &self.last_known_eligible];
        known.into_iter().find(|ids| !ids.is_empty()).unwrap_or_default()
    }

    /// Whether a move is under way.
    pub fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}

impl Image {
    /// The partitions that are being moved, in the order of topic names.
    pub fn reassignments(&self) -> impl Iterator<Item = (&Arc<str>, PartitionIndex, &Arc<Partition>)> {
        self.topics_by_name().flat_map(|topic| {
            let moving = topic.partitions.iter().filter(|(_, partition)| partition.is_moving());
            moving.map(|(index, partition)| (&topic.name, *index, partition))
        })
    }
}
