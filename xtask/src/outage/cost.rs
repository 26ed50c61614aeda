//! W5: what replicated produce costs. Three loads, each to the partitions that one node leads, with `acks=all` to three replicas; the processor
//! time of the three nodes together, for a gigabyte of batches.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::page::Outages;
use super::side::Nodes;
use crate::cluster::NODES;
use crate::crash::load::Programs;

/// Partitions that each node leads.
const PARTITIONS: usize = 4;
/// Slices of each side.
const SLICES: usize = 5;
/// Slices before these, which warm it up: a JVM compiles what it runs often.
const WARM: usize = 2;
/// How often a slice is tried.
const TRIES: usize = 5;
/// Most seconds of a slice.
const SECONDS: u64 = 60;
/// Between two slices: deleted files go, and what was written is written back.
const REST: Duration = Duration::from_secs(2);

/// Measures it, the sides in turn there and back.
pub fn measure(
    clusters: &mut [Nodes],
    programs: &Programs,
    bench: &Path,
    gigabytes: f64,
    outages: &mut Outages,
) -> Result<()> {
    for number in 1..=WARM + SLICES {
        let mut order: Vec<usize> = (0..clusters.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let nodes = &clusters[at];
            let cost = patiently(nodes, programs, bench, gigabytes, number, outages)?;
            if number > WARM {
                outages.cost(nodes.which, cost);
            }
            eprintln!("W5 {number}/{} {}: {cost:.2} CPU s/GB", WARM + SLICES, nodes.which.name());
        }
    }
    Ok(())
}

/// A slice, and again where that fails: the load takes no refusal, such as that too few replicas are in sync, which real clients sit out.
fn patiently(
    nodes: &Nodes,
    programs: &Programs,
    bench: &Path,
    gigabytes: f64,
    number: usize,
    outages: &mut Outages,
) -> Result<f64> {
    for attempt in 1.. {
        match slice(nodes, programs, bench, gigabytes, &format!("w5-{number}-{attempt}")) {
            Ok(cost) => return Ok(cost),
            Err(why) if attempt == TRIES => return Err(why),
            Err(why) => outages.doubt(format!("W5, a slice of {} was repeated: {why:#}", nodes.which.name())),
        }
        std::thread::sleep(REST);
    }
    bail!("W5 was never tried")
}

/// Processor seconds for a gigabyte.
fn slice(nodes: &Nodes, programs: &Programs, bench: &Path, gigabytes: f64, name: &str) -> Result<f64> {
    let cluster = &nodes.cluster;
    let address = cluster.bootstrap();
    let topic = |at: usize| format!("{name}-{at}");
    for at in 0..NODES {
        let on: Vec<String> = (0..NODES).map(|next| ((at + next) % NODES + 1).to_string()).collect();
        let (topic, on) = (format!("topic={}", topic(at)), format!("on={}", on.join(",")));
        let more = [format!("parts={PARTITIONS}"), "file.delete.delay.ms=1000".into()];
        programs.ask(&address, "assign", &[&[topic, on][..], &more].concat())?;
    }
    let before = cluster.processor_seconds()?;
    let mut loads = Vec::new();
    for at in 0..NODES {
        let mut load = Command::new(bench);
        load.args(["blast", "produce", "--acks", "-1", "--address", &cluster.ground.client_address(at)]);
        load.args(["--topic", &topic(at), "--partitions", &PARTITIONS.to_string()]);
        let megabytes = (gigabytes * 1000.0 / NODES as f64).ceil() as u64;
        load.args(["--megabytes", &megabytes.to_string(), "--seconds", &SECONDS.to_string()]);
        load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let load = load.spawn().context("cannot run moldau-bench")?;
        crate::warden::hold(&load)?;
        loads.push(load);
    }
    let mut sent = 0.0;
    // All of them are waited for, whatever became of the first.
    let ended: Vec<_> = loads.into_iter().map(Child::wait_with_output).collect();
    for out in ended {
        let out = out?;
        let said = String::from_utf8_lossy(&out.stdout);
        ensure!(out.status.success(), "moldau-bench failed: {}", String::from_utf8_lossy(&out.stderr));
        sent += gigabytes_of(&said)
            .with_context(|| format!("moldau-bench does not tell how much it sent: {said}"))?;
    }
    let cost = (cluster.processor_seconds()? - before) / sent;
    for at in 0..NODES {
        programs.ask(&address, "delete", &[format!("topic={}", topic(at))])?;
    }
    std::thread::sleep(REST);
    Ok(cost)
}

/// `N requests, X GB in …`.
fn gigabytes_of(said: &str) -> Option<f64> {
    let words: Vec<&str> = said.split_whitespace().collect();
    words.windows(2).find(|pair| pair[1] == "GB")?[0].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::gigabytes_of;

    #[test]
    fn the_load_tells_how_much_it_sent() {
        assert_eq!(gigabytes_of("7 requests, 0.167 GB in 1.00 s: 167 MB/s"), Some(0.167));
        assert_eq!(gigabytes_of("nothing"), None);
    }
}
