//! Which incarnation of the broker uses the log directories, and in which boot of the machine: shard 0 writes it into each of them.
//!
//! A process that ends takes nothing along that it has written; only a machine that goes down may. So an incarnation that follows
//! another in the same boot tells the controller that nothing was lost, and its replicas are as good as after a clean stop (KIP-966).
//! The mark is there before the broker asks to be let in: whoever is in sync has one. A directory that fails loses it.

use std::collections::BTreeMap;

use bytes::Bytes;
use moldau_base::BrokerEpoch;
use moldau_base::disk::{DirId, Done, Op, Path};
use moldau_storage::encode_boot;
use moldau_storage::names::BOOT_CHECKPOINT;

use crate::Shard;
use crate::partitions::shard_op;
use crate::waist::{ShardId, Trace};

/// How far the marks are.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The registration that they tell.
    epoch: Option<BrokerEpoch>,
    writing: BTreeMap<u32, DirId>,
}

/// Marks every directory that is in service with a registration, unless that was done.
pub(crate) fn mark(shard: &mut Shard, epoch: BrokerEpoch) {
    let Some(boot) = shard.settings.boot.filter(|_| !shard.settings.is_alone()) else { return };
    let Some(control) = shard.control.as_mut() else { return };
    if control.lifecycle.marks.epoch.replace(epoch) == Some(epoch) {
        return;
    }
    for dir in (0..shard.settings.log_dirs.len() as u16).map(DirId) {
        if shard.partitions.is_offline(dir) {
            continue;
        }
        let data = Bytes::from(encode_boot(boot, epoch.0));
        let seq = shard_op(shard, Op::Replace { path: Path::new(dir, BOOT_CHECKPOINT), data });
        if let Some(control) = shard.control.as_mut() {
            control.lifecycle.marks.writing.insert(seq, dir);
        }
    }
}

/// Whether marks are being written.
pub(crate) fn is_marking(shard: &Shard) -> bool {
    shard.control.as_ref().is_some_and(|control| !control.lifecycle.marks.writing.is_empty())
}

/// An operation of the shard itself has ended: the last mark lets the broker go on.
pub(crate) fn shard_op_done(shard: &mut Shard, seq: u32, done: Done) {
    let Some(control) = shard.control.as_mut() else { return };
    let Some(dir) = control.lifecycle.marks.writing.remove(&seq) else { return };
    if let Done::Failed(fault) = done {
        // The next start counts as one after a loss of power.
        shard.trace(Trace::Warning(format!(
            "log directory {}: {BOOT_CHECKPOINT} could not be written: {fault}",
            dir.0
        )));
    }
    if shard.partitions.is_offline(dir) {
        unmark(shard, dir);
    }
    if !is_marking(shard) {
        crate::lifecycle::beat_now(shard);
    }
}

/// A log directory has failed: nobody knows what the system will show of it to the next process.
pub(crate) fn unmark(shard: &mut Shard, dir: DirId) {
    if shard.id == ShardId(0) && shard.settings.boot.is_some() && !shard.settings.is_alone() {
        shard_op(shard, Op::Remove { path: Path::new(dir, BOOT_CHECKPOINT) });
    }
}
