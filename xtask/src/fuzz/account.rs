//! The account in docs/fuzzing.md: what every target has had so far. Rows are found by the target's name and rewritten in place.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::runner::Ended;

const PAGE: &str = "docs/fuzzing.md";
/// The heading of the table, whose rows are `| target | minutes | inputs | edges | last run |`.
const HEADING: &str = "## Minutes so far";

/// Adds what was done to the page.
pub fn write(root: &Path, end: &Ended) -> Result<()> {
    let text = page(root)?;
    let date = Command::new("date").args(["-u", "+%F"]).output().context("cannot start date")?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    fs::write(root.join(PAGE), with_row(&text, end, &date)).with_context(|| format!("cannot write {PAGE}"))
}

/// The minutes that each of these targets has had.
pub fn read(root: &Path, targets: &[String]) -> Result<Vec<(String, f64)>> {
    let text = page(root)?;
    let rows = || text.split_once(HEADING).map_or("", |(_, table)| table).lines();
    let minutes = |target: &str| rows().find(|row| is_of(row, target)).map_or(0.0, |row| cell(row, 2));
    Ok(targets.iter().map(|target| (target.clone(), minutes(target))).collect())
}

fn page(root: &Path) -> Result<String> {
    fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))
}

fn is_of(row: &str, target: &str) -> bool {
    row.split('|').nth(1).is_some_and(|cell| cell.trim() == target)
}

/// The number in a cell; 0 if there is none.
fn cell(row: &str, at: usize) -> f64 {
    let cell = row.split('|').nth(at).map(|cell| cell.trim().replace(',', ""));
    cell.and_then(|cell| cell.parse().ok()).unwrap_or(0.0)
}

/// The page with this run in the row of its target, which is added if there is none.
fn with_row(text: &str, end: &Ended, date: &str) -> String {
    let (before, table) = text.split_once(HEADING).unwrap_or((text, ""));
    let row = |earlier: &str| {
        let minutes = cell(earlier, 2) + end.seconds / 60.0;
        let inputs = cell(earlier, 3) as u64 + end.inputs;
        let edges = (cell(earlier, 4) as u64).max(end.edges);
        format!("| {} | {minutes:.2} | {inputs} | {edges} | {date} |", end.target)
    };
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    match lines.iter().position(|line| is_of(line, &end.target)) {
        Some(at) => lines[at] = row(&lines[at]),
        None => {
            let last = lines.iter().rposition(|line| line.starts_with('|')).map_or(lines.len(), |at| at + 1);
            lines.insert(last, row(""));
        }
    }
    format!("{before}{HEADING}{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_add_up_in_the_row_of_their_target() {
        let page = "# Fuzzing\n\n## Minutes so far\n\n| target | minutes | inputs | edges | last run |\n|---|---|---|---|---|\n| a | 1.5 | 10 | 7 | 2026-01-01 |\n\nThe end.\n";
        let end = |target: &str| Ended::of(target, 60.0, 5, 6);
        let page = with_row(&with_row(page, &end("a"), "2026-01-02"), &end("b"), "2026-01-02");
        assert!(
            page.contains(
                "\n| a | 2.50 | 15 | 7 | 2026-01-02 |\n| b | 1.00 | 5 | 6 | 2026-01-02 |\n\nThe end.\n"
            ),
            "{page}"
        );
    }
}
