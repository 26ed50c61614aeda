//! `--planted`: looks for each planted bug, prints a table, and shrinks one of the failures to see that the shrinker works.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use moldau_base::planted::Bug;
use moldau_sim::planted::{SEEDS, Search, bugs, search};
use moldau_sim::run::weather;

use crate::report;

/// The bug whose failure is shrunk: it needs one death and one producer.
const SHRUNK: Bug = Bug::RecoveryCutsOne;

/// How the table of planted bugs begins.
const HEAD: &str = "| bug | what it does | workload | found by | seeds |\n|---|---|---|---|---|\n";

/// Looks for all bugs, each within `seeds` of its workload; whether all were found.
/// With a page, its table of them is written again.
pub fn find_all(seeds: u64, page: Option<&str>) -> bool {
    let seeds = seeds.max(SEEDS);
    let bugs = bugs();
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, Search)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bug) = bugs.get(place) else { break };
                    let search = search(*bug, seeds);
                    println!("{}", line(&search));
                    if let Ok(mut found) = found.lock() {
                        found.push((place, search));
                    }
                }
            });
        }
    });
    let mut all = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.sort_by_key(|(place, _)| *place);
    let table: String = all.iter().map(|(_, search)| row(search) + "\n").collect();
    println!("\n{HEAD}{table}");
    let written = page.is_none_or(|page| write_table(page, &table));
    let missed = all.iter().filter(|(_, search)| search.found.is_none()).count();
    println!("{} planted bugs, {missed} not found within {seeds} seeds", all.len());
    let shrinks =
        all.iter().find(|(_, search)| search.expected.bug == SHRUNK).is_some_and(|(_, s)| try_shrinking(s));
    written && missed == 0 && shrinks && all.len() == bugs.len()
}

/// Puts the rows into the page's table of planted bugs; whether that worked.
fn write_table(page: &str, rows: &str) -> bool {
    let written = std::fs::read_to_string(page).and_then(|text| {
        let (before, after) = text.split_once(HEAD).ok_or(std::io::ErrorKind::NotFound)?;
        let rest: String = after.split_inclusive('\n').skip_while(|line| line.starts_with('|')).collect();
        std::fs::write(page, format!("{before}{HEAD}{rows}{rest}"))
    });
    if let Err(error) = &written {
        println!("the table in {page} could not be written: {error}");
    }
    written.is_ok()
}

fn line(search: &Search) -> String {
    let others: Vec<String> =
        search.others.iter().take(5).map(|(seed, who)| format!("{seed} by {who}")).collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!("; seeds that failed before: {}", others.join(", "))
    };
    match &search.found {
        Some((plan, outcome)) => {
            let who = outcome.failure.as_ref().map_or("", |failure| failure.checker);
            format!("{:<20} found by {who} after {} seeds{others}", search.expected.bug.name(), plan.seed)
        }
        None => format!("{:<20} NOT FOUND{others}", search.expected.bug.name()),
    }
}

fn row(search: &Search) -> String {
    let expected = &search.expected;
    let (bug, about, workload) = (expected.bug.name(), expected.bug.about(), expected.workload);
    let about = about.trim_end_matches('.');
    match &search.found {
        Some((plan, outcome)) => {
            let who = outcome.failure.as_ref().map_or("", |failure| failure.checker);
            format!("| {bug} | {about} | {workload} | {who} | {} |", plan.seed)
        }
        None => format!("| {bug} | {about} | {workload} | nobody | |"),
    }
}

/// Shrinks what was found: what is left must be less, and fail in the same way when it is replayed.
fn try_shrinking(search: &Search) -> bool {
    let Some((plan, outcome)) = &search.found else { return false };
    let Some(failure) = &outcome.failure else { return false };
    let (left, told, runs) = report::shrunk(plan, outcome, failure);
    let is_same = told.failure.as_ref().is_some_and(|found| found.checker == failure.checker);
    let (faults, of_faults) = (weather(&left).faults.len(), weather(plan).faults.len());
    let (clients, of_clients) = (outcome.clients - left.schedule.without.len(), outcome.clients);
    let is_less = faults < of_faults && clients < of_clients;
    println!(
        "{}, seed {}, shrunk in {runs} runs: {faults} of {of_faults} faults and {clients} of {of_clients} clients are left",
        search.expected.bug.name(),
        plan.seed
    );
    println!("  {}", report::replay(&left, &left.schedule));
    if !is_same || !is_less {
        println!("  the shrinker does not work: less of this is enough, and fails in the same way");
    }
    is_same && is_less
}
