//! Several nodes of the real binary, or of a real Kafka, each a process: started, killed, paused and stopped through one handle. They end
//! at the latest when this value is dropped. Where they stand is the [`ground`]'s affair.

pub mod contender;
pub mod gaps;
pub mod ground;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::interop::process::{Line, Process};
use crate::kafka::Kafka;
use ground::Ground;

/// How many nodes.
pub const NODES: usize = 3;
/// How long a start may take, recovery and the wait for a majority included.
const START: Duration = Duration::from_secs(90);
/// How long a process that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);
const CLUSTER_ID: &str = "bW9sZGF1LWNoYW9zLTAwMQ";
const CLUSTER_SETTING: &str = "cluster.id=bW9sZGF1LWNoYW9zLTAwMQ";

/// A node of the cluster.
pub struct Node {
    /// Where its data are.
    pub data: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

/// What the nodes are.
pub enum Program {
    /// The binary of this project.
    Moldau(PathBuf),
    /// A release of Apache Kafka.
    Kafka(Kafka),
}

/// Heap of each node of a Kafka, as its own scripts give it.
const HEAP: &str = "1g";

/// The nodes.
pub struct Cluster {
    program: Program,
    settings: Vec<String>,
    /// Where they stand.
    pub ground: Ground,
    /// Each of them, by its place from 0; its id is one more.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Three nodes with their data below `folder`, not started; `settings` are of the form `key=value`.
    pub fn new(program: Program, folder: &Path, ground: Ground, settings: &[&str]) -> Self {
        let node = |id: usize| Node {
            data: folder.join(format!("node-{id}")),
            log: folder.join(format!("node-{id}.log")),
            environment: Vec::new(),
            process: None,
        };
        Self {
            program,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            ground,
            nodes: (1..=NODES).map(node).collect(),
        }
    }

    /// A variable of the environment of one node.
    pub fn set_variable(&mut self, at: usize, name: &str, value: &str) {
        self.nodes[at].environment.push((name.to_owned(), value.to_owned()));
    }

    /// Where clients connect first.
    pub fn bootstrap(&self) -> String {
        (0..NODES).map(|at| self.ground.client_address(at)).collect::<Vec<_>>().join(",")
    }

