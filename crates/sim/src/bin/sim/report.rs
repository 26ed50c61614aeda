//! What is printed: a line for each seed, how far a long run is, a failure with what is left of it, a summary.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use moldau_sim::Text;
use moldau_sim::failure::Failure;
use moldau_sim::guard::guarded;
use moldau_sim::run::{Outcome, Plan, weather};
use moldau_sim::schedule::Schedule;
use moldau_sim::shrink::{Size, shrink};

/// Failures that are shrunk and shown in full; of more only the line.
const SHOWN: usize = 3;
/// With more seeds than this only failures have a line of their own.
const LINES: u64 = 1_000;

/// What came of all seeds.
pub struct Totals {
    began: Instant,
    told: Instant,
    seeds: u64,
    done: u64,
    /// Seeds that failed, with the command that replays each.
    pub failed: Vec<String>,
    events: u64,
    virtual_ms: u64,
    counts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Of so many seeds.
    pub fn new(seeds: u64) -> Totals {
        let began = Instant::now();
        Totals {
            began,
            told: began,
            seeds,
            done: 0,
            failed: Vec::new(),
            events: 0,
            virtual_ms: 0,
            counts: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    /// Takes in a run; whether its failure is to be shown in full.
    pub fn add(&mut self, plan: &Plan, outcome: &Outcome) -> bool {
        self.done += 1;
        self.events += outcome.events;
        self.virtual_ms += outcome.virtual_ms;
        outcome.counts.iter().for_each(|(what, count)| *self.counts.entry(what).or_default() += count);
        outcome.faults.iter().for_each(|(what, count)| *self.faults.entry(what).or_default() += count);
        if outcome.failure.is_some() || self.seeds <= LINES {
            println!("{}", line(plan, outcome));
        }
        self.progress();
        if outcome.failure.is_some() {
            self.failed.push(replay(plan, &plan.schedule));
        }
        outcome.failure.is_some() && self.failed.len() <= SHOWN
    }

    /// On a terminal a line that is written over, elsewhere one every minute; nothing when every seed has a line.
    fn progress(&mut self) {
        let to_terminal = std::io::stderr().is_terminal();
        let pause = Duration::from_secs(if to_terminal { 1 } else { 60 });
        if self.seeds <= LINES || self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let (begin, end) = if to_terminal { ("\r", "  ") } else { ("", "\n") };
        let failed = self.failed.len();
        eprint!("{begin}{} of {} seeds, {failed} failed, {}{end}", self.done, self.seeds, self.speed());
        // Progress that cannot be shown is none.
        let _ = std::io::stderr().flush();
    }

    fn speed(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let hours = self.virtual_ms as f64 / 3.6e6;
        format!("{seconds:.1} s ({:.1} seeds/s), {hours:.1} h simulated", self.done as f64 / seconds)
    }

    /// All of it in a few lines.
    pub fn summary(&self) {
        println!(
            "{} seeds, {} failed, {}, {} events",
            self.done,
            self.failed.len(),
            self.speed(),
            self.events
        );
        println!("faults: {}", list(&self.faults));
        println!("clients: {}", list(&self.counts));
        self.failed.iter().skip(SHOWN).for_each(|command| println!("also failed: {command}"));
    }
}

fn list(counts: &BTreeMap<&'static str, u64>) -> String {
    let all: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn line(plan: &Plan, outcome: &Outcome) -> String {
    let verdict = outcome.failure.as_ref().map_or("ok".to_owned(), |f| format!("FAILED by {}", f.checker));
    format!(
        "seed {:<6} {:<13} hash {:016x} {:>8} events {:>6.1} s {verdict}",
        plan.seed,
        plan.workload.name,
        outcome.hash,
        outcome.events,
        outcome.virtual_ms as f64 / 1e3
    )
}

/// The command that does this part of a run again.
pub fn replay(plan: &Plan, schedule: &Schedule) -> String {
    let bug = plan.planted.map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
    let (seed, workload) = (plan.seed, plan.workload.name);
    format!("cargo xtask sim --seeds 1 --from {seed} --workload {workload}{bug}{schedule}")
}

/// Shrinks a run that failed: what is left, how it ends, and how many runs that took.
pub fn shrunk(plan: &Plan, outcome: &Outcome, failure: &Failure) -> (Plan, Outcome, usize) {
    let size = Size {
        faults: weather(&Plan { schedule: Schedule::default(), ..plan.clone() }).faults.len(),
        clients: outcome.clients,
        trouble_ms: plan.workload.trouble_ms,
    };
    let part = |schedule: &Schedule| Plan { schedule: schedule.clone(), text: Text::None, ..plan.clone() };
    let (schedule, runs) = shrink(plan.schedule.clone(), size, |schedule| {
        guarded(&part(schedule)).failure.is_some_and(|found| found.checker == failure.checker)
    });
    let left = Plan { text: Text::Last, ..part(&schedule) };
    let outcome = guarded(&left);
    (left, outcome, runs)
}

/// Prints a failure: what is left of the run, its report, and the command that replays it.
pub fn explain(plan: &Plan, outcome: &Outcome, and_shrink: bool) {
    let Some(failure) = &outcome.failure else { return };
    let (left, told, runs) = match and_shrink {
        true => shrunk(plan, outcome, failure),
        false => {
            let left = Plan { text: Text::Last, ..plan.clone() };
            let told = guarded(&left);
            (left, told, 0)
        }
    };
    let story = told.failure.as_ref().unwrap_or(failure);
    // In one piece: other threads print too.
    println!(
        "\nseed {} ({}) failed.\n{story}\n{}after {runs} runs of the shrinker\nreplay: {} --trace\nthe whole of it: {}\n",
        plan.seed,
        plan.workload.name,
        schedule(&left, told.clients),
        replay(&left, &left.schedule),
        replay(plan, &plan.schedule)
    );
}

/// What happens in a run besides the load.
fn schedule(plan: &Plan, clients: usize) -> String {
    let weather = weather(plan);
    let mut text = String::from("with these faults:\n");
    for due in &weather.faults {
        text += &format!("  {:>9.3} s  {}\n", due.at.0 as f64 / 1e9, due.fault);
    }
    if weather.faults.is_empty() {
        text += "  none\n";
    }
    let present = clients.saturating_sub(plan.schedule.without.len());
    text += &format!(
        "{present} clients, {} shards, {} log directories, {:.1} s of trouble; ",
        weather.shards,
        weather.log_dirs,
        weather.trouble.0 as f64 / 1e9
    );
    text
}
