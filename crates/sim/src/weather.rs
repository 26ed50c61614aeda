//! What the seed decides about a run before it begins: how slow network and disk are, how many shards there are, which faults
//! happen and when. Faults are data, so that a failing run can be tried again with fewer of them.

use std::fmt;
use std::ops::Range;

use moldau_base::{Mono, Rng};
use moldau_broker::Role;

use crate::net::Speed;

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const HOUR_MS: i64 = 3_600_000;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed (kill -9): the page cache stays. It starts again after so many milliseconds.
    Kill(u64),
    /// The operator stops the node in good order and starts it again after so many milliseconds.
    CleanStop(u64),
    /// The machine loses power: what was not synced tears. It starts again after so many milliseconds.
    PowerLoss(u64),
    /// The process is killed while it recovers, after so many changes of the disk; it starts again at once.
    KillInRecovery(u64),
    /// The machine loses power, and again while it recovers, after so many changes of the disk; it starts again at once.
    PowerLossInRecovery(u64),
    /// Every connection is reset.
    ResetAll,
    /// One connection in two is reset.
    ResetSome,
    /// Syncs take so many milliseconds for the next ten seconds.
    SlowSyncs(u64),
    /// The next sync fails; what it was to write stays in the page cache.
    FailSync(Remedy),
    /// The next sync fails, and no later one writes what it was to write: it is in the page cache only, and taken for clean.
    DropSync(Remedy),
    /// The next write is cut short and fails.
    ShortWrite(Remedy),
    /// The disk has room for so many bytes more; after ten seconds there is room again.
    Full(u64, Remedy),
    /// The wall clock jumps by so many milliseconds.
    ClockJump(i64),
    /// The process stands still for so many milliseconds, as under SIGSTOP.
    Pause(u64),
    /// Nothing passes between the node and the others for so many milliseconds.
    CutOff(u64),
    /// As [`Fault::CutOff`], and clients do not reach it either.
    Island(u64),
    /// Nothing comes from the node to the others for so many milliseconds.
    Mute(u64),
    /// Nothing comes to the node from the others for so many milliseconds.
    Deaf(u64),
    /// The machine gets empty disks while all is well with the others, and starts after so many milliseconds.
    LoseDisks(u64),
    /// The operator stops one node after the other in good order, with so many milliseconds between them.
    Rolling(u64),
    /// The machine loses power, and in the same moment the processes of all others are killed; each starts again after at most so many
    /// milliseconds.
    Everybody(u64),
}

/// What the operator does about a disk that has failed, after so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Restarts the machine by cutting its power.
    Reboot(u64),
    /// Kills the process and starts it again.
    Restart(u64),
    /// Nothing, until all faults are over.
    Nothing,
}

impl Remedy {
    fn draw(rng: &mut Rng) -> Remedy {
        let ms = 1_000 + rng.below(5_000);
        *rng.pick(&[Remedy::Reboot(ms), Remedy::Restart(ms), Remedy::Nothing]).unwrap_or(&Remedy::Nothing)
    }
}

impl Fault {
    /// What it is called in summaries.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Kill(_) => "kill",
            Fault::CleanStop(_) => "clean stop",
            Fault::PowerLoss(_) => "power loss",
            Fault::KillInRecovery(_) => "kill in recovery",
            Fault::PowerLossInRecovery(_) => "power loss in recovery",
            Fault::ResetAll => "reset of all",
            Fault::ResetSome => "reset of some",
            Fault::SlowSyncs(_) => "slow syncs",
            Fault::FailSync(_) => "failed sync",
            Fault::DropSync(_) => "failed sync that forgets",
            Fault::ShortWrite(_) => "short write",
            Fault::Full(..) => "full disk",
            Fault::ClockJump(_) => "clock jump",
            Fault::Pause(_) => "pause",
            Fault::CutOff(_) => "cut between nodes",
            Fault::Island(_) => "cut from everyone",
            Fault::Mute(_) => "one-way cut from a node",
            Fault::Deaf(_) => "one-way cut to a node",
            Fault::LoseDisks(_) => "loss of all disks",
            Fault::Rolling(_) => "rolling restart",
            Fault::Everybody(_) => "power loss and kills at once",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A fault and its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Mono,
    /// Which node it hits, by its place; the first one also where it hits all.
    pub node: usize,
    /// What.
    pub fault: Fault,
}

/// Which faults a workload allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Kill -9, at any operation.
    pub kill: bool,
    /// Power loss.
    pub power_loss: bool,
    /// Failing syncs and full disks.
    pub bad_disk: bool,
    /// Resets of connections.
    pub reset: bool,
    /// Jumps of the wall clock.
    pub clock: bool,
    /// Pauses of a process.
    pub pause: bool,
    /// Cuts between the nodes of a cluster.
    pub cut: bool,
    /// A node of a cluster loses everything on its disks; all of them are restarted in turn.
    pub replace: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        kill: false,
        power_loss: false,
        bad_disk: false,
        reset: false,
        clock: false,
        pause: false,
        cut: false,
        replace: false,
    };
    /// All that a broker must survive without losing what it acknowledged.
    pub const ORDINARY: Faults = Faults { kill: true, reset: true, clock: true, ..Faults::NONE };
    /// Everything that can happen to a node that is alone.
    pub const ALL: Faults = Faults { power_loss: true, bad_disk: true, ..Faults::ORDINARY };
}

