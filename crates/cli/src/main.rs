//! The `moldau` binary: a node, and the tools to look at it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Kafka-wire-compatible log in one binary.
#[derive(Parser)]
#[command(name = "moldau", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node; without arguments a safe single node on 127.0.0.1:9092 in ./moldau-data.
    Start {
        /// A server.properties file.
        #[arg(long)]
        config: Option<PathBuf>,
        /// One setting, stronger than the file: key=value.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
}

fn main() -> ExitCode {
    let Command::Start { config, sets } = Cli::parse().command;
    let started = moldau_node::logging::init(moldau_node::logging::Format::for_stderr())
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(moldau_node::config::load(config.as_deref(), &sets)?))
        .and_then(moldau_node::run);
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moldau: {error:#}");
            ExitCode::FAILURE
        }
    }
}
