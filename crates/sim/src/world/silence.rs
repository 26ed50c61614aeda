//! Whether it is noticed that a broker fell silent, which no client can tell from a slow one: while a majority of the voters is there and hears
//! each other, metadata does not count for long on a broker of which nothing comes to any of them.

use std::collections::{BTreeMap, BTreeSet};

use moldau_base::{Mono, NodeId};
use moldau_controller::Image;
use moldau_quorum::Pace;

use super::{Life, MILLI, World};
use crate::boot::{self, SESSION};
use crate::failure;
use crate::metadata::Quorum;
use crate::net::Spot;
use crate::weather::{Fault, Remedy};

/// How long voters follow a leader that speaks and hears nobody, in milliseconds: until its calls are given up, and their connections closed.
const FOLLOWED_MS: u64 = 2_000;
/// Elections until there is an active controller: votes may be split, and split again.
const ELECTIONS: u64 = 3;
/// Milliseconds from the end of a session until the fence is committed: the controller looks each 10 ms, and several syncs may take 20 ms each.
const COMMIT_MS: u64 = 200;
/// Messages that may be slow and on which that waits, one after the other: a ballot and its answer, the news that somebody leads, the
/// last sign of life, and the fence with its acknowledgement.
const MESSAGES: u64 = 6;

/// Faults of disks.
const OF_DISKS: [Fault; 5] = [
    Fault::SlowSyncs(0),
    Fault::FailSync(Remedy::Nothing),
    Fault::DropSync(Remedy::Nothing),
    Fault::ShortWrite(Remedy::Nothing),
    Fault::Full(0, Remedy::Nothing),
];
/// Resets of connections, after which voters may elect.
const RESETS: [Fault; 2] = [Fault::ResetAll, Fault::ResetSome];

/// What was seen of it so far.
#[derive(Default)]
pub(super) struct Silence {
    /// The voters of the majority, in these lives, and how often connections had been reset.
    majority: (BTreeSet<Life>, u64),
    /// Since when these are they.
    majority_since: Mono,
    /// Since when nothing comes to them from a broker, by its place, and when the cuts of its network end: what it sent during one comes at its
    /// end, even if its process is gone by then or there is another cut.
    silent: BTreeMap<usize, (Mono, BTreeSet<Mono>)>,
}

impl World {
    /// Looks for a broker that was silent for longer than it takes to elect a controller, to give the broker a whole session, and to fence it.
    pub(crate) fn look_for_silent(&mut self) {
        // A disk that fails or is slow holds up whatever is committed.
        let is_hurt = self.struck.keys().any(|kind| OF_DISKS.iter().any(|fault| fault.kind() == *kind));
        if self.nodes.len() == 1 || is_hurt {
            return;
        }
        let now = self.clock.now();
        let majority = (self.majority(), self.resets());
        if majority != self.silence.majority {
            self.silence.majority_since = now;
            self.silence.majority = majority;
        }
        for place in 0..self.setup.weather.brokers() {
            let (is_silent, cuts) = (self.is_silent(place), self.net.cuts_from(now, Spot::Node(place)));
            let before = self.silence.silent.remove(&place);
            let goes_on = before.filter(|(_, before)| before.is_subset(&cuts));
            if is_silent {
                self.silence.silent.insert(place, (goes_on.map_or(now, |(since, _)| since), cuts));
            }
        }
        if let Some(what) = self.stays_in(now) {
            self.fail(failure::SILENT_BROKER_STAYS_IN, what);
        }
    }

    fn stays_in(&self, now: Mono) -> Option<String> {
        let Silence { majority: (majority, _), majority_since, silent } = &self.silence;
        let quorums = majority.iter().filter_map(|life| self.nodes[life.node].quorum.as_ref());
        let image = quorums.map(Quorum::image).max_by_key(|image| image.offset())?;
        let bound = self.longest_silence();
        silent.iter().find_map(|(place, (since, _))| {
            // One that stood still says something when it goes on, even if it is over in the same moment.
            let spoke = Some(self.nodes[*place].still_until).filter(|until| *until <= now).unwrap_or_default();
            let (id, silent) = (boot::node_id(*place), now.since(*since.max(majority_since).max(&spoke)));
            (silent.as_nanos() > u128::from(bound) && counts_on(image, id)).then(|| {
                format!(
                    "broker {id} was silent for {} ms while a majority of the voters was there, and is not fenced",
                    silent.as_millis()
                )
            })
        })
    }

    /// Nanoseconds from when there is a majority and a broker is silent until metadata must know. A voter stands for election after its lease
    /// and a random time behind it; whoever becomes the active controller gives everybody a whole session.
    fn longest_silence(&self) -> u64 {
        let (_, lease_ms) = Pace::default().election_ms;
        let followed_ms = if self.is_spoken_to() { FOLLOWED_MS } else { 0 };
        let election_ms = ELECTIONS * 2 * lease_ms;
        let slow = MESSAGES * self.setup.weather.network.slowest();
        (followed_ms + election_ms + COMMIT_MS) * MILLI + SESSION.as_nanos() as u64 + slow
    }

    /// Whether a voter outside of the majority is heard by it: it may lead.
    fn is_spoken_to(&self) -> bool {
        let (majority, _) = &self.silence.majority;
        let others = self.setup.weather.voters().filter_map(|place| self.is_there(place));
        let mut others = others.filter(|voter| !majority.contains(voter));
        others.any(|voter| majority.iter().any(|member| !self.is_cut(voter.node, member.node)))
    }

    /// Voters that are there and hear each other, if they are a majority.
    fn majority(&self) -> BTreeSet<Life> {
        let voters = self.setup.weather.voters();
        let needed = voters.len() / 2 + 1;
        let there: Vec<Life> = voters.filter_map(|place| self.is_there(place)).collect();
        let hear = |one: &Life, other: &Life| {
            !self.is_cut(one.node, other.node) && !self.is_cut(other.node, one.node)
        };
        let around =
            |one: &Life| there.iter().copied().filter(|other| hear(one, other)).collect::<BTreeSet<_>>();
        let all_hear =
            |group: &BTreeSet<Life>| group.iter().all(|one| group.iter().all(|other| hear(one, other)));
        there.iter().map(around).find(|group| group.len() >= needed && all_hear(group)).unwrap_or_default()
    }

    /// The life of a node whose process runs and whose voter works.
    fn is_there(&self, place: usize) -> Option<Life> {
        let node = &self.nodes[place];
        let runs = node.quorum.is_some() && node.still_until <= self.clock.now();
        node.process.as_ref().filter(|process| runs && process.ready).map(|process| process.life)
    }

    /// Whether nothing comes from a broker to any of the majority: its process is gone or stands still, or the network is cut.
    fn is_silent(&self, place: usize) -> bool {
        let node = &self.nodes[place];
        let stands_still = node.still_until > self.clock.now();
        let (majority, _) = &self.silence.majority;
        let is_cut = || majority.iter().all(|voter| voter.node != place && self.is_cut(place, voter.node));
        !majority.is_empty() && (node.process.is_none() || stands_still || is_cut())
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.net.is_cut(self.clock.now(), Spot::Node(from), Spot::Node(to))
    }

    fn resets(&self) -> u64 {
        RESETS.iter().filter_map(|fault| self.struck.get(fault.kind())).sum()
    }
}

/// Whether a broker serves, as metadata has it.
fn counts_on(image: &Image, id: NodeId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.fenced)
}
