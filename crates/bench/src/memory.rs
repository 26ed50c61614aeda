//! Memory of a broker that does nothing, and of connections that do nothing.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::link::Link;
use crate::process::resident;
use crate::serving::Serving;

/// How long a broker is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(5);
/// The same after connections were opened.
const SETTLE_CONNECTIONS: Duration = Duration::from_secs(1);

/// Resident bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of a broker on an empty directory.
    pub idle: u64,
    /// More for each connection that has asked for the versions and then nothing. The kernel's part is not in it.
    pub connection: f64,
    /// How many connections were opened.
    pub connections: usize,
}

/// Starts a broker below `dir` and looks.
pub fn measure(program: &Path, dir: &Path, connections: usize) -> Result<Memory> {
    raise_descriptors(connections + 256)?;
    let data = dir.join("idle");
    let broker = Serving::broker(program, &data)?;
    sleep(SETTLE);
    let (idle, _) = resident(broker.pid())?;
    let links = (0..connections).map(|_| Link::open(broker.address)).collect::<Result<Vec<_>>>()?;
    sleep(SETTLE_CONNECTIONS);
    let (with, _) = resident(broker.pid())?;
    drop(links);
    let connection = with.saturating_sub(idle) as f64 / connections.max(1) as f64;
    drop(broker);
    std::fs::remove_dir_all(&data)?;
    Ok(Memory { idle, connection, connections })
}

/// Lets this process and its children have as many descriptors as are needed.
fn raise_descriptors(needed: usize) -> Result<()> {
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
