//! FetchSnapshot: an observer of the metadata quorum reads a snapshot in pieces (KIP-630).

use moldau_quorum::{Given, Pull, Pulled, Wanted};
use moldau_wire::fetch_snapshot::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::fetch_metadata::{check_cluster, observer};
use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};
use crate::observer::METADATA_TOPIC;
use crate::waist::ShardId;

/// How long the quorum may take, in milliseconds.
const PATIENCE_MS: i64 = 5_000;

/// Passes the question to this node's quorum.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let pull = match pull(shard, &request) {
        Ok(pull) => pull,
        Err(error_code) => {
            let response = Response { error_code, ..Response::default() };
            return shard.reply(context, AnyResponse::FetchSnapshot(response));
        }
    };
    let wanted = pull.wanted.clone();
    shard.gather(vec![(ShardId(0), Ask::Pull(pull))], Some(PATIENCE_MS), move |shard, answers| {
        let partition = match answers.into_iter().next().flatten() {
            Some(Answer::Pulled(pulled)) => partition(pulled, &wanted),
            _ => response::Partition { error_code: ErrorCode::REQUEST_TIMED_OUT, ..Default::default() },
        };
        let topic = response::Topic { name: super::text(METADATA_TOPIC), partitions: vec![partition] };
        let response = Response { topics: vec![topic], ..Response::default() };
        shard.reply(context, AnyResponse::FetchSnapshot(response));
    });
}

fn pull(shard: &Shard, request: &Request) -> Result<Pull, ErrorCode> {
    check_cluster(shard, request.cluster_id.as_deref())?;
    let [topic] = request.topics.as_slice() else { return Err(ErrorCode::INVALID_REQUEST) };
    let [partition] = topic.partitions.as_slice() else { return Err(ErrorCode::INVALID_REQUEST) };
    if &*topic.name != METADATA_TOPIC || partition.partition != 0 {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(Pull {
        observer: observer(request.replica_id),
        directory: partition.replica_directory_id,
        wanted: Wanted::Piece {
            end_offset: partition.snapshot_id.end_offset,
            epoch: partition.snapshot_id.epoch,
            position: u64::try_from(partition.position).map_err(|_| ErrorCode::POSITION_OUT_OF_RANGE)?,
            max_bytes: usize::try_from(request.max_bytes).unwrap_or(0),
        },
    })
}

fn partition(pulled: Pulled, wanted: &Wanted) -> response::Partition {
    let current_leader = response::CurrentLeader {
        leader_id: pulled.leader.map_or(-1, |leader| leader.0),
        leader_epoch: pulled.epoch,
    };
    let mut partition = response::Partition { current_leader, ..Default::default() };
    if let Wanted::Piece { end_offset, epoch, position, .. } = *wanted {
        partition.snapshot_id = response::SnapshotId { end_offset, epoch };
        partition.position = i64::try_from(position).unwrap_or(i64::MAX);
    }
    match pulled.given {
        Given::Piece { bytes, size } => {
            partition.size = i64::try_from(size).unwrap_or(i64::MAX);
            partition.unaligned_records = bytes;
        }
        given => partition.error_code = refusal(&given),
    }
    partition
}

/// Why an observer is given nothing.
pub(super) fn refusal(given: &Given) -> ErrorCode {
    match given {
        Given::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        Given::NoSnapshot => ErrorCode::SNAPSHOT_NOT_FOUND,
        Given::Diverged => ErrorCode::OFFSET_OUT_OF_RANGE,
        Given::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        Given::Records { .. } | Given::Snapshot { .. } | Given::Piece { .. } => {
            ErrorCode::UNKNOWN_SERVER_ERROR
        }
    }
}
