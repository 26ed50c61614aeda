//! The workloads: what is produced and fetched, which floor stands beside it, and what is aimed at.
//!
//! A list of workloads with their reasons is facts of the trade: small batches and large ones, small records, single records,
//! compressed batches that a broker need not look into, and data that is still in memory.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use moldau_batch::Codec;

use crate::drain::{self, Drain};
use crate::floor::{self, Floor};
use crate::frames::{Frames, PRODUCE_VERSION, Shape};
use crate::link::Link;
use crate::paced::Pace;
use crate::process::{Split, measure};
use crate::pump::{self, Bounds, Load, Tally};
use crate::results::Target;

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
            Per::Gigabyte => "CPU s/GB",
            Per::Request => "CPU µs/request",
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
    /// What the processor time is divided by.
    pub per: Per,
    /// The part of Kafka's figure that is aimed at.
    pub of_kafka: f64,
}

/// A fetch workload.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    /// Its id in the list of workloads.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Most bytes of a fetch.
    pub bytes: i32,
    /// The part of Kafka's figure that is aimed at.
    pub of_kafka: f64,
}

const PIPELINED: Load = Load { connections: 2, in_flight: 8 };
/// Connections of a fetch leg, each with one request in flight.
pub const FETCH_CONNECTIONS: usize = 2;
/// What the fetch legs read is produced by this one.
pub const BATCHES: Produce = Produce {
    name: "W1",
    what: "produce 1 KiB records in 16 KiB batches",
    shape: Shape::plain(1024, 16 * 1024),
    partitions: 12,
    load: PIPELINED,
    per: Per::Gigabyte,
    of_kafka: 0.25,
};

/// The produce legs, in order.
pub const PRODUCE: [Produce; 6] = [
    BATCHES,
    Produce {
        name: "W2",
        what: "produce 1 KiB records in 256 KiB batches",
        shape: Shape::plain(1024, 256 * 1024),
        ..BATCHES
    },
    Produce {
        name: "W3",
        what: "produce 100 B records in 16 KiB batches",
        shape: Shape::plain(100, 16 * 1024),
        of_kafka: 0.2,
        ..BATCHES
    },
    Produce {
        name: "W11",
        what: "produce lz4 batches of 64 KiB, 1 KiB records 4:1",
        shape: Shape { record: 1024, batch: 256 * 1024, codec: Codec::Lz4 },
        of_kafka: 1.0 / 6.0,
        ..BATCHES
    },
    Produce {
        name: "W4 c1",
        what: "produce one record of 100 B, 1 connection",
        shape: Shape::plain(100, 0),
        load: Load { connections: 1, in_flight: 1 },
        per: Per::Request,
        ..BATCHES
    },
    Produce {
        name: "W4 c32",
        what: "produce one record of 100 B, 32 connections",
        shape: Shape::plain(100, 0),
        load: Load { connections: 32, in_flight: 1 },
        per: Per::Request,
        ..BATCHES
    },
];

/// The fetch legs.
pub const FETCH: [Fetch; 2] = [
    Fetch { name: "W8 1M", what: "fetch 1 MiB of cached data", bytes: 1 << 20, of_kafka: 0.5 },
    Fetch { name: "W8 64K", what: "fetch 64 KiB of cached data", bytes: 64 << 10, of_kafka: 0.25 },
];

/// A workload of fixed rate.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Its id in the list of workloads.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Its rate.
    pub pace: Pace,
}

/// The latency legs: small enough for either broker to leave the processors idle half of the time.
pub const LATENCY: [Latency; 2] = [
    Latency {
        name: "W7 1MB/s",
        what: "1,000 records of 1 KiB a second, each at once",
        pace: Pace { shape: Shape::plain(1024, 0), per_second: 1000, partitions: 12, acks: 1 },
    },
    Latency {
        name: "W7 10MB/s",
        what: "1,000 batches of 10 KiB a second",
        pace: Pace { shape: Shape::plain(1024, 10 * 1024 + 512), per_second: 1000, partitions: 12, acks: 1 },
    },
];
/// What is kept of latencies, and the part of Kafka's that is aimed at.
pub const QUANTILES: [(&str, f64, Option<f64>); 3] =
    [("p50", 0.5, None), ("p99", 0.99, Some(0.25)), ("p99.9", 0.999, Some(0.2))];

/// The part of Kafka's figure that is aimed at, as a target.
pub fn part_of_kafka(part: f64) -> Option<Target> {
    Some(Target { of_kafka: Some(part), at_most: None })
}

/// A produce workload on a topic of one broker.
pub struct Producing {
    address: SocketAddr,
    pid: u32,
    load: Load,
    frames: Frames,
}

impl Produce {
    /// Makes the topic and the requests.
    pub fn prepare(&self, address: SocketAddr, pid: u32, topic: &str) -> Result<Producing> {
        let mut link = Link::open(address)?;
        link.need::<moldau_wire::produce::Request>(PRODUCE_VERSION)?;
        link.topic(topic, self.partitions)?;
        let frames = Frames::produce(topic, self.partitions, 1, self.shape)?;
        Ok(Producing { address, pid, load: self.load, frames })
    }

    /// The least that the same work can take on this machine.
    pub fn floor(&self, dir: &Path, bounds: Bounds) -> Result<Floor> {
        match self.per {
            Per::Gigabyte => floor::append(dir, self.shape.build()?.len(), self.load, bounds),
            Per::Request => floor::ping(dir, self.load, bounds),
        }
    }
}

impl Producing {
    /// Sends, and says what the broker used. At the end everything is on the disk, and what that took is in the split.
    pub fn run(&self, bounds: Bounds) -> Result<(Tally, Split)> {
        measure(self.pid, || {
            let tally = self.send(bounds)?;
            rustix::fs::sync();
            Ok(tally)
        })
    }

    /// Sends only.
    pub fn send(&self, bounds: Bounds) -> Result<Tally> {
        pump::run(self.address, self.load, &self.frames, bounds, pump::produced)
    }
}

impl Fetch {
    /// Reads a topic that [`BATCHES`] wrote, from its beginning and round and round.
    pub fn run(&self, address: SocketAddr, pid: u32, topic: &str, bounds: Bounds) -> Result<(Tally, Split)> {
        measure(pid, || self.read(address, topic, bounds))
    }

    /// Reads only.
    pub fn read(&self, address: SocketAddr, topic: &str, bounds: Bounds) -> Result<Tally> {
        let drain = Drain {
            topic: topic.to_owned(),
            partitions: BATCHES.partitions,
            connections: FETCH_CONNECTIONS,
            fetch: self.bytes,
            rack: String::new(),
        };
        drain::run(address, &drain, bounds)
    }

    /// The least that the same work can take on this machine.
    pub fn floor(&self, dir: &Path, bounds: Bounds) -> Result<Floor> {
        floor::send(dir, usize::try_from(self.bytes)?, FETCH_CONNECTIONS, bounds)
    }
}
