//! DescribeCluster: brokers, cluster id and controller (KIP-700, KIP-919, KIP-1073).

use moldau_wire::describe_cluster::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::metadata::{controller_id, operations};
use super::text;
use crate::Shard;
use crate::connections::Context;

/// The endpoint type of brokers; 2 is that of controllers, which this listener is not.
const BROKERS: i8 = 1;

/// Answers from this shard's image.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let endpoint_type = if context.version >= 1 { request.endpoint_type } else { BROKERS };
    if endpoint_type != BROKERS {
        let code = match endpoint_type {
            2 => ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            _ => ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
        };
        let response = Response {
            error_code: code,
            error_message: Some(text("this is a broker: ask for endpoint type 1")),
            ..Response::default()
        };
        return shard.reply(context, AnyResponse::DescribeCluster(response));
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
