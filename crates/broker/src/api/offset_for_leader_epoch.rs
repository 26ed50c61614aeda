//! OffsetForLeaderEpoch: where an epoch ends, by which a consumer notices that records it has read are gone (KIP-101, KIP-320).

use moldau_base::LeaderEpoch;
use moldau_wire::offset_for_leader_epoch::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};

/// Puts every partition's question to its owner.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let mut response = Response::default();
    let mut places = Vec::new();
    let mut questions = Vec::new();
    for topic in request.topics {
        let at = response.topics.len();
        let found = super::find_topic(&shard.cluster.image, &topic.topic, moldau_base::Uuid::ZERO).cloned();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let mut entry = response::Partition {
                partition: partition.partition,
                leader_epoch: -1,
                end_offset: -1,
                ..Default::default()
            };
            let id = found.as_ref().map_err(|code| *code);
            match id.and_then(|topic| super::find_partition(topic, partition.partition)) {
                Ok(id) => {
                    places.push((at, partitions.len()));
                    let ask = Ask::EpochEnd {
                        partition: id,
                        current_epoch: crate::partitions::known_epoch(partition.current_leader_epoch),
                        epoch: LeaderEpoch(partition.leader_epoch),
                    };
                    questions.push((shard.owner_of(id), ask));
                }
                Err(code) => entry.error_code = code,
            }
            partitions.push(entry);
        }
        response.topics.push(response::Topic { topic: topic.topic, partitions });
    }
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        for ((topic, partition), answer) in places.into_iter().zip(answers) {
            let entry = &mut response.topics[topic].partitions[partition];
            match answer {
                Some(Answer::EpochEnd(Ok((epoch, end)))) => {
                    entry.leader_epoch = epoch;
                    entry.end_offset = end;
                }
                Some(Answer::EpochEnd(Err(code)) | Answer::Unavailable(code)) => entry.error_code = code,
                _ => entry.error_code = ErrorCode::REQUEST_TIMED_OUT,
            }
        }
        shard.reply(context, AnyResponse::OffsetForLeaderEpoch(response));
    });
}
