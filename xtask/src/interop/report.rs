//! What a run ends with: the table, the failures, and the record of what a real Kafka does in the same cases.

use super::client::{Outcome, Verdict};
use super::probes::PROBES;
use crate::kafka;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The column of the command-line tools.
pub const TOOLS: &str = "tools";

/// Outcomes by family and case.
pub type Outcomes = BTreeMap<String, BTreeMap<String, Outcome>>;

/// A real Kafka's verdict on one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// `ok` or `n/a`.
    pub verdict: Verdict,
    /// Why a case is n/a.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// `interop/kafka-verdicts.json`: what a real Kafka does, by family and case.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Verdicts {
    /// The version of the real Kafka.
    pub kafka: String,
    /// By family and case.
    pub clients: BTreeMap<String, BTreeMap<String, Recorded>>,
}

impl Verdicts {
    fn path() -> PathBuf {
        crate::root().join("interop/kafka-verdicts.json")
    }

    /// Reads the committed record.
    pub fn load() -> Result<Self> {
        let path = Self::path();
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display())),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Takes over what was just seen on a real Kafka; what fails there is n/a.
    pub fn record(&mut self, outcomes: &Outcomes) -> Result<()> {
        self.kafka = kafka::VERSION.into();
        for (client, cases) in outcomes {
            let known = self.clients.entry(client.clone()).or_default();
            for (case, outcome) in cases {
                let recorded = match outcome.verdict {
                    Verdict::Ok => Recorded { verdict: Verdict::Ok, note: String::new() },
                    Verdict::Skipped => continue,
                    Verdict::Absent => Recorded { verdict: Verdict::Absent, note: outcome.detail.clone() },
                    Verdict::Fail => Recorded {
                        verdict: Verdict::Absent,
                        note: format!("fails on Kafka: {}", outcome.detail),
                    },
                };
                known.insert(case.clone(), recorded);
            }
        }
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(Self::path(), text).context("cannot write the verdicts")
    }

    /// What a real Kafka says to this case.
    pub fn of(&self, client: &str, case: &str) -> Option<&Recorded> {
        self.clients.get(client)?.get(case)
    }
}

/// Turns a failure that a real Kafka has too into n/a.
pub fn excuse(outcomes: &mut Outcomes, verdicts: &Verdicts) {
    for (client, cases) in outcomes {
        for (case, outcome) in cases {
            let known = verdicts.of(client, case);
            if outcome.verdict == Verdict::Fail
                && let Some(known) = known.filter(|k| k.verdict == Verdict::Absent)
            {
                *outcome =
                    Outcome { verdict: Verdict::Absent, detail: known.note.clone(), ..outcome.clone() };
            }
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Fail => "FAIL",
        Verdict::Absent => "n/a",
        Verdict::Skipped => "skip",
    }
}

/// A cell: our verdict, and a real Kafka's beside it where it is known.
fn cell(outcome: Option<&Outcome>, known: Option<&Recorded>) -> String {
    let Some(outcome) = outcome else { return "-".into() };
    match known {
        Some(known) if outcome.verdict != Verdict::Skipped => {
            format!("{}/{}", word(outcome.verdict), word(known.verdict))
        }
        _ => word(outcome.verdict).into(),
    }
}

/// Prints client x case, readable at 100 columns.
pub fn table(outcomes: &Outcomes, clients: &[&str], cases: &[&str], verdicts: Option<&Verdicts>) {
    let columns: Vec<&str> = clients.iter().copied().filter(|c| outcomes.contains_key(*c)).collect();
    if columns.is_empty() {
        return;
    }
    for columns in columns.chunks(6) {
        print!("\n{:<12}", "");
        for column in columns {
            print!(" {column:>11}");
        }
        println!();
        for case in cases.iter().filter(|case| columns.iter().any(|c| outcomes[*c].contains_key(**case))) {
            print!("{case:<12}");
            for column in columns {
                let outcome = outcomes.get(*column).and_then(|o| o.get(*case));
                print!(" {:>11}", cell(outcome, verdicts.and_then(|v| v.of(column, case))));
            }
            println!();
        }
    }
}

/// Prints the tools and the probes, a line each.
pub fn tools_table(outcomes: &Outcomes, verdicts: Option<&Verdicts>) {
    let listed = [TOOLS, PROBES].into_iter().filter_map(|family| Some((family, outcomes.get(family)?)));
    for (tool, outcome, family) in listed.flat_map(|(f, tools)| tools.iter().map(move |(t, o)| (t, o, f))) {
        let verdict = cell(Some(outcome), verdicts.and_then(|v| v.of(family, tool)));
        let first = outcome.detail.lines().next().unwrap_or_default();
        println!("{tool:<34} {verdict:<9} {:>6} ms  {}", outcome.ms, clip(first, 45));
    }
}

fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    let mut short: String = text.chars().take(width - 3).collect();
    short.push_str("...");
    short
}

/// Prints each failure with the client's last words, each family that was skipped with the reason, and the sums.
/// Returns the number of failures.
pub fn summary(outcomes: &Outcomes) -> usize {
    let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
    for (client, cases) in outcomes {
        if let Some((_, skipped)) = cases.iter().find(|(_, o)| o.verdict == Verdict::Skipped) {
            println!("\nSKIPPED {client}: {}", skipped.detail);
        }
        for (case, outcome) in cases {
            *sums.entry(word(outcome.verdict)).or_default() += 1;
            if outcome.verdict == Verdict::Fail {
                println!("\nFAIL {client} {case}: {}", outcome.detail);
                for line in &outcome.tail {
                    println!("    {line}");
                }
            }
        }
    }
    let count = |word: &str| sums.get(word).copied().unwrap_or(0);
    let (ok, failed) = (count("ok"), count("FAIL"));
    println!("\ninterop: {ok} passed, {failed} failed, {} n/a, {} skipped", count("n/a"), count("skip"));
    failed
}

/// Writes everything as JSON.
pub fn write_json(path: &Path, against: &str, outcomes: &Outcomes) -> Result<()> {
    let whole = serde_json::json!({ "against": against, "outcomes": outcomes });
    fs::write(path, serde_json::to_string_pretty(&whole)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_on_kafka_too_is_no_failure() {
        let note = "has no such feature".to_string();
        let known = BTreeMap::from([("gzip".to_string(), Recorded { verdict: Verdict::Absent, note })]);
        let verdicts = Verdicts { kafka: "4.3".into(), clients: BTreeMap::from([("c".to_string(), known)]) };
        let failed = || Outcome::fail("no");
        let cases = BTreeMap::from([("gzip".to_string(), failed()), ("zstd".to_string(), failed())]);
        let mut outcomes = Outcomes::from([("c".to_string(), cases)]);
        excuse(&mut outcomes, &verdicts);
        assert_eq!(outcomes["c"]["gzip"].verdict, Verdict::Absent);
        assert_eq!(outcomes["c"]["zstd"].verdict, Verdict::Fail);
    }
}
