//! The trace of a run: a running hash over everything that crosses the waist, and the text of it when asked for. Equal
//! hashes of two runs of one seed mean that both were the same run.

use std::collections::VecDeque;
use std::fmt;

use moldau_base::Mono;

/// Lines that are kept for a report when not all are printed.
const KEPT: usize = 60;

/// What becomes of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Only the hash is kept.
    None,
    /// The last lines are kept for the report of a failure.
    Last,
    /// Every line goes to standard error.
    All,
}

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    text: Text,
}

/// A step of the hash: multiply wide, fold, as in wyhash.
fn mix(a: u64, b: u64) -> u64 {
    let wide = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xe703_7ed1_a0b4_28db);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Trace {
    pub(crate) fn new(text: Text) -> Trace {
        Trace { hash: 0x6d6f_6c64_6175, lines: VecDeque::new(), text }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes a number into the hash.
    pub(crate) fn number(&mut self, number: u64) {
        self.hash = mix(self.hash, number).rotate_left(17) ^ number;
    }

    /// Takes bytes into the hash.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        rest.iter().for_each(|byte| self.number(u64::from(*byte)));
    }

    /// A line of text; not part of the hash.
    pub(crate) fn line(&mut self, now: Mono, line: impl FnOnce() -> String) {
        if self.text == Text::None {
            return;
        }
        let line = format!("{:>12.6}s  {}", now.0 as f64 / 1e9, line());
        if self.text == Text::All {
            eprintln!("{line}");
            return;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
