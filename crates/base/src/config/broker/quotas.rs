//! Quotas.

use super::super::def::{Def, Unit, class, int, long};

const QUOTA: &str = "there are no quotas yet, and requests to set one are refused";
const THROTTLE: &str = "a throttle counts bytes as they go: a second's worth of them may go at once";
const UNLIMITED: &str = "9223372036854775807";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    int(
        "alter.log.dirs.replication.quota.window.num",
        "11",
        "Samples kept for the quota on moves between directories.",
    )
    .min(1)
    .no_meaning(QUOTA),
    int(
        "alter.log.dirs.replication.quota.window.size.seconds",
        "1",
        "Length of a sample for the quota on moves between directories.",
    )
    .unit(Unit::Seconds)
    .min(1)
    .no_meaning(QUOTA),
    class("client.quota.callback.class", "Java class that decides quotas.")
        .only(&[], "Java classes do not run here; leave client.quota.callback.class out"),
    int("controller.quota.window.num", "11", "Samples kept for the quota on topic changes.")
        .min(1)
        .no_meaning(QUOTA),
    int("controller.quota.window.size.seconds", "1", "Length of a sample for the quota on topic changes.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(QUOTA),
    long(
        "follower.replication.throttled.rate",
        UNLIMITED,
        "Most bytes that the replicas of this broker fetch in a second, of those that follower.replication.throttled.replicas names and that are not in sync.",
    )
    .unit(Unit::BytesPerSecond)
    .min(0)
    .cluster_wide(),
    long(
        "leader.replication.throttled.rate",
        UNLIMITED,
        "Most bytes that this broker sends in a second to followers that are not in sync, of the replicas that leader.replication.throttled.replicas names.",
    )
    .unit(Unit::BytesPerSecond)
    .min(0)
    .cluster_wide(),
    int("quota.window.num", "11", "Samples kept for client quotas.").min(1).no_meaning(QUOTA),
    int("quota.window.size.seconds", "1", "Length of a sample for client quotas.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(QUOTA),
    long(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        UNLIMITED,
        "Most bytes that are copied between log directories of this broker in a second.",
    )
    .unit(Unit::BytesPerSecond)
    .min(0)
    .cluster_wide(),
    int("replication.quota.window.num", "11", "Samples kept for the replication quota.")
        .min(1)
        .no_meaning(THROTTLE),
    int("replication.quota.window.size.seconds", "1", "Length of a sample for the replication quota.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(THROTTLE),
];
