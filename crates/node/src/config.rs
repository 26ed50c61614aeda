//! The configuration of a node: `server.properties` with Kafka's keys, overridden by `MOLDAU_` variables and
//! `--set key=value`, read into a typed [`NodeConfig`]. Every problem is found before anything is opened, and
//! each names its place and the fix. What a key means is said in `moldau_base::config`, never here.

mod listeners;
mod machine;
mod settings;
mod typed;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

pub use listeners::{Endpoint, Listener};
pub use machine::Machine;
pub use settings::{Origin, Setting};
pub use typed::{GroupDefaults, Limits, LogDefaults, NodeConfig, TopicDefaults, Voter};

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is; none for what is missing.
    pub origin: Option<Origin>,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Everything that is wrong with the configuration, a line each. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Reads the configuration of this process: the file, if any, then the environment, then `sets`
/// (`key=value`). Without any of them it is a safe single node on 127.0.0.1:9092 in `./moldau-data`.
pub fn load(file: Option<&Path>, sets: &[String]) -> Result<NodeConfig, Problems> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut settings = match file {
        Some(path) => settings::from_file(path).map_err(|problem| Problems(vec![problem]))?,
        None => Vec::new(),
    };
    let mut problems = Vec::new();
    settings::from_environment(&environment, &mut settings, &mut problems);
    settings::from_command_line(sets, &mut settings, &mut problems);
    match build(&settings, &Machine::here()) {
        Ok(config) if problems.is_empty() => Ok(config),
        Ok(_) => Err(Problems(problems)),
        Err(Problems(more)) => {
            problems.extend(more);
            Err(Problems(problems))
        }
    }
}

/// The configuration that these settings make on this machine; a later setting of a key wins.
pub fn build(settings: &[Setting], machine: &Machine) -> Result<NodeConfig, Problems> {
    let mut builder = settings::Checked::default();
    for setting in settings {
        builder.take(setting);
    }
    typed::resolve(builder, machine)
}
