//! LeaveGroup: members go, or are removed by an administrator (KIP-345).

use moldau_group::request::{Leave, LeaveReply, LeavingMember};
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::leave_group::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Passes the members to their coordinator.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let members = match context.version {
        0..=2 => vec![LeavingMember { member_id: request.member_id, group_instance_id: None }],
        _ => request
            .members
            .into_iter()
            .map(|member| LeavingMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
            })
            .collect(),
    };
    let group = request.group_id;
    let leave = ToGroup::Leave(Leave { group: group.clone(), members });
    crate::groups::ask(shard, &group, leave, move |shard, reply| {
        let reply = match reply {
            Ok(Reply::Leave(reply)) => reply,
            Ok(_) => LeaveReply { error: ErrorCode::UNKNOWN_SERVER_ERROR, members: Vec::new() },
            Err(code) => LeaveReply { error: code, members: Vec::new() },
        };
        let mut response = Response { error_code: reply.error, ..Response::default() };
        if context.version >= 3 {
            let member = |member: moldau_group::request::LeftMember| response::Member {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: member.error,
            };
            response.members = reply.members.into_iter().map(member).collect();
        } else if let Some(member) = reply.members.first().filter(|_| reply.error.is_ok()) {
            response.error_code = member.error;
        }
        shard.reply(context, AnyResponse::LeaveGroup(response));
    });
}