    fn settings_of(&self, at: usize) -> Vec<String> {
        let id = at + 1;
        let voters: Vec<String> =
            (0..NODES).map(|at| format!("{}@{}", at + 1, self.ground.controller_address(at))).collect();
        let (clients, controllers) = (self.ground.client_address(at), self.ground.controller_address(at));
        let mut settings = vec![
            format!("node.id={id}"),
            format!("broker.rack=zone-{id}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("listeners=PLAINTEXT://{clients},CONTROLLER://{controllers}"),
            "controller.listener.names=CONTROLLER".into(),
            "default.replication.factor=3".into(),
            "min.insync.replicas=2".into(),
            format!("log.dirs={}", self.nodes[at].data.display()),
        ];
        let own: &[&str] = match self.program {
            Program::Moldau(_) => &[CLUSTER_SETTING, "moldau.http.listener="],
            Program::Kafka(_) => &[
                "process.roles=broker,controller",
                "inter.broker.listener.name=PLAINTEXT",
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            ],
        };
        settings.extend(own.iter().map(|setting| (*setting).to_owned()));
        settings.extend(self.settings.iter().cloned());
        settings
    }

    /// Starts a node and does not wait.
    pub fn begin(&mut self, at: usize) -> Result<()> {
        let settings = self.settings_of(at);
        let mut command = match &self.program {
            Program::Moldau(bin) => {
                let mut command = self.ground.command(at, bin);
                command.args(["start", "--ends-with-parent"]).env("RUST_BACKTRACE", "0");
                command.args(settings.iter().flat_map(|setting| ["--set", setting]));
                command
            }
            Program::Kafka(kafka) => {
                let file = self.nodes[at].log.with_extension("properties");
                std::fs::write(&file, settings.join("\n"))?;
                if !self.nodes[at].data.exists() {
                    let mut format = kafka.tool("kafka.tools.StorageTool");
                    must(format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(&file))?;
                }
                let mut command = kafka.broker(HEAP);
                command.arg(file);
                command
            }
        };
        let node = &mut self.nodes[at];
        command.envs(node.environment.iter().map(|(name, value)| (name, OsStr::new(value))));
        let ready = |line: &str| line.contains("Kafka Server started").then(|| "ready ".to_owned());
        node.process = Some(Process::spawn_logged_picking(command, &node.log, ready)?);
        Ok(())
    }

    /// Waits until a node that was begun serves clients.
    pub fn await_ready(&mut self, at: usize) -> Result<()> {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { bail!("node {} was not started", at + 1) };
        let deadline = Instant::now() + START;
        loop {
            match process.line(deadline) {
                Line::Text(line) if line.starts_with("ready") => return Ok(()),
                Line::Text(line) => process.remember(&line),
                Line::Late => {
                    let said = process.tail().join("\n");
                    bail!("node {} is not ready after {} s:\n{said}", at + 1, START.as_secs())
                }
                Line::Closed => {
                    let status = process.wait(Duration::from_secs(5));
                    // The last lines of standard error may still be on their way.
                    std::thread::sleep(Duration::from_millis(100));
                    let said = process.tail().join("\n");
                    bail!("node {} ended with {status:?} while it started:\n{said}", at + 1)
                }
            }
        }
    }

    /// Starts a node and waits until it serves clients.
    pub fn start(&mut self, at: usize) -> Result<()> {
        self.begin(at)?;
        self.await_ready(at)
    }

    /// Starts all that do not run.
    pub fn start_all(&mut self) -> Result<()> {
        let resting: Vec<usize> = (0..NODES).filter(|at| self.nodes[*at].process.is_none()).collect();
        resting.iter().try_for_each(|at| self.begin(*at))?;
        resting.iter().try_for_each(|at| self.await_ready(*at))
    }

    /// The process that was started, the parent, and the node itself below it.
    pub fn ids(&self, at: usize) -> Result<(Pid, Pid)> {
        let process = self.nodes[at].process.as_ref().with_context(|| format!("node {} rests", at + 1))?;
        let parent = process.id().as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let child = children.split_whitespace().next().and_then(|id| Pid::from_raw(id.parse().ok()?));
        Ok((process.id(), child.with_context(|| format!("node {} has no process below its parent", at + 1))?))
    }

    /// Stops a node in its tracks: the process that serves, whatever watches it.
    pub fn freeze(&self, at: usize) -> Result<()> {
        let process = self.nodes[at].process.as_ref().with_context(|| format!("node {} rests", at + 1))?;
        let id = match self.program {
            Program::Moldau(_) => self.ids(at)?.1,
            Program::Kafka(_) => process.id(),
        };
        Ok(kill_process(id, Signal::STOP)?)
    }

    /// The processor time that the nodes that run have used, user and system, in seconds.
    pub fn processor_seconds(&self) -> Result<f64> {
        let mut ticks = 0;
        for node in &self.nodes {
            let Some(process) = &node.process else { continue };
            let parent = process.id().as_raw_nonzero();
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
            let children = children.split_whitespace().map(str::to_owned);
            for id in children.chain([parent.to_string()]) {
                let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
                ticks += ticks_of(&stat).with_context(|| format!("process {id} has no times"))?;
            }
        }
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Resident memory of the processes of each node that runs, in bytes.
    pub fn resident_bytes(&self) -> Result<Vec<u64>> {
        let pages = |id: &str| -> Result<u64> {
            let text = std::fs::read_to_string(format!("/proc/{id}/statm"))?;
            let pages = text.split(' ').nth(1).with_context(|| format!("process {id} has no memory"))?;
            Ok(pages.parse::<u64>()? * rustix::param::page_size() as u64)
        };
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        running
            .map(|process| {
                let parent = process.id().as_raw_nonzero();
                let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
                let below = children.split_whitespace().map(pages).sum::<Result<u64>>()?;
                Ok(below + pages(&parent.to_string())?)
            })
            .collect()
    }

    /// Sends a signal to the node itself, and to its parent as well.
    pub fn signal_both(&self, at: usize, signal: Signal) -> Result<()> {
        let (parent, child) = self.ids(at)?;
        kill_process(parent, signal)?;
        Ok(kill_process(child, signal)?)
    }

    /// Ends a node with SIGKILL; returns when its processes are gone.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        let child = self.ids(at).map(|(_, child)| child).ok();
        let Some(mut process) = self.nodes[at].process.take() else { return Ok(()) };
        process.kill();
        let Some(child) = child else { return Ok(()) };
        let deadline = Instant::now() + GONE;
        while is_alive(child) {
            ensure!(Instant::now() < deadline, "the process of node {} outlives its parent", at + 1);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Asks a node to stop and waits for its end, which must be a clean one.
    pub fn stop(&mut self, at: usize) -> Result<()> {
        let Some(mut process) = self.nodes[at].process.take() else { bail!("node {} rests", at + 1) };
        process.terminate();
        match process.wait(START) {
            Some(status) if status.success() => Ok(()),
            // A JVM says which signal its hooks have answered.
            Some(status) if status.code() == Some(143) && matches!(self.program, Program::Kafka(_)) => Ok(()),
            status => bail!("node {} stopped with {status:?}:\n{}", at + 1, process.tail().join("\n")),
        }
    }

    /// Waits until a node has ended by itself; what it said last.
    pub fn await_end(&mut self, at: usize, patience: Duration) -> Result<String> {
        let Some(process) = &mut self.nodes[at].process else { bail!("node {} rests", at + 1) };
        ensure!(process.wait(patience).is_some(), "node {} still runs after {patience:?}", at + 1);
        std::thread::sleep(Duration::from_millis(50));
        let said = process.tail().join("\n");
        self.nodes[at].process = None;
        Ok(said)
    }

    /// The last words of a node that should run and has ended by itself; it rests from now on.
    pub fn fallen(&mut self, at: usize) -> Option<String> {
        let process = self.nodes[at].process.as_mut()?;
        let status = process.wait(Duration::ZERO)?;
        let said = format!("{status}\n{}", process.tail().join("\n"));
        self.nodes[at].process = None;
        Some(said)
    }

    /// Everything that a node has said on standard error.
    pub fn said(&self, at: usize) -> String {
        let text = std::fs::read(&self.nodes[at].log);
        text.map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }
}

/// User and system time: the 14th and 15th word; the 2nd is the name in parentheses and may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut words = stat.rsplit(')').next()?.split_ascii_whitespace().skip(11);
    Some(words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?)
}

/// Whether a process is there and has not ended.
fn is_alive(id: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// Runs a small program to its end; an error with its output when it fails.
pub fn must(command: &mut Command) -> Result<()> {
    crate::toolbox::install(command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::ticks_of;

    #[test]
    fn a_name_with_parentheses_and_blanks_hides_nothing() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 3 0 100 0 0";
        assert_eq!(ticks_of(stat), Some(300));
        assert_eq!(ticks_of("7 a S"), None);
    }
}
