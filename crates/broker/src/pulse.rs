//! Whether all shards of this node go on. One may stand still, in a call to a disk that does not come back, while shard 0 says to everybody
//! that the broker is well: what that shard leads would stand still with it. So shard 0 asks the others with each sign of life that it gives,
//! and gives none while one does not answer: the controller takes that for silence, and others lead until the shard goes on.
//!
//! A shard 0 that stands still is silent without this.

use std::collections::BTreeMap;

use moldau_base::Mono;

use crate::Shard;
use crate::message::Message;
use crate::waist::{ShardId, Trace};

/// For how long a shard may not answer, in milliseconds. A write may wait for a busy disk for some hundred; to be fenced for less than an
/// outage would cost more than it saves.
const STILL_MS: i64 = 2_000;

/// Signs of life that shard 0 wanted to give meanwhile, at the least: one that did not run itself cannot tell who did.
const MISSED: u32 = 10;

/// The shards that were asked and have not answered: since when, and how often they might have since.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    asked: BTreeMap<ShardId, (Mono, u32)>,
    /// An operator was told.
    told: bool,
}

/// Asks all other shards whether they go on. False while one of them has not answered for too long.
pub(crate) fn beats(shard: &mut Shard) -> bool {
    let now = shard.now.mono;
    for other in shard.all_shards().filter(|other| other.0 != 0).collect::<Vec<_>>() {
        match shard.pulse.asked.get_mut(&other) {
            Some((_, missed)) => *missed += 1,
            None => {
                shard.pulse.asked.insert(other, (now, 0));
                shard.tell(other, Message::Pulse);
            }
        }
    }
    let is_still = |(since, missed): &(Mono, u32)| since.after_ms(STILL_MS) < now && *missed >= MISSED;
    let still = shard.pulse.asked.iter().find(|(_, asked)| is_still(asked));
    let still = still.map(|(other, _)| other.0);
    if let Some(other) = still.filter(|_| !shard.pulse.told) {
        let what = format!(
            "shard {other} has stood still for {STILL_MS} ms, as when a disk does not answer: other brokers lead until it goes on"
        );
        shard.trace(Trace::Warning(what));
    }
    shard.pulse.told = still.is_some();
    still.is_none()
}

/// A shard that was asked goes on.
pub(crate) fn felt(shard: &mut Shard, from: ShardId) {
    shard.pulse.asked.remove(&from);
}
