//! `cargo xtask chaos`: three nodes of the real binary in networks of their own, under load from several client families, and the faults
//! that a seed chooses, one after the other.
//!
//! Owns the order of things and the verdict: after each fault everything is healed, every writer must get on in every partition, everything
//! acknowledged is read back, and the group's commits have not gone back. At the end all replicas must be in sync, and everything is read once
//! more after a stop and a start of all nodes. Everything that it makes ends with it, also after Ctrl-C: see [`crate::warden`] and
//! [`crate::cluster::ground`].

pub mod delay;
mod faults;
mod report;
pub mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};

use crate::cluster::ground::{self, Filter, Ground, Network};
use crate::cluster::{NODES, gaps};
use crate::crash::clock;
use crate::crash::draw::Draw;
use crate::crash::load::{Built, Programs};
use crate::interop::broker::scratch;
use crate::{toolbox, warden};
use faults::{KINDS, Kind};
use report::Done;
use world::World;

/// Families besides our own client.
const FAMILIES: [&str; 3] = ["confluent", "franz-go", "java-4.3"];
/// The folder of a run, told to the process that has namespaces of its own.
const INSIDE: &str = "XTASK_CHAOS_INSIDE";

/// Options of `cargo xtask chaos`.
#[derive(clap::Args)]
pub struct Args {
    /// For how long faults are done
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// What chooses the faults; without it a new one
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds of faults (several with commas)
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    only: Vec<String>,
    /// The nodes share the loopback interface, and nothing is cut
    #[arg(long)]
    loopback: bool,
    /// The binary; otherwise the release binary of this checkout is built
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Our own client (the example `driver` of crates/client); otherwise it is built
    #[arg(long)]
    driver: Option<PathBuf>,
    /// Show the kinds of faults and do none
    #[arg(long)]
    list: bool,
}

/// Runs it; an error when something does not hold.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    if args.list {
        for kind in &KINDS {
            println!("{:<10} {}", kind.name, kind.what);
        }
        return Ok(());
    }
    for name in &args.only {
        if !KINDS.iter().any(|kind| kind.name == name) {
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            bail!("no fault `{name}`; there are {}", names.join(", "));
        }
    }
    if let Some(folder) = std::env::var_os(INSIDE) {
        let folder = PathBuf::from(folder);
        let ground = match args.loopback {
            true => Ground::loopback()?,
            false => Ground::lay(&folder.join("networks"))?,
        };
        return inside(root, args, &folder, ground);
    }
    // What is fetched is fetched here: behind the door there is no way out.
    let Built { bin, driver } = Built::obtain(root, &args.bin, &args.driver)?;
    Programs::obtain(driver.clone(), &FAMILIES)?;
    let seed = args.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 1_000_000
    });
    let args = Args {
        minutes: args.minutes,
        seed: Some(seed),
        only: args.only.clone(),
        loopback: args.loopback,
        bin: Some(bin),
        driver: Some(driver),
        list: false,
    };
    let folder = scratch("chaos")?;
    let warden = warden::begin(&folder)?;
    let ended = outside(root, &args, &folder);
    warden.end(ended.is_err())?;
    ended.map_err(|why| why.context(format!("the files are in {}", folder.display())))
}

/// Whether mounts and processes of this run end with it, because it has namespaces of its own.
fn is_contained() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Finds out where nodes may stand, and has them stand there.
fn outside(root: &Path, args: &Args, folder: &Path) -> Result<()> {
    let network = if args.loopback { Network::Shared } else { Network::Own };
    let mut command = match ground::enter(network) {
        Ok(command) => command,
        Err(why) => {
            println!(
                "chaos: SKIPPED, namespaces of their own for the nodes ({why:#}); they share what the machine has"
            );
            return inside(root, args, folder, Ground::loopback()?);
        }
    };
    // What cannot be had is missed, and told, inside.
    let _ = (Filter::obtain(), clock::needs());
    command.arg("chaos").args(["--minutes", &args.minutes.to_string()]).env(INSIDE, folder);
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    for (name, path) in [("--bin", &args.bin), ("--driver", &args.driver)] {
        if let Some(path) = path {
            command.arg(name).arg(path);
        }
    }
    if args.loopback {
        command.arg("--loopback");
    }
    if !args.only.is_empty() {
        command.args(["--only", &args.only.join(",")]);
    }
    ensure!(command.status()?.success(), "something does not hold; the report is above");
    Ok(())
}

