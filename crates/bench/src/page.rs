//! A run as a page: what was aimed at and what was found, what the work costs beside the floor, who used the machine.

use std::fmt::Write as _;

use crate::calls::Calls;
use crate::reasons::reasons;
use crate::results::{Done, FLOOR, KAFKA, Leg, MOLDAU, Results, Target, Verdict};
use crate::stats::{self, Interval};

/// The page.
pub fn page(results: &Results) -> String {
    let mut page = format!("# Benchmark: {}\n\n", results.name);
    let minutes = results.seconds / 60.0;
    let _ = writeln!(
        page,
        "Written by `{}` in {minutes:.1} minutes; the samples are in {}.json.\n",
        results.command, results.name
    );
    let _ = writeln!(page, "Machine: {}.\n", results.machine.lines());
    for program in &results.programs {
        let _ = writeln!(page, "- **{}**: {}; {}", program.side, program.version, program.started);
    }
    page.push('\n');
    for sentence in &results.method {
        let _ = writeln!(page, "{sentence}");
    }
    let peer = results.legs.iter().any(|leg| leg.samples.contains_key(KAFKA));
    let _ = writeln!(page, "\n## Results\n\n{}", aims(&results.legs, peer));
    let missed = reasons(&results.legs);
    if !missed.is_empty() {
        let _ = writeln!(page, "## Why targets were missed\n\n{missed}");
    }
    let has_load = |leg: &&Leg| leg.samples.keys().any(|side| leg.load(side, |_| 0.0).is_some());
    let loaded: Vec<&Leg> = results.legs.iter().filter(has_load).collect();
    if !loaded.is_empty() {
        if loaded.iter().any(|leg| leg.ratio(MOLDAU, FLOOR).is_some()) {
            let _ = writeln!(page, "## Beside the floor of the machine\n\n{}", beside_floor(&loaded, peer));
        }
        let _ = writeln!(
            page,
            "## Rates, latencies, and who else used the processors\n\n{}",
            rates(loaded.iter().copied())
        );
    }
    if !results.calls.is_empty() {
        let _ = writeln!(page, "## Where the time goes\n\n{}", calls(&results.calls));
    }
    for (head, list) in [("Not measured", &results.failures), ("Doubts", &results.doubts)] {
        if !list.is_empty() {
            let _ = writeln!(page, "## {head}\n");
            for line in list {
                let _ = writeln!(page, "- {line}");
            }
            page.push('\n');
        }
    }
    page
}

/// Medians, ratios with their intervals, targets.
fn aims(legs: &[Leg], peer: bool) -> String {
    let mut table = Table::new(if peer {
        &["leg", "what", "unit", "moldau", "kafka", "ratio (95 %)", "target", ""]
    } else {
        &["leg", "what", "unit", "moldau", "target", ""]
    });
    // The floors by themselves are in the tables below.
    for leg in legs.iter().filter(|leg| leg.samples.contains_key(MOLDAU)) {
        let side = |name| digits_or_none(&leg.values(name));
        let mut cells = vec![leg.name.clone(), leg.what.clone(), leg.unit.clone(), side(MOLDAU)];
        if peer {
            cells.push(side(KAFKA));
            cells.push(leg.ratio(MOLDAU, KAFKA).map_or(String::new(), interval));
        }
        cells.push(leg.target.map_or(String::new(), aim));
        cells.push(leg.verdict().map_or("", word).to_owned());
        table.add(cells);
    }
    table.text()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Open => "open: the interval holds it",
        Verdict::Missed => "**missed**",
    }
}

fn aim(target: Target) -> String {
    let ratio = target.of_kafka.map(|part| format!("≤ 1/{:.0} of kafka", 1.0 / part));
    let most = target.at_most.map(|most| format!("≤ {}", (most * 100.0).round() / 100.0));
    [ratio, most].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn beside_floor(legs: &[&Leg], peer: bool) -> String {
    let mut table = Table::new(if peer {
        &["leg", "unit", "floor", "moldau", "× floor (95 %)", "kafka", "× floor"]
    } else {
        &["leg", "unit", "floor", "moldau", "× floor (95 %)"]
    });
    for leg in legs {
        let Some(ratio) = leg.ratio(MOLDAU, FLOOR) else { continue };
        let side = |name| digits_or_none(&leg.values(name));
        let mut cells = vec![leg.name.clone(), leg.unit.clone(), side(FLOOR), side(MOLDAU), interval(ratio)];
        if peer {
            cells.push(side(KAFKA));
            cells.push(leg.ratio(KAFKA, FLOOR).map_or(String::new(), |ratio| digits(ratio.median)));
        }
        table.add(cells);
    }
    table.text()
}

/// What was done meanwhile, and who used the processors.
pub fn rates<'a>(legs: impl IntoIterator<Item = &'a Leg>) -> String {
    let mut table = Table::new(&[
        "leg",
        "side",
        "CPU",
        "MB/s",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "generator s/GB",
        "kernel threads s/GB",
        "others %",
    ]);
    for leg in legs {
        for side in leg.samples.keys() {
            let of = |what: &dyn Fn(&Done) -> f64| digits(leg.load(side, what).unwrap_or(0.0));
            let gigabytes = |done: &Done| done.bytes as f64 / crate::GB;
            table.add(vec![
                leg.name.clone(),
                side.clone(),
                format!("{} {}", digits_or_none(&leg.values(side)), leg.unit.trim_start_matches("CPU ")),
                of(&|done| done.mb_per_s),
                of(&|done| done.requests_per_s),
                of(&|done| done.p50_us),
                of(&|done| done.p99_us),
                of(&|done| done.cpu.generator / gigabytes(done)),
                of(&|done| done.cpu.kernel / gigabytes(done)),
                of(&|done| done.cpu.disturbed(1) * 100.0),
            ]);
        }
    }
    table.text()
}

