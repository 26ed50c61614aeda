//! Facts of the machine, which belong beside every figure.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::process;

/// What must be known of the machine to read a figure.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Name of the processors.
    pub processor: String,
    /// How many there are.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Device, type and options of the file system that the data lie on.
    pub file_system: String,
    /// Commit of the checkout, with `+` when files differ from it.
    pub commit: String,
    /// Runnable processes on average over the last minute, before the run.
    pub load: f64,
}

impl Machine {
    /// Looks around; `dir` is where the data will lie. What cannot be found out is "unknown".
    pub fn look(dir: &Path) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Machine {
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            processor: known(name.map_or("", |(_, name)| name)),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: process::kib_of(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0),
            file_system: known(&file_system(&read("/proc/mounts"), dir)),
            commit: known(&commit()),
            load: read("/proc/loadavg").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
        }
    }

    /// Two lines.
    pub fn lines(&self) -> String {
        let gib = self.memory as f64 / (1u64 << 30) as f64;
        format!(
            "Linux {}, {} × {}, {gib:.0} GiB, commit {},\n{}",
            self.kernel, self.cores, self.processor, self.commit, self.file_system
        )
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "kernel": self.kernel, "processor": self.processor, "cores": self.cores, "memory_bytes": self.memory,
            "file_system": self.file_system, "commit": self.commit, "load_before": self.load,
        })
    }
}

fn known(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

/// The mount with the longest path that holds `dir`.
fn file_system(mounts: &str, dir: &Path) -> String {
    let mut best = (0, String::new());
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [device, at, kind, options, ..] = words[..] else { continue };
        if dir.starts_with(at) && at.len() > best.0 {
            best = (at.len(), format!("{kind} ({options}) on {device}"));
        }
    }
    best.1
}

fn commit() -> String {
    let git = |args: &[&str]| Command::new("git").args(args).output().ok().filter(|out| out.status.success());
    let Some(head) = git(&["rev-parse", "--short", "HEAD"]) else { return String::new() };
    let mut commit = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    if git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|out| !out.stdout.is_empty()) {
        commit.push('+');
    }
    commit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_holds_the_data() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw,noatime 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/data/x")), "xfs (rw,noatime) on /dev/b");
        assert_eq!(file_system(mounts, Path::new("/database")), "ext4 (rw) on /dev/a");
    }
}
