//! Several replicas of one partition, each the real core over a log in memory, with a network that loses, repeats and reorders, nodes that
//! die and a perfect controller. A world is a value: what may happen next is a list, and what happens is chosen from it.

use std::collections::BTreeMap;

use moldau_base::{Mono, NodeId, Now};
use moldau_partition::{Input, LogState, Partition, Producers};

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
    /// Changes of metadata, behind which no broker is fenced or let in again.
    pub changes: usize,
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
    DeliverLate { message: usize },
    GiveUp { message: usize },
    Gone { node: usize, of: usize },
    Fence { node: usize },
    Unfence { node: usize },
    Elect { node: usize },
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
pub(crate) enum Message {
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
        /// Of the follower's log when it asked.
        last_epoch: Option<i32>,
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
pub(crate) enum What {
    Entries(Vec<Entry>),
    Diverging(Option<(i32, i64)>),
    OutOfRange,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Decided {
    Accepted { partition_epoch: i32, isr: Vec<usize> },
    Refused,
    Stale,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) up: bool,
    pub(crate) incarnation: i64,
    pub(crate) replica: Partition,
    pub(crate) log: Log,
    pub(crate) cut: Option<Cut>,
    /// Changes of metadata that it has seen.
    pub(crate) seen: usize,
    /// Of the requests that wait: the record and whether the whole in-sync set has to have it.
    pub(crate) waiting: BTreeMap<u64, (u32, bool)>,
}

/// A cut that the log is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    pub(crate) offset: i64,
    pub(crate) restart: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub bounds: Bounds,
    pub(crate) now_ms: i64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) metadata: Vec<Metadata>,
    pub(crate) messages: Vec<Message>,
    /// Second copies of messages, which come much later.
    pub(crate) late: Vec<Message>,
    /// What was below the high watermark of a leader, from offset 0.
    pub(crate) committed: Vec<(i32, u32)>,
    pub(crate) next_record: u32,
    pub(crate) deaths: u32,
    pub(crate) evidence: u32,
    /// A follower that may not join, while its fetch is looked at.
    pub(crate) ineligible: Option<usize>,
    pub broken: Option<Broken>,
}

pub(crate) fn id(node: usize) -> NodeId {
    NodeId(node as i32)
}

pub(crate) fn place(node: NodeId) -> usize {
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
            late: Vec::new(),
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

    pub(crate) fn latest(&self) -> &Metadata {
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
                && self.late.len() < self.bounds.messages / 2
                && matches!(message, Message::Fetch { .. } | Message::Answer { .. })
            {
                actions.push(Action::Repeat { message: at });
            }
        }
        actions.extend((0..self.late.len()).map(|message| Action::DeliverLate { message }));
        if self.bounds.everything {
            actions.extend([20, 300].map(|ms| Action::Pass { ms }));
        }
        actions
    }

    pub(crate) fn actions_of(&self, at: usize, actions: &mut Vec<Action>) {
        let node = &self.nodes[at];
        let registered = self.latest().registered[at];
        let room = self.metadata.len() < self.bounds.changes;
        if registered.is_some() && room {
            actions.push(Action::Fence { node: at });
        }
        if !node.up {
            actions.push(Action::Restart { node: at });
            return;
        }
        if self.bounds.everything && room && self.may_be_elected(at) {
            actions.push(Action::Elect { node: at });
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
            Action::Repeat { message } => self.late.push(self.messages[message].clone()),
            Action::DeliverLate { message } => {
                let message = self.late.remove(message);
                self.deliver(message);
            }
            Action::GiveUp { message } => self.give_up(message),
            Action::Gone { node, of } => {
                self.evidence += 1;
                self.step(node, Input::Gone { node: id(of) });
            }
            Action::Fence { node } => self.fence(node),
            Action::Unfence { node } => self.unfence(node),
            Action::Elect { node } => self.elect(node),
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

    pub(crate) fn now(&self) -> Now {
        Now { wall_ms: self.now_ms, mono: Mono(self.now_ms as u64 * 1_000_000) }
    }

    pub(crate) fn breaks(&mut self, what: impl FnOnce() -> Broken) {
        if self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    /// Everything works again: after a while all replicas are in sync and have the same.
    pub fn heal(&mut self) {
        self.bounds = Bounds {
            messages: usize::MAX,
            changes: usize::MAX,
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
            while !self.late.is_empty() {
                self.act(&Action::DeliverLate { message: 0 });
            }
            self.act(&Action::Pass { ms: 100 });
            if self.broken.is_some() || round > 3 && self.is_whole() {
                return;
            }
        }
        let metadata = self.latest().clone();
        let seen = |node: &Node| {
            let (replica, log) = (&node.replica, &node.log);
            let (hw, end) = (replica.high_watermark(), log.end());
            format!("\n  start {}, end {end}, high watermark {hw}, wants {:?}", log.start, replica.to_fetch())
        };
        let nodes: String = self.nodes.iter().map(seen).collect();
        self.breaks(|| format!("the cluster does not come together: {metadata:?}{nodes}"));
    }

    pub(crate) fn is_whole(&self) -> bool {
        let end = self.nodes[0].log.end();
        self.latest().isr.len() == self.nodes.len()
            && self.nodes.iter().all(|node| {
                node.seen == self.metadata.len()
                    && node.log.end() == end
                    && node.replica.high_watermark() == end
            })
    }
}
