//! What goes wrong in a run: deaths of the process and of the machine, resets, bad disks, clean stops.

use moldau_base::disk::DirId;

use super::{Happening, MILLI, World};
use crate::disk::Unwritten;
use crate::failure;
use crate::net::Side;
use crate::process::Process;
use crate::weather::{Fault, Remedy};

/// How long a full disk stays full, in milliseconds.
const FULL_MS: u64 = 10_000;

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        self.trace.line(self.clock.now(), || format!("fault: {fault}"));
        *self.struck.entry(fault.kind()).or_default() += 1;
        let now = self.clock.now();
        match fault {
            // At once, in the middle of an operation, between what was written and its sync, or while metadata is written.
            Fault::Kill(_) | Fault::PowerLoss(_) => match self.rng.below(7) {
                0 | 1 => self.die(fault),
                2 | 3 => self.dies_after = Some((self.rng.below(8), fault)),
                4 | 5 => self.dies_in_sync = Some(fault),
                _ => {
                    self.dies_in_metadata = Some(fault);
                    self.disk.set_fuse(Some(self.rng.below(6)));
                }
            },
            Fault::KillInRecovery(after) => {
                self.kill(0);
                self.dies_in_recovery = Some((after, fault));
            }
            Fault::PowerLossInRecovery(after) => {
                self.power_loss(0);
                self.dies_in_recovery = Some((after, fault));
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
            Fault::FailSync(remedy) => {
                self.disk.fail_next_sync(Unwritten::Kept);
                self.remedy(0, remedy);
            }
            Fault::DropSync(remedy) => {
                self.disk.fail_next_sync(Unwritten::Dropped);
                self.remedy(0, remedy);
            }
            Fault::ShortWrite(remedy) => {
                self.disk.fail_next_write();
                self.remedy(0, remedy);
            }
            Fault::Full(room, remedy) => {
                self.disk.set_capacity(Some(self.disk.used() + room));
                self.clock.after(FULL_MS * MILLI, Happening::Room);
                self.remedy(FULL_MS, remedy);
            }
            Fault::ClockJump(ms) => self.wall_skew_ms += ms,
        }
    }

    /// What the operator will do about a disk, counted from when it is whole again.
    fn remedy(&mut self, whole_ms: u64, remedy: Remedy) {
        let (after_ms, death) = match remedy {
            Remedy::Reboot(ms) => (ms, Fault::PowerLoss(100)),
            Remedy::Restart(ms) => (ms, Fault::Kill(100)),
            Remedy::Nothing => return,
        };
        self.clock.after((whole_ms + after_ms) * MILLI, Happening::Die(death));
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
            return self.fail(failure::BAD_SHARD, "a shard says that it stopped and was not told to");
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

    /// The power goes once more when everyone is done: what is read back afterwards is what is on the device.
    pub(crate) fn dark_end(&mut self) {
        self.trace.line(self.clock.now(), || "the power goes once more".to_owned());
        *self.struck.entry(Fault::PowerLoss(0).kind()).or_default() += 1;
        self.power_loss(100);
    }

    fn power_loss(&mut self, down_ms: u64) {
        let Some(mut process) = self.process.take() else { return };
        // What was on its way may have reached the disk without anyone having been told.
        process.disk.kill(&mut self.rng);
        let now = self.clock.now();
        for link in process.connections() {
            for (side, due) in self.net.reset(now, link) {
                self.arrives(link, side, Some(due));
            }
        }
        self.quorum = None;
        self.cut_power();
        self.clock.after(down_ms * MILLI, Happening::Boot);
    }

    /// The disk loses what a power loss takes, and the checkers are told what nobody promised to keep.
    pub(super) fn cut_power(&mut self) {
        if !self.setup.synced {
            crate::loss::tell(&mut self.shared.borrow_mut(), &self.disk);
        }
        self.disk.power_loss(&mut self.rng);
    }
}