/// The run, where the nodes stand.
fn inside(root: &Path, args: &Args, folder: &Path, ground: Ground) -> Result<()> {
    let Built { bin, driver } = Built::obtain(root, &args.bin, &args.driver)?;
    let programs = Programs::obtain(driver, &FAMILIES)?;
    for missing in &programs.missing {
        println!("chaos: SKIPPED, no writer of {missing}");
    }
    let wanted: Vec<&Kind> = KINDS
        .iter()
        .filter(|kind| args.only.is_empty() || args.only.iter().any(|name| name == kind.name))
        .collect();
    let seed = args.seed.unwrap_or_default();
    let place = match &ground {
        Ground::Loopback(_) => "on the loopback interface",
        Ground::Namespaces(_) => "in network namespaces",
    };
    let mut world = World::begin(&bin, &programs, folder, ground, &wanted)?;
    for (kind, why) in &world.skipped {
        println!("chaos: SKIPPED, the fault {kind}: {}", toolbox::last_lines(why, 1));
    }
    let wanted: Vec<&Kind> = wanted
        .into_iter()
        .filter(|kind| world.skipped.iter().all(|(skipped, _)| *skipped != kind.name))
        .collect();
    ensure!(!wanted.is_empty(), "this machine allows none of these faults");
    println!(
        "{NODES} nodes {place}, writers of {}, seed {seed}, {} minutes",
        programs.families().join(", "),
        args.minutes
    );
    let mut done = Vec::new();
    let ended = storm(&mut world, &wanted, Duration::from_secs_f64(args.minutes * 60.0), seed, &mut done);
    report::table(&done, &wanted);
    for note in &world.notes {
        println!("{note}");
    }
    let (acked, read) = (world.traffic.ledger.acked, world.traffic.ledger.read());
    let problems = world.traffic.ledger.problems();
    ended.map_err(|why| why.context(format!("seed {seed}, after {} faults", done.len())))?;
    ensure!(
        problems.is_empty(),
        "seed {seed}, after {} faults:\n    {}",
        done.len(),
        problems.join("\n    ")
    );
    println!("ok: {} faults, {acked} records acknowledged, {read} read back, seed {seed}", done.len());
    Ok(())
}

/// Faults until the time is over, every kind once before any comes again; then everything is healed and read once more.
fn storm(
    world: &mut World<'_>,
    wanted: &[&'static Kind],
    time: Duration,
    seed: u64,
    done: &mut Vec<Done>,
) -> Result<()> {
    let (began, mut draw) = (Instant::now(), Draw::new(seed));
    world.await_progress(gaps::now())?;
    let mut deck: Vec<&Kind> = Vec::new();
    while began.elapsed() < time && world.traffic.ledger.problems().is_empty() {
        if deck.is_empty() {
            deck = wanted.to_vec();
        }
        let kind = deck.swap_remove(draw.below(deck.len() as u64) as usize);
        // Some faults hit a cluster that has not got over the one before.
        if !draw.one_in(4) {
            world.await_in_sync()?;
        }
        std::thread::sleep(draw.millis(300, 1000));
        let (at, since) = (began.elapsed(), gaps::now());
        let (what, gaps, fresh) = once(world, kind, &mut draw, since)
            .map_err(|why| why.context(format!("{} at {:.1} s", kind.name, at.as_secs_f64())))?;
        let family =
            |id: &u16| world.traffic.writers.iter().find(|w| w.id() == *id).map_or("?", |w| w.name());
        let gaps =
            gaps.iter().map(|(id, gap)| (family(id).trim_start_matches("w-").to_owned(), *gap)).collect();
        done.push(Done { kind: kind.name, gaps, fresh });
        if let Some(done) = done.last() {
            report::line(at, done, &what, world.traffic.ledger.acked);
        }
    }
    if !world.traffic.ledger.problems().is_empty() {
        return Ok(());
    }
    calm(world)
}

/// One fault, healed; then everybody must get on, and what was acknowledged must be there. Tells what it was, each writer's largest gap, and that of
/// clients that came in.
fn once(
    world: &mut World<'_>,
    kind: &Kind,
    draw: &mut Draw,
    since: u64,
) -> Result<(String, BTreeMap<u16, f64>, f64)> {
    let what = (kind.run)(world, draw)?;
    world.revive()?;
    world.await_progress(gaps::now())?;
    let fresh = world.fresh_gap(since)?;
    world.traffic.collect()?;
    let gaps = gaps::largest(world.traffic.pending(), since, |_| true);
    world.verify()?;
    Ok((what, gaps, fresh))
}

/// Nothing is wrong any more: everything must be whole, and stay so over a stop and a start of all nodes.
fn calm(world: &mut World<'_>) -> Result<()> {
    println!(
        "calm: the writers end, the group reads to the end, and everything is read again after a restart"
    );
    world.await_in_sync()?;
    world.fresh.0.finish()?;
    world.traffic.finish()?;
    for at in 0..NODES {
        world.cluster.stop(at)?;
    }
    world.cluster.start_all()?;
    world.traffic.read_again()?;
    for at in 0..NODES {
        world.cluster.stop(at)?;
    }
    Ok(())
}
