//! A child process that talks in lines: its output as a stream, its last words kept for failures.
//!
//! A child is always ended through its handle, at the latest when this value is dropped.

use crate::warden;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many lines of a child's output are kept for a failure.
const TAIL: usize = 25;

/// What reading a line may end with.
pub enum Line {
    /// One line of standard output.
    Text(String),
    /// Nothing before the deadline.
    Late,
    /// Standard output is closed.
    Closed,
}

/// A running child.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts `command` with all three streams piped.
    pub fn spawn(command: Command) -> Result<Self> {
        Self::start(command, None, |_| None)
    }

    /// As [`Self::spawn`], and lines of standard error that `pick` takes come as lines of output.
    pub fn spawn_picking(command: Command, pick: fn(&str) -> Option<String>) -> Result<Self> {
        Self::start(command, None, pick)
    }

    /// As [`Self::spawn`], and standard error is appended to `log`.
    pub fn spawn_logged(command: Command, log: &Path) -> Result<Self> {
        Self::spawn_logged_picking(command, log, |_| None)
    }

    /// As [`Self::spawn_picking`], and the rest of standard error is appended to `log`.
    pub fn spawn_logged_picking(
        command: Command,
        log: &Path,
        pick: fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        Self::start(command, Some(log), pick)
    }

    fn start(mut command: Command, mut log: Option<File>, pick: fn(&str) -> Option<String>) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        warden::hold(&child)?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (send, lines) = channel();
        if let Some(err) = child.stderr.take() {
            let (tail, send) = (tail.clone(), send.clone());
            read_lines(err, move |line| {
                let line = String::from_utf8_lossy(&line);
                if let Some(log) = &mut log {
                    let _ = writeln!(log, "{line}");
                }
                match pick(&line) {
                    Some(picked) => drop(send.send(picked.into_bytes())),
                    None => remember(&tail, &line),
                }
            });
        }
        if let Some(out) = child.stdout.take() {
            read_lines(out, move |line| drop(send.send(line)));
        }
        Ok(Self { stdin: child.stdin.take(), child, lines, tail })
    }

    /// Writes one line to its standard input.
    pub fn write(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its standard input is closed")?;
        stdin.write_all(line.as_bytes())?;
        stdin.write_all(b"\n")?;
        stdin.flush().context("it no longer reads")
    }

    /// Closes its standard input, which asks it to leave.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output.
    pub fn line(&mut self, deadline: Instant) -> Line {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Line::Text(String::from_utf8_lossy(&line).into_owned()),
            Err(RecvTimeoutError::Timeout) => Line::Late,
            Err(RecvTimeoutError::Disconnected) => Line::Closed,
        }
    }

    /// Adds a line to its last words.
    pub fn remember(&self, line: &str) {
        remember(&self.tail, line);
    }

    /// Its last words.
    pub fn tail(&self) -> Vec<String> {
        self.tail.lock().map(|t| t.iter().cloned().collect()).unwrap_or_default()
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The number of the process.
    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to end, with SIGTERM.
    pub fn terminate(&self) {
        let _ = kill_process(self.id(), Signal::TERM);
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.close();
        if self.wait(Duration::from_millis(300)).is_none() {
            self.kill();
        }
    }
}

fn remember(tail: &Mutex<VecDeque<String>>, line: &str) {
    if let Ok(mut tail) = tail.lock() {
        tail.push_back(line.chars().take(400).collect());
        while tail.len() > TAIL {
            tail.pop_front();
        }
    }
}

fn read_lines(from: impl Read + Send + 'static, mut each: impl FnMut(Vec<u8>) + Send + 'static) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            match from.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    while line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                        line.pop();
                    }
                    each(line);
                }
            }
        }
    });
}

/// What a program that ran to its end said.
pub struct Said {
    /// Its exit status, or none when it had to be ended.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub out: Vec<u8>,
    /// Its standard error.
    pub err: String,
}

/// Runs `command` to its end, feeding it `input`, within `patience`.
pub fn run(mut command: Command, input: &[u8], patience: Duration) -> Result<Said> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start it")?;
    let stdin = child.stdin.take();
    let input = input.to_vec();
    std::thread::spawn(move || stdin.map(|mut s| s.write_all(&input)));
    let out = collect(child.stdout.take());
    let err = collect(child.stderr.take());
    let deadline = Instant::now() + patience;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let text = |r: Receiver<Vec<u8>>| r.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    Ok(Said { status, out: text(out), err: String::from_utf8_lossy(&text(err)).into_owned() })
}

fn collect(from: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut all);
        }
        let _ = send.send(all);
    });
    receive
}
