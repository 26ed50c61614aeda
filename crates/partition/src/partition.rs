//! The step function: each input, what it changes, and what follows. What only followers do is in [`crate::follower`].

use moldau_base::planted::{Bug, planted};
use moldau_base::{LeaderEpoch, Mono, NodeId, Now};
use moldau_batch::{Batch, Header};

use crate::effect::{Effect, Proposal};
use crate::follower::{Cut, Follower};
use crate::input::{Acks, FollowerFetch, Input, Token, View};
use crate::leader::{Leader, Leadership, Own};
use crate::producers::{Admission, Producers};
use crate::refusal::Refusal;
use crate::waiting::{Fetching, Parked, Pending, Producing};

/// Where the log stands when the partition is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// First offset.
    pub start_offset: i64,
    /// Offset after the last record. All of it is stored.
    pub end_offset: i64,
    /// The checkpointed high watermark.
    pub high_watermark: i64,
}

/// One replica of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Partition {
    pub(crate) me: NodeId,
    pub(crate) start_offset: i64,
    /// The log's end, known from its appends.
    pub(crate) end_offset: i64,
    pub(crate) stored_offset: i64,
    pub(crate) high_watermark: i64,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) role: Role,
    /// The log is being cut, whatever the role.
    pub(crate) cut: Option<Cut>,
    pub(crate) producers: Producers,
    /// The producers' state can be taken back to an end of the log from here on.
    pub(crate) undo_from: i64,
    /// The request whose batches the log is taking.
    appending: Option<Appending>,
    producing: Producing,
    pub(crate) fetching: Fetching,
}

