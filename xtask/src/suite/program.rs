//! Programs that write to a log file and may not take longer than a limit.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// How the programs of a step ended.
pub enum End {
    Success,
    /// One ended with this status; those behind it did not run.
    Failure(ExitStatus),
    /// The step took longer than it may and was ended.
    Late(Duration),
}

/// How often a running program is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Runs `programs` one after the other; what they say goes to `log`.
pub fn run_all(programs: Vec<Command>, log: &Path, limit: Duration) -> Result<End> {
    let mut file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let deadline = Instant::now() + limit;
    for mut program in programs {
        writeln!(file, "$ {program:?}")?;
        program.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file.try_clone()?);
        let mut child = program.spawn().with_context(|| format!("cannot start {program:?}"))?;
        match wait_until(&mut child, deadline)? {
            None => return Ok(End::Late(limit)),
            Some(status) if !status.success() => return Ok(End::Failure(status)),
            Some(_) => {}
        }
    }
    Ok(End::Success)
}

/// The status of `child`; at the deadline it is ended with everything that it started, and there is none.
fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            end_family(child.id());
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(GLANCE);
    }
}

/// Kills `id` and its descendants, the parents first so that none is started anew.
fn end_family(id: u32) {
    let mut family = vec![id];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        if let Some(pid) = i32::try_from(parent).ok().and_then(Pid::from_raw) {
            let children = children_of(parent);
            // Already gone is as good.
            let _ = kill_process(pid, Signal::KILL);
            family.extend(children);
        }
        next += 1;
    }
}

/// The processes that all threads of `parent` started, as Linux lists them.
fn children_of(parent: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_ends_the_step_and_the_log_has_what_was_said() {
        let log = std::env::temp_dir().join(format!("xtask-program-{}.log", std::process::id()));
        let programs = vec![shell("echo one"), shell("echo two; exit 3"), shell("echo three")];
        let end = run_all(programs, &log, Duration::from_secs(60)).expect("sh is there");
        assert!(matches!(end, End::Failure(status) if status.code() == Some(3)));
        let text = fs::read_to_string(&log).expect("it was written");
        assert!(
            text.contains("\none\n") && text.contains("\ntwo\n") && !text.contains("\nthree\n"),
            "{text}"
        );
        let _ = fs::remove_file(log);
    }

    #[test]
    fn a_late_program_ends_with_its_children() {
        let log = std::env::temp_dir().join(format!("xtask-late-{}.log", std::process::id()));
        let script = "sleep 600 & echo $!; wait";
        // Long enough that the shell has told its child's number, whatever else the machine does.
        let end = run_all(vec![shell(script)], &log, Duration::from_secs(5)).expect("sh is there");
        assert!(matches!(end, End::Late(_)));
        let text = fs::read_to_string(&log).expect("it was written");
        let child: u32 = text.lines().last().and_then(|line| line.parse().ok()).expect("the child's number");
        let state = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let gone = |state: &str| state.is_empty() || state.contains(") Z ");
        // A signal is delivered when the kernel gets to it.
        let ended = (0..300).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            gone(&state())
        });
        assert!(ended, "{}", state());
        let _ = fs::remove_file(log);
    }
}
