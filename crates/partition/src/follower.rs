//! The other role: a replica that copies its leader's log, batch by batch as they are.
//!
//! It asks its host to fetch ([`Partition::to_fetch`]) one thing at a time. Its log is cut only where the leader's epochs say that
//! the two logs part (KIP-101, KIP-595), never at the high watermark, which a follower knows late. A decision that this node leads waits
//! until a cut has ended.
//!
//! One that led before keeps the producers that wait: what they sent is safe when the next leader has it and says, by its high watermark,
//! that everybody in sync has. What the log is cut by is refused.

use moldau_base::planted::{Bug, planted};
use moldau_base::{NodeId, Now};
use moldau_batch::Batch;

use crate::effect::{Effect, ToFetch};
use crate::input::{EpochEnd, Fetched, Following, News};
use crate::leader::Leadership;
use crate::partition::{Partition, Role};
use crate::producers::Producers;
use crate::refusal::Refusal;

/// How much of its leader's high watermark a follower takes over that has stored everything below `end_offset`. What a leader tells it is
/// measured by this as well: one that a throttle holds back would otherwise be told the same without an end.
pub fn takes_over(high_watermark: i64, end_offset: i64) -> i64 {
    high_watermark.min(end_offset)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    leader: Option<NodeId>,
    /// What the leader said in this epoch.
    high_watermark: i64,
    log_start: i64,
    /// The leader's log begins here, inside of the batch that comes next.
    inside: i64,
    /// This node is to lead as soon as its log has been cut.
    pub(crate) promoted: Option<Leadership>,
}

impl Follower {
    pub(crate) fn promoted(state: Leadership) -> Follower {
        Follower { promoted: Some(state), ..Follower::default() }
    }
}

/// What a log that is being cut waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cut {
    /// The end of [`Effect::Truncate`].
    Truncating,
    /// The end of [`Effect::Restart`].
    Restarting,
    /// What [`Effect::ReplayProducers`] asked for.
    Replaying,
}

impl Partition {
    pub(crate) fn follow(&mut self, decision: Following, out: &mut Vec<Effect>) {
        let Following { epoch, leader } = decision;
        match &mut self.role {
            _ if epoch < self.epoch => return,
            Role::Leader(_) if epoch == self.epoch => return,
            Role::Follower(follower) if epoch == self.epoch => {
                follower.leader = leader;
                return;
            }
            _ => {}
        }
        self.epoch = epoch;
        match leader {
            Some(_) => self.leave_to_leader(out),
            None => self.give_up(Refusal::NotLeader, out),
        }
        self.role = Role::Follower(Box::new(Follower { leader, ..Follower::default() }));
        if planted(Bug::TruncateToHighWatermark)
            && self.cut.is_none()
            && self.high_watermark < self.end_offset
        {
            self.cut_at(self.high_watermark, out);
        }
    }

    /// What this follower wants to be fetched: nothing while its log takes, stores or cuts something, or has no leader.
    pub fn to_fetch(&self) -> Option<ToFetch> {
        let Role::Follower(follower) = &self.role else { return None };
        let idle = self.cut.is_none() && follower.promoted.is_none() && self.stored_offset == self.end_offset;
        let leader = follower.leader.filter(|_| idle)?;
        let offset = if self.is_empty() { self.end_offset.max(follower.inside) } else { self.end_offset };
        Some(ToFetch { leader, leader_epoch: self.epoch, offset })
    }

    /// The log is being cut, or the producers of what is left are being read: those that are known here are not those of the log.
    pub fn is_being_cut(&self) -> bool {
        self.cut.is_some()
    }

    fn is_empty(&self) -> bool {
        self.start_offset == self.end_offset
    }

    pub(crate) fn fetched(&mut self, fetched: &Fetched<'_>, out: &mut Vec<Effect>) {
        let wanted = self.to_fetch();
        let is_it = |w: &ToFetch| w.leader_epoch == fetched.leader_epoch && w.offset == fetched.offset;
        let Role::Follower(follower) = &mut self.role else { return };
        if !wanted.as_ref().is_some_and(is_it) {
            return;
        }
        follower.log_start = follower.log_start.max(fetched.log_start_offset);
        match fetched.news {
            News::Diverging { leader, own } => self.diverged(fetched.log_start_offset, leader, own, out),
            News::OutOfRange => self.out_of_range(fetched.log_start_offset, out),
            News::Batches(batches) => {
                follower.high_watermark = follower.high_watermark.max(fetched.high_watermark);
                self.take(batches, out);
            }
        }
    }

    /// The leader has nothing at the offset of the fetch: what is here is older than all it has. An empty log has nothing to lose anyway.
    fn out_of_range(&mut self, log_start: i64, out: &mut Vec<Effect>) {
        if log_start > self.end_offset || self.is_empty() && log_start < self.end_offset {
            self.restart_at(log_start, out);
        }
    }

