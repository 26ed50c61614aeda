//! DescribeQuorum: who leads the metadata quorum, who votes in it and how far each of them is (KIP-595, KIP-836, KIP-853).

use moldau_base::Uuid;
use moldau_base::voter::{QuorumState, ReplicaState, VoterEndpoint};
use moldau_wire::describe_quorum::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};
use crate::waist::ShardId;

/// The only log that has a quorum, and its only partition.
const METADATA: &str = "__cluster_metadata";
/// The first version whose answers say where a replica keeps its log and where it listens.
const TELLS_WHERE: i16 = 2;

/// Asks this node's quorum, which knows if it leads.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let is_metadata = matches!(&request.topics[..], [topic]
        if *topic.topic_name == *METADATA && matches!(&topic.partitions[..], [only] if only.partition_index == 0));
    if !is_metadata {
        let response = unknown(&request);
        return shard.reply(context, AnyResponse::DescribeQuorum(response));
    }
    let version = context.version;
    shard.gather(vec![(ShardId(0), Ask::Quorum)], super::patience(5_000), move |shard, answers| {
        let response = match answers.into_iter().next().flatten() {
            Some(Answer::Quorum(Some(state))) => described(state, version),
            Some(Answer::Quorum(None)) => refused(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            _ => refused(ErrorCode::REQUEST_TIMED_OUT),
        };
        shard.reply(context, AnyResponse::DescribeQuorum(response));
    });
}

fn unknown(request: &Request) -> Response {
    let error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let topics = request.topics.iter().map(|topic| response::Topic {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| response::Partition {
                partition_index: partition.partition_index,
                error_code,
                error_message: Some(text(error_code.message())),
                ..response::Partition::default()
            })
            .collect(),
    });
    Response { topics: topics.collect(), ..Response::default() }
}

fn of_metadata(partition: response::Partition) -> Response {
    let topics = vec![response::Topic { topic_name: text(METADATA), partitions: vec![partition] }];
    Response { topics, ..Response::default() }
}

fn refused(error_code: ErrorCode) -> Response {
    let error_message = Some(text(error_code.message()));
    of_metadata(response::Partition { error_code, error_message, ..response::Partition::default() })
}

fn described(state: QuorumState, version: i16) -> Response {
    let QuorumState { leader, epoch, high_watermark, mut voters, mut observers } = state;
    let mut nodes: Vec<_> = voters.iter().chain(&observers).map(node).collect();
    if version < TELLS_WHERE {
        nodes.clear();
        voters.iter_mut().chain(&mut observers).for_each(|replica| replica.directory = Uuid::ZERO);
    }
    let response = of_metadata(response::Partition {
        leader_id: leader.0,
        leader_epoch: epoch,
        high_watermark,
        current_voters: voters.iter().map(replica).collect(),
        observers: observers.iter().map(replica).collect(),
        ..response::Partition::default()
    });
    Response { nodes, ..response }
}

fn replica(replica: &ReplicaState) -> response::ReplicaState {
    response::ReplicaState {
        replica_id: replica.node.0,
        replica_directory_id: replica.directory,
        log_end_offset: replica.end_offset,
        last_fetch_timestamp: replica.heard_ms,
        last_caught_up_timestamp: replica.caught_up_ms,
    }
}

/// Where a replica listens for other nodes; a node that is alone does not.
fn node(replica: &ReplicaState) -> response::Node {
    let listener = |endpoint: &VoterEndpoint| response::Listener {
        name: text(&endpoint.listener),
        host: text(&endpoint.host),
        port: endpoint.port,
    };
    response::Node { node_id: replica.node.0, listeners: replica.endpoints.iter().map(listener).collect() }
}

#[cfg(test)]
mod tests {
    use moldau_base::NodeId;

    use super::*;

    #[test]
    fn every_version_has_an_answer() {
        let endpoint = VoterEndpoint { listener: "CONTROLLER".into(), host: "here".into(), port: 9093 };
        let voter = ReplicaState {
            node: NodeId(1),
            directory: Uuid([7; 16]),
            end_offset: 5,
            heard_ms: 3,
            caught_up_ms: 3,
            endpoints: vec![endpoint],
        };
        let voters = vec![voter];
        let state =
            QuorumState { leader: NodeId(1), epoch: 2, high_watermark: 5, voters, observers: Vec::new() };
        for version in 0..=2 {
            let response = AnyResponse::DescribeQuorum(described(state.clone(), version));
            let encoded = moldau_wire::encode_response(1, version, &response);
            assert!(encoded.is_ok(), "version {version}: {encoded:?}");
        }
    }
}
