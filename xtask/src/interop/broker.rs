//! The broker under test: a real Kafka, the release binary of this project, three nodes of it, or one that already runs.

use super::process::{Line, Process};
use crate::cluster::ground::Ground;
use crate::cluster::{self, Cluster};
use crate::kafka::{Kafka, Node};
use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Which broker to drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Against {
    /// A real Apache Kafka, started for the run.
    Kafka,
    /// `moldau start`, started for the run.
    Moldau,
    /// A broker that runs at this address.
    Address(String),
}

impl std::str::FromStr for Against {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kafka" => Ok(Self::Kafka),
            "moldau" => Ok(Self::Moldau),
            address if address.contains(':') => Ok(Self::Address(address.into())),
            other => Err(format!("`{other}` is neither `kafka`, `moldau` nor HOST:PORT")),
        }
    }
}

/// Settings that both kinds of broker get.
const SETTINGS: [&str; 2] = ["group.initial.rebalance.delay.ms=0", "auto.create.topics.enable=true"];

enum Kind {
    Kafka(Box<Node>),
    Moldau { bin: PathBuf, process: Option<Process> },
    Cluster(Mutex<Cluster>),
    External,
}

/// A running broker. One that was started here ends when dropped.
pub struct Broker {
    kind: Kind,
    dir: PathBuf,
    /// Where clients connect.
    pub bootstrap: String,
}

/// Two free ports of this machine.
fn free_ports() -> Result<(u16, u16)> {
    let (a, b) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((a.local_addr()?.port(), b.local_addr()?.port()))
}

impl Broker {
    /// Starts the broker in `dir`, or takes the one that runs.
    pub fn start(against: &Against, bin: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let ports = free_ports()?;
        let bootstrap = format!("127.0.0.1:{}", ports.0);
        let dir = dir.to_path_buf();
        let kind = match against {
            Against::Address(address) => {
                return Ok(Self { kind: Kind::External, dir, bootstrap: address.clone() });
            }
            Against::Kafka => {
                let settings = SETTINGS.map(String::from);
                Kind::Kafka(Box::new(Node::start(&Kafka::obtain()?, &dir, ports, "1g", &settings)?))
            }
            Against::Moldau => {
                if !bin.is_file() {
                    bail!(
                        "no {}: build it with `cargo build --release`, or name it with --bin",
                        bin.display()
                    );
                }
                Kind::Moldau { bin: bin.to_path_buf(), process: None }
            }
        };
        let mut broker = Self { kind, dir, bootstrap };
        broker.start_moldau()?;
        Ok(broker)
    }

    /// Starts three nodes in `dir`.
    pub fn start_cluster(bin: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let program = cluster::Program::Moldau(bin.to_path_buf());
        let settings = [SETTINGS.as_slice(), &["moldau.shards=2"]].concat();
        let mut cluster = Cluster::new(program, dir, Ground::loopback()?, &settings);
        cluster.start_all()?;
        let bootstrap = cluster.bootstrap();
        Ok(Self { kind: Kind::Cluster(Mutex::new(cluster)), dir: dir.to_path_buf(), bootstrap })
    }

    /// The nodes, if there are several.
    pub fn cluster(&self) -> Option<&Mutex<Cluster>> {
        match &self.kind {
            Kind::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// The folder of the partitions, when the broker was started here.
    pub fn data(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Kafka(node) => Some(node.data()),
            Kind::Moldau { .. } => Some(self.dir.join("data")),
            Kind::Cluster(_) => Some(self.dir.join("node-1")),
            Kind::External => None,
        }
    }

    /// Ends the broker with SIGKILL and starts it again on its data and address.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Kafka(node) => {
                node.kill();
                node.restart()
            }
            Kind::Moldau { process, .. } => {
                if let Some(mut process) = process.take() {
                    process.kill();
                }
                self.start_moldau()
            }
            Kind::Cluster(_) | Kind::External => {
                bail!("a broker that was not started here alone cannot be killed")
            }
        }
    }

    /// What a broker of ours said last, for the report of a failure.
    pub fn tail(&self) -> Vec<String> {
        match &self.kind {
            Kind::Moldau { process: Some(process), .. } => process.tail(),
            Kind::Cluster(cluster) => cluster.lock().map(|cluster| last_lines(&cluster)).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    fn start_moldau(&mut self) -> Result<()> {
        let Kind::Moldau { bin, process } = &mut self.kind else { return Ok(()) };
        let mut command = Command::new(&*bin);
        command.arg("start").current_dir(&self.dir).env("RUST_BACKTRACE", "0");
        command.arg("--set").arg(format!("listeners=PLAINTEXT://{}", self.bootstrap));
        // More than one, also on a machine where that is not the default: requests go from shard to shard.
        command.args(["--set", "moldau.shards=2"]);
        command.arg("--set").arg(format!("log.dirs={}", self.dir.join("data").display()));
        for setting in SETTINGS {
            command.arg("--set").arg(setting);
        }
        let mut started = Process::spawn_logged(command, &self.dir.join("broker.log"))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match started.line(deadline) {
                Line::Text(line) if line.starts_with("ready ") => break,
                Line::Text(line) => started.remember(&line),
                Line::Late => bail!("moldau is not ready after 20 s:\n{}", started.tail().join("\n")),
                Line::Closed => {
                    let status = started.wait(Duration::from_secs(1));
                    bail!("moldau ended ({status:?}):\n{}", started.tail().join("\n"));
                }
            }
        }
        *process = Some(started);
        Ok(())
    }
}

/// A folder for one run, under the machine's temporary folder.
pub fn scratch(name: &str) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("moldau-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// What each node said last.
fn last_lines(cluster: &Cluster) -> Vec<String> {
    let of = |at: usize| {
        let said = cluster.said(at);
        let lines: Vec<String> = said.lines().map(|line| format!("node {}: {line}", at + 1)).collect();
        lines[lines.len().saturating_sub(20)..].to_vec()
    };
    (0..cluster::NODES).flat_map(of).collect()
}
