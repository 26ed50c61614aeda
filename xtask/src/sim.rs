//! `cargo xtask sim`: builds the simulator with optimisation and every check on, and passes on what it is told.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What `cargo xtask sim` is told.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Options of the simulator; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Runs the simulator; fails when it does. Its build can have planted bugs, which are off unless they are asked for.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root).args(["run", "--quiet", "--profile", "sim", "--package", "moldau-sim"]);
    command.args(["--features", "planted", "--bin", "sim", "--"]).args(&args.options);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the simulator failed; its report is above");
    }
    Ok(())
}
