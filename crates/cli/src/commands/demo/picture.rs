//! The line of acknowledgements, a character for 100 ms, and the bars of the table.

use std::io::Write;
use std::time::Duration;

/// Characters from few to many.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of the longest bar.
const BAR: usize = 24;
/// Columns of the line before it is broken.
const LINE: usize = 96;

/// A line that grows.
pub struct Strip {
    aloud: bool,
    due: usize,
    width: usize,
}

impl Strip {
    /// Begins a line under this heading; `rate` is what is due in a second.
    pub fn begin(aloud: bool, rate: u32, heading: &str) -> Strip {
        let mut strip = Strip { aloud, due: (rate as usize / 10).max(1), width: 0 };
        strip.print(&format!("{heading}\n  "));
        strip
    }

    /// What came in 100 ms.
    pub fn add(&mut self, count: usize) {
        self.put(level(count, self.due));
    }

    /// The moment of the fault.
    pub fn mark(&mut self) {
        self.put('✗');
    }

    /// The end, with what was found.
    pub fn end(&mut self, gap: Duration) {
        self.print(&format!("\n  largest gap {} ms\n", gap.as_millis()));
    }

    fn put(&mut self, character: char) {
        if self.width == LINE {
            self.print("\n  ");
            self.width = 0;
        }
        self.width += 1;
        self.print(&character.to_string());
    }

    /// That nobody looks any more is noticed by whoever prints the table.
    fn print(&mut self, text: &str) {
        if self.aloud {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

fn level(count: usize, due: usize) -> char {
    match (count * LEVELS.len()).div_ceil(due) {
        0 => '·',
        level => LEVELS[level.min(LEVELS.len()) - 1],
    }
}

/// A bar beside the longest.
pub fn bar(value: Duration, longest: Duration) -> String {
    let part = value.as_secs_f64() / longest.as_secs_f64().max(f64::MIN_POSITIVE);
    "█".repeat(((part * BAR as f64).round() as usize).clamp(1, BAR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_says_how_much_came() {
        let line: String = [0, 1, 10, 19, 20, 60].map(|count| level(count, 20)).into_iter().collect();
        assert_eq!(line, "·▁▄███");
    }

    #[test]
    fn bars_are_beside_the_longest() {
        let millis = Duration::from_millis;
        assert_eq!(bar(millis(100), millis(100)).chars().count(), BAR);
        assert_eq!(bar(millis(50), millis(100)).chars().count(), BAR / 2);
        assert_eq!(bar(millis(0), millis(100)).chars().count(), 1);
        assert_eq!(bar(millis(0), millis(0)).chars().count(), 1);
    }
}
