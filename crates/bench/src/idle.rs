//! What a broker costs that does nothing: memory and processor time, alone, with connections, with partitions.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::contender::Contender;
use crate::link::Link;
use crate::paired::{Live, start_all};
use crate::process::{cpu_seconds, resident};
use crate::pump::in_threads;
use crate::results::{Leg, Sample, Target};

/// How long brokers are left alone before their memory is read.
const SETTLE: Duration = Duration::from_secs(5);
/// Partitions of a topic, of which there are as many as it takes: Kafka makes fewer than 10,000 in one request.
const TOPIC_OF: usize = 1000;
/// Threads that open connections.
const OPENERS: usize = 4;

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Fresh starts whose memory is read.
    pub rounds: usize,
    /// Connections that say nothing.
    pub connections: usize,
    /// Partitions that get nothing.
    pub partitions: usize,
    /// How long processor time is counted.
    pub watch: Duration,
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn at_most(most: f64) -> Option<Target> {
    Some(Target { of_kafka: None, at_most: Some(most) })
}

/// Memory of a broker that was just started on an empty directory.
pub fn fresh(contenders: &[Contender], dir: &Path, idle: Idle) -> Result<Vec<Leg>> {
    crate::say(format_args!("idle: memory, {} rounds", idle.rounds));
    let mut memory = Leg::new("idle memory", "resident, just started, nothing stored", "MB", at_most(20.0));
    for round in 0..idle.rounds {
        let dir = dir.join(format!("idle-{round}"));
        let lives = start_all(contenders, &dir)?;
        sleep(SETTLE);
        for live in &lives {
            memory.add(live.name, Sample::of(mb(resident(live.serving.pid())?.0)));
        }
        drop(lives);
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(vec![memory])
}

/// Processor time and memory of all brokers while they have connections that say nothing.
pub fn connections(contenders: &[Contender], dir: &Path, idle: Idle) -> Result<Vec<Leg>> {
    let count = idle.connections;
    crate::say(format_args!("idle: {count} connections"));
    raise_descriptors(count + 256)?;
    let what = format!("resident with {count} idle connections");
    let mut memory = Leg::new("connections memory", &what, "MB", at_most(60.0));
    let mut each = Leg::new("connections each", "more resident for each of them", "KiB", None);
    let dir = dir.join("connections");
    let lives = start_all(contenders, &dir)?;
    for live in &lives {
        sleep(SETTLE);
        let (before, _) = resident(live.serving.pid())?;
        let links = open(live.serving.address, count)?;
        sleep(SETTLE);
        let (with, _) = resident(live.serving.pid())?;
        drop(links);
        memory.add(live.name, Sample::of(mb(with)));
        each.add(live.name, Sample::of(with.saturating_sub(before) as f64 / 1024.0 / count.max(1) as f64));
    }
    drop(lives);
    std::fs::remove_dir_all(&dir)?;
    Ok(vec![memory, each])
}

/// Processor time and memory of all brokers while they have partitions that get nothing, and how long making them took.
pub fn partitions(contenders: &[Contender], dir: &Path, idle: Idle) -> Result<Vec<Leg>> {
    let count = idle.partitions;
    crate::say(format_args!("idle: {count} partitions"));
    raise_descriptors(count + 256)?;
    let what = format!("{count} in topics of up to {TOPIC_OF}, until all have leaders");
    let mut created = Leg::new("partitions created", &what, "s", None);
    let mut each = Leg::new("partitions each", "more resident for each, idle", "KiB", at_most(2.0));
    let dir = dir.join("partitions");
    let lives = start_all(contenders, &dir)?;
    for live in &lives {
        sleep(SETTLE);
        let (before, _) = resident(live.serving.pid())?;
        let began = Instant::now();
        let mut link = Link::open(live.serving.address)?;
        for (number, from) in (0..count).step_by(TOPIC_OF).enumerate() {
            let partitions = i32::try_from(TOPIC_OF.min(count - from))?;
            link.topic(&format!("idle-{number}"), partitions)
                .with_context(|| format!("partitions of {}", live.name))?;
        }
        created.add(live.name, Sample::of(began.elapsed().as_secs_f64()));
        sleep(SETTLE);
        let (with, _) = resident(live.serving.pid())?;
        each.add(live.name, Sample::of(with.saturating_sub(before) as f64 / 1024.0 / count.max(1) as f64));
    }
    let what = format!("processor time with {count} idle partitions");
    let busy = watch(&lives, Leg::new("partitions CPU", &what, "% of a core", at_most(0.1)), idle.watch)?;
    drop(lives);
    std::fs::remove_dir_all(&dir)?;
    Ok(vec![created, each, busy])
}

/// What all brokers use of a core while nobody asks them anything.
fn watch(lives: &[Live], mut leg: Leg, time: Duration) -> Result<Leg> {
    crate::say(format_args!("idle: processor time over {} s", time.as_secs()));
    let used = || lives.iter().map(|live| cpu_seconds(live.serving.pid())).collect::<Result<Vec<f64>>>();
    let before = used()?;
    sleep(time);
    for ((live, before), after) in lives.iter().zip(before).zip(used()?) {
        leg.add(live.name, Sample::of((after - before) / time.as_secs_f64() * 100.0));
    }
    Ok(leg)
}

/// Opens connections that have asked for the versions and nothing else.
pub fn open(address: SocketAddr, count: usize) -> Result<Vec<Link>> {
    let links = in_threads(vec![(); OPENERS], |place, ()| {
        let share = count * (place + 1) / OPENERS - count * place / OPENERS;
        (0..share).map(|_| Link::open(address)).collect::<Result<Vec<_>>>()
    })?;
    Ok(links.into_iter().flatten().collect())
}

/// Lets this process and its children have as many descriptors as are needed.
pub fn raise_descriptors(needed: usize) -> Result<()> {
    let limits = getrlimit(Resource::Nofile);
    let needed = needed as u64;
    if limits.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limits.maximum.is_some_and(|maximum| maximum < needed) {
        bail!("{needed} descriptors are needed and `ulimit -Hn` allows fewer");
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limits.maximum })?)
}
