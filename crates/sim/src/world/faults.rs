//! What goes wrong in a run: deaths of the process and of the machine, resets, bad disks, clean stops.

use moldau_base::Mono;
use moldau_base::disk::DirId;

use super::{Happening, MILLI, Node, World};
use crate::boot;
use crate::disk::{SimDisk, Unwritten};
use crate::failure;
use crate::metadata::Quorum;
use crate::net::{Link, Side, Spot};
use crate::process::Process;
use crate::weather::{Fault, Remedy};

/// Milliseconds after a power loss in which another node may not know of it yet.
const CARRIED_MS: u64 = 3_000;
/// How long a full disk stays full, in milliseconds.
const FULL_MS: u64 = 10_000;

impl World {
    pub(super) fn strike(&mut self, node: usize, fault: Fault) {
        let fault = match fault {
            Fault::PowerLossInRecovery(after) if !self.may_lose_power() => Fault::KillInRecovery(after),
            other => other,
        };
        self.trace.line(self.clock.now(), || format!("fault at node {}: {fault}", boot::node_id(node)));
        *self.struck.entry(fault.kind()).or_default() += 1;
        let now = self.clock.now();
        let hit = &mut self.nodes[node];
        match fault {
            // At once, in the middle of an operation, between what was written and its sync, or while metadata is written.
            Fault::Kill(_) | Fault::PowerLoss(_) => match self.rng.below(7) {
                0 | 1 => self.die(node, fault),
                2 | 3 => hit.dies_after = Some((self.rng.below(8), fault)),
                4 | 5 => hit.dies_in_sync = Some(fault),
                _ => {
                    hit.dies_in_metadata = Some(fault);
                    hit.disk.set_fuse(Some(self.rng.below(6)));
                }
            },
            Fault::KillInRecovery(after) => {
                self.kill(node, 0);
                self.nodes[node].dies_in_recovery = Some((after, fault));
            }
            Fault::PowerLossInRecovery(after) => {
                self.power_loss(node, 0);
                self.nodes[node].dies_in_recovery = Some((after, fault));
            }
            Fault::CleanStop(down_ms) => self.stop(node, down_ms),
            Fault::ResetAll | Fault::ResetSome => self.reset(fault == Fault::ResetAll),
            Fault::SlowSyncs(ms) => {
                hit.sync_at_least = ms * MILLI;
                self.clock.after(10_000 * MILLI, Happening::FastAgain(node));
            }
            Fault::FailSync(remedy) => {
                hit.disk.fail_next_sync(Unwritten::Kept);
                self.remedy(node, 0, remedy);
            }
            Fault::DropSync(remedy) => {
                hit.disk.fail_next_sync(Unwritten::Dropped);
                self.remedy(node, 0, remedy);
            }
            Fault::ShortWrite(remedy) => {
                hit.disk.fail_next_write();
                self.remedy(node, 0, remedy);
            }
            Fault::Full(room, remedy) => {
                hit.disk.set_capacity(Some(hit.disk.used() + room));
                self.clock.after(FULL_MS * MILLI, Happening::Room(node));
                self.remedy(node, FULL_MS, remedy);
            }
            Fault::ClockJump(ms) => hit.wall_skew_ms += ms,
            Fault::Pause(ms) => hit.still_until = Mono(now.0 + ms * MILLI),
            Fault::LoseDisks(down_ms) => self.lose_disks(node, down_ms),
            Fault::Rolling(pause_ms) => self.roll(node, pause_ms),
            Fault::Everybody(down_ms) => self.everybody(node, down_ms),
            Fault::CutOff(ms) => self.cut(node, ms, true, true),
            Fault::Mute(ms) => self.cut(node, ms, true, false),
            Fault::Deaf(ms) => self.cut(node, ms, false, true),
            Fault::Island(ms) => {
                self.cut(node, ms, true, true);
                let (until, spot) = (Mono(now.0 + ms * MILLI), Spot::Node(node));
                self.net.cut(spot, Spot::Clients, until);
                self.net.cut(Spot::Clients, spot, until);
            }
        }
    }

    /// Resets connections: all of them, or one in two.
    fn reset(&mut self, all: bool) {
        for link in self.net.links() {
            if all || self.rng.chance(1, 2) {
                self.reset_link(link);
            }
        }
    }

    /// A connection is reset.
    pub(super) fn reset_link(&mut self, link: Link) {
        for (side, due) in self.net.reset(self.clock.now(), link) {
            self.arrives(link, side, Some(due));
        }
    }

