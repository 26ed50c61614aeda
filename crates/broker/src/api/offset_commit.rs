//! OffsetCommit: remember how far a group has read.

use moldau_base::Uuid;
use moldau_group::request::{CommitPartition, CommitTopic, OffsetCommit};
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::offset_commit::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Commits what names partitions that exist; the rest is refused partition by partition.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let by_id = context.version >= 10;
    let mut topics = Vec::new();
    let mut skeleton = Vec::new();
    for topic in &request.topics {
        let (entry, commit) = sort_out(shard, topic, by_id);
        skeleton.push(entry);
        topics.extend(commit);
    }
    if topics.is_empty() {
        return reply(shard, context, skeleton);
    }
    let group = request.group_id;
    let commit = ToGroup::OffsetCommit(OffsetCommit {
        group: group.clone(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        retention_ms: if context.version <= 4 { request.retention_time_ms } else { -1 },
        knows_group_id_not_found: context.version >= 9,
        topics,
    });
    crate::groups::ask(shard, &group, commit, move |shard, answer| {
        fill(&mut skeleton, answer);
        reply(shard, context, skeleton);
    });
}

/// The entry of the response with what is refused, and what is left to commit.
fn sort_out(shard: &Shard, topic: &request::Topic, by_id: bool) -> (response::Topic, Option<CommitTopic>) {
    let id = if by_id { topic.topic_id } else { Uuid::ZERO };
    let found = super::find_topic(&shard.cluster.image, &topic.name, id);
    let mut entry =
        response::Topic { name: topic.name.clone(), topic_id: topic.topic_id, partitions: Vec::new() };
    let mut commit = Vec::new();
    for partition in &topic.partitions {
        let known = found.and_then(|topic| super::find_partition(topic, partition.partition_index));
        let error_code = known.err().unwrap_or(ErrorCode::NONE);
        entry.partitions.push(response::Partition { partition_index: partition.partition_index, error_code });
        if error_code.is_ok() {
            commit.push(CommitPartition {
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.clone().unwrap_or_default(),
            });
        }
    }
    let commit = found.ok().filter(|_| !commit.is_empty()).map(|known| CommitTopic {
        name: super::text(&known.name),
        topic_id: known.id,
        partitions: commit,
    });
    (entry, commit)
}

/// Fills the gaps of the skeleton in order: the coordinator answers what it was asked, in that order.
fn fill(skeleton: &mut [response::Topic], answer: Result<Reply, ErrorCode>) {
    let (codes, otherwise): (Vec<ErrorCode>, ErrorCode) = match answer {
        Ok(Reply::OffsetCommit(topics)) => {
            let codes = topics.into_iter().flat_map(|topic| topic.partitions).map(|(_, code)| code);
            (codes.collect(), ErrorCode::UNKNOWN_SERVER_ERROR)
        }
        Ok(_) => (Vec::new(), ErrorCode::UNKNOWN_SERVER_ERROR),
        Err(code) => (Vec::new(), code),
    };
    let mut codes = codes.into_iter();
    let open =
        skeleton.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|entry| entry.error_code.is_ok());
    open.for_each(|entry| entry.error_code = codes.next().unwrap_or(otherwise));
}

fn reply(shard: &mut Shard, context: Context, topics: Vec<response::Topic>) {
    shard.reply(context, AnyResponse::OffsetCommit(Response { topics, ..Response::default() }));
}
