//! The faults: each is done to the nodes, held for a while, and healed; what happened is told in a few words.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process};

use super::world::World;
use crate::cluster::NODES;
use crate::cluster::ground::{Ground, Party};
use crate::crash::draw::Draw;
use crate::crash::full::fill;
use crate::crash::syncs::{ALL, Strace};
use crate::interop::process::{Line, Process};

/// How long the parent of a node that stands still may take to end it.
const ENDED: Duration = Duration::from_secs(5);

/// What a fault asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Namespaces, and rules in them.
    Rules,
    /// Rules that hand packets out.
    Delay,
    /// A disk of its own for each node.
    Disks,
    /// strace.
    Strace,
    /// libfaketime.
    Clock,
}

/// A kind of fault.
pub struct Kind {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What it asks of the machine.
    pub needs: Needs,
    /// Does it and heals it; tells what it was.
    pub run: fn(&mut World<'_>, &mut Draw) -> Result<String>,
}

/// All of them.
pub const KINDS: [Kind; 15] = [
    Kind { name: "kill", what: "kill -9 of a node", needs: Needs::Nothing, run: kill },
    Kind { name: "kill-two", what: "kill -9 of two nodes at once", needs: Needs::Nothing, run: kill_two },
    Kind { name: "kill-all", what: "kill -9 of all nodes at once", needs: Needs::Nothing, run: kill_all },
    Kind { name: "stop", what: "SIGSTOP of a node; its parent ends it", needs: Needs::Nothing, run: stop },
    Kind {
        name: "freeze",
        what: "SIGSTOP of a node and its parent, then SIGCONT",
        needs: Needs::Nothing,
        run: freeze,
    },
    Kind { name: "term", what: "SIGTERM and a start", needs: Needs::Nothing, run: term },
    Kind { name: "rolling", what: "rolling restart of all nodes", needs: Needs::Nothing, run: rolling },
    Kind { name: "cut", what: "one node cut off from everybody", needs: Needs::Rules, run: cut },
    Kind { name: "cut-in", what: "a node hears nobody", needs: Needs::Rules, run: cut_in },
    Kind { name: "cut-out", what: "a node is heard by nobody", needs: Needs::Rules, run: cut_out },
    Kind {
        name: "cut-pair",
        what: "two of nodes and clients do not hear each other",
        needs: Needs::Rules,
        run: cut_pair,
    },
    Kind { name: "delay", what: "packets arrive late at a node", needs: Needs::Delay, run: delay },
    Kind {
        name: "full-disk",
        what: "a node's disk is full for a while",
        needs: Needs::Disks,
        run: full_disk,
    },
    Kind { name: "bad-sync", what: "fsync fails on a node", needs: Needs::Strace, run: bad_sync },
    Kind { name: "clock", what: "a node's time of day jumps an hour", needs: Needs::Clock, run: clock },
];

fn node(draw: &mut Draw) -> usize {
    draw.below(NODES as u64) as usize
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn kill(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, away) = (node(draw), draw.millis(0, 3000));
    world.cluster.kill(at)?;
    sleep(away);
    world.cluster.start(at)?;
    Ok(format!("node {}, away for {}", at + 1, seconds(away)))
}

fn kill_two(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (spared, between, away) = (node(draw), draw.millis(0, 200), draw.millis(0, 2000));
    for at in (0..NODES).filter(|at| *at != spared) {
        world.cluster.kill(at)?;
        sleep(between);
    }
    sleep(away);
    world.cluster.start_all()?;
    Ok(format!("all but node {}, away for {}", spared + 1, seconds(away)))
}

fn kill_all(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (first, away) = (node(draw), draw.millis(0, 1000));
    for at in 0..NODES {
        world.cluster.kill((first + at) % NODES)?;
    }
    sleep(away);
    world.cluster.start_all()?;
    Ok(format!("node {} first, away for {}", first + 1, seconds(away)))
}

fn stop(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, away) = (node(draw), draw.millis(0, 1500));
    let (_, child) = world.cluster.ids(at)?;
    kill_process(child, Signal::STOP)?;
    let said = world.cluster.await_end(at, ENDED)?;
    ensure!(said.contains("stood still"), "node {} stood still, and its parent says `{said}`", at + 1);
    sleep(away);
    world.cluster.start(at)?;
    Ok(format!("node {}, away for {}", at + 1, seconds(away)))
}

fn freeze(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, held) = (node(draw), draw.millis(500, 6000));
    world.cluster.signal_both(at, Signal::STOP)?;
    sleep(held);
    world.cluster.signal_both(at, Signal::CONT)?;
    Ok(format!("node {} for {}", at + 1, seconds(held)))
}

fn term(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, away) = (node(draw), draw.millis(0, 2000));
    world.cluster.stop(at)?;
    sleep(away);
    world.cluster.start(at)?;
    Ok(format!("node {}, away for {}", at + 1, seconds(away)))
}

fn rolling(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let first = node(draw);
    for at in 0..NODES {
        let at = (first + at) % NODES;
        world.await_in_sync()?;
        world.cluster.stop(at)?;
        world.cluster.start(at)?;
    }
    Ok(format!("node {} first", first + 1))
}

