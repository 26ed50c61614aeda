//! Finds little that still fails: leaves out faults and clients of a failing run, makes its conditions simple and its trouble
//! short, as long as the same checker objects. Faults and clients are left out in halves, quarters and so on (delta debugging,
//! Zeller and Hildebrandt 2002).

use std::collections::BTreeSet;

use crate::schedule::{Calm, Schedule};

/// How many runs the search may take.
const RUNS: usize = 600;
/// How many courses of a smaller run are tried: it does not meet the moment of the whole one.
const COURSES: u64 = 12;
/// Trouble is not made shorter than this, in milliseconds.
const SHORTEST_MS: u64 = 100;

/// How large a run is before it is shrunk.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Faults that the seed draws.
    pub faults: usize,
    /// Clients that the workload starts.
    pub clients: usize,
    /// Milliseconds of trouble.
    pub trouble_ms: u64,
}

struct Search<F> {
    best: Schedule,
    runs: usize,
    still_fails: F,
}

/// The smallest schedule that was found with which a run `still_fails`, and how many runs that took.
pub fn shrink(begin: Schedule, size: Size, still_fails: impl FnMut(&Schedule) -> bool) -> (Schedule, usize) {
    let mut search = Search { best: begin, runs: 0, still_fails };
    loop {
        let before = search.best.clone();
        search.faults(size.faults);
        search.clients(size.clients);
        search.conditions();
        search.trouble(size.trouble_ms);
        if search.best == before || search.runs >= RUNS {
            return (search.best, search.runs);
        }
    }
}

impl<F: FnMut(&Schedule) -> bool> Search<F> {
    /// Keeps the candidate if it fails in one of some courses.
    fn attempt(&mut self, candidate: Schedule) -> bool {
        for course in self.best.course..self.best.course + COURSES {
            if self.runs >= RUNS {
                return false;
            }
            self.runs += 1;
            let candidate = Schedule { course, ..candidate.clone() };
            if (self.still_fails)(&candidate) {
                self.best = candidate;
                return true;
            }
        }
        false
    }

    fn faults(&mut self, count: usize) {
        let kept = self.best.faults.clone().unwrap_or_else(|| (0..count).collect());
        self.fewer(kept, |best, kept| Schedule { faults: Some(kept.to_vec()), ..best.clone() });
    }

    fn clients(&mut self, count: usize) {
        let all: BTreeSet<usize> = (0..count).collect();
        let kept = all.difference(&self.best.without).copied().collect();
        self.fewer(kept, |best, kept| {
            let kept: BTreeSet<usize> = kept.iter().copied().collect();
            Schedule { without: all.difference(&kept).copied().collect(), ..best.clone() }
        });
    }

    /// Leaves out pieces of `kept`, smaller and smaller ones.
    fn fewer(&mut self, mut kept: Vec<usize>, with: impl Fn(&Schedule, &[usize]) -> Schedule) {
        let mut piece = kept.len();
        while piece > 0 {
            let mut at = 0;
            while at < kept.len() {
                let mut fewer = kept.clone();
                fewer.drain(at..kept.len().min(at + piece));
                if self.attempt(with(&self.best, &fewer)) {
                    kept = fewer;
                } else {
                    at += piece;
                }
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    }

    fn conditions(&mut self) {
        for calm in Calm::ALL {
            let mut simpler = self.best.clone();
            if simpler.calm.insert(calm) {
                self.attempt(simpler);
            }
        }
    }

    /// The shortest trouble that fails, between one that does and one that does not.
    fn trouble(&mut self, whole_ms: u64) {
        let (mut passes, mut fails) = (0, self.best.trouble_ms.unwrap_or(whole_ms));
        while fails - passes > SHORTEST_MS {
            let middle = passes + (fails - passes) / 2;
            if self.attempt(Schedule { trouble_ms: Some(middle), ..self.best.clone() }) {
                fails = middle;
            } else {
                passes = middle;
            }
            if self.runs >= RUNS {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { faults: 9, clients: 6, trouble_ms: 30_000 };

    #[test]
    fn what_matters_is_left_and_nothing_else() {
        let fails = |schedule: &Schedule| {
            let faults = schedule.faults.clone().unwrap_or_else(|| (0..9).collect());
            let has = |fault| faults.contains(&fault);
            has(2)
                && has(7)
                && !schedule.without.contains(&4)
                && schedule.trouble_ms.unwrap_or(30_000) > 5_000
        };
        let (found, runs) = shrink(Schedule::default(), SIZE, fails);
        assert_eq!(found.faults, Some(vec![2, 7]));
        assert_eq!(found.without, BTreeSet::from([0, 1, 2, 3, 5]));
        assert_eq!(found.calm, BTreeSet::from(Calm::ALL));
        assert!(found.trouble_ms.is_some_and(|ms| (5_001..=5_000 + SHORTEST_MS).contains(&ms)), "{found:?}");
        assert!(runs <= RUNS);
    }

    #[test]
    fn another_course_may_fail_with_less() {
        let fails = |schedule: &Schedule| {
            let left = schedule.faults.as_ref().map_or(9, Vec::len) as u64;
            schedule.course % 4 == (9 - left) % 4 && left > 0
        };
        let (found, _) = shrink(Schedule::default(), SIZE, fails);
        assert_eq!(found.faults.as_ref().map(Vec::len), Some(1));
        assert!(fails(&found));
    }

    #[test]
    fn a_failure_that_needs_everything_keeps_it() {
        let whole = |schedule: &Schedule| *schedule == Schedule::default();
        assert_eq!(shrink(Schedule::default(), SIZE, whole).0, Schedule::default());
    }
}
