//! Heartbeat: a member is alive.

use moldau_group::request::Heartbeat;
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::heartbeat::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Passes the member to its coordinator.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let group = request.group_id;
    let heartbeat = ToGroup::Heartbeat(Heartbeat {
        group: group.clone(),
        generation: request.generation_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
    });
    crate::groups::ask(shard, &group, heartbeat, move |shard, reply| {
        let error_code = match reply {
            Ok(Reply::Heartbeat(code)) | Err(code) => code,
            Ok(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
        };
        shard.reply(context, AnyResponse::Heartbeat(Response { error_code, ..Response::default() }));
    });
}
