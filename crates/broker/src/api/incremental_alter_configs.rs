//! IncrementalAlterConfigs: set, delete, append to or subtract from single configs (KIP-339).

use moldau_controller::{AlterConfigs, ConfigOp, Mode, Request as ToController, ResourceName};
use moldau_wire::Response as AnyResponse;
use moldau_wire::incremental_alter_configs::{Request, Response, request, response};

use super::alter_configs::{name_of, results};
use crate::Shard;
use crate::connections::Context;

/// Passes the resources to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let resources: Vec<(ResourceName, Vec<ConfigOp>)> = request
        .resources
        .iter()
        .map(|resource| {
            let changes = resource.configs.iter().map(change).collect();
            (name_of(resource.resource_type, &resource.resource_name), changes)
        })
        .collect();
    let names = resources.iter().map(|(name, _)| name.clone()).collect();
    let mode = if request.validate_only { Mode::Validate } else { Mode::Apply };
    let alter = ToController::IncrementalAlterConfigs(AlterConfigs { resources, mode });
    super::decide(shard, context, alter, super::patience(30_000), move |shard, context, answers| {
        let responses = results(names, answers)
            .map(|(name, code, message)| response::Resource {
                error_code: code,
                error_message: message,
                resource_type: name.kind,
                resource_name: super::text(&name.name),
            })
            .collect();
        shard.reply(
            context,
            AnyResponse::IncrementalAlterConfigs(Response { responses, ..Response::default() }),
        );
    });
}

fn change(config: &request::Config) -> ConfigOp {
    ConfigOp {
        name: config.name.to_string(),
        op: config.config_operation,
        value: config.value.as_deref().map(str::to_owned),
    }
}
