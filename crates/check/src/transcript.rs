//! Tests that are read as text: commands in, answers out, in plain files that someone who knows Kafka can follow.
//!
//! A transcript is a sequence of blocks. A block is lines of commands, a line `----`, and the answer, up to an empty line;
//! a line that starts with `#` between blocks is a comment. With `UPDATE_TRANSCRIPTS=1` in the environment the answers are
//! rewritten instead of compared, and the difference is read in review. The idea is that of CockroachDB's datadriven tests.
//!
//! A command is a verb, then words, then `name=value` pairs: `produce a acks=-1 pid=7`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    text: String,
    words: Vec<String>,
    pairs: Vec<(String, String)>,
}

impl Line {
    /// Takes a command apart.
    pub fn parse(text: &str) -> Line {
        let mut line = Line { text: text.to_owned(), words: Vec::new(), pairs: Vec::new() };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => line.pairs.push((name.to_owned(), value.to_owned())),
                None => line.words.push(word.to_owned()),
            }
        }
        line
    }

    /// The first word.
    pub fn verb(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word at this place after the verb. Panics when it is missing.
    pub fn word(&self, at: usize) -> &str {
        self.words.get(at + 1).unwrap_or_else(|| panic!("`{}`: word {at} is missing", self.text))
    }

    /// True when this word stands after the verb.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().skip(1).any(|w| w == word)
    }

    /// The value of `name`, if it is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The number of `name`, if it is there. Panics when it is no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let value = self.get(name)?;
        Some(value.parse().unwrap_or_else(|_| panic!("`{}`: {name} is no number that fits", self.text)))
    }

    /// The comma-separated values of `name`; none when it is missing or empty.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.get(name).unwrap_or("").split(',').filter(|value| !value.is_empty()).collect()
    }

    /// The command as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Plays every transcript (`*.txt`) of `dir`, each on a world of its own that `start` makes. Panics at the first file whose answers differ.
pub fn check_dir<W: FnMut(&Line) -> String>(dir: impl AsRef<Path>, mut start: impl FnMut() -> W) {
    let dir = dir.as_ref();
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {}", dir.display());
    for file in files {
        check_file(&file, start());
    }
}

/// Plays one transcript.
pub fn check_file(file: &Path, world: impl FnMut(&Line) -> String) {
    let written = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let played = play(&written, world);
    if played == written {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "a tool of tests, not a core")]
    let update = env::var("UPDATE_TRANSCRIPTS").is_ok_and(|value| value == "1");
    if update {
        fs::write(file, played).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        return;
    }
    let differs = written.lines().zip(played.lines()).take_while(|(a, b)| a == b).count();
    let around =
        |text: &str| text.lines().skip(differs.saturating_sub(4)).take(9).collect::<Vec<_>>().join("\n");
    panic!(
        "{}:{}: the answers differ; UPDATE_TRANSCRIPTS=1 rewrites them\nwritten:\n{}\n\nplayed:\n{}",
        file.display(),
        differs + 1,
        around(&written),
        around(&played)
    );
}

/// The transcript with the answers of `world`. Answers of the commands of a block stand below each other.
pub fn play(written: &str, mut world: impl FnMut(&Line) -> String) -> String {
    let mut out = String::new();
    let mut lines = written.lines().peekable();
    let mut answer = String::new();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            let _ = writeln!(out, "{line}");
            continue;
        }
        let _ = writeln!(out, "{line}");
        if line != "----" {
            let said = world(&Line::parse(line));
            answer.push_str(said.trim_end_matches('\n'));
            if !said.is_empty() {
                answer.push('\n');
            }
            if lines.peek().is_some_and(|next| !next.is_empty()) {
                continue;
            }
            out.push_str("----\n");
        }
        while lines.peek().is_some_and(|next| !next.is_empty()) {
            lines.next();
        }
        out.push_str(&answer);
        answer.clear();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(line: &Line) -> String {
        if line.verb() == "quiet" {
            String::new()
        } else {
            format!("{} to {:?}", line.verb(), line.number::<i64>("n"))
        }
    }

    #[test]
    fn answers_are_filled_in_and_stay() {
        let bare = "# About.\n\nsay n=1\n\nquiet\nsay\n----\nstale\n";
        let played = play(bare, echo);
        assert_eq!(played, "# About.\n\nsay n=1\n----\nsay to Some(1)\n\nquiet\nsay\n----\nsay to None\n");
        assert_eq!(play(&played, echo), played);
    }

    #[test]
    fn a_line_is_taken_apart() {
        let line = Line::parse("produce a acks=-1 isr=1,2 twice");
        assert_eq!(
            (line.verb(), line.word(0), line.number("acks"), line.list("isr")),
            ("produce", "a", Some(-1), vec!["1", "2"])
        );
        assert!(line.has("twice") && !line.has("produce") && line.get("pid").is_none());
    }
}
