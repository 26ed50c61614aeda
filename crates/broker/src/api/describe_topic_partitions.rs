//! DescribeTopicPartitions: topics in pages, with eligible leader replicas (KIP-966).

use moldau_controller::{Image, Partition, Topic};
use moldau_wire::describe_topic_partitions::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::metadata::{offline_replicas, operations};
use super::text;
use crate::Shard;
use crate::connections::Context;

/// Most partitions in one response (`max.request.partition.size.limit`).
const PAGE: i32 = 2_000;

/// Answers from this shard's image, from the cursor on, until the page is full.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let image = &shard.cluster.image;
    let response = match request.cursor.as_ref().filter(|cursor| cursor.partition_index < 0) {
        Some(_) => return shard.close(context.conn, "a cursor with a negative partition".into()),
        None => page(image, &request),
    };
    shard.reply(context, AnyResponse::DescribeTopicPartitions(response));
}

fn page(image: &Image, request: &Request) -> Response {
    let start = request.cursor.as_ref().map_or("", |cursor| &*cursor.topic_name);
    let mut names: Vec<&str> = match request.topics.is_empty() {
        true => image.topics_from(start).map(|topic| &*topic.name).collect(),
        false => request.topics.iter().map(|topic| &*topic.name).filter(|name| *name >= start).collect(),
    };
    names.sort_unstable();
    names.dedup();
    let mut room = request.response_partition_limit.clamp(1, PAGE);
    let mut response = Response::default();
    for name in names {
        if room == 0 {
            response.next_cursor = Some(response::Cursor { topic_name: text(name), partition_index: 0 });
            break;
        }
        let Some(topic) = image.topic_named(name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let first = match &request.cursor {
            Some(request::Cursor { topic_name, partition_index }) if &**topic_name == name => {
                *partition_index
            }
            _ => 0,
        };
        let (entry, next) = topic_entry(image, topic, first, room);
        room -= i32::try_from(entry.partitions.len()).unwrap_or(room);
        response.topics.push(entry);
        if let Some(partition_index) = next {
            response.next_cursor = Some(response::Cursor { topic_name: text(name), partition_index });
            break;
        }
    }
    response
}

fn unknown(name: &str) -> response::Topic {
    let error_code = match moldau_controller::names::check(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
    };
    response::Topic { error_code, name: Some(text(name)), ..response::Topic::default() }
}

/// The topic from partition `first` on, and the partition at which the next page begins.
fn topic_entry(image: &Image, topic: &Topic, first: i32, room: i32) -> (response::Topic, Option<i32>) {
    let end = first.saturating_add(room).min(topic.partition_count());
    let partitions = topic.partitions.iter().filter(|(index, _)| (first..end).contains(&index.0));
    let entry = response::Topic {
        error_code: ErrorCode::NONE,
        name: Some(text(&topic.name)),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.map(|(index, partition)| partition_entry(image, index.0, partition)).collect(),
        topic_authorized_operations: operations::TOPIC,
    };
    (entry, (end < topic.partition_count()).then_some(end))
}

fn partition_entry(image: &Image, index: i32, partition: &Partition) -> response::Partition {
    let ids = |nodes: &[moldau_base::NodeId]| nodes.iter().map(|id| id.0).collect::<Vec<i32>>();
    let leader = partition.leader();
    response::Partition {
        error_code: if leader.is_some() { ErrorCode::NONE } else { ErrorCode::LEADER_NOT_AVAILABLE },
        partition_index: index,
        leader_id: leader.map_or(-1, |id| id.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        eligible_leader_replicas: Some(ids(&partition.eligible)),
        last_known_elr: Some(ids(&partition.last_known_eligible)),
        offline_replicas: offline_replicas(image, partition),
    }
}
