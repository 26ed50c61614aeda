//! The figures of one run, as they are kept in JSON: samples with all that is needed to judge them later.
//!
//! A [`Leg`] is one thing that was measured, in one unit, on several sides (`moldau`, `kafka`, `floor`), several times
//! each. Less is better in every leg. Pages and comparisons are made from this alone.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::calls::Calls;
use crate::machine::Machine;
use crate::process::Split;
use crate::pump::Tally;
use crate::stats::{self, Interval};

/// The broker that is measured.
pub const MOLDAU: &str = "moldau";
/// The broker beside it.
pub const KAFKA: &str = "kafka";
/// The program that does only what cannot be avoided.
pub const FLOOR: &str = "floor";

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Name of the page.
    pub name: String,
    /// The command that made it.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// The programs, and how they were started.
    pub programs: Vec<Program>,
    /// Sentences on how it was done.
    pub method: Vec<String>,
    /// What was measured.
    pub legs: Vec<Leg>,
    /// Counted system calls.
    pub calls: Vec<Calls>,
    /// What could not be measured, and why.
    #[serde(default)]
    pub failures: Vec<String>,
    /// What speaks against the figures.
    pub doubts: Vec<String>,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

/// A program that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Its side.
    pub side: String,
    /// Its version.
    pub version: String,
    /// How it was started.
    pub started: String,
}

/// One thing that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leg {
    /// Its name; the first word is what `--only` takes.
    pub name: String,
    /// What is done.
    pub what: String,
    /// Unit of the values.
    pub unit: String,
    /// What Moldau should reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The samples of each side, in the order of the pairs.
    pub samples: BTreeMap<String, Vec<Sample>>,
}

/// What Moldau should reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// At most this part of Kafka's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_kafka: Option<f64>,
    /// At most this, in the leg's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// In the unit of the leg.
    pub value: f64,
    /// What was done meanwhile, where load was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Done>,
}

/// What was done while a sample was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// 10⁶ bytes of payload a second.
    pub mb_per_s: f64,
    /// Requests a second.
    pub requests_per_s: f64,
    /// Records a second.
    pub records_per_s: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Bytes of payload.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Who used the processors.
    pub cpu: Split,
}

/// How a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Even the bad end of the interval meets it.
    Met,
    /// The median meets it and the bad end of the interval does not.
    Open,
    /// Not even the median meets it.
    Missed,
}

impl Sample {
    /// A value without load.
    pub fn of(value: f64) -> Sample {
        Sample { value, load: None }
    }

    /// A value and what was done for it.
    pub fn loaded(value: f64, tally: &Tally, cpu: Split) -> Sample {
        let seconds = tally.elapsed.as_secs_f64();
        let load = Done {
            mb_per_s: tally.bytes as f64 / 1e6 / seconds,
            requests_per_s: tally.requests as f64 / seconds,
            records_per_s: tally.records as f64 / seconds,
            p50_us: tally.micros(0.5),
            p99_us: tally.micros(0.99),
            bytes: tally.bytes,
            seconds,
            cpu,
        };
        Sample { value, load: Some(load) }
    }
}

impl Leg {
    /// A leg without samples.
    pub fn new(name: &str, what: &str, unit: &str, target: Option<Target>) -> Leg {
        let (name, what, unit) = (name.to_owned(), what.to_owned(), unit.to_owned());
        Leg { name, what, unit, target, samples: BTreeMap::new() }
    }

    /// Adds a sample.
    pub fn add(&mut self, side: &str, sample: Sample) {
        self.samples.entry(side.to_owned()).or_default().push(sample);
    }

    /// The values of a side; none where it was not measured.
    pub fn values(&self, side: &str) -> Vec<f64> {
        self.samples.get(side).into_iter().flatten().map(|sample| sample.value).collect()
    }

    /// The median of something of a side's load.
    pub fn load(&self, side: &str, of: impl Fn(&Done) -> f64) -> Option<f64> {
        let samples = self.samples.get(side)?;
        let values: Vec<f64> = samples.iter().filter_map(|sample| sample.load.as_ref().map(&of)).collect();
        (!values.is_empty()).then(|| stats::median(&values))
    }

    /// What a side has, beside another, pair by pair.
    pub fn ratio(&self, above: &str, below: &str) -> Option<Interval> {
        let (above, below) = (self.values(above), self.values(below));
        (!above.is_empty() && !below.is_empty()).then(|| stats::of_pairs(&above, &below))
    }

    /// How the target stands; nothing where there is none, or nothing to compare with.
    pub fn verdict(&self) -> Option<Verdict> {
        let target = self.target?;
        let own = self.values(MOLDAU);
        let ratio = self.ratio(MOLDAU, KAFKA).zip(target.of_kafka).map(|(found, most)| judge(found, most));
        let most = target.at_most.filter(|_| !own.is_empty()).map(|most| judge(stats::of(&own), most));
        match (ratio, most) {
            (Some(Verdict::Missed), _) | (_, Some(Verdict::Missed)) => Some(Verdict::Missed),
            (Some(Verdict::Open), _) | (_, Some(Verdict::Open)) => Some(Verdict::Open),
            (None, None) => None,
            _ => Some(Verdict::Met),
        }
    }
}

fn judge(found: Interval, most: f64) -> Verdict {
    match found {
        Interval { high, .. } if high <= most => Verdict::Met,
        Interval { median, .. } if median <= most => Verdict::Open,
        _ => Verdict::Missed,
    }
}

impl Results {
    /// Reads what [`Results::write`] wrote.
    pub fn read(path: &Path) -> Result<Results> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} holds no results", path.display()))
    }

    /// Writes `NAME.json` and the page `NAME.md` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        std::fs::write(dir.join(format!("{}.json", self.name)), json)?;
        std::fs::write(dir.join(format!("{}.md", self.name)), crate::page::page(self))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(moldau: [f64; 3], kafka: [f64; 3], target: Target) -> Leg {
        let mut leg = Leg::new("W1", "produce", "s/GB", Some(target));
        for (side, values) in [(MOLDAU, moldau), (KAFKA, kafka)] {
            for value in values {
                leg.add(side, Sample::of(value));
            }
        }
        leg
    }

    #[test]
    fn a_target_is_met_only_by_the_bad_end_of_the_interval() {
        let quarter = Target { of_kafka: Some(0.25), at_most: None };
        let verdict = |moldau| leg(moldau, [4.0; 3], quarter).verdict();
        assert_eq!(verdict([0.8, 0.9, 0.9]), Some(Verdict::Met));
        assert_eq!(verdict([0.8, 0.9, 1.2]), Some(Verdict::Open));
        assert_eq!(verdict([0.8, 1.1, 1.2]), Some(Verdict::Missed));
    }

    #[test]
    fn both_parts_of_a_target_must_hold_and_what_was_not_measured_says_nothing() {
        let both = Target { of_kafka: Some(0.5), at_most: Some(1.0) };
        assert_eq!(leg([0.9; 3], [4.0; 3], both).verdict(), Some(Verdict::Met));
        assert_eq!(leg([1.1; 3], [4.0; 3], both).verdict(), Some(Verdict::Missed));
        let mut alone = leg([0.9; 3], [4.0; 3], Target { of_kafka: Some(0.5), at_most: None });
        alone.samples.remove(KAFKA);
        assert_eq!(alone.verdict(), None);
    }
}
