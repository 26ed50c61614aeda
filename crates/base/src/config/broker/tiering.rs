//! Tiered storage.

use super::super::def::{Bounds, Def, Unit, bool, double, int, long, text};

const TIER: &str = "there is no tiered storage yet, and remote.log.storage.system.enable=true is refused";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    bool(
        "follower.fetch.last.tiered.offset.enable",
        "false",
        "Let a follower begin at the last tiered offset.",
    )
    .cluster_wide()
    .no_meaning(TIER),
    int("remote.fetch.max.wait.ms", "500", "Longest wait for a read from tiered storage.")
        .unit(Unit::Milliseconds)
        .min(1)
        .cluster_wide()
        .no_meaning(TIER),
    long(
        "remote.list.offsets.request.timeout.ms",
        "30000",
        "Longest search for an offset in tiered storage.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .cluster_wide()
    .no_meaning(TIER),
    long(
        "remote.log.index.file.cache.total.size.bytes",
        "1073741824",
        "Disk space for indexes of tiered segments.",
    )
    .unit(Unit::Bytes)
    .min(1)
    .cluster_wide()
    .no_meaning(TIER),
    long("remote.log.index.file.cache.ttl.ms", "900000", "How long an index of a tiered segment is kept.")
        .unit(Unit::Milliseconds)
        .min(-1)
        .hidden()
        .no_meaning(TIER),
    int("remote.log.manager.copier.thread.pool.size", "10", "Threads that copy segments.")
        .min(1)
        .cluster_wide()
        .no_meaning(TIER),
    long(
        "remote.log.manager.copy.max.bytes.per.second",
        "9223372036854775807",
        "Most bytes copied in a second.",
    )
    .unit(Unit::BytesPerSecond)
    .min(1)
    .cluster_wide()
    .no_meaning(TIER),
    int("remote.log.manager.copy.quota.window.num", "11", "Samples kept for the copy quota.")
        .min(1)
        .no_meaning(TIER),
    int("remote.log.manager.copy.quota.window.size.seconds", "1", "Length of a sample for the copy quota.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(TIER),
    int("remote.log.manager.expiration.thread.pool.size", "10", "Threads that delete tiered segments.")
        .min(1)
        .cluster_wide()
        .no_meaning(TIER),
    long(
        "remote.log.manager.fetch.max.bytes.per.second",
        "9223372036854775807",
        "Most tiered bytes read in a second.",
    )
    .unit(Unit::BytesPerSecond)
    .min(1)
    .cluster_wide()
    .no_meaning(TIER),
    int("remote.log.manager.fetch.quota.window.num", "11", "Samples kept for the read quota.")
        .min(1)
        .no_meaning(TIER),
    int("remote.log.manager.fetch.quota.window.size.seconds", "1", "Length of a sample for the read quota.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(TIER),
    int("remote.log.manager.follower.thread.pool.size", "2", "Threads of followers of tiered partitions.")
        .min(1)
        .cluster_wide()
        .no_meaning(TIER),
    long("remote.log.manager.task.interval.ms", "30000", "Time between two rounds of tiering.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(TIER),
    long("remote.log.manager.task.retry.backoff.max.ms", "30000", "Longest pause after a failed round.")
        .unit(Unit::Milliseconds)
        .min(1)
        .hidden()
        .no_meaning(TIER),
    long("remote.log.manager.task.retry.backoff.ms", "500", "First pause after a failed round.")
        .unit(Unit::Milliseconds)
        .min(1)
        .hidden()
        .no_meaning(TIER),
    double("remote.log.manager.task.retry.jitter", "0.2", "Random part of the pause after a failed round.")
        .bounds(Bounds::Ratio(0.0, 0.5))
        .hidden()
        .no_meaning(TIER),
    int("remote.log.manager.thread.pool.size", "2", "Threads of tiering.").min(1).no_meaning(TIER),
    int(
        "remote.log.metadata.custom.metadata.max.bytes",
        "128",
        "Longest note that a storage plugin may keep per segment.",
    )
    .unit(Unit::Bytes)
    .min(0)
    .no_meaning(TIER),
    text(
        "remote.log.metadata.manager.class.name",
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        "Java class that keeps the metadata of tiered segments.",
    )
    .bounds(Bounds::NotEmpty)
    .no_meaning(TIER),
    text("remote.log.metadata.manager.class.path", "", "Where that class is found.").unset().no_meaning(TIER),
    text("remote.log.metadata.manager.impl.prefix", "rlmm.config.", "Prefix of that class's own keys.")
        .bounds(Bounds::NotEmpty)
        .no_meaning(TIER),
    text("remote.log.metadata.manager.listener.name", "", "Listener that that class connects to.")
        .unset()
        .bounds(Bounds::NotEmpty)
        .no_meaning(TIER),
    int("remote.log.reader.max.pending.tasks", "100", "Most reads that wait.").min(1).no_meaning(TIER),
    int("remote.log.reader.threads", "10", "Threads that read tiered segments.")
        .min(1)
        .cluster_wide()
        .no_meaning(TIER),
    text("remote.log.storage.manager.class.name", "", "Java class that stores tiered segments.")
        .unset()
        .bounds(Bounds::NotEmpty)
        .no_meaning(TIER),
    text("remote.log.storage.manager.class.path", "", "Where that class is found.").unset().no_meaning(TIER),
    text("remote.log.storage.manager.impl.prefix", "rsm.config.", "Prefix of that class's own keys.")
        .bounds(Bounds::NotEmpty)
        .no_meaning(TIER),
    bool("remote.log.storage.system.enable", "false", "Switch tiered storage on.")
        .only(&["false"], "there is no tiered storage yet; leave remote.log.storage.system.enable=false"),
];
