//! DescribeCluster: brokers or controllers, cluster id and the active controller (KIP-700, KIP-919, KIP-1073).

use moldau_base::NodeId;
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

/// Answers from this shard's image, or with the voters of the metadata quorum on the listeners that are for nodes.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let endpoint_type = if context.version >= 1 { request.endpoint_type } else { BROKERS };
    let here = if shard.settings.is_for_nodes(context.listener) { CONTROLLERS } else { BROKERS };
    if endpoint_type != here {
        let (error_code, why) = mismatch(here, endpoint_type);
        let response = Response { error_code, error_message: Some(text(&why)), ..Response::default() };
        return shard.reply(context, AnyResponse::DescribeCluster(response));
    }
    let (controller_id, brokers) = match here {
        CONTROLLERS => controllers(shard),
        _ => brokers(shard, &context, request.include_fenced_brokers),
    };
    let response = Response {
        endpoint_type: here,
        cluster_id: text(&shard.settings.cluster_id),
        controller_id,
        brokers,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::NOT_ASKED,
        },
        ..Response::default()
    };
    shard.reply(context, AnyResponse::DescribeCluster(response));
}

/// In Kafka's words.
fn mismatch(here: i8, asked: i8) -> (ErrorCode, String) {
    let name = |kind| match kind {
        BROKERS => "BROKER",
        CONTROLLERS => "CONTROLLER",
        _ => "UNKNOWN",
    };
    match asked {
        BROKERS | CONTROLLERS => {
            let (here, asked) = (name(here), name(asked));
            let why = format!(
                "The request was sent to an endpoint of type {here}, but we wanted an endpoint of type {asked}"
            );
            (ErrorCode::MISMATCHED_ENDPOINT_TYPE, why)
        }
        _ => (ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, format!("Unsupported endpoint type {asked}")),
    }
}

fn brokers(shard: &Shard, context: &Context, fenced_too: bool) -> (i32, Vec<response::Broker>) {
    let image = &shard.cluster.image;
    let listener =
        shard.settings.listeners.get(usize::from(context.listener)).map(|listener| &*listener.name);
    let brokers = image.brokers().values().filter(|broker| fenced_too || broker.is_active());
    let brokers = brokers.filter_map(|broker| {
        let endpoint = broker.listener(listener?)?;
        Some(response::Broker {
            broker_id: broker.id.0,
            host: text(&endpoint.host),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(text),
            is_fenced: broker.fenced,
        })
    });
    (controller_id(image), brokers.collect())
}

/// The voters; the active controller is the one that decides, as who asks here wants to go to it.
fn controllers(shard: &Shard) -> (i32, Vec<response::Broker>) {
    let Some(control) = &shard.control else { return (-1, Vec::new()) };
    // A new quorum begins with those that are configured.
    let told: Vec<&NodeId> = control.voters.voters.keys().collect();
    let ids = if told.is_empty() { shard.settings.voters.keys().collect() } else { told };
    let voters = ids.into_iter().filter_map(|id| {
        let address = crate::voters::address(shard, *id)?;
        Some(response::Broker {
            broker_id: id.0,
            host: text(&address.host),
            port: i32::from(address.port),
            ..response::Broker::default()
        })
    });
    (control.leader.map_or(-1, |leader| leader.0), voters.collect())
}
