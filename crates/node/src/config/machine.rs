//! What the machine gives: the defaults that depend on it.

/// What the defaults of a node depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// Bytes of memory this process may use.
    pub memory_bytes: u64,
    /// Name of the machine.
    pub hostname: String,
}

impl Machine {
    /// The machine, or the part of it that this process's control group allows.
    pub fn here() -> Machine {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let hostname = read("/proc/sys/kernel/hostname").trim().to_owned();
        Machine {
            cores,
            memory_bytes: memory_bytes(&read("/proc/meminfo"), &read("/sys/fs/cgroup/memory.max")),
            hostname: if hostname.is_empty() { "localhost".to_owned() } else { hostname },
        }
    }
}

/// The smaller of the machine's memory and the control group's; 1 GiB where neither is known.
fn memory_bytes(meminfo: &str, group_limit: &str) -> u64 {
    let total_kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    let machine = total_kib.map(|kib| kib.saturating_mul(1024));
    let group = group_limit.trim().parse::<u64>().ok();
    machine.into_iter().chain(group).min().unwrap_or(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::memory_bytes;

    #[test]
    fn the_smaller_limit_counts() {
        let meminfo = "MemTotal:       16384 kB\nMemFree: 5 kB\n";
        assert_eq!(memory_bytes(meminfo, "max\n"), 16 << 20);
        assert_eq!(memory_bytes(meminfo, "1048576\n"), 1 << 20);
        assert_eq!(memory_bytes("", ""), 1 << 30);
    }
}
