//! What is done to a node, which node it is done to, and which partitions are looked at.

use std::time::Duration;

/// Which node a fault is done to, and whose partitions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node that leads: the partitions that it leads.
    Leader,
    /// A node that follows and is not the active controller: the partitions that it follows.
    Follower,
    /// The active controller: the partitions that it follows.
    Controller,
    /// All nodes in turn: all partitions.
    Everybody,
}

/// How it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// kill -9.
    Kill,
    /// SIGSTOP of the process that serves.
    Freeze,
    /// SIGTERM.
    Terminate,
    /// SIGTERM and a start of each.
    Roll,
}

/// A fault.
pub struct Fault {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// To whom.
    pub target: Target,
    /// What.
    pub deed: Deed,
    /// The target of issue and page, in milliseconds: of the median, of the 99th percentile, of the largest.
    pub aims: [Option<f64>; 3],
    /// A Kafka needs a minute for it: it is tried in one of so many rounds.
    pub kafka_every: usize,
}

/// All of them.
pub const FAULTS: [Fault; 7] = [
    Fault {
        name: "kill-leader",
        what: "kill -9 of the leader's node",
        target: Target::Leader,
        deed: Deed::Kill,
        aims: [Some(150.0), Some(350.0), None],
        kafka_every: 1,
    },
    Fault {
        name: "kill-follower",
        what: "kill -9 of a node that only follows",
        target: Target::Follower,
        deed: Deed::Kill,
        aims: [None, None, Some(50.0)],
        kafka_every: 1,
    },
    Fault {
        name: "kill-controller",
        what: "kill -9 of the active controller, which only follows",
        target: Target::Controller,
        deed: Deed::Kill,
        aims: [None, None, Some(50.0)],
        kafka_every: 1,
    },
    Fault {
        name: "freeze-follower",
        what: "SIGSTOP of a node that only follows",
        target: Target::Follower,
        deed: Deed::Freeze,
        aims: [None, None, Some(500.0)],
        kafka_every: 1,
    },
    Fault {
        name: "freeze-leader",
        what: "SIGSTOP of the leader's node",
        target: Target::Leader,
        deed: Deed::Freeze,
        aims: [None, None, Some(1000.0)],
        kafka_every: 2,
    },
    Fault {
        name: "term-leader",
        what: "SIGTERM of the leader's node",
        target: Target::Leader,
        deed: Deed::Terminate,
        aims: [None, Some(30.0), None],
        kafka_every: 1,
    },
    Fault {
        name: "rolling",
        what: "rolling restart of all nodes",
        target: Target::Everybody,
        deed: Deed::Roll,
        aims: [None, None, Some(300.0)],
        kafka_every: 2,
    },
];

/// Before a fault: what came then is the load at rest.
pub const REST: Duration = Duration::from_millis(700);
/// After a fault: a gap that begins later is not its own.
pub const AFTER: Duration = Duration::from_millis(1200);
