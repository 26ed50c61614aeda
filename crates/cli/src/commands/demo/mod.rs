//! `moldau demo failover`: a cluster of three zones on this machine, killed under load before the eyes of whoever asked. It says how long
//! writes stopped (RTO), and reads back whether anything that was acknowledged is missing (RPO).

mod load;
mod picture;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use moldau_client::{Client, NewTopic, Options};
use rustix::process::Signal;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::local::{self, CONTROLLERS_ABOVE, Cluster, Node};
use crate::args::{self, Format, Global};
use crate::output;
use load::{Load, ReadBack};
use picture::Strip;

const NODES: u16 = 3;
const TOPIC: &str = "demo";
/// How long a node may take to be in sync again.
const IN_SYNC: Duration = Duration::from_secs(60);

/// What is done to a node.
#[derive(Clone, Copy)]
struct Fault {
    what: &'static str,
    to_leader: bool,
    signal: Signal,
}

const FAULTS: [Fault; 3] = [
    Fault { what: "kill -9 of the leader's node", to_leader: true, signal: Signal::KILL },
    Fault { what: "kill -9 of a follower's node", to_leader: false, signal: Signal::KILL },
    Fault { what: "orderly stop of the leader's node", to_leader: true, signal: Signal::TERM },
];

/// What one fault did to the load.
struct Seen {
    what: &'static str,
    node: u16,
    gap: Duration,
    acknowledged: usize,
    missing: usize,
}

/// Runs a demonstration.
pub async fn run(global: &Global, arguments: &args::Demo) -> anyhow::Result<()> {
    let args::DemoAction::Failover(failover) = &arguments.action;
    let folder = Folder::new()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        shown = show(global.output, failover, &folder.0) => shown,
        _ = terminate.recv() => bail!("it was told to stop"),
        _ = interrupt.recv() => bail!("it was told to stop"),
    }
}

/// A folder that is removed with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("moldau-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A node that was just killed may still write.
        for _ in 0..20 {
            if std::fs::remove_dir_all(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{} could not be removed", self.0.display());
    }
}

async fn show(format: Format, arguments: &args::Failover, folder: &Path) -> anyhow::Result<()> {
    let aloud = format == Format::Table;
    let say = |text: &str| if aloud { output::line(text) } else { Ok(()) };
    say(&format!("Starting three nodes, each in a zone of its own, in {} ...", folder.display()))?;
    let port = arguments.port.map_or_else(free_ports, Ok)?;
    let cluster = Cluster::at(folder, port, NODES, vec!["moldau.http.listener=".to_owned()])?;
    let mut nodes = (1..=NODES).map(|id| cluster.start(id)).collect::<anyhow::Result<Vec<Node>>>()?;
    for node in &mut nodes {
        node.ready().await?;
    }
    let client = Client::connect(&cluster.addresses(), Options::default()).await?;
    let topic =
        NewTopic { name: TOPIC.to_owned(), partitions: 1, replication_factor: 3, ..NewTopic::default() };
    client.create_topic(&topic).await?;
    say(&format!(
        "{} records a second with acks=all to a partition with three replicas. A character is 100 ms:\n\
         █ all that was due was acknowledged, · nothing, ✗ the fault.\n",
        arguments.rate
    ))?;
    let mut load = Load::new(client.clone(), TOPIC, arguments.rate).await?;
    let mut back = ReadBack::new(client.clone(), TOPIC);
    let mut seen = Vec::new();
    for fault in FAULTS {
        let at = victim(&client, fault).await?;
        let one = suffer(fault, &mut nodes[at], &mut load, &mut back, arguments, aloud).await?;
        nodes[at] = cluster.start(nodes[at].id)?;
        nodes[at].ready().await?;
        seen.push(one);
    }
    in_sync(&client).await?;
    let lost = back.again(&load).await?;
    local::stop(&mut nodes).await?;
    conclude(format, &seen, lost)
}

