//! JoinGroup: become a member of a group; held until the group's next generation is complete.

use moldau_group::request::{Join, JoinReply, Protocol};
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::join_group::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Passes the member to its coordinator.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let protocol = |protocol: moldau_wire::join_group::request::Protocol| Protocol {
        name: protocol.name,
        metadata: protocol.metadata,
    };
    let member_id = request.member_id.clone();
    let group = request.group_id;
    let join = ToGroup::Join(Join {
        group: group.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if context.version >= 1 { request.rebalance_timeout_ms } else { -1 },
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocols: request.protocols.into_iter().map(protocol).collect(),
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: text(&format!("/{}", context.address)),
        knows_member_id_required: context.version >= 4,
        knows_skip_assignment: context.version >= 9,
    });
    crate::groups::ask(shard, &group, join, move |shard, reply| {
        let reply = match reply {
            Ok(Reply::Join(reply)) => reply,
            Ok(_) => JoinReply::refused(member_id, ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(code) => JoinReply::refused(member_id, code),
        };
        shard.reply(context, AnyResponse::JoinGroup(response_of(reply)));
    });
}

fn response_of(reply: JoinReply) -> Response {
    let members = reply.members.into_iter().map(|member| response::Member {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        metadata: member.metadata,
    });
    Response {
        error_code: reply.error,
        generation_id: reply.generation,
        protocol_type: reply.protocol_type,
        // Versions before 7 cannot say that there is none.
        protocol_name: Some(reply.protocol.unwrap_or_default()),
        leader: reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: reply.member_id,
        members: members.collect(),
        ..Response::default()
    }
}
