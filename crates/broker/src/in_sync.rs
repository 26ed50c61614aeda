//! Changes of in-sync sets that this shard's leaders want (KIP-497): all that one step brings go to the active controller as one
//! request, one request at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use moldau_base::{BrokerEpoch, LeaderEpoch, PartitionEpoch, TopicPartition};
use moldau_controller::{AlterPartition, AlterPartitions, Partition, Reply, Request};
use moldau_partition::{Input, IsrAnswer, Proposal};
use moldau_wire::ErrorCode;

use crate::Shard;
use crate::message::Answer;
use crate::partitions;
use crate::waist::Trace;

/// How long the controller may take, in milliseconds; the leader asks again after that.
const PATIENCE_MS: i64 = 2_000;

/// What leaders want.
#[derive(Debug, Default)]
pub(crate) struct InSync {
    wanted: BTreeMap<TopicPartition, Proposal>,
    under_way: bool,
}

impl InSync {
    /// A leader wants this set.
    pub(crate) fn wants(&mut self, id: TopicPartition, proposal: Proposal) {
        self.wanted.insert(id, proposal);
    }
}

/// The log of a partition that this broker leads is out of service: another replica that is in sync shall lead. The controller takes a set
/// without its leader for that.
pub(crate) fn resign(shard: &mut Shard, id: TopicPartition) {
    let me = shard.settings.node_id;
    let Some(partition) =
        shard.cluster.image.partition(id).filter(|partition| partition.leader() == Some(me))
    else {
        return;
    };
    let isr = partition.isr.iter().filter(|member| **member != me).map(|member| (*member, None));
    let (leader_epoch, partition_epoch) = (partition.leader_epoch, partition.partition_epoch);
    let proposal = Proposal { leader_epoch, partition_epoch, isr: isr.collect() };
    // If nobody else has everything, the partition waits for this broker's restart.
    if !proposal.isr.is_empty() {
        shard.in_sync.wants(id, proposal);
    }
}

/// Asks the controller for what leaders want.
pub(crate) fn propose(shard: &mut Shard) {
    if shard.in_sync.under_way || shard.in_sync.wanted.is_empty() {
        return;
    }
    let me = shard.settings.node_id;
    let epoch = shard.cluster.image.broker(me).map_or(BrokerEpoch(-1), |broker| broker.epoch);
    let wanted = std::mem::take(&mut shard.in_sync.wanted);
    let wish = |(at, proposal): (&TopicPartition, &Proposal)| {
        let registered = |id| shard.cluster.image.broker(id).map_or(BrokerEpoch(-1), |broker| broker.epoch);
        let member = |(id, epoch): &(_, Option<BrokerEpoch>)| (*id, epoch.unwrap_or_else(|| registered(*id)));
        AlterPartition {
            at: *at,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr.iter().map(member).collect(),
            // A leader has read its log before it leads: with its first change an unclean election is over (KIP-704).
            recovering: false,
        }
    };
    let partitions = wanted.iter().map(wish).collect();
    let request = Request::AlterPartitions(AlterPartitions { broker: me, epoch, partitions });
    shard.in_sync.under_way = true;
    shard.gather(crate::api::to_controller(request), Some(PATIENCE_MS), move |shard, answers| {
        shard.in_sync.under_way = false;
        let mut outcomes: BTreeMap<TopicPartition, IsrAnswer> = match answers.into_iter().next().flatten() {
            Some(Answer::InSync(outcomes)) => outcomes.into_iter().collect(),
            Some(Answer::Controller(Ok(Reply::PartitionsAltered(outcomes)))) => {
                outcomes.into_iter().map(|(id, outcome)| (id, answer_of(outcome))).collect()
            }
            _ => BTreeMap::new(),
        };
        note(shard, &outcomes);
        for (id, Proposal { leader_epoch, partition_epoch, .. }) in wanted {
            let answer = outcomes.remove(&id).unwrap_or(IsrAnswer::Unknown);
            tell(shard, id, leader_epoch, partition_epoch, answer);
        }
    });
}

/// A line for whoever reads the log: one for all that changed.
fn note(shard: &mut Shard, outcomes: &BTreeMap<TopicPartition, IsrAnswer>) {
    let mut changed = outcomes.iter().filter_map(|(id, answer)| match answer {
        IsrAnswer::Accepted { isr, .. } => Some((id, isr)),
        IsrAnswer::Refused | IsrAnswer::Stale | IsrAnswer::Unknown => None,
    });
    let Some((id, isr)) = changed.next() else { return };
    let topic = shard.cluster.image.topic(id.topic).map_or("?", |topic| &topic.name);
    let isr: Vec<String> = isr.iter().map(ToString::to_string).collect();
    let others = match changed.count() {
        0 => String::new(),
        others => format!(", and those of {others} other partitions changed"),
    };
    let line = format!("the in-sync set of {topic}-{} is now {}{others}", id.partition, isr.join(", "));
    shard.trace(Trace::Info(line));
}

fn answer_of(outcome: Result<Arc<Partition>, ErrorCode>) -> IsrAnswer {
    match outcome {
        Ok(partition) => {
            IsrAnswer::Accepted { partition_epoch: partition.partition_epoch, isr: partition.isr.clone() }
        }
        Err(error) => refusal(error),
    }
}

/// What the controller's refusal means to the leader.
pub(crate) fn refusal(error: ErrorCode) -> IsrAnswer {
    match error {
        ErrorCode::INELIGIBLE_REPLICA => IsrAnswer::Refused,
        ErrorCode::INVALID_UPDATE_VERSION
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::NEW_LEADER_ELECTED
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => IsrAnswer::Stale,
        _ => IsrAnswer::Unknown,
    }
}

fn tell(
    shard: &mut Shard,
    id: TopicPartition,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    answer: IsrAnswer,
) {
    let number = shard.partitions.numbered(id).map(|(number, _)| number);
    if let Some(number) = number {
        partitions::tell_core(shard, number, Input::IsrAnswer { leader_epoch, partition_epoch, answer });
        partitions::resign_again(shard, number);
    }
}
