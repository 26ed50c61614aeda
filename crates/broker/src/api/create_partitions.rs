//! CreatePartitions: more partitions for topics (KIP-195); decided by the controller.

use std::sync::Arc;

use moldau_base::NodeId;
use moldau_controller::{CreatePartitions, Mode, MorePartitions, Refusal, Reply, Request as ToController};
use moldau_wire::create_partitions::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Passes the topics to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let create = ToController::CreatePartitions(CreatePartitions {
        topics: request.topics.iter().map(more).collect(),
        mode: if request.validate_only { Mode::Validate } else { Mode::Apply },
    });
    let patience = super::patience(request.timeout_ms);
    super::decide(shard, context, create, patience, move |shard, context, answers| {
        let results = match super::from_controller(answers) {
            Ok(Reply::PartitionsCreated(created)) => {
                created.iter().map(|(name, result)| entry(name, result.as_ref().err())).collect()
            }
            Ok(_) => Vec::new(),
            Err(refusal) => names.iter().map(|name| entry(name, Some(&refusal))).collect(),
        };
        shard.reply(context, AnyResponse::CreatePartitions(Response { results, ..Response::default() }));
    });
}

fn more(topic: &request::Topic) -> MorePartitions {
    let brokers =
        |assignment: &request::Assignment| assignment.broker_ids.iter().copied().map(NodeId).collect();
    MorePartitions {
        name: Arc::from(&*topic.name),
        count: topic.count,
        assignments: topic.assignments.as_ref().map(|all| all.iter().map(brokers).collect()),
    }
}

fn entry(name: &str, refusal: Option<&Refusal>) -> response::Topic {
    response::Topic {
        name: text(name),
        error_code: refusal.map_or(ErrorCode::NONE, |refusal| refusal.error),
        error_message: refusal.and_then(super::message),
    }
}
