//! Ends the brokers of a run when the run ends, however it ends: killed alone, a process takes no child along.
//!
//! A second process of this program reads from a pipe which children have been started. The end of the pipe is the end of the run; what
//! lives then is killed. Children are held as descriptors of processes, so that no other process is ever meant, and the way in which
//! they are started is not touched: it is measured.

use std::io::{BufRead, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The hidden command of the second process.
pub const COMMAND: &str = "leash";

static LEASH: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Starts the second process; what is [held](hold) from now on ends with this one.
pub fn begin() -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut watcher = command.spawn().context("cannot start the process that ends the others")?;
    if let Some(pipe) = watcher.stdin.take() {
        let _ = LEASH.set(Mutex::new(pipe));
    }
    Ok(())
}

/// Has this child end with this process, if that was begun.
pub fn hold(child: &Child) -> Result<()> {
    let Some(pipe) = LEASH.get() else { return Ok(()) };
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(pipe, "{}", child.id()).context("the process that ends the others is gone")
}

/// The second process: learns of children until the pipe ends, then kills those that live.
pub fn watch(input: impl BufRead) -> Result<()> {
    let mut held = Vec::new();
    for line in input.lines().map_while(|line| line.ok()) {
        let pid = Pid::from_raw(line.trim().parse()?).context("no process has this id")?;
        // One that has ended already needs nothing.
        held.extend(pidfd_open(pid, PidfdFlags::empty()));
    }
    for process in held {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn at_the_end_of_the_pipe_what_lives_is_killed() {
        let start = |seconds: &str| Command::new("sleep").arg(seconds).spawn().unwrap();
        let (mut short, mut long) = (start("0"), start("1000"));
        assert!(short.wait().unwrap().success());
        watch(format!("{}\n{}\n", short.id(), long.id()).as_bytes()).unwrap();
        assert_eq!(long.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }
}
