//! The disk of a run: operations happen at once or after a while, and a death may come with any of them.

use moldau_base::disk::{Op, OpId};
use moldau_broker::Input;

use super::{Happening, Life, World};
use crate::disk::{Submitted, Sync};

impl World {
    pub(super) fn operate(&mut self, life: Life, shard: u16, op: OpId, what: Op) {
        if self.dies_here(life.node, &what) {
            return;
        }
        let Some(process) = self.alive(life) else { return };
        match process.disk.submit(op, what) {
            Submitted::Done(done) => {
                process.note_done(shard, op, done);
                let delay = self.disk_delay();
                self.clock.after(delay, Happening::DiskDone { life, shard, owner: op.owner });
            }
            Submitted::Syncing(sync) => {
                let delay = self.nodes[life.node].sync_at_least + self.rng.below(self.setup.weather.sync);
                self.clock.after(delay, Happening::SyncEnds { life, shard, sync });
                if let Some(fault) = self.nodes[life.node].dies_in_sync.take() {
                    let sooner = self.rng.below(delay + 1);
                    self.clock.after(sooner, Happening::Die { node: life.node, fault });
                }
            }
            Submitted::Later(ticket) => {
                let delay = self.disk_delay() + self.rng.below(self.setup.weather.sync);
                self.clock.after(delay, Happening::DiskRuns { life, shard, ticket });
            }
        }
    }

    pub(super) fn disk_delay(&mut self) -> u64 {
        let wait = self.setup.weather.disk_wait;
        if wait == 0 || self.rng.chance(3, 4) { 0 } else { self.rng.below(wait) }
    }

    /// Whether a death that was waiting for an operation comes with this one.
    pub(super) fn dies_here(&mut self, node: usize, what: &Op) -> bool {
        let Some((left, fault)) = self.nodes[node].dies_after.take() else { return false };
        if left > 0 {
            self.nodes[node].dies_after = Some((left - 1, fault));
            return false;
        }
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.disk.tear(what, &mut self.rng);
        }
        self.trace.line(self.clock.now(), || format!("{fault} in the middle of an operation"));
        self.die(node, fault);
        true
    }

    /// What was done before a sync began is told before its end is.
    pub(super) fn tell_done(&mut self, life: Life, shard: u16, owner: u32) {
        while let Some(input) = self.alive(life).and_then(|process| process.next_done(shard, owner)) {
            self.step(life.node, shard, input);
        }
    }

    pub(super) fn sync_ends(&mut self, life: Life, shard: u16, sync: Sync) {
        self.tell_done(life, shard, sync.owner());
        let Some(process) = self.alive(life) else { return };
        let (op, done) = process.disk.finish(sync);
        self.step(life.node, shard, Input::DiskDone { op, done });
    }
}
