//! DescribeGroups: members and assignments of classic groups.

use moldau_group::request::{DescribeGroups, DescribedGroup};
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::describe_groups::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::metadata::operations;
use super::text;
use crate::Shard;
use crate::connections::Context;
use crate::message::Answer;

/// Asks the coordinator of every group.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let asked = request.groups.clone();
    let questions = request
        .groups
        .into_iter()
        .map(|group| {
            let describe = DescribeGroups {
                groups: vec![group.clone()],
                knows_group_id_not_found: context.version >= 6,
            };
            crate::groups::question(shard, &group, ToGroup::DescribeGroups(describe))
        })
        .collect();
    let with_operations = request.include_authorized_operations;
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        let groups = asked.into_iter().zip(answers).map(|(group, answer)| {
            let code = match answer {
                Some(Answer::Group(Reply::DescribeGroups(groups))) => match groups.into_iter().next() {
                    Some(group) => return entry(group, with_operations),
                    None => ErrorCode::UNKNOWN_SERVER_ERROR,
                },
                Some(Answer::Unavailable(code)) => code,
                _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            };
            entry(DescribedGroup::refused(group, code), with_operations)
        });
        let response = Response { groups: groups.collect(), ..Response::default() };
        shard.reply(context, AnyResponse::DescribeGroups(response));
    });
}

fn entry(group: DescribedGroup, with_operations: bool) -> response::Group {
    let members = group.members.into_iter().map(|member| response::Member {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    response::Group {
        error_code: group.error,
        error_message: group.error_message,
        group_id: group.group,
        group_state: text(group.state),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol,
        members: members.collect(),
        authorized_operations: if with_operations { operations::GROUP } else { operations::NOT_ASKED },
    }
}
