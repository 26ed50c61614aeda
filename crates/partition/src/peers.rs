//! What a leader knows of each follower: how far it is, since when it is behind, and whether it may be in the in-sync set.
//!
//! A follower leaves the set on evidence: its process is gone; or, while enough others stay, it stands still while somebody waits for it, or has not
//! had everything for too long (as Kafka's `replica.lag.time.max.ms` counts it, but in a second and not in thirty). One that was too
//! slow has to keep up for a growing while before it comes back. Only the registered incarnation of an unfenced broker may join
//! (KIP-841, KIP-903).

use moldau_base::planted::{Bug, planted};
use moldau_base::{BrokerEpoch, Mono, NodeId};

use crate::input::FollowerFetch;
use crate::leader::Own;

/// How long a leader waits for its followers, and for the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    /// A follower that stands still for so long, while an acknowledgement waits for it, is proposed to leave the in-sync set: a look and
    /// an answer of the controller later, writes go on, within half a second.
    pub stuck_ms: u32,
    /// So is one that has not had everything for so long.
    pub slow_ms: u32,
    /// A proposal without answer is sent again after this, and no other is made for as long after a refusal.
    pub retry_ms: u32,
    /// Who left for slowness has to keep up for so long before it is proposed again; twice as long each further time.
    pub readmit_ms: u32,
    /// At most so long. Who was in sync for so long is as good as new.
    pub readmit_max_ms: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { stuck_ms: 440, slow_ms: 1_000, retry_ms: 100, readmit_ms: 1_000, readmit_max_ms: 60_000 }
    }
}

impl Patience {
    /// Followers are looked at no more often than this.
    pub(crate) fn look_ms(self) -> u32 {
        (self.stuck_ms / 10).max(1)
    }
}

/// The last that was heard of a follower in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Heard {
    broker_epoch: BrokerEpoch,
    /// Its incarnation is the registered one, of a broker that is not fenced.
    eligible: bool,
    end_offset: i64,
    at: Mono,
    /// What this leader had stored then.
    leader_end: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    heard: Option<Heard>,
    /// It had everything then, as Kafka counts: what the leader had at the fetch before was there by the next one.
    pub(crate) caught_up_at: Mono,
    /// It is behind, and has not moved since.
    still_since: Option<Mono>,
    /// It keeps up since then.
    steady_since: Option<Mono>,
    /// Evidence says that its process is gone.
    pub(crate) gone: bool,
    joined_at: Mono,
    readmit_ms: u32,
}

impl Peer {
    pub(crate) fn new(node: NodeId, now: Mono) -> Peer {
        Peer {
            node,
            heard: None,
            caught_up_at: now,
            still_since: Some(now),
            steady_since: None,
            gone: false,
            joined_at: now,
            readmit_ms: 0,
        }
    }

    /// Everything below this is stored there; `None` before the first fetch in this epoch.
    pub(crate) fn end_offset(&self) -> Option<i64> {
        self.heard.map(|heard| heard.end_offset)
    }

