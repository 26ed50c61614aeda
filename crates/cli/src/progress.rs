//! A progress bar on standard error: only on a terminal, and only once the work has taken more than a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far some work has come.
pub struct Progress {
    bar: ProgressBar,
    since: Instant,
    shown: bool,
    terminal: bool,
}

impl Progress {
    /// Work of `total` bytes; an unknown total shows only what is done.
    pub fn of_bytes(total: Option<u64>) -> Progress {
        let template = match total {
            Some(_) => "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left {msg}",
            None => "{spinner} {bytes} {bytes_per_sec} {msg}",
        };
        Progress::new(total, template)
    }

    /// Work of `total` records; an unknown total shows only what is done.
    pub fn of_records(total: Option<u64>) -> Progress {
        let template = match total {
            Some(_) => "{bar:40} {human_pos}/{human_len} records {per_sec} {eta} left {msg}",
            None => "{spinner} {human_pos} records {per_sec} {msg}",
        };
        Progress::new(total, template)
    }

    /// Work on `total` partitions.
    pub fn of_partitions(total: u64) -> Progress {
        Progress::new(Some(total), "{bar:40} {human_pos}/{human_len} partitions {elapsed} {msg}")
    }

    fn new(total: Option<u64>, template: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let terminal = std::io::stderr().is_terminal();
        Progress { bar, since: Instant::now(), shown: false, terminal }
    }

    /// Notes how far it has come.
    pub fn set(&mut self, done: u64) {
        if !self.shown && self.terminal && self.since.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown = true;
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
