//! Small questions to a broker, its answers held against those of a real Kafka (`interop/probes`).
//!
//! `interop/kafka-probes.json` keeps the answers of a real Kafka, and beside them those of ours that differ on purpose, with
//! the reason. Any other difference is a failure.

use super::client::{Outcome, Verdict};
use super::families::{compile_java, small_jvm};
use super::process::{self, Said};
use crate::kafka::{self, Kafka};
use crate::toolbox;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The column of the probes.
pub const PROBES: &str = "probes";

/// How long all questions together may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// An answer of ours that differs on purpose.
#[derive(Debug, Serialize, Deserialize)]
struct Intended {
    answer: String,
    why: String,
}

/// `interop/kafka-probes.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    kafka: String,
    answers: BTreeMap<String, String>,
    #[serde(default)]
    intended: BTreeMap<String, Intended>,
}

#[derive(Deserialize)]
struct Line {
    probe: String,
    answer: String,
}

fn path() -> PathBuf {
    crate::root().join("interop/kafka-probes.json")
}

/// Asks a real Kafka and keeps its answers.
pub fn record(bootstrap: &str, tag: &str, lag: Duration) -> Result<()> {
    let mut known = load()?;
    known.kafka = kafka::VERSION.into();
    known.answers = ask(bootstrap, tag, lag)?;
    fs::write(path(), serde_json::to_string_pretty(&known)? + "\n").context("cannot write the answers")
}

fn load() -> Result<Known> {
    match fs::read_to_string(path()) {
        Ok(text) => serde_json::from_str(&text).context("interop/kafka-probes.json is damaged"),
        Err(_) => Ok(Known::default()),
    }
}

/// Asks the broker; one outcome says how many answers agree and names those that do not.
pub fn run(bootstrap: &str, tag: &str, lag: Duration) -> Result<Outcome> {
    let began = Instant::now();
    let known = load()?;
    let answers = match ask(bootstrap, tag, lag) {
        Ok(answers) => answers,
        Err(why) if why.is::<toolbox::Missing>() => {
            return Ok(Outcome::new(Verdict::Skipped, toolbox::missing(why)?));
        }
        Err(why) => return Ok(Outcome::fail(format!("{why:#}"))),
    };
    let mut wrong = Vec::new();
    let mut intended = 0;
    let names = known.answers.keys().chain(answers.keys().filter(|a| !known.answers.contains_key(*a)));
    for name in names {
        let (theirs, ours) = (known.answers.get(name), answers.get(name));
        if theirs == ours {
            continue;
        }
        let show = |answer: Option<&String>| answer.map_or("nothing", |a| a.as_str()).to_string();
        match known.intended.get(name) {
            Some(meant) if meant.answer == show(ours) => intended += 1,
            _ => wrong.push(format!("{name}: {}, not {}", show(ours), show(theirs))),
        }
    }
    let same = answers.len().saturating_sub(intended + wrong.len());
    let detail =
        format!("{same} answers as Kafka's, {intended} differ on purpose, {} otherwise", wrong.len());
    let verdict = if wrong.is_empty() { Verdict::Ok } else { Verdict::Fail };
    Ok(Outcome { tail: wrong, ..Outcome::new(verdict, detail) }.since(began))
}

fn ask(bootstrap: &str, tag: &str, lag: Duration) -> Result<BTreeMap<String, String>> {
    toolbox::need(&["java", "javac"])?;
    let kafka = Kafka::obtain()?;
    let classes = compile_java("probes", &toolbox::dir("java/probes")?, &kafka.class_path())?;
    let mut command = Command::new("java");
    command.args(small_jvm()).arg(kafka.tools_logging());
    command.args(["-cp", &format!("{}:{}", classes.display(), kafka.class_path()), "Probes"]);
    command.args([bootstrap, &format!("{tag}-probes"), &lag.as_millis().to_string()]);
    let Said { status, out, err } = process::run(command, b"", PATIENCE)?;
    let mut answers = BTreeMap::new();
    for line in String::from_utf8_lossy(&out).lines() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("cannot read `{line}`"))?;
        answers.insert(line.probe, line.answer);
    }
    match status {
        Some(status) if status.success() => Ok(answers),
        Some(status) => bail!("the probes ended with {status}\n{}", toolbox::last_lines(&err, 10)),
        None => bail!("{} answers, and no end after {} s", answers.len(), PATIENCE.as_secs()),
    }
}
