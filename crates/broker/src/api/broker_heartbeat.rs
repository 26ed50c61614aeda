//! BrokerHeartbeat: another node's broker tells the active controller that it is there (KIP-631).

use moldau_base::{BrokerEpoch, NodeId};
use moldau_controller::{Heartbeat, Reply, Request as ToController, Wants};
use moldau_wire::broker_heartbeat::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// How long the controller may take, in milliseconds.
const PATIENCE_MS: i64 = 2_000;

/// Passes the heartbeat to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let refused = |error_code| AnyResponse::BrokerHeartbeat(Response { error_code, ..Response::default() });
    if !crate::control::is_active(shard) {
        return shard.reply(context, refused(ErrorCode::NOT_CONTROLLER));
    }
    let broker = NodeId(request.broker_id);
    shard.connections.is_of(context.conn, broker);
    let heartbeat = ToController::Heartbeat(Heartbeat {
        broker,
        epoch: BrokerEpoch(request.broker_epoch),
        offset: request.current_metadata_offset,
        wants: match (request.want_fence, request.want_shut_down) {
            (false, false) => Wants::Serve,
            (true, false) => Wants::Fence,
            (false, true) => Wants::Stop,
            (true, true) => Wants::FenceAndStop,
        },
        offline_dirs: request.offline_log_dirs,
    });
    shard.gather(super::to_controller(heartbeat), Some(PATIENCE_MS), move |shard, answers| {
        let response = match super::from_controller(answers) {
            Ok(Reply::Heartbeat(reply)) => AnyResponse::BrokerHeartbeat(Response {
                is_caught_up: reply.caught_up,
                is_fenced: reply.fenced,
                should_shut_down: reply.should_shut_down,
                ..Response::default()
            }),
            Ok(_) => refused(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(refusal) => refused(refusal.error),
        };
        shard.reply(context, response);
    });
}
