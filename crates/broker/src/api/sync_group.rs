//! SyncGroup: receive one's assignment; held until the leader's is stored.

use moldau_group::request::{Sync, SyncReply};
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::sync_group::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Passes the member to its coordinator.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let group = request.group_id;
    let sync = ToGroup::Sync(Sync {
        group: group.clone(),
        generation: request.generation_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: request.assignments.into_iter().map(|to| (to.member_id, to.assignment)).collect(),
    });
    crate::groups::ask(shard, &group, sync, move |shard, reply| {
        let reply = match reply {
            Ok(Reply::Sync(reply)) => reply,
            Ok(_) => SyncReply::refused(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(code) => SyncReply::refused(code),
        };
        let response = Response {
            error_code: reply.error,
            protocol_type: reply.protocol_type,
            protocol_name: reply.protocol,
            assignment: reply.assignment,
            ..Response::default()
        };
        shard.reply(context, AnyResponse::SyncGroup(response));
    });
}
