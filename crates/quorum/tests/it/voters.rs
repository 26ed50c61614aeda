//! Three and five voters on disks that forget and a network that delays, loses and cuts, under one seed: whatever
//! happens, they agree on one history, keep what was acknowledged, and go on once the faults are over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::ModelDisk;
use bytes::Bytes;
use moldau_base::disk::DirId;
use moldau_base::voter::{VoterChange, VoterRefusal, Voters};
use moldau_base::{Mono, NodeId, Now, Rng, Uuid};
use moldau_quorum::{CallId, Config, Event, Pace, ProposalId, ProposeError, Quorum, Voter};

/// What is on its way.
#[derive(Debug)]
enum Letter {
    Call { from: usize, life: u64, id: CallId, to: usize, request: Bytes },
    Answer { to: usize, life: u64, id: CallId, answer: Option<Bytes> },
}

pub struct Node {
    pub disk: Arc<ModelDisk>,
    pub directory: Uuid,
    /// It does not name the voters that the quorum begins with: it is to join.
    joins: bool,
    pub quorum: Option<Quorum>,
    /// Counts its starts.
    life: u64,
    image: Vec<String>,
    pub next_offset: i64,
    leads: bool,
    proposed: BTreeMap<ProposalId, String>,
    /// Whom to answer: node, its life, its call.
    tokens: BTreeMap<u64, (usize, u64, CallId)>,
    /// Who votes, as it was told last.
    pub voters: Voters,
    pub warnings: Vec<String>,
    pub silent: Vec<NodeId>,
}

/// Everything, in microseconds.
pub struct World {
    rng: Rng,
    pub now: u64,
    pub nodes: Vec<Node>,
    /// How many of them the quorum begins with.
    first: usize,
    post: BTreeMap<(u64, u64), Letter>,
    posted: u64,
    pub cut: BTreeSet<(usize, usize)>,
    /// Outcomes of changes of the voters.
    pub changed: BTreeMap<u64, Result<(), VoterRefusal>>,
    /// The one history: what anybody saw committed, by its offset.
    history: BTreeMap<i64, (i32, Vec<String>, i64)>,
    leaders: BTreeMap<i32, usize>,
    pub acknowledged: BTreeSet<String>,
    /// Proposals of which it was said that they are not committed and never will be.
    pub refused: BTreeSet<String>,
    /// Proposals of which nobody can say that.
    unknown: u64,
    proposals: u64,
    installed: u64,
}

pub fn id(node: usize) -> NodeId {
    NodeId(node as i32 + 1)
}

impl World {
    fn new(seed: u64, voters: usize) -> World {
        World::with_joiners(seed, voters, 0)
    }

    /// So many voters, and so many nodes that are to join them.
    pub fn with_joiners(seed: u64, voters: usize, joiners: usize) -> World {
        let nodes = (0..voters + joiners).map(|at| Node {
            disk: Arc::default(),
            directory: Uuid([at as u8 + 1; 16]),
            joins: at >= voters,
            quorum: None,
            life: 0,
            image: vec![],
            next_offset: 0,
            leads: false,
            proposed: BTreeMap::new(),
            tokens: BTreeMap::new(),
            voters: Voters::default(),
            warnings: vec![],
            silent: vec![],
        });
        let mut world = World {
            rng: Rng::seeded(seed),
            now: 0,
            nodes: nodes.collect(),
            first: voters,
            changed: BTreeMap::new(),
            post: BTreeMap::new(),
            posted: 0,
            cut: BTreeSet::new(),
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            unknown: 0,
            proposals: 0,
            installed: 0,
        };
        (0..voters + joiners).for_each(|node| world.start(node));
        world
    }

    pub fn time(&self) -> Now {
        let ms = (self.now / 1000) as i64;
        Now { wall_ms: 1_700_000_000_000 + ms, mono: Mono(self.now * 1000) }
    }

    pub fn start(&mut self, at: usize) {
        let first = if self.nodes[at].joins { 0 } else { self.first };
        let voters = (0..first).map(|node| (id(node), Voter::default())).collect();
        let config = Config {
            node: id(at),
            voters,
            pace: Pace::default(),
            dir: DirId::default(),
            directory: self.nodes[at].directory,
            seed: self.rng.next_u64(),
            segment_bytes: 2_000,
            snapshot_bytes: 4_000,
        };
        let now = self.time();
        let node = &mut self.nodes[at];
        node.life += 1;
        node.image.clear();
        node.next_offset = 0;
        node.leads = false;
        let mut events = vec![];
        let started = Quorum::start(config, node.disk.clone(), now, &mut events);
        node.quorum = Some(started.unwrap_or_else(|error| panic!("node {at} does not start: {error}")));
        self.happened(at, events);
    }

