//! DescribeConfigs: values in force, where they come from, and what they are for (KIP-133, KIP-226, KIP-569).

use std::collections::BTreeSet;

use bytestring::ByteString;
use moldau_base::NodeId;
use moldau_base::config::{self, BrokerLayers, Described as Key, Values};
use moldau_controller::{Refusal, Resource};
use moldau_wire::describe_configs::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Kafka's numbers of the resources that have configs here.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// A config as CreateTopics shows it.
pub(crate) struct Described {
    pub(crate) name: ByteString,
    pub(crate) value: Option<ByteString>,
    pub(crate) read_only: bool,
    pub(crate) source: i8,
    pub(crate) sensitive: bool,
}

/// Answers from this shard's image and the node's configuration.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let layers = layers(shard);
    let results = request
        .resources
        .iter()
        .map(|resource| {
            let keys = keys_of(shard, &layers, resource);
            entry(resource, keys, request.include_synonyms, request.include_documentation)
        })
        .collect();
    shard.reply(context, AnyResponse::DescribeConfigs(Response { results, ..Response::default() }));
}

/// The configs of a topic that has these set, as a client is shown them.
pub(crate) fn topic_entries(shard: &Shard, set: &Values) -> Vec<Described> {
    let described = config::describe_topic(set, &layers(shard)).into_iter();
    described
        .map(|key| Described {
            name: text(key.def.name),
            value: key.value.as_deref().map(text),
            read_only: key.read_only,
            source: key.source.wire(),
            sensitive: key.sensitive,
        })
        .collect()
}

/// The broker's configs by layer: what is set while it runs, and what the node was started with.
pub(crate) fn layers(shard: &Shard) -> BrokerLayers {
    let set = |resource: &Resource| shard.cluster.image.configs(resource).map(|values| (**values).clone());
    BrokerLayers {
        dynamic: set(&Resource::Broker(shard.settings.node_id)).unwrap_or_default(),
        cluster: set(&Resource::ClusterDefault).unwrap_or_default(),
        ..shard.settings.layers.clone()
    }
}

fn keys_of(shard: &Shard, layers: &BrokerLayers, resource: &request::Resource) -> Result<Vec<Key>, Refusal> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            let known = super::find_topic(&shard.cluster.image, name, moldau_base::Uuid::ZERO);
            if let Err(code) = known {
                let invalid = moldau_controller::names::check(name).is_err();
                return Err(Refusal::plain(if invalid { ErrorCode::INVALID_TOPIC_EXCEPTION } else { code }));
            }
            let set = shard.cluster.image.configs(&Resource::Topic(name.into()));
            Ok(config::describe_topic(set.map_or(&Values::new(), |set| set), layers))
        }
        BROKER if name.is_empty() => Ok(config::describe_cluster(layers)),
        BROKER if name.parse() == Ok(shard.settings.node_id.0) => Ok(config::describe_broker(layers)),
        BROKER => {
            let why = match name.parse::<i32>() {
                Ok(id) => format!(
                    "Unexpected broker id, expected {} or empty string, but received {id}",
                    NodeId(shard.settings.node_id.0)
                ),
                Err(_) => format!("Broker id must be an integer, but it is: {name}"),
            };
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, why))
        }
        kind => {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, format!("resource type {kind} has no configs here")))
        }
    }
}

fn entry(
    resource: &request::Resource,
    keys: Result<Vec<Key>, Refusal>,
    synonyms: bool,
    documentation: bool,
) -> response::Resource {
    let mut entry = response::Resource {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..response::Resource::default()
    };
    match keys {
        Ok(keys) => {
            let wanted = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
            let wanted: Option<BTreeSet<&str>> = wanted.map(|keys| keys.iter().map(|key| &**key).collect());
            let keys =
                keys.into_iter().filter(|key| wanted.as_ref().is_none_or(|keys| keys.contains(key.def.name)));
            entry.configs = keys.map(|key| config_entry(key, synonyms, documentation)).collect();
        }
        Err(refusal) => {
            entry.error_code = refusal.error;
            entry.error_message = super::message(&refusal);
        }
    }
    entry
}

fn config_entry(key: Key, synonyms: bool, documentation: bool) -> response::Config {
    let synonym = |synonym: config::Synonym| response::Synonym {
        name: text(synonym.name),
        value: synonym.value.as_deref().map(text),
        source: synonym.source.wire(),
    };
    response::Config {
        name: text(key.def.name),
        value: key.value.as_deref().map(text),
        read_only: key.read_only,
        config_source: key.source.wire(),
        is_sensitive: key.sensitive,
        synonyms: if synonyms { key.synonyms.into_iter().map(synonym).collect() } else { Vec::new() },
        config_type: key.def.kind.wire(),
        documentation: documentation.then(|| text(key.def.help)),
    }
}
