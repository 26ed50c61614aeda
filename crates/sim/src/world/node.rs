//! One node of a run: its machine with the disk, its process while it lives, its part in the metadata quorum, and what faults have in
//! store for it.

use moldau_base::Mono;

use crate::disk::SimDisk;
use crate::metadata::Quorum;
use crate::net::{Link, Side};
use crate::process::Process;
use crate::weather::Fault;

/// One life of a node's process; what was meant for an earlier one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    /// The node, by its place.
    pub(crate) node: usize,
    /// Counts the lives of all nodes.
    pub(crate) number: u32,
}

/// A node.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) process: Option<Process>,
    pub(crate) disk: SimDisk,
    pub(super) quorum: Option<Quorum>,
    /// The moment at which the quorum will be stepped, arranged for this life.
    pub(super) quorum_tick: Option<(Life, Mono)>,
    pub(super) wall_skew_ms: i64,
    pub(super) sync_at_least: u64,
    /// The machine is without power.
    pub(super) dark: bool,
    /// The process stands still until then.
    pub(super) still_until: Mono,
    /// Ends of connections that have not noticed that this machine lost power; they will when it is up again.
    pub(super) unnoticed: Vec<(Link, Side)>,
    /// How often its machine has lost power.
    pub(crate) boots: u32,
    /// How often its disks were replaced.
    pub(crate) replaced: u8,
    /// When it last lost something that others were told it has.
    pub(super) lost_at: Option<Mono>,
    /// A death that waits for so many changes of the disk by the next recovery.
    pub(super) dies_in_recovery: Option<(u64, Fault)>,
    /// A death that waits for so many disk operations.
    pub(super) dies_after: Option<(u64, Fault)>,
    /// A death that waits for the next sync, to come before its end.
    pub(super) dies_in_sync: Option<Fault>,
    /// A death that waits for the metadata log's use of the disk, to come in the middle of it.
    pub(super) dies_in_metadata: Option<Fault>,
}
