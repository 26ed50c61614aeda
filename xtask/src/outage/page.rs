//! The samples, and the page that is made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::CLIENTS;
use super::faults::{FAULTS, Fault};
use super::side::Size;
use crate::cluster::contender::{Which, machine};
use crate::cluster::gaps::{percentile, said};

/// What a sample belongs to.
pub struct Row {
    /// Whose nodes.
    pub side: Which,
    /// Partitions of the topic.
    pub size: Size,
    /// The name of the fault.
    pub fault: &'static str,
    /// The client.
    pub client: &'static str,
}

impl Row {
    fn key(&self) -> String {
        format!("{} {} {} {}", self.side.name(), self.size.said(), self.fault, self.client)
    }
}

/// Everything that was measured.
#[derive(Serialize)]
pub struct Outages {
    /// When, where, of what.
    machine: String,
    /// How long the trials took.
    pub minutes: f64,
    has_kafka: bool,
    /// Largest gaps in milliseconds, by side, partitions, fault and client.
    gaps_ms: BTreeMap<String, Vec<f64>>,
    /// Trials in which no node was as the fault wants it.
    left_out: BTreeMap<String, usize>,
    /// Records that clients gave up, and the last reason, by side and client.
    errors: BTreeMap<String, (u64, String)>,
}

impl Outages {
    /// Nothing yet.
    pub fn new(has_kafka: bool) -> Self {
        Self {
            machine: machine(),
            minutes: 0.0,
            has_kafka,
            gaps_ms: BTreeMap::new(),
            left_out: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    /// A trial's largest gap.
    pub fn add(&mut self, row: &Row, gap_ms: f64) {
        self.gaps_ms.entry(row.key()).or_default().push(gap_ms);
    }

    /// A trial that could not be.
    pub fn left_out(&mut self, row: &Row) {
        *self.left_out.entry(row.key()).or_default() += 1;
    }

    /// Records that a client gave up in a round.
    pub fn errors(&mut self, side: Which, client: &str, count: u64, last: &str) {
        let errors = self.errors.entry(format!("{} {client}", side.name())).or_default();
        errors.0 += count;
        if count > 0 {
            last.clone_into(&mut errors.1);
        }
    }

    fn gaps(&self, row: &Row) -> &[f64] {
        self.gaps_ms.get(&row.key()).map(Vec::as_slice).unwrap_or_default()
    }

    fn sides(&self) -> Vec<Which> {
        [Which::Moldau, Which::Kafka]
            .into_iter()
            .filter(|side| *side == Which::Moldau || self.has_kafka)
            .collect()
    }

    /// The page.
    pub fn page(&self) -> String {
        let mut page = format!(
            "# How long writes stop\n\nWritten by `cargo xtask bench outage{}` in {:.1} minutes of trials; the samples are in outage.json.\n\n\
             Machine: {}.\n\n{METHOD}\n",
            if self.has_kafka { " --kafka" } else { "" },
            self.minutes,
            self.machine
        );
        let measured = |size: &Size| {
            let part = format!(" {} ", size.said());
            self.gaps_ms.keys().any(|key| key.contains(&part))
        };
        for size in [Size::One, Size::Many].into_iter().filter(measured) {
            let of = if size == Size::One { "one partition" } else { "1,000 partitions" };
            let _ = writeln!(page, "\n## Each node leads {of}\n\n{}", self.table(size));
            let _ = writeln!(page, "{}", self.distributions(size));
        }
        let _ = write!(page, "## Errors that came out of the clients\n\n{}", self.error_table());
        page
    }

    fn table(&self, size: Size) -> String {
        let mut text = String::from("| fault | client |");
        for side in self.sides() {
            let _ = write!(text, " {0} p50 | p99 | max | trials |", side.name());
        }
        text.push_str(" target | |\n|---|---|");
        text.push_str(&"---|---|---|---|".repeat(self.sides().len()));
        text.push_str("---|---|\n");
        for fault in &FAULTS {
            for (_, client) in CLIENTS {
                let row = |side| Row { side, size, fault: fault.name, client };
                if self.sides().iter().all(|side| self.gaps(&row(*side)).is_empty()) {
                    continue;
                }
                let _ = write!(text, "| {} | {client} |", fault.what);
                for side in self.sides() {
                    let gaps = self.gaps(&row(side));
                    match gaps.is_empty() {
                        true => text.push_str(" – | – | – | 0 |"),
                        false => {
                            let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| said(percentile(gaps, p)));
                            let _ = write!(text, " {p50} | {p99} | {max} | {} |", gaps.len());
                        }
                    }
                }
                let (aim, verdict) = judged(fault, self.gaps(&row(Which::Moldau)));
                let _ = writeln!(text, " {aim} | {verdict} |");
            }
        }
        text
    }

    fn distributions(&self, size: Size) -> String {
        let mut text = format!("```text\n{:<46}{}\n", "", axis());
        for fault in &FAULTS {
            for (_, client) in CLIENTS {
                for side in self.sides() {
                    let gaps = self.gaps(&Row { side, size, fault: fault.name, client });
                    if !gaps.is_empty() {
                        let name = format!("{} {} {client}", fault.name, side.name());
                        let _ = writeln!(text, "{name:<45}|{}|", strip(gaps));
                    }
                }
            }
        }
        text + "```\n"
    }

    fn error_table(&self) -> String {
        let mut text =
            String::from("| cluster and client | records given up | last reason |\n|---|---|---|\n");
        for (who, (count, last)) in &self.errors {
            let _ = writeln!(text, "| {who} | {count} | {} |", last.replace('|', "/"));
        }
        text
    }
}

const METHOD: &str = "\
A client sends 150 numbered records a second to each of three partitions, in a batch of its own each, with `acks=all`, idempotent, and all other\n\
settings as the client has them. A gap is the time between two acknowledgements of one partition; given is the largest that a fault brings, beside about\n\
10 ms without one. Replication factor 3, `min.insync.replicas=2`, all else as the brokers have it; three nodes, their clients and this program on one machine\n\
and the loopback interface, one cluster at work and the other idle. After every round of faults everything that was acknowledged is read back and compared.\n\
A killed node is started again after each trial, and a trial begins when all replicas are in sync. Where all nodes of a Kafka stood still for a minute, only\n\
few trials were made; their number is in the table. A percentile of less than 100 trials is the largest.";

/// The target, and whether the samples meet it.
fn judged(fault: &Fault, gaps: &[f64]) -> (String, &'static str) {
    let names = ["p50", "p99", "max"];
    let found = [50.0, 99.0, 100.0].map(|p| percentile(gaps, p));
    let aims =
        names.iter().zip(fault.aims).zip(found).filter_map(|((name, aim), found)| Some((name, aim?, found)));
    let aims: Vec<_> = aims.collect();
    let text: Vec<String> = aims.iter().map(|(name, aim, _)| format!("{name} ≤ {}", said(*aim))).collect();
    let verdict = match (gaps.is_empty() || aims.is_empty(), aims.iter().all(|(_, aim, found)| found <= aim))
    {
        (true, _) => "",
        (false, true) => "met",
        (false, false) => "**missed**",
    };
    (text.join(", "), verdict)
}

/// Columns of a factor of ten.
const DECADE: usize = 10;
/// From 1 ms to 100 s.
const DECADES: usize = 5;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

fn axis() -> String {
    ["1 ms", "10 ms", "100 ms", "1 s", "10 s"].map(|mark| format!("{mark:<DECADE$}")).concat() + "100 s"
}

/// How often gaps of each length came, on a logarithmic scale.
fn strip(gaps: &[f64]) -> String {
    let mut counts = [0_usize; DECADE * DECADES];
    for gap in gaps {
        let at = (gap.max(1.0).log10() * DECADE as f64) as usize;
        counts[at.min(counts.len() - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let level = |count: &usize| match count {
        0 => ' ',
        count => LEVELS[(count * LEVELS.len()).div_ceil(most) - 1],
    };
    counts.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_shows_where_gaps_are() {
        let text = strip(&[1.0, 12.0, 12.0, 12.0, 12.0, 99_999_999.0]);
        assert_eq!(text.chars().count(), DECADE * DECADES);
        assert_eq!(text.chars().filter(|level| *level != ' ').collect::<String>(), "▂█▂");
        assert_eq!(text.chars().position(|level| level == '█'), Some(DECADE));
    }

    #[test]
    fn a_target_is_met_by_all_that_it_names() {
        let fault = &FAULTS[0];
        assert_eq!(judged(fault, &[100.0, 200.0]).1, "met");
        assert_eq!(judged(fault, &[100.0, 400.0]).1, "**missed**");
        assert_eq!(judged(fault, &[]).1, "");
        assert_eq!(judged(fault, &[]).0, "p50 ≤ 150 ms, p99 ≤ 350 ms");
    }

    #[test]
    fn the_page_says_how_many_trials_there_were() {
        let mut outages = Outages::new(false);
        let row = Row { side: Which::Moldau, size: Size::One, fault: "kill-leader", client: "Java" };
        outages.add(&row, 120.0);
        let page = outages.page();
        assert!(
            page.contains("| kill -9 of the leader's node | Java | 120 ms | 120 ms | 120 ms | 1 |"),
            "{page}"
        );
        assert!(page.lines().all(|line| !line.contains("kafka p50")));
    }
}
