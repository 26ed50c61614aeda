//! ListGroups: the groups that this broker coordinates.

use moldau_group::request::ListGroups;
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::list_groups::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};

/// Asks every coordinator of every shard.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let list = ListGroups { states: request.states_filter, types: request.types_filter };
    let questions = shard
        .all_shards()
        .map(|owner| (owner, Ask::EveryGroup { request: ToGroup::ListGroups(list.clone()) }))
        .collect();
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        let mut response = Response::default();
        for answer in answers {
            match answer {
                Some(Answer::Groups(replies)) => {
                    replies.into_iter().for_each(|reply| add(&mut response, reply))
                }
                Some(Answer::Unavailable(code)) => response.error_code = code,
                _ => response.error_code = ErrorCode::COORDINATOR_NOT_AVAILABLE,
            }
        }
        response.groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        shard.reply(context, AnyResponse::ListGroups(response));
    });
}

fn add(response: &mut Response, reply: Reply) {
    let Reply::ListGroups(list) = reply else { return };
    if list.error.is_err() {
        response.error_code = list.error;
    }
    response.groups.extend(list.groups.into_iter().map(|group| response::Group {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: text(group.state),
        group_type: text(group.group_type),
    }));
}
