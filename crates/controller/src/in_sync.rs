//! AlterPartition: a leader asks for another in-sync set (KIP-497, KIP-704, KIP-841, KIP-903).
//!
//! It is a compare-and-set: the leader names the leader epoch and the partition epoch that it knows, and whom it wants
//! in sync with the registration each had when it caught up. Whoever is fenced, stops, or has started anew since is
//! refused. What the new set brings with it, such as the end of a move, is decided in [`crate::change`].

use std::collections::BTreeSet;
use std::sync::Arc;

use moldau_base::planted::{Bug, planted};
use moldau_base::{BrokerEpoch, NodeId};
use moldau_wire::ErrorCode;

use crate::brokers::check_epoch;
use crate::controller::Controller;
use crate::image::{Image, Partition};
use crate::record::{PartitionChange, Record};
use crate::request::{AlterPartition, AlterPartitions, Decision, Refusal, Reply};

pub(crate) fn alter(c: &Controller, request: &AlterPartitions) -> Result<Decision, Refusal> {
    check_epoch(&c.image, request.broker, request.epoch)?;
    // A partition may be named twice: the second wish is compared with what the first has made.
    let mut scratch = c.image.clone();
    let mut records = Vec::new();
    let mut replies = Vec::with_capacity(request.partitions.len());
    for wish in &request.partitions {
        replies.push((wish.at, alter_one(&mut scratch, &mut records, request.broker, wish)));
    }
    Ok(Decision { records, reply: Reply::PartitionsAltered(replies) })
}

fn alter_one(
    scratch: &mut Image,
    records: &mut Vec<Record>,
    leader: NodeId,
    wish: &AlterPartition,
) -> Result<Arc<Partition>, ErrorCode> {
    scratch.topic(wish.at.topic).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    let partition = scratch.partition(wish.at).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    check_epochs(partition, leader, wish)?;
    check_set(partition, wish)?;
    if !wish.isr.iter().all(|(id, epoch)| is_eligible(scratch, partition, *id, *epoch)) {
        return Err(ErrorCode::INELIGIBLE_REPLICA);
    }
    let resigns = !names(wish, leader);
    let wanted = scratch.changing(wish.at, &|change| {
        change.isr = wish.isr.iter().map(|(id, _)| *id).collect();
        if resigns {
            change.lose(leader);
        }
        change.recovering = wish.recovering;
    });
    // The set as it is counts as a change as well: whatever the leader asked for before is out of date from then on.
    let same =
        PartitionChange { topic: wish.at.topic, index: wish.at.partition, ..PartitionChange::default() };
    let change = wanted.unwrap_or(same);
    let moved = change.leader.is_some_and(|elected| elected != leader);
    scratch.change_partition(&change).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
    records.push(Record::PartitionChange(change));
    if moved {
        // The set completes a move away from this leader: it must learn who leads before it goes on.
        return Err(ErrorCode::NEW_LEADER_ELECTED);
    }
    scratch.partition(wish.at).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn check_epochs(partition: &Partition, leader: NodeId, wish: &AlterPartition) -> Result<(), ErrorCode> {
    // Whoever knows more than this controller should look for the one that is active.
    if wish.leader_epoch > partition.leader_epoch || wish.partition_epoch > partition.partition_epoch {
        return Err(ErrorCode::NOT_CONTROLLER);
    }
    if wish.leader_epoch < partition.leader_epoch {
        return Err(ErrorCode::FENCED_LEADER_EPOCH);
    }
    if partition.leader != leader {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    if wish.partition_epoch < partition.partition_epoch && !planted(Bug::StalePartitionEpoch) {
        return Err(ErrorCode::INVALID_UPDATE_VERSION);
    }
    Ok(())
}

fn check_set(partition: &Partition, wish: &AlterPartition) -> Result<(), ErrorCode> {
    let unique: BTreeSet<NodeId> = wish.isr.iter().map(|(id, _)| *id).collect();
    let are_replicas = unique.iter().all(|id| partition.replicas.contains(id));
    let in_sync = unique.iter().all(|id| partition.isr.contains(id));
    let resigns = !unique.is_empty() && in_sync && !wish.recovering;
    let fits = names(wish, partition.leader) || resigns;
    let valid = unique.len() == wish.isr.len() && are_replicas && fits;
    let recovers_alone = !wish.recovering || wish.isr.len() <= 1;
    let recovers_again = wish.recovering && !partition.recovering;
    if valid && recovers_alone && !recovers_again { Ok(()) } else { Err(ErrorCode::INVALID_REQUEST) }
}

/// Whether the set that is wanted has this replica. A leader without which it is wanted resigns, since its disk has failed: what it had may be lost.
fn names(wish: &AlterPartition, id: NodeId) -> bool {
    wish.isr.iter().any(|(member, _)| *member == id)
}

/// Whether this incarnation of a broker may be in sync: only whoever could lead may.
fn is_eligible(image: &Image, partition: &Partition, id: NodeId, epoch: BrokerEpoch) -> bool {
    let Some(broker) = image.broker(id) else { return false };
    let up = image.may_lead(partition, id) || planted(Bug::FencedInSync) || planted(Bug::FencesIgnored);
    up && (epoch == broker.epoch || epoch == BrokerEpoch(-1))
}
