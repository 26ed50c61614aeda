//! Who is there: what brokers said last, and when their silence ends their session.
//!
//! This is the active controller's own and no part of the image: it is not in the log, and a controller that becomes
//! active begins with a fresh session for everybody. It decides nothing about partitions; a session that ended is one
//! record about the broker ([`crate::fencing`]). After Kafka's `BrokerHeartbeatManager`.

use std::collections::BTreeMap;
use std::time::Duration;

use moldau_base::{BrokerEpoch, Mono, NodeId};

use crate::image::Image;

/// A broker that is there for so long is warm.
const WARM: Duration = Duration::from_secs(10);

/// One broker's session.
#[derive(Clone, Copy, Debug)]
struct Session {
    epoch: BrokerEpoch,
    /// Since when it is heard of.
    since: Mono,
    heard: Mono,
    /// The metadata it has applied; -1 before it told.
    offset: i64,
    /// The offset of the record that says that it stops.
    stops_at: Option<i64>,
}

/// The sessions of all brokers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Liveness {
    sessions: BTreeMap<NodeId, Session>,
    /// Incarnations that have not served yet and have all that an earlier one had, with that.
    resumed: BTreeMap<NodeId, (BrokerEpoch, BrokerEpoch)>,
}

impl Liveness {
    /// Everybody who is not fenced gets a fresh session.
    pub(crate) fn begin(image: &Image, now: Mono) -> Liveness {
        let there = image.brokers().values().filter(|broker| !broker.fenced);
        let session = |epoch| Session { epoch, since: now, heard: now, offset: -1, stops_at: None };
        let sessions = there.map(|broker| (broker.id, session(broker.epoch))).collect();
        Liveness { sessions, resumed: BTreeMap::new() }
    }

    /// A heartbeat, or the registration of a broker.
    pub(crate) fn heard(&mut self, id: NodeId, epoch: BrokerEpoch, offset: i64, now: Mono) {
        let fresh = Session { epoch, since: now, heard: now, offset, stops_at: None };
        let session = self.sessions.entry(id).or_insert(fresh);
        *session = match session.epoch == epoch {
            true => Session { since: session.since, stops_at: session.stops_at, ..fresh },
            false => fresh,
        };
    }

    /// Incarnation `epoch` of a broker has all that its incarnation `of` had, or nobody knows what it has.
    pub(crate) fn resumes(&mut self, id: NodeId, epoch: BrokerEpoch, of: Option<BrokerEpoch>) {
        match of {
            Some(of) => _ = self.resumed.insert(id, (epoch, of)),
            None => _ = self.resumed.remove(&id),
        }
    }

    /// It serves: others count on what it has now.
    pub(crate) fn serves(&mut self, id: NodeId) {
        self.resumed.remove(&id);
    }

    /// The incarnation whose all is what incarnation `epoch` had: that itself, or an earlier one, if it was over before it served.
    pub(crate) fn has_what(&self, id: NodeId, epoch: BrokerEpoch) -> BrokerEpoch {
        self.resumed.get(&id).filter(|(over, _)| *over == epoch).map_or(epoch, |(_, of)| *of)
    }

    /// Whether this broker has been there for long enough to be given work that others do well: it has caught up, and its caches hold what
    /// clients ask for.
    pub(crate) fn is_warm(&self, id: NodeId, now: Mono) -> bool {
        self.sessions.get(&id).is_some_and(|session| now.since(session.since) >= WARM)
    }

    /// Broker `id` is not looked at before another session has passed.
    pub(crate) fn put_off(&mut self, id: NodeId, now: Mono) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.heard = now;
        }
    }

    /// Whether this registration was heard of within `timeout`.
    pub(crate) fn is_live(&self, id: NodeId, epoch: BrokerEpoch, timeout: Duration, now: Mono) -> bool {
        let session = self.sessions.get(&id).filter(|session| session.epoch == epoch);
        session.is_some_and(|session| now.since(session.heard) <= timeout)
    }

    /// When the first of those who are not fenced was heard last.
    pub(crate) fn quietest(&self, image: &Image) -> Option<Mono> {
        self.unfenced(image).map(|(_, session)| session.heard).min()
    }

    /// Those who are not fenced and were silent for `timeout`.
    pub(crate) fn silent(&self, image: &Image, timeout: Duration, now: Mono) -> Vec<NodeId> {
        let silent = self.unfenced(image).filter(|(_, session)| now.since(session.heard) >= timeout);
        silent.map(|(id, _)| id).collect()
    }

    /// Gives everybody a fresh session: whoever was asleep cannot tell who was silent.
    pub(crate) fn refresh(&mut self, now: Mono) {
        self.sessions.values_mut().for_each(|session| session.heard = now);
    }

    /// Remembers, if it does not yet, that everybody who has applied `offset` knows that broker `id` stops; that offset.
    pub(crate) fn stops_at(&mut self, id: NodeId, offset: i64) -> i64 {
        match self.sessions.get_mut(&id) {
            Some(session) => *session.stops_at.get_or_insert(offset),
            None => offset,
        }
    }

    /// The offset that all active brokers have applied; `None` when there is none.
    pub(crate) fn lowest_offset(&self, image: &Image) -> Option<i64> {
        let active = image.brokers().values().filter(|broker| broker.is_active());
        active.map(|broker| self.sessions.get(&broker.id).map_or(-1, |session| session.offset)).min()
    }

    fn unfenced<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = (NodeId, &'a Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session)).filter(|(id, session)| {
            image.broker(*id).is_some_and(|broker| !broker.fenced && broker.epoch == session.epoch)
        })
    }
}
