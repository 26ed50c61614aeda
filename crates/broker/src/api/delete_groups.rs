//! DeleteGroups: forget groups without members, with their offsets (KIP-229).

use moldau_group::request::DeleteGroups;
use moldau_group::{Reply, Request as ToGroup};
use moldau_wire::delete_groups::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::Answer;

/// Asks the coordinator of every group.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let asked = request.groups_names.clone();
    let questions = request
        .groups_names
        .into_iter()
        .map(|group| {
            let delete = DeleteGroups { groups: vec![group.clone()] };
            crate::groups::question(shard, &group, ToGroup::DeleteGroups(delete))
        })
        .collect();
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        let results = asked.into_iter().zip(answers).map(|(group_id, answer)| {
            let error_code = match answer {
                Some(Answer::Group(Reply::DeleteGroups(groups))) => {
                    groups.first().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |group| group.error)
                }
                Some(Answer::Unavailable(code)) => code,
                _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            };
            response::Group { group_id, error_code }
        });
        let response = Response { results: results.collect(), ..Response::default() };
        shard.reply(context, AnyResponse::DeleteGroups(response));
    });
}
