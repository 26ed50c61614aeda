//! AllocateProducerIds: another node's broker asks the active controller for producer ids (KIP-730).

use moldau_base::{BrokerEpoch, NodeId};
use moldau_controller::{Reply, Request as ToController};
use moldau_wire::allocate_producer_ids::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// How long the controller may take, in milliseconds.
const PATIENCE_MS: i64 = 5_000;

/// Passes the request to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let refused =
        |error_code| AnyResponse::AllocateProducerIds(Response { error_code, ..Response::default() });
    if !crate::control::is_active(shard) {
        return shard.reply(context, refused(ErrorCode::NOT_CONTROLLER));
    }
    let allocate = ToController::AllocateProducerIds {
        broker: NodeId(request.broker_id),
        epoch: BrokerEpoch(request.broker_epoch),
    };
    shard.gather(super::to_controller(allocate), Some(PATIENCE_MS), move |shard, answers| {
        let response = match super::from_controller(answers) {
            Ok(Reply::ProducerIds(block)) => AnyResponse::AllocateProducerIds(Response {
                producer_id_start: block.first,
                producer_id_len: block.len,
                ..Response::default()
            }),
            Ok(_) => refused(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(refusal) => refused(refusal.error),
        };
        shard.reply(context, response);
    });
}
