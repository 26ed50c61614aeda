//! OffsetDelete: forget offsets of topics that a group does not subscribe to (KIP-496).

use moldau_group::request::{OffsetDelete, OffsetDeleteReply};
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::offset_delete::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Passes the request to the group's coordinator.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            (topic.name, topic.partitions.iter().map(|partition| partition.partition_index).collect())
        })
        .collect();
    let group = request.group_id;
    let delete = ToGroup::OffsetDelete(OffsetDelete { group: group.clone(), topics });
    crate::groups::ask(shard, &group, delete, move |shard, reply| {
        let reply = match reply {
            Ok(Reply::OffsetDelete(reply)) => reply,
            Ok(_) => OffsetDeleteReply { error: ErrorCode::UNKNOWN_SERVER_ERROR, topics: Vec::new() },
            Err(code) => OffsetDeleteReply { error: code, topics: Vec::new() },
        };
        let topics = reply.topics.into_iter().map(|(name, partitions)| response::Topic {
            name,
            partitions: partitions
                .into_iter()
                .map(|(partition_index, error_code)| response::Partition { partition_index, error_code })
                .collect(),
        });
        let response = Response { error_code: reply.error, topics: topics.collect(), ..Response::default() };
        shard.reply(context, AnyResponse::OffsetDelete(response));
    });
}
