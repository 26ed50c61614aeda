//! One run from its beginning to its page: which sections there are, in which order, and what speaks against the figures.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::alone::{self, Alone};
use crate::calls;
use crate::contender::Contender;
use crate::floors;
use crate::idle::{self, Idle};
use crate::legs::{FETCH, LATENCY, PRODUCE};
use crate::machine::Machine;
use crate::paired::{Brokers, Slices};
use crate::recovery::{self, Recovery};
use crate::results::{Leg, Results};
use crate::startup;
use crate::stats;

/// Others may use this part of the processors; beyond it a leg is named among the doubts.
const OTHERS: f64 = 0.10;
/// The load of a machine that is at rest.
const AT_REST: f64 = 0.5;
/// How the legs end that say how late the load generator itself was, and how late it may be.
const LATE: &str = " late";
const LATE_US: f64 = 1000.0;
/// Sections beside the legs under load; the first word of their legs' names.
const SECTIONS: [&str; 7] = ["floor", "start", "idle", "connections", "partitions", "recovery", "calls"];

/// What a run is made with.
pub struct Plan {
    /// Name of the page.
    pub name: String,
    /// The command that is said to make it.
    pub command: String,
    /// The brokers.
    pub contenders: Vec<Contender>,
    /// Where data lie meanwhile; on the file system that is to be measured.
    pub dir: PathBuf,
    /// First words of the legs that are wanted.
    pub only: Vec<String>,
    /// Legs under load.
    pub slices: Slices,
    /// Starts of each kind.
    pub starts: usize,
    /// What is looked at while nothing happens.
    pub idle: Idle,
    /// What a killed broker has to recover.
    pub recovery: Recovery,
    /// What is asked of the first broker alone; nothing else is measured then.
    pub alone: Option<Alone>,
    /// Folder for the page and its JSON.
    pub out: Option<PathBuf>,
}

/// A folder of this run alone, removed with everything in it when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes one below `dir`.
    pub fn below(dir: &Path) -> Result<Scratch> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let own = dir.canonicalize()?.join(format!("moldau-bench-{}", std::process::id()));
        std::fs::create_dir(&own).with_context(|| format!("cannot make {}", own.display()))?;
        Ok(Scratch(own))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        let word = first_word(name);
        self.only.is_empty() || self.only.iter().any(|only| only == word)
    }

    fn check_names(&self) -> Result<()> {
        let names: Vec<&str> = if self.alone.is_some() { alone::NAMES.to_vec() } else { known() };
        for only in &self.only {
            ensure!(names.contains(&only.as_str()), "no leg {only}; there are {}", names.join(", "));
        }
        Ok(())
    }

    fn method(&self) -> Vec<String> {
        let Slices { pairs, bounds, warm_up } = self.slices;
        let slice = format!("{:.1} GB or {} s", bounds.bytes as f64 / crate::GB, bounds.time.as_secs());
        let order = match self.alone {
            Some(_) => format!("Slices of {slice} at the most; latencies at a fixed rate, in an open loop."),
            None => format!(
                "Legs under load: {pairs} rounds of slices of {slice}, the sides in turn there and back (A B C, C B A); all brokers stay up\n\
                 and only one has work. Warm-up of {} s before each leg, three times that before the first.",
                warm_up.as_secs()
            ),
        };
        vec![
            order,
            "One node, 12 partitions, acks=1, acknowledged from the page cache (Kafka's default), the load from the same machine. Kafka\n\
             leaves flushing to the kernel; Moldau flushes each partition every 64 MiB or second by itself, and that is in its figures."
                .to_owned(),
            "CPU is user and system time of the broker's process with all its threads (/proc/PID/stat), divided by 10⁹ bytes of\n\
             batches or by requests. Less is better everywhere. A ratio is the median of the ratios of neighbours; its interval holds\n\
             95 % of bootstrapped medians. A target is met when the interval's bad end meets it. Where there is one sample only,\n\
             the interval is a point and says nothing."
                .to_owned(),
        ]
    }
}

fn first_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

/// The names of the legs under load.
fn loaded() -> impl Iterator<Item = &'static str> {
    let latency = LATENCY.iter().map(|leg| leg.name);
    PRODUCE.iter().map(|leg| leg.name).chain(latency).chain(FETCH.iter().map(|leg| leg.name))
}

fn known() -> Vec<&'static str> {
    let mut names: Vec<&str> = loaded().map(first_word).collect();
    names.extend(SECTIONS);
    names.dedup();
    names
}

