//! What of a seed's run happens: all of it, or what the shrinker has left. A schedule is written as options of the command line, so
//! that a shrunk run is replayed by the command that its report prints.

use std::collections::BTreeSet;
use std::fmt;

use moldau_base::Mono;

use crate::weather::Weather;

/// The part of a seed's run that happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The faults that happen, by their places in the seed's list; all of them when nothing is said.
    pub faults: Option<Vec<usize>>,
    /// Clients that do not begin, in the order in which the workload starts them.
    pub without: BTreeSet<usize>,
    /// What is as simple as it can be.
    pub calm: BTreeSet<Calm>,
    /// The trouble ends early.
    pub trouble_ms: Option<u64>,
    /// Another course of the same events: with less in it a run goes elsewhere, and the shrinker tries some.
    pub course: u64,
}

/// A condition of a run that can be made simple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calm {
    /// One shard.
    Shards,
    /// One log directory.
    Dirs,
    /// A network without surprises.
    Network,
    /// A fast disk.
    Disk,
    /// No power loss at the end.
    End,
}

impl Calm {
    /// All of them.
    pub const ALL: [Calm; 5] = [Calm::Shards, Calm::Dirs, Calm::Network, Calm::Disk, Calm::End];

    fn name(self) -> &'static str {
        match self {
            Calm::Shards => "shards",
            Calm::Dirs => "dirs",
            Calm::Network => "network",
            Calm::Disk => "disk",
            Calm::End => "end",
        }
    }
}

impl Schedule {
    /// Leaves out of a seed's weather what does not happen.
    pub fn apply(&self, weather: &mut Weather) {
        if let Some(kept) = &self.faults {
            weather.faults = kept.iter().filter_map(|place| weather.faults.get(*place).copied()).collect();
        }
        if let Some(ms) = self.trouble_ms {
            weather.trouble = weather.trouble.min(Mono(ms.saturating_mul(1_000_000)));
        }
        for calm in &self.calm {
            match calm {
                Calm::Shards => weather.shards = 1,
                Calm::Dirs => weather.log_dirs = 1,
                Calm::Network => (weather.network.jitter, weather.network.slow_one_in) = (1, 0),
                Calm::Disk => (weather.disk_wait, weather.sync) = (0, 1),
                Calm::End => weather.dark_end = false,
            }
        }
    }

    /// Takes an option of the command line; false when it is none of a schedule's.
    pub fn take(&mut self, option: &str, value: &str) -> Result<bool, String> {
        match option {
            "--faults" => self.faults = Some(numbers(value)?),
            "--without" => self.without = numbers(value)?.into_iter().collect(),
            "--calm" => {
                let known = |name: &str| Calm::ALL.into_iter().find(|calm| calm.name() == name);
                let calm = |name| known(name).ok_or(format!("--calm {name}: not one of {}", list(Calm::ALL)));
                self.calm = value.split(',').map(calm).collect::<Result<_, String>>()?;
            }
            "--trouble-ms" => self.trouble_ms = Some(number(value)?),
            "--course" => self.course = number(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value}: not a number"))
}

fn numbers(value: &str) -> Result<Vec<usize>, String> {
    if value == "none" { Ok(Vec::new()) } else { value.split(',').map(number).collect() }
}

fn list<T: fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(",") }
}

impl fmt::Display for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// As options of the command line, each after a space; nothing for a whole run.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(faults) = &self.faults {
            write!(f, " --faults {}", list(faults))?;
        }
        if !self.without.is_empty() {
            write!(f, " --without {}", list(&self.without))?;
        }
        if !self.calm.is_empty() {
            write!(f, " --calm {}", list(&self.calm))?;
        }
        if let Some(ms) = self.trouble_ms {
            write!(f, " --trouble-ms {ms}")?;
        }
        if self.course != 0 {
            write!(f, " --course {}", self.course)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_read() {
        let schedule = Schedule {
            faults: Some(vec![0, 3]),
            without: BTreeSet::from([2, 5]),
            calm: BTreeSet::from([Calm::Network, Calm::Shards]),
            trouble_ms: Some(1500),
            course: 7,
        };
        for schedule in [schedule, Schedule { faults: Some(vec![]), ..Schedule::default() }] {
            let printed = schedule.to_string();
            let words: Vec<&str> = printed.split_whitespace().collect();
            let mut read = Schedule::default();
            for pair in words.chunks(2) {
                assert_eq!(read.take(pair[0], pair[1]), Ok(true));
            }
            assert_eq!(read, schedule);
        }
        assert_eq!(Schedule::default().to_string(), "");
        assert!(Schedule::default().take("--calm", "sea").is_err());
        assert!(Schedule::default().take("--faults", "1,x").is_err());
        assert_eq!(Schedule::default().take("--seeds", "3"), Ok(false));
    }
}
