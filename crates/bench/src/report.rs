//! The figures of one run, as a page and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::Split;
use crate::pump::Bounds;
use crate::startup::{Start, Starts};

/// Other processes may use this part of the processors; beyond it a row is marked.
const OTHERS: f64 = 0.10;

/// One line of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Short name.
    pub name: String,
    /// What it does.
    pub what: String,
    /// 10⁶ bytes of payload a second.
    pub megabytes: f64,
    /// Requests a second.
    pub requests: f64,
    /// Records a second.
    pub records: f64,
    /// Processor time of the serving process.
    pub figure: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The same of the floor.
    pub floor: Option<f64>,
    /// Median latency, microseconds.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Who used the processors.
    pub cpu: Split,
    /// How long it ran.
    pub seconds: f64,
}

impl Row {
    /// The part of all processors that neither the serving process nor the load generator used, but somebody.
    fn others(&self, cores: usize) -> f64 {
        (self.cpu.others + self.cpu.stolen) / (self.seconds * cores.max(1) as f64)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "what": self.what, "mb_per_s": self.megabytes, "requests_per_s": self.requests,
            "records_per_s": self.records, "cpu": self.figure, "cpu_unit": self.unit, "floor": self.floor,
            "p50_us": self.p50, "p99_us": self.p99, "seconds": self.seconds,
            "cpu_seconds": { "serving": self.cpu.serving, "generator": self.cpu.generator,
                "others": self.cpu.others, "stolen": self.cpu.stolen },
        })
    }
}

/// The figures of one run.
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The bounds of each leg.
    pub bounds: Bounds,
    /// The legs.
    pub rows: Vec<Row>,
    /// The floors by themselves.
    pub floors: Vec<Row>,
    /// Start-up.
    pub starts: Starts,
    /// Memory at rest.
    pub memory: Memory,
    /// The most resident bytes that a broker had in any leg.
    pub peak: u64,
}

impl Report {
    /// The page.
    pub fn page(&self) -> String {
        let mut page = String::from("# Bench smoke\n\n");
        let _ = writeln!(page, "Written by `cargo xtask bench smoke`.\n");
        let _ = writeln!(page, "Machine: {}.\n", self.machine.lines());
        let _ = writeln!(
            page,
            "Each leg: {:.1} GB or {} s, one node, acks=1, page cache; the load comes from the same machine.\n\
             CPU is the processor time of the broker process: seconds for 10⁹ bytes of batches, or µs for a\n\
             request. The floor is the same of a program that only does the unavoidable. Latencies are those\n\
             of a closed loop at full load.\n",
            self.bounds.bytes as f64 / crate::GB,
            self.bounds.time.as_secs()
        );
        page.push_str(&table("leg", &self.rows));
        let _ = writeln!(page, "\n## Floor of the machine\n");
        page.push_str(&table("floor", &self.floors));
        let _ = writeln!(page, "\n## Start and memory\n\n{}", self.rest());
        for line in self.doubts() {
            let _ = writeln!(page, "\n{line}");
        }
        page
    }

