//! Runs programs of libFuzzer side by side, shows how far they are, and ends each when it has had its share of the processor.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::program;
use super::turns::Turns;

/// Longest input that is tried. The limits of the parsers' rules lie far below.
const MAX_LEN: u32 = 16 * 1024;
/// An input that needs more memory than this, in MiB, is a finding.
const MEMORY_MIB: u32 = 2048;
/// Seconds for one input; far more than any takes, since the machine may be asleep meanwhile.
const SLOW_SECONDS: u32 = 600;
/// How often the programs are looked at, and how often that is shown.
const GLANCE: Duration = Duration::from_secs(1);
const SHOWN_EVERY: Duration = Duration::from_secs(20);

/// How a target's run ended.
pub struct Ended {
    pub target: String,
    /// Seconds of the processor.
    pub seconds: f64,
    /// Inputs that were tried.
    pub inputs: u64,
    /// Edges of the program that were reached.
    pub edges: u64,
    /// The input that breaks something.
    pub found: Option<PathBuf>,
    /// It ended before its turn was over.
    early: bool,
}

#[cfg(test)]
impl Ended {
    /// One that had its turn and found nothing.
    pub fn of(target: &str, seconds: f64, inputs: u64, edges: u64) -> Ended {
        Ended { target: target.into(), seconds, inputs, edges, found: None, early: false }
    }
}

struct Running {
    target: String,
    child: Child,
    log: PathBuf,
    seconds: f64,
    /// Seconds of its turn.
    turn: f64,
    told_to_end: bool,
}

/// Runs the targets whose turn it is, `jobs` at a time; `ended` is told of each.
pub fn run(
    root: &Path,
    turns: &mut Turns,
    jobs: usize,
    mut ended: impl FnMut(&Ended) -> Result<()>,
) -> Result<()> {
    let mut running: Vec<Running> = Vec::new();
    let mut shown = Instant::now();
    loop {
        while running.len() < jobs
            && let Some((target, turn)) = turns.begin()
        {
            running.push(start(root, &target, turn)?);
        }
        if running.is_empty() {
            return Ok(());
        }
        std::thread::sleep(GLANCE);
        for end in glance(root, &mut running)? {
            tell(&end);
            turns.end(&end.target, end.seconds, end.early || end.found.is_some());
            ended(&end)?;
        }
        if shown.elapsed() >= SHOWN_EVERY {
            shown = Instant::now();
            running.iter().for_each(progress);
        }
    }
}

/// Looks how far each is, and tells those to end whose turn is over; those that ended are taken out.
fn glance(root: &Path, running: &mut Vec<Running>) -> Result<Vec<Ended>> {
    let (mut still, mut ended) = (Vec::new(), Vec::new());
    for mut one in running.drain(..) {
        one.seconds = processor_seconds(one.child.id()).unwrap_or(one.seconds);
        if one.child.try_wait()?.is_some() {
            ended.push(conclude(root, &one));
            continue;
        }
        if one.seconds >= one.turn && !one.told_to_end {
            one.told_to_end = true;
            stop(&one.child);
        }
        still.push(one);
    }
    *running = still;
    Ok(ended)
}

fn start(root: &Path, target: &str, turn: f64) -> Result<Running> {
    let folder = |name: &str| -> Result<PathBuf> {
        let path = root.join("fuzz").join(name).join(target);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    };
    let (corpus, seeds, artifacts) = (folder("corpus")?, folder("seeds")?, folder("artifacts")?);
    let log = artifacts.join("log");
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new(program(root, target));
    command.arg(&corpus).arg(&seeds);
    command.arg(format!("-max_len={MAX_LEN}")).arg(format!("-rss_limit_mb={MEMORY_MIB}"));
    command.arg(format!("-timeout={SLOW_SECONDS}")).arg(format!("-report_slow_units={SLOW_SECONDS}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg("-print_final_stats=1").current_dir(root);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let child = command.spawn().with_context(|| format!("cannot start {target}"))?;
    Ok(Running { target: target.to_owned(), child, log, seconds: 0.0, turn, told_to_end: false })
}

/// Asks libFuzzer to end: it says its figures first.
fn stop(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Already gone is as good.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Seconds of the processor that a process has had.
fn processor_seconds(id: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Behind the name, which may hold anything: state and ten numbers, then the ticks in user and in system mode.
    let mut words = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The number behind `word` in the last line of a log that has both.
fn last_number(log: &str, word: &str) -> u64 {
    let number = |line: &str| line.split_once(word)?.1.split_whitespace().next()?.parse().ok();
    log.lines().rev().find_map(number).unwrap_or(0)
}

fn conclude(root: &Path, one: &Running) -> Ended {
    let log =
        fs::read(&one.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let written = log.lines().rev().find_map(|line| line.split_once("Test unit written to "));
    Ended {
        target: one.target.clone(),
        seconds: one.seconds,
        inputs: last_number(&log, "stat::number_of_executed_units:"),
        edges: last_number(&log, "cov: "),
        found: written.map(|(_, path)| root.join(path.trim())),
        early: !one.told_to_end,
    }
}

fn progress(one: &Running) {
    let log =
        fs::read(&one.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let of = |word| last_number(&log, word);
    println!(
        "fuzz: {:<14} {:>5.1} of {:.1} min  {:>6} edges  {:>6}/s",
        one.target,
        one.seconds / 60.0,
        one.turn / 60.0,
        of("cov: "),
        of("exec/s: ")
    );
}

fn tell(end: &Ended) {
    let Ended { target, seconds, inputs, edges, found, early } = end;
    println!("fuzz: {target:<14} ended: {:.1} min, {inputs} inputs, {edges} edges", seconds / 60.0);
    if let Some(path) = found {
        println!(
            "fuzz: {target} FOUND {}; again: cargo xtask fuzz {target} --input {}",
            path.display(),
            path.display()
        );
    } else if *early {
        println!("fuzz: {target} ended by itself; see fuzz/artifacts/{target}/log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_log() {
        let log = "#1 INITED cov: 12 ft: 13\n#9 NEW    cov: 40 ft: 77 corp: 3/9b exec/s: 5 rss: 40Mb\nstat::number_of_executed_units: 99\n";
        assert_eq!(last_number(log, "cov: "), 40);
        assert_eq!(last_number(log, "exec/s: "), 5);
        assert_eq!(last_number(log, "stat::number_of_executed_units:"), 99);
        assert_eq!(last_number(log, "none"), 0);
    }

    #[test]
    fn this_process_has_had_some_time() {
        let had = processor_seconds(std::process::id());
        assert!(had.is_some_and(|seconds| (0.0..1e6).contains(&seconds)), "{had:?}");
        assert_eq!(processor_seconds(u32::MAX), None);
    }
}
