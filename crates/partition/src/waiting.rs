//! Requests that wait: producers for their acknowledgement, fetches for more to read.

use std::collections::VecDeque;

use crate::follower::takes_over;
use crate::input::{Acks, Token, Told, View};

/// A produce request whose batches are in the log and not yet as safe as it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub(crate) token: Token,
    pub(crate) base_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) append_time: i64,
    /// It waits on when it is refused ([`Acks::Standing`]).
    pub(crate) stands: bool,
    /// It was.
    pub(crate) refused: bool,
}

/// Producers, by what they wait for, in the order of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Producing {
    stored: VecDeque<Pending>,
    replicated: VecDeque<Pending>,
}

impl Producing {
    pub(crate) fn push(&mut self, acks: Acks, pending: Pending) {
        let queue = match acks {
            Acks::None => return,
            Acks::Leader => &mut self.stored,
            Acks::All | Acks::Standing => &mut self.replicated,
        };
        // Only a duplicate of a batch in flight does not go to the end.
        let at = queue.partition_point(|other| other.end_offset <= pending.end_offset);
        queue.insert(at, pending);
    }

    /// The next request that waits for storage and is below `stored`.
    pub(crate) fn pop_stored(&mut self, stored: i64) -> Option<Pending> {
        self.stored.pop_front_if(|pending| pending.end_offset <= stored)
    }

    /// The next request that waits for replication and is below `high_watermark`.
    pub(crate) fn pop_replicated(&mut self, high_watermark: i64) -> Option<Pending> {
        self.replicated.pop_front_if(|pending| pending.end_offset <= high_watermark)
    }

    /// The next request that waits for replication, is below `end` and gets no acknowledgement. One that stands waits on.
    pub(crate) fn refuse(&mut self, end: i64) -> Option<Pending> {
        let below = self.replicated.partition_point(|pending| pending.end_offset <= end);
        let at = self.replicated.range(..below).position(|pending| !pending.refused)?;
        let pending = self.replicated.get_mut(at)?;
        if pending.stands {
            pending.refused = true;
            return Some(*pending);
        }
        self.replicated.remove(at)
    }

    /// Where the last request that waits for replication ends.
    pub(crate) fn awaited(&self) -> Option<i64> {
        self.replicated.back().map(|pending| pending.end_offset)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.replicated.is_empty()
    }

    /// From now on everyone waits for replication.
    pub(crate) fn wait_for_all(&mut self) {
        for pending in std::mem::take(&mut self.stored) {
            self.push(Acks::All, pending);
        }
    }

    pub(crate) fn cancel(&mut self, token: Token) {
        self.stored.retain(|pending| pending.token != token);
        self.replicated.retain(|pending| pending.token != token);
    }

    /// Those whose batches end behind `end`, in the order of the log; they are not left.
    pub(crate) fn drain_behind(&mut self, end: i64) -> impl Iterator<Item = Token> {
        let mut behind = Vec::new();
        for queue in [&mut self.stored, &mut self.replicated] {
            let at = queue.partition_point(|pending| pending.end_offset <= end);
            behind.extend(queue.drain(at..));
        }
        behind.sort_by_key(|pending| pending.end_offset);
        behind.into_iter().map(|pending| pending.token)
    }

    /// Everyone, in the order of the log; none are left.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Token> {
        let mut all: Vec<Pending> = self.stored.drain(..).chain(self.replicated.drain(..)).collect();
        all.sort_by_key(|pending| pending.end_offset);
        all.into_iter().map(|pending| pending.token)
    }
}

/// A fetch from `offset` that saw everything below `beyond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Parked {
    pub(crate) token: Token,
    pub(crate) view: View,
    pub(crate) offset: i64,
    pub(crate) beyond: i64,
    /// What a follower was told.
    pub(crate) told: Option<Told>,
}

impl Parked {
    /// Whether it comes from a follower that takes over more than it was told.
    pub(crate) fn is_told_less_than(&self, high_watermark: i64) -> bool {
        self.told.is_some_and(|told| told.high_watermark < takes_over(high_watermark, self.offset))
    }
}

/// Fetches, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fetching(Vec<Parked>);

impl Fetching {
    pub(crate) fn push(&mut self, parked: Parked) {
        self.0.push(parked);
    }

    /// Takes out those that `ready` chooses and hands each to `wake`.
    pub(crate) fn wake(&mut self, ready: impl Fn(&Parked) -> bool, mut wake: impl FnMut(Token)) {
        self.0.retain(|parked| {
            let ready = ready(parked);
            if ready {
                wake(parked.token);
            }
            !ready
        });
    }
}
