//! AlterPartition: another node's broker asks the active controller for in-sync sets (KIP-497).

use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicPartition};
use moldau_controller::{AlterPartition, AlterPartitions, Reply, Request as ToController};
use moldau_partition::IsrAnswer;
use moldau_wire::alter_partition::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// How long the controller may take, in milliseconds.
const PATIENCE_MS: i64 = 2_000;

/// Passes the wishes to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let refused = |error_code| AnyResponse::AlterPartition(Response { error_code, ..Response::default() });
    if !crate::control::is_active(shard) {
        return shard.reply(context, refused(ErrorCode::NOT_CONTROLLER));
    }
    let alter = ToController::AlterPartitions(from_wire(&request));
    shard.gather(super::to_controller(alter), Some(PATIENCE_MS), move |shard, answers| {
        let response = match super::from_controller(answers) {
            Ok(Reply::PartitionsAltered(outcomes)) => {
                let topics = outcomes.into_iter().map(|(at, outcome)| response::Topic {
                    topic_id: at.topic,
                    partitions: vec![entry(at, outcome)],
                });
                AnyResponse::AlterPartition(Response { topics: topics.collect(), ..Response::default() })
            }
            Ok(_) => refused(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(refusal) => refused(refusal.error),
        };
        shard.reply(context, response);
    });
}

fn entry(
    at: TopicPartition,
    outcome: Result<std::sync::Arc<moldau_controller::Partition>, ErrorCode>,
) -> response::Partition {
    let partition_index = at.partition.0;
    match outcome {
        Ok(partition) => response::Partition {
            partition_index,
            error_code: ErrorCode::NONE,
            leader_id: partition.leader.0,
            leader_epoch: partition.leader_epoch.0,
            isr: partition.isr.iter().map(|id| id.0).collect(),
            leader_recovery_state: i8::from(partition.recovering),
            partition_epoch: partition.partition_epoch.0,
        },
        Err(error_code) => response::Partition { partition_index, error_code, ..Default::default() },
    }
}

fn from_wire(request: &Request) -> AlterPartitions {
    let wish = |topic: moldau_base::Uuid, wish: &request::Partition| AlterPartition {
        at: TopicPartition { topic, partition: PartitionIndex(wish.partition_index) },
        leader_epoch: LeaderEpoch(wish.leader_epoch),
        partition_epoch: PartitionEpoch(wish.partition_epoch),
        isr: wish
            .new_isr_with_epochs
            .iter()
            .map(|member| (NodeId(member.broker_id), BrokerEpoch(member.broker_epoch)))
            .collect(),
        recovering: wish.leader_recovery_state == 1,
    };
    let wishes = |topic: &request::Topic| {
        let id = topic.topic_id;
        topic.partitions.iter().map(move |partition| wish(id, partition)).collect::<Vec<_>>()
    };
    AlterPartitions {
        broker: NodeId(request.broker_id),
        epoch: BrokerEpoch(request.broker_epoch),
        partitions: request.topics.iter().flat_map(wishes).collect(),
    }
}

/// The same as a request of this node.
pub(crate) fn to_wire(alter: &AlterPartitions) -> Request {
    let topic = |wish: &AlterPartition| request::Topic {
        topic_id: wish.at.topic,
        partitions: vec![request::Partition {
            partition_index: wish.at.partition.0,
            leader_epoch: wish.leader_epoch.0,
            new_isr_with_epochs: wish
                .isr
                .iter()
                .map(|(id, epoch)| request::BrokerState { broker_id: id.0, broker_epoch: epoch.0 })
                .collect(),
            leader_recovery_state: i8::from(wish.recovering),
            partition_epoch: wish.partition_epoch.0,
        }],
    };
    Request {
        broker_id: alter.broker.0,
        broker_epoch: alter.epoch.0,
        topics: alter.partitions.iter().map(topic).collect(),
    }
}

/// What another node's controller answers, as a leader hears it.
pub(crate) fn outcomes(response: Response) -> Vec<(TopicPartition, IsrAnswer)> {
    let outcome = |topic, partition: response::Partition| {
        let at = TopicPartition { topic, partition: PartitionIndex(partition.partition_index) };
        let answer = match partition.error_code {
            ErrorCode::NONE => IsrAnswer::Accepted {
                partition_epoch: PartitionEpoch(partition.partition_epoch),
                isr: partition.isr.into_iter().map(NodeId).collect(),
            },
            error => crate::in_sync::refusal(error),
        };
        (at, answer)
    };
    let of_topic = |topic: response::Topic| {
        let id = topic.topic_id;
        topic.partitions.into_iter().map(move |partition| outcome(id, partition)).collect::<Vec<_>>()
    };
    response.topics.into_iter().flat_map(of_topic).collect()
}
