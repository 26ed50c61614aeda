//! ListOffsets: offsets by name (earliest, latest, …) or by time.

use moldau_wire::list_offsets::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask, ListOffsets};

/// The first version whose responses carry the leader epoch (KIP-320).
const EPOCH_SINCE: i16 = 4;
/// The first version whose clients know OFFSET_NOT_AVAILABLE (KIP-207).
const NOT_AVAILABLE_SINCE: i16 = 5;

/// Puts every partition's search to its owner.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let mut response = Response::default();
    let mut places = Vec::new();
    let mut questions = Vec::new();
    for topic in request.topics {
        let at = response.topics.len();
        let found = super::find_topic(&shard.cluster.image, &topic.name, moldau_base::Uuid::ZERO).cloned();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let mut entry = response::Partition {
                partition_index: partition.partition_index,
                timestamp: -1,
                offset: -1,
                leader_epoch: -1,
                ..Default::default()
            };
            let id = found.as_ref().map_err(|code| *code);
            match id.and_then(|topic| super::find_partition(topic, partition.partition_index)) {
                Ok(id) => {
                    places.push((at, partitions.len()));
                    let search = ListOffsets {
                        partition: id,
                        timestamp: partition.timestamp,
                        read_committed: request.isolation_level == 1,
                        current_epoch: crate::partitions::known_epoch(partition.current_leader_epoch),
                        consumer: request.replica_id < 0,
                    };
                    questions.push((shard.owner_of(id), Ask::ListOffsets(search)));
                }
                Err(code) => entry.error_code = code,
            }
            partitions.push(entry);
        }
        response.topics.push(response::Topic { name: topic.name, partitions });
    }
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        for ((topic, partition), answer) in places.into_iter().zip(answers) {
            let entry = &mut response.topics[topic].partitions[partition];
            fill(entry, answer);
            if context.version < EPOCH_SINCE {
                entry.leader_epoch = -1;
            }
            if context.version < NOT_AVAILABLE_SINCE && entry.error_code == ErrorCode::OFFSET_NOT_AVAILABLE {
                entry.error_code = ErrorCode::LEADER_NOT_AVAILABLE;
            }
        }
        shard.reply(context, AnyResponse::ListOffsets(response));
    });
}

fn fill(entry: &mut response::Partition, answer: Option<Answer>) {
    match answer {
        Some(Answer::Offset(Ok(found))) => {
            entry.offset = found.offset;
            entry.timestamp = found.timestamp;
            entry.leader_epoch = found.epoch;
        }
        Some(Answer::Offset(Err(code)) | Answer::Unavailable(code)) => entry.error_code = code,
        _ => entry.error_code = ErrorCode::REQUEST_TIMED_OUT,
    }
}
