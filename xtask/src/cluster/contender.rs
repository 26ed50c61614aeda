//! Three nodes of this project or of a real Kafka, to be measured side by side.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::ground::Ground;
use super::{Cluster, Program};
use crate::kafka::Kafka;

/// Whose nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This project's.
    Moldau,
    /// Apache Kafka's.
    Kafka,
}

impl Which {
    /// Its name on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Moldau => "moldau",
            Self::Kafka => "kafka",
        }
    }
}

/// The nodes of a side.
pub struct Nodes {
    /// Whose.
    pub which: Which,
    /// The nodes.
    pub cluster: Cluster,
}

impl Nodes {
    /// Three nodes of the binary, with these settings beside the usual ones.
    pub fn moldau(bin: &Path, folder: &Path, settings: &[&str]) -> Result<Self> {
        let folder = folder.join("moldau");
        std::fs::create_dir_all(&folder)?;
        let mut cluster =
            Cluster::new(Program::Moldau(bin.to_owned()), &folder, Ground::loopback()?, settings);
        cluster.start_all()?;
        Ok(Self { which: Which::Moldau, cluster })
    }

    /// Three nodes of a Kafka, the same.
    pub fn kafka(kafka: Kafka, folder: &Path, settings: &[&str]) -> Result<Self> {
        let folder = folder.join("kafka");
        std::fs::create_dir_all(&folder)?;
        let mut cluster = Cluster::new(Program::Kafka(kafka), &folder, Ground::loopback()?, settings);
        cluster.start_all()?;
        Ok(Self { which: Which::Kafka, cluster })
    }
}

/// When, where, of what: for the head of a page.
pub fn machine() -> String {
    let say = |program: &str, words: &[&str]| {
        let out = Command::new(program).args(words).output().ok().filter(|out| out.status.success());
        out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} UTC, commit {}, Linux {}, {cores} cores, load before {}",
        say("date", &["-u", "+%Y-%m-%d %H:%M"]),
        say("git", &["rev-parse", "--short", "HEAD"]),
        say("uname", &["-r"]),
        load.split(' ').next().unwrap_or("unknown")
    )
}