    pub fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.quorum = None;
        node.proposed.clear();
        node.tokens.clear();
        node.disk.crash(&mut self.rng);
    }

    fn send(&mut self, from: usize, to: usize, letter: Letter) {
        if self.cut.contains(&(from, to)) || self.rng.chance(1, 50) {
            return;
        }
        let most = if self.rng.chance(1, 20) { 100_000 } else { 1_500 };
        let delay = 100 + self.rng.below(most);
        self.posted += 1;
        self.post.insert((self.now + delay, self.posted), letter);
    }

    fn deliver(&mut self, letter: Letter) {
        match letter {
            Letter::Call { from, life, id: call, to, request } => {
                let token = self.posted;
                self.posted += 1;
                let Some(quorum) = &mut self.nodes[to].quorum else {
                    let refused = Letter::Answer { to: from, life, id: call, answer: None };
                    return self.send(to, from, refused);
                };
                quorum.called(token, id(from), request);
                self.nodes[to].tokens.insert(token, (from, life, call));
                self.step(to);
            }
            Letter::Answer { to, life, id, answer } => {
                let node = &mut self.nodes[to];
                if let Some(quorum) = node.quorum.as_mut().filter(|_| node.life == life) {
                    quorum.answered(id, answer);
                    self.step(to);
                }
            }
        }
    }

    pub fn step(&mut self, at: usize) {
        let now = self.time();
        let mut events = vec![];
        if let Some(quorum) = &mut self.nodes[at].quorum {
            quorum.step(now, &mut events);
        }
        self.happened(at, events);
    }

    fn happened(&mut self, at: usize, events: Vec<Event>) {
        let texts = |values: &[Bytes]| -> Vec<String> {
            values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
        };
        for event in events {
            let node = &mut self.nodes[at];
            match event {
                Event::Restored { next_offset, values } => {
                    let before = self.history.range(..next_offset);
                    let expected: Vec<String> = before.flat_map(|(_, (_, texts, _))| texts.clone()).collect();
                    assert_eq!(texts(&values), expected, "the snapshot of node {at} is another history");
                    node.image = expected;
                    node.next_offset = next_offset;
                    self.installed += 1;
                }
                Event::Committed(committed) => {
                    assert_eq!(committed.base_offset, node.next_offset, "node {at} saw a gap");
                    let entry = (committed.epoch, texts(&committed.values), committed.next_offset);
                    let known = self.history.entry(committed.base_offset).or_insert_with(|| entry.clone());
                    assert_eq!(*known, entry, "node {at} committed something else");
                    node.next_offset = committed.next_offset;
                    node.image.extend(entry.1);
                }
                Event::Leader { epoch, leader } => {
                    node.leads = leader == Some(id(at));
                    if node.leads {
                        let first = *self.leaders.entry(epoch).or_insert(at);
                        assert_eq!(first, at, "two nodes lead in epoch {epoch}");
                        let last = self.history.last_key_value().map_or(0, |(_, (_, _, next))| *next);
                        assert_eq!(node.next_offset, last, "node {at} leads without all that was committed");
                    }
                }
                Event::Proposed { id, result } => {
                    let text = node.proposed.remove(&id);
                    let text = text.expect("an outcome of something proposed, and one only");
                    match result {
                        Ok(offset) => {
                            let there = &self.history[&offset].1;
                            assert_eq!(there, std::slice::from_ref(&text), "acknowledged at another place");
                            self.acknowledged.insert(text);
                        }
                        Err(ProposeError::Unknown(_)) => self.unknown += 1,
                        Err(_) => drop(self.refused.insert(text)),
                    }
                }
                Event::Call { id: call, to, request } => {
                    let (life, to) = (node.life, to.0 as usize - 1);
                    self.send(at, to, Letter::Call { from: at, life, id: call, to, request });
                }
                Event::Answer { token, answer } => {
                    if let Some((to, life, id)) = node.tokens.remove(&token) {
                        self.send(at, to, Letter::Answer { to, life, id, answer: Some(answer) });
                    }
                }
                Event::SnapshotDue => {
                    let image: Vec<Bytes> = node.image.iter().map(|text| text.clone().into()).collect();
                    let quorum = node.quorum.as_mut().expect("it runs");
                    quorum.snapshot(image.into_iter()).expect("the disk is whole");
                }
                Event::Pulled { .. } => panic!("nobody observes"),
                Event::Voters(voters) => node.voters = voters,
                Event::Changed { token, result } => drop(self.changed.insert(token, result)),
                Event::Warning(what) => node.warnings.push(what),
                Event::Silent(silent) => node.silent = silent,
                Event::Failed(why) => panic!("node {at} failed: {why}"),
            }
        }
    }

    /// Lets `us` microseconds pass.
    pub fn run(&mut self, us: u64) {
        let end = self.now + us;
        loop {
            let letter = self.post.first_key_value().map(|((at, _), _)| *at);
            let timers = self.nodes.iter().filter_map(|node| node.quorum.as_ref()?.deadline());
            let timer = timers.map(|at| at.0.div_ceil(1000)).min();
            let Some(next) = letter.into_iter().chain(timer).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if letter.is_some_and(|at| at <= self.now) {
                let (_, letter) = self.post.pop_first().expect("a letter");
                self.deliver(letter);
                continue;
            }
            for at in 0..self.nodes.len() {
                let due = |quorum: &Quorum| quorum.deadline().is_some_and(|due| due.0 <= self.now * 1000);
                if self.nodes[at].quorum.as_ref().is_some_and(due) {
                    self.step(at);
                }
            }
        }
        self.now = end;
    }

    pub fn propose(&mut self, at: usize) {
        let text = format!("p{}", self.proposals);
        self.proposals += 1;
        let node = &mut self.nodes[at];
        let Some(quorum) = &mut node.quorum else { return };
        let id = quorum.propose(vec![text.clone().into()]);
        node.proposed.insert(id, text);
        self.step(at);
    }

    /// Proposals without an outcome.
    fn open(&self) -> usize {
        self.nodes.iter().map(|node| node.proposed.len()).sum()
    }

    /// Asks a node to change the voters; its name in `changed`.
    pub fn change(&mut self, at: usize, change: VoterChange) -> u64 {
        self.proposals += 1;
        let token = self.proposals;
        if let Some(quorum) = &mut self.nodes[at].quorum {
            quorum.change(token, change);
        }
        self.step(at);
        token
    }

    pub fn leader(&self) -> Option<usize> {
        let lead = |node: &Node| node.quorum.is_some() && node.leads;
        (0..self.nodes.len()).rev().find(|at| lead(&self.nodes[*at]))
    }

    /// Something goes wrong, or a client wants something.
    pub fn act(&mut self) {
        let voters = self.nodes.len() as u64;
        let any = self.rng.below(voters) as usize;
        match self.rng.below(40) {
            0 if self.nodes.iter().all(|node| node.quorum.is_some()) || self.rng.chance(1, 3) => {
                self.crash(any);
                if self.rng.chance(1, 2) {
                    for other in 0..self.nodes.len() {
                        if let Some(quorum) = &mut self.nodes[other].quorum {
                            quorum.lost(id(any));
                        }
                        self.step(other);
                    }
                }
            }
            1 | 2 => {
                let down = (0..self.nodes.len()).find(|at| self.nodes[*at].quorum.is_none());
                if let Some(down) = down {
                    self.start(down);
                }
            }
            3 => {
                let other = self.rng.below(voters) as usize;
                self.cut.insert((any, other));
                if self.rng.chance(1, 2) {
                    self.cut.insert((other, any));
                }
            }
            4 | 5 => {
                self.cut.pop_first();
            }
            6 => {
                if let Some(quorum) = self.leader().and_then(|at| self.nodes[at].quorum.as_mut()) {
                    quorum.hand_over(id(any));
                }
            }
            _ => {
                let at = self.leader().filter(|_| !self.rng.chance(1, 10)).unwrap_or(any);
                self.propose(at);
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        for at in 0..self.nodes.len() {
            if self.nodes[at].quorum.is_none() {
                self.start(at);
            }
        }
    }

    /// After the faults: somebody leads and commits, and all have all of it.
    pub fn finish(&mut self) {
        self.heal();
        // A lost piece of a snapshot is sent again after ten seconds.
        self.run(15_000_000);
        let leader = self.leader().expect("nobody leads after the faults are over");
        let before = self.acknowledged.len();
        self.propose(leader);
        self.run(3_000_000);
        assert!(self.acknowledged.len() > before, "nothing is committed after the faults are over");
        let all: Vec<&String> = self.history.values().flat_map(|(_, texts, _)| texts).collect();
        for text in &self.acknowledged {
            assert_eq!(all.iter().filter(|other| **other == text).count(), 1, "{text} was acknowledged");
        }
        for text in &self.refused {
            assert!(!all.contains(&text), "{text} was refused and is committed");
        }
        let Voters { voters, observers } = &self.nodes[leader].voters;
        let members: BTreeSet<&NodeId> = voters.keys().chain(observers.keys()).collect();
        for (at, node) in self.nodes.iter().enumerate().filter(|(at, _)| members.contains(&id(*at))) {
            assert_eq!(node.image.iter().collect::<Vec<_>>(), all, "node {at} lacks something");
        }
    }
}

fn faults(seed: u64, voters: usize) -> World {
    let mut world = World::new(seed, voters);
    world.run(2_000_000);
    for _ in 0..300 {
        world.act();
        let pause = world.rng.below(60_000);
        world.run(pause);
    }
    world.finish();
    world
}

#[test]
fn voters_agree_whatever_happens() {
    let mut installed = 0;
    for seed in 0..8 {
        let world = faults(seed, if seed % 3 == 2 { 5 } else { 3 });
        assert!(world.acknowledged.len() > 20, "seed {seed}: only {}", world.acknowledged.len());
        installed += world.installed;
    }
    assert!(installed > 0, "no snapshot was ever read");
}

/// A leader that nobody hears appends what is not committed. Its successor's entries take their place, or come after them.
#[test]
fn a_leader_that_lost_its_place_knows_what_became_of_its_proposals() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..12 {
        let mut world = World::new(seed, 3);
        world.run(2_000_000);
        let former = world.leader().expect("somebody leads");
        let others: Vec<usize> = (0..3).filter(|at| *at != former).collect();
        // Nobody hears it, or it does not hear that it was heard.
        let answers = || others.iter().map(|other| (*other, former));
        let calls = || others.iter().map(|other| (former, *other));
        world.cut.extend(answers());
        if seed % 2 == 0 {
            world.cut.extend(calls());
        }
        (0..3).for_each(|_| world.propose(former));
        world.run(20_000);
        world.cut.extend(calls());
        world.run(3_000_000);
        let leader = others.into_iter().find(|at| world.nodes[*at].leads).expect("another leads");
        world.propose(leader);
        world.run(1_000_000);
        world.heal();
        world.run(3_000_000);
        assert_eq!((world.open(), world.unknown), (0, 0), "seed {seed}");
        kept += world.acknowledged.len() - 1;
        lost += world.refused.len();
        world.finish();
    }
    assert!(kept > 3 && lost > 3, "{kept} were committed, {lost} were lost");
}