    /// Appends those batches that follow the log's end.
    fn take(&mut self, batches: &[Batch], out: &mut Vec<Effect>) {
        let (mut end, mut epoch) = (self.end_offset, 0);
        let fits = |batch: &&Batch| {
            let header = batch.header();
            let fits = header.base_offset >= end
                && header.last_offset_delta >= 0
                && (epoch..=self.epoch.0).contains(&header.leader_epoch);
            (end, epoch) = (header.next_offset(), header.leader_epoch);
            fits
        };
        let count = batches.iter().take_while(fits).count();
        let first = batches.first().map(Batch::header);
        let inside = first.filter(|first| {
            self.is_empty() && (first.base_offset..first.next_offset()).contains(&self.end_offset)
        });
        if count > 0 {
            out.push(Effect::AppendFetched { count });
        } else if let (Some(first), Role::Follower(follower)) = (inside, &mut self.role) {
            follower.inside = self.end_offset;
            self.restart_at(first.base_offset, out);
        } else {
            self.advance(out);
        }
    }

    /// The log has taken what was fetched.
    pub(crate) fn fetched_appended(&mut self, now: Now, batches: &[Batch], out: &mut Vec<Effect>) {
        assert!(self.cut.is_none(), "an append to a log that is being cut");
        for batch in batches {
            let header = batch.header();
            assert!(header.base_offset >= self.end_offset, "the log appends behind its end");
            self.producers.append(header, batch.marker(), now.mono);
            self.end_offset = header.next_offset();
        }
        self.advance(out);
    }

    /// Takes over the leader's log start and, as far as it is stored here, its high watermark.
    pub(crate) fn keep_up(&mut self, out: &mut Vec<Effect>) {
        let Role::Follower(follower) = &self.role else { return };
        let high_watermark = takes_over(follower.high_watermark, self.stored_offset);
        let start = follower.log_start.min(self.end_offset);
        if high_watermark > self.high_watermark {
            self.raise_high_watermark(high_watermark, out);
        }
        if start > self.start_offset {
            // What the leader has deleted need not be what is here: nobody who waits is told that it is safe.
            if start > self.high_watermark {
                self.refuse_cut(self.high_watermark, out);
            }
            out.push(Effect::MoveLogStart { offset: start });
            self.start_at(start, out);
        }
    }

    /// The leader's log parts from this one: both know only what is below the end of the largest epoch they share.
    fn diverged(
        &mut self,
        start: i64,
        leader: Option<EpochEnd>,
        own: Option<EpochEnd>,
        out: &mut Vec<Effect>,
    ) {
        let Some(leader) = leader else { return self.restart_at(start, out) };
        let own_end = own.map_or(self.start_offset, |own| own.end_offset);
        let shared = leader.end_offset.min(own_end).max(self.start_offset);
        if shared < self.end_offset {
            self.cut_at(shared, out);
        } else if self.is_empty() {
            // All that parted from the leader's log was deleted here, and its epoch is all that is left of it.
            self.restart_at(self.end_offset, out);
        }
    }

    fn cut_at(&mut self, offset: i64, out: &mut Vec<Effect>) {
        self.cut = Some(Cut::Truncating);
        out.push(Effect::Truncate { offset });
    }

    fn restart_at(&mut self, offset: i64, out: &mut Vec<Effect>) {
        self.cut = Some(Cut::Restarting);
        out.push(Effect::Restart { offset: offset.max(0) });
    }

    /// The log was cut.
    pub(crate) fn truncated(&mut self, now: Now, end: i64, out: &mut Vec<Effect>) {
        let restarted = match self.cut {
            Some(Cut::Truncating) => false,
            Some(Cut::Restarting) => true,
            Some(Cut::Replaying) | None => panic!("the end of a cut that was not asked for"),
        };
        assert!(restarted || end <= self.end_offset, "cut at {end} a log that ends at {}", self.end_offset);
        self.end_offset = end;
        self.stored_offset = if restarted { end } else { self.stored_offset.min(end) };
        self.start_offset = if restarted { end } else { self.start_offset.min(end) };
        self.refuse_cut(if restarted { i64::MIN } else { end }, out);
        let high_watermark = if restarted { end } else { self.high_watermark.min(end) };
        if high_watermark != self.high_watermark {
            self.high_watermark = high_watermark;
            out.push(Effect::HighWatermark { offset: high_watermark });
            self.fetching.wake(|_| true, |token| out.push(Effect::Wake { token }));
        }
        if restarted {
            self.replayed(now, Producers::default(), out);
        } else if end < self.undo_from && !self.producers.is_empty() {
            self.cut = Some(Cut::Replaying);
            out.push(Effect::ReplayProducers);
        } else {
            if !planted(Bug::KeepCutProducers) {
                self.producers.truncate(end);
            }
            self.cut_ended(now, out);
        }
    }

    /// The producers of a log that was cut are known again.
    pub(crate) fn replayed(&mut self, now: Now, producers: Producers, out: &mut Vec<Effect>) {
        assert!(self.cut.is_some(), "producers that were not asked for");
        self.undo_from = producers.first_undo().unwrap_or(self.end_offset);
        self.producers = producers;
        self.producers.replicated(self.high_watermark);
        self.cut_ended(now, out);
    }

    fn cut_ended(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.cut = None;
        let promoted = match &mut self.role {
            Role::Follower(follower) => follower.promoted.take(),
            _ => None,
        };
        match promoted {
            Some(state) => self.become_leader(now, state, out),
            None => self.advance(out),
        }
    }
}
