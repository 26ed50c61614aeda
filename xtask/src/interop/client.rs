//! One client family under test: its program, kept running, and one case of it at a time.

use super::families::Launch;
use super::kcat::Kcat;
use super::process::{Line, Process};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Everything was as it must be.
    #[serde(rename = "ok")]
    Ok,
    /// Something was not.
    #[serde(rename = "FAIL")]
    Fail,
    /// The client has no such feature, or fails on a real Kafka too.
    #[serde(rename = "n/a")]
    Absent,
    /// The machine lacks what the client needs.
    #[serde(rename = "skipped")]
    Skipped,
}

/// A verdict and why.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen, in a line.
    pub detail: String,
    /// How long it took.
    pub ms: u64,
    /// The client's last words, when it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
}

impl Outcome {
    /// An outcome without last words.
    pub fn new(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { verdict, detail: detail.into(), ms: 0, tail: Vec::new() }
    }

    /// A failure.
    pub fn fail(detail: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, detail)
    }

    /// Whether the case went well.
    pub fn is_ok(&self) -> bool {
        self.verdict == Verdict::Ok
    }

    /// The same outcome with the time since `began`.
    pub fn since(mut self, began: Instant) -> Self {
        self.ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self
    }
}

/// How a family is driven.
pub enum Driver {
    /// A program of ours in `interop/`.
    Program(Launch, Mutex<Option<Process>>),
    /// kcat, which has its own command line.
    Kcat(Kcat),
    /// The machine lacks something.
    Missing(String),
}

/// A client family.
pub struct Client {
    /// Its name in tables and on the command line.
    pub name: &'static str,
    /// How it is driven.
    pub driver: Driver,
}

#[derive(Deserialize)]
struct Answer {
    ok: Option<bool>,
    detail: String,
}

impl Client {
    /// Why the family is skipped, if it is.
    pub fn missing(&self) -> Option<&str> {
        match &self.driver {
            Driver::Missing(why) => Some(why),
            _ => None,
        }
    }

    /// Runs one case of the client's program, within `patience` from when the program is free.
    pub fn ask(&self, bootstrap: &str, case: &str, args: &str, patience: Duration) -> Outcome {
        let (launch, slot) = match &self.driver {
            Driver::Missing(why) => return Outcome::new(Verdict::Skipped, why.as_str()),
            Driver::Kcat(kcat) => {
                let began = Instant::now();
                return kcat.ask(bootstrap, case, args, patience).since(began);
            }
            Driver::Program(launch, slot) => (launch, slot),
        };
        let Ok(mut slot) = slot.lock() else { return Outcome::fail("the runner failed in another thread") };
        let began = Instant::now();
        let outcome = Self::converse(launch, &mut slot, bootstrap, case, args, patience);
        outcome.since(began)
    }

    fn converse(
        launch: &Launch,
        slot: &mut Option<Process>,
        bootstrap: &str,
        case: &str,
        args: &str,
        patience: Duration,
    ) -> Outcome {
        let mut process = match slot.take() {
            Some(process) => process,
            None => match Process::spawn(launch.command(bootstrap, "serve")) {
                Ok(process) => process,
                Err(why) => return Outcome::fail(format!("{why:#}")),
            },
        };
        process.remember(&format!("> {case} {args}"));
        if let Err(why) = process.write(&format!("{case} {args}")) {
            return Outcome { tail: process.tail(), ..Outcome::fail(format!("the client is gone: {why:#}")) };
        }
        let deadline = Instant::now() + patience;
        loop {
            let line = match process.line(deadline) {
                Line::Text(line) => line,
                Line::Late => {
                    let detail = format!("no end after {} s", patience.as_secs());
                    let tail = process.tail();
                    process.kill();
                    return Outcome { tail, ..Outcome::fail(detail) };
                }
                Line::Closed => {
                    return Outcome { tail: process.tail(), ..Outcome::fail("the client ended") };
                }
            };
            let Ok(answer) = serde_json::from_str::<Answer>(&line) else {
                process.remember(&line);
                continue;
            };
            let tail = if answer.ok == Some(false) { process.tail() } else { Vec::new() };
            *slot = Some(process);
            let verdict = match answer.ok {
                Some(true) => Verdict::Ok,
                Some(false) => Verdict::Fail,
                None => Verdict::Absent,
            };
            return Outcome { verdict, detail: answer.detail, ms: 0, tail };
        }
    }

    /// Lets the client's program go.
    pub fn leave(&self) {
        if let Driver::Program(_, slot) = &self.driver
            && let Ok(mut slot) = slot.lock()
        {
            *slot = None;
        }
    }
}
