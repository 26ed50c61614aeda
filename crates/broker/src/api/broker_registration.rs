//! BrokerRegistration: another node makes its broker known to the active controller (KIP-631).

use std::sync::Arc;

use moldau_base::{BrokerEpoch, NodeId};
use moldau_controller::{FeatureRange, Listener, RegisterBroker, Reply, Request as ToController};
use moldau_wire::broker_registration::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// How long the registration may take, in milliseconds.
const PATIENCE_MS: i64 = 5_000;

/// Passes the registration to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let refused =
        |error_code| AnyResponse::BrokerRegistration(Response { error_code, ..Response::default() });
    if !crate::control::is_active(shard) {
        return shard.reply(context, refused(ErrorCode::NOT_CONTROLLER));
    }
    let id = NodeId(request.broker_id);
    shard.connections.is_of(context.conn, id);
    let register = ToController::RegisterBroker(registration(request));
    shard.gather(super::to_controller(register), Some(PATIENCE_MS), move |shard, answers| {
        let response = match super::from_controller(answers) {
            Ok(Reply::BrokerRegistered(epoch)) => {
                AnyResponse::BrokerRegistration(Response { broker_epoch: epoch.0, ..Response::default() })
            }
            Ok(_) => refused(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(refusal) => {
                shard.warn_once(format!("the registration of broker {id} is refused: {refusal}"));
                refused(refusal.error)
            }
        };
        shard.reply(context, response);
    });
}

fn registration(request: Request) -> RegisterBroker {
    use moldau_wire::broker_registration::request;
    let listener = |listener: &request::Listener| Listener {
        name: Arc::from(&*listener.name),
        host: Arc::from(&*listener.host),
        port: listener.port,
        security_protocol: listener.security_protocol,
    };
    let feature = |feature: &request::Feature| FeatureRange {
        name: Arc::from(&*feature.name),
        min: feature.min_supported_version,
        max: feature.max_supported_version,
    };
    RegisterBroker {
        id: NodeId(request.broker_id),
        cluster_id: Arc::from(&*request.cluster_id),
        incarnation: request.incarnation_id,
        listeners: request.listeners.iter().map(listener).collect(),
        rack: request.rack.as_deref().map(Arc::from),
        features: request.features.iter().map(feature).collect(),
        log_dirs: request.log_dirs,
        fenced: true,
        stopped_at: (request.previous_broker_epoch >= 0)
            .then_some(BrokerEpoch(request.previous_broker_epoch)),
    }
}
