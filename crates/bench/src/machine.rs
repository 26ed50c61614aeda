//! Facts of the machine, which belong beside every figure.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::process;

/// What must be known of the machine to read a figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Name of the processors.
    pub processor: String,
    /// How many there are.
    pub cores: usize,
    /// What decides on their frequency; "unknown" where the machine does not show it, as virtual machines do.
    pub governor: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Device, type and options of the file system that the data lie on.
    pub file_system: String,
    /// How requests to its device are put in order.
    pub scheduler: String,
    /// When the kernel begins to write back, and when it makes writers wait: percent of memory.
    pub dirty: String,
    /// Congestion control of TCP connections; BBR paces what is sent, on the loopback interface too.
    #[serde(default)]
    pub congestion: String,
    /// Commit of the checkout, with `+` when files differ from it.
    pub commit: String,
    /// Runnable processes on average over the last minute, before the run.
    pub load_before: f64,
    /// When the run began, UTC.
    pub date: String,
}

impl Machine {
    /// Looks around; `dir` is where the data will lie. What cannot be found out is "unknown".
    pub fn look(dir: &Path) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let (device, file_system) = file_system(&read("/proc/mounts"), dir);
        let device = device.rsplit('/').next().unwrap_or_default();
        let vm = |name: &str| read(&format!("/proc/sys/vm/{name}")).trim().to_owned();
        Machine {
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            processor: known(name.map_or("", |(_, name)| name)),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            governor: known(read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim()),
            memory_bytes: process::kib_of(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0),
            file_system: known(&file_system),
            scheduler: known(read(&format!("/sys/block/{device}/queue/scheduler")).trim()),
            dirty: format!("{}/{} %", vm("dirty_background_ratio"), vm("dirty_ratio")),
            congestion: known(read("/proc/sys/net/ipv4/tcp_congestion_control").trim()),
            commit: known(&commit()),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(0.0),
            date: known(&said("date", &["-u", "+%Y-%m-%d %H:%M"]).unwrap_or_default()),
        }
    }

    /// Two lines.
    pub fn lines(&self) -> String {
        let gib = self.memory_bytes as f64 / (1u64 << 30) as f64;
        format!(
            "{} UTC, commit {}, Linux {}, {} × {} (governor {}),\n{gib:.0} GiB, {}, scheduler {}, dirty {}, TCP {}, load before {:.2}",
            self.date,
            self.commit,
            self.kernel,
            self.cores,
            self.processor,
            self.governor,
            self.file_system,
            self.scheduler,
            self.dirty,
            self.congestion,
            self.load_before
        )
    }

    /// Whether figures of the other machine can be set beside those of this one.
    pub fn is_like(&self, other: &Machine) -> bool {
        let facts = |machine: &Machine| {
            (machine.kernel.clone(), machine.processor.clone(), machine.cores, machine.memory_bytes >> 30)
        };
        facts(self) == facts(other)
    }
}

/// Uses all free memory once and gives it back. A virtual machine may have to get a page from its host at the first touch, which
/// costs ten times what a page costs otherwise, and would be charged to whoever appends next. What others take meanwhile is left to them,
/// and so is what lies beyond the limit of a container.
pub fn touch_free_memory() {
    const SPARE: u64 = 1 << 30;
    const PART: usize = 256 << 20;
    let mut touched: Vec<Vec<u8>> = Vec::new();
    while free_memory() > SPARE + PART as u64 {
        touched.push(std::hint::black_box(vec![1; PART]));
    }
}

/// Bytes that nobody uses, and that this process may use.
fn free_memory() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let bytes = |path: &str| read(path).trim().parse::<u64>().ok();
    let free = process::kib_of(&read("/proc/meminfo"), "MemFree:").unwrap_or(0);
    // The limits of a container, by the names of both versions of control groups.
    let groups =
        [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")];
    let within = groups.into_iter().filter_map(|(limit, used)| {
        let of = |name: &str| bytes(&format!("/sys/fs/cgroup/{name}"));
        Some(of(limit)?.saturating_sub(of(used)?))
    });
    within.fold(free, u64::min)
}

fn known(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

/// The mount with the longest path that holds `dir`: its device, and all that is known of it.
fn file_system(mounts: &str, dir: &Path) -> (String, String) {
    let mut best = (0, String::new(), String::new());
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [device, at, kind, options, ..] = words[..] else { continue };
        if dir.starts_with(at) && at.len() > best.0 {
            best = (at.len(), device.to_owned(), format!("{kind} ({options}) on {device}"));
        }
    }
    (best.1, best.2)
}

/// What a program says on its standard output; nothing when it fails.
pub(crate) fn said(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn commit() -> String {
    let Some(mut commit) = said("git", &["rev-parse", "--short", "HEAD"]) else { return String::new() };
    if said("git", &["status", "--porcelain", "--untracked-files=no"]).is_some_and(|out| !out.is_empty()) {
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
        assert_eq!(file_system(mounts, Path::new("/data/x")).1, "xfs (rw,noatime) on /dev/b");
        assert_eq!(file_system(mounts, Path::new("/database")).1, "ext4 (rw) on /dev/a");
    }
}
