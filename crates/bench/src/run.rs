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
use crate::paired::{self, Slices};
use crate::process::resident;
use crate::recovery::{self, Recovery};
use crate::results::{Leg, Results, Sample};
use crate::startup;

/// Others may use this part of the processors; beyond it a leg is named among the doubts.
const OTHERS: f64 = 0.10;
/// The load of a machine that is at rest.
const AT_REST: f64 = 0.5;
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

/// Runs everything that is wanted; progress goes to standard error.
pub fn run(plan: &Plan) -> Result<Results> {
    plan.check_names()?;
    let began = Instant::now();
    let scratch = Scratch::below(&plan.dir)?;
    let dir = scratch.0.as_path();
    let mut results = Results {
        name: plan.name.clone(),
        command: plan.command.clone(),
        machine: Machine::look(dir),
        programs: plan.contenders.iter().map(Contender::program).collect(),
        method: plan.method(),
        legs: Vec::new(),
        calls: Vec::new(),
        doubts: Vec::new(),
        seconds: 0.0,
    };
    match (plan.alone, plan.contenders.first()) {
        (Some(alone), Some(broker)) => {
            results.legs = alone::run(broker, dir, plan.slices, alone, &|name| plan.wants(name))?;
        }
        _ => {
            at_rest(plan, dir, &mut results.legs)?;
            under_load(plan, dir, &mut results)?;
        }
    }
    if plan.alone.is_none() && plan.wants("floor") {
        results.legs.extend(floors::run(dir, plan.slices)?);
    }
    results.doubts.extend(doubts(&results));
    results.seconds = began.elapsed().as_secs_f64();
    Ok(results)
}

fn at_rest(plan: &Plan, dir: &Path, legs: &mut Vec<Leg>) -> Result<()> {
    if plan.wants("start") {
        legs.extend(startup::run(&plan.contenders, dir, plan.starts)?);
    }
    if plan.wants("idle") {
        legs.extend(idle::fresh(&plan.contenders, dir, plan.idle)?);
    }
    if plan.wants("connections") {
        legs.extend(idle::connections(&plan.contenders, dir, plan.idle)?);
    }
    if plan.wants("recovery") {
        legs.extend(recovery::run(&plan.contenders, dir, plan.recovery)?);
    }
    if plan.wants("partitions") {
        legs.extend(idle::partitions(&plan.contenders, dir, plan.idle)?);
    }
    Ok(())
}

fn under_load(plan: &Plan, dir: &Path, results: &mut Results) -> Result<()> {
    let (any, counted) = (loaded().any(|name| plan.wants(name)), plan.wants("calls"));
    if !any && !counted {
        return Ok(());
    }
    let lives = paired::start_all(&plan.contenders, dir)?;
    if any {
        paired::run(&lives, dir, plan.slices, &|name| plan.wants(name), &mut results.legs)?;
        let mut memory = Leg::new("peak memory", "most resident under the loads above", "MB", None);
        for live in &lives {
            memory.add(live.name, Sample::of(resident(live.serving.pid())?.1 as f64 / 1e6));
        }
        results.legs.push(memory);
    }
    if counted && calls::possible() {
        results.calls = calls::count(&lives, dir)?;
    } else if counted {
        results.doubts.push("System calls were not counted: SKIPPED, there is no strace.".to_owned());
    }
    Ok(())
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
    if results.machine.load_before > AT_REST {
        doubts.push(format!(
            "The machine was not idle before the run (load {:.1}): these figures are not to be quoted.",
            results.machine.load_before
        ));
    }
    doubts
}
