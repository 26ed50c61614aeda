//! FindCoordinator: which broker coordinates a group. The first one to ask brings `__consumer_offsets` into being.

use bytestring::ByteString;
use moldau_base::PartitionIndex;
use moldau_controller::{InternalTopic, Request as ToController};
use moldau_wire::find_coordinator::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Key type of consumer groups; 1 is that of transactions, 2 that of share groups.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers from this shard's image, after the topic was created if need be.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let keys = if context.version >= 4 { request.coordinator_keys } else { vec![request.key] };
    let kind = if context.version >= 1 { request.key_type } else { GROUP };
    let exists = shard.cluster.image.topic_named(InternalTopic::ConsumerOffsets.name()).is_some();
    if exists || kind != GROUP {
        return reply(shard, context, kind, &keys);
    }
    let create = super::to_controller(ToController::CreateInternalTopic(InternalTopic::ConsumerOffsets));
    shard.gather(create, super::patience(30_000), move |shard, _| reply(shard, context, kind, &keys));
}

fn reply(shard: &mut Shard, context: Context, kind: i8, keys: &[ByteString]) {
    let coordinators: Vec<_> = keys.iter().map(|key| find(shard, &context, kind, key)).collect();
    let response = match <[response::Coordinator; 1]>::try_from(coordinators) {
        Ok([only]) if context.version < 4 => Response {
            error_code: only.error_code,
            error_message: only.error_message,
            node_id: only.node_id,
            host: only.host,
            port: only.port,
            ..Response::default()
        },
        Ok(only) => Response { coordinators: only.into(), ..Response::default() },
        Err(coordinators) => Response { coordinators, ..Response::default() },
    };
    shard.reply(context, AnyResponse::FindCoordinator(response));
}

fn find(shard: &Shard, context: &Context, kind: i8, key: &ByteString) -> response::Coordinator {
    let refuse = |code: ErrorCode, why: &str| response::Coordinator {
        key: key.clone(),
        node_id: -1,
        port: -1,
        error_code: code,
        error_message: Some(text(why)),
        ..response::Coordinator::default()
    };
    match kind {
        GROUP => {}
        TRANSACTION => {
            return refuse(ErrorCode::UNSUPPORTED_VERSION, "this broker does not support transactions");
        }
        _ => return refuse(ErrorCode::INVALID_REQUEST, "this broker coordinates consumer groups only"),
    }
    let image = &shard.cluster.image;
    let topic = image.topic_named(InternalTopic::ConsumerOffsets.name());
    let leader = topic.and_then(|topic| {
        let index = moldau_group::partition_for(key, topic.partition_count());
        topic.partition(PartitionIndex(index))?.leader()
    });
    let listener = shard.settings.listeners.get(usize::from(context.listener));
    let endpoint =
        leader.and_then(|leader| image.broker(leader)).and_then(|broker| broker.listener(&listener?.name));
    match (leader, endpoint) {
        (Some(leader), Some(endpoint)) => response::Coordinator {
            key: key.clone(),
            node_id: leader.0,
            host: text(&endpoint.host),
            port: i32::from(endpoint.port),
            ..response::Coordinator::default()
        },
        _ => refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "the coordinator is not available yet"),
    }
}