/// A port with two free ones behind it, and three for controllers.
fn free_ports() -> anyhow::Result<u16> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all =
        |first: u16| (0..NODES).all(|at| is_free(first + at) && is_free(first + at + CONTROLLERS_ABOVE));
    (19092..40000)
        .step_by(10)
        .find(|first| all(*first))
        .context("no six ports are free; name one with --port")
}

/// Waits until every replica is in sync; the leader's node, by its id.
async fn in_sync(client: &Client) -> anyhow::Result<u16> {
    let deadline = Instant::now() + IN_SYNC;
    loop {
        let topic = client.ready_topic(TOPIC, false).await?;
        let partition = topic.partitions.first().context("the topic has no partition")?;
        if partition.in_sync.len() == partition.replicas.len() {
            return Ok(u16::try_from(partition.leader)?);
        }
        ensure!(Instant::now() < deadline, "in sync are {:?} only, after {IN_SYNC:?}", partition.in_sync);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The place of the node that a fault is done to.
async fn victim(client: &Client, fault: Fault) -> anyhow::Result<usize> {
    let leader = usize::from(in_sync(client).await?) - 1;
    Ok(if fault.to_leader { leader } else { (leader + 1) % usize::from(NODES) })
}

/// Load, the fault, load; then what was acknowledged is read from those that are left.
async fn suffer(
    fault: Fault,
    node: &mut Node,
    load: &mut Load,
    back: &mut ReadBack,
    arguments: &args::Failover,
    aloud: bool,
) -> anyhow::Result<Seen> {
    let mut strip = Strip::begin(aloud, arguments.rate, &format!("{} (node {})", fault.what, node.id));
    let first = load.acknowledged();
    let windows = arguments.seconds * 10;
    load.begin();
    for _ in 0..windows {
        strip.add(load.window().await?);
    }
    let struck = Instant::now();
    node.signal(fault.signal);
    strip.mark();
    for _ in 0..windows {
        strip.add(load.window().await?);
    }
    // However long it takes: a gap has an end.
    while load.last() <= struck {
        strip.add(load.window().await?);
    }
    load.flush().await?;
    let gap = load.largest_gap(struck);
    strip.end(gap);
    node.process.wait().await?;
    let missing = back.compare(load, first).await?;
    Ok(Seen { what: fault.what, node: node.id, gap, acknowledged: load.acknowledged() - first, missing })
}

/// The table; an error if something that was acknowledged is not there.
fn conclude(format: Format, seen: &[Seen], lost: usize) -> anyhow::Result<()> {
    let longest = seen.iter().map(|seen| seen.gap).max().unwrap_or_default();
    let rows: Vec<Vec<String>> = seen
        .iter()
        .map(|seen| {
            vec![
                seen.what.to_owned(),
                format!("{} ms", seen.gap.as_millis()),
                picture::bar(seen.gap, longest),
                seen.acknowledged.to_string(),
                seen.missing.to_string(),
            ]
        })
        .collect();
    let all: Vec<_> = seen
        .iter()
        .map(|seen| {
            json!({ "fault": seen.what, "node": seen.node, "gap_ms": seen.gap.as_secs_f64() * 1000.0,
                    "acknowledged": seen.acknowledged, "missing": seen.missing })
        })
        .collect();
    if format == Format::Table {
        output::line("")?;
    }
    let headings = ["fault", "gap (RTO)", "", "acknowledged", "missing (RPO)"];
    output::show(format, &headings, &rows, &json!({ "faults": all, "missing_at_the_end": lost }))?;
    if format == Format::Table {
        output::line(
            "\nThe gap is the longest time without an acknowledgement. What was acknowledged was read from the two nodes\n\
             that were left, and all of it once more at the end.",
        )?;
    }
    let missing = seen.iter().map(|seen| seen.missing).sum::<usize>() + lost;
    ensure!(missing == 0, "{missing} acknowledged records are missing or are others");
    Ok(())
}
