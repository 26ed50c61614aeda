//! `cargo xtask test`: everything that must hold, one step after the other.
//!
//! Owns the order of the steps, how long each may take, and the table at the end. A step is one or more programs whose
//! output goes to a file below `target/xtask-test/`; the tests that failed and the end of that file are shown when the
//! step fails. A later step runs although an earlier one failed: one run tells everything. What a step left out it says
//! in lines with the word `SKIPPED`, which are repeated at the end.

mod failures;
mod program;
mod report;
mod steps;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use program::End;
use report::{Counts, Finished, Verdict};
use steps::Step;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these steps (several with commas)
    #[arg(long, value_delimiter = ',', value_name = "STEP")]
    only: Vec<String>,
    /// Without these steps (several with commas)
    #[arg(long, value_delimiter = ',', value_name = "STEP")]
    skip: Vec<String>,
    /// Seeds that the simulator runs
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// Show the steps and run none
    #[arg(long)]
    list: bool,
}

/// Where a run finds things and puts its logs.
pub struct Place {
    root: PathBuf,
    /// A copy of this program: the original may be built anew while the steps run.
    me: PathBuf,
    logs: PathBuf,
    /// The folder that cargo builds in.
    target: PathBuf,
    seeds: u64,
}

impl Place {
    fn new(root: &Path, seeds: u64) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let logs = target.join("xtask-test");
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let me = logs.join("xtask");
        // Removed first: a copy that still runs cannot be written over.
        let _ = std::fs::remove_file(&me);
        std::fs::copy(std::env::current_exe()?, &me).context("cannot copy this program")?;
        Ok(Self { root: root.to_owned(), me, logs, target, seeds })
    }
}

/// Runs the steps; an error when one failed.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    check_names(args)?;
    if args.list {
        report::list(&steps::ALL);
        return Ok(());
    }
    let place = Place::new(root, args.seeds)?;
    let began = Instant::now();
    let wanted = |step: &&Step| args.only.is_empty() || args.only.iter().any(|name| name == step.name);
    let finished: Vec<Finished> =
        steps::ALL.iter().filter(wanted).map(|step| take(step, args, &place, began + steps::WHOLE)).collect();
    report::table(&finished, began.elapsed(), &place.logs);
    let failed: Vec<&str> =
        finished.iter().filter(|f| f.verdict == Verdict::Failed).map(|f| f.name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn check_names(args: &Args) -> Result<()> {
    for name in args.only.iter().chain(&args.skip) {
        if !steps::ALL.iter().any(|step| step.name == name) {
            let names: Vec<&str> = steps::ALL.iter().map(|step| step.name).collect();
            bail!("no step `{name}`; there are {}", names.join(", "));
        }
    }
    Ok(())
}

/// One step from its announcement to its verdict; at `last` it is ended whatever its own limit.
fn take(step: &'static Step, args: &Args, place: &Place, last: Instant) -> Finished {
    if args.skip.iter().any(|name| name == step.name) {
        return Finished::left_out(step.name);
    }
    report::announce(step);
    let began = Instant::now();
    let log = place.logs.join(format!("{}.log", step.name));
    let end = program::run_all(
        (step.programs)(place),
        &log,
        step.limit().min(last.saturating_duration_since(began)),
    );
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let verdict = match &end {
        Ok(End::Success) => Verdict::Ok,
        _ => Verdict::Failed,
    };
    let finished = Finished {
        name: step.name,
        verdict,
        took: began.elapsed(),
        counts: Counts::read(&text, verdict),
        skipped: report::skipped_lines(&text),
    };
    report::conclude(&finished);
    if verdict == Verdict::Failed {
        report::why(&end, &log, &text);
    }
    finished
}
