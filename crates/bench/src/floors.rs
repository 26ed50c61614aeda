//! The floors of the machine by themselves, to read other figures by.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::floor::{self, Floor};
use crate::legs::{FETCH_CONNECTIONS, Per};
use crate::paired::Slices;
use crate::pump::{Bounds, Load};
use crate::results::{FLOOR, Leg, Sample};

const LONGEST: Duration = Duration::from_secs(3);
const PIPELINED: Load = Load { connections: 2, in_flight: 8 };

/// Measures each floor twice.
pub fn run(dir: &Path, slices: Slices) -> Result<Vec<Leg>> {
    crate::say(format_args!("floor: append, send, sync, ping"));
    let bounds = Bounds { time: slices.bounds.time.min(LONGEST), ..slices.bounds };
    let mut legs = Vec::new();
    for (name, what, bytes) in [
        ("floor append 256K", "receive 256 KiB, CRC-32C, append", 256 << 10),
        ("floor append 16K", "receive 16 KiB, CRC-32C, append", 16 << 10),
    ] {
        legs.push(twice(name, what, Per::Gigabyte, || floor::append(dir, bytes, PIPELINED, bounds))?);
    }
    for (name, what, bytes) in [
        ("floor send 1M", "sendfile of 1 MiB that is cached", 1 << 20),
        ("floor send 64K", "sendfile of 64 KiB that are cached", 64 << 10),
    ] {
        legs.push(twice(name, what, Per::Gigabyte, || floor::send(dir, bytes, FETCH_CONNECTIONS, bounds))?);
    }
    legs.push(twice("floor sync 16K", "append 16 KiB, fdatasync", Per::Request, || {
        floor::sync(dir, bounds)
    })?);
    for (name, what, connections) in [
        ("floor ping c1", "answer 240 B, 1 connection", 1),
        ("floor ping c32", "answer 240 B, 32 connections", 32),
    ] {
        let load = Load { connections, in_flight: 1 };
        legs.push(twice(name, what, Per::Request, || floor::ping(dir, load, bounds))?);
    }
    Ok(legs)
}

fn twice(name: &str, what: &str, per: Per, mut run: impl FnMut() -> Result<Floor>) -> Result<Leg> {
    let mut leg = Leg::new(name, what, per.unit(), None);
    for _ in 0..2 {
        let Floor { tally, cpu } = run()?;
        leg.add(FLOOR, Sample::loaded(per.figure(&tally, cpu.serving), &tally, cpu));
    }
    Ok(leg)
}
