//! Virtual time and the queue of what will happen. Things that are due at the same moment happen in an order that the seed
//! decides.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use moldau_base::{Mono, Rng};

#[derive(Debug)]
struct Due<T> {
    at: Mono,
    tie: u64,
    number: u64,
    what: T,
}

impl<T> Due<T> {
    fn key(&self) -> (Mono, u64, u64) {
        (self.at, self.tie, self.number)
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// The queue of one run, and its time.
#[derive(Debug)]
pub(crate) struct Clock<T> {
    now: Mono,
    queue: BinaryHeap<Reverse<Due<T>>>,
    ties: Rng,
    next: u64,
}

impl<T> Clock<T> {
    /// Time zero.
    pub(crate) fn new(ties: Rng) -> Clock<T> {
        Clock { now: Mono(0), queue: BinaryHeap::new(), ties, next: 0 }
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> Mono {
        self.now
    }

    /// Lets `what` happen at `at`, or now if that is past.
    pub(crate) fn at(&mut self, at: Mono, what: T) {
        let due = Due { at: at.max(self.now), tie: self.ties.next_u64(), number: self.next, what };
        self.next += 1;
        self.queue.push(Reverse(due));
    }

    /// Lets `what` happen `nanos` from now.
    pub(crate) fn after(&mut self, nanos: u64, what: T) {
        self.at(Mono(self.now.0.saturating_add(nanos)), what);
    }

    /// The next thing, if it is due before `end`; time moves to it.
    pub(crate) fn next_before(&mut self, end: Mono) -> Option<T> {
        if self.queue.peek().is_none_or(|Reverse(due)| due.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(due) = self.queue.pop()?;
        self.now = due.at;
        Some(due.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_time_and_ties_by_seed() {
        let order = |seed| {
            let mut clock = Clock::new(Rng::seeded(seed));
            for i in 0..8 {
                clock.after(5, i);
            }
            clock.after(3, 100);
            std::iter::from_fn(|| clock.next_before(Mono(10))).collect::<Vec<i32>>()
        };
        assert_eq!(order(1)[0], 100);
        assert_eq!(order(1), order(1));
        assert!((2..10).any(|seed| order(seed) != order(1)));
    }
}
