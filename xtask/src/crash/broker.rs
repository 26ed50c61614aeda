//! The broker of a case: the release binary on a fixed port, so that clients find it again, started, killed, paused and
//! stopped through its handle. It ends at the latest when this value is dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::interop::process::{Line, Process};

/// How long a start may take, recovery included.
const START: Duration = Duration::from_secs(60);

/// How a start went.
pub enum Started {
    /// Clients can connect.
    Ready,
    /// It ended, with these last words.
    Refused(String),
}

/// A broker of one case.
pub struct Broker {
    bin: PathBuf,
    log: PathBuf,
    data: PathBuf,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    /// Where clients connect.
    pub address: String,
}

impl Broker {
    /// A broker with its data in `data` and its log beside it, not started.
    pub fn new(bin: &Path, data: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self {
            bin: bin.to_owned(),
            log: data.with_extension("broker.log"),
            data: data.to_owned(),
            settings: Vec::new(),
            environment: Vec::new(),
            process: None,
            address: format!("127.0.0.1:{port}"),
        })
    }

    /// Adds a setting, `key=value`.
    pub fn with(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Adds a variable of the environment.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps its log in this file.
    pub fn log_to(&mut self, log: &Path) {
        self.log = log.to_owned();
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts it and does not wait.
    pub fn begin(&mut self) -> Result<()> {
        let mut command = Command::new(&self.bin);
        command.arg("start").env("RUST_BACKTRACE", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let own = [
            format!("listeners=PLAINTEXT://{}", self.address),
            format!("log.dirs={}", self.data.display()),
            "moldau.http.listener=".into(),
            "moldau.shards=2".into(),
            "offsets.topic.num.partitions=2".into(),
            "group.initial.rebalance.delay.ms=0".into(),
        ];
        for setting in own.iter().chain(&self.settings) {
            command.args(["--set", setting]);
        }
        self.process = Some(Process::spawn_logged(command, &self.log)?);
        Ok(())
    }

    /// Starts it and waits until clients can connect, or until it has ended.
    pub fn try_start(&mut self) -> Result<Started> {
        self.begin()?;
        let Some(process) = &mut self.process else { bail!("it was not started") };
        let deadline = Instant::now() + START;
        loop {
            match process.line(deadline) {
                Line::Text(line) if line.starts_with("ready ") => return Ok(Started::Ready),
                Line::Text(line) => process.remember(&line),
                Line::Late => {
                    bail!("not ready after {} s:\n{}", START.as_secs(), process.tail().join("\n"))
                }
                Line::Closed => {
                    let status = process.wait(Duration::from_secs(5));
                    // The last lines of standard error may still be on their way.
                    std::thread::sleep(Duration::from_millis(100));
                    let said = process.tail().join("\n");
                    self.process = None;
                    match status.and_then(|status| status.code()) {
                        Some(1) if !said.is_empty() => return Ok(Started::Refused(said)),
                        code => bail!("it ended with {code:?}:\n{said}"),
                    }
                }
            }
        }
    }

    /// Starts it; a refusal is an error.
    pub fn start(&mut self) -> Result<()> {
        match self.try_start()? {
            Started::Ready => Ok(()),
            Started::Refused(said) => bail!("the broker refuses to start:\n{said}"),
        }
    }

    /// The running process.
    pub fn id(&self) -> Option<Pid> {
        self.process.as_ref().map(Process::id)
    }

    /// True unless it has ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.wait(Duration::ZERO).is_none())
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it cleanly.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("it does not run") };
        process.terminate();
        match process.wait(START) {
            Some(status) if status.success() => Ok(()),
            status => bail!("it stopped with {status:?}:\n{}", process.tail().join("\n")),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self.id() {
            Some(id) => Ok(kill_process(id, signal)?),
            None => bail!("it does not run"),
        }
    }

    /// Everything that it has said on standard error.
    pub fn said(&self) -> String {
        std::fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
