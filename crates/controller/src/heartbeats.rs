//! Brokers that come, stay, stop and go: heartbeats (KIP-631), evidence that a broker is gone, silence.
//!
//! Whatever happens to a broker is one record about it; who leads its partitions then follows from that record
//! ([`crate::fencing`]). Only unclean elections, where a topic allows them, are written down one by one: they may cost
//! acknowledged records, and the log shall show them.

use moldau_base::{BrokerEpoch, NodeId, Now, TopicPartition, Uuid};

use crate::brokers::check_epoch;
use crate::change::Election;
use crate::controller::Controller;
use crate::image::{Broker, Image, NO_LEADER};
use crate::record::{BrokerChange, Record};
use crate::request::{Decision, Evidence, Heartbeat, HeartbeatReply, Refusal, Reply, Wants};

/// Where a broker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fenced,
    Serving,
    /// On its way to a clean stop: it leads nothing, and waits until everybody who is active knows.
    Stopping,
    /// It may stop.
    Gone,
}

impl State {
    fn of(broker: &Broker) -> State {
        match (broker.fenced, broker.stopping) {
            (true, _) => State::Fenced,
            (false, true) => State::Stopping,
            (false, false) => State::Serving,
        }
    }

    fn is_fenced(self) -> bool {
        matches!(self, State::Fenced | State::Gone)
    }
}

pub(crate) fn heartbeat(c: &mut Controller, now: Now, beat: &Heartbeat) -> Result<Decision, Refusal> {
    let broker = check_epoch(&c.image, beat.broker, beat.epoch)?.clone();
    c.heard(now, beat);
    let caught_up = beat.offset >= beat.epoch.0;
    let left: Vec<Uuid> =
        broker.log_dirs.iter().copied().filter(|dir| !beat.offline_dirs.contains(dir)).collect();
    let state = State::of(&broker);
    let mut next = next_state(c, &broker, beat, caught_up);
    if left.is_empty() && !broker.log_dirs.is_empty() && !next.is_fenced() {
        next = State::Fenced;
    }
    if !next.is_fenced() {
        c.liveness.serves(beat.broker);
    }
    let change = BrokerChange {
        fenced: (next.is_fenced() != state.is_fenced()).then_some(next.is_fenced()),
        stopping: next == State::Stopping && !broker.stopping,
        log_dirs: if left.len() < broker.log_dirs.len() { left } else { vec![] },
        ..unchanged(&broker)
    };
    let records = if change == unchanged(&broker) { vec![] } else { changing(c, change) };
    let reply = HeartbeatReply { caught_up, fenced: next.is_fenced(), should_shut_down: next == State::Gone };
    Ok(Decision { records, reply: Reply::Heartbeat(reply) })
}

fn next_state(c: &mut Controller, broker: &Broker, beat: &Heartbeat, caught_up: bool) -> State {
    let state = State::of(broker);
    match (state, beat.wants) {
        (State::Fenced, Wants::Stop) | (_, Wants::FenceAndStop) => State::Gone,
        (State::Fenced, Wants::Serve) if caught_up => State::Serving,
        (State::Serving | State::Stopping, Wants::Fence) => State::Fenced,
        (State::Serving, Wants::Stop) if is_needed(&c.image, broker.id) => State::Stopping,
        (State::Serving, Wants::Stop) => State::Gone,
        (State::Stopping, _) => {
            let known_from = c.liveness.stops_at(broker.id, c.image.offset());
            let known_to_all = c.liveness.lowest_offset(&c.image).is_none_or(|lowest| lowest >= known_from);
            if known_to_all { State::Gone } else { State::Stopping }
        }
        (state, _) => state,
    }
}

/// Whether anything waits for this broker.
fn is_needed(image: &Image, id: NodeId) -> bool {
    image.partitions_of(id).any(|at| image.partition(at).is_some_and(|p| p.isr.contains(&id)))
}

pub(crate) fn gone(c: &mut Controller, id: NodeId, epoch: BrokerEpoch, _evidence: Evidence) -> Decision {
    match c.image.broker(id).filter(|broker| broker.epoch == epoch && !broker.fenced).cloned() {
        None => fenced(vec![], vec![]),
        Some(broker) => {
            let change = BrokerChange { fenced: Some(true), ..unchanged(&broker) };
            fenced(changing(c, change), vec![id])
        }
    }
}

/// Fences who was silent for longer than a session.
pub(crate) fn silent(c: &mut Controller, now: Now) -> Decision {
    let silent = c.fall_silent(now);
    let mut records = Vec::new();
    for id in &silent {
        if let Some(broker) = c.image.broker(*id).cloned() {
            records.extend(changing(c, BrokerChange { fenced: Some(true), ..unchanged(&broker) }));
        }
    }
    fenced(records, silent)
}

fn fenced(records: Vec<Record>, ids: Vec<NodeId>) -> Decision {
    Decision { records, reply: Reply::Fenced(ids) }
}

fn unchanged(broker: &Broker) -> BrokerChange {
    BrokerChange { id: broker.id, epoch: broker.epoch, fenced: None, stopping: false, log_dirs: vec![] }
}

/// The change of a broker as a record, and behind it the unclean elections that it brings.
fn changing(c: &Controller, change: BrokerChange) -> Vec<Record> {
    let id = change.id;
    let mut records = vec![Record::BrokerChange(change)];
    if c.may_elect_uncleanly() {
        let mut after = c.image.clone();
        if after.apply(after.offset(), &records[0]).is_ok() {
            let held: Vec<TopicPartition> = after.partitions_of(id).collect();
            records.extend(unclean_elections(c, &after, held));
        }
    }
    records
}

/// Elections of whoever is up, where nobody leads and the topic prefers going on to keeping every record.
pub(crate) fn unclean_elections(
    c: &Controller,
    image: &Image,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> Vec<Record> {
    let allowed = |at: &TopicPartition| {
        let leaderless = image.partition(*at).is_some_and(|partition| partition.leader == NO_LEADER);
        leaderless && image.topic(at.topic).is_some_and(|topic| c.elects_uncleanly(&topic.name))
    };
    let concerned = partitions.into_iter().filter(allowed);
    let elected = concerned.filter_map(|at| {
        let change = image.changing(at, &|change| change.election = Election::Unclean)?;
        change.leader.filter(|leader| *leader != NO_LEADER)?;
        Some(Record::PartitionChange(change))
    });
    elected.collect()
}
