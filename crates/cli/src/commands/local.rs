//! `moldau local`: a cluster of several nodes on this machine, each in a zone of its own, for trying things out. The nodes are
//! processes of their own, as on several machines; they end with this command.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use moldau_base::{Rng, Uuid};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::args;

/// Controllers listen so far above the ports of the clients.
pub(super) const CONTROLLERS_ABOVE: u16 = 100;
/// How long nodes may take to stop.
const GRACE: Duration = Duration::from_secs(40);

/// Runs the nodes until it is told to stop, or one of them ends.
pub async fn run(arguments: &args::Local) -> anyhow::Result<()> {
    let cluster = Cluster::at(&arguments.data, arguments.port, arguments.zones, arguments.set.clone())?;
    let mut nodes = Vec::new();
    for id in 1..=arguments.zones {
        nodes.push(cluster.start(id)?);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        ended = watch(&cluster, &mut nodes) => Some(ended),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    stop(&mut nodes).await?;
    ended.unwrap_or(Ok(()))
}

/// What the nodes have in common.
pub(super) struct Cluster {
    data: PathBuf,
    id: String,
    first_port: u16,
    zones: u16,
    set: Vec<String>,
}

/// A node that was started.
pub(super) struct Node {
    /// Its id, from 1.
    pub id: u16,
    /// Its process, which is the parent of the node itself.
    pub process: Child,
    log: PathBuf,
}

impl Node {
    /// Waits until clients can connect, and tells where.
    pub async fn ready(&mut self) -> anyhow::Result<String> {
        let out = self.process.stdout.take().context("it was waited for already")?.into_owned_fd()?;
        let line = tokio::task::spawn_blocking(move || BufReader::new(File::from(out)).lines().next());
        match line.await? {
            Some(Ok(ready)) => Ok(ready),
            _ => bail!("node {} did not start: {}", self.id, last_line(&self.log)),
        }
    }

    /// Sends a signal; to a node that has ended already there is nothing to say.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Cluster {
    /// So many nodes with their data in a folder, on ports from this one on.
    pub fn at(data: &Path, first_port: u16, zones: u16, set: Vec<String>) -> anyhow::Result<Cluster> {
        let last = first_port.checked_add(CONTROLLERS_ABOVE).and_then(|port| port.checked_add(zones));
        if last.is_none() {
            bail!("--port {first_port} is too high: the nodes need ports up to {CONTROLLERS_ABOVE} above it");
        }
        std::fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
        let id = cluster_id(&data.join("cluster.id"))?;
        Ok(Cluster { id, data: data.to_owned(), first_port, zones, set })
    }

    fn port(&self, node: u16) -> u16 {
        self.first_port + node - 1
    }

    /// Where clients connect first.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> =
            (1..=self.zones).map(|node| format!("127.0.0.1:{}", self.port(node))).collect();
        addresses.join(",")
    }

    fn settings(&self, node: u16) -> Vec<String> {
        let controller = |node| self.port(node) + CONTROLLERS_ABOVE;
        let voters: Vec<String> =
            (1..=self.zones).map(|voter| format!("{voter}@127.0.0.1:{}", controller(voter))).collect();
        let replicas = self.zones.min(3);
        let mut settings = vec![
            format!("node.id={node}"),
            format!("cluster.id={}", self.id),
            format!("broker.rack=zone-{node}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}",
                self.port(node),
                controller(node)
            ),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!("log.dirs={}", self.data.join(format!("node-{node}")).display()),
            format!("default.replication.factor={replicas}"),
            format!("min.insync.replicas={}", if replicas == 3 { 2 } else { 1 }),
        ];
        settings.extend(self.set.iter().cloned());
        settings
    }

    /// Starts a node and does not wait.
    pub fn start(&self, id: u16) -> anyhow::Result<Node> {
        let log = self.data.join(format!("node-{id}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("{} cannot be written", log.display()))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["start", "--ends-with-parent"]);
        for setting in self.settings(id) {
            command.args(["--set", &setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
        let process = command.spawn().context("a node cannot be started")?;
        Ok(Node { id, process, log })
    }
}

/// The id that the cluster has, or gets now.
fn cluster_id(file: &Path) -> anyhow::Result<String> {
    if let Ok(id) = std::fs::read_to_string(file) {
        return Ok(id.trim().to_owned());
    }
    let mut seed = [0; 8];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut seed))?;
    let id = Uuid::random(&mut Rng::seeded(u64::from_le_bytes(seed))).to_string();
    std::fs::write(file, &id).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(id)
}

/// Says when everybody is ready; ends when a node has.
async fn watch(cluster: &Cluster, nodes: &mut [Node]) -> anyhow::Result<()> {
    for node in nodes.iter_mut() {
        let ready = node.ready().await?;
        println!("node {} in zone-{} is {ready}", node.id, node.id);
    }
    eprintln!(
        "\nThe cluster is up. Any Kafka client works with bootstrap.servers={0}\n\n    \
         moldau topics create hello --replication-factor {1} -b {0}\n\n\
         Logs and data are in {2}. Ctrl-C stops it.\n",
        cluster.addresses(),
        cluster.zones.min(3),
        cluster.data.display()
    );
    loop {
        for node in nodes.iter_mut() {
            if let Some(status) = node.process.try_wait()? {
                eprintln!(
                    "node {} has ended ({status}); the others go on. {}",
                    node.id,
                    last_line(&node.log)
                );
                std::future::pending::<()>().await;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().find(|line| line.contains("error")).or(text.lines().last());
    format!("{} (all of it is in {})", line.unwrap_or("it said nothing"), log.display())
}

/// Stops the nodes, which may have heard of Ctrl-C as well.
pub(super) async fn stop(nodes: &mut [Node]) -> anyhow::Result<()> {
    nodes.iter().for_each(|node| node.signal(Signal::TERM));
    for node in nodes {
        match tokio::time::timeout(GRACE, node.process.wait()).await {
            Ok(status) => drop(status?),
            Err(_) => bail!("node {} does not stop; see {}", node.id, node.log.display()),
        }
    }
    Ok(())
}