    /// Cuts what goes from a node to the others, what comes, or both.
    fn cut(&mut self, node: usize, ms: u64, from: bool, to: bool) {
        let until = Mono(self.clock.now().0 + ms * MILLI);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if from {
                self.net.cut(Spot::Node(node), Spot::Node(other), until);
            }
            if to {
                self.net.cut(Spot::Node(other), Spot::Node(node), until);
            }
        }
    }

    /// What one node alone has not synced may go with its power while every other replica has it; while another one is not made good the
    /// machine only restarts.
    fn may_lose_power(&self) -> bool {
        let recently =
            |node: &Node| node.lost_at.is_some_and(|at| at.0 + CARRIED_MS * MILLI > self.clock.now().0);
        let is_promised = self.nodes.len() == 1 || self.setup.synced;
        is_promised || (self.is_whole() && !self.nodes.iter().any(recently))
    }

    /// A voter that forgets its promises is safe only while nothing is being decided: all have the same metadata, all of it is committed, and
    /// they agree who leads.
    fn may_lose_disks(&self) -> bool {
        let recently =
            |node: &Node| node.lost_at.is_some_and(|at| at.0 + CARRIED_MS * MILLI > self.clock.now().0);
        let standing = |node: &Node| node.quorum.as_ref().and_then(Quorum::standing);
        let voters = &self.nodes[self.setup.weather.voters()];
        let first = voters.first().and_then(standing);
        let agree = first.is_some() && voters.iter().all(|node| standing(node) == first);
        self.nodes.len() > 1 && agree && self.is_whole() && !self.nodes.iter().any(recently)
    }

    /// The machine's disks are replaced; while something is amiss elsewhere it only restarts.
    fn lose_disks(&mut self, node: usize, down_ms: u64) {
        let may = self.may_lose_disks();
        self.kill(node, down_ms);
        if may {
            let lost = &mut self.nodes[node];
            lost.disk = SimDisk::default();
            lost.replaced += 1;
            lost.lost_at = Some(self.clock.now());
            self.trace.line(self.clock.now(), || format!("node {} has empty disks", boot::node_id(node)));
        }
    }

    /// Every node is stopped in good order, this one first.
    fn roll(&mut self, first: usize, pause_ms: u64) {
        let nodes = self.nodes.len();
        for turn in 0..nodes {
            let at = self.clock.now().after_ms((turn as u64 * pause_ms) as i64);
            if at < self.setup.weather.trouble {
                let (node, fault) = ((first + turn) % nodes, Fault::CleanStop(pause_ms / 4));
                self.clock.at(at, Happening::Fault { node, fault });
            }
        }
    }

    /// The machine loses power in the moment in which the processes of all others are killed: those have what they had written.
    fn everybody(&mut self, first: usize, down_ms: u64) {
        let may = self.may_lose_power();
        for node in 0..self.nodes.len() {
            let down_ms = self.rng.below(down_ms + 1);
            match node == first && may {
                true => self.power_loss(node, down_ms),
                false => self.kill(node, down_ms),
            }
        }
    }

    /// What the operator will do about a disk, counted from when it is whole again.
    fn remedy(&mut self, node: usize, whole_ms: u64, remedy: Remedy) {
        let (after_ms, death) = match remedy {
            Remedy::Reboot(ms) => (ms, Fault::PowerLoss(100)),
            Remedy::Restart(ms) => (ms, Fault::Kill(100)),
            Remedy::Nothing => return,
        };
        self.clock.after((whole_ms + after_ms) * MILLI, Happening::Die { node, fault: death });
    }

    pub(super) fn die(&mut self, node: usize, fault: Fault) {
        match fault {
            Fault::Kill(down_ms) => self.kill(node, down_ms),
            Fault::PowerLoss(down_ms) if self.may_lose_power() => self.power_loss(node, down_ms),
            Fault::PowerLoss(down_ms) => self.kill(node, down_ms),
            _ => {}
        }
    }

    /// The process dies and starts again after a while.
    pub(super) fn kill(&mut self, node: usize, down_ms: u64) {
        let Some(mut process) = self.nodes[node].process.take() else { return };
        self.net.read_late(Spot::Node(node));
        process.disk.kill(&mut self.rng);
        let served = process.connections().into_iter().map(|link| (link, Side::Broker));
        let made = self.drop_calls(&process).into_iter().map(|link| (link, Side::Client));
        for (link, side) in served.chain(made).collect::<Vec<_>>() {
            self.end(link, side);
        }
        self.nodes[node].quorum = None;
        self.nodes[node].still_until = Mono(0);
        self.clock.after(down_ms * MILLI, Happening::Boot(node));
    }

    /// The system closes the sockets of a dead process: what it had sent may still arrive.
    fn end(&mut self, link: Link, side: Side) {
        let now = self.clock.now();
        if self.rng.chance(1, 2) {
            let due = self.net.close(now, link, side);
            self.arrives(link, side.other(), due);
        } else {
            for (side, due) in self.net.reset(now, link) {
                self.arrives(link, side, Some(due));
            }
        }
    }

    /// The operator stops the node: no more connections, then everything is flushed and the directories are marked clean.
    fn stop(&mut self, node: usize, down_ms: u64) {
        let now = self.clock.now();
        let Some(process) = self.nodes[node].process.as_mut().filter(|process| process.ready) else { return };
        process.ready = false;
        process.stopping = Some((process.shards(), down_ms));
        let (life, shards, links) = (process.life, process.shards(), process.connections());
        for link in links {
            let due = self.net.close(now, link, Side::Broker);
            self.arrives(link, Side::Client, due);
            self.hung_up(node, link);
        }
        for shard in 0..shards {
            self.act(node, shard, Process::stop);
        }
        self.clock.after(60_000 * MILLI, Happening::MustHaveStopped { life });
    }

    /// A shard has stopped; after the last one the process ends.
    pub(super) fn stopped(&mut self, node: usize) {
        let Some((left, down_ms)) =
            self.nodes[node].process.as_mut().and_then(|process| process.stopping.as_mut())
        else {
            return self.fail(failure::BAD_SHARD, "a shard says that it stopped and was not told to");
        };
        *left -= 1;
        let (left, down_ms) = (*left, *down_ms);
        if left > 0 {
            return;
        }
        let Some(process) = self.nodes[node].process.take() else { return };
        let epoch = process.each_shard().first().and_then(|shard| shard.broker_epoch());
        let epoch = epoch.map_or(-1, |epoch| epoch.0);
        for dir in (0..self.setup.weather.log_dirs).map(DirId).filter(|dir| !process.offline.contains(dir)) {
            if let Err(error) = moldau_storage::mark_clean(&self.nodes[node].disk, dir, epoch) {
                self.trace.line(self.clock.now(), || format!("cannot mark clean: {error}"));
            }
        }
        for link in self.drop_calls(&process) {
            self.end(link, Side::Client);
        }
        self.nodes[node].quorum = None;
        self.trace.line(self.clock.now(), || format!("node {} stopped cleanly", boot::node_id(node)));
        self.clock.after(down_ms * MILLI, Happening::Boot(node));
    }

    /// The power goes once more, everywhere, when everyone is done: what is read back afterwards is what is on the devices.
    pub(crate) fn dark_end(&mut self) {
        self.trace.line(self.clock.now(), || "the power goes once more".to_owned());
        for node in 0..self.nodes.len() {
            *self.struck.entry(Fault::PowerLoss(0).kind()).or_default() += 1;
            self.power_loss(node, 100);
        }
    }

    fn power_loss(&mut self, node: usize, down_ms: u64) {
        let Some(mut process) = self.nodes[node].process.take() else { return };
        // What was on its way may have reached the disk without anyone having been told.
        process.disk.kill(&mut self.rng);
        let now = self.clock.now();
        for link in process.connections() {
            if self.net.spot(link, Side::Client) != Some(Spot::Clients) {
                self.fall_silent(node, link, Side::Broker);
                continue;
            }
            for (side, due) in self.net.reset(now, link) {
                self.arrives(link, side, Some(due));
            }
        }
        for link in self.drop_calls(&process) {
            self.fall_silent(node, link, Side::Client);
        }
        self.nodes[node].quorum = None;
        self.nodes[node].still_until = Mono(0);
        self.nodes[node].dark = true;
        self.cut_power(node);
        self.clock.after(down_ms * MILLI, Happening::Boot(node));
    }

    /// An end of a connection between nodes is gone, and the other is not told before it sends something to a machine that is up again.
    fn fall_silent(&mut self, node: usize, link: Link, side: Side) {
        self.net.shut(link, side);
        self.nodes[node].unnoticed.push((link, side.other()));
    }

    /// The disk loses what a power loss takes, and the checkers are told what nobody promised to keep.
    pub(super) fn cut_power(&mut self, node: usize) {
        if !self.setup.synced {
            self.nodes[node].lost_at = Some(self.clock.now());
        }
        if !self.setup.synced && self.nodes.len() == 1 {
            // What may be lost is known from here on. An acknowledgement that came later would be one of a record that may be gone.
            self.net.lose_answers(Spot::Node(node));
            crate::loss::tell(&mut self.shared.borrow_mut(), &self.nodes[node].disk);
        }
        self.nodes[node].boots += 1;
        self.nodes[node].disk.power_loss(&mut self.rng);
    }
}
