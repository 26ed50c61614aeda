//! The node's start, as often as faults end it, and the end of all faults.

use moldau_base::NodeId;
use moldau_broker::Input;

use super::{Happening, MILLI, SIMULATED, World};
use crate::boot::{self, Booted};
use crate::cx::Phase;
use crate::disk::Queue;
use crate::failure;
use crate::metadata::Quorum;
use crate::process::Process;
use crate::trace::Text;
use crate::weather::Fault;

impl World {
    pub(super) fn boot(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let born = self.clock.now();
        let now = self.now(born);
        let death = self.dies_in_recovery.take();
        self.dies_in_metadata = None;
        self.disk.set_fuse(death.map(|(after, _)| after));
        let booted = boot::boot(&self.setup, &self.disk, self.rng.fork(), now);
        let started = booted.and_then(|booted| {
            let (disk, cluster) = (self.disk.clone(), boot::cluster_id());
            let quorum = Quorum::start(disk, &cluster, NodeId(boot::NODE), &mut self.rng, now)?;
            Ok((booted, quorum))
        });
        let blown = self.disk.set_fuse(None);
        let (Booted { shards, findings }, quorum) = match started {
            Ok(started) if !blown => started,
            _ if blown => {
                self.trace.line(born, || "died in recovery".to_owned());
                if matches!(death, Some((_, Fault::PowerLossInRecovery(_)))) {
                    self.cut_power();
                }
                return self.clock.after(MILLI, Happening::Boot);
            }
            Err(error) if self.disk.is_limited() || error.contains(SIMULATED) => {
                // It may refuse to start on a bad disk; the operator tries again.
                self.trace.line(born, || format!("the node does not start: {error}"));
                return self.clock.after(1_000 * MILLI, Happening::Boot);
            }
            Err(error) => return self.fail(failure::BROKEN_NODE, format!("it does not start: {error}")),
            Ok(_) => return,
        };
        for finding in findings {
            self.trace.line(born, || format!("recovery: {finding}"));
        }
        self.trace.line(born, || format!("life {life} begins with {} shards", shards.len()));
        let tell = self.setup.text != Text::None;
        let mut process = Process::new(life, born, shards, Queue::new(self.disk.clone()), tell);
        process.strangers = self.setup.strangers;
        self.process = Some(process);
        self.quorum = Some(quorum);
        for _ in 0..self.quorum.as_ref().map_or(0, |quorum| quorum.news.len()) {
            self.clock.after(0, Happening::News { life });
        }
        self.quorum_wants(life, |quorum, now| quorum.step(now));
        for shard in 0..self.setup.weather.shards {
            self.step(shard, Input::Tick);
        }
    }

    /// The faults are over: everything works from here on.
    pub(crate) fn heal(&mut self) {
        self.disk.set_capacity(None);
        self.disk.heal();
        self.sync_at_least = 0;
        let waiting = self.dies_after.take().map(|(_, fault)| fault).or(self.dies_in_sync.take());
        let waiting = waiting.or(self.dies_in_metadata.take());
        self.disk.set_fuse(None);
        if let Some(fault) = waiting {
            self.die(fault);
        }
        if self.process.as_ref().is_some_and(|process| !process.offline.is_empty()) {
            // The operator has read the log at last.
            self.kill(100);
        }
        self.trace.line(self.clock.now(), || "healed".to_owned());
        self.shared.borrow_mut().enter(Phase::Healed);
    }
}
