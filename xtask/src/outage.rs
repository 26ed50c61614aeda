//! `cargo xtask bench outage`: how long acknowledgements stop when something happens to a node, as real clients with default settings see it,
//! of a cluster of this project's nodes and of a real Kafka's.
//!
//! Owns the turns: clusters, topics and faults take turns until the time is over or each has its trials, and a side that has had less than its
//! share of the time is next. One cluster has work, the other idles. The page and its JSON say how many trials there were of each.

mod faults;
mod page;
mod side;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::contender::{Nodes, Which};
use crate::crash::load::{Built, Programs};
use crate::interop::broker::scratch;
use crate::kafka::Kafka;
use crate::warden;
use faults::{FAULTS, Fault};
use page::Outages;
use side::Size;

/// The clients: what they are called in `interop/`, and on the page.
pub const CLIENTS: [(&str, &str); 2] = [("java-4.3", "Java"), ("confluent", "librdkafka")];

/// Options of `cargo xtask bench outage`.
#[derive(clap::Args)]
pub struct Args {
    /// Trials of each fault, client and number of partitions, if the time lasts
    #[arg(long, default_value_t = 30)]
    trials: usize,
    /// For how long trials are begun
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// A real Apache Kafka beside it, with a third of the time
    #[arg(long)]
    kafka: bool,
    /// Only these faults (several with commas)
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    only: Vec<String>,
    /// The binary; otherwise the release binary of this checkout is built
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Our own client (the example `driver` of crates/client); otherwise it is built
    #[arg(long)]
    driver: Option<PathBuf>,
    /// Folder for the page and its JSON; docs/benchmarks unless only some faults are asked for
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs it; an error when something that was acknowledged is missing.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    for name in &args.only {
        let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
        ensure!(names.contains(&name.as_str()), "no fault `{name}`; there are {}", names.join(", "));
    }
    let Built { bin, driver } = Built::obtain(root, &args.bin, &args.driver)?;
    let programs = Programs::obtain(driver, &CLIENTS.map(|(family, _)| family))?;
    ensure!(programs.missing.is_empty(), "not all clients are there: {}", programs.missing.join("; "));
    let kafka = if args.kafka { Some(Kafka::obtain()?) } else { None };
    let folder = scratch("outage")?;
    let warden = warden::begin(&folder)?;
    let ended = measure(args, &programs, &bin, kafka, &folder);
    warden.end(ended.is_err())?;
    let (outages, problems) =
        ended.map_err(|why| why.context(format!("the files are in {}", folder.display())))?;
    let page = outages.page();
    print!("{page}");
    let whole = args.only.is_empty().then(|| root.join("docs/benchmarks"));
    if let Some(out) = args.out.clone().or(whole) {
        std::fs::create_dir_all(&out)?;
        std::fs::write(out.join("outage.md"), page)?;
        std::fs::write(out.join("outage.json"), serde_json::to_string_pretty(&outages)? + "\n")?;
    }
    ensure!(
        problems.is_empty(),
        "what was acknowledged is not what is read:\n    {}",
        problems.join("\n    ")
    );
    Ok(())
}

/// A cluster with a topic, and what it has had of the time.
struct Turn<'a> {
    side: side::Side<'a>,
    share: f64,
    took: Duration,
    rounds: usize,
}

fn measure(
    args: &Args,
    programs: &Programs,
    bin: &Path,
    kafka: Option<Kafka>,
    folder: &Path,
) -> Result<(Outages, Vec<String>)> {
    let faults: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| args.only.is_empty() || args.only.iter().any(|name| name == fault.name))
        .collect();
    let mut outages = Outages::new(kafka.is_some());
    let mut clusters = vec![Nodes::moldau(bin, folder, &[])?];
    if let Some(kafka) = kafka {
        clusters.push(Nodes::kafka(kafka, folder, &[])?);
    }
    let began = Instant::now();
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let clusters: Vec<_> = clusters.into_iter().map(|nodes| Rc::new(RefCell::new(nodes))).collect();
    let mut turns = Vec::new();
    for (size, share) in [(Size::One, 0.6), (Size::Many, 0.4)] {
        for nodes in &clusters {
            let share = share * if nodes.borrow().which == Which::Kafka { 0.5 } else { 1.0 };
            let side = side::Side::new(nodes.clone(), programs, size, folder);
            turns.push(Turn { side, share, took: Duration::ZERO, rounds: 0 });
        }
    }
    while began.elapsed() < time {
        let left = turns.iter_mut().filter(|turn| turn.rounds < args.trials);
        let behind = |turn: &&mut Turn<'_>| turn.took.div_f64(turn.share);
        let Some(turn) = left.min_by_key(behind) else { break };
        let before = Instant::now();
        let number = turn.rounds;
        turn.side.round(&faults, number, began + time, &mut outages)?;
        turn.rounds += 1;
        turn.took += before.elapsed();
        eprintln!("{:>6.1} min  {}", began.elapsed().as_secs_f64() / 60.0, turn.side.summary(turn.rounds));
    }
    outages.minutes = began.elapsed().as_secs_f64() / 60.0;
    let problems = turns.iter().flat_map(|turn| turn.side.problems()).collect();
    Ok((outages, problems))
}
