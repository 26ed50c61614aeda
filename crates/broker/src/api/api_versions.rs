//! ApiVersions: what this broker speaks (KIP-35, KIP-511, KIP-584).

use moldau_controller::FeatureRange;
use moldau_wire::api_versions::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::{SERVED, SERVED_TO_NODES};
use crate::Shard;
use crate::connections::Context;

/// Keys from here on are not Kafka's.
const OWN_KEYS: i16 = 10_000;

/// The voters have directory ids and can change (KIP-853). It is no record like other features: the quorum has always been so.
const KRAFT_VERSION: &str = "kraft.version";
const KRAFT_LEVEL: i16 = 1;

/// The features that this release knows.
pub(crate) fn features(shard: &Shard) -> impl Iterator<Item = FeatureRange> {
    let kraft = FeatureRange { name: KRAFT_VERSION.into(), min: KRAFT_LEVEL, max: KRAFT_LEVEL };
    shard.settings.features.iter().cloned().chain([kraft])
}

/// Answers with every API that works. A client that does not say what it is, where the version asks for it, is refused.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    if context.version >= 3
        && !(is_name(&request.client_software_name) && is_name(&request.client_software_version))
    {
        let response = Response { error_code: ErrorCode::INVALID_REQUEST, ..Response::default() };
        return shard.reply(context, AnyResponse::ApiVersions(response));
    }
    let is_node = *request.client_software_name == *super::OF_NODES;
    let image = &shard.cluster.image;
    let mut response = Response { api_keys: api_keys(shard, &context, is_node), ..Response::default() };
    response.finalized_features_epoch = shard.cluster.offset;
    let finalized = image.features().iter().map(|(name, level)| (&**name, *level));
    for (name, level) in finalized.chain([(KRAFT_VERSION, KRAFT_LEVEL)]) {
        response.finalized_features.push(response::FinalizedFeature {
            name: super::text(name),
            max_version_level: level,
            min_version_level: level,
        });
    }
    for feature in features(shard) {
        // A feature that may be absent (minimum 0) is hidden from versions that cannot express it (KAFKA-17011).
        if feature.min > 0 || context.version >= 4 {
            response.supported_features.push(response::SupportedFeature {
                name: super::text(&feature.name),
                min_version: feature.min,
                max_version: feature.max,
            });
        }
    }
    shard.reply(context, AnyResponse::ApiVersions(response));
}

/// A version that is not known is answered in version 0, so that the client can choose again.
pub(crate) fn refuse_version(shard: &mut Shard, mut context: Context) {
    context.version = 0;
    let api_keys = api_keys(shard, &context, false);
    let response = Response { error_code: ErrorCode::UNSUPPORTED_VERSION, api_keys, ..Response::default() };
    shard.reply(context, AnyResponse::ApiVersions(response));
}

/// What is served on the listener that is asked; what is not Kafka's is only for nodes.
fn api_keys(shard: &Shard, context: &Context, is_node: bool) -> Vec<response::Api> {
    let served = match shard.settings.is_for_nodes(context.listener) {
        true => SERVED_TO_NODES,
        false => SERVED,
    };
    let api = |key: &moldau_wire::ApiKey| {
        let range = key.advertised();
        let max_version = range.max.min(super::spoken(shard, *key).max);
        response::Api { api_key: *key as i16, min_version: range.min, max_version }
    };
    served.iter().filter(|key| is_node || (**key as i16) < OWN_KEYS).map(api).collect()
}

/// KIP-511: letters, digits, dots and dashes, beginning and ending with a letter or digit.
fn is_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    edge(name.chars().next()) && edge(name.chars().last()) && name.chars().all(inner)
}
