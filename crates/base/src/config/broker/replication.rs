//! Replication between brokers.

use super::super::def::{Def, Unit, bool, int, long, text};

const OWN: &str = "followers fetch in a way of their own: one fetcher per shard and leader, as much as there is, as soon as it is there";
const EVIDENCE: &str = "a follower leaves the in-sync set on evidence: when its process is gone, when an acknowledgement waits for it for nearly half a second (440 ms), when it is behind for a second";
/// The choice of replicas that is there.
const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const THREADS: &str = "there are no such threads: moldau.shards sets the number of event loops";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    bool("auto.leader.rebalance.enable", "true", "Give leadership back to preferred replicas."),
    long(
        "leader.imbalance.check.interval.seconds",
        "300",
        "Time between two looks for leaders that are not the preferred ones.",
    )
    .unit(Unit::Seconds)
    .min(1),
    int("num.replica.alter.log.dirs.threads", "", "Threads that move replicas between directories.")
        .unset()
        .no_meaning(THREADS),
    int("num.replica.fetchers", "1", "Fetchers per leading broker.").min(1).cluster_wide().no_meaning(OWN),
    int("replica.fetch.backoff.ms", "1000", "Pause of a follower after a failed fetch.")
        .unit(Unit::Milliseconds)
        .min(0)
        .no_meaning(OWN),
    int("replica.fetch.max.bytes", "1048576", "Most bytes per partition of a follower's fetch.")
        .unit(Unit::Bytes)
        .min(0)
        .no_meaning(OWN),
    int("replica.fetch.min.bytes", "1", "Fewest bytes for which a leader answers a follower at once.")
        .unit(Unit::Bytes)
        .no_meaning(OWN),
    int("replica.fetch.response.max.bytes", "10485760", "Most bytes of an answer to a follower.")
        .unit(Unit::Bytes)
        .min(0)
        .no_meaning(OWN),
    int("replica.fetch.wait.max.ms", "500", "Longest wait of a follower's fetch.")
        .unit(Unit::Milliseconds)
        .no_meaning(OWN),
    long(
        "replica.high.watermark.checkpoint.interval.ms",
        "5000",
        "Time between two checkpoints of the high watermarks.",
    )
    .unit(Unit::Milliseconds)
    .no_meaning(OWN),
    long("replica.lag.time.max.ms", "30000", "Lag after which a follower is no longer in sync.")
        .unit(Unit::Milliseconds)
        .no_meaning(EVIDENCE),
    text(
        "replica.selector.class",
        "",
        "How to choose the replica from which a consumer reads: unset, always the leader; with RackAwareReplicaSelector, one in the \
         rack that the consumer names (client.rack), if one is in sync there.",
    )
    .unset()
    .only(
        &["", RACK_AWARE],
        "classes cannot be loaded: leave it out, or set it to org.apache.kafka.common.replica.RackAwareReplicaSelector",
    ),
    int("replica.socket.receive.buffer.bytes", "65536", "Receive buffer of a follower's connection.")
        .unit(Unit::Bytes)
        .no_meaning(OWN),
    int("replica.socket.timeout.ms", "30000", "How long a follower waits for the leader's answer.")
        .unit(Unit::Milliseconds)
        .no_meaning(OWN),
];