#[test]
fn one_seed_is_one_history() {
    let history = |world: World| (world.history, world.leaders, world.now);
    assert_eq!(history(faults(7, 3)), history(faults(7, 3)));
}

/// Time until another leads and has committed, in microseconds, after the leader died.
fn failover(seed: u64, noticed: bool) -> u64 {
    let mut world = World::new(seed, 3);
    world.run(2_000_000);
    let dead = world.leader().expect("somebody leads");
    world.propose(dead);
    world.run(200_000);
    world.crash(dead);
    let died = world.now;
    if noticed {
        for other in (0..3).filter(|other| *other != dead) {
            world.nodes[other].quorum.as_mut().expect("it runs").lost(id(dead));
            world.step(other);
        }
    }
    while world.leader().is_none() {
        world.run(1_000);
        assert!(world.now - died < 10_000_000, "nobody leads");
    }
    world.now - died
}

#[test]
fn a_death_that_is_noticed_does_not_wait_for_the_lease() {
    let median = |noticed: bool| {
        let mut times: Vec<u64> = (100..121).map(|seed| failover(seed, noticed)).collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (noticed, silent) = (median(true), median(false));
    assert!(noticed < 50_000, "{noticed} us");
    assert!(silent > noticed && silent < 1_500_000, "{silent} us");
}

#[test]
fn a_voter_that_lost_its_disk_is_fed_again() {
    let mut world = World::new(3, 3);
    world.run(2_000_000);
    let leader = world.leader().expect("somebody leads");
    for _ in 0..5 {
        world.propose(leader);
        world.run(100_000);
    }
    let lost = (leader + 1) % 3;
    world.crash(lost);
    world.nodes[lost].disk = Arc::default();
    world.start(lost);
    world.finish();
}

#[test]
fn what_is_no_message_is_refused_by_name() {
    let mut world = World::new(1, 3);
    world.run(2_000_000);
    let mut rng = Rng::seeded(5);
    for round in 0..2_000_u64 {
        let len = rng.below(80) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        if let [version, kind, ..] = &mut bytes[..] {
            (*version, *kind) = (0, round as u8 % 6);
        }
        let quorum = world.nodes[0].quorum.as_mut().expect("it runs");
        quorum.called(u64::MAX - round, NodeId(2), bytes.into());
        world.step(0);
    }
    world.finish();
}
