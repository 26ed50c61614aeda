//! AlterPartitionReassignments: moves of partitions to other replicas, to begin or to cancel (KIP-455, KIP-860); decided by
//! the controller.

use std::sync::Arc;

use moldau_base::{NodeId, PartitionIndex};
use moldau_controller::{
    AlterReassignments, FactorChange, PartitionOutcome, Reassignment, Reply, Request as ToController,
};
use moldau_wire::alter_partition_reassignments::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Passes the moves to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let factor = if allow_replication_factor_change { FactorChange::Allowed } else { FactorChange::Refused };
    let partitions = request.topics.iter().flat_map(wishes).collect();
    let alter = ToController::AlterReassignments(AlterReassignments { partitions, factor });
    let patience = super::patience(request.timeout_ms);
    super::decide(shard, context, alter, patience, move |shard, context, answers| {
        let mut response = Response { allow_replication_factor_change, ..Response::default() };
        match super::from_controller(answers) {
            Ok(Reply::ReassignmentsAltered(outcomes)) => response.responses = by_topic(&outcomes),
            Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(refusal) => {
                response.error_code = refusal.error;
                response.error_message = super::message(&refusal);
            }
        }
        shard.reply(context, AnyResponse::AlterPartitionReassignments(response));
    });
}

fn wishes(topic: &request::Topic) -> Vec<Reassignment> {
    let name: Arc<str> = Arc::from(&*topic.name);
    let wish = |partition: &request::Partition| Reassignment {
        topic: name.clone(),
        index: PartitionIndex(partition.partition_index),
        target: partition.replicas.as_ref().map(|ids| ids.iter().copied().map(NodeId).collect()),
    };
    topic.partitions.iter().map(wish).collect()
}

fn by_topic(outcomes: &[PartitionOutcome]) -> Vec<response::Topic> {
    let entry = |outcome: &PartitionOutcome| response::Partition {
        partition_index: outcome.index.0,
        error_code: outcome.result.as_ref().err().map_or(ErrorCode::NONE, |refusal| refusal.error),
        error_message: outcome.result.as_ref().err().and_then(super::message),
    };
    let topics = outcomes.chunk_by(|a, b| a.topic == b.topic);
    topics
        .filter_map(|outcomes| {
            let name = text(&outcomes.first()?.topic);
            Some(response::Topic { name, partitions: outcomes.iter().map(entry).collect() })
        })
        .collect()
}
