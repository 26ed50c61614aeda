//! AlterConfigs: replace the configs of resources as a whole (KIP-133; deprecated in favour of IncrementalAlterConfigs).

use std::sync::Arc;

use bytestring::ByteString;
use moldau_controller::{AlterConfigs, Mode, Refusal, Reply, Request as ToController, ResourceName};
use moldau_wire::alter_configs::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Passes the resources to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let resources: Vec<_> = request
        .resources
        .iter()
        .map(|resource| {
            let configs = resource
                .configs
                .iter()
                .map(|config| (config.name.to_string(), config.value.as_deref().map(str::to_owned)))
                .collect();
            (name_of(resource.resource_type, &resource.resource_name), configs)
        })
        .collect();
    let names: Vec<ResourceName> = resources.iter().map(|(name, _)| name.clone()).collect();
    let mode = if request.validate_only { Mode::Validate } else { Mode::Apply };
    let alter = ToController::AlterConfigs(AlterConfigs { resources, mode });
    super::decide(shard, context, alter, super::patience(30_000), move |shard, context, answers| {
        let responses = results(names, answers)
            .map(|(name, code, message)| response::Resource {
                error_code: code,
                error_message: message,
                resource_type: name.kind,
                resource_name: super::text(&name.name),
            })
            .collect();
        shard.reply(context, AnyResponse::AlterConfigs(Response { responses, ..Response::default() }));
    });
}

/// A resource as the controller knows it.
pub(super) fn name_of(kind: i8, name: &str) -> ResourceName {
    ResourceName { kind, name: Arc::from(name) }
}

/// What became of each resource, in the order of the request.
pub(super) fn results(
    names: Vec<ResourceName>,
    answers: Vec<Option<crate::message::Answer>>,
) -> impl Iterator<Item = (ResourceName, ErrorCode, Option<ByteString>)> {
    let results: Vec<(ResourceName, Result<(), Refusal>)> = match super::from_controller(answers) {
        Ok(Reply::ConfigsAltered(results)) => results,
        Ok(_) => Vec::new(),
        Err(refusal) => names.into_iter().map(|name| (name, Err(refusal.clone()))).collect(),
    };
    results.into_iter().map(|(name, result)| match result {
        Ok(()) => (name, ErrorCode::NONE, None),
        Err(refusal) => (name, refusal.error, super::message(&refusal)),
    })
}
