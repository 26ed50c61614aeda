//! `moldau config`: the reference of all keys, and the check of a configuration.

use serde_json::json;

use crate::args::{self, ConfigAction, Format, Global};
use crate::commands::start;
use crate::output;

/// Runs the command.
pub fn run(global: &Global, arguments: &args::Config) -> anyhow::Result<()> {
    match &arguments.action {
        ConfigAction::Reference => output::line(moldau_base::config::reference().trim_end()),
        ConfigAction::Check(files) => check(global, files),
    }
}

fn check(global: &Global, files: &args::Start) -> anyhow::Result<()> {
    let config = start::load(files)?;
    if global.output == Format::Table {
        for warning in &config.warnings {
            eprintln!("warning: {warning}");
        }
    }
    let set: Vec<Vec<String>> =
        config.layers.fixed.iter().map(|(key, value)| vec![key.clone(), shown(key, value)]).collect();
    let settings: serde_json::Map<String, serde_json::Value> =
        config.layers.fixed.iter().map(|(key, value)| (key.clone(), json!(shown(key, value)))).collect();
    let json = json!({ "node_id": config.node_id.0, "settings": settings, "warnings": config.warnings });
    output::show(global.output, &["key", "value"], &set, &json)
}

fn shown(key: &str, value: &str) -> String {
    let secret =
        moldau_base::config::broker_key(key).is_some_and(|d| d.kind == moldau_base::config::Kind::Password);
    if secret { "[hidden]".to_owned() } else { value.to_owned() }
}
