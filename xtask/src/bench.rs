//! `cargo xtask bench`: builds the broker and the load generator as they are shipped, and measures.
//!
//! `smoke` is one short run against the floor of the machine, for each change; its page and its JSON are committed in
//! docs/benchmarks/, made on a machine that did nothing else. Nothing here judges a figure.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    run: Run,
}

#[derive(clap::Subcommand)]
enum Run {
    /// Processor time for produce and fetch beside the floor of the machine, start-up, memory: under 4 minutes
    Smoke {
        /// Print the page, and leave docs/benchmarks as it is
        #[arg(long)]
        dry: bool,
        /// Megabytes of each leg, unless its 10 seconds are over sooner
        #[arg(long, default_value_t = 2000)]
        megabytes: u64,
    },
}

/// Builds, then runs.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let Run::Smoke { dry, megabytes } = args.run;
    let target = build(root)?;
    let mut bench = Command::new(target.join("moldau-bench"));
    bench.arg("smoke").arg("--broker").arg(target.join("moldau")).arg("--dir").arg(&target);
    bench.args(["--megabytes", &megabytes.to_string()]);
    if !dry {
        bench.arg("--out").arg(root.join("docs/benchmarks"));
    }
    let status = bench.current_dir(root).status().context("cannot run moldau-bench")?;
    ensure!(status.success(), "moldau-bench smoke failed, {status}");
    Ok(())
}

/// Returns the folder of the built programs.
fn build(root: &Path) -> Result<std::path::PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--bin", "moldau", "--bin", "moldau-bench"]);
    build.args(["-p", "moldau-cli", "-p", "moldau-bench"]);
    let status = build.current_dir(root).status().context("cannot run cargo")?;
    ensure!(status.success(), "the release build failed, {status}");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    Ok(root.join(target).join("release"))
}