    fn rest(&self) -> String {
        let ms = |start: &Start| {
            format!(
                "{:.1} ms | {:.1} ms",
                start.ready.as_secs_f64() * 1e3,
                start.acknowledged.as_secs_f64() * 1e3
            )
        };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "| from exec to                | ready | first acknowledged record |\n\
             |-----------------------------|-------|---------------------------|\n\
             | on an empty directory       | {} |\n\
             | after a clean stop          | {} |\n\
             | after SIGKILL               | {} |\n\n\
             Resident memory: {:.1} MiB idle, {:.1} KiB for each of {} idle connections, {:.1} MiB at most under\n\
             load.",
            ms(&self.starts.empty),
            ms(&self.starts.stopped),
            ms(&self.starts.killed),
            mib(self.memory.idle),
            self.memory.connection / 1024.0,
            self.memory.connections,
            mib(self.peak),
        )
    }

    /// What speaks against the figures.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let cores = self.machine.cores;
        let disturbed = |row: &&Row| row.others(cores) > OTHERS;
        let names: Vec<String> = (self.rows.iter().chain(&self.floors))
            .filter(disturbed)
            .map(|row| format!("{} ({:.0} %)", row.name, row.others(cores) * 100.0))
            .collect();
        if !names.is_empty() {
            doubts.push(format!(
                "Others, the kernel's own threads included, used the processors during:\n{}.",
                names.join(", ")
            ));
        }
        if self.machine.load > 0.5 {
            doubts.push(format!(
                "The machine was not idle before the run (load {:.1}): these figures are not to be quoted.",
                self.machine.load
            ));
        }
        doubts
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let ms = |start: &Start| {
            json!({ "ready_ms": start.ready.as_secs_f64() * 1e3,
                "acknowledged_ms": start.acknowledged.as_secs_f64() * 1e3 })
        };
        json!({
            "machine": self.machine.json(),
            "bounds": { "bytes": self.bounds.bytes, "seconds": self.bounds.time.as_secs_f64() },
            "legs": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "floors": self.floors.iter().map(Row::json).collect::<Vec<_>>(),
            "start": { "empty": ms(&self.starts.empty), "stopped": ms(&self.starts.stopped),
                "killed": ms(&self.starts.killed) },
            "memory": { "idle_bytes": self.memory.idle, "bytes_per_connection": self.memory.connection,
                "connections": self.memory.connections, "peak_bytes": self.peak },
            "doubts": self.doubts(),
        })
    }

    /// Writes `smoke.md` and `smoke.json` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("smoke.md"), self.page())?;
        let mut json = serde_json::to_string_pretty(&self.json())?;
        json.push('\n');
        std::fs::write(dir.join("smoke.json"), json)?;
        Ok(())
    }
}

/// Rows as a table of at most 100 columns; the columns of the floor are left out where no row has one.
pub fn table(first: &str, rows: &[Row]) -> String {
    let floors = rows.iter().any(|row| row.floor.is_some());
    let mut heads = vec![first, "what", "MB/s", "req/s", "CPU"];
    if floors {
        heads.extend(["floor", "ratio"]);
    }
    heads.extend(["p50 µs", "p99 µs"]);
    let mut lines: Vec<Vec<String>> = vec![heads.iter().map(|head| (*head).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| cells(row, floors)));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for (place, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "|{}|", padded.collect::<Vec<_>>().join("|"));
        if place == 0 {
            let rule = widths.iter().enumerate().map(|(column, width)| match column {
                0 | 1 => "-".repeat(*width),
                _ => format!("{}:", "-".repeat(width.saturating_sub(1))),
            });
            let _ = writeln!(text, "|{}|", rule.collect::<Vec<_>>().join("|"));
        }
    }
    text
}

fn cells(row: &Row, floors: bool) -> Vec<String> {
    let digits = |figure: f64| if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.1}") };
    let mut cells = vec![
        row.name.clone(),
        row.what.clone(),
        if row.megabytes < 10.0 { format!("{:.1}", row.megabytes) } else { format!("{:.0}", row.megabytes) },
        format!("{:.0}", row.requests),
        format!("{} {}", digits(row.figure), row.unit),
    ];
    if floors {
        cells.push(row.floor.map_or(String::new(), digits));
        cells.push(row.floor.map_or(String::new(), |floor| format!("{:.2}", row.figure / floor)));
    }
    cells.push(format!("{:.0}", row.p50));
    cells.push(format!("{:.0}", row.p99));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, floor: Option<f64>) -> Row {
        Row {
            name: name.to_owned(),
            what: "produce 100 B records, 16 KiB batches".to_owned(),
            megabytes: 1234.5,
            requests: 123_456.0,
            records: 0.0,
            figure: 123.456,
            unit: "µs/req",
            floor,
            p50: 123_456.0,
            p99: 1_234_567.0,
            cpu: Split { serving: 1.0, generator: 0.5, others: 0.4, stolen: 0.0 },
            seconds: 2.0,
        }
    }

    #[test]
    fn a_table_fits_into_a_hundred_columns() {
        let text = table("leg", &[row("W4 c32", Some(98.7)), row("W1", None)]);
        assert_eq!(text.lines().count(), 4);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("1.25"), "{text}");
        assert!(!table("floor", &[row("W1", None)]).contains("ratio"));
    }

    #[test]
    fn what_others_used_counts_against_all_processors() {
        assert!((row("W1", None).others(2) - 0.1).abs() < 1e-9);
    }
}
