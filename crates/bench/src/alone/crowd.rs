//! Many connections, many at once, and more requests than may be in memory.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Alone, at_most};
use crate::contender::Contender;
use crate::idle::{open, raise_descriptors};
use crate::legs::{LATENCY, PRODUCE, Per, Produce};
use crate::link::Link;
use crate::paced;
use crate::paired::Slices;
use crate::process::{cpu_seconds, resident};
use crate::pump::{Bounds, Load};
use crate::results::{Leg, MOLDAU, Sample};

/// When the storm begins, after the load beside it.
const CALM: Duration = Duration::from_secs(2);
/// Bytes of requests that may be in memory at one time.
const BUDGET: u64 = 64 << 20;
/// A single request must fit into the budget.
const LARGEST: &str = "socket.request.max.bytes=16777216";
/// Requests of three times the budget: 24 × 32 × 256 KiB.
const THREE_TIMES: Load = Load { connections: 24, in_flight: 32 };
/// What a broker may take besides: its memory at rest.
const AT_REST: u64 = 20_000_000;

fn leg(name: &str, what: &str, unit: &str, most: Option<f64>, value: f64) -> Leg {
    let mut leg = Leg::new(name, what, unit, most.and_then(at_most));
    leg.add(MOLDAU, Sample::of(value));
    leg
}

/// A steady small load alone, during a storm of connections, and with them idle.
pub fn connections(contender: &Contender, dir: &Path, alone: Alone) -> Result<Vec<Leg>> {
    let count = alone.connections;
    crate::say(format_args!("W13: a storm of {count} connections"));
    raise_descriptors(count + 256)?;
    let dir = dir.join("crowd");
    let broker = contender.start(&dir)?;
    let (address, pid) = (broker.address, broker.pid());
    let p99 = |topic: &str| -> Result<f64> {
        Ok(paced::run(address, topic, LATENCY[0].pace, alone.phase, &mut |_, _| {})?.consumed.micros(0.99))
    };
    let calm = p99("calm")?;
    let storm_of = || -> Result<(Vec<Link>, Duration, f64)> {
        thread::sleep(CALM);
        let (began, before) = (Instant::now(), cpu_seconds(pid)?);
        let links = open(address, count)?;
        Ok((links, began.elapsed(), cpu_seconds(pid)? - before))
    };
    let (storm, opened) = thread::scope(|scope| {
        let opened = scope.spawn(storm_of);
        (p99("storm"), opened.join())
    });
    let Ok(opened) = opened else { bail!("a thread of the storm panicked") };
    let (storm, (links, took, cpu)) = (storm?, opened?);
    let (with, memory) = (p99("with")?, resident(pid)?.0);
    drop((links, broker));
    std::fs::remove_dir_all(&dir)?;
    let what = LATENCY[0].what;
    Ok(vec![
        leg(
            "W13 opened",
            &format!("{count} connections opened, each has its versions"),
            "s",
            None,
            took.as_secs_f64(),
        ),
        leg(
            "W13 each",
            "the broker's CPU for each, the load beside it included",
            "CPU µs/connection",
            None,
            cpu * 1e6 / count.max(1) as f64,
        ),
        leg("W13 calm p99", &format!("{what}: due to consumed, p99"), "µs", None, calm),
        leg("W13 storm p99", "the same during the storm", "µs", None, storm),
        leg("W13 with p99", "the same with these connections idle", "µs", None, with),
        leg("W13 memory", "resident with them", "MB", Some(60.0), memory as f64 / 1e6),
    ])
}

/// What is stored of three times as many requests as may be in memory, and how large the process becomes.
pub fn overload(contender: &Contender, dir: &Path, slices: Slices) -> Result<Vec<Leg>> {
    crate::say(format_args!("W22: three times overload"));
    let dir = dir.join("overload");
    let budget = format!("queued.max.request.bytes={BUDGET}");
    let usual = PRODUCE[1];
    let much = Produce { load: THREE_TIMES, ..usual };
    let mut memory = Leg::new(
        "W22 memory",
        "most resident; 64 MiB of requests may be in memory, three times that is sent",
        "MB",
        at_most((BUDGET + AT_REST) as f64 / 1e6),
    );
    let mut lost = Leg::new("W22 lost", "goodput lost beside two producers", "%", at_most(10.0));
    let mut cost = Leg::new("W22 cost", &format!("{} in overload", usual.what), Per::Gigabyte.unit(), None);
    let broker = contender.start_with(&dir, &[&budget, LARGEST])?;
    let loads = [
        usual.prepare(broker.address, broker.pid(), "few")?,
        much.prepare(broker.address, broker.pid(), "many")?,
    ];
    for load in &loads {
        load.send(Bounds { time: slices.warm_up, ..slices.bounds })?;
        rustix::fs::sync();
    }
    for pair in 0..slices.pairs {
        let mut rates = [0.0; 2];
        // There and back, so that the second of two does not always find the dirtier memory.
        for place in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (tally, cpu) = loads[place].run(slices.bounds)?;
            rates[place] = tally.bytes as f64 / tally.elapsed.as_secs_f64();
            if place == 1 {
                cost.add(MOLDAU, Sample::loaded(Per::Gigabyte.figure(&tally, cpu.serving), &tally, cpu));
            }
        }
        lost.add(MOLDAU, Sample::of((1.0 - rates[1] / rates[0]) * 100.0));
    }
    memory.add(MOLDAU, Sample::of(resident(broker.pid())?.1 as f64 / 1e6));
    drop(broker);
    std::fs::remove_dir_all(&dir)?;
    Ok(vec![memory, lost, cost])
}