/// What this replica is at its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Nothing: metadata has not said, or the log is out of service.
    Idle,
    Leader(Box<Leader>),
    Follower(Box<Follower>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Appending {
    token: Token,
    acks: Acks,
    append_time: Option<i64>,
}

impl Partition {
    /// A replica without a role yet. `producers` is the state at the log's end.
    pub fn new(me: NodeId, log: LogState, producers: Producers) -> Partition {
        Partition {
            me,
            start_offset: log.start_offset,
            end_offset: log.end_offset,
            stored_offset: log.end_offset,
            high_watermark: log.high_watermark.clamp(log.start_offset, log.end_offset),
            epoch: LeaderEpoch(-1),
            role: Role::Idle,
            cut: None,
            undo_from: producers.first_undo().unwrap_or(log.end_offset),
            producers,
            appending: None,
            producing: Producing::default(),
            fetching: Fetching::default(),
        }
    }

    /// A replica without records whose place on disk another log had just before: it takes none until [`Input::Truncated`] says that
    /// the marks of that log are gone.
    pub fn renewed(me: NodeId) -> Partition {
        let fresh = Partition::new(me, LogState::default(), Producers::default());
        Partition { cut: Some(Cut::Restarting), ..fresh }
    }

    /// Takes one input and appends what follows from it to `out`.
    pub fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Effect>) {
        match input {
            Input::Lead(state) => self.lead(now, state, out),
            Input::Follow(decision) => self.follow(decision, out),
            Input::MinIsr(min_isr) => self.min_isr(min_isr, out),
            Input::Stop { epoch, refusal } => self.stop(epoch, refusal, out),
            Input::Produce { token, acks, batches, append_time } => {
                let appending = Appending { token, acks, append_time };
                if let Err(refusal) = self.produce(appending, batches, out) {
                    if matches!(refusal, Refusal::NotLeader | Refusal::NotEnoughReplicas) {
                        self.producers.refuse(batches, now.mono);
                    }
                    out.push(Effect::Refuse { token, refusal });
                }
            }
            Input::Appended { token, base_offset, batches } => {
                self.appended(now, token, base_offset, batches, out)
            }
            Input::Refused { batches } => self.producers.refuse(batches, now.mono),
            Input::NotAppended { token, refusal } => {
                self.take_appending(token);
                out.push(Effect::Refuse { token, refusal });
            }
            Input::Stored { end_offset } => self.stored(now, end_offset, out),
            Input::TakenBack { end_offset } => self.take_back(end_offset, out),
            Input::FollowerFetch(fetch) => self.follower_fetch(now, &fetch, out),
            Input::Gone { node } => {
                let matters = self.leader_mut().is_some_and(|leader| leader.gone(node));
                self.propose_if(matters, now, out);
                self.listen_to(&[node], out);
            }
            Input::IsrAnswer { leader_epoch, partition_epoch, answer } => {
                let of_now = leader_epoch == self.epoch;
                let leader = self.leader_mut().filter(|_| of_now);
                let changed = leader.is_some_and(|l| l.answered(now.mono, partition_epoch, answer));
                self.listen_to_excluded(out);
                self.advance(out);
                self.propose_if(changed, now, out);
            }
            Input::Tick => {
                let own = self.own();
                let proposal = self.leader_mut().and_then(|leader| leader.tick(now.mono, own));
                out.extend(proposal.map(Effect::ProposeIsr));
            }
            Input::Fetched(fetched) => self.fetched(&fetched, out),
            Input::FetchedAppended { batches } => self.fetched_appended(now, batches, out),
            Input::FetchedNotAppended => {}
            Input::Truncated { end_offset } => self.truncated(now, end_offset, out),
            Input::Replayed { producers } => self.replayed(now, producers, out),
            Input::LogStart { offset } => {
                self.start_at(offset, out);
                self.advance(out);
            }
            Input::Wait { token, view, offset, beyond, told } => {
                self.wait(Parked { token, view, offset, beyond, told }, out)
            }
            Input::Cancel { token } => {
                self.producing.cancel(token);
                self.fetching.wake(|parked| parked.token == token, |_| ());
            }
            Input::Expire { after_ms } => self.producers.expire(now, after_ms),
        }
    }

    /// When to give [`Input::Tick`]; a leader without followers that are behind, and a follower, has nothing to wait for.
    pub fn deadline(&self) -> Option<Mono> {
        self.leader().and_then(Leader::deadline)
    }

    fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    fn own(&self) -> Own {
        Own {
            node: self.me,
            stored: self.stored_offset,
            high_watermark: self.high_watermark,
            awaited: self.producing.awaited(),
        }
    }

    fn propose_if(&mut self, matters: bool, now: Now, out: &mut Vec<Effect>) {
        let own = self.own();
        let propose = |leader: &mut Leader| -> Option<Proposal> { leader.propose(now.mono, own) };
        out.extend(self.leader_mut().filter(|_| matters).and_then(propose).map(Effect::ProposeIsr));
    }

    /// Followers that are out of the in-sync set, said to be gone, or say less than before, come back by what they say themselves: one
    /// that waits, because it has everything, is to ask again.
    fn listen_to(&mut self, nodes: &[NodeId], out: &mut Vec<Effect>) {
        let concerned = |parked: &Parked| parked.told.is_some_and(|told| nodes.contains(&told.node));
        self.fetching.wake(concerned, |token| out.push(Effect::Wake { token }));
    }

    fn listen_to_excluded(&mut self, out: &mut Vec<Effect>) {
        let excluded = self.leader_mut().map(Leader::take_excluded).unwrap_or_default();
        if !excluded.is_empty() {
            self.listen_to(&excluded, out);
        }
    }

    fn lead(&mut self, now: Now, state: Leadership, out: &mut Vec<Effect>) {
        let (me, epoch) = (self.me, state.epoch);
        match &mut self.role {
            _ if epoch < self.epoch => {}
            Role::Leader(leader) if epoch == self.epoch => {
                if leader.update(now.mono, me, state) {
                    self.listen_to_excluded(out);
                    self.advance(out);
                    self.propose_if(true, now, out);
                }
            }
            Role::Follower(follower) if epoch == self.epoch => {
                if let Some(promoted) = &mut follower.promoted {
                    *promoted = state;
                }
            }
            _ if self.cut.is_some() => {
                self.epoch = epoch;
                self.give_up(Refusal::NotLeader, out);
                self.role = Role::Follower(Box::new(Follower::promoted(state)));
            }
            _ => self.become_leader(now, state, out),
        }
    }

    pub(crate) fn become_leader(&mut self, now: Now, state: Leadership, out: &mut Vec<Effect>) {
        let epoch = state.epoch;
        self.epoch = epoch;
        self.role = Role::Leader(Box::new(Leader::new(now.mono, self.me, state, self.end_offset)));
        out.push(Effect::StartEpoch { epoch, start_offset: self.end_offset });
        self.fetching.wake(|_| true, |token| out.push(Effect::Wake { token }));
        self.advance(out);
    }

    fn min_isr(&mut self, min_isr: usize, out: &mut Vec<Effect>) {
        match &mut self.role {
            Role::Leader(leader) => leader.state.min_isr = min_isr,
            Role::Follower(follower) => {
                if let Some(promoted) = &mut follower.promoted {
                    promoted.min_isr = min_isr;
                }
            }
            Role::Idle => {}
        }
        self.advance(out);
    }

    fn stop(&mut self, epoch: Option<LeaderEpoch>, refusal: Refusal, out: &mut Vec<Effect>) {
        if epoch.is_some_and(|epoch| epoch < self.epoch) {
            return;
        }
        self.epoch = epoch.unwrap_or(self.epoch);
        self.role = Role::Idle;
        self.give_up(refusal, out);
    }

    /// Answers everyone who waits.
    pub(crate) fn give_up(&mut self, refusal: Refusal, out: &mut Vec<Effect>) {
        out.extend(self.producing.drain().map(|token| Effect::Refuse { token, refusal }));
        self.fetching.wake(|_| true, |token| out.push(Effect::Wake { token }));
    }

    /// Another node leads. Producers that wait are answered by what its log turns out to have; a record that it has, and that everybody
    /// in sync with it has, is as safe as one that was acknowledged here.
    pub(crate) fn leave_to_leader(&mut self, out: &mut Vec<Effect>) {
        self.producing.wait_for_all();
        self.fetching.wake(|_| true, |token| out.push(Effect::Wake { token }));
    }

    /// Refuses the producers whose batches are not in the log any more, which was cut at `end`.
    pub(crate) fn refuse_cut(&mut self, end: i64, out: &mut Vec<Effect>) {
        let refusal = Refusal::NotLeader;
        out.extend(self.producing.drain_behind(end).map(|token| Effect::Refuse { token, refusal }));
    }

    fn stored(&mut self, now: Now, end_offset: i64, out: &mut Vec<Effect>) {
        assert!(
            end_offset <= self.end_offset,
            "stored {end_offset} of a log that ends at {}",
            self.end_offset
        );
        self.stored_offset = self.stored_offset.max(end_offset);
        let own = self.own();
        if let Role::Leader(leader) = &mut self.role {
            leader.stored(now.mono, own);
        }
        self.advance(out);
    }

    fn follower_fetch(&mut self, now: Now, fetch: &FollowerFetch, out: &mut Vec<Effect>) {
        let own = self.own();
        let of_now = fetch.leader_epoch == self.epoch || planted(Bug::AnyEpochCounts);
        let Some(leader) = self.leader_mut().filter(|_| of_now) else { return };
        let said_more = leader.heard_of(fetch.node).is_some_and(|end| end > fetch.offset);
        let may_join = leader.fetched(now.mono, fetch, own);
        if said_more {
            // This may have been on its way for long, on a connection that the follower has given up since.
            self.listen_to(&[fetch.node], out);
        }
        self.advance(out);
        self.propose_if(may_join, now, out);
    }

    /// Forgets what need not be taken back any more.
    fn settle(&mut self) {
        let forgotten = self.producers.settle(self.high_watermark, self.stored_offset);
        self.undo_from = self.undo_from.max(forgotten.unwrap_or(0));
    }

    fn produce(
        &mut self,
        request: Appending,
        batches: &[Batch],
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        assert!(self.appending.is_none(), "an append has no result yet");
        let Appending { token, acks, append_time } = request;
        let leader = self.leader().ok_or(Refusal::NotLeader)?;
        if matches!(acks, Acks::All | Acks::Standing) && !leader.has_min_isr() {
            return Err(Refusal::NotEnoughReplicas);
        }
        match self.producers.admit(batches)? {
            Admission::Fresh => {
                self.appending = Some(request);
                out.push(Effect::Append { token, epoch: self.epoch, append_time });
            }
            Admission::Duplicate { base_offset, end_offset, timestamp } => {
                let stands = acks == Acks::Standing;
                let append_time = timestamp;
                self.producing.push(
                    acks,
                    Pending { token, base_offset, end_offset, append_time, stands, refused: false },
                );
                self.acknowledge(i64::MIN, out);
            }
        }
        Ok(())
    }

    fn take_appending(&mut self, token: Token) -> Appending {
        let appending = self.appending.take().filter(|appending| appending.token == token);
        appending.expect("the result of an append that was asked for")
    }

    /// Remembers the producers, by the headers that the log has, and who waits.
    fn appended(
        &mut self,
        now: Now,
        token: Token,
        base_offset: i64,
        batches: &[Batch],
        out: &mut Vec<Effect>,
    ) {
        let Appending { acks, append_time, .. } = self.take_appending(token);
        assert_eq!(base_offset, self.end_offset, "the log appends at its end");
        for batch in batches {
            let header = batch.header();
            let max_timestamp = append_time.unwrap_or(header.max_timestamp);
            let stamped =
                Header { base_offset: self.end_offset, leader_epoch: self.epoch.0, max_timestamp, ..*header };
            assert!(stamped.next_offset() > self.end_offset, "a batch without records");
            self.producers.append(&stamped, batch.marker(), now.mono);
            self.end_offset = stamped.next_offset();
        }
        let pending = Pending {
            token,
            base_offset,
            end_offset: self.end_offset,
            append_time: append_time.unwrap_or(-1),
            stands: acks == Acks::Standing,
            refused: false,
        };
        if planted(Bug::AcknowledgeEarly) {
            self.producing.push(acks, Pending { end_offset: 0, ..pending });
            return self.acknowledge(i64::MIN, out);
        }
        self.producing.push(acks, pending);
    }

    fn take_back(&mut self, end_offset: i64, out: &mut Vec<Effect>) {
        if matches!(self.cut, Some(Cut::Truncating | Cut::Restarting)) {
            // The end of the cut tells where the log ends.
            return;
        }
        assert!(
            self.stored_offset <= end_offset && end_offset <= self.end_offset,
            "a log that ends at {} cannot be cut at {end_offset}",
            self.end_offset
        );
        self.end_offset = end_offset;
        match &mut self.role {
            Role::Follower(_) => self.producers.truncate(end_offset),
            Role::Idle => self.producers.take_back(end_offset),
            Role::Leader(leader) => {
                leader.epoch_start = leader.epoch_start.min(end_offset);
                self.producers.take_back(end_offset);
            }
        }
        let refusal = Refusal::Storage;
        out.extend(self.producing.drain_behind(end_offset).map(|token| Effect::Refuse { token, refusal }));
    }

    /// Moves the first offset.
    pub(crate) fn start_at(&mut self, offset: i64, out: &mut Vec<Effect>) {
        assert!(offset <= self.end_offset, "a log that ends at {} cannot start at {offset}", self.end_offset);
        let moved = offset > self.start_offset;
        self.start_offset = self.start_offset.max(offset);
        if self.high_watermark < self.start_offset {
            self.high_watermark = self.start_offset;
            out.push(Effect::HighWatermark { offset: self.high_watermark });
        }
        let start = self.start_offset;
        // Followers take over the start.
        let concerned = |parked: &Parked| parked.offset < start || moved && parked.told.is_some();
        self.fetching.wake(concerned, |token| out.push(Effect::Wake { token }));
    }

    fn wait(&mut self, parked: Parked, out: &mut Vec<Effect>) {
        let serves = match self.role {
            Role::Idle => false,
            Role::Leader(_) => true,
            Role::Follower(_) => parked.view != View::Stored,
        };
        if !serves || parked.offset < self.start_offset || self.is_news(&parked) {
            out.push(Effect::Wake { token: parked.token });
        } else {
            self.fetching.push(parked);
        }
    }

    fn is_news(&self, parked: &Parked) -> bool {
        parked.beyond < self.end_of(parked.view) || parked.is_told_less_than(self.high_watermark)
    }

    /// What follows when more is stored or fewer replicas have to.
    pub(crate) fn advance(&mut self, out: &mut Vec<Effect>) {
        let mut refused_below = i64::MIN;
        match &self.role {
            Role::Idle => {}
            Role::Follower(_) => self.keep_up(out),
            Role::Leader(leader) => {
                let replicated = leader.replicated(self.stored_offset);
                let replicated =
                    if planted(Bug::LeaderAlone) { Some(self.stored_offset) } else { replicated };
                match replicated {
                    Some(offset) if !leader.has_min_isr() => refused_below = offset,
                    Some(offset) if offset > self.high_watermark => self.raise_high_watermark(offset, out),
                    _ => {}
                }
            }
        }
        self.acknowledge(refused_below, out);
        self.wake(out);
        self.settle();
    }

    pub(crate) fn raise_high_watermark(&mut self, offset: i64, out: &mut Vec<Effect>) {
        self.high_watermark = offset;
        self.producers.replicated(offset);
        out.push(Effect::HighWatermark { offset });
    }

    /// Wakes the fetches that there is something for.
    fn wake(&mut self, out: &mut Vec<Effect>) {
        let ends = [View::Committed, View::Replicated, View::Stored].map(|view| self.end_of(view));
        let high_watermark = self.high_watermark;
        self.fetching.wake(
            |parked| parked.beyond < ends[parked.view as usize] || parked.is_told_less_than(high_watermark),
            |token| out.push(Effect::Wake { token }),
        );
    }

    /// Answers producers that have what they asked for, or will not get it: what every replica in sync has, while these are too few,
    /// is below `refused_below`.
    fn acknowledge(&mut self, refused_below: i64, out: &mut Vec<Effect>) {
        let log_start_offset = self.start_offset;
        let acknowledge = |pending: Pending| Effect::Acknowledge {
            token: pending.token,
            base_offset: pending.base_offset,
            append_time: pending.append_time,
            log_start_offset,
        };
        while let Some(pending) = self.producing.pop_stored(self.stored_offset) {
            out.push(acknowledge(pending));
        }
        // A follower hears of no higher high watermark while too few are in sync.
        if self.leader().is_none_or(Leader::has_min_isr) {
            while let Some(pending) = self.producing.pop_replicated(self.high_watermark) {
                out.push(acknowledge(pending));
            }
            return;
        }
        while let Some(pending) = self.producing.refuse(self.high_watermark.max(refused_below)) {
            let refusal = Refusal::NotEnoughReplicasAfterAppend;
            out.push(Effect::Refuse { token: pending.token, refusal });
        }
    }

    /// May a client that knows this leader epoch (-1 and `None`: none) read or ask here? As Kafka decides: the epoch first.
    pub fn check_epoch(&self, known: Option<i32>) -> Result<(), Refusal> {
        self.check_reader(known)?;
        self.leader().map(|_| ()).ok_or(Refusal::NotLeader)
    }

    /// The same for a consumer that may read from a follower, too (KIP-392).
    pub fn check_reader(&self, known: Option<i32>) -> Result<(), Refusal> {
        match known {
            Some(known) if known >= 0 && known < self.epoch.0 => Err(Refusal::FencedLeaderEpoch),
            Some(known) if known > self.epoch.0 => Err(Refusal::UnknownLeaderEpoch),
            _ if matches!(self.role, Role::Idle) => Err(Refusal::NotLeader),
            _ => Ok(()),
        }
    }

    /// Offset after the last record that this view shows.
    pub fn end_of(&self, view: View) -> i64 {
        match view {
            View::Committed => self.last_stable_offset(),
            View::Replicated if planted(Bug::ReadStored) => self.stored_offset,
            View::Replicated => self.high_watermark,
            View::Stored => self.stored_offset,
        }
    }

    /// The newest offset, for ListOffsets; clients must not learn one that goes back. `OffsetNotAvailable` just after an election.
    pub fn latest(&self, view: View) -> Result<i64, Refusal> {
        let leader = self.leader().ok_or(Refusal::NotLeader)?;
        let knows = leader.epoch_start <= self.high_watermark || planted(Bug::EndAtOnce);
        if view != View::Stored && !knows { Err(Refusal::OffsetNotAvailable) } else { Ok(self.end_of(view)) }
    }

    /// As the leader: everything below this is stored by that follower. `None` when it is not in sync, or was not heard of.
    pub fn follower_end(&self, node: NodeId) -> Option<i64> {
        self.leader()?.end_of(node)
    }

    /// First offset of the log.
    pub fn log_start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Offset after the last record that the log has taken.
    pub fn log_end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Offset after the last record that every in-sync replica has.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The high watermark, or the first offset of an open transaction below it.
    pub fn last_stable_offset(&self) -> i64 {
        self.producers.first_unstable().map_or(self.high_watermark, |first| first.min(self.high_watermark))
    }

    /// Whether producers wait for an answer.
    pub fn owes_answers(&self) -> bool {
        !self.producing.is_empty()
    }

    /// The newest leader epoch this replica has heard of; -1 before the first.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The leader's state, while this node leads.
    pub fn leadership(&self) -> Option<&Leadership> {
        self.leader().map(|leader| &leader.state)
    }

    /// Whether the high watermark waits for this replica: it is in sync, or about to be.
    pub fn waits_for(&self, node: NodeId) -> bool {
        self.leader().is_some_and(|leader| leader.counts(node))
    }

    /// The producers that are remembered.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }
}
