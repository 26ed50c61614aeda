//! InitProducerId: an identity for an idempotent producer (KIP-98). Transactional ids are refused until there are transactions.

use moldau_wire::init_producer_id::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};
use crate::waist::ShardId;

/// A fresh producer id with epoch 0. A client that resets its own id (KIP-360) gets a fresh one too.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    if request.transactional_id.is_some() {
        return reply(shard, context, Err(ErrorCode::UNSUPPORTED_VERSION));
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return reply(shard, context, Err(ErrorCode::INVALID_REQUEST));
    }
    let questions = vec![(ShardId(0), Ask::ProducerId)];
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        let id = match answers.into_iter().next().flatten() {
            Some(Answer::ProducerId(id)) => id,
            _ => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        };
        reply(shard, context, id);
    });
}

fn reply(shard: &mut Shard, context: Context, id: Result<i64, ErrorCode>) {
    let response = match id {
        Ok(id) => Response { producer_id: id, producer_epoch: 0, ..Response::default() },
        Err(code) => {
            Response { error_code: code, producer_id: -1, producer_epoch: -1, ..Response::default() }
        }
    };
    shard.reply(context, AnyResponse::InitProducerId(response));
}
