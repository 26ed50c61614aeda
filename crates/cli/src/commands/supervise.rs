//! The small parent of a node of a cluster. A process that stands still keeps its sockets, and whoever waits for it waits for long; one that is
//! dead does not. So a node says several times a second that it runs, and its parent ends it when it has stopped saying so. Starting it again is
//! the affair of whoever started the parent.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// Between two signs of life.
const BEAT: Duration = Duration::from_millis(50);
/// A node that has been silent for so long is ended: ten signs of life.
const SILENCE: Duration = Duration::from_millis(500);

/// In the node: says that it runs, over standard input, until the process ends.
pub fn beat() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let beats = move || {
        // Nobody listens any more when this fails, and then the node is about to be ended.
        while rustix::io::write(std::io::stdin().as_fd(), b".").is_ok() {
            thread::sleep(BEAT);
        }
    };
    thread::Builder::new().name("beat".into()).spawn(beats)?;
    Ok(())
}

/// In the parent: runs this program again with the same arguments, as a node that is watched.
pub fn run() -> anyhow::Result<ExitCode> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(std::env::current_exe()?);
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "start") {
        command.arg("start");
    }
    command.args(arguments).arg("--watched").stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut node = command.spawn().context("the node cannot be started")?;
    drop(command);
    pass_signals_on(&node)?;
    ours.set_read_timeout(Some(BEAT))?;
    let status = watch(&mut node, &mut ours)?;
    Ok(code(status))
}

/// Waits for the node's end, and brings it about when the node stands still.
fn watch(node: &mut Child, beats: &mut UnixStream) -> anyhow::Result<ExitStatus> {
    let (mut heard, mut looked) = (Instant::now(), Instant::now());
    loop {
        let silent = match beats.read(&mut [0; 64]) {
            // The other end closes with the process.
            Ok(0) => return Ok(node.wait()?),
            Ok(_) => false,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => true,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        // Whoever was not running itself cannot tell who was.
        let late = now.duration_since(looked) > SILENCE / 2;
        looked = now;
        if !silent || late {
            heard = now;
        } else if now.duration_since(heard) > SILENCE {
            eprintln!("error: the node has stood still for {SILENCE:?} and is ended; start it again");
            node.kill()?;
            return Ok(node.wait()?);
        }
    }
}

/// What this process is asked to do, the node is asked; a second time as well.
fn pass_signals_on(node: &Child) -> anyhow::Result<()> {
    let node = Pid::from_child(node);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pass = move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            loop {
                let signal = tokio::select! {
                    _ = terminate.recv() => Signal::TERM,
                    _ = interrupt.recv() => Signal::INT,
                };
                let _ = kill_process(node, signal);
            }
        });
    };
    thread::Builder::new().name("signals".into()).spawn(pass)?;
    Ok(())
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
