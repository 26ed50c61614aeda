//! DescribeCluster: brokers, cluster id and controller (KIP-700, KIP-919, KIP-1073).

use moldau_wire::describe_cluster::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::metadata::{controller_id, operations};
use super::text;
use crate::Shard;
use crate::connections::Context;

/// The endpoint type of the listeners for clients.
const BROKERS: i8 = 1;
/// The endpoint type of the listeners for nodes.
const CONTROLLERS: i8 = 2;

/// Answers from this shard's image.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let endpoint_type = if context.version >= 1 { request.endpoint_type } else { BROKERS };
    let (here, refusal) = match shard.settings.is_for_nodes(context.listener) {
        true => (CONTROLLERS, "this is a controller: ask for endpoint type 2"),
        false => (BROKERS, "this is a broker: ask for endpoint type 1"),
    };
    if endpoint_type != here {
        let error_code = match endpoint_type {
            BROKERS | CONTROLLERS => ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            _ => ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
        };
        let response = Response { error_code, error_message: Some(text(refusal)), ..Response::default() };
        return shard.reply(context, AnyResponse::DescribeCluster(response));
    }
    if here == CONTROLLERS {
        return controllers(shard, context);
    }
    let image = &shard.cluster.image;
    let listener =
        shard.settings.listeners.get(usize::from(context.listener)).map(|listener| &*listener.name);
    let fenced_too = request.include_fenced_brokers;
    let brokers =
        image.brokers().values().filter(|broker| fenced_too || broker.is_active()).filter_map(|broker| {
            let endpoint = broker.listener(listener?)?;
            Some(response::Broker {
                broker_id: broker.id.0,
                host: text(&endpoint.host),
                port: i32::from(endpoint.port),
                rack: broker.rack.as_deref().map(text),
                is_fenced: broker.fenced,
            })
        });
    let response = Response {
        endpoint_type: BROKERS,
        cluster_id: text(image.cluster_id()),
        controller_id: controller_id(image),
        brokers: brokers.collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::NOT_ASKED,
        },
        ..Response::default()
    };
    shard.reply(context, AnyResponse::DescribeCluster(response));
}

/// The voters of the metadata quorum, and who of them is active (KIP-919).
fn controllers(shard: &mut Shard, context: Context) {
    let voters = shard.settings.voters.iter().map(|(id, address)| response::Broker {
        broker_id: id.0,
        host: text(&address.host),
        port: i32::from(address.port),
        rack: None,
        is_fenced: false,
    });
    let active = shard.control.as_ref().and_then(|control| control.leader);
    let response = Response {
        endpoint_type: CONTROLLERS,
        cluster_id: text(&shard.settings.cluster_id),
        controller_id: active.map_or(-1, |leader| leader.0),
        brokers: voters.collect(),
        cluster_authorized_operations: operations::NOT_ASKED,
        ..Response::default()
    };
    shard.reply(context, AnyResponse::DescribeCluster(response));
}
