//! One run of everything, bounded in time: the floors of the machine, the legs, start-up, memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::floor;
use crate::legs::{self, FETCH, FETCH_CONNECTIONS, PRODUCE, Per, Produce};
use crate::machine::Machine;
use crate::memory;
use crate::process::{Split, resident};
use crate::pump::{Bounds, Load, Tally};
use crate::report::{Report, Row};
use crate::serving::Serving;
use crate::startup;

/// What a run is made with.
#[derive(Clone, Debug)]
pub struct Smoke {
    /// The broker's binary, driven as `moldau start`.
    pub program: PathBuf,
    /// Where data lie meanwhile; on the file system that is to be measured.
    pub dir: PathBuf,
    /// Bounds of each leg.
    pub bounds: Bounds,
    /// Starts of each kind.
    pub starts: usize,
    /// Idle connections.
    pub connections: usize,
}

/// A folder of this run alone, removed with everything in it when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes one below `dir`.
    pub fn below(dir: &Path) -> Result<Scratch> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let own = dir.canonicalize()?.join(format!("moldau-bench-{}", std::process::id()));
        std::fs::create_dir(&own).with_context(|| format!("cannot make {}", own.display()))?;
        Ok(Scratch(own))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs everything; progress goes to standard error.
pub fn run(smoke: &Smoke) -> Result<Report> {
    let scratch = Scratch::below(&smoke.dir)?;
    let dir = scratch.0.clone();
    let machine = Machine::look(&dir);
    let mut rows = Vec::new();
    let mut peak = 0;
    for leg in &PRODUCE {
        let floor = floor_of(leg, &dir, smoke.bounds)?;
        let broker_dir = dir.join("broker");
        eprintln!("{}: {}", leg.name, leg.what);
        let broker = Serving::broker(&smoke.program, &broker_dir)?;
        let (tally, cpu) = leg.run(broker.address, broker.pid(), smoke.bounds).with_context(|| {
            format!("leg {}; the broker's log is {}/stderr.log", leg.name, broker_dir.display())
        })?;
        rows.push(row(leg.name, leg.what, leg.per, &tally, cpu, Some(floor)));
        if rows.len() == 1 {
            rows.extend(fetches(&broker, leg.partitions, &dir, smoke.bounds)?);
        }
        peak = peak.max(resident(broker.pid())?.1);
        drop(broker);
        std::fs::remove_dir_all(&broker_dir)?;
        rustix::fs::sync();
    }
    let floors = floors(&dir, smoke.bounds)?;
    eprintln!("start-up, {} rounds", smoke.starts);
    let starts = startup::measure(&smoke.program, &dir, smoke.starts).context("start-up")?;
    eprintln!("memory");
    let memory = memory::measure(&smoke.program, &dir, smoke.connections).context("memory")?;
    Ok(Report { machine, bounds: smoke.bounds, rows, floors, starts, memory, peak })
}

fn fetches(broker: &Serving, partitions: i32, dir: &Path, bounds: Bounds) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, what, bytes) in FETCH {
        eprintln!("{name}: {what}");
        // Twice the volume: fetching is several times faster than producing.
        let bounds = Bounds { bytes: bounds.bytes * 2, ..bounds };
        let floor = floor::send(dir, usize::try_from(bytes)?, FETCH_CONNECTIONS, bounds)?;
        let floor = Per::Gigabyte.figure(&floor.tally, floor.cpu.serving);
        let (tally, cpu) = legs::fetch(broker.address, broker.pid(), partitions, bytes, bounds)
            .with_context(|| format!("leg {name}"))?;
        rows.push(row(name, what, Per::Gigabyte, &tally, cpu, Some(floor)));
    }
    Ok(rows)
}

fn floor_of(leg: &Produce, dir: &Path, bounds: Bounds) -> Result<f64> {
    eprintln!("{}: its floor", leg.name);
    let bounds = match leg.per {
        Per::Gigabyte => bounds,
        Per::Request => Bounds { time: bounds.time.min(Duration::from_secs(4)), ..bounds },
    };
    let floor = leg.floor(dir, bounds)?;
    rustix::fs::sync();
    Ok(leg.per.figure(&floor.tally, floor.cpu.serving))
}

/// The floors as rows of their own; files are written into `dir`.
pub fn floors(dir: &Path, bounds: Bounds) -> Result<Vec<Row>> {
    let pipelined = Load { connections: 2, in_flight: 8 };
    let short = Bounds { time: bounds.time.min(Duration::from_secs(3)), ..bounds };
    let mut rows = Vec::new();
    let mut add =
        |name, what, per, floor: floor::Floor| rows.push(row(name, what, per, &floor.tally, floor.cpu, None));
    eprintln!("floor: append, send, sync, ping");
    for (name, what, bytes) in [
        ("append 256K", "receive 256 KiB, CRC-32C, append", 256 << 10),
        ("append 16K", "receive 16 KiB, CRC-32C, append", 16 << 10),
    ] {
        add(name, what, Per::Gigabyte, floor::append(dir, bytes, pipelined, short)?);
        rustix::fs::sync();
    }
    for (name, what, bytes) in
        [("send 1M", "sendfile 1 MiB, cached", 1 << 20), ("send 64K", "sendfile 64 KiB, cached", 64 << 10)]
    {
        add(name, what, Per::Gigabyte, floor::send(dir, bytes, FETCH_CONNECTIONS, short)?);
    }
    add("sync 16K", "append 16 KiB, fdatasync", Per::Request, floor::sync(dir, short)?);
    for (name, what, connections) in
        [("ping c1", "answer 240 B, 1 connection", 1), ("ping c32", "answer 240 B, 32 connections", 32)]
    {
        add(name, what, Per::Request, floor::ping(dir, Load { connections, in_flight: 1 }, short)?);
    }
    Ok(rows)
}

fn row(name: &str, what: &str, per: Per, tally: &Tally, cpu: Split, floor: Option<f64>) -> Row {
    let seconds = tally.elapsed.as_secs_f64();
    Row {
        name: name.to_owned(),
        what: what.to_owned(),
        megabytes: tally.bytes as f64 / 1e6 / seconds,
        requests: tally.requests as f64 / seconds,
        records: tally.records as f64 / seconds,
        figure: per.figure(tally, cpu.serving),
        unit: per.unit(),
        floor,
        p50: tally.micros(0.5),
        p99: tally.micros(0.99),
        cpu,
        seconds,
    }
}
