//! What the host of a replica does: it carries out effects on the log, and starts again what has died.

use moldau_base::{LeaderEpoch, PartitionEpoch};
use moldau_partition::{
    Acks, Effect, Following, Input, Leadership, LogState, Partition, Patience, Producers, Proposal, Token,
};

use crate::world::{Cut, Message, World, id, place};

impl World {
    pub(crate) fn step(&mut self, node: usize, input: Input<'_>) {
        let mut out = Vec::new();
        let now = self.now();
        self.nodes[node].replica.step(now, input, &mut out);
        for effect in out {
            self.carry_out(node, effect);
        }
    }

    pub(crate) fn carry_out(&mut self, at: usize, effect: Effect) {
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

    pub(crate) fn produce(&mut self, at: usize, all: bool) {
        let record = self.next_record;
        self.next_record += 1;
        let token = Token(u64::from(record));
        let now = self.now();
        let node = &mut self.nodes[at];
        node.waiting.insert(token.0, (record, all));
        let epoch = node.replica.epoch().0;
        let with_producer = self.bounds.everything && !record.is_multiple_of(3);
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

    pub(crate) fn store(&mut self, at: usize) {
        let end_offset = self.nodes[at].log.end();
        self.nodes[at].log.stored = end_offset;
        self.step(at, Input::Stored { end_offset });
    }

    pub(crate) fn ask(&mut self, at: usize) {
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

    pub(crate) fn finish_cut(&mut self, at: usize) {
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

    pub(crate) fn learn(&mut self, at: usize) {
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

    pub(crate) fn delete_records(&mut self, at: usize) {
        let offset = self.nodes[at].replica.high_watermark();
        self.nodes[at].log.delete_below(offset);
        self.step(at, Input::LogStart { offset });
    }

    pub(crate) fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let now = self.now().mono;
        for at in 0..self.nodes.len() {
            if self.nodes[at].up && self.nodes[at].replica.deadline().is_some_and(|deadline| deadline <= now)
            {
                self.step(at, Input::Tick);
            }
        }
    }

    pub(crate) fn die(&mut self, at: usize) {
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

    pub(crate) fn restart(&mut self, at: usize) {
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

    pub(crate) fn propose(&mut self, at: usize, proposal: Proposal) {
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
}
