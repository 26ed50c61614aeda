//! `moldau start`: reads the configuration and runs a node until it is told to stop.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::anyhow;
use moldau_node::config::{self, NodeConfig};
use moldau_node::logging;

use super::supervise;
use crate::args;

/// Runs a node; one of a cluster under a parent that ends it when it stands still.
pub fn run(arguments: &args::Start) -> anyhow::Result<ExitCode> {
    if arguments.ends_with_parent && !arguments.watched {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    }
    let config = load(arguments)?;
    if !config.is_alone() && !arguments.watched {
        return supervise::run();
    }
    if arguments.watched {
        supervise::beat()?;
    }
    logging::init(logging::Format::for_stderr())?;
    if std::io::stderr().is_terminal() {
        eprintln!("{}", welcome(&config));
    }
    moldau_node::run(config)?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration; everything that is wrong with it, a line each.
pub fn load(arguments: &args::Start) -> anyhow::Result<NodeConfig> {
    config::load(arguments.config.as_deref(), &arguments.set).map_err(|problems| anyhow!("{problems}"))
}

fn welcome(config: &NodeConfig) -> String {
    if config.listeners.is_empty() {
        let listener = config.controller_listeners.first().map(ToString::to_string).unwrap_or_default();
        return format!("Starting node {}, a controller on {listener}. Ctrl-C stops it.\n", config.node_id);
    }
    let address = config.listeners.first().map(|listener| listener.endpoint.to_string()).unwrap_or_default();
    let dirs: Vec<String> = config.log_dirs.iter().map(|dir| dir.display().to_string()).collect();
    let server = if address == "127.0.0.1:9092" { String::new() } else { format!(" -b {address}") };
    format!(
        "Starting node {} on {address}, data in {}. Once it says ready, type in another terminal:\n\n    \
         moldau topics create hello{server}\n    \
         echo world | moldau produce hello{server}\n    \
         moldau consume hello --from beginning{server}\n\n\
         Any Kafka client works with bootstrap.servers={address}. Ctrl-C stops it.\n",
        config.node_id,
        dirs.join(", "),
    )
}
