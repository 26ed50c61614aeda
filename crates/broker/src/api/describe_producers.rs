//! DescribeProducers: the producers that partitions remember (KIP-664).

use moldau_base::producer::ProducerEntry;
use moldau_wire::describe_producers::{Request, Response, response};
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
        let found = super::find_topic(&shard.cluster.image, &topic.name, moldau_base::Uuid::ZERO).cloned();
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let mut entry = response::Partition { partition_index: index, ..Default::default() };
            let id = found.as_ref().map_err(|code| *code);
            match id.and_then(|topic| super::find_partition(topic, index)) {
                Ok(id) => {
                    places.push((at, partitions.len()));
                    questions.push((shard.owner_of(id), Ask::Producers { partition: id }));
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
            match answer {
                Some(Answer::Producers(Ok(producers))) => {
                    entry.active_producers = producers.iter().map(producer).collect();
                }
                Some(Answer::Producers(Err(code)) | Answer::Unavailable(code)) => entry.error_code = code,
                _ => entry.error_code = ErrorCode::REQUEST_TIMED_OUT,
            }
        }
        shard.reply(context, AnyResponse::DescribeProducers(response));
    });
}

fn producer(entry: &ProducerEntry) -> response::Producer {
    response::Producer {
        producer_id: entry.producer_id,
        producer_epoch: i32::from(entry.epoch),
        last_sequence: entry.last_sequence.unwrap_or(-1),
        last_timestamp: entry.timestamp,
        coordinator_epoch: entry.coordinator_epoch.unwrap_or(-1),
        current_txn_start_offset: entry.txn_first_offset.unwrap_or(-1),
    }
}
