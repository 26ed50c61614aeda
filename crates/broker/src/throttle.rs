//! What moving partitions may take of the network (KIP-73): followers that a topic's `*.replication.throttled.replicas` name are
//! sent, and fetch, no more than the broker's `*.replication.throttled.rate`.
//!
//! Only whoever is not in sync is held back: no acknowledgement waits for a throttle, and what is replicated to the in-sync set
//! does not count. What moves between log directories of the node has a rate of its own (KIP-113). All shards of a node share its rates,
//! which is why meters are atomic numbers and not messages.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use moldau_base::config::{BrokerLayers, broker_key};
use moldau_base::{Mono, NodeId, TopicPartition};
use moldau_controller::{Image, Resource};

use crate::Shard;
use crate::partitions::Slot;

/// The rate that is none.
const UNLIMITED: i64 = i64::MAX;
/// What was not used is kept for so long, in nanoseconds: a second's worth of bytes may go at once.
const BURST_NS: u64 = 1_000_000_000;
/// A throttle is looked at again after so long at the latest, in milliseconds: it may have been loosened.
const LOOK_MS: i64 = 1_000;

/// The throttles of a node.
#[derive(Debug, Default)]
pub struct Throttles {
    /// What it sends to followers.
    pub(crate) sent: Meter,
    /// What its replicas fetch.
    pub(crate) fetched: Meter,
    /// What is copied from one of its log directories to another (KIP-113).
    pub(crate) copied: Meter,
}

/// Bytes per second, counted as the time until which what was taken is paid for.
#[derive(Debug)]
pub(crate) struct Meter {
    rate: AtomicI64,
    paid_at: AtomicU64,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter { rate: AtomicI64::new(UNLIMITED), paid_at: AtomicU64::new(0) }
    }
}

impl Meter {
    /// Changes the rate, in bytes per second; what was taken before is forgiven.
    fn set(&self, rate: i64, now: Mono) {
        if self.rate.swap(rate.max(0), Ordering::Relaxed) != rate {
            self.paid_at.fetch_min(now.0, Ordering::Relaxed);
        }
    }

    /// Until when nothing more may be taken; `None` when something may.
    pub(crate) fn closed_until(&self, now: Mono) -> Option<Mono> {
        let look = now.after_ms(LOOK_MS);
        if self.rate.load(Ordering::Relaxed) == 0 {
            return Some(look);
        }
        let paid_at = Mono(self.paid_at.load(Ordering::Relaxed));
        (paid_at > now).then(|| paid_at.min(look))
    }

    /// How much should be taken at once, at most.
    pub(crate) fn portion(&self) -> u32 {
        u32::try_from(self.rate.load(Ordering::Relaxed).max(1)).unwrap_or(u32::MAX)
    }

    /// These bytes are taken.
    pub(crate) fn take(&self, bytes: u64, now: Mono) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == UNLIMITED || bytes == 0 {
            return;
        }
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1).unsigned_abs());
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let earliest = now.0.saturating_sub(BURST_NS);
        let paid = |paid_at: u64| Some(paid_at.max(earliest).saturating_add(cost));
        // It never answers that there is nothing to store.
        let _ = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }
}

/// Reads the rates: as this broker's configuration has them, or the cluster's.
pub(crate) fn follow_image(shard: &mut Shard) {
    let of_brokers = |resource: &Resource| matches!(resource, Resource::Broker(_) | Resource::ClusterDefault);
    if shard.id.0 == 0 && shard.cluster.delta.configs.iter().any(of_brokers) {
        set_rates(shard);
    }
}

/// Sets the rates of the node.
pub(crate) fn set_rates(shard: &Shard) {
    let layers = crate::api::layers(shard);
    let (throttles, now) = (&shard.settings.throttles, shard.now.mono);
    throttles.sent.set(rate(&layers, "leader.replication.throttled.rate"), now);
    throttles.fetched.set(rate(&layers, "follower.replication.throttled.rate"), now);
    throttles.copied.set(rate(&layers, "replica.alter.log.dirs.io.max.bytes.per.second"), now);
}

fn rate(layers: &BrokerLayers, key: &str) -> i64 {
    let value = broker_key(key).and_then(|def| def.read(layers.get(def).0?).ok());
    value.map_or(UNLIMITED, |value| value.number())
}

/// The meter for what is sent to this follower; `None` when it is not held back.
pub(crate) fn of_follower<'a>(
    throttles: &'a Throttles,
    slot: &Slot,
    me: NodeId,
    follower: NodeId,
) -> Option<&'a Meter> {
    let listed = slot.config().throttled_leaders.has(slot.id.partition, me);
    (listed && !slot.replica.waits_for(follower)).then_some(&throttles.sent)
}

/// The meter for what this node fetches of a partition; `None` when it is not held back.
pub(crate) fn of_leader<'a>(
    throttles: &'a Throttles,
    image: &Image,
    slot: &Slot,
    me: NodeId,
) -> Option<&'a Meter> {
    let listed = slot.config().throttled_followers.has(slot.id.partition, me);
    (listed && !is_in_sync(image, slot.id, me)).then_some(&throttles.fetched)
}

fn is_in_sync(image: &Image, id: TopicPartition, node: NodeId) -> bool {
    image.partition(id).is_some_and(|partition| partition.isr.contains(&node))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_meter_without_a_rate_is_always_open() {
        let meter = Meter::default();
        meter.take(u64::MAX, Mono(5));
        assert_eq!(meter.closed_until(Mono(5)), None);
        assert_eq!(meter.portion(), u32::MAX);
    }

    #[test]
    fn what_is_taken_is_paid_for_by_time() {
        let meter = Meter::default();
        let start = Mono(100 * SECOND);
        meter.set(1_000, start);
        // A second's worth may go at once, and nothing more.
        meter.take(1_000, start);
        assert_eq!(meter.closed_until(start), None);
        meter.take(500, start);
        assert_eq!(meter.closed_until(start), Some(start.after_ms(500)));
        assert_eq!(meter.closed_until(start.after_ms(500)), None);
        // The sum over ten seconds is what ten seconds allow, and the first second's worth.
        let (mut now, mut taken) = (start.after_ms(500), 0);
        while now < start.after_ms(10_500) {
            match meter.closed_until(now) {
                Some(until) => now = until,
                None => {
                    meter.take(100, now);
                    taken += 100;
                }
            }
        }
        assert!((10_000..=10_200).contains(&taken), "{taken}");
    }

    #[test]
    fn a_higher_rate_forgives_what_was_taken() {
        let meter = Meter::default();
        let now = Mono(100 * SECOND);
        meter.set(1, now);
        meter.take(1 << 40, now);
        assert_eq!(meter.closed_until(now), Some(now.after_ms(LOOK_MS)));
        meter.set(2, now);
        assert_eq!(meter.closed_until(now), None);
        meter.set(0, now);
        assert_eq!(meter.closed_until(now), Some(now.after_ms(LOOK_MS)));
    }
}
