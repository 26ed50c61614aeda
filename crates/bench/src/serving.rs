//! Child processes that serve: a broker, or a part of the floor program. Each prints `ready HOST:PORT` when it can.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};

/// How long a process may take until it is ready, and until it has stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child process that is ready. Killed when dropped.
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
        match wait_for_line(&mut child) {
            Ok((address, ready)) => Ok(Serving { child, address, started, ready }),
            Err(why) => {
                let _ = child.kill();
                let _ = child.wait();
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(5)..];
                Err(why.context(format!("{name} is not ready:\n{}", last.join("\n"))))
            }
        }
    }

    /// Starts `moldau start` with its data in `dir`, on a port that is free.
    pub fn broker(program: &Path, dir: &Path) -> Result<Serving> {
        std::fs::create_dir_all(dir)?;
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program);
        command.arg("start").current_dir(dir);
        command.args(["--set", &format!("listeners=PLAINTEXT://127.0.0.1:{free}")]);
        command.args(["--set", &format!("log.dirs={}", dir.join("data").display())]);
        Serving::start(command, &dir.join("stderr.log"))
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
