//! The `moldau` binary: a node, and the tools to look at it.
//!
//! Every command ends with status 0, or with another one and its error on standard error, a line for each thing
//! that is wrong, with the fix. What a command was asked for goes to standard output, everything else does not.

mod args;
mod commands;
mod drain;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const _: () = assert!(!moldau_base::planted::COMPILED_IN, "the node is never built with planted bugs");

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                eprintln!("error: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let global = arguments.global;
    match arguments.command.unwrap_or_default() {
        Command::Start(start) => return commands::start::run(&start),
        Command::Local(local) => commands::block_on(commands::local::run(&local)),
        Command::Demo(demo) => commands::block_on(commands::demo::run(&global, &demo)),
        Command::Nodes(nodes) => commands::block_on(commands::nodes::run(&global, nodes)),
        Command::Topics(topics) => commands::block_on(commands::topics::run(&global, topics)),
        Command::Produce(produce) => commands::block_on(commands::produce::run(&global, &produce)),
        Command::Consume(consume) => commands::block_on(commands::consume::run(&global, &consume)),
        Command::Groups(groups) => commands::block_on(commands::groups::run(&global, groups)),
        Command::Log(log) => commands::log::run(&global, &log),
        Command::Config(config) => commands::config::run(&global, &config),
        Command::Version => commands::version(&global),
    }
    .map(|()| ExitCode::SUCCESS)
}
