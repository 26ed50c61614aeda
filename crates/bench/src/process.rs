//! What a process has used: processor time and memory, read from /proc.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Processor seconds, user and system, of all threads that the process has or had. In steps of one clock tick (10 ms).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticks = ticks_of(&text).with_context(|| format!("{path} has no times"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The two times are the 14th and 15th word; the 2nd is the name in parentheses and may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut words = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = words.next()?.parse().ok()?;
    let system: u64 = words.next()?.parse().ok()?;
    Some(user + system)
}

/// Bytes in memory now (`VmRSS`), and the most there were (`VmHWM`).
pub fn resident(pid: u32) -> Result<(u64, u64)> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name: &str| kib_of(&text, name).with_context(|| format!("{path} has no {name}"));
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// A line `NAME  NUMBER kB`, in bytes.
pub(crate) fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Processor seconds that the whole machine was not idle, and those that its host took away.
pub fn machine_seconds() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let (busy, stolen) = busy_of(&text).context("/proc/stat has no line of all processors")?;
    let tick = rustix::param::clock_ticks_per_second() as f64;
    Ok((busy as f64 / tick, stolen as f64 / tick))
}

/// user, nice, system, (idle, iowait,) irq, softirq; then steal.
fn busy_of(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let at = |place: usize| ticks.get(place).copied();
    Some((at(0)? + at(1)? + at(2)? + at(5)? + at(6)?, at(7)?))
}

/// Processor seconds of the kernel's own threads: write-back to disk, above all, which is charged to no process.
fn kernel_seconds() -> Result<f64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        // What ends meanwhile is no kernel thread of interest.
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if parent_of(&text) == Some(KTHREADD) {
            ticks += ticks_of(&text).unwrap_or(0);
        }
    }
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The parent of all kernel threads.
const KTHREADD: u32 = 2;

/// The 4th word.
fn parent_of(stat: &str) -> Option<u32> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Who used the processors while something ran, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Split {
    /// The measured process.
    pub serving: f64,
    /// This process, the load generator.
    pub generator: f64,
    /// The kernel's own threads.
    pub kernel: f64,
    /// Everything else.
    pub others: f64,
    /// Taken by the host of this virtual machine.
    pub stolen: f64,
    /// How long it ran, the writing back at its end included.
    pub window: f64,
}

impl Split {
    /// The part of all processors that somebody used who has nothing to do with it.
    pub fn disturbed(&self, cores: usize) -> f64 {
        (self.others + self.stolen) / (self.window * cores.max(1) as f64)
    }
}

/// Runs `work` and says what the process `pid` used meanwhile.
pub fn measure<T>(pid: u32, work: impl FnOnce() -> Result<T>) -> Result<(T, Split)> {
    let all = || -> Result<_> {
        let (own, generator) = (cpu_seconds(pid)?, cpu_seconds(std::process::id())?);
        Ok((own, generator, kernel_seconds()?, machine_seconds()?))
    };
    let began = Instant::now();
    let (serving, generator, kernel, (busy, stolen)) = all()?;
    let done = work()?;
    let (serving_end, generator_end, kernel_end, (busy_end, stolen_end)) = all()?;
    let (serving, generator) = (serving_end - serving, generator_end - generator);
    let kernel = (kernel_end - kernel).max(0.0);
    let own = if pid == std::process::id() { serving } else { serving + generator };
    let others = (busy_end - busy - own - kernel).max(0.0);
    let stolen = stolen_end - stolen;
    Ok((done, Split { serving, generator, kernel, others, stolen, window: began.elapsed().as_secs_f64() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_hides_nothing() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 3 0 100 0 0";
        assert_eq!(ticks_of(stat), Some(300));
        assert_eq!(parent_of(stat), Some(1));
        assert_eq!(ticks_of("7 a S"), None);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy_of("cpu  10 1 20 500 60 2 3 4 0 0\ncpu0 1\n"), Some((36, 4)));
    }

    #[test]
    fn a_disturbance_counts_against_all_processors() {
        let cpu = Split { serving: 1.0, others: 0.3, stolen: 0.1, window: 2.0, ..Split::default() };
        assert!((cpu.disturbed(2) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let (now, most) = resident(std::process::id()).unwrap();
        assert!(now > 0 && most >= now);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
