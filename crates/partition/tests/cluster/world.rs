//! Several replicas of one partition, each the real core over a log in memory, with a network that loses, repeats and reorders, nodes that
//! die and a perfect controller. A world is a value: what may happen next is a list, and what happens is chosen from it.

use std::collections::BTreeMap;

use moldau_base::{BrokerEpoch, LeaderEpoch, Mono, NodeId, Now, PartitionEpoch};
use moldau_batch::Batch;
use moldau_partition::{
    Acks, Effect, EpochEnd, Fetched, FollowerFetch, Following, Input, IsrAnswer, Leadership, LogState, News,
    Partition, Patience, Producers, Proposal, Token,
};

use crate::log::{Entry, Log};

/// What a broken promise is told as.
pub type Broken = String;

/// Bounds of what may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub nodes: usize,
    pub min_isr: usize,
    pub records: u32,
    pub messages: usize,
    pub epochs: i32,
    pub deaths: u32,
    pub evidence: u32,
    /// Time passes, records are deleted, messages are repeated, batches have producers.
    pub everything: bool,
}

/// One thing that may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Produce { node: usize, all: bool },
    Store { node: usize },
    Ask { node: usize },
    FinishCut { node: usize },
    Learn { node: usize },
    Deliver { message: usize },
    Drop { message: usize },
    Repeat { message: usize },
    GiveUp { message: usize },
    Gone { node: usize, of: usize },
    Fence { node: usize },
    Unfence { node: usize },
    Die { node: usize },
    LoseTail { node: usize },
    Restart { node: usize },
    DeleteRecords { node: usize },
    Pass { ms: i64 },
}

