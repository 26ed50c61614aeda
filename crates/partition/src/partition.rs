//! The step function: each input, what it changes, and what follows.

use moldau_base::planted::{Bug, planted};
use moldau_base::{LeaderEpoch, NodeId, Now};
use moldau_batch::{Batch, Header};

use crate::input::{Acks, Effect, Input, Refusal, Token, View};
use crate::leader::{Leader, Leadership};
use crate::producers::{Admission, Producers};
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
#[derive(Debug)]
pub struct Partition {
    me: NodeId,
    start_offset: i64,
    /// The log's end, known from its appends.
    end_offset: i64,
    stored_offset: i64,
    high_watermark: i64,
    epoch: LeaderEpoch,
    leader: Option<Box<Leader>>,
    producers: Producers,
    /// The request whose batches the log is taking.
    appending: Option<Appending>,
    producing: Producing,
    fetching: Fetching,
}

#[derive(Clone, Copy, Debug)]
struct Appending {
    token: Token,
    acks: Acks,
    append_time: Option<i64>,
}

impl Partition {
    /// A replica that leads nothing yet. `producers` is the state at the log's end.
    pub fn new(me: NodeId, log: LogState, producers: Producers) -> Partition {
        Partition {
            me,
            start_offset: log.start_offset,
            end_offset: log.end_offset,
            stored_offset: log.end_offset,
            high_watermark: log.high_watermark.clamp(log.start_offset, log.end_offset),
            epoch: LeaderEpoch(-1),
            leader: None,
            producers,
            appending: None,
            producing: Producing::default(),
            fetching: Fetching::default(),
        }
    }

