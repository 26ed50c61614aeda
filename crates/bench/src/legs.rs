//! The workloads: what is produced and fetched, and which floor stands beside it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::drain::{self, Drain};
use crate::floor::{self, Floor};
use crate::frames::{Frames, PRODUCE_VERSION, Shape};
use crate::link::Link;
use crate::process::{Split, measure};
use crate::pump::{self, Bounds, Load, Tally};

/// The topic of all legs.
pub const TOPIC: &str = "bench";
/// Sent before the clock starts, so that files exist and caches are warm.
const WARM_UP: Bounds = Bounds { bytes: 64_000_000, time: Duration::from_millis(500) };

/// What processor time is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Seconds for a gigabyte (10⁹ bytes) of batches.
    Gigabyte,
    /// Microseconds for a request.
    Request,
}

impl Per {
    /// The figure of merit.
    pub fn figure(self, tally: &Tally, serving_seconds: f64) -> f64 {
        match self {
            Per::Gigabyte => serving_seconds / (tally.bytes as f64 / crate::GB),
            Per::Request => serving_seconds * 1e6 / tally.requests as f64,
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Per::Gigabyte => "s/GB",
            Per::Request => "µs/req",
        }
    }
}

/// A produce workload.
#[derive(Clone, Copy, Debug)]
pub struct Produce {
    /// Its id in the list of workloads.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Its batches, one in each request.
    pub shape: Shape,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Connections and requests in flight.
    pub load: Load,
    /// -1, 0 is not possible here, 1.
    pub acks: i16,
    /// What the processor time is divided by.
    pub per: Per,
}

const PIPELINED: Load = Load { connections: 2, in_flight: 8 };
const BATCHES: Produce = Produce {
    name: "W1",
    what: "produce 1 KiB records, 16 KiB batches",
    shape: Shape { record: 1024, batch: 16 * 1024 },
    partitions: 12,
    load: PIPELINED,
    acks: 1,
    per: Per::Gigabyte,
};

/// The produce legs of the smoke run, in order. What the first one writes is what the fetch legs read.
pub const PRODUCE: [Produce; 5] = [
    BATCHES,
    Produce {
        name: "W2",
        what: "produce 256 KiB requests",
        shape: Shape { record: 1024, batch: 256 * 1024 },
        ..BATCHES
    },
    Produce {
        name: "W3",
        what: "produce 100 B records, 16 KiB batches",
        shape: Shape { record: 100, batch: 16 * 1024 },
        ..BATCHES
    },
    Produce {
        name: "W4 c1",
        what: "one record of 100 B, 1 connection",
        shape: Shape { record: 100, batch: 0 },
        load: Load { connections: 1, in_flight: 1 },
        per: Per::Request,
        ..BATCHES
    },
    Produce {
        name: "W4 c32",
        what: "one record of 100 B, 32 connections",
        shape: Shape { record: 100, batch: 0 },
        load: Load { connections: 32, in_flight: 1 },
        per: Per::Request,
        ..BATCHES
    },
];

/// The fetch legs: name, what it is, bytes of a fetch.
pub const FETCH: [(&str, &str, i32); 2] =
    [("W8 1M", "fetch 1 MiB of cached data", 1 << 20), ("W8 64K", "fetch 64 KiB of cached data", 64 << 10)];
/// Connections of a fetch leg, each with one request in flight.
pub const FETCH_CONNECTIONS: usize = 2;

impl Produce {
    /// Runs it against a broker whose process is `pid`.
    pub fn run(&self, address: SocketAddr, pid: u32, bounds: Bounds) -> Result<(Tally, Split)> {
        let mut link = Link::open(address)?;
        link.need::<moldau_wire::produce::Request>(PRODUCE_VERSION)?;
        link.topic(TOPIC, self.partitions)?;
        let frames = Frames::produce(TOPIC, self.partitions, self.acks, self.shape)?;
        let pump = |bounds| pump::run(address, self.load, &frames, bounds, pump::produced);
        pump(WARM_UP)?;
        measure(pid, || pump(bounds))
    }

    /// The least that the same work can take on this machine.
    pub fn floor(&self, dir: &Path, bounds: Bounds) -> Result<Floor> {
        match self.per {
            Per::Gigabyte => floor::append(dir, self.shape.batch, self.load, bounds),
            Per::Request => floor::ping(dir, self.load, bounds),
        }
    }
}

/// Fetches from the topic of an earlier produce leg.
pub fn fetch(
    address: SocketAddr,
    pid: u32,
    partitions: i32,
    bytes: i32,
    bounds: Bounds,
) -> Result<(Tally, Split)> {
    let drain = Drain { topic: TOPIC.to_owned(), partitions, connections: FETCH_CONNECTIONS, fetch: bytes };
    drain::run(address, &drain, WARM_UP)?;
    measure(pid, || drain::run(address, &drain, bounds))
}