/// What the controller has committed of the partition and of brokers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    pub leader: Option<usize>,
    pub epoch: i32,
    pub partition_epoch: i32,
    pub isr: Vec<usize>,
    /// The incarnation of each broker that is not fenced.
    pub registered: Vec<Option<i64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Fetch {
        from: usize,
        to: usize,
        incarnation: i64,
        epoch: i32,
        offset: i64,
        last_epoch: Option<i32>,
    },
    Answer {
        to: usize,
        incarnation: i64,
        epoch: i32,
        offset: i64,
        high_watermark: i64,
        start: i64,
        what: What,
    },
    Propose {
        from: usize,
        incarnation: i64,
        epoch: i32,
        partition_epoch: i32,
        isr: Vec<(usize, Option<i64>)>,
        orphan: bool,
    },
    Decision {
        to: usize,
        incarnation: i64,
        epoch: i32,
        of: i32,
        what: Decided,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum What {
    Entries(Vec<Entry>),
    Diverging(Option<(i32, i64)>),
    OutOfRange,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Decided {
    Accepted { partition_epoch: i32, isr: Vec<usize> },
    Refused,
    Stale,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    up: bool,
    incarnation: i64,
    replica: Partition,
    log: Log,
    cut: Option<Cut>,
    /// Changes of metadata that it has seen.
    seen: usize,
    /// Of the requests that wait: the record and whether the whole in-sync set has to have it.
    waiting: BTreeMap<u64, (u32, bool)>,
}

/// A cut that the log is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Cut {
    offset: i64,
    restart: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub bounds: Bounds,
    now_ms: i64,
    nodes: Vec<Node>,
    metadata: Vec<Metadata>,
    messages: Vec<Message>,
    /// What was below the high watermark of a leader, from offset 0.
    committed: Vec<(i32, u32)>,
    next_record: u32,
    deaths: u32,
    evidence: u32,
    /// A follower that may not join, while its fetch is looked at.
    ineligible: Option<usize>,
    pub broken: Option<Broken>,
}

fn id(node: usize) -> NodeId {
    NodeId(node as i32)
}

fn place(node: NodeId) -> usize {
    node.0 as usize
}

impl World {
    pub fn new(bounds: Bounds) -> World {
        let node = |at: usize| Node {
            up: true,
            incarnation: at as i64,
            replica: Partition::new(id(at), LogState::default(), Producers::default()),
            log: Log::default(),
            cut: None,
            seen: 0,
            waiting: BTreeMap::new(),
        };
        let first = Metadata {
            leader: Some(0),
            epoch: 0,
            partition_epoch: 0,
            isr: (0..bounds.nodes).collect(),
            registered: (0..bounds.nodes).map(|at| Some(at as i64)).collect(),
        };
        let mut world = World {
            bounds,
            now_ms: 0,
            nodes: (0..bounds.nodes).map(node).collect(),
            metadata: vec![first],
            messages: Vec::new(),
            committed: Vec::new(),
            next_record: 0,
            deaths: 0,
            evidence: 0,
            ineligible: None,
            broken: None,
        };
        (0..bounds.nodes).for_each(|node| world.learn(node));
        world
    }

    fn latest(&self) -> &Metadata {
        self.metadata.last().expect("there is a first one")
    }

    /// What may happen next.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for node in 0..self.nodes.len() {
            self.actions_of(node, &mut actions);
        }
        for (at, message) in self.messages.iter().enumerate() {
            actions.push(Action::Deliver { message: at });
            match message {
                Message::Propose { orphan: true, .. } | Message::Fetch { .. } | Message::Answer { .. } => {
                    actions.push(Action::Drop { message: at });
                }
                Message::Propose { .. } | Message::Decision { .. } => {
                    actions.push(Action::GiveUp { message: at });
                }
            }
            if self.bounds.everything
                && self.messages.len() < self.bounds.messages
                && matches!(message, Message::Fetch { .. } | Message::Answer { .. })
            {
                actions.push(Action::Repeat { message: at });
            }
        }
        if self.bounds.everything {
            actions.extend([20, 300].map(|ms| Action::Pass { ms }));
        }
        actions
    }

    fn actions_of(&self, at: usize, actions: &mut Vec<Action>) {
        let node = &self.nodes[at];
        let registered = self.latest().registered[at];
        let room = self.latest().epoch < self.bounds.epochs;
        if registered.is_some() && room {
            actions.push(Action::Fence { node: at });
        }
        if !node.up {
            actions.push(Action::Restart { node: at });
            return;
        }
        if registered.is_none() && room {
            actions.push(Action::Unfence { node: at });
        }
        if node.seen < self.metadata.len() {
            actions.push(Action::Learn { node: at });
        }
        if node.log.stored < node.log.end() {
            actions.push(Action::Store { node: at });
        }
        if node.cut.is_some() {
            actions.push(Action::FinishCut { node: at });
        }
        if node.replica.to_fetch().is_some() && self.messages.len() < self.bounds.messages {
            actions.push(Action::Ask { node: at });
        }
        if self.deaths < self.bounds.deaths {
            actions.push(Action::Die { node: at });
            let others = self.latest().isr.iter().any(|&other| other != at);
            if self.bounds.everything && room && others {
                actions.push(Action::LoseTail { node: at });
            }
        }
        if node.replica.leadership().is_none() {
            return;
        }
        if self.next_record < self.bounds.records {
            actions.push(Action::Produce { node: at, all: true });
            if self.bounds.everything {
                actions.push(Action::Produce { node: at, all: false });
            }
        }
        if self.evidence < self.bounds.evidence {
            let others = (0..self.nodes.len()).filter(|&other| other != at);
            actions.extend(others.map(|of| Action::Gone { node: at, of }));
        }
        if self.bounds.everything && node.replica.high_watermark() > node.log.start {
            actions.push(Action::DeleteRecords { node: at });
        }
    }

    /// Lets it happen.
    pub fn act(&mut self, action: &Action) {
        match *action {
            Action::Produce { node, all } => self.produce(node, all),
            Action::Store { node } => self.store(node),
            Action::Ask { node } => self.ask(node),
            Action::FinishCut { node } => self.finish_cut(node),
            Action::Learn { node } => self.learn(node),
            Action::Deliver { message } => {
                let message = self.messages.remove(message);
                self.deliver(message);
            }
            Action::Drop { message } => drop(self.messages.remove(message)),
            Action::Repeat { message } => self.messages.push(self.messages[message].clone()),
            Action::GiveUp { message } => self.give_up(message),
            Action::Gone { node, of } => {
                self.evidence += 1;
                self.step(node, Input::Gone { node: id(of) });
            }
            Action::Fence { node } => self.fence(node),
            Action::Unfence { node } => self.unfence(node),
            Action::Die { node } => self.die(node),
            Action::LoseTail { node } => {
                self.fence(node);
                let log = &mut self.nodes[node].log;
                log.stored = (log.stored - 2).max(log.start);
                self.die(node);
            }
            Action::Restart { node } => self.restart(node),
            Action::DeleteRecords { node } => self.delete_records(node),
            Action::Pass { ms } => self.pass(ms),
        }
        self.messages.sort_unstable();
        self.check();
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.now_ms, mono: Mono(self.now_ms as u64 * 1_000_000) }
    }

    fn breaks(&mut self, what: impl FnOnce() -> Broken) {
        if self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    // What a host does.

    fn step(&mut self, node: usize, input: Input<'_>) {
        let mut out = Vec::new();
        let now = self.now();
        self.nodes[node].replica.step(now, input, &mut out);
        for effect in out {
            self.carry_out(node, effect);
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::HighWatermark { offset } => self.high_watermark(at, offset),
            Effect::Acknowledge { token, base_offset, .. } => self.acknowledged(at, token, base_offset),
            Effect::Refuse { token, .. } => drop(self.nodes[at].waiting.remove(&token.0)),
            Effect::ProposeIsr(proposal) => self.propose(at, proposal),
            Effect::Truncate { offset } => self.nodes[at].cut = Some(Cut { offset, restart: false }),
            Effect::Restart { offset } => self.nodes[at].cut = Some(Cut { offset, restart: true }),
            Effect::ReplayProducers => {
                let producers = self.nodes[at].log.producers();
                self.step(at, Input::Replayed { producers });
            }
            Effect::MoveLogStart { offset } => self.nodes[at].log.delete_below(offset),
            Effect::StartEpoch { .. } | Effect::Wake { .. } => {}
            Effect::Append { .. } | Effect::AppendFetched { .. } => {
                unreachable!("done where batches are at hand")
            }
        }
    }

    fn produce(&mut self, at: usize, all: bool) {
        let record = self.next_record;
        self.next_record += 1;
        let token = Token(u64::from(record));
        let now = self.now();
        let node = &mut self.nodes[at];
        node.waiting.insert(token.0, (record, all));
        let epoch = node.replica.epoch().0;
        let with_producer = self.bounds.everything && record % 3 != 0;
        let entry =
            node.log.next(epoch, record, with_producer.then_some(i64::from(record % 2)), &node.replica);
        let batch = entry.batch();
        let acks = if all { Acks::All } else { Acks::Leader };
        let mut out = Vec::new();
        let batches = std::slice::from_ref(&batch);
        node.replica.step(now, Input::Produce { token, acks, batches, append_time: None }, &mut out);
        if out.pop_if(|last| matches!(last, Effect::Append { .. })).is_some() {
            let base_offset = node.log.end();
            node.log.push(entry);
            node.replica.step(now, Input::Appended { token, base_offset, batches }, &mut out);
        }
        out.into_iter().for_each(|effect| self.carry_out(at, effect));
    }

    fn store(&mut self, at: usize) {
        let end_offset = self.nodes[at].log.end();
        self.nodes[at].log.stored = end_offset;
        self.step(at, Input::Stored { end_offset });
    }

    fn ask(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(fetch) = node.replica.to_fetch() else { return };
        let last_epoch = node.log.last_epoch();
        self.messages.push(Message::Fetch {
            from: at,
            to: place(fetch.leader),
            incarnation: node.incarnation,
            epoch: fetch.leader_epoch.0,
            offset: fetch.offset,
            last_epoch,
        });
    }

    fn finish_cut(&mut self, at: usize) {
        let Some(cut) = self.nodes[at].cut.take() else { return };
        let log = &mut self.nodes[at].log;
        if cut.restart {
            log.restart_at(cut.offset)
        } else {
            log.truncate(cut.offset)
        }
        let end_offset = log.end();
        self.step(at, Input::Truncated { end_offset });
    }

    fn learn(&mut self, at: usize) {
        let seen = self.nodes[at].seen;
        let Some(news) = self.metadata.get(seen).cloned() else { return };
        self.nodes[at].seen += 1;
        let (epoch, leader) = (LeaderEpoch(news.epoch), news.leader.map(id));
        if news.leader == Some(at) {
            let lead = Leadership {
                epoch,
                partition_epoch: PartitionEpoch(news.partition_epoch),
                replicas: (0..self.nodes.len()).map(id).collect(),
                isr: news.isr.iter().copied().map(id).collect(),
                min_isr: self.bounds.min_isr,
                patience: Patience::default(),
            };
            self.step(at, Input::Lead(lead));
        } else {
            self.step(at, Input::Follow(Following { epoch, leader }));
        }
    }

    fn delete_records(&mut self, at: usize) {
        let offset = self.nodes[at].replica.high_watermark();
        self.nodes[at].log.delete_below(offset);
        self.step(at, Input::LogStart { offset });
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let now = self.now().mono;
        for at in 0..self.nodes.len() {
            if self.nodes[at].up && self.nodes[at].replica.deadline().is_some_and(|deadline| deadline <= now)
            {
                self.step(at, Input::Tick);
            }
        }
    }

    fn die(&mut self, at: usize) {
        self.deaths += 1;
        let node = &mut self.nodes[at];
        node.up = false;
        node.log.die();
        node.cut = None;
        node.waiting.clear();
        node.replica = Partition::new(id(at), LogState::default(), Producers::default());
        // Its connections end: what it has not sent off is gone, what is for it has nobody to go to.
        let reaches = |message: &Message| match message {
            Message::Answer { to, .. } | Message::Decision { to, .. } => *to != at,
            Message::Fetch { .. } | Message::Propose { .. } => true,
        };
        self.messages.retain(reaches);
        for message in &mut self.messages {
            match message {
                Message::Propose { from, orphan, .. } if *from == at => *orphan = true,
                _ => {}
            }
        }
    }

    fn restart(&mut self, at: usize) {
        self.fence(at);
        let incarnation = self.nodes.iter().map(|node| node.incarnation).max().unwrap_or(0) + 1;
        let latest = self.metadata.len();
        let node = &mut self.nodes[at];
        node.up = true;
        node.incarnation = incarnation;
        let log = LogState { start_offset: node.log.start, end_offset: node.log.end(), high_watermark: 0 };
        node.replica = Partition::new(id(at), log, node.log.producers());
        node.seen = latest - 1;
        self.learn(at);
    }

    // What a leader's and a follower's host do with messages.

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Fetch { from, to, incarnation, epoch, offset, last_epoch } if self.nodes[to].up => {
                self.serve((from, incarnation), to, epoch, offset, last_epoch);
            }
            Message::Fetch { .. } => {}
            Message::Answer { to, incarnation, epoch, offset, high_watermark, start, what } => {
                if self.nodes[to].incarnation == incarnation {
                    self.answered(to, (epoch, offset), (high_watermark, start), what);
                }
            }
            Message::Propose { from, incarnation, epoch, partition_epoch, isr, orphan } => {
                let what = self.decide(from, epoch, partition_epoch, &isr);
                if !orphan {
                    self.messages.push(Message::Decision {
                        to: from,
                        incarnation,
                        epoch,
                        of: partition_epoch,
                        what,
                    });
                }
            }
            Message::Decision { to, incarnation, epoch, of, what } => {
                let isr = |isr: Vec<usize>| isr.into_iter().map(id).collect();
                let answer = match what {
                    Decided::Accepted { partition_epoch, isr: members } => IsrAnswer::Accepted {
                        partition_epoch: PartitionEpoch(partition_epoch),
                        isr: isr(members),
                    },
                    Decided::Refused => IsrAnswer::Refused,
                    Decided::Stale => IsrAnswer::Stale,
                };
                self.decided((to, incarnation), epoch, of, answer);
            }
        }
    }

    fn decided(&mut self, (to, incarnation): (usize, i64), epoch: i32, of: i32, answer: IsrAnswer) {
        if self.nodes[to].up && self.nodes[to].incarnation == incarnation {
            let (leader_epoch, partition_epoch) = (LeaderEpoch(epoch), PartitionEpoch(of));
            self.step(to, Input::IsrAnswer { leader_epoch, partition_epoch, answer });
        }
    }

    /// The leader hears nothing of its proposal, which may be on its way still.
    fn give_up(&mut self, message: usize) {
        let heard = match &mut self.messages[message] {
            Message::Propose { from, incarnation, epoch, partition_epoch, orphan, .. } => {
                *orphan = true;
                ((*from, *incarnation), *epoch, *partition_epoch)
            }
            Message::Decision { to, incarnation, epoch, of, .. } => {
                let heard = ((*to, *incarnation), *epoch, *of);
                self.messages.remove(message);
                heard
            }
            _ => return,
        };
        self.decided(heard.0, heard.1, heard.2, IsrAnswer::Unknown);
    }

    fn serve(
        &mut self,
        (from, incarnation): (usize, i64),
        to: usize,
        epoch: i32,
        offset: i64,
        last: Option<i32>,
    ) {
        let node = &self.nodes[to];
        let known = node.replica.check_epoch(Some(epoch)).is_ok();
        let log = &node.log;
        let end = last.map(|last| log.end_of(last));
        let diverges =
            |last: i32, end: Option<(i32, i64)>| end.is_none_or(|(e, end)| e < last || end < offset);
        let what = match (last, end) {
            (Some(last), Some(end)) if diverges(last, end) => What::Diverging(end),
            _ if offset < log.start || offset > log.end() => What::OutOfRange,
            _ => What::Entries(log.read(offset, node.replica.end_of(moldau_partition::View::Stored))),
        };
        if !matches!(what, What::Diverging(_)) {
            let registered = self.metadata[node.seen - 1].registered[from];
            let fetch = FollowerFetch {
                node: id(from),
                broker_epoch: BrokerEpoch(incarnation),
                registered: registered.map(BrokerEpoch),
                leader_epoch: LeaderEpoch(epoch),
                offset,
            };
            self.ineligible = (registered != Some(incarnation)).then_some(from);
            self.step(to, Input::FollowerFetch(fetch));
            self.ineligible = None;
        }
        let node = &self.nodes[to];
        let (high_watermark, start) = (node.replica.high_watermark(), node.log.start);
        if known {
            self.messages.push(Message::Answer {
                to: from,
                incarnation,
                epoch,
                offset,
                high_watermark,
                start,
                what,
            });
        }
    }

    fn answered(
        &mut self,
        at: usize,
        (epoch, offset): (i32, i64),
        (high_watermark, start): (i64, i64),
        what: What,
    ) {
        let now = self.now();
        let end = |(epoch, end_offset)| EpochEnd { epoch: LeaderEpoch(epoch), end_offset };
        let node = &mut self.nodes[at];
        let (mut batches, mut entries) = (Vec::new(), Vec::new());
        let news = match what {
            What::Entries(found) => {
                batches.extend(found.iter().map(Entry::batch));
                entries = found;
                News::Batches(&batches)
            }
            What::Diverging(leader) => News::Diverging {
                leader: leader.map(end),
                own: leader.and_then(|(epoch, _)| node.log.end_of(epoch)).map(end),
            },
            What::OutOfRange => News::OutOfRange,
        };
        let leader_epoch = LeaderEpoch(epoch);
        let fetched = Fetched { leader_epoch, offset, high_watermark, log_start_offset: start, news };
        let mut out = Vec::new();
        node.replica.step(now, Input::Fetched(fetched), &mut out);
        if let Some(Effect::AppendFetched { count }) =
            out.pop_if(|last| matches!(last, Effect::AppendFetched { .. }))
        {
            entries.truncate(count);
            entries.into_iter().for_each(|entry| node.log.push(entry));
            let taken: &[Batch] = &batches[..count];
            node.replica.step(now, Input::FetchedAppended { batches: taken }, &mut out);
        }
        out.into_iter().for_each(|effect| self.carry_out(at, effect));
    }

    // The perfect controller.

    fn commit(&mut self, next: Metadata) {
        self.metadata.push(next);
    }

    fn fence(&mut self, at: usize) {
        let mut next = self.latest().clone();
        if next.registered[at].take().is_none() {
            return;
        }
        let before = next.clone();
        if next.isr.len() > 1 {
            next.isr.retain(|&member| member != at);
        }
        if next.leader == Some(at) {
            next.leader = next.isr.iter().copied().find(|&member| next.registered[member].is_some());
            next.epoch += 1;
        }
        if next != before {
            next.partition_epoch += 1;
        }
        self.commit(next);
    }

    fn unfence(&mut self, at: usize) {
        let mut next = self.latest().clone();
        next.registered[at] = Some(self.nodes[at].incarnation);
        if next.leader.is_none() && next.isr.contains(&at) {
            next.leader = Some(at);
            next.epoch += 1;
            next.partition_epoch += 1;
        }
        self.commit(next);
    }

    fn decide(&mut self, from: usize, epoch: i32, of: i32, isr: &[(usize, Option<i64>)]) -> Decided {
        let mut next = self.latest().clone();
        if next.leader != Some(from) || next.epoch != epoch || next.partition_epoch != of {
            return Decided::Stale;
        }
        let fits = |&(member, incarnation): &(usize, Option<i64>)| {
            next.registered[member].is_some_and(|known| incarnation.is_none_or(|told| told == known))
        };
        if !isr.iter().all(fits) {
            return Decided::Refused;
        }
        next.isr = isr.iter().map(|&(member, _)| member).collect();
        next.partition_epoch += 1;
        let answer = Decided::Accepted { partition_epoch: next.partition_epoch, isr: next.isr.clone() };
        self.commit(next);
        answer
    }

    fn propose(&mut self, at: usize, proposal: Proposal) {
        let incarnation = self.nodes[at].incarnation;
        let (epoch, partition_epoch) = (proposal.leader_epoch.0, proposal.partition_epoch.0);
        let isr: Vec<(usize, Option<i64>)> =
            proposal.isr.iter().map(|&(member, epoch)| (place(member), epoch.map(|epoch| epoch.0))).collect();
        let known = self.nodes[at].replica.leadership().map_or(&[][..], |known| &known.isr);
        let stranger = self.ineligible.filter(|&member| {
            !known.contains(&id(member)) && isr.iter().any(|&(proposed, _)| proposed == member)
        });
        let again = self.messages.iter().any(|message| match *message {
            Message::Propose {
                from, incarnation: by, epoch: e, partition_epoch: pe, orphan: false, ..
            } => (from, by, e, pe) == (at, incarnation, epoch, partition_epoch),
            _ => false,
        });
        if let Some(member) = stranger {
            self.breaks(|| format!("{at} proposes {member}, which is fenced"));
        } else if again {
            self.breaks(|| format!("{at} makes two proposals at a time"));
        }
        self.messages.push(Message::Propose {
            from: at,
            incarnation,
            epoch,
            partition_epoch,
            isr,
            orphan: false,
        });
    }

    // What must hold.

    fn high_watermark(&mut self, at: usize, offset: i64) {
        let node = &self.nodes[at];
        if node.replica.leadership().is_none() {
            return;
        }
        for next in self.committed.len() as i64..offset {
            match node.log.at(next).map(|entry| (entry.epoch, entry.record)) {
                Some(entry) => self.committed.push(entry),
                None => return self.breaks(|| format!("{at} commits offset {next} and does not have it")),
            }
        }
    }

    fn acknowledged(&mut self, at: usize, token: Token, offset: i64) {
        let Some((record, all)) = self.nodes[at].waiting.remove(&token.0) else {
            return self.breaks(|| format!("{at} answers {token:?} twice"));
        };
        let committed = self.committed.get(offset as usize).is_some_and(|&(_, known)| known == record);
        if all && !committed {
            self.breaks(|| format!("{at} acknowledges record {record} at {offset}, which is not committed"));
        }
    }

    fn check(&mut self) {
        let broken = (0..self.nodes.len()).find_map(|at| self.flaw_of(at));
        if let Some(broken) = broken {
            self.breaks(|| broken);
        }
    }

    fn flaw_of(&self, at: usize) -> Option<Broken> {
        let node = &self.nodes[at];
        let committed = |offset: i64| self.committed.get(offset as usize).copied();
        // Every member of the in-sync set has everything that was ever below the high watermark.
        if self.latest().isr.contains(&at) {
            for offset in node.log.start..self.committed.len() as i64 {
                let has = node.log.at(offset).filter(|_| offset < node.log.stored);
                if has.map(|entry| (entry.epoch, entry.record)) != committed(offset) {
                    return Some(format!("{at} is in sync and does not have what was committed at {offset}"));
                }
            }
        }
        // Below its high watermark each replica has what was committed.
        let high_watermark = node.replica.high_watermark();
        for offset in node.log.start..high_watermark.max(node.log.start) {
            if node.log.at(offset).map(|entry| (entry.epoch, entry.record)) != committed(offset) {
                return Some(format!("{at} shows something else at {offset} than what was committed"));
            }
        }
        let settled = node.up && node.cut.is_none();
        if settled && node.replica.log_end_offset() != node.log.end() {
            return Some(format!("{at} does not know its log's end"));
        }
        let live = || node.replica.producers().entries();
        if settled
            && self.bounds.everything
            && node.log.start == 0
            && !live().eq(node.log.producers().entries())
        {
            return Some(format!("{at} remembers other producers than its log has"));
        }
        None
    }

    /// Everything works again: after a while all replicas are in sync and have the same.
    pub fn heal(&mut self) {
        self.bounds = Bounds {
            messages: usize::MAX,
            epochs: i32::MAX,
            deaths: 0,
            evidence: 0,
            records: 0,
            ..self.bounds
        };
        for round in 0..2_000 {
            for at in 0..self.nodes.len() {
                if !self.nodes[at].up {
                    self.act(&Action::Restart { node: at });
                }
                if self.latest().registered[at].is_none() {
                    self.act(&Action::Unfence { node: at });
                }
                while self.nodes[at].seen < self.metadata.len() {
                    self.act(&Action::Learn { node: at });
                }
                for action in
                    [Action::FinishCut { node: at }, Action::Store { node: at }, Action::Ask { node: at }]
                {
                    self.act(&action);
                }
            }
            while !self.messages.is_empty() {
                self.act(&Action::Deliver { message: 0 });
            }
            self.act(&Action::Pass { ms: 100 });
            if self.broken.is_some() || round > 3 && self.is_whole() {
                return;
            }
        }
        let metadata = self.latest().clone();
        self.breaks(|| format!("the cluster does not come together: {metadata:?}"));
    }

    fn is_whole(&self) -> bool {
        let end = self.nodes[0].log.end();
        self.latest().isr.len() == self.nodes.len()
            && self.nodes.iter().all(|node| {
                node.seen == self.metadata.len()
                    && node.log.end() == end
                    && node.replica.high_watermark() == end
            })
    }
}
