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
pub fn write(root: &Path, ended: &[Ended]) -> Result<()> {
    let path = root.join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let date = Command::new("date").args(["-u", "+%F"]).output().context("cannot start date")?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let text = ended.iter().fold(text, |text, end| with_row(&text, end, &date));
    fs::write(&path, text).with_context(|| format!("cannot write {PAGE}"))
}

/// The page with this run in the row of its target, which is added if there is none.
fn with_row(text: &str, end: &Ended, date: &str) -> String {
    let (before, table) = text.split_once(HEADING).unwrap_or((text, ""));
    let cell = |row: &str, at: usize| -> f64 {
        row.split('|')
            .nth(at)
            .map(|cell| cell.trim().replace(',', ""))
            .and_then(|c| c.parse().ok())
            .unwrap_or(0.0)
    };
    let row = |earlier: &str| {
        let minutes = cell(earlier, 2) + end.seconds / 60.0;
        let inputs = cell(earlier, 3) as u64 + end.inputs;
        let edges = (cell(earlier, 4) as u64).max(end.edges);
        format!("| {} | {minutes:.1} | {inputs} | {edges} | {date} |", end.target)
    };
    let is_it = |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.trim() == end.target);
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    match lines.iter().position(|line| is_it(&line.as_str())) {
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
        let end =
            |target: &str| Ended { target: target.into(), seconds: 60.0, inputs: 5, edges: 6, found: None };
        let page = with_row(&with_row(page, &end("a"), "2026-01-02"), &end("b"), "2026-01-02");
        assert!(
            page.contains(
                "\n| a | 2.5 | 15 | 7 | 2026-01-02 |\n| b | 1.0 | 5 | 6 | 2026-01-02 |\n\nThe end.\n"
            ),
            "{page}"
        );
    }
}
