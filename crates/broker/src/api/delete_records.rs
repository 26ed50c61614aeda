//! DeleteRecords: move log start offsets up (KIP-107).

use moldau_wire::delete_records::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};

/// Puts every partition's deletion to its owner. Internal topics are refused: groups would lose what they committed.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let mut response = Response::default();
    let mut places = Vec::new();
    let mut questions = Vec::new();
    for topic in request.topics {
        let at = response.topics.len();
        let found = super::find_topic(&shard.cluster.image, &topic.name, moldau_base::Uuid::ZERO).cloned();
        let found = found.and_then(|topic| match topic.is_internal() {
            true => Err(ErrorCode::INVALID_TOPIC_EXCEPTION),
            false => Ok(topic),
        });
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let mut entry = response::Partition {
                partition_index: partition.partition_index,
                low_watermark: -1,
                error_code: ErrorCode::NONE,
            };
            let id = found.as_ref().map_err(|code| *code);
            match id.and_then(|topic| super::find_partition(topic, partition.partition_index)) {
                Ok(id) => {
                    places.push((at, partitions.len()));
                    let ask = Ask::DeleteRecords { partition: id, before: partition.offset };
                    questions.push((shard.owner_of(id), ask));
                }
                Err(code) => entry.error_code = code,
            }
            partitions.push(entry);
        }
        response.topics.push(response::Topic { name: topic.name, partitions });
    }
    shard.gather(questions, super::patience(request.timeout_ms), move |shard, answers| {
        for ((topic, partition), answer) in places.into_iter().zip(answers) {
            let entry = &mut response.topics[topic].partitions[partition];
            match answer {
                Some(Answer::LowWatermark(Ok(low))) => entry.low_watermark = low,
                Some(Answer::LowWatermark(Err(code)) | Answer::Unavailable(code)) => entry.error_code = code,
                _ => entry.error_code = ErrorCode::REQUEST_TIMED_OUT,
            }
        }
        shard.reply(context, AnyResponse::DeleteRecords(response));
    });
}