    /// Takes one input and appends what follows from it to `out`.
    pub fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Effect>) {
        match input {
            Input::Lead(state) => self.lead(state, out),
            Input::MinIsr(min_isr) => {
                if let Some(leader) = &mut self.leader {
                    leader.state.min_isr = min_isr;
                }
            }
            Input::Stop { epoch, refusal } => self.stop(epoch, refusal, out),
            Input::Produce { token, acks, batches, append_time } => {
                let appending = Appending { token, acks, append_time };
                if let Err(refusal) = self.produce(appending, batches, out) {
                    out.push(Effect::Refuse { token, refusal });
                }
            }
            Input::Appended { token, base_offset, batches } => {
                self.appended(now, token, base_offset, batches, out)
            }
            Input::NotAppended { token, refusal } => {
                self.take_appending(token);
                out.push(Effect::Refuse { token, refusal });
            }
            Input::Stored { end_offset } => {
                assert!(
                    end_offset <= self.end_offset,
                    "stored {end_offset} of a log that ends at {}",
                    self.end_offset
                );
                self.stored_offset = self.stored_offset.max(end_offset);
                self.producers.stored(self.stored_offset);
                self.advance(out);
            }
            Input::TakenBack { end_offset } => self.take_back(end_offset, out),
            Input::ReplicaStored { node, end_offset } => {
                if let Some(leader) = &mut self.leader {
                    leader.follower_stored(node, end_offset);
                }
                self.advance(out);
            }
            Input::LogStart { offset } => self.cut(offset, out),
            Input::Wait { token, view, offset, beyond } => {
                self.wait(Parked { token, view, offset, beyond }, out)
            }
            Input::Cancel { token } => {
                self.producing.cancel(token);
                self.fetching.wake(|parked| parked.token == token, |_| ());
            }
            Input::Expire { after_ms } => self.producers.expire(now, after_ms),
        }
    }

    fn lead(&mut self, state: Leadership, out: &mut Vec<Effect>) {
        let epoch = state.epoch;
        match &mut self.leader {
            _ if epoch < self.epoch => return,
            Some(leader) if epoch == self.epoch => {
                if !leader.update(state) {
                    return;
                }
            }
            _ => {
                self.epoch = epoch;
                self.leader = Some(Box::new(Leader::new(state, self.end_offset)));
                out.push(Effect::StartEpoch { epoch, start_offset: self.end_offset });
                self.fetching.wake(|_| true, |token| out.push(Effect::Wake { token }));
            }
        }
        self.advance(out);
    }

    fn stop(&mut self, epoch: Option<LeaderEpoch>, refusal: Refusal, out: &mut Vec<Effect>) {
        if epoch.is_some_and(|epoch| epoch < self.epoch) {
            return;
        }
        self.epoch = epoch.unwrap_or(self.epoch);
        self.leader = None;
        out.extend(self.producing.drain().map(|token| Effect::Refuse { token, refusal }));
        self.fetching.wake(|_| true, |token| out.push(Effect::Wake { token }));
    }

    fn produce(
        &mut self,
        request: Appending,
        batches: &[Batch],
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        assert!(self.appending.is_none(), "an append has no result yet");
        let Appending { token, acks, append_time } = request;
        let leader = self.leader.as_ref().ok_or(Refusal::NotLeader)?;
        if acks == Acks::All && !leader.has_min_isr() {
            return Err(Refusal::NotEnoughReplicas);
        }
        match self.producers.admit(batches)? {
            Admission::Fresh => {
                self.appending = Some(request);
                out.push(Effect::Append { token, epoch: self.epoch, append_time });
            }
            Admission::Duplicate { base_offset, end_offset, timestamp } => {
                self.producing.push(acks, Pending { token, base_offset, end_offset, append_time: timestamp });
                self.acknowledge(out);
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
        };
        if planted(Bug::AcknowledgeEarly) {
            self.producing.push(acks, Pending { end_offset: 0, ..pending });
            return self.acknowledge(out);
        }
        self.producing.push(acks, pending);
    }

    fn take_back(&mut self, end_offset: i64, out: &mut Vec<Effect>) {
        assert!(
            self.stored_offset <= end_offset && end_offset <= self.end_offset,
            "a log that ends at {} cannot be cut at {end_offset}",
            self.end_offset
        );
        self.end_offset = end_offset;
        if let Some(leader) = &mut self.leader {
            leader.epoch_start = leader.epoch_start.min(end_offset);
        }
        self.producers.take_back(end_offset);
        let refusal = Refusal::Storage;
        out.extend(self.producing.drain_behind(end_offset).map(|token| Effect::Refuse { token, refusal }));
    }

    fn cut(&mut self, offset: i64, out: &mut Vec<Effect>) {
        assert!(offset <= self.end_offset, "a log that ends at {} cannot start at {offset}", self.end_offset);
        self.start_offset = self.start_offset.max(offset);
        if self.high_watermark < self.start_offset {
            self.high_watermark = self.start_offset;
            out.push(Effect::HighWatermark { offset: self.high_watermark });
        }
        let start = self.start_offset;
        self.fetching.wake(|parked| parked.offset < start, |token| out.push(Effect::Wake { token }));
        self.advance(out);
    }

    fn wait(&mut self, parked: Parked, out: &mut Vec<Effect>) {
        if self.leader.is_none()
            || parked.offset < self.start_offset
            || parked.beyond < self.end_of(parked.view)
        {
            out.push(Effect::Wake { token: parked.token });
        } else {
            self.fetching.push(parked);
        }
    }

    /// What follows when more is stored or fewer replicas have to.
    fn advance(&mut self, out: &mut Vec<Effect>) {
        let replicated =
            self.leader.as_ref().and_then(|leader| leader.replicated(self.me, self.stored_offset));
        if let Some(offset) = replicated.filter(|&offset| offset > self.high_watermark) {
            self.high_watermark = offset;
            self.producers.replicated(offset);
            out.push(Effect::HighWatermark { offset });
        }
        self.acknowledge(out);
        let ends = [View::Committed, View::Replicated, View::Stored].map(|view| self.end_of(view));
        self.fetching.wake(
            |parked| parked.beyond < ends[parked.view as usize],
            |token| out.push(Effect::Wake { token }),
        );
    }

    fn acknowledge(&mut self, out: &mut Vec<Effect>) {
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
        let enough = self.leader.as_ref().is_some_and(|leader| leader.has_min_isr());
        while let Some(pending) = self.producing.pop_replicated(self.high_watermark) {
            let refused =
                Effect::Refuse { token: pending.token, refusal: Refusal::NotEnoughReplicasAfterAppend };
            out.push(if enough { acknowledge(pending) } else { refused });
        }
    }

    /// May a client that knows this leader epoch (-1 and `None`: none) read or ask here? As Kafka decides: the epoch first.
    pub fn check_epoch(&self, known: Option<i32>) -> Result<(), Refusal> {
        match known {
            Some(known) if known >= 0 && known < self.epoch.0 => Err(Refusal::FencedLeaderEpoch),
            Some(known) if known > self.epoch.0 => Err(Refusal::UnknownLeaderEpoch),
            _ if self.leader.is_none() => Err(Refusal::NotLeader),
            _ => Ok(()),
        }
    }

    /// Offset after the last record that this view shows.
    pub fn end_of(&self, view: View) -> i64 {
        match view {
            View::Committed => self.last_stable_offset(),
            View::Replicated => self.high_watermark,
            View::Stored => self.stored_offset,
        }
    }

    /// The newest offset, for ListOffsets; clients must not learn one that goes back. `OffsetNotAvailable` just after an election.
    pub fn latest(&self, view: View) -> Result<i64, Refusal> {
        let leader = self.leader.as_ref().ok_or(Refusal::NotLeader)?;
        if view != View::Stored && leader.epoch_start > self.high_watermark {
            Err(Refusal::OffsetNotAvailable)
        } else {
            Ok(self.end_of(view))
        }
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

    /// The newest leader epoch this replica has heard of; -1 before the first.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The leader's state, while this node leads.
    pub fn leadership(&self) -> Option<&Leadership> {
        self.leader.as_ref().map(|leader| &leader.state)
    }

    /// The producers that are remembered.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }
}
