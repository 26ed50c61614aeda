//! The group case: three members, one killed, one added, all gone, one back; nothing skipped, nothing read twice
//! across the restart.

use super::cases::{Bench, prefix};
use super::client::{Driver, Outcome, Verdict};
use super::process::{Line, Process};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// Partitions of a topic that a group reads.
pub const PARTITIONS: u32 = 6;
const RECORDS: u32 = 300;

/// How long a group may take to settle. A killed member is missed after the session timeout of 6 s.
const SETTLE: Duration = Duration::from_secs(40);

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Assigned { partitions: BTreeSet<u32> },
    Batch { p: u32, from: u64, to: u64 },
}

/// A member of a group, in a process of its own.
pub struct Member {
    process: Process,
    by_signal: bool,
    owned: BTreeSet<u32>,
    seen: BTreeMap<u32, BTreeSet<u64>>,
}

impl Member {
    /// Starts a member of `group`; with `out` it keeps every record in that file.
    pub fn join(bench: &Bench, who: usize, topic: &str, group: &str, out: Option<&Path>) -> Result<Self> {
        let process = match &bench.clients[who].driver {
            Driver::Program(launch, _) => {
                let mut command = launch.command(&bench.bootstrap, "member");
                command.arg(format!("topic={topic}")).arg(format!("group={group}"));
                if let Some(out) = out {
                    command.arg(format!("out={}", out.display()));
                }
                Process::spawn(command)?
            }
            Driver::Kcat(kcat) => {
                Process::spawn_picking(kcat.member(&bench.bootstrap, topic, group), kcat_assignment)?
            }
            Driver::Missing(why) => bail!("{why}"),
        };
        let by_signal = matches!(bench.clients[who].driver, Driver::Kcat(_));
        Ok(Self { process, by_signal, owned: BTreeSet::new(), seen: BTreeMap::new() })
    }

    /// Takes in what it said so far.
    pub fn pump(&mut self) -> Result<()> {
        loop {
            match self.process.line(Instant::now()) {
                Line::Text(line) => self.hear(&line),
                Line::Late => return Ok(()),
                Line::Closed => bail!("a member ended:\n{}", self.process.tail().join("\n")),
            }
        }
    }

    fn hear(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Event::Assigned { partitions }) => self.owned = partitions,
            Ok(Event::Batch { p, from, to }) => self.seen.entry(p).or_default().extend(from..=to),
            Err(_) => match line.split_once(' ').map(|(p, o)| (p.parse(), o.parse())) {
                Some((Ok(p), Ok(offset))) => drop(self.seen.entry(p).or_default().insert(offset)),
                _ => self.process.remember(line),
            },
        }
    }

    /// How many records it saw.
    pub fn count(&self) -> usize {
        self.seen.values().map(BTreeSet::len).sum()
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
        while let Line::Text(line) = self.process.line(Instant::now() + Duration::from_millis(50)) {
            self.hear(&line);
        }
    }

    /// Asks it to leave and waits until it has.
    pub fn leave(&mut self) -> Result<()> {
        self.process.close();
        if self.by_signal {
            self.process.terminate();
        }
        let status =
            self.process.wait(Duration::from_secs(20)).context("a member does not leave within 20 s")?;
        while let Line::Text(line) = self.process.line(Instant::now() + Duration::from_millis(50)) {
            self.hear(&line);
        }
        if !status.success() {
            bail!("a member left with {status}:\n{}", self.process.tail().join("\n"));
        }
        Ok(())
    }
}

/// `% Group G rebalanced (memberid M): assigned: T [0], T [1]` as the event of our own programs.
fn kcat_assignment(line: &str) -> Option<String> {
    let (_, what) = line.strip_prefix("% Group ")?.split_once("): ")?;
    let owned: Vec<&str> = match what.split_once(": ")? {
        ("assigned", list) => list.split('[').skip(1).filter_map(|p| p.split(']').next()).collect(),
        _ => Vec::new(),
    };
    Some(format!("{{\"event\":\"assigned\",\"partitions\":[{}]}}", owned.join(",")))
}

