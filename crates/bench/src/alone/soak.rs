//! A steady load with retention: latency and memory at the end must be what they were at the beginning.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::at_most;
use crate::contender::Contender;
use crate::frames::Shape;
use crate::link::Link;
use crate::paced::{self, Pace};
use crate::process::{measure, resident};
use crate::pump::Tally;
use crate::results::{Leg, MOLDAU, Sample};
use crate::stats;

/// 100 MB/s.
const STEADY: Pace =
    Pace { shape: Shape::plain(1024, 50 * 1024 + 512), per_second: 2000, partitions: 12, acks: 1 };
const TOPIC: &str = "steady";
/// Of each partition, so that segments roll and go all the time.
const RETENTION: [(&str, &str); 2] = [("retention.bytes", "268435456"), ("segment.bytes", "67108864")];
const CHECK: &str = "log.retention.check.interval.ms=5000";
/// How often memory is looked at.
const GLANCE: Duration = Duration::from_millis(500);

/// Compares the last quarter of `time` with the first.
pub fn run(contender: &Contender, dir: &Path, time: Duration) -> Result<Vec<Leg>> {
    crate::say(format_args!("W26: 100 MB/s for {} s", time.as_secs()));
    let dir = dir.join("soak");
    let broker = contender.start_with(&dir, &[CHECK])?;
    let pid = broker.pid();
    Link::open(broker.address)?.topic_with(TOPIC, STEADY.partitions, &RETENTION)?;
    let quarter = time / 4;
    let (mut first, mut last) = (Tally::new()?, Tally::new()?);
    let done = AtomicBool::new(false);
    let (paced, memory) = thread::scope(|scope| {
        let memory = scope.spawn(|| watch_memory(pid, &done));
        let mut sort = |place, nanos| match place {
            place if place < quarter => first.latency.saturating_record(nanos),
            place if place >= time - quarter => last.latency.saturating_record(nanos),
            _ => {}
        };
        let paced = measure(pid, || paced::run(broker.address, TOPIC, STEADY, time, &mut sort));
        done.store(true, Ordering::Relaxed);
        (paced, memory.join())
    });
    let (paced, cpu) = paced?;
    let Ok(memory) = memory else { bail!("the thread that watches memory panicked") };
    let memory = memory?;
    drop(broker);
    std::fs::remove_dir_all(&dir)?;
    let of = |part: &[f64]| stats::median(part);
    let quarters = memory.len() / 4;
    let (before, after) = (of(&memory[..quarters.max(1)]), of(&memory[memory.len() - quarters.max(1)..]));
    let what = format!("100 MB/s for {} s with retention, produced and tailed", time.as_secs());
    let mut legs = Vec::new();
    let mut add = |name: &str, what: &str, unit: &str, most: Option<f64>, sample: Sample| {
        let mut leg = Leg::new(name, what, unit, most.and_then(at_most));
        leg.add(MOLDAU, sample);
        legs.push(leg);
    };
    let (early, late) = (first.micros(0.999), last.micros(0.999));
    let serving = cpu.serving / (paced.consumed.bytes as f64 / crate::GB);
    add("W26 cost", &what, "CPU s/GB", None, Sample::loaded(serving, &paced.consumed, cpu));
    add("W26 first p99.9", "due to consumed, first quarter", "µs", None, Sample::of(early));
    add("W26 last p99.9", "the same, last quarter", "µs", None, Sample::of(late));
    add("W26 p99.9 drift", "last by first", "×", Some(1.2), Sample::of(late / early));
    let own = paced.late.value_at_quantile(0.999) as f64 / 1e3;
    add("W26 late", "the load generator's own delay in them, p99.9", "µs", None, Sample::of(own));
    add("W26 memory", "resident, last quarter", "MB", None, Sample::of(after / 1e6));
    add("W26 memory drift", "last by first quarter", "×", Some(1.01), Sample::of(after / before));
    Ok(legs)
}

/// Resident bytes over and over until it is done.
fn watch_memory(pid: u32, done: &AtomicBool) -> Result<Vec<f64>> {
    let mut seen = Vec::new();
    let mut next = Instant::now();
    while !done.load(Ordering::Relaxed) || seen.is_empty() {
        seen.push(resident(pid)?.0 as f64);
        next += GLANCE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(seen)
}
