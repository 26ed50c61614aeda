//! What goes wrong in a run: deaths of the process and of the machine, resets, bad disks, clean stops.

use moldau_base::disk::DirId;

use super::{Happening, MILLI, World};
use crate::net::Side;
use crate::process::Process;
use crate::weather::Fault;

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        self.trace.line(self.clock.now(), || format!("fault: {fault}"));
        let now = self.clock.now();
        match fault {
            Fault::Kill(_) | Fault::PowerLoss(_) if self.rng.chance(1, 2) => {
                self.dies_after = Some((self.rng.below(8), fault));
            }
            Fault::Kill(_) | Fault::PowerLoss(_) => self.die(fault),
            Fault::KillInRecovery(after) => {
                self.kill(0);
                self.kill_in_recovery = Some(after);
            }
            Fault::CleanStop(down_ms) => self.stop(down_ms),
            Fault::ResetAll | Fault::ResetSome => {
                for link in self.net.links() {
                    if fault == Fault::ResetAll || self.rng.chance(1, 2) {
                        for (side, due) in self.net.reset(now, link) {
                            self.arrives(link, side, Some(due));
                        }
                    }
                }
            }
            Fault::SlowSyncs(ms) => {
                self.sync_at_least = ms * MILLI;
                self.clock.after(10_000 * MILLI, Happening::FastAgain);
            }
            Fault::FailSync(restart_ms) => {
                if let Some(process) = self.process.as_mut() {
                    process.disk.fail_next(0, 1);
                }
                // What the failed sync did not write is in the page cache, but on no device: the machine must not go on with it.
                self.clock.after(restart_ms * MILLI, Happening::Die(Fault::PowerLoss(100)));
            }
            Fault::Full(room) => {
                self.disk.set_capacity(Some(self.disk.used() + room));
                self.clock.after(10_000 * MILLI, Happening::Room);
                self.clock.after(10_100 * MILLI, Happening::Die(Fault::Kill(100)));
            }
            Fault::ClockJump(ms) => self.wall_skew_ms += ms,
        }
    }

    pub(super) fn die(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(down_ms) => self.kill(down_ms),
            Fault::PowerLoss(down_ms) => self.power_loss(down_ms),
            _ => {}
        }
    }

    /// The process dies and starts again after a while.
    pub(super) fn kill(&mut self, down_ms: u64) {
        let Some(mut process) = self.process.take() else { return };
        self.net.read_late();
        process.disk.kill(&mut self.rng);
        let now = self.clock.now();
        for link in process.connections() {
            // The system closes the sockets of a dead process: what it had sent may still arrive.
            if self.rng.chance(1, 2) {
                let due = self.net.close(now, link, Side::Broker);
                self.arrives(link, Side::Client, due);
            } else {
                for (side, due) in self.net.reset(now, link) {
                    self.arrives(link, side, Some(due));
                }
            }
        }
        self.quorum = None;
        self.clock.after(down_ms * MILLI, Happening::Boot);
    }

    /// The operator stops the node: no more connections, then everything is flushed and the directories are marked clean.
    fn stop(&mut self, down_ms: u64) {
        let now = self.clock.now();
        let Some(process) = self.process.as_mut().filter(|process| process.ready) else { return };
        process.ready = false;
        process.stopping = Some((process.shards(), down_ms));
        let (life, shards, links) = (process.life, process.shards(), process.connections());
        for link in links {
            let due = self.net.close(now, link, Side::Broker);
            self.arrives(link, Side::Client, due);
            self.hung_up(link);
        }
        for shard in 0..shards {
            self.act(shard, Process::stop);
        }
        self.clock.after(60_000 * MILLI, Happening::MustHaveStopped { life });
    }

    /// A shard has stopped; after the last one the process ends.
    pub(super) fn stopped(&mut self) {
        let Some((left, down_ms)) = self.process.as_mut().and_then(|process| process.stopping.as_mut())
        else {
            return self.fail("a shard says that it stopped and was not told to".to_owned());
        };
        *left -= 1;
        let (left, down_ms) = (*left, *down_ms);
        if left > 0 {
            return;
        }
        let offline = self.process.as_ref().map(|process| process.offline.clone()).unwrap_or_default();
        for dir in (0..self.setup.weather.log_dirs).map(DirId).filter(|dir| !offline.contains(dir)) {
            if let Err(error) = moldau_storage::mark_clean(&self.disk, dir, 0) {
                self.trace.line(self.clock.now(), || format!("cannot mark clean: {error}"));
            }
        }
        self.process = None;
        self.quorum = None;
        self.trace.line(self.clock.now(), || "stopped cleanly".to_owned());
        self.clock.after(down_ms * MILLI, Happening::Boot);
    }

    fn power_loss(&mut self, down_ms: u64) {
        let Some(process) = self.process.take() else { return };
        let now = self.clock.now();
        for link in process.connections() {
            for (side, due) in self.net.reset(now, link) {
                self.arrives(link, side, Some(due));
            }
        }
        self.quorum = None;
        if !self.setup.synced {
            crate::loss::tell(&mut self.shared.borrow_mut(), &self.disk);
        }
        self.disk.power_loss(&mut self.rng);
        self.clock.after(down_ms * MILLI, Happening::Boot);
    }
}
