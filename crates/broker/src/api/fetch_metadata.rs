//! Fetch on the listeners for nodes: an observer of the metadata quorum reads the metadata log (KIP-595).

use moldau_base::{NodeId, Uuid};
use moldau_quorum::{Given, Pull, Pulled, Wanted};
use moldau_wire::fetch::{Request, Response, response};
use moldau_wire::{ErrorCode, Records, Response as AnyResponse};

use super::fetch::TELLS_LEADERS;
use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};
use crate::observer::METADATA_TOPIC;
use crate::waist::ShardId;

/// The longest that a fetch waits for a commit, in milliseconds.
const MAX_WAIT_MS: i64 = 5_000;
/// How long the quorum may take besides, in milliseconds.
const PATIENCE_MS: i64 = 5_000;

/// Passes the question to this node's quorum.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let pull = match pull(shard, context.version, &request) {
        Ok(pull) => pull,
        Err(error_code) => {
            let response = Response { error_code, ..Response::default() };
            return shard.reply(context, AnyResponse::Fetch(response));
        }
    };
    if let Some(node) = pull.observer {
        shard.connections.is_of(context.conn, node);
    }
    let question = vec![(ShardId(0), Ask::Pull(pull))];
    shard.gather(question, Some(MAX_WAIT_MS + PATIENCE_MS), move |shard, answers| {
        let pulled = match answers.into_iter().next().flatten() {
            Some(Answer::Pulled(pulled)) => Some(pulled),
            _ => None,
        };
        let leader = pulled.as_ref().and_then(|pulled| pulled.leader);
        let leader = leader.filter(|_| context.version >= TELLS_LEADERS);
        let node_endpoints = leader.and_then(|leader| endpoint(shard, leader)).into_iter().collect();
        let late = || response::Partition { error_code: ErrorCode::REQUEST_TIMED_OUT, ..Default::default() };
        let partition = pulled.map_or_else(late, partition);
        let topic = response::Topic {
            topic: super::text(METADATA_TOPIC),
            topic_id: Uuid::METADATA_TOPIC,
            partitions: vec![partition],
        };
        let response = Response { responses: vec![topic], node_endpoints, ..Response::default() };
        shard.reply(context, AnyResponse::Fetch(response));
    });
}

/// Where the leader listens for nodes (KIP-853): who asks may not know it yet.
fn endpoint(shard: &Shard, leader: NodeId) -> Option<response::NodeEndpoint> {
    let address = crate::voters::address(shard, leader)?;
    Some(response::NodeEndpoint {
        node_id: leader.0,
        host: super::text(&address.host),
        port: i32::from(address.port),
        rack: None,
    })
}

/// What is asked of the quorum; only the metadata log is fetched here.
fn pull(shard: &Shard, version: i16, request: &Request) -> Result<Pull, ErrorCode> {
    check_cluster(shard, request.cluster_id.as_deref())?;
    let [topic] = request.topics.as_slice() else { return Err(ErrorCode::INVALID_REQUEST) };
    let is_metadata = match version {
        13.. => topic.topic_id == Uuid::METADATA_TOPIC,
        _ => &*topic.topic == METADATA_TOPIC,
    };
    let [partition] = topic.partitions.as_slice() else { return Err(ErrorCode::INVALID_REQUEST) };
    if !is_metadata || partition.partition != 0 {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let replica = if version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    Ok(Pull {
        observer: observer(replica),
        directory: partition.replica_directory_id,
        wanted: Wanted::Records {
            from: partition.fetch_offset.max(0),
            last_epoch: (partition.last_fetched_epoch >= 0).then_some(partition.last_fetched_epoch),
            max_bytes: usize::try_from(request.max_bytes.min(partition.partition_max_bytes)).unwrap_or(0),
            wait_ms: i64::from(request.max_wait_ms).min(MAX_WAIT_MS),
        },
    })
}

pub(super) fn observer(replica: i32) -> Option<NodeId> {
    (replica >= 0).then_some(NodeId(replica))
}

/// Whoever names a cluster must mean this one.
pub(super) fn check_cluster(shard: &Shard, cluster_id: Option<&str>) -> Result<(), ErrorCode> {
    match cluster_id {
        Some(id) if *id != *shard.settings.cluster_id => Err(ErrorCode::INCONSISTENT_CLUSTER_ID),
        _ => Ok(()),
    }
}

fn partition(pulled: Pulled) -> response::Partition {
    let current_leader = response::CurrentLeader {
        leader_id: pulled.leader.map_or(-1, |leader| leader.0),
        leader_epoch: pulled.epoch,
    };
    let mut partition = response::Partition {
        current_leader,
        high_watermark: -1,
        aborted_transactions: None,
        records: Records::EMPTY,
        ..response::Partition::default()
    };
    match pulled.given {
        Given::Records { batches, committed, start } => {
            partition.high_watermark = committed;
            partition.log_start_offset = start;
            partition.records = Records::Bytes(batches);
        }
        Given::Snapshot { end_offset, epoch } => {
            partition.snapshot_id = response::SnapshotId { end_offset, epoch };
        }
        given => partition.error_code = super::fetch_snapshot::refusal(&given),
    }
    partition
}
