//! ElectLeaders: preferred leaders back, or a leader at the price of records (KIP-183, KIP-460); decided by the controller.

use std::sync::Arc;

use moldau_base::PartitionIndex;
use moldau_controller::{
    ElectLeaders, ElectionKind, PartitionOutcome, Refusal, Reply, Request as ToController,
};
use moldau_wire::elect_leaders::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Passes the wish to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let version = context.version;
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        other => {
            let what = format!("unknown election type {other}: 0 elects preferred leaders, 1 any leader");
            let refusal = Refusal::new(ErrorCode::INVALID_REQUEST, what);
            return shard.reply(context, refused(&refusal, &[], version));
        }
    };
    let partitions = request.topic_partitions.map(|topics| {
        let of_topic = |topic: &moldau_wire::elect_leaders::request::Topic| {
            let name: Arc<str> = Arc::from(&*topic.topic);
            topic.partitions.iter().map(|index| (name.clone(), PartitionIndex(*index))).collect::<Vec<_>>()
        };
        topics.iter().flat_map(of_topic).collect::<Vec<_>>()
    });
    let named = partitions.clone().unwrap_or_default();
    let elect = ToController::ElectLeaders(ElectLeaders { kind, partitions });
    let patience = super::patience(request.timeout_ms);
    super::decide(shard, context, elect, patience, move |shard, context, answers| {
        let response = match super::from_controller(answers) {
            Ok(Reply::LeadersElected(outcomes)) => AnyResponse::ElectLeaders(Response {
                replica_election_results: by_topic(&outcomes),
                ..Response::default()
            }),
            Ok(_) => refused(&Refusal::plain(ErrorCode::UNKNOWN_SERVER_ERROR), &named, version),
            Err(refusal) => refused(&refusal, &named, version),
        };
        shard.reply(context, response);
    });
}

/// Nothing was elected: said for the request as a whole, and for each partition, since version 0 has no other place.
fn refused(refusal: &Refusal, named: &[(Arc<str>, PartitionIndex)], version: i16) -> AnyResponse {
    let outcome = |(topic, index): &(Arc<str>, PartitionIndex)| PartitionOutcome {
        topic: topic.clone(),
        index: *index,
        result: Err(refusal.clone()),
    };
    let outcomes: Vec<PartitionOutcome> = named.iter().map(outcome).collect();
    AnyResponse::ElectLeaders(Response {
        error_code: if version == 0 { ErrorCode::NONE } else { refusal.error },
        replica_election_results: by_topic(&outcomes),
        ..Response::default()
    })
}

fn by_topic(outcomes: &[PartitionOutcome]) -> Vec<response::Topic> {
    let entry = |outcome: &PartitionOutcome| response::Partition {
        partition_id: outcome.index.0,
        error_code: outcome.result.as_ref().err().map_or(ErrorCode::NONE, |refusal| refusal.error),
        error_message: outcome.result.as_ref().err().and_then(super::message),
    };
    let topics = outcomes.chunk_by(|a, b| a.topic == b.topic);
    topics
        .filter_map(|outcomes| {
            let topic = text(&outcomes.first()?.topic);
            Some(response::Topic { topic, partition_result: outcomes.iter().map(entry).collect() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_can_be_told_in_every_version() {
        let named = [(Arc::from("orders"), PartitionIndex(0))];
        let refusal = Refusal::plain(ErrorCode::NOT_CONTROLLER);
        for version in 0..=2 {
            let response = refused(&refusal, &named, version);
            assert!(moldau_wire::encode_response(1, version, &response).is_ok(), "version {version}");
            let AnyResponse::ElectLeaders(told) = response else { panic!("another response") };
            let partition = &told.replica_election_results[0].partition_result[0];
            assert_eq!(partition.error_code, ErrorCode::NOT_CONTROLLER);
        }
    }
}
