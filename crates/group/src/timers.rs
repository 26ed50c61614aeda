//! The deadlines of a coordinator in one ordered queue. Setting, moving and cancelling one costs the logarithm of how many
//! there are; nothing is ever scanned.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use moldau_base::Mono;

/// What a deadline is for. There is at most one deadline of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A member, or one that was given an id and has not come back, is expelled.
    Session {
        /// Its group.
        group: ByteString,
        /// Its id.
        member: ByteString,
    },
    /// A rebalance stops waiting for members to join.
    Join(ByteString),
    /// Members that have not asked for their assignment are expelled.
    Sync(ByteString),
    /// Expired offsets are looked for.
    Retention,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Mono, Timer)>,
    at: BTreeMap<Timer, Mono>,
}

impl Timers {
    /// Sets the deadline, in place of an earlier one of the same timer.
    pub(crate) fn set(&mut self, timer: Timer, at: Mono) {
        if let Some(before) = self.at.insert(timer.clone(), at) {
            if before == at {
                return;
            }
            self.queue.remove(&(before, timer.clone()));
        }
        self.queue.insert((at, timer));
    }

    /// Forgets the deadline, if there is one.
    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.at.remove_entry(timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// Takes the earliest deadline that has come.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.queue.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_has_one_deadline_and_they_come_in_order() {
        let mut timers = Timers::default();
        let join = |name: &'static str| Timer::Join(ByteString::from_static(name));
        timers.set(join("a"), Mono(30));
        timers.set(join("b"), Mono(20));
        timers.set(join("c"), Mono(10));
        timers.set(join("a"), Mono(5));
        timers.set(join("b"), Mono(40));
        timers.cancel(&join("c"));
        timers.cancel(&join("d"));
        assert_eq!(timers.next(), Some(Mono(5)));
        assert_eq!(timers.pop(Mono(4)), None);
        assert_eq!(timers.pop(Mono(100)), Some(join("a")));
        assert_eq!(timers.pop(Mono(100)), Some(join("b")));
        assert_eq!(timers.pop(Mono(100)), None);
        assert_eq!(timers.next(), None);
    }
}
