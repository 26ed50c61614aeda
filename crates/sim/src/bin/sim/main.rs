//! `cargo xtask sim`: runs seeds on all cores, prints a line for each, and for a failure its report, what is left of it after
//! shrinking, and the command that replays that.

mod options;
mod planted;
mod report;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use moldau_base::planted::COMPILED_IN;
use moldau_sim::Text;
use moldau_sim::failure::{self, Failure};
use moldau_sim::guard::{guarded, keep_panics};
use moldau_sim::run::{Outcome, Plan};
use moldau_sim::workload;

use options::{Options, Task};
use report::Totals;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if !COMPILED_IN && (options.task == Task::Planted || options.bug.is_some()) {
        eprintln!(
            "this build has no planted bugs: use `cargo xtask sim`, or build with the feature `planted`"
        );
        return ExitCode::from(2);
    }
    keep_panics();
    let good = match options.task {
        Task::Seeds => run_seeds(&options),
        Task::Planted => planted::find_all(options.seeds, options.page.as_deref()),
        Task::List => {
            workload::ALL.iter().for_each(|w| println!("{:<14} {}", w.name, w.about));
            true
        }
        Task::Help => {
            println!("{}", options::usage());
            true
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Threads that run seeds side by side.
fn threads(options: &Options) -> usize {
    if options.text == Text::All { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

fn run_seeds(options: &Options) -> bool {
    let next = AtomicU64::new(options.from);
    let totals = Mutex::new(Totals::new(options.seeds));
    std::thread::scope(|scope| {
        for _ in 0..threads(options) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.from.saturating_add(options.seeds) {
                        break;
                    }
                    one(options, seed, &totals);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    totals.summary();
    totals.failed.is_empty()
}

fn one(options: &Options, seed: u64, totals: &Mutex<Totals>) {
    let in_turn = &workload::ALL[(seed % workload::ALL.len() as u64) as usize];
    let plan = Plan {
        seed,
        workload: options.workload.unwrap_or(in_turn),
        text: options.text,
        schedule: options.schedule.clone(),
        planted: options.bug,
    };
    let mut outcome = guarded(&plan);
    if options.twice && outcome.failure.is_none() {
        let again = guarded(&plan);
        if again.hash != outcome.hash {
            let what = format!("hash {:016x}, then {:016x}", outcome.hash, again.hash);
            outcome = Outcome { failure: Some(Failure::new(failure::NOT_REPRODUCIBLE, what)), ..outcome };
        }
    }
    let in_full = match totals.lock() {
        Ok(mut totals) => totals.add(&plan, &outcome),
        Err(_) => return,
    };
    if in_full {
        report::explain(&plan, &outcome, options.shrink);
    }
}
