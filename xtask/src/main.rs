//! Everything a developer or CI runs: `cargo xtask COMMAND`.
//!
//! One module per command; this file only lists them. A command installs what it needs into `.tools/` of the
//! checkout (see [`toolbox`]) and says so when a whole toolchain is missing.

mod apt;
mod arch;
mod bench;
mod chaos;
mod cluster;
mod crash;
mod deny;
mod docs;
mod fuzz;
mod gen_wire;
mod interop;
mod kafka;
mod oracle;
mod outage;
mod replicated;
mod sim;
mod suite;
mod toolbox;
mod warden;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything a developer or CI runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run everything that must hold
    Test(suite::Args),
    /// Compare the crates' dependencies with arch.toml
    Arch,
    /// Write the pages of docs/ that derive from the code
    Docs {
        /// Change nothing; fail if what is committed is not what the code says
        #[arg(long)]
        check: bool,
    },
    /// Feed random bytes to everything that parses bytes from outside, on a nightly toolchain
    Fuzz(fuzz::Args),
    /// Compare the dependencies' licences, sources and known vulnerabilities with deny.toml
    Deny,
    /// Write the wire crate's message types from its schemas
    Gen {
        /// Change nothing; fail if what is committed is not what the schemas say
        #[arg(long)]
        check: bool,
    },
    /// Compare the wire crate's codec with the PyPI package kio, in both directions
    Oracle {
        /// The same seed makes the same messages
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Random messages of each kind and version
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// Run the whole broker under the simulator
    Sim(sim::Args),
    /// Measure the release binary beside the floor of the machine
    Bench(bench::Args),
    /// Kill, starve and damage the real binary under load, and compare what is read with what was acknowledged
    Crash(crash::Args),
    /// Three nodes in networks of their own, under load, and the faults that a seed chooses
    Chaos(chaos::Args),
    /// Holds the packets that arrive where this runs
    #[command(hide = true)]
    Delay(chaos::delay::Args),
    /// Clears up after a command that was interrupted
    #[command(hide = true)]
    Warden {
        /// What is removed
        folder: PathBuf,
    },
    /// Drive a broker with real Kafka clients and tools
    Interop(interop::Args),
}

/// The checkout that this program was built in.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Test(args) => suite::run(&root(), &args),
        Task::Deny => deny::run(&root()),
        Task::Docs { check: false } => docs::write(&root()),
        Task::Docs { check: true } => docs::check(&root()),
        Task::Fuzz(args) => fuzz::run(&root(), &args),
        Task::Arch => arch::check(&root()),
        Task::Gen { check: false } => gen_wire::write(&root()),
        Task::Gen { check: true } => gen_wire::check(&root()),
        Task::Oracle { seed, rounds } => {
            match oracle::run(&root(), seed, rounds)? {
                oracle::Outcome::Agreed => println!("oracle: both codecs agree"),
                oracle::Outcome::Skipped(why) => println!("oracle: SKIPPED, {why}"),
            }
            Ok(())
        }
        Task::Sim(args) => sim::run(&root(), &args),
        Task::Bench(args) => bench::run(&root(), &args),
        Task::Crash(args) => crash::run(&root(), &args),
        Task::Chaos(args) => chaos::run(&root(), &args),
        Task::Delay(args) => chaos::delay::run(&args),
        Task::Warden { folder } => warden::watch(&folder, std::io::stdin().lock()),
        Task::Interop(args) => interop::run(&args),
    }
}
