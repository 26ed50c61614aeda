//! A reader of an old log must not be noticed by those who read what is new.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Alone, at_most};
use crate::contender::Contender;
use crate::drain::{self, Drain};
use crate::frames::Shape;
use crate::legs::{PRODUCE, Per};
use crate::paced::{self, Pace, Paced};
use crate::process::measure;
use crate::pump::{Bounds, Tally};
use crate::recovery::drop_caches;
use crate::results::{Leg, MOLDAU, Sample};

/// 50 MB/s.
const TAIL: Pace =
    Pace { shape: Shape::plain(1024, 50 * 1024 + 512), per_second: 1000, partitions: 12, acks: 1 };
const COLD: &str = "cold";
const LONGEST: Duration = Duration::from_secs(600);

/// The tail by itself, then beside a reader of everything.
pub fn run(contender: &Contender, dir: &Path, alone: Alone) -> Result<Vec<Leg>> {
    let gigabytes = alone.cold as f64 / crate::GB;
    crate::say(format_args!("W9: catch-up read of {gigabytes} GB beside a tail"));
    let dir = dir.join("catch-up");
    let broker = contender.start(&dir)?;
    let (address, pid) = (broker.address, broker.pid());
    let old = PRODUCE[1].prepare(address, pid, COLD)?;
    old.send(Bounds { bytes: alone.cold, time: LONGEST })?;
    ensure!(drop_caches(), "SKIPPED, the log cannot be made cold: dropping caches takes root");
    let own = paced::run(address, "tail-1", TAIL, alone.phase, &mut |_, _| {})?;
    // What was produced meanwhile goes to the disk before, not beside.
    drop_caches();
    let drain = Drain {
        topic: COLD.to_owned(),
        partitions: PRODUCE[1].partitions,
        connections: 1,
        fetch: 1 << 20,
        rack: String::new(),
    };
    let ((tail, (read, cpu)), mut beside) = thread::scope(|scope| {
        let bounds = Bounds { bytes: alone.cold, time: LONGEST };
        let reader = scope.spawn(move || {
            // What comes before is not counted in the tail.
            thread::sleep(paced::WARM);
            measure(pid, || drain::run(address, &drain, bounds))
        });
        let mut seen = Vec::new();
        let tail =
            paced::run(address, "tail-2", TAIL, alone.phase, &mut |place, nanos| seen.push((place, nanos)));
        let Ok(read) = reader.join() else { bail!("the reader panicked") };
        Ok(((tail?, read.context("the reader of the cold log")?), seen))
    })?;
    // Only what came while the reader was at work.
    beside.retain(|(place, _)| *place <= paced::WARM + read.elapsed);
    ensure!(!beside.is_empty(), "the log was read before the tail had begun: it needs more gigabytes");
    drop(broker);
    std::fs::remove_dir_all(&dir)?;
    legs(gigabytes, &own, &tail, &beside, Sample::loaded(read.elapsed.as_secs_f64() / gigabytes, &read, cpu))
}

fn legs(
    gigabytes: f64,
    own: &Paced,
    tail: &Paced,
    beside: &[(Duration, u64)],
    read: Sample,
) -> Result<Vec<Leg>> {
    let mut meanwhile = Tally::new()?;
    beside.iter().for_each(|(_, nanos)| meanwhile.latency.saturating_record(*nanos));
    let what = "50 MB/s produced and tailed";
    let (p99, p99_beside) = (own.consumed.micros(0.99), meanwhile.micros(0.99));
    let acknowledged = tail.acknowledged.value_at_quantile(0.99) as f64 / 1e3;
    let all = [
        Leg::new("W9 own p99", &format!("{what}: due to consumed, p99"), "µs", None),
        Leg::new("W9 beside p99", &format!("the same beside a reader of {gigabytes} GB"), "µs", None),
        Leg::new("W9 beside ack p99", "due to acknowledged, meanwhile", "µs", None),
        Leg::new("W9 late", "the load generator's own delay meanwhile, p99", "µs", None),
        Leg::new("W9 beside/own", "the two p99", "×", at_most(2.0)),
        Leg::new(
            "W9 reader",
            &format!("{gigabytes} GB from the disk, wall clock"),
            Per::Gigabyte.unit().trim_start_matches("CPU "),
            None,
        ),
    ];
    let samples = [
        Sample::of(p99),
        Sample::of(p99_beside),
        Sample::of(acknowledged),
        Sample::of(tail.late.value_at_quantile(0.99) as f64 / 1e3),
        Sample::of(p99_beside / p99),
        read,
    ];
    let add = |(mut leg, sample): (Leg, Sample)| {
        leg.add(MOLDAU, sample);
        leg
    };
    Ok(all.into_iter().zip(samples).map(add).collect())
}
