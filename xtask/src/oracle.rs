//! `cargo xtask oracle`: the wire crate's codec against the PyPI package kio, an independent one.
//!
//! Random messages of every API and version go through both, in both directions, and must be equal in value and in
//! bytes. kio is installed into `.tools/` of the checkout. Where python3 is missing the oracle is skipped, loudly.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::toolbox::{self, once};

/// The codec that ours is compared with. It knows the APIs of Kafka 4.2.
const KIO: &str = "kio==0.6.5";
/// What it stands on: native wheels that pip would otherwise choose by the day.
const PINS: [&str; 2] = ["crc32c==2.9.post0", "typing_extensions==4.16.0"];

/// How the oracle ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both codecs agree.
    Agreed,
    /// Not run, for this reason.
    Skipped(String),
}

/// Compares `rounds` random messages of each kind and version; the seed is shown, the same seed makes the same messages.
pub fn run(root: &Path, seed: u64, rounds: u32) -> Result<Outcome> {
    let python = match install() {
        Ok(python) => python,
        Err(why) => return toolbox::missing(why).map(Outcome::Skipped),
    };
    let folder = root.join("target/oracle");
    fs::create_dir_all(&folder)?;
    let (ours, theirs) = (folder.join("ours.jsonl"), folder.join("theirs.jsonl"));

    println!("oracle: seed {seed}, {rounds} rounds");
    let mut emit = example(root);
    emit.args(["emit", &seed.to_string(), &rounds.to_string()]).stdout(File::create(&ours)?);
    succeed(emit, "our side could not write messages")?;

    let mut compare = Command::new(python);
    compare.arg(root.join("crates/wire/oracle/kio_oracle.py")).arg(seed.to_string());
    compare.stdin(File::open(&ours)?).stdout(File::create(&theirs)?);
    succeed(compare, "kio understands our messages otherwise")?;

    let mut check = example(root);
    check.arg("check").stdin(File::open(&theirs)?);
    succeed(check, "we understand kio's messages otherwise")?;
    Ok(Outcome::Agreed)
}

/// The example of the wire crate, with everything before its own arguments.
fn example(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args([
        "run",
        "--quiet",
        "--package",
        "moldau-wire",
        "--example",
        "oracle",
        "--",
    ]);
    command
}

fn succeed(mut command: Command, otherwise: &'static str) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{otherwise}");
    Ok(())
}

/// The Python of an environment that has kio, made at the first use.
fn install() -> Result<PathBuf> {
    let folder = toolbox::dir(&KIO.replace("==", "-"))?;
    let python = folder.join("bin/python");
    once(&folder, &PINS.join(" "), || {
        toolbox::python_environment(&folder)?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", KIO])
            .args(PINS);
        toolbox::fetch(&mut pip, toolbox::PYPI)
    })?;
    Ok(python)
}
