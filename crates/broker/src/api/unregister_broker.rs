//! UnregisterBroker: a broker that is gone for good is forgotten (KIP-631).

use moldau_base::NodeId;
use moldau_controller::Request as ToController;
use moldau_wire::unregister_broker::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Passes the request to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let unregister = ToController::UnregisterBroker(NodeId(request.broker_id));
    super::decide(shard, context, unregister, super::patience(30_000), move |shard, context, answers| {
        let response = match super::from_controller(answers) {
            Ok(_) => Response { error_code: ErrorCode::NONE, ..Response::default() },
            Err(refusal) => Response {
                error_code: refusal.error,
                error_message: super::message(&refusal),
                ..Response::default()
            },
        };
        shard.reply(context, AnyResponse::UnregisterBroker(response));
    });
}
