//! The perfect controller: it is always there, and commits at once.

use crate::world::{Decided, Metadata, World};

impl World {
    pub(crate) fn commit(&mut self, next: Metadata) {
        self.metadata.push(next);
    }

    pub(crate) fn fence(&mut self, at: usize) {
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

    pub(crate) fn unfence(&mut self, at: usize) {
        let mut next = self.latest().clone();
        next.registered[at] = Some(self.nodes[at].incarnation);
        if next.leader.is_none() && next.isr.contains(&at) {
            next.leader = Some(at);
            next.epoch += 1;
            next.partition_epoch += 1;
        }
        self.commit(next);
    }

    /// Whether leadership may move to this one: it is in sync, and another one leads.
    pub(crate) fn may_be_elected(&self, at: usize) -> bool {
        let now = self.latest();
        now.leader.is_some_and(|leader| leader != at) && now.isr.contains(&at) && now.registered[at].is_some()
    }

    pub(crate) fn elect(&mut self, at: usize) {
        let mut next = self.latest().clone();
        next.leader = Some(at);
        next.epoch += 1;
        next.partition_epoch += 1;
        self.commit(next);
    }

    pub(crate) fn decide(
        &mut self,
        from: usize,
        epoch: i32,
        of: i32,
        isr: &[(usize, Option<i64>)],
    ) -> Decided {
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
}
