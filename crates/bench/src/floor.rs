//! The floor of the machine: what a broker's work costs when nothing is around it.
//!
//! | floor | the serving process |
//! |---|---|
//! | append | takes frames from a socket, checks their CRC-32C, appends each to a file, answers with a few bytes |
//! | send | answers a few bytes with a range of a cached file, by `sendfile` |
//! | ping | answers small frames with small frames, many connections in one thread |
//! | sync | appends 16 KiB and calls `fdatasync`, over and over; no socket |
//!
//! The serving process is this program again (`moldau-bench serve`), so that its processor time is its own.

mod serve;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};

pub use serve::serve;

use crate::drain::discard;
use crate::frames::Frames;
use crate::process::{Split, measure};
use crate::pump::{self, Bounds, Load, Tally};
use crate::serving::Serving;

/// Bytes of the cached file that `send` sends from.
pub const CACHED: u64 = 256 * 1024 * 1024;
/// Bytes of a ping, about those of a Produce request with one record of 100 bytes.
const PING: usize = 240;
/// Bytes appended before each `fdatasync`.
const SYNCED: usize = 16 * 1024;

/// What the serving process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Receive, check, append.
    Append,
    /// `sendfile` of this many bytes for each request.
    Send,
    /// Small answers.
    Ping,
}

/// What one floor took.
pub struct Floor {
    /// What was done.
    pub tally: Tally,
    /// Who used the processors.
    pub cpu: Split,
}

fn start(kind: &str, bytes: usize, dir: &Path) -> Result<Serving> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", kind, "--bytes", &bytes.to_string(), "--dir"]).arg(dir);
    Serving::start(command, &dir.join("floor.log"))
}

/// Frames of `bytes` received, checked and appended.
pub fn append(dir: &Path, bytes: usize, load: Load, bounds: Bounds) -> Result<Floor> {
    let server = start("append", bytes, dir)?;
    let frames = Frames::plain(bytes)?;
    pump_into(&server, &frames, load, bounds)
}

/// Small frames answered with small frames.
pub fn ping(dir: &Path, load: Load, bounds: Bounds) -> Result<Floor> {
    let server = start("ping", PING, dir)?;
    pump_into(&server, &Frames::plain(PING)?, load, bounds)
}

fn pump_into(server: &Serving, frames: &Frames, load: Load, bounds: Bounds) -> Result<Floor> {
    let (tally, cpu) = measure(server.pid(), || {
        let tally = pump::run(server.address, load, frames, bounds, pump::any)?;
        // As in the legs: what is left to write back is in the split too.
        rustix::fs::sync();
        Ok(tally)
    })?;
    Ok(Floor { tally, cpu })
}

/// Ranges of `bytes` of a cached file sent by `sendfile`.
pub fn send(dir: &Path, bytes: usize, connections: usize, bounds: Bounds) -> Result<Floor> {
    let server = start("send", bytes, dir)?;
    let (tally, cpu) = measure(server.pid(), || receive(server.address, bytes, connections, bounds))?;
    Ok(Floor { tally, cpu })
}

fn receive(address: SocketAddr, bytes: usize, connections: usize, bounds: Bounds) -> Result<Tally> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(pump::connect(address)?);
    }
    let started = Instant::now();
    let deadline = started + bounds.time;
    let share = bounds.bytes / connections as u64;
    let parts = pump::in_threads(streams, |_, mut stream: TcpStream| {
        let mut tally = Tally::new()?;
        let mut sink = vec![0; bytes];
        let mut prefix = [0; 4];
        while tally.bytes < share && Instant::now() < deadline {
            let asked = Instant::now();
            stream.write_all(&[0; serve::ASK])?;
            stream.read_exact(&mut prefix)?;
            let len = u32::from_be_bytes(prefix) as usize;
            ensure!(len == bytes, "an answer of {len} bytes");
            discard(&stream, &mut sink, len)?;
            tally.requests += 1;
            tally.bytes += len as u64;
            tally.latency.saturating_record(u64::try_from(asked.elapsed().as_nanos())?);
        }
        Ok(tally)
    })?;
    let mut tally = Tally::new()?;
    for part in parts {
        tally.join(part)?;
    }
    tally.elapsed = started.elapsed();
    Ok(tally)
}

/// Appends of 16 KiB, each made durable.
pub fn sync(dir: &Path, bounds: Bounds) -> Result<Floor> {
    let path = dir.join("synced");
    let file = File::create(&path)?;
    let data = vec![7; SYNCED];
    let work = || {
        let mut tally = Tally::new()?;
        let started = Instant::now();
        while tally.bytes < bounds.bytes && started.elapsed() < bounds.time {
            let asked = Instant::now();
            file.write_all_at(&data, tally.bytes)?;
            file.sync_data()?;
            tally.requests += 1;
            tally.bytes += SYNCED as u64;
            tally.latency.saturating_record(u64::try_from(asked.elapsed().as_nanos())?);
        }
        tally.elapsed = started.elapsed();
        Ok(tally)
    };
    let (tally, cpu) = measure(std::process::id(), work)?;
    std::fs::remove_file(path)?;
    Ok(Floor { tally, cpu })
}
