//! `cargo xtask sim`: builds the simulator with optimisation and every check on, and runs seeds of it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What `cargo xtask sim` is told.
#[derive(clap::Args)]
pub struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Always this workload; without it the workloads take turns
    #[arg(long)]
    workload: Option<String>,
    /// Write everything that happens to standard error
    #[arg(long)]
    trace: bool,
    /// Run each seed twice and compare the hashes
    #[arg(long)]
    twice: bool,
    /// Report a failure as it is, without looking for fewer faults that cause it
    #[arg(long)]
    no_shrink: bool,
    /// Show the workloads
    #[arg(long)]
    list: bool,
}

/// Runs seeds; fails when one does.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root).args([
        "run",
        "--quiet",
        "--profile",
        "sim",
        "--package",
        "moldau-sim",
        "--bin",
        "sim",
        "--",
    ]);
    command.args(["--seeds", &args.seeds.to_string(), "--from", &args.from.to_string()]);
    if let Some(workload) = &args.workload {
        command.args(["--workload", workload]);
    }
    let flags = [
        (args.trace, "--trace"),
        (args.twice, "--twice"),
        (args.no_shrink, "--no-shrink"),
        (args.list, "--list"),
    ];
    command.args(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag));
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("a seed failed; its report is above");
    }
    Ok(())
}
