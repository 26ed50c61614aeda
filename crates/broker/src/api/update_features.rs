//! UpdateFeatures: finalized feature levels to change (KIP-584). Each feature has one level that this release can run with, so
//! that the only update that is taken is the one that changes nothing.

use moldau_wire::update_features::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::api_versions::features;
use super::text;
use crate::Shard;
use crate::connections::Context;

/// Says of each update what is wrong with it.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let outcomes: Vec<(&request::Update, Option<String>)> =
        request.feature_updates.iter().map(|update| (update, refusal(shard, update))).collect();
    let first = outcomes.iter().find_map(|(_, refusal)| refusal.as_deref());
    // Until version 1 each feature has an error of its own.
    let top = first.filter(|_| context.version >= 2);
    let response = Response {
        error_code: if top.is_some() { ErrorCode::INVALID_UPDATE_VERSION } else { ErrorCode::NONE },
        error_message: top.map(text),
        results: outcomes.iter().map(|(update, refusal)| outcome(update, refusal.as_deref())).collect(),
        ..Response::default()
    };
    shard.reply(context, AnyResponse::UpdateFeatures(response));
}

fn outcome(update: &request::Update, refusal: Option<&str>) -> response::Outcome {
    response::Outcome {
        feature: update.feature.clone(),
        error_code: if refusal.is_some() { ErrorCode::INVALID_UPDATE_VERSION } else { ErrorCode::NONE },
        error_message: refusal.map(text),
    }
}

/// In Kafka's words.
fn refusal(shard: &Shard, update: &request::Update) -> Option<String> {
    let (name, level) = (&update.feature, update.max_version_level);
    let node = shard.settings.node_id;
    let why = match features(shard).find(|feature| *feature.name == **name) {
        None => format!("Local controller {node} does not support this feature."),
        Some(feature) if (feature.min..=feature.max).contains(&level) => return None,
        Some(feature) => {
            format!("Local controller {node} only supports versions {}-{}", feature.min, feature.max)
        }
    };
    Some(format!("Invalid update version {level} for feature {name}. {why}"))
}