fn calls(all: &[Calls]) -> String {
    let mut table = Table::new(&["leg", "side", "calls a request", "which"]);
    for calls in all {
        let each: Vec<String> = calls.each.iter().map(|(name, count)| format!("{name} {count:.2}")).collect();
        table.add(vec![
            calls.leg.clone(),
            calls.side.clone(),
            format!("{:.2}", calls.total()),
            each.join(", "),
        ]);
    }
    let mut text = String::from(
        "System calls for each request, counted by `strace -c -f` over some thousand requests.\n\n",
    );
    text.push_str(&table.text());
    text.push_str(WHERE);
    text
}

/// What the floors are made of; the same in every run.
const WHERE: &str = "
**W1.** The floor receives 16 KiB, computes a CRC-32C over them, appends them with one `pwrite` and answers with a few bytes: the
copies out of the socket and into the page cache are about all of it, and no broker that keeps what it is sent does without them.
What a broker adds for a request is a turn of its event loop, decoding a header, a question to the partition's owner and its answer
(another thread where the connection and the partition live on different cores: a wake-up of that thread), stamping offsets and the
epoch over the batch's first bytes, and the encoded response. It never looks at a single record.

**W3.** The same bytes in ten times as many records. The floor is the same as that of W1, and so is our work: the records are covered
by the batch's checksum and are not visited. A broker that iterates records pays for each of them here.

**W8.** The floor reads a few bytes and calls `sendfile` on pages that are in memory: copying does not happen on this side, the
receiver pays for it. What a broker adds is decoding the request, finding the range of the file (from marks in memory), and encoding
the fields before the records, which leave by `sendmsg` before the `sendfile`. With 64 KiB a fetch all of that is paid sixteen times
as often for the same bytes.

Work that the kernel does later in its own threads, above all writing back to the disk, is charged to no process: it is the column
\"kernel threads\" and is the same bytes for all sides. On the loopback interface the receiving half of TCP runs in the sender's
system call: produce costs the broker less than over a network card, fetch costs it more, and both brokers alike.
";

fn digits_or_none(values: &[f64]) -> String {
    if values.is_empty() { String::new() } else { digits(stats::median(values)) }
}

/// Three digits that mean something.
fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn interval(found: Interval) -> String {
    format!("{} ({}–{})", digits(found.median), digits(found.low), digits(found.high))
}

/// Rows of a Markdown table, padded so that it can be read as it is.
pub struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub fn new(heads: &[&str]) -> Table {
        Table { lines: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn add(&mut self, cells: Vec<String>) {
        self.lines.push(cells);
    }

    /// The text.
    pub fn text(&self) -> String {
        let columns = self.lines[0].len();
        let cell = |line: &[String], column: usize| line.get(column).cloned().unwrap_or_default();
        let width =
            |column| self.lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (place, line) in self.lines.iter().enumerate() {
            let padded: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(column, width)| format!("{:<width$}", cell(line, column)))
                .collect();
            let _ = writeln!(text, "| {} |", padded.join(" | "));
            if place == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
                let _ = writeln!(text, "|{}|", rule.join("|"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Sample;

    #[test]
    fn a_missed_target_is_said() {
        let mut leg = Leg::new("W1", "produce", "s/GB", Some(Target { of_kafka: Some(0.25), at_most: None }));
        for (side, value) in [(MOLDAU, 1.5), (KAFKA, 4.0)] {
            leg.add(side, Sample::of(value));
            leg.add(side, Sample::of(value));
        }
        let text = aims(&[leg], true);
        assert!(text.contains("≤ 1/4 of kafka") && text.contains("**missed**"), "{text}");
        assert!(text.contains("0.375 (0.375–0.375)"), "{text}");
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!([123.4, 12.34, 1.234, 0.1234, 0.0].map(digits), ["123", "12.3", "1.23", "0.123", "0.00"]);
    }
}
