//! Voters: what a voter of the metadata quorum says to another.

use moldau_base::NodeId;
use moldau_wire::voters::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};
use crate::waist::ShardId;

/// How long this node's quorum may take, in milliseconds; it answers even when its answer is no.
const PATIENCE_MS: i64 = 10_000;

/// Gives the message to this node's voter.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    if let Err((error, why)) = check(shard, &request) {
        shard.warn_once(format!("a voter at {} was refused: {why}", context.address));
        return reply(shard, context, Response { error_code: error, ..Response::default() });
    }
    let from = NodeId(request.from);
    if !is_known(shard, from) {
        // It may have become a voter while this one was away: whether it is heard is for the quorum to say.
        let what = "is not among the voters that this node knows (controller.quorum.voters)";
        shard.warn_once(format!("a voter at {}: node {from} {what}", context.address));
    }
    shard.connections.is_of(context.conn, from);
    let question = vec![(ShardId(0), Ask::Voter { from, message: request.message })];
    shard.gather(question, Some(PATIENCE_MS), move |shard, answers| {
        let response = match answers.into_iter().next().flatten() {
            Some(Answer::Voter(message)) => Response { error_code: ErrorCode::NONE, message },
            _ => Response { error_code: ErrorCode::REQUEST_TIMED_OUT, ..Response::default() },
        };
        reply(shard, context, response);
    });
}

fn reply(shard: &mut Shard, context: Context, response: Response) {
    shard.reply(context, AnyResponse::Voters(response));
}

fn is_known(shard: &Shard, node: NodeId) -> bool {
    let told = shard.control.as_ref().map(|control| &control.voters);
    let told = told.is_some_and(|told| told.voters.contains_key(&node) || told.observers.contains_key(&node));
    told || shard.settings.voters.contains_key(&node)
}

/// Whether the message comes from a voter of this cluster and is for this node.
fn check(shard: &Shard, request: &Request) -> Result<(), (ErrorCode, String)> {
    let settings = &shard.settings;
    if *request.cluster_id != *settings.cluster_id {
        let why = format!("it is of cluster {}, this node of {}", request.cluster_id, settings.cluster_id);
        return Err((ErrorCode::INCONSISTENT_CLUSTER_ID, why));
    }
    if request.to != settings.node_id.0 {
        let why = format!(
            "it looks for node {}, and this is node {}: controller.quorum.voters differs, or two nodes have one id",
            request.to, settings.node_id
        );
        return Err((ErrorCode::INVALID_VOTER_KEY, why));
    }
    let from = NodeId(request.from);
    if from == settings.node_id {
        return Err((ErrorCode::INVALID_VOTER_KEY, format!("it has the id of this node, {from}")));
    }
    Ok(())
}
