//! Clears up after a command that was interrupted: killed alone, a process takes no child along and removes no folder.
//!
//! A second process of this program, in a process group of its own so that Ctrl-C does not reach it, reads from a pipe which children have
//! been started. The end of the pipe is the end of the command: what lives then is killed, and the command's folder is removed unless it
//! was asked to keep it. Children are held as descriptors of processes, so that no other process is ever meant.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The hidden command of the second process.
pub const COMMAND: &str = "warden";
const KEEP: &str = "keep";

static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();

/// The second process, of the command that began it.
pub struct Warden(Child);

/// Starts the second process: `folder` and all children that are started from now on end with this one.
pub fn begin(folder: &Path) -> Result<Warden> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn().context("cannot start the process that clears up")?;
    let pipe = PIPE.get_or_init(Mutex::default);
    *pipe.lock().unwrap_or_else(PoisonError::into_inner) = child.stdin.take();
    Ok(Warden(child))
}

impl Warden {
    /// Has it remove the folder now, or leave it where somebody will look into it.
    pub fn end(mut self, keep: bool) -> Result<()> {
        if keep {
            tell(KEEP)?;
        }
        drop(PIPE.get().map(|pipe| pipe.lock().unwrap_or_else(PoisonError::into_inner).take()));
        self.0.wait().map(drop).context("the process that clears up is gone")
    }
}

/// Has this child end with this process, if that was begun.
pub fn hold(child: &Child) -> Result<()> {
    tell(&child.id().to_string())
}

fn tell(line: &str) -> Result<()> {
    let Some(pipe) = PIPE.get() else { return Ok(()) };
    match pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        Some(pipe) => writeln!(pipe, "{line}").context("the process that clears up is gone"),
        None => Ok(()),
    }
}

/// The second process: learns of children until the pipe ends, then kills those that live and removes the folder.
pub fn watch(folder: &Path, input: impl BufRead) -> Result<()> {
    let (mut held, mut keep) = (Vec::new(), false);
    for line in input.lines().map_while(|line| line.ok()) {
        if line == KEEP {
            keep = true;
            continue;
        }
        let pid = Pid::from_raw(line.trim().parse()?).context("no process has this id")?;
        // One that has ended already needs nothing.
        held.extend(pidfd_open(pid, PidfdFlags::empty()));
    }
    for process in &held {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    drop(held);
    if keep {
        return Ok(());
    }
    // Whoever dies may still write: a few more tries remove what came behind the first.
    for _ in 0..50 {
        if !folder.exists() {
            return Ok(());
        }
        let _ = std::fs::remove_dir_all(folder);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_ends_with_the_pipe_and_the_folder_goes_unless_it_is_to_be_kept() {
        let folder = std::env::temp_dir().join(format!("moldau-warden-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let mut sleeper = Command::new("sleep").arg("600").spawn().expect("there is sleep");
        let lines = format!("{}\n{KEEP}\n", sleeper.id());
        watch(&folder, lines.as_bytes()).expect("it is a process");
        assert!(!sleeper.wait().expect("it is a child").success());
        assert!(folder.exists());
        watch(&folder, &b""[..]).expect("nothing is held");
        assert!(!folder.exists());
    }
}