fn hold(world: &World<'_>, ways: &[(Party, Party)], held: Duration) -> Result<()> {
    let filter = world.filter.as_ref().context("there are no rules")?;
    let done = filter.cut(&world.cluster.ground, ways).map(|()| sleep(held));
    filter.heal(&world.cluster.ground)?;
    done
}

/// To and from everybody else.
fn ways(at: usize, towards: bool, back: bool) -> Vec<(Party, Party)> {
    let own = Party::Node(at);
    let others = Party::others(own);
    let to = others.iter().filter(|_| towards).map(|other| (*other, own));
    to.chain(others.iter().filter(|_| back).map(|other| (own, *other))).collect()
}

fn cut(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, held) = (node(draw), draw.millis(500, 6000));
    hold(world, &ways(at, true, true), held)?;
    Ok(format!("node {} for {}", at + 1, seconds(held)))
}

fn cut_in(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, held) = (node(draw), draw.millis(500, 6000));
    hold(world, &ways(at, true, false), held)?;
    Ok(format!("node {} for {}", at + 1, seconds(held)))
}

fn cut_out(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, held) = (node(draw), draw.millis(500, 6000));
    hold(world, &ways(at, false, true), held)?;
    Ok(format!("node {} for {}", at + 1, seconds(held)))
}

fn cut_pair(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (own, held) = (Party::Node(node(draw)), draw.millis(500, 6000));
    let others = Party::others(own);
    let other = others[draw.below(others.len() as u64) as usize];
    let (ways, sign): (&[_], _) = match draw.below(3) {
        0 => (&[(own, other)], "no way to"),
        1 => (&[(other, own)], "no way from"),
        _ => (&[(own, other), (other, own)], "no way to and from"),
    };
    hold(world, ways, held)?;
    Ok(format!("{own}, {sign} {other} for {}", seconds(held)))
}

/// A process that holds packets at a node; ends when dropped.
fn delayer(ground: &Ground, at: usize, millis: u64) -> Result<Process> {
    let mut command = ground.command(at, &std::env::current_exe()?);
    command.args(["delay", "--millis", &millis.to_string()]);
    let mut process = Process::spawn(command)?;
    match process.line(std::time::Instant::now() + Duration::from_secs(10)) {
        Line::Text(line) if line == "ready" => Ok(process),
        _ => anyhow::bail!("packets cannot be held:\n{}", process.tail().join("\n")),
    }
}

/// Whether packets can be held here.
pub fn can_delay(ground: &Ground) -> Result<()> {
    delayer(ground, 0, 1).map(|mut process| process.kill())
}

fn delay(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, millis, held) = (node(draw), 20 + draw.below(180), draw.millis(1000, 6000));
    let filter = world.filter.as_ref().context("there are no rules")?;
    let mut process = delayer(&world.cluster.ground, at, millis)?;
    let queued = filter.queue(&world.cluster.ground, at).map(|()| sleep(held));
    filter.heal(&world.cluster.ground)?;
    queued?;
    // What is still held comes in order before the process goes.
    sleep(Duration::from_millis(millis + 20));
    process.kill();
    Ok(format!("node {} by {millis} ms for {}", at + 1, seconds(held)))
}

fn full_disk(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, held) = (node(draw), draw.millis(1000, 5000));
    let disk = world.disks.get(at).context("there are no disks")?;
    let ballast = fill(&disk.0, 0)?;
    sleep(held);
    std::fs::remove_file(ballast)?;
    Ok(format!("node {} for {}", at + 1, seconds(held)))
}

fn bad_sync(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, held) = (node(draw), draw.millis(1500, 4000));
    let (_, child) = world.cluster.ids(at)?;
    let log = strace_log(&world.traffic.folder, at);
    let first = 1 + draw.below(5);
    let strace = Strace::attach(child, &log, &[&format!("{ALL}:error=EIO:when={first}+")])?;
    sleep(held);
    drop(strace);
    let seen = std::fs::read_to_string(&log)?;
    let failed = seen.lines().filter(|line| line.contains("(INJECTED)")).count();
    let said = world.cluster.said(at);
    ensure!(
        failed == 0 || said.contains("taken out of service") || world.cluster.fallen(at).is_some(),
        "{failed} syncs have failed on node {}, and its log does not say so",
        at + 1
    );
    world.cluster.kill(at)?;
    world.cluster.start(at)?;
    Ok(format!("node {}, {failed} syncs for {}", at + 1, seconds(held)))
}

fn strace_log(folder: &Path, at: usize) -> PathBuf {
    folder.join(format!("node-{}.strace", at + 1))
}

fn clock(world: &mut World<'_>, draw: &mut Draw) -> Result<String> {
    let (at, held) = (node(draw), draw.millis(1000, 4000));
    let offset = world.clocks.get(at).context("clocks cannot be set")?;
    let jump = if draw.one_in(2) { "+3600" } else { "-3600" };
    std::fs::write(offset, format!("{jump}\n"))?;
    sleep(held);
    std::fs::write(offset, "+0\n")?;
    sleep(Duration::from_millis(1100));
    Ok(format!("node {} by {jump} s for {}", at + 1, seconds(held)))
}
