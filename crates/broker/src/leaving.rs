//! The way out of a node that is to be stopped: others first lead what it leads, then clients have a moment to find them, and only then
//! does the host stop it (a controlled shutdown, KIP-631).
//!
//! Shard 0 gives the leadership of the metadata quorum away, if this node has it; has all shards hold what is produced; and asks the
//! controller, by its signs of life, to let it stop. Every step has an end in time: a node that nobody can follow stops all the same.

use moldau_base::{Mono, NodeId, Now};

use crate::Shard;
use crate::control::Control;
use crate::message::Message;
use crate::timers::Timer;
use crate::waist::{Effect, ToPeer, ToQuorum, Trace};

/// How long another voter may take to lead the quorum, in milliseconds.
const QUORUM_MS: i64 = 500;
/// How long leaderships may take to move, in milliseconds. What is produced is held meanwhile.
const MOVE_MS: i64 = 1_000;
/// How long clients have to find the next leaders, in milliseconds.
const LINGER_MS: i64 = 400;
/// How much longer the controller may take to say that everybody knows, in milliseconds.
const CONSENT_MS: i64 = 400;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Another voter is to lead the quorum until then.
    Quorum(Mono),
    /// So many shards do not hold yet what is produced.
    Holding(u16, Mono),
    /// The controller is asked to move what is led here until then.
    Moving(Mono),
    /// It leads nothing any more since then; `consent` is the controller's.
    Lingering {
        /// Since when.
        since: Mono,
        /// Everybody knows.
        consent: bool,
    },
    /// It may be stopped.
    Done,
}

impl Leaving {
    /// Whether the controller is to let this broker go.
    pub(crate) fn wants_to_stop(self) -> bool {
        matches!(self, Leaving::Moving(_) | Leaving::Lingering { .. } | Leaving::Done)
    }
}

impl Shard {
    /// Shard 0: the node is to be stopped soon. [`Trace::Left`] tells when, after two seconds and a half at most; until then it serves.
    pub fn leave(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.within(now, effects, begin);
    }
}

fn begin(shard: &mut Shard) {
    let now = shard.now.mono;
    if shard.control.as_ref().is_some_and(|control| control.lifecycle.leaving.is_some()) {
        return;
    }
    if shard.settings.role.is_broker() && !has_successor(shard) {
        return done(shard);
    }
    let active = crate::control::is_active(shard);
    match next_voter(shard).filter(|_| active) {
        Some(voter) => {
            shard.effect(Effect::Send(ToPeer::Quorum(ToQuorum::HandOver(voter))));
            step(shard, Leaving::Quorum(now.after_ms(QUORUM_MS)));
        }
        None => let_go(shard),
    }
}

/// This node does not lead the quorum: a broker lets partitions go next.
fn let_go(shard: &mut Shard) {
    if shard.settings.role.is_broker() { hold(shard) } else { done(shard) }
}

/// Whether another broker serves that could lead what is led here.
fn has_successor(shard: &Shard) -> bool {
    let me = shard.settings.node_id;
    let is_other = |id: &NodeId, broker: &moldau_controller::Broker| *id != me && broker.is_active();
    let registered = shard.control.as_ref().is_some_and(|control| control.lifecycle.epoch().is_some());
    registered && shard.cluster.image.brokers().iter().any(|(id, broker)| is_other(id, broker))
}

/// The voter after this one that is not known to be down.
fn next_voter(shard: &Shard) -> Option<NodeId> {
    let (me, image) = (shard.settings.node_id, &shard.cluster.image);
    let is_up = |id: &NodeId| image.broker(*id).is_none_or(|broker| broker.is_active());
    let voters: Vec<NodeId> = shard.control.as_ref()?.voters.voters.keys().copied().collect();
    let (after, before): (Vec<NodeId>, Vec<NodeId>) =
        voters.into_iter().filter(|id| *id != me).partition(|id| *id > me);
    after.into_iter().chain(before).find(is_up)
}

fn step(shard: &mut Shard, next: Leaving) {
    let until = match next {
        Leaving::Quorum(until) | Leaving::Holding(_, until) | Leaving::Moving(until) => Some(until),
        Leaving::Lingering { since, consent: true } => Some(since.after_ms(LINGER_MS)),
        Leaving::Lingering { since, consent: false } => Some(since.after_ms(LINGER_MS + CONSENT_MS)),
        Leaving::Done => None,
    };
    if let Some(control) = shard.control.as_mut() {
        control.lifecycle.leaving = Some(next);
    }
    shard.timers.set(Timer::Leaving, until);
}

fn at(shard: &Shard) -> Option<Leaving> {
    shard.control.as_ref().and_then(|control: &Control| control.lifecycle.leaving)
}

/// Has every shard hold what is produced.
fn hold(shard: &mut Shard) {
    let until = shard.now.mono.after_ms(MOVE_MS);
    step(shard, Leaving::Holding(shard.settings.shards, until));
    shard.all_shards().for_each(|to| shard.tell(to, Message::Hold(true)));
}

/// Another shard, or this one, holds.
pub(crate) fn holding(shard: &mut Shard) {
    match at(shard) {
        Some(Leaving::Holding(1, until)) => {
            step(shard, Leaving::Moving(until));
            look(shard);
            crate::lifecycle::beat_now(shard);
        }
        Some(Leaving::Holding(missing, until)) => step(shard, Leaving::Holding(missing - 1, until)),
        _ => {}
    }
}

/// Another controller is active, or none.
pub(crate) fn leader_changed(shard: &mut Shard) {
    let elsewhere = shard.control.as_ref().is_some_and(|control| !control.active && control.leader.is_some());
    if elsewhere && matches!(at(shard), Some(Leaving::Quorum(_))) {
        let_go(shard);
    }
}

/// Does metadata say that this broker leads nothing any more?
pub(crate) fn look(shard: &mut Shard) {
    let stops = shard.cluster.image.broker(shard.settings.node_id).is_none_or(|broker| !broker.is_active());
    if stops && matches!(at(shard), Some(Leaving::Moving(_))) {
        step(shard, Leaving::Lingering { since: shard.now.mono, consent: false });
    }
}

/// The controller says that everybody knows.
pub(crate) fn consented(shard: &mut Shard) {
    if let Some(Leaving::Lingering { since, consent: false }) = at(shard) {
        step(shard, Leaving::Lingering { since, consent: true });
    }
}

/// A step has taken long enough.
pub(crate) fn tick(shard: &mut Shard) {
    match at(shard) {
        Some(Leaving::Quorum(_)) => let_go(shard),
        Some(Leaving::Holding(..) | Leaving::Moving(_)) => {
            shard.trace(Trace::Warning("nobody has taken over what is led here".to_owned()));
            shard.all_shards().for_each(|to| shard.tell(to, Message::Hold(false)));
            done(shard);
        }
        Some(Leaving::Lingering { .. }) => done(shard),
        Some(Leaving::Done) | None => {}
    }
}

fn done(shard: &mut Shard) {
    step(shard, Leaving::Done);
    shard.trace(Trace::Left);
}
