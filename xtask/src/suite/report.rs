//! What a person sees of `cargo xtask test`: a line per step, of a failed one the tests that failed and the end of its log, a table
//! of 100 columns.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::failures::failures;
use super::program::End;
use super::steps::Step;
use crate::toolbox::last_lines;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Failed,
    /// Not asked for.
    LeftOut,
}

/// Tests that a step's programs counted themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

/// What is kept of a step for the table.
pub struct Finished {
    pub name: &'static str,
    pub verdict: Verdict,
    pub took: Duration,
    pub counts: Counts,
    /// Lines that name what was skipped.
    pub skipped: Vec<String>,
}

/// Lines of a failed step's log that are shown.
const SHOWN: usize = 60;

impl Finished {
    pub fn left_out(name: &'static str) -> Self {
        let (took, counts) = (Duration::ZERO, Counts::default());
        Self { name, verdict: Verdict::LeftOut, took, counts, skipped: Vec::new() }
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Ok if self.skipped.is_empty() => "ok",
            Verdict::Ok => "ok, SKIPS",
            Verdict::Failed => "FAILED",
            Verdict::LeftOut => "left out",
        }
    }
}

impl Counts {
    /// Adds up the lines `N passed, N failed` (of cargo test with a semicolon); without any, the step itself is one test.
    pub fn read(log: &str, verdict: Verdict) -> Self {
        let mut sum = Self::default();
        for line in log.lines() {
            let words: Vec<&str> = line.split([' ', ';', ',']).filter(|word| !word.is_empty()).collect();
            let count = |of: &str| {
                words.windows(2).filter(|pair| pair[1] == of).find_map(|pair| pair[0].parse::<u64>().ok())
            };
            if let (Some(passed), Some(failed)) = (count("passed"), count("failed")) {
                sum.passed += passed;
                sum.failed += failed;
            }
        }
        if sum == Self::default() {
            sum.passed = u64::from(verdict == Verdict::Ok);
        }
        if verdict == Verdict::Failed {
            sum.failed = sum.failed.max(1);
        }
        sum
    }
}

/// Lines of a log that say what was skipped, each once.
pub fn skipped_lines(log: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in log.lines().map(str::trim).filter(|line| line.contains("SKIPPED")) {
        if !lines.iter().any(|known| known == line) {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// Says that a step begins.
pub fn announce(step: &Step) {
    print!("{:<10} {:<56} ", step.name, step.what);
    let _ = std::io::stdout().flush();
}

/// Completes the line of [`announce`].
pub fn conclude(finished: &Finished) {
    println!("{:<10} {:>8}", finished.word(), time(finished.took));
}

/// The failed tests of a failed step, and the end of its log.
pub fn why(end: &Result<End>, log: &Path, text: &str) {
    let failed = failures(text);
    if !failed.is_empty() {
        println!("  tests that failed:");
    }
    for line in failed {
        println!("  | {line}");
    }
    match end {
        Ok(End::Failure(status)) => println!("  ended with {status}; the end of {}:", log.display()),
        Ok(End::Late(limit)) => {
            println!("  ended after {}, its limit; the end of {}:", time(*limit), log.display())
        }
        Ok(End::Success) => {}
        Err(why) => println!("  could not run: {why:#}"),
    }
    for line in last_lines(text, SHOWN).lines() {
        println!("  | {line}");
    }
}

/// The names of the steps and what they make sure of.
pub fn list(steps: &[Step]) {
    for step in steps {
        println!("{:<10} {:<56} at most {} min", step.name, step.what, step.minutes);
    }
}

/// Everything at one glance; the last line is the one that test runners end with.
pub fn table(finished: &[Finished], took: Duration, logs: &Path) {
    println!("\n{:<12} {:<10} {:>9} {:>9} {:>8}", "step", "result", "passed", "failed", "time");
    for step in finished {
        let (passed, failed) = (step.counts.passed, step.counts.failed);
        println!("{:<12} {:<10} {passed:>9} {failed:>9} {:>8}", step.name, step.word(), time(step.took));
    }
    let skipped: Vec<(&str, &String)> =
        finished.iter().flat_map(|step| step.skipped.iter().map(|line| (step.name, line))).collect();
    for (name, line) in &skipped {
        println!("! {name}: {line}");
    }
    println!("{} in all; logs are in {}", time(took), logs.display());
    let left_out = finished.iter().filter(|step| step.verdict == Verdict::LeftOut).count();
    let passed: u64 = finished.iter().map(|step| step.counts.passed).sum();
    let failed: u64 = finished.iter().map(|step| step.counts.failed).sum();
    println!("{passed} passed, {failed} failed, {} skipped", skipped.len() + left_out);
}

/// `4.2 s` or `3:05 min`.
fn time(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        seconds => format!("{}:{:02} min", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_runners_are_added() {
        let log = "test result: ok. 12 passed; 0 failed; 0 ignored\ninterop: 3 passed, 1 failed, 2 n/a, 0 skipped\n";
        assert_eq!(Counts::read(log, Verdict::Failed), Counts { passed: 15, failed: 1 });
    }

    #[test]
    fn a_step_without_counts_is_one_test() {
        assert_eq!(Counts::read("faults: 23 failed sync", Verdict::Ok), Counts { passed: 1, failed: 0 });
        assert_eq!(Counts::read("fine", Verdict::Ok), Counts { passed: 1, failed: 0 });
        assert_eq!(Counts::read("not fine", Verdict::Failed), Counts { passed: 0, failed: 1 });
    }

    #[test]
    fn what_was_skipped_is_kept_once() {
        let log = "oracle: SKIPPED, there is no python3\nfine\noracle: SKIPPED, there is no python3\n";
        assert_eq!(skipped_lines(log), ["oracle: SKIPPED, there is no python3"]);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(time(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(time(Duration::from_secs(185)), "3:05 min");
    }
}
