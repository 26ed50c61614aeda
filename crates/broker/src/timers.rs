//! The deadlines of a shard, in one ordered set: a fetch that waits, a produce that waits, a coordinator, a log with something
//! unflushed, the periodic passes. An idle partition, group or connection has none.

use std::collections::{BTreeMap, BTreeSet};

use moldau_base::{Mono, NodeId};

use crate::waist::ConnId;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A gather has waited long enough.
    Gather(u64),
    /// A call to another node has waited long enough.
    Call(u64),
    /// A parked fetch has waited long enough.
    Fetch(u64),
    /// A follower's fetch over this connection has waited long enough.
    Followed(ConnId),
    /// The log in this slot has something to flush.
    Log(u32),
    /// The partition in this slot looks after its followers.
    Replica(u32),
    /// What was sent to partitions that move.
    HandOver,
    /// This node's way out.
    Leaving,
    /// What is fetched from this leader.
    Fetcher(NodeId),
    /// The coordinator of this partition of `__consumer_offsets`.
    Group(i32),
    /// The pass over all logs for retention and rolling.
    Retention,
    /// Recovery points are written down.
    Checkpoint,
    /// A suspicion has held answers back for long enough.
    Suspects,
    /// What was sent to a topic that is not known here has waited for long enough.
    Early,
    /// A broker that is no voter asks for metadata again.
    Observer,
    /// Something about the controller: a proposal that is not answered, a registration to repeat.
    Controller,
}

/// One deadline per timer.
#[derive(Debug, Default)]
pub struct Timers {
    by_time: BTreeSet<(Mono, Timer)>,
    set: BTreeMap<Timer, Mono>,
}

impl Timers {
    /// Sets, moves or (with `None`) clears a deadline.
    pub fn set(&mut self, timer: Timer, at: Option<Mono>) {
        if self.set.get(&timer).copied() == at {
            return;
        }
        if let Some(before) = self.set.remove(&timer) {
            self.by_time.remove(&(before, timer));
        }
        if let Some(at) = at {
            self.set.insert(timer, at);
            self.by_time.insert((at, timer));
        }
    }

    /// The earliest deadline.
    pub fn deadline(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one timer that is due.
    pub fn due(&mut self, now: Mono) -> Option<Timer> {
        let &(at, timer) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.remove(&(at, timer));
        self.set.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_has_one_deadline() {
        let mut timers = Timers::default();
        timers.set(Timer::Log(1), Some(Mono(5)));
        timers.set(Timer::Log(1), Some(Mono(3)));
        timers.set(Timer::Fetch(1), Some(Mono(4)));
        assert_eq!(timers.deadline(), Some(Mono(3)));
        assert_eq!(timers.due(Mono(2)), None);
        assert_eq!(timers.due(Mono(9)), Some(Timer::Log(1)));
        timers.set(Timer::Fetch(1), None);
        assert_eq!(timers.due(Mono(9)), None);
        assert_eq!(timers.deadline(), None);
    }
}
