//! A node's start, as often as faults end it, and the end of all faults.

use moldau_broker::Input;

use super::{Happening, Life, MILLI, SIMULATED, World};
use crate::boot::{self, Booted};
use crate::cx::Phase;
use crate::disk::Queue;
use crate::failure;
use crate::metadata::Quorum;
use crate::net::Arrival;
use crate::process::Process;
use crate::trace::Text;
use crate::weather::Fault;

impl World {
    pub(super) fn boot(&mut self, place: usize) {
        if self.nodes[place].process.is_some() {
            return;
        }
        self.light(place);
        self.lives += 1;
        let life = Life { node: place, number: self.lives };
        let born = self.clock.now();
        let now = self.now(place, born);
        let node = &mut self.nodes[place];
        let death = node.dies_in_recovery.take();
        node.dies_in_metadata = None;
        node.disk.set_fuse(death.map(|(after, _)| after));
        let booted = boot::boot(&self.setup, place, node, self.rng.fork(), now);
        let started = booted.and_then(|booted| {
            let (disk, cluster) = (node.disk.clone(), boot::cluster_id());
            let voters = self.setup.weather.voters();
            let votes = voters.contains(&place);
            let (id, voters) = (boot::node_id(place), voters.map(boot::node_id));
            let quorum = || Quorum::start(disk, &cluster, id, voters, &mut self.rng, now);
            Ok((booted, votes.then(quorum).transpose()?))
        });
        let blown = node.disk.set_fuse(None);
        let (Booted { shards, findings }, quorum) = match started {
            Ok(started) if !blown => started,
            _ if blown => {
                self.trace.line(born, || "died in recovery".to_owned());
                if matches!(death, Some((_, Fault::PowerLossInRecovery(_)))) {
                    self.cut_power(place);
                }
                return self.clock.after(MILLI, Happening::Boot(place));
            }
            Err(error) if node.disk.is_limited() || error.contains(SIMULATED) => {
                // It may refuse to start on a bad disk; the operator tries again.
                self.trace.line(born, || format!("the node does not start: {error}"));
                return self.clock.after(1_000 * MILLI, Happening::Boot(place));
            }
            Err(error) => return self.fail(failure::BROKEN_NODE, format!("it does not start: {error}")),
            Ok(_) => return,
        };
        for finding in findings {
            self.trace.line(born, || format!("recovery: {finding}"));
        }
        let id = boot::node_id(place);
        self.trace
            .line(born, || format!("life {} begins: node {id} with {} shards", life.number, shards.len()));
        let tell = self.setup.text != Text::None;
        let mut process = Process::new(life, born, shards, Queue::new(node.disk.clone()), tell);
        process.strangers = self.setup.strangers;
        process.is_of_cluster = self.setup.weather.nodes > 1;
        node.process = Some(process);
        let news = quorum.as_ref().map_or(0, |quorum| quorum.news.len());
        node.quorum = quorum;
        for _ in 0..news {
            self.clock.after(0, Happening::News { life });
        }
        self.quorum_wants(life, |quorum, now| quorum.step(now));
        for shard in 0..self.setup.weather.shards {
            self.step(place, shard, Input::Tick);
        }
    }

    /// The machine has power: who still holds a connection with it learns that there is none.
    fn light(&mut self, place: usize) {
        self.nodes[place].dark = false;
        for (link, side) in std::mem::take(&mut self.nodes[place].unnoticed) {
            let due = self.net.send(self.clock.now(), link, side, Arrival::Closed);
            self.arrives(link, side, due);
        }
    }

    /// The faults are over: everything works from here on.
    pub(crate) fn heal(&mut self) {
        self.net.heal();
        for place in 0..self.nodes.len() {
            self.heal_node(place);
        }
        self.trace.line(self.clock.now(), || "healed".to_owned());
        self.shared.borrow_mut().enter(Phase::Healed);
    }

    fn heal_node(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        node.disk.set_capacity(None);
        node.disk.heal();
        node.sync_at_least = 0;
        let waiting = node.dies_after.take().map(|(_, fault)| fault).or(node.dies_in_sync.take());
        let waiting = waiting.or(node.dies_in_metadata.take());
        node.disk.set_fuse(None);
        if let Some(fault) = waiting {
            self.die(place, fault);
        }
        let node = &self.nodes[place];
        if node.process.as_ref().is_some_and(|process| !process.offline.is_empty()) {
            // The operator has read the log at last.
            self.kill(place, 100);
        }
    }
}
