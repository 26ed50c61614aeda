//! DeleteTopics: decided by the controller; answered when every shard of this node has let the topics go.

use std::sync::Arc;

use moldau_controller::{Refusal, Reply, Request as ToController, TopicRef};
use moldau_wire::delete_topics::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Passes the topics to the controller, unless deletion is disabled.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let named = request
        .topic_names
        .iter()
        .map(|name| request::Topic { name: Some(name.clone()), ..Default::default() });
    let asked: Vec<request::Topic> = if context.version >= 6 { request.topics } else { named.collect() };
    if !shard.settings.delete_topics {
        let code =
            if context.version < 3 { ErrorCode::INVALID_REQUEST } else { ErrorCode::TOPIC_DELETION_DISABLED };
        let refusal = Refusal::plain(code);
        let responses = asked.iter().map(|topic| refused(topic, &refusal)).collect();
        return reply(shard, context, responses);
    }
    let topics = asked
        .iter()
        .map(|topic| TopicRef { name: topic.name.as_deref().map(Arc::from), id: topic.topic_id })
        .collect();
    let delete = ToController::DeleteTopics(topics);
    let patience = super::patience(request.timeout_ms);
    super::decide(shard, context, delete, patience, move |shard, context, answers| {
        let responses = match super::from_controller(answers) {
            Ok(Reply::TopicsDeleted(deleted)) => deleted
                .into_iter()
                .map(|topic| {
                    let refusal = topic.result.err();
                    response::Topic {
                        name: topic.name.as_deref().map(text),
                        topic_id: topic.id,
                        error_code: refusal.as_ref().map_or(ErrorCode::NONE, |refusal| refusal.error),
                        error_message: refusal.as_ref().and_then(super::message),
                    }
                })
                .collect(),
            Ok(_) => Vec::new(),
            Err(refusal) => asked.iter().map(|topic| refused(topic, &refusal)).collect(),
        };
        reply(shard, context, responses);
    });
}

fn refused(topic: &request::Topic, refusal: &Refusal) -> response::Topic {
    response::Topic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        error_code: refusal.error,
        error_message: super::message(refusal),
    }
}

fn reply(shard: &mut Shard, context: Context, mut responses: Vec<response::Topic>) {
    if context.version < 6 {
        // The name may be null only from version 6 on.
        responses.iter_mut().for_each(|topic| _ = topic.name.get_or_insert_default());
    }
    shard.reply(context, AnyResponse::DeleteTopics(Response { responses, ..Response::default() }));
}