/// Waits until the members own every partition, each at least one and none twice.
pub fn settle(members: &mut [&mut Member], step: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLE;
    loop {
        for member in members.iter_mut() {
            member.pump()?;
        }
        let owned: Vec<&BTreeSet<u32>> = members.iter().map(|m| &m.owned).collect();
        let all: BTreeSet<u32> = owned.iter().flat_map(|o| o.iter().copied()).collect();
        let sum: usize = owned.iter().map(|o| o.len()).sum();
        let whole = all.len() == PARTITIONS as usize && sum == all.len();
        if whole && owned.iter().all(|o| !o.is_empty()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let tails: Vec<String> = members.iter().flat_map(|m| m.process.tail()).collect();
            bail!("{step}: not settled after {} s: {owned:?}\n{}", SETTLE.as_secs(), tails.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the members together saw offsets `from..to` of every partition.
fn drain(members: &mut [&mut Member], from: u64, to: u64, step: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLE;
    loop {
        for member in members.iter_mut() {
            let _ = member.pump();
        }
        let lacking = (0..PARTITIONS).flat_map(|p| (from..to).map(move |o| (p, o))).find(|(p, offset)| {
            !members.iter().any(|m| m.seen.get(p).is_some_and(|seen| seen.contains(offset)))
        });
        let Some((p, offset)) = lacking else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("{step}: nobody saw partition {p} offset {offset} within {} s", SETTLE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the case for the family at `me`.
pub fn run(bench: &Bench, me: usize, topic: &str) -> Outcome {
    if let Err(failed) = bench.create(me, topic, PARTITIONS, "") {
        return failed;
    }
    match story(bench, me, topic) {
        Ok(detail) => Outcome::new(Verdict::Ok, detail),
        Err(why) => {
            let text = format!("{why:#}");
            let mut lines = text.lines();
            let detail = lines.next().unwrap_or_default().to_string();
            Outcome { tail: lines.map(String::from).collect(), ..Outcome::fail(detail) }
        }
    }
}

fn story(bench: &Bench, me: usize, topic: &str) -> Result<String> {
    let group = format!("{topic}-g");
    let join = || Member::join(bench, me, topic, &group, None);
    let each = u64::from(RECORDS / PARTITIONS);
    write(bench, me, topic)?;
    let (mut a, mut b, mut c) = (join()?, join()?, join()?);
    settle(&mut [&mut a, &mut b, &mut c], "three members")?;
    drain(&mut [&mut a, &mut b, &mut c], 0, each, "three members")?;
    c.kill();
    settle(&mut [&mut a, &mut b], "one of three killed")?;
    write(bench, me, topic)?;
    let mut d = join()?;
    settle(&mut [&mut a, &mut b, &mut d], "one added")?;
    write(bench, me, topic)?;
    drain(&mut [&mut a, &mut b, &mut c, &mut d], 0, 3 * each, "one added")?;
    for member in [&mut a, &mut b, &mut d] {
        member.leave()?;
    }
    write(bench, me, topic)?;
    let mut e = join()?;
    drain(&mut [&mut e], 3 * each, 4 * each, "restarted")?;
    let again: usize = e.seen.values().map(|s| s.range(..3 * each).count()).sum();
    e.leave()?;
    if again > 0 {
        bail!("after the restart {again} committed records were read again");
    }
    Ok(format!("{} records, 5 members", 4 * RECORDS))
}

fn write(bench: &Bench, me: usize, topic: &str) -> Result<()> {
    let what = format!("topic={topic} parts={PARTITIONS} n={RECORDS} seed=1 t0=0 rule=plain codec=none");
    let wrote = prefix("write", bench.ask(me, "produce", &what));
    if wrote.is_ok() { Ok(()) } else { bail!("{}\n{}", wrote.detail, wrote.tail.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_of_kcat_become_events() {
        let gained = kcat_assignment("% Group g rebalanced (memberid m-1): assigned: t [0], t [12]");
        assert_eq!(gained.as_deref(), Some("{\"event\":\"assigned\",\"partitions\":[0,12]}"));
        let lost = kcat_assignment("% Group g rebalanced (memberid m-1): revoked: t [0]");
        assert_eq!(lost.as_deref(), Some("{\"event\":\"assigned\",\"partitions\":[]}"));
        assert_eq!(kcat_assignment("% Reached end of topic t [0] at offset 5"), None);
    }
}
