//! ListPartitionReassignments: the moves of partitions that are under way (KIP-455). The active controller answers, so that
//! whoever has begun a move there finds it.

use moldau_base::{NodeId, PartitionIndex};
use moldau_controller::{Image, Partition};
use moldau_wire::Response as AnyResponse;
use moldau_wire::list_partition_reassignments::{Request, Response, request, response};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Answers from this shard's image.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let image = &shard.cluster.image;
    let topics = match &request.topics {
        None => all(image),
        Some(named) => named.iter().filter_map(|topic| of_topic(image, topic)).collect(),
    };
    shard.reply(context, AnyResponse::ListPartitionReassignments(Response { topics, ..Response::default() }));
}

fn all(image: &Image) -> Vec<response::Topic> {
    let mut topics: Vec<response::Topic> = Vec::new();
    for (name, index, partition) in image.reassignments() {
        let entry = entry(index, partition);
        match topics.last_mut().filter(|topic| *topic.name == **name) {
            Some(topic) => topic.partitions.push(entry),
            None => topics.push(response::Topic { name: text(name), partitions: vec![entry] }),
        }
    }
    topics
}

/// The moves among the partitions that were named; whatever does not exist does not move.
fn of_topic(image: &Image, wanted: &request::Topic) -> Option<response::Topic> {
    let topic = image.topic_named(&wanted.name)?;
    let moving = wanted.partition_indexes.iter().filter_map(|index| {
        let index = PartitionIndex(*index);
        let partition = topic.partition(index).filter(|partition| partition.is_moving())?;
        Some(entry(index, partition))
    });
    let partitions: Vec<_> = moving.collect();
    (!partitions.is_empty()).then(|| response::Topic { name: wanted.name.clone(), partitions })
}

fn entry(index: PartitionIndex, partition: &Partition) -> response::Partition {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|id| id.0).collect();
    response::Partition {
        partition_index: index.0,
        replicas: ids(&partition.replicas),
        adding_replicas: ids(&partition.adding),
        removing_replicas: ids(&partition.removing),
    }
}