/// Runs everything that is wanted; progress goes to standard error. What fails is left out and named in the results, which
/// are written after each section: an hour on a quiet machine is not lost to its last minute.
pub fn run(plan: &Plan) -> Result<Results> {
    plan.check_names()?;
    let scratch = Scratch::below(&plan.dir)?;
    let results = Results {
        name: plan.name.clone(),
        command: plan.command.clone(),
        machine: Machine::look(&scratch.0),
        programs: plan.contenders.iter().map(Contender::program).collect(),
        method: plan.method(),
        legs: Vec::new(),
        calls: Vec::new(),
        failures: Vec::new(),
        doubts: Vec::new(),
        seconds: 0.0,
    };
    let mut session = Session { plan, dir: &scratch.0, began: Instant::now(), results };
    match (plan.alone, plan.contenders.first()) {
        (Some(alone), Some(broker)) => session.alone(broker, alone)?,
        _ => session.beside()?,
    }
    session.keep()?;
    Ok(session.results)
}

/// A run that is under way.
struct Session<'a> {
    plan: &'a Plan,
    dir: &'a Path,
    began: Instant,
    results: Results,
}

impl Session<'_> {
    /// Does a part of the run, if it is wanted.
    fn section(&mut self, name: &str, work: impl FnOnce(&mut Results) -> Result<()>) -> Result<()> {
        if !self.plan.wants(name) {
            return Ok(());
        }
        if let Err(why) = work(&mut self.results) {
            let failure = format!("{name}: {why:#}");
            crate::say(format_args!("FAILED {failure}"));
            self.results.failures.push(failure);
        }
        self.keep()
    }

    /// Writes what there is so far.
    fn keep(&mut self) -> Result<()> {
        self.results.doubts = doubts(&self.results);
        self.results.seconds = self.began.elapsed().as_secs_f64();
        self.plan.out.as_ref().map_or(Ok(()), |out| self.results.write(out))
    }

    fn legs(&mut self, name: &str, work: impl FnOnce() -> Result<Vec<Leg>>) -> Result<()> {
        self.section(name, |results| {
            results.legs.extend(work()?);
            Ok(())
        })
    }

    fn alone(&mut self, broker: &Contender, alone: Alone) -> Result<()> {
        for name in alone::NAMES {
            let (dir, slices) = (self.dir, self.plan.slices);
            self.legs(name, || alone::run(name, broker, dir, slices, alone))?;
        }
        Ok(())
    }

    /// What matters most comes first.
    fn beside(&mut self) -> Result<()> {
        self.under_load()?;
        let (plan, dir) = (self.plan, self.dir);
        let contenders = &plan.contenders;
        self.legs("start", || startup::run(contenders, dir, plan.starts))?;
        self.legs("idle", || idle::fresh(contenders, dir, plan.idle))?;
        self.legs("connections", || idle::connections(contenders, dir, plan.idle))?;
        self.legs("recovery", || recovery::run(contenders, dir, plan.recovery))?;
        self.legs("partitions", || idle::partitions(contenders, dir, plan.idle))?;
        self.legs("floor", || floors::run(dir, plan.slices))
    }

    fn under_load(&mut self) -> Result<()> {
        let (plan, dir) = (self.plan, self.dir);
        let loaded = loaded().any(|name| plan.wants(name));
        if !loaded && !plan.wants("calls") {
            return Ok(());
        }
        let mut brokers = Brokers::start(&plan.contenders, dir, plan.slices)?;
        for leg in &PRODUCE {
            self.legs(leg.name, || brokers.produce(leg))?;
        }
        for leg in &LATENCY {
            self.legs(leg.name, || brokers.latency(leg))?;
        }
        for leg in &FETCH {
            self.legs(leg.name, || brokers.fetch(leg))?;
        }
        if loaded {
            self.results.legs.push(brokers.peak_memory()?);
        }
        self.section("calls", |results| {
            ensure!(calls::possible(), "SKIPPED, there is no strace");
            results.calls = calls::count(&brokers.lives, dir)?;
            Ok(())
        })
    }
}

/// What speaks against the figures.
fn doubts(results: &Results) -> Vec<String> {
    let mut doubts = Vec::new();
    let cores = results.machine.cores;
    let mut disturbed = Vec::new();
    for leg in &results.legs {
        let of = |side| leg.load(side, |done| done.cpu.disturbed(cores)).unwrap_or(0.0);
        let worst = leg.samples.keys().map(|side| of(side)).fold(0.0, f64::max);
        if worst > OTHERS {
            disturbed.push(format!("{} ({:.0} %)", leg.name, worst * 100.0));
        }
    }
    if !disturbed.is_empty() {
        doubts.push(format!("Others used the processors during {}.", disturbed.join(", ")));
    }
    for leg in results.legs.iter().filter(|leg| leg.name.ends_with(LATE)) {
        let late = leg.samples.keys().map(|side| stats::median(&leg.values(side))).fold(0.0, f64::max);
        if late > LATE_US {
            doubts.push(format!(
                "{}: the load generator itself was {late:.0} µs late; these latencies are its own.",
                leg.name
            ));
        }
    }
    if results.machine.load_before > AT_REST {
        doubts.push(format!(
            "The machine was not idle before the run (load {:.1}): these figures are not to be quoted.",
            results.machine.load_before
        ));
    }
    doubts
}
