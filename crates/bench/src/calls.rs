//! Counted system calls: what a broker asks the kernel for, per request, under the load of a leg.
//!
//! `strace -c -f` counts exactly and slows everything down, so nothing is timed meanwhile. With both processors busy a broker
//! batches more and calls less than with one request at a time; the load is that of the leg.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::legs::{BATCHES, FETCH, PRODUCE};
use crate::paired::{Live, delete};
use crate::pump::{Bounds, Tally};

/// Requests that are counted, about.
const REQUESTS: u64 = 5000;
/// The longest that a leg may take under strace.
const LONGEST: Duration = Duration::from_secs(20);
/// Calls rarer than this for each request are summed up.
const RARE: f64 = 0.005;

/// System calls of one side in one leg.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Calls {
    /// The leg.
    pub leg: String,
    /// The side.
    pub side: String,
    /// Requests meanwhile.
    pub requests: u64,
    /// Calls for each request, the most frequent first.
    pub each: Vec<(String, f64)>,
}

impl Calls {
    /// All of them for each request.
    pub fn total(&self) -> f64 {
        self.each.iter().map(|(_, count)| count).sum()
    }
}

/// Whether strace is there.
pub fn possible() -> bool {
    crate::machine::said("strace", &["-V"]).is_some()
}

/// Counts W1, W3 and W8 of each broker.
pub fn count(lives: &[Live], dir: &Path) -> Result<Vec<Calls>> {
    let mut all = Vec::new();
    for live in lives {
        for leg in PRODUCE.iter().filter(|leg| ["W1", "W3"].contains(&leg.name)) {
            let broker = leg.prepare(live.serving.address, live.serving.pid(), "counted")?;
            let bounds = Bounds { bytes: REQUESTS * leg.shape.build()?.len() as u64, time: LONGEST };
            broker.send(bounds)?;
            all.push(counted(leg.name, live, dir, || broker.send(bounds))?);
            delete(std::slice::from_ref(live), "counted")?;
        }
        let written = BATCHES.prepare(live.serving.address, live.serving.pid(), "counted")?;
        written.send(Bounds { bytes: 200_000_000, time: LONGEST })?;
        for leg in &FETCH {
            let bounds = Bounds { bytes: REQUESTS * u64::try_from(leg.bytes)?, time: LONGEST };
            let read = || leg.read(live.serving.address, "counted", bounds);
            read()?;
            all.push(counted(leg.name, live, dir, read)?);
        }
        delete(std::slice::from_ref(live), "counted")?;
    }
    Ok(all)
}

fn counted(leg: &str, live: &Live, dir: &Path, work: impl FnOnce() -> Result<Tally>) -> Result<Calls> {
    crate::say(format_args!("{leg}: system calls of {}", live.name));
    let table = dir.join("strace");
    let mut strace = attach(live.serving.pid(), &table)?;
    let done = work();
    // It writes its table when it is asked to end, and leaves the broker running.
    rustix::process::kill_process(Pid::from_child(&strace), Signal::INT)?;
    strace.wait()?;
    let requests = done?.requests;
    let text = std::fs::read_to_string(&table).context("strace wrote nothing")?;
    std::fs::remove_file(&table)?;
    let each = parse(&text, requests);
    ensure!(!each.is_empty(), "strace counted nothing:\n{text}");
    Ok(Calls { leg: leg.to_owned(), side: live.name.to_owned(), requests, each })
}

fn attach(pid: u32, table: &Path) -> Result<Child> {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-p", &pid.to_string(), "-o"]).arg(table);
    let mut strace = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start strace")?;
    let mut line = String::new();
    let errors = strace.stderr.take().context("no standard error")?;
    let mut errors = BufReader::new(errors);
    errors.read_line(&mut line)?;
    ensure!(line.contains("attached"), "strace: {line}");
    // Read to its end, so that it never waits for a reader.
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    Ok(strace)
}

/// Lines of `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn parse(table: &str, requests: u64) -> Vec<(String, f64)> {
    let mut each = Vec::new();
    let mut rare = 0.0;
    for line in table.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, calls, .., name] = words[..] else { continue };
        let Ok(calls) = calls.parse::<f64>() else { continue };
        if name == "total" {
            continue;
        }
        let calls = calls / requests.max(1) as f64;
        if calls < RARE {
            rare += calls;
        } else {
            each.push((name.to_owned(), calls));
        }
    }
    each.sort_by(|a, b| b.1.total_cmp(&a.1));
    if rare > 0.0 {
        each.push(("others".to_owned(), rare));
    }
    each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_strace_is_read() {
        let table = "% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200           recvfrom
 39.00    0.000390           3       400        10 pwritev
  1.00    0.000010          10         1           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           1       601        10 total
";
        let calls = parse(table, 400);
        assert_eq!(calls[0], ("pwritev".to_owned(), 1.0));
        assert_eq!(calls[1], ("recvfrom".to_owned(), 0.5));
        assert_eq!(calls[2], ("others".to_owned(), 0.0025));
    }
}
