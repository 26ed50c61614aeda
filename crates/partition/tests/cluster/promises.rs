//! What must hold, after everything that happens.

use moldau_partition::Token;

use crate::world::{Broken, World};

impl World {
    pub(crate) fn high_watermark(&mut self, at: usize, offset: i64) {
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

    pub(crate) fn acknowledged(&mut self, at: usize, token: Token, offset: i64) {
        let Some((record, all)) = self.nodes[at].waiting.remove(&token.0) else {
            return self.breaks(|| format!("{at} answers {token:?} twice"));
        };
        let committed = self.committed.get(offset as usize).is_some_and(|&(_, known)| known == record);
        if all && !committed {
            self.breaks(|| format!("{at} acknowledges record {record} at {offset}, which is not committed"));
        }
    }

    pub(crate) fn check(&mut self) {
        let broken = (0..self.nodes.len()).find_map(|at| self.flaw_of(at));
        if let Some(broken) = broken {
            self.breaks(|| broken);
        }
    }

    pub(crate) fn flaw_of(&self, at: usize) -> Option<Broken> {
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
}
