//! Child processes that serve: a broker, or a part of the floor program. One is ready when it prints `ready HOST:PORT`, or,
//! where it prints nothing of the kind, when its port accepts a connection.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::leash;

/// How long a process may take until it is ready, and until it has stopped.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a process that recovers a large log may take until it is ready.
const SLOW_START: Duration = Duration::from_secs(600);
/// How often a port is tried.
const POLL: Duration = Duration::from_millis(2);

/// A child process that is ready. Killed when dropped, or when this process ends ([`leash`]).
pub struct Serving {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    /// When it was started, just before `exec`.
    pub started: Instant,
    /// When its line came.
    pub ready: Instant,
}

impl Serving {
    /// Starts the program and waits for its line; its standard error goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Serving> {
        let name = command.get_program().to_string_lossy().into_owned();
        let errors = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        match leash::hold(&child).and_then(|()| wait_for_line(&mut child)) {
            Ok((address, ready)) => Ok(Serving { child, address, started, ready }),
            Err(why) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(why.context(format!("{name} is not ready:\n{}", last_lines(log))))
            }
        }
    }

    /// Starts the program and waits until `address` accepts a connection; all its output goes to `log`.
    pub fn start_polled(mut command: Command, address: SocketAddr, log: &Path) -> Result<Serving> {
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        // From here on dropping it ends the process.
        let mut serving = Serving { child, address, started, ready: started };
        leash::hold(&serving.child)?;
        while TcpStream::connect(address).is_err() {
            let ended = serving.child.try_wait()?;
            ensure!(ended.is_none(), "it ended at once:\n{}", last_lines(log));
            ensure!(
                started.elapsed() < SLOW_START,
                "it is not up after {SLOW_START:?}:\n{}",
                last_lines(log)
            );
            thread::sleep(POLL);
        }
        serving.ready = Instant::now();
        Ok(serving)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to stop, and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("process {pid:?} has not stopped after {PATIENCE:?}")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads standard output to its end in a thread, so that the process never waits for a reader.
fn wait_for_line(child: &mut Child) -> Result<(SocketAddr, Instant)> {
    let out = child.stdout.take().context("no standard output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(|line| line.ok()) {
            if let Some(address) = line.strip_prefix("ready ") {
                let _ = sender.send((address.trim().to_owned(), Instant::now()));
            }
        }
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok((address, ready)) => {
            let parsed = address.parse().with_context(|| format!("not an address: {address}"))?;
            Ok((parsed, ready))
        }
        Err(_) => {
            let ended = child.try_wait()?;
            ensure!(
                ended.is_none(),
                "it ended, {}",
                ended.map_or(String::new(), |status| status.to_string())
            );
            bail!("no line \"ready HOST:PORT\" after {PATIENCE:?}")
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// An address of this machine that nobody listens on.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