    pub(crate) fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.heard.map(|heard| heard.broker_epoch)
    }

    fn is_behind(&self, stored: i64) -> bool {
        self.heard.is_none_or(|heard| heard.end_offset < stored)
    }

    /// The leader has stored more. Who had everything until now had it until now, however long ago it fetched.
    pub(crate) fn behind(&mut self, now: Mono, stored: i64) {
        if self.still_since.is_none() && self.is_behind(stored) {
            self.still_since = Some(now);
            self.caught_up_at = now;
        }
    }

    /// It fetches; false when it is an incarnation that is over. Its progress may go back: one that lost its disk starts again.
    pub(crate) fn fetched(
        &mut self,
        now: Mono,
        fetch: &FollowerFetch,
        stored: i64,
        patience: Patience,
    ) -> bool {
        if self.heard.is_some_and(|heard| heard.broker_epoch > fetch.broker_epoch) {
            return false;
        }
        let before = self.heard.filter(|heard| heard.broker_epoch == fetch.broker_epoch);
        if fetch.offset >= stored {
            self.caught_up_at = now;
            self.still_since = None;
        } else {
            if let Some(before) = before.filter(|before| fetch.offset >= before.leader_end) {
                self.caught_up_at = self.caught_up_at.max(before.at);
            }
            if before.is_none_or(|before| fetch.offset > before.end_offset) {
                self.still_since = Some(now);
            }
            self.still_since.get_or_insert(now);
        }
        self.gone = false;
        self.heard = Some(Heard {
            broker_epoch: fetch.broker_epoch,
            eligible: fetch.registered == Some(fetch.broker_epoch)
                || planted(Bug::FencedJoins)
                || planted(Bug::FencesIgnored),
            end_offset: fetch.offset,
            at: now,
            leader_end: stored,
        });
        match now < self.caught_up_at.after_ms(i64::from(patience.slow_ms)) {
            true => _ = self.steady_since.get_or_insert(now),
            false => self.steady_since = None,
        }
        true
    }

    /// Nothing that it did while nobody listened is held against it.
    pub(crate) fn forgive(&mut self, now: Mono) {
        self.caught_up_at = self.caught_up_at.max(now);
        self.still_since = self.still_since.map(|_| now);
    }

    /// Since when somebody waits for it while it stands still.
    fn awaited_since(&self, own: Own) -> Option<Mono> {
        let awaited = own.awaited.filter(|&end| self.is_behind(end));
        awaited.and(self.still_since)
    }

    /// When it will be late, if it does not move.
    pub(crate) fn due(&self, own: Own, patience: Patience) -> Option<Mono> {
        if !self.is_behind(own.stored) {
            return None;
        }
        let slow = self.caught_up_at.max(self.joined_at).after_ms(i64::from(patience.slow_ms));
        let stuck = self.still_since.map(|since| since.after_ms(i64::from(patience.stuck_ms)));
        Some(stuck.map_or(slow, |stuck| slow.min(stuck)))
    }

    /// It stands still while somebody waits for it, or has not had everything for too long.
    pub(crate) fn is_late(&self, now: Mono, own: Own, patience: Patience) -> bool {
        let passed = |since: Mono, limit_ms: u32| now >= since.after_ms(i64::from(limit_ms));
        let stuck = self.awaited_since(own).is_some_and(|since| passed(since, patience.stuck_ms));
        stuck || self.is_behind(own.stored) && passed(self.caught_up_at.max(self.joined_at), patience.slow_ms)
    }

    /// It leaves the in-sync set for being late.
    pub(crate) fn evicted(&mut self, now: Mono, patience: Patience) {
        let proven = now >= self.joined_at.after_ms(i64::from(patience.readmit_max_ms));
        self.readmit_ms = match self.readmit_ms {
            0 => patience.readmit_ms,
            _ if proven => patience.readmit_ms,
            before => before.saturating_mul(2).min(patience.readmit_max_ms),
        };
        self.steady_since = None;
    }

    /// It has come into the in-sync set.
    pub(crate) fn joined(&mut self, now: Mono) {
        self.joined_at = now;
    }

    /// It has left the in-sync set, or was refused: whether it may join is known again when it fetches.
    pub(crate) fn excluded(&mut self) {
        if let Some(heard) = &mut self.heard {
            heard.eligible = false;
        }
    }

    /// When it may be proposed for the in-sync set, if it has everything below `enough` and goes on so.
    pub(crate) fn may_join_at(&self, enough: i64) -> Option<Mono> {
        let heard = self.heard.filter(|heard| heard.eligible && heard.end_offset >= enough && !self.gone)?;
        match self.readmit_ms {
            0 => Some(heard.at),
            wait_ms => Some(self.steady_since?.after_ms(i64::from(wait_ms))),
        }
    }
}
