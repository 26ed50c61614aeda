//! `cargo xtask sim`: runs seeds on all cores, prints a line for each, and for a failure its report, the fewest faults that
//! still make it fail, and the command that replays it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use moldau_sim::Text;
use moldau_sim::run::{Outcome, Plan, run, shrink, weather};
use moldau_sim::weather::Due;
use moldau_sim::workload::{self, Workload};

const USAGE: &str = "\
usage: sim [--seeds N] [--from S] [--workload W] [--trace] [--twice] [--no-shrink] [--list]
  --seeds N     how many seeds to run (100)
  --from S      the first one (1)
  --workload W  always this workload; without it the workloads take turns
  --trace       write everything that happens to standard error
  --twice       run each seed twice and compare the hashes
  --no-shrink   report a failure as it is
  --list        show the workloads";

/// Failures that are shrunk and shown in full; of more only the line.
const SHOWN: usize = 3;

struct Options {
    seeds: u64,
    from: u64,
    workload: Option<&'static Workload>,
    text: Text,
    twice: bool,
    shrink: bool,
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { seeds: 100, from: 1, workload: None, text: Text::None, twice: false, shrink: true };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64, String> {
            let value = args.next().ok_or(format!("{arg} needs a number"))?;
            value.parse().map_err(|_| format!("{arg} {value}: not a number"))
        };
        match arg.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--workload" => {
                let name = args.next().unwrap_or_default();
                let known = workload::find(&name);
                options.workload = Some(known.ok_or(format!("no workload {name:?}: see --list"))?);
            }
            "--trace" => options.text = Text::All,
            "--twice" => options.twice = true,
            "--no-shrink" => options.shrink = false,
            "--list" => {
                workload::ALL.iter().for_each(|w| println!("{:<14} {}", w.name, w.about));
                std::process::exit(0);
            }
            _ => return Err(format!("{arg} is not understood\n{USAGE}")),
        }
    }
    Ok(options)
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic of the broker is a failure like any other; its place and its stack belong to the report.
fn guarded(plan: &Plan) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| run(plan))) {
        Ok(outcome) => outcome,
        Err(_) => Outcome::panicked(PANIC.take()),
    }
}

fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let stack = std::backtrace::Backtrace::force_capture().to_string();
        let ours: Vec<&str> = stack
            .lines()
            .filter(|line| line.contains("moldau") || line.contains("./crates"))
            .take(24)
            .collect();
        PANIC.set(format!("Panic: {info}\n{}", ours.join("\n")));
    }));
}

#[derive(Default)]
struct Totals {
    failed: Vec<(u64, &'static str)>,
    events: u64,
    virtual_ms: u64,
    counts: BTreeMap<&'static str, u64>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    keep_panics();
    let started = std::time::Instant::now();
    let next = AtomicU64::new(options.from);
    let totals = Mutex::new(Totals::default());
    let threads = if options.text == Text::All {
        1
    } else {
        std::thread::available_parallelism().map_or(1, usize::from)
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.from.saturating_add(options.seeds) {
                        break;
                    }
                    one(&options, seed, &totals);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_default();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} seeds, {} failed, {:.1} s ({:.1} seeds/s), {:.2} h of virtual time, {} events; {}",
        options.seeds,
        totals.failed.len(),
        seconds,
        options.seeds as f64 / seconds,
        totals.virtual_ms as f64 / 3.6e6,
        totals.events,
        totals.counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    );
    for (seed, workload) in totals.failed.iter().skip(SHOWN) {
        println!("also failed: {}", replay(*seed, workload));
    }
    if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64, workload: &str) -> String {
    format!("cargo xtask sim --seeds 1 --from {seed} --workload {workload} --trace")
}

fn one(options: &Options, seed: u64, totals: &Mutex<Totals>) {
    let in_turn = &workload::ALL[(seed % workload::ALL.len() as u64) as usize];
    let workload = options.workload.unwrap_or(in_turn);
    let plan = Plan { seed, workload, text: options.text, faults: None };
    let mut outcome = guarded(&plan);
    if options.twice && outcome.failure.is_none() {
        let again = guarded(&plan);
        if again.hash != outcome.hash {
            outcome.failure =
                Some(format!("NotReproducible: hash {:016x}, then {:016x}", outcome.hash, again.hash));
        }
    }
    let verdict = if outcome.failure.is_some() { "FAILED" } else { "ok" };
    let line = format!(
        "seed {seed:<6} {:<13} hash {:016x} {:>8} events {:>6.1} s {verdict}",
        workload.name,
        outcome.hash,
        outcome.events,
        outcome.virtual_ms as f64 / 1e3
    );
    let shown = {
        let Ok(mut totals) = totals.lock() else { return };
        println!("{line}");
        totals.events += outcome.events;
        totals.virtual_ms += outcome.virtual_ms;
        outcome.counts.iter().for_each(|(what, count)| *totals.counts.entry(what).or_default() += count);
        if outcome.failure.is_some() {
            totals.failed.push((seed, workload.name));
        }
        totals.failed.len() <= SHOWN
    };
    if let Some(failure) = outcome.failure.filter(|_| shown) {
        // Once more, this time with the end of its trace.
        let told = guarded(&Plan { text: Text::Last, ..plan.clone() });
        let failure = told.failure.unwrap_or(failure);
        let mut fewest = weather(&plan).faults;
        if options.shrink {
            fewest = shrink_guarded(&plan, fewest);
        }
        println!("\nseed {seed} ({}) failed.\n{failure}", workload.name);
        println!("the fewest faults with which it fails: {}", faults(&fewest));
        println!("replay: {}\n", replay(seed, workload.name));
    }
}

fn shrink_guarded(plan: &Plan, all: Vec<Due>) -> Vec<Due> {
    shrink(all, |fewer| {
        let plan = Plan { faults: Some(fewer.to_vec()), text: Text::None, ..plan.clone() };
        guarded(&plan).failure.is_some()
    })
}

fn faults(all: &[Due]) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    all.iter()
        .map(|due| format!("{} at {:.3} s", due.fault, due.at.0 as f64 / 1e9))
        .collect::<Vec<_>>()
        .join(", ")
}
