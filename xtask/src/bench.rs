//! `cargo xtask bench`: builds the broker and the load generator as they are shipped, and measures.
//!
//! Without a subcommand a real Apache Kafka stands beside the broker. Pages and JSON are written into docs/benchmarks/; those
//! that are committed were made on a machine that did nothing else. What is measured and judged is the crate `bench`'s.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::kafka::Kafka;
use crate::{outage, replicated};

/// What to measure.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    run: Option<Run>,
    #[command(flatten)]
    common: Common,
    /// Options of `moldau-bench run`, such as --pairs 10 or --kafka-heap 4g
    #[arg(last = true)]
    more: Vec<String>,
}

#[derive(clap::Args)]
struct Common {
    /// Only these legs, such as W1,W3,start (several with commas)
    #[arg(long, value_delimiter = ',', value_name = "LEG")]
    only: Vec<String>,
    /// Small volumes, to see that everything works; the figures say little
    #[arg(long)]
    quick: bool,
    /// Folder for the page and its JSON; unless given, docs/benchmarks for a whole run and none for a part or a quick one
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Run {
    /// The broker beside the floor of the machine: processor time, start-up, memory
    Smoke {
        #[command(flatten)]
        common: Common,
        /// Only W1, W3, W4 and W8, and fail where one costs far more than its floor
        #[arg(long)]
        check: bool,
    },
    /// What is asked of the broker by itself: scaling, catch-up reads, storms of connections, overload, a steady load
    Alone {
        #[command(flatten)]
        common: Common,
        /// Options of `moldau-bench run`, such as --minutes 2 or --cold 4
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// How long writes stop when something happens to a node of three
    Outage(outage::Args),
    /// What replication costs, three nodes beside three of a real Kafka: produce, latency, reads from followers, idle partitions
    Cluster(replicated::Args),
    /// Fail where NEW costs over 10 % more processor time than OLD, beyond noise
    Compare {
        /// JSON of an earlier run
        old: PathBuf,
        /// JSON of a later run
        new: PathBuf,
    },
}

const QUICK: &str = "--megabytes 100 --seconds 2 --pairs 2 --warm-up 1 --starts 1 --connections 500 --partitions 200 \
    --watch 3 --recovery 0.5 --cold 0.5 --phase 3 --minutes 0.3";
const SMOKE: &str = "--megabytes 1000 --seconds 3 --pairs 5 --warm-up 1 --connections 1000 --partitions 1000 --recovery 2 --watch 10";
const CHECKED: &str = "--megabytes 500 --seconds 2 --pairs 5 --warm-up 1 --only W1,W3,W4,W8";

/// Builds, then runs.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    match &args.run {
        Some(Run::Outage(args)) => return outage::run(root, args),
        Some(Run::Cluster(args)) => return replicated::run(root, args),
        _ => {}
    }
    let target = build(root)?;
    let bench = || Command::new(target.join("moldau-bench"));
    match &args.run {
        Some(Run::Outage(_) | Run::Cluster(_)) => Ok(()),
        Some(Run::Compare { old, new }) => finish(bench().arg("compare").arg(old).arg(new)),
        Some(Run::Smoke { common, check: false }) => {
            finish(&mut common.run(root, &target, "smoke", "cargo xtask bench smoke", SMOKE))
        }
        Some(Run::Smoke { common, check: true }) => {
            let out = common.out.clone().unwrap_or_else(|| target.join("xtask-bench"));
            let mut run = common.run(root, &target, "check", "cargo xtask bench smoke --check", CHECKED);
            finish(run.arg("--out").arg(&out))?;
            finish(bench().arg("check").arg(out.join("check.json")))
        }
        Some(Run::Alone { common, more }) => finish(
            common.run(root, &target, "alone", "cargo xtask bench alone", "--alone --pairs 3").args(more),
        ),
        None => {
            let mut run = args.common.run(root, &target, "kafka", "cargo xtask bench", "");
            finish(run.arg("--kafka-libs").arg(Kafka::obtain()?.libs()).args(&args.more))
        }
    }
}

fn finish(bench: &mut Command) -> Result<()> {
    let status = bench.status().context("cannot run moldau-bench")?;
    ensure!(status.success(), "moldau-bench failed, {status}");
    Ok(())
}

impl Common {
    /// `moldau-bench run` with what is `usual` for it and with these options, which win.
    fn run(&self, root: &Path, target: &Path, name: &str, said: &str, usual: &str) -> Command {
        let mut bench = Command::new(target.join("moldau-bench"));
        bench.args(["run", "--name", name, "--command", said]).current_dir(root);
        bench
            .arg("--broker")
            .arg(target.join("moldau"))
            .arg("--dir")
            .arg(target)
            .args(usual.split_whitespace());
        if !self.only.is_empty() {
            bench.args(["--only", &self.only.join(",")]);
        }
        if self.quick {
            bench.args(QUICK.split_whitespace());
        }
        let whole = self.only.is_empty() && !self.quick;
        if let Some(out) = self.out.clone().or_else(|| whole.then(|| root.join("docs/benchmarks"))) {
            bench.arg("--out").arg(out);
        }
        bench
    }
}

/// Returns the folder of the built programs.
pub fn build(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--bin", "moldau", "--bin", "moldau-bench"]);
    build.args(["-p", "moldau-cli", "-p", "moldau-bench"]);
    let status = build.current_dir(root).status().context("cannot run cargo")?;
    ensure!(status.success(), "the release build failed, {status}");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    Ok(root.join(target).join("release"))
}
