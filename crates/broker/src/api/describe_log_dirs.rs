//! DescribeLogDirs: sizes of logs, by log directory (KIP-113, KIP-827).

use std::collections::BTreeMap;

use moldau_base::{PartitionIndex, TopicPartition, Uuid};
use moldau_wire::describe_log_dirs::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask, LogSizes};

/// Asks every shard for its logs, or for those that the client names.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let wanted: Option<Vec<TopicPartition>> = request.topics.map(|topics| {
        let image = &shard.cluster.image;
        let partitions = topics.iter().filter_map(|topic| {
            let id = super::find_topic(image, &topic.topic, Uuid::ZERO).ok()?.id;
            Some(
                topic
                    .partitions
                    .iter()
                    .map(move |index| TopicPartition { topic: id, partition: PartitionIndex(*index) }),
            )
        });
        partitions.flatten().collect()
    });
    let questions =
        shard.all_shards().map(|owner| (owner, Ask::LogSizes { partitions: wanted.clone() })).collect();
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        let mut all = LogSizes::default();
        for answer in answers.into_iter().flatten() {
            if let Answer::LogSizes(sizes) = answer {
                all.logs.extend(sizes.logs);
                all.offline.extend(sizes.offline);
            }
        }
        let results = log_dirs(shard, &all);
        shard.reply(context, AnyResponse::DescribeLogDirs(Response { results, ..Response::default() }));
    });
}

fn log_dirs(shard: &Shard, sizes: &LogSizes) -> Vec<response::LogDir> {
    let dirs = shard.settings.log_dirs.iter().enumerate();
    dirs.map(|(at, dir)| {
        let offline = sizes.offline.iter().any(|offline| usize::from(*offline) == at);
        let here = sizes.logs.iter().filter(|log| usize::from(log.dir) == at);
        let mut topics: BTreeMap<&str, Vec<response::Partition>> = BTreeMap::new();
        for log in here {
            // A log whose topic has just been deleted has no name any more.
            let Some(topic) = shard.cluster.image.topic(log.partition.topic) else { continue };
            topics.entry(&topic.name).or_default().push(response::Partition {
                partition_index: log.partition.partition.0,
                partition_size: i64::try_from(log.bytes).unwrap_or(i64::MAX),
                offset_lag: log.lag,
                is_future_key: log.is_copy,
            });
        }
        let topic = |(name, mut partitions): (&str, Vec<response::Partition>)| {
            partitions.sort_by_key(|partition| partition.partition_index);
            response::Topic { name: text(name), partitions }
        };
        let space = dir.space.get();
        response::LogDir {
            error_code: if offline { ErrorCode::KAFKA_STORAGE_ERROR } else { ErrorCode::NONE },
            log_dir: text(&dir.path),
            topics: if offline { Vec::new() } else { topics.into_iter().map(topic).collect() },
            total_bytes: space.map_or(-1, |space| space.total_bytes),
            usable_bytes: space.map_or(-1, |space| space.usable_bytes),
            is_cordoned: false,
        }
    })
    .collect()
}
