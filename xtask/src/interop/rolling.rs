//! A rolling restart under the cases: one node after the other is stopped cleanly and started again, the next when all replicas are in sync.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster::{Cluster, NODES};

/// Between a node that is back and the stop of the next: longer than the session of a group member, whose time begins anew with each coordinator.
const PAUSE: Duration = Duration::from_secs(20);
/// How long replicas may take to be in sync.
const IN_SYNC: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

/// Restarts nodes in turn until the cases are over; how many restarts there were.
pub fn restart_in_turn(cluster: &Mutex<Cluster>, bin: &Path, over: &AtomicBool) -> Result<usize> {
    let Ok(mut cluster) = cluster.lock() else { bail!("another thread failed with the cluster") };
    let bootstrap = cluster.bootstrap();
    for restarts in 0.. {
        if over.load(Ordering::Relaxed) {
            return Ok(restarts);
        }
        let at = restarts % NODES;
        cluster.stop(at)?;
        cluster.start(at)?;
        await_in_sync(bin, &bootstrap)?;
        std::thread::sleep(PAUSE);
    }
    Ok(0)
}

fn await_in_sync(bin: &Path, bootstrap: &str) -> Result<()> {
    let deadline = Instant::now() + IN_SYNC;
    loop {
        let mut list = Command::new(bin);
        let said = list.args(["nodes", "list", "--output", "json", "-b", bootstrap]).output()?;
        let nodes: serde_json::Value = serde_json::from_slice(&said.stdout)
            .with_context(|| format!("moldau nodes list: {}", String::from_utf8_lossy(&said.stderr)))?;
        let nodes = nodes.as_array().context("moldau nodes list tells no nodes")?;
        let is_whole = |node: &serde_json::Value| node["up"] == true && node["not_in_sync"] == 0;
        if nodes.len() == NODES && nodes.iter().all(is_whole) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("after {} s not all replicas are in sync: {nodes:?}", IN_SYNC.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}