/// The conditions of one run.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them, the last ones, are controllers and nothing else; the others are brokers only then, and both without any.
    pub controllers: usize,
    /// Event loops of the node.
    pub shards: u16,
    /// Log directories of the node.
    pub log_dirs: u16,
    /// The network.
    pub network: Speed,
    /// Nanoseconds that a disk operation waits at most before it begins; most begin at once.
    pub disk_wait: u64,
    /// Nanoseconds that a sync takes at most.
    pub sync: u64,
    /// What goes wrong, in order of time.
    pub faults: Vec<Due>,
    /// How long faults happen.
    pub trouble: Mono,
    /// Before everything is read back the power goes once more.
    pub dark_end: bool,
}

impl Weather {
    /// The weather of a seed; there are as many nodes as one of `nodes` says, and `controllers` more.
    pub fn draw(
        rng: &mut Rng,
        allowed: Faults,
        nodes: &[usize],
        controllers: usize,
        trouble_ms: u64,
    ) -> Weather {
        let network = *rng.pick(&[10 * MICRO, 200 * MICRO, 2 * MILLI]).unwrap_or(&MILLI);
        let network = Speed {
            least: network / 2,
            jitter: network * (1 + rng.below(4)),
            slow_one_in: if rng.chance(1, 2) { 200 } else { 0 },
        };
        let trouble = Mono(trouble_ms * MILLI);
        let nodes = match nodes {
            [only] => *only,
            several => *rng.pick(several).unwrap_or(&1),
        };
        let nodes = nodes + controllers;
        Weather {
            nodes,
            controllers,
            shards: 1 + rng.below(3) as u16,
            log_dirs: 1 + rng.below(2) as u16,
            network,
            disk_wait: *rng.pick(&[0, 50 * MICRO, 3 * MILLI]).unwrap_or(&0),
            sync: *rng.pick(&[100 * MICRO, 2 * MILLI, 20 * MILLI]).unwrap_or(&MILLI),
            faults: draw_faults(rng, allowed, nodes, trouble),
            trouble,
            dark_end: allowed.power_loss && rng.chance(1, 2),
        }
    }

    /// How many nodes serve clients.
    pub fn brokers(&self) -> usize {
        self.nodes - self.controllers
    }

    /// What the node at this place is.
    pub fn role(&self, place: usize) -> Role {
        match self.controllers {
            0 => Role::Both,
            _ if place < self.brokers() => Role::Broker,
            _ => Role::Controller,
        }
    }

    /// The nodes that vote in the metadata quorum, by their places.
    pub fn voters(&self) -> Range<usize> {
        if self.controllers == 0 { 0..self.nodes } else { self.brokers()..self.nodes }
    }
}

fn draw_faults(rng: &mut Rng, allowed: Faults, nodes: usize, trouble: Mono) -> Vec<Due> {
    let mut kinds: Vec<fn(&mut Rng) -> Fault> = Vec::new();
    if allowed.kill {
        kinds.push(|rng| Fault::Kill(rng.below(3_000)));
        kinds.push(|rng| Fault::KillInRecovery(rng.below(40)));
        kinds.push(|rng| Fault::CleanStop(rng.below(3_000)));
    }
    if allowed.power_loss {
        kinds.push(|rng| Fault::PowerLoss(rng.below(5_000)));
        kinds.push(|rng| Fault::PowerLoss(rng.below(5_000)));
        kinds.push(|rng| Fault::PowerLossInRecovery(rng.below(40)));
    }
    if allowed.power_loss && nodes > 1 {
        kinds.push(|rng| Fault::Everybody(rng.below(5_000)));
    }
    if allowed.bad_disk {
        kinds.push(|rng| Fault::SlowSyncs(rng.below(2_000)));
        kinds.push(|rng| Fault::FailSync(Remedy::draw(rng)));
        kinds.push(|rng| Fault::DropSync(Remedy::draw(rng)));
        kinds.push(|rng| Fault::ShortWrite(Remedy::draw(rng)));
        kinds.push(|rng| Fault::Full(rng.below(20_000), Remedy::draw(rng)));
    }
    if allowed.reset {
        kinds.push(|_| Fault::ResetAll);
        kinds.push(|_| Fault::ResetSome);
    }
    if allowed.clock {
        kinds.push(|rng| Fault::ClockJump(rng.below(2 * HOUR_MS as u64) as i64 - HOUR_MS));
        kinds.push(|rng| Fault::ClockJump(if rng.chance(1, 2) { HOUR_MS } else { -HOUR_MS }));
    }
    if allowed.pause {
        kinds.push(|rng| Fault::Pause(rng.below(8_000)));
    }
    if allowed.cut {
        kinds.push(|rng| Fault::CutOff(rng.below(8_000)));
        kinds.push(|rng| Fault::Island(rng.below(8_000)));
        kinds.push(|rng| Fault::Mute(rng.below(8_000)));
        kinds.push(|rng| Fault::Deaf(rng.below(8_000)));
    }
    if allowed.replace {
        kinds.push(|rng| Fault::LoseDisks(rng.below(5_000)));
        kinds.push(|rng| Fault::Rolling(rng.below(5_000)));
    }
    let count = if kinds.is_empty() { 0 } else { rng.below(9) * nodes.min(2) as u64 };
    let mut faults: Vec<Due> = Vec::new();
    for _ in 0..count {
        let Some(kind) = rng.pick(&kinds).copied() else { break };
        // Half of them early: start-up is the most delicate time.
        let span = if rng.chance(1, 2) { trouble.0 } else { trouble.0 / 8 };
        let at = Mono(rng.below(span));
        let node = if nodes > 1 { rng.below(nodes as u64) as usize } else { 0 };
        faults.push(Due { at, node, fault: kind(rng) });
    }
    faults.sort_by_key(|due| due.at);
    faults
}
