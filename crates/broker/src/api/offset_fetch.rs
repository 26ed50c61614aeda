//! OffsetFetch: how far have groups read. Groups may belong to different coordinators, so each is asked for on its own.

use moldau_base::Uuid;
use moldau_group::request::{FetchGroup, FetchTopic, FetchedGroup, OffsetFetch};
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::offset_fetch::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;
use crate::message::Answer;

/// Asks the coordinator of every group.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let groups: Vec<FetchGroup> = if context.version >= 8 {
        request.groups.iter().map(|group| group_of(shard, group, context.version)).collect()
    } else {
        let topic = |topic: &request::Topic| FetchTopic {
            name: topic.name.clone(),
            topic_id: Uuid::ZERO,
            partitions: topic.partition_indexes.clone(),
        };
        // Before version 2 there is no null: an empty list asks for nothing.
        let topics = request.topics.as_ref().map(|topics| topics.iter().map(topic).collect());
        vec![FetchGroup { group: request.group_id, topics }]
    };
    let asked = groups.clone();
    let questions = groups
        .into_iter()
        .map(|group| {
            let name = group.group.clone();
            let fetch = OffsetFetch { groups: vec![group], require_stable: request.require_stable };
            crate::groups::question(shard, &name, ToGroup::OffsetFetch(fetch))
        })
        .collect();
    shard.gather(questions, super::patience(60_000), move |shard, answers| {
        let fetched = asked.into_iter().zip(answers).map(|(asked, answer)| fetched(asked, answer)).collect();
        reply(shard, context, fetched);
    });
}

fn group_of(shard: &Shard, group: &request::Group, version: i16) -> FetchGroup {
    let topic = |topic: &request::GroupTopic| {
        let known = shard.cluster.image.topic(topic.topic_id).filter(|_| version >= 10);
        FetchTopic {
            name: known.map_or_else(|| topic.name.clone(), |known| text(&known.name)),
            topic_id: topic.topic_id,
            partitions: topic.partition_indexes.clone(),
        }
    };
    FetchGroup {
        group: group.group_id.clone(),
        topics: group.topics.as_ref().map(|topics| topics.iter().map(topic).collect()),
    }
}

fn fetched(asked: FetchGroup, answer: Option<Answer>) -> FetchedGroup {
    let code = match answer {
        Some(Answer::Group(Reply::OffsetFetch(groups))) => match groups.into_iter().next() {
            Some(group) => return group,
            None => ErrorCode::UNKNOWN_SERVER_ERROR,
        },
        Some(Answer::Unavailable(code)) => code,
        _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    };
    FetchedGroup { group: asked.group, error: code, topics: Vec::new() }
}

fn reply(shard: &mut Shard, context: Context, fetched: Vec<FetchedGroup>) {
    let response = match context.version {
        8.. => Response {
            groups: fetched.into_iter().map(|group| group_entry(shard, group, context.version)).collect(),
            ..Response::default()
        },
        version => single(fetched, version),
    };
    shard.reply(context, AnyResponse::OffsetFetch(response));
}

fn group_entry(shard: &Shard, group: FetchedGroup, version: i16) -> response::Group {
    let topic = |topic: moldau_group::request::FetchedTopic| {
        let known = shard.cluster.image.topic_named(&topic.name);
        let unknown_id =
            version >= 10 && shard.cluster.image.topic(topic.topic_id).is_none() && known.is_none();
        let partition = |partition: moldau_group::request::FetchedPartition| response::GroupPartition {
            partition_index: partition.partition,
            committed_offset: partition.offset,
            committed_leader_epoch: partition.leader_epoch,
            metadata: Some(partition.metadata),
            error_code: if unknown_id { ErrorCode::UNKNOWN_TOPIC_ID } else { partition.error },
        };
        let topic_id = match topic.topic_id.is_zero() {
            true => known.map_or(Uuid::ZERO, |known| known.id),
            false => topic.topic_id,
        };
        response::GroupTopic {
            topic_id: if version >= 10 { topic_id } else { Uuid::ZERO },
            name: topic.name,
            partitions: topic.partitions.into_iter().map(partition).collect(),
        }
    };
    response::Group {
        group_id: group.group,
        topics: group.topics.into_iter().map(topic).collect(),
        error_code: group.error,
    }
}

/// Versions before 8 answer one group. Versions before 2 have no place for the group's error but its partitions.
fn single(fetched: Vec<FetchedGroup>, version: i16) -> Response {
    let Some(group) = fetched.into_iter().next() else { return Response::default() };
    let error = group.error;
    let topics = group.topics.into_iter().map(|topic| response::Topic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| response::Partition {
                partition_index: partition.partition,
                committed_offset: partition.offset,
                committed_leader_epoch: partition.leader_epoch,
                metadata: Some(partition.metadata),
                error_code: if version < 2 && error.is_err() { error } else { partition.error },
            })
            .collect(),
    });
    Response { topics: topics.collect(), error_code: error, ..Response::default() }
}
