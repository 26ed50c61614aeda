//! The samples, and the page that is made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::loads::Figure;
use crate::cluster::contender::{Which, machine};
use crate::cluster::gaps::percentile;

/// What a row must not exceed.
enum Aim {
    /// Nothing: it is there to be seen.
    None,
    /// This part of what Kafka has.
    Part(f64),
    /// This much.
    Most(f64),
}

struct Row {
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    aim: Aim,
}

const fn row(name: &'static str, what: &'static str, unit: &'static str, aim: Aim) -> Row {
    Row { name, what, unit, aim }
}

const ROWS: [Row; 17] = [
    row(
        "W5",
        "produce 1 KiB records in 16 KiB batches, acks=all, all three nodes lead",
        "CPU s/GB",
        Aim::Part(0.3),
    ),
    row(
        "W6",
        "51 producers, 102 partitions, 100 B records in batches of 1.5 KB",
        "CPU s/M records",
        Aim::Part(0.2),
    ),
    row("W6 p99", "the same: from sending a request to its answer, closed loop", "µs", Aim::Part(0.25)),
    row("W7 1MB/s p50", "1,000 records of 1 KiB a second, acks=all: due to consumed", "µs", Aim::None),
    row("W7 1MB/s p99", "", "µs", Aim::Part(0.25)),
    row("W7 1MB/s p99.9", "", "µs", Aim::Part(0.2)),
    row("W7 1MB/s late", "the load generator's own delay in them, p99", "µs", Aim::None),
    row("W7 10MB/s p50", "1,000 batches of 10 KiB a second, acks=all: due to consumed", "µs", Aim::None),
    row("W7 10MB/s p99", "", "µs", Aim::Part(0.25)),
    row("W7 10MB/s p99.9", "", "µs", Aim::Part(0.2)),
    row("W7 10MB/s late", "the load generator's own delay in them, p99", "µs", Aim::None),
    row("W19 leader", "fetch 1 MiB of cached data from the leader", "CPU s/GB", Aim::None),
    row(
        "W19 follower",
        "the same from a follower in the consumer's zone (KIP-392)",
        "CPU s/GB",
        Aim::Part(0.5),
    ),
    row("W19 p99", "1,000 records a second: due to consumed at a follower, p99", "µs", Aim::Part(1.0 / 3.0)),
    row("W12 created", "10,000 partitions with three replicas, until all are in sync", "s", Aim::Part(0.1)),
    row("W12 each", "more resident on each node for each of them", "KiB", Aim::None),
    row("W12 idle", "processor time of a node with them, idle", "% of a core", Aim::Most(0.5)),
];

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report {
    /// When, where, of what.
    machine: String,
    has_kafka: bool,
    /// Samples by side and row.
    samples: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    /// What could not be measured.
    pub failures: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new(has_kafka: bool) -> Self {
        Self { machine: machine(), has_kafka, samples: BTreeMap::new(), failures: Vec::new() }
    }

    /// A leg was measured once.
    pub fn add(&mut self, side: Which, figures: Vec<Figure>) {
        for (name, value) in figures {
            eprintln!("    {name}: {value:.3}");
            let rows = self.samples.entry(side.name().to_owned()).or_default();
            rows.entry(name.to_owned()).or_default().push(value);
        }
    }

    /// A leg could not be measured.
    pub fn failed(&mut self, what: String) {
        eprintln!("    FAILED {what}");
        self.failures.push(what);
    }

    fn of(&self, side: Which, row: &Row) -> &[f64] {
        let rows = self.samples.get(side.name());
        rows.and_then(|rows| rows.get(row.name)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The page.
    pub fn page(&self) -> String {
        let mut page = format!(
            "# What replication costs\n\nWritten by `cargo xtask bench cluster`; the samples are in cluster.json.\n\nMachine: {}.\n\n{METHOD}\n\n",
            self.machine
        );
        page.push_str("| leg | what | unit | moldau | kafka | ratio | samples | target | |\n|---|---|---|---|---|---|---|---|---|\n");
        for row in &ROWS {
            let (own, theirs) = (self.of(Which::Moldau, row), self.of(Which::Kafka, row));
            if own.is_empty() && theirs.is_empty() {
                continue;
            }
            let ratios: Vec<f64> = own.iter().zip(theirs).map(|(own, theirs)| own / theirs).collect();
            let (aim, verdict) = judged(&row.aim, own, &ratios);
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} | {} | {aim} | {verdict} |",
                row.name,
                row.what,
                row.unit,
                median(own),
                median(theirs),
                spread(&ratios),
                own.len()
            );
        }
        if !self.failures.is_empty() {
            let _ = write!(page, "\n## Not measured\n\n- {}\n", self.failures.join("\n- "));
        }
        page
    }
}

const METHOD: &str = "\
Three nodes of each side on one machine and the loopback interface, replication factor 3, `min.insync.replicas=2`, all else as the brokers have it; the\n\
two clusters run at the same time, one has work and the other idles, there and back in turn. CPU is user and system time of the three nodes together\n\
with their parents. Given are medians, and of the ratios of neighbours the median with the smallest and the largest; a target is met when all samples\n\
meet it. The load is `moldau-bench blast`, the same bytes for both.";

fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

fn median(values: &[f64]) -> String {
    if values.is_empty() { "–".into() } else { number(percentile(values, 50.0)) }
}

fn spread(ratios: &[f64]) -> String {
    match ratios.len() {
        0 => "–".into(),
        1 => number(ratios[0]),
        _ => {
            let [low, middle, high] = [0.0, 50.0, 100.0].map(|p| number(percentile(ratios, p)));
            format!("{middle} ({low}–{high})")
        }
    }
}

/// The target, and whether the samples meet it.
fn judged(aim: &Aim, own: &[f64], ratios: &[f64]) -> (String, &'static str) {
    let (text, values, most) = match aim {
        Aim::None => return (String::new(), ""),
        Aim::Part(part) => (format!("≤ {} of kafka", number(*part)), ratios, *part),
        Aim::Most(most) => (format!("≤ {}", number(*most)), own, *most),
    };
    let verdict = match values {
        [] => "",
        values if values.iter().all(|value| *value <= most) => "met",
        values if percentile(values, 50.0) <= most => "open: some samples do",
        _ => "**missed**",
    };
    (text, verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_all_samples_or_open_or_missed() {
        let part = Aim::Part(0.3);
        assert_eq!(judged(&part, &[], &[0.1, 0.3]).1, "met");
        assert_eq!(judged(&part, &[], &[0.1, 0.2, 0.4]).1, "open: some samples do");
        assert_eq!(judged(&part, &[], &[0.4, 0.5, 0.1]).1, "**missed**");
        assert_eq!(judged(&Aim::Most(0.5), &[0.2], &[]), ("≤ 0.500".to_owned(), "met"));
        assert_eq!(judged(&Aim::None, &[1.0], &[1.0]).1, "");
    }

    #[test]
    fn every_row_has_its_place_on_the_page() {
        let mut report = Report::new(true);
        report.add(Which::Moldau, vec![("W5", 4.0), ("W12 idle", 0.1)]);
        report.add(Which::Kafka, vec![("W5", 20.0)]);
        let page = report.page();
        assert!(page.contains("| 4.00 | 20.00 | 0.200 | 1 | ≤ 0.300 of kafka | met |"), "{page}");
        assert!(page.contains("| 0.100 | – | – | 1 | ≤ 0.500 | met |"), "{page}");
        assert!(!page.contains("W19"));
    }
}
