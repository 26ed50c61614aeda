//! `cargo xtask bench cluster`: what replication costs, three nodes of this project beside three of a real Kafka.
//!
//! Owns the turns: in each round every leg is measured once on each side, the sides there and back; one cluster has work, the other idles. The
//! legs are in [`loads`], the page in [`page`].

mod loads;
mod page;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::bench;
use crate::cluster::contender::Nodes;
use crate::crash::load::{Built, Programs};
use crate::interop::broker::scratch;
use crate::kafka::Kafka;
use crate::warden;
use loads::{Bench, LEGS, Leg, Volume};
use page::Report;

/// Both sides have it: consumers that name their rack may read from a follower there.
const SETTINGS: [&str; 1] =
    ["replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector"];

/// Options of `cargo xtask bench cluster`.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds that count, of each leg that is measured more than once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these legs, such as W5,W7 (several with commas)
    #[arg(long, value_delimiter = ',', value_name = "LEG")]
    only: Vec<String>,
    /// Without Kafka beside it
    #[arg(long)]
    alone: bool,
    /// Small volumes and one round, to see that everything works; the figures say little
    #[arg(long)]
    quick: bool,
    /// The binary; otherwise the release binary of this checkout is built
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Our own client (the example `driver` of crates/client); otherwise it is built
    #[arg(long)]
    driver: Option<PathBuf>,
    /// The load generator `moldau-bench`; otherwise it is built
    #[arg(long)]
    load: Option<PathBuf>,
    /// Folder for the page and its JSON; docs/benchmarks for a whole run and none for a part or a quick one
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs it; an error when a leg could not be measured.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    for name in &args.only {
        let names: Vec<&str> = LEGS.iter().map(|leg| leg.name).collect();
        ensure!(names.contains(&name.as_str()), "no leg `{name}`; there are {}", names.join(", "));
    }
    let load = match &args.load {
        Some(load) => load.clone(),
        None => bench::build(root)?.join("moldau-bench"),
    };
    let Built { bin, driver } = Built::obtain(root, &args.bin, &args.driver)?;
    let programs = Programs::obtain(driver, &[])?;
    let kafka = if args.alone { None } else { Some(Kafka::obtain()?) };
    let folder = scratch("replicated")?;
    let warden = warden::begin(&folder)?;
    let mut report = Report::new(kafka.is_some());
    let ended = measure(args, &Bench { load, programs }, &bin, kafka, &folder, &mut report);
    warden.end(ended.is_err())?;
    ended.map_err(|why| why.context(format!("the files are in {}", folder.display())))?;
    let page = report.page();
    print!("{page}");
    let whole = (args.only.is_empty() && !args.quick && !args.alone).then(|| root.join("docs/benchmarks"));
    if let Some(out) = args.out.clone().or(whole) {
        std::fs::create_dir_all(&out)?;
        std::fs::write(out.join("cluster.md"), page)?;
        std::fs::write(out.join("cluster.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    }
    ensure!(report.failures.is_empty(), "not everything was measured: {}", report.failures.join("; "));
    Ok(())
}

fn measure(
    args: &Args,
    bench: &Bench,
    bin: &Path,
    kafka: Option<Kafka>,
    folder: &Path,
    report: &mut Report,
) -> Result<()> {
    let mut sides = vec![Nodes::moldau(bin, folder, &SETTINGS)?];
    if let Some(kafka) = kafka {
        sides.push(Nodes::kafka(kafka, folder, &SETTINGS)?);
    }
    let volume = if args.quick { Volume::QUICK } else { Volume::WHOLE };
    let wanted = |leg: &&Leg| args.only.is_empty() || args.only.iter().any(|name| name == leg.name);
    for leg in LEGS.iter().filter(wanted) {
        // The first rounds warm the sides up: a JVM compiles what it runs often.
        let warm = if leg.once { 0 } else { leg.warm };
        let rounds = if leg.once || args.quick { 1 } else { args.rounds };
        for round in 0..warm + rounds {
            let mut order: Vec<&Nodes> = sides.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for nodes in order {
                eprintln!("{} {}/{} {}", leg.name, round + 1, warm + rounds, nodes.which.name());
                match loads::measure(leg, bench, nodes, volume, round) {
                    Ok(figures) if round >= warm => report.add(nodes.which, figures),
                    Ok(_) => {}
                    Err(why) => report.failed(format!("{} of {}: {why:#}", leg.name, nodes.which.name())),
                }
            }
        }
    }
    Ok(())
}
