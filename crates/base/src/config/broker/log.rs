//! Logs and their files: the defaults of the topic keys, and the chores around them.

use super::super::def::{Bounds, Def, Unit, bool, double, int, list, long, text};

const CHORES: &str = "chores run by their own intervals";
const COMPACT: &str = "logs are not compacted yet, and log.cleanup.policy=compact is refused";
const COMPRESS: &str = "batches are stored as the producer compressed them";
const PREALLOC: &str = "segment files grow as records arrive";
const RECOVERY: &str = "recovery reads a bounded part of the log whatever was checkpointed";
const STARTOFFSET: &str = "a start offset is written down when it moves";
const TIER: &str = "there is no tiered storage yet, and remote.log.storage.system.enable=true is refused";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    int("compression.gzip.level", "-1", "Default of the topic key compression.gzip.level.").bounds(Bounds::BetweenOrMinusOne(1, 9)).cluster_wide().no_meaning(COMPRESS),
    int("compression.lz4.level", "9", "Default of the topic key compression.lz4.level.").bounds(Bounds::Between(1, 17)).cluster_wide().no_meaning(COMPRESS),
    text("compression.type", "producer", "Default of the topic key compression.type.").bounds(Bounds::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])).cluster_wide().only(&["producer"], "batches are stored as the producer compressed them; use compression.type=producer"),
    int("compression.zstd.level", "3", "Default of the topic key compression.zstd.level.").bounds(Bounds::Between(-131_072, 22)).cluster_wide().no_meaning(COMPRESS),
    long("log.cleaner.backoff.ms", "15000", "Pause of the cleaner when there is nothing to do.").unit(Unit::Milliseconds).min(0).cluster_wide().no_meaning(COMPACT),
    long("log.cleaner.dedupe.buffer.size", "134217728", "Memory of the cleaners.").unit(Unit::Bytes).cluster_wide().no_meaning(COMPACT),
    long("log.cleaner.delete.retention.ms", "86400000", "Default of the topic key delete.retention.ms.").unit(Unit::Milliseconds).min(0).cluster_wide().no_meaning(COMPACT),
    bool("log.cleaner.enable", "true", "Run the cleaner.").no_meaning(COMPACT),
    double("log.cleaner.io.buffer.load.factor", "0.9", "How full the cleaner's table may be.").cluster_wide().no_meaning(COMPACT),
    int("log.cleaner.io.buffer.size", "524288", "Buffers of the cleaners.").unit(Unit::Bytes).min(0).cluster_wide().no_meaning(COMPACT),
    double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", "Most bytes the cleaners read and write in a second.").unit(Unit::BytesPerSecond).cluster_wide().no_meaning(COMPACT),
    long("log.cleaner.max.compaction.lag.ms", "9223372036854775807", "Default of the topic key max.compaction.lag.ms.").unit(Unit::Milliseconds).min(1).cluster_wide().no_meaning(COMPACT),
    double("log.cleaner.min.cleanable.ratio", "0.5", "Default of the topic key min.cleanable.dirty.ratio.").bounds(Bounds::Ratio(0.0, 1.0)).cluster_wide().no_meaning(COMPACT),
    long("log.cleaner.min.compaction.lag.ms", "0", "Default of the topic key min.compaction.lag.ms.").unit(Unit::Milliseconds).min(0).cluster_wide().no_meaning(COMPACT),
    int("log.cleaner.threads", "1", "Threads of the cleaner.").min(0).cluster_wide().no_meaning(COMPACT),
    list("log.cleanup.policy", "delete", "Default of the topic key cleanup.policy.").bounds(Bounds::SubsetOf(&["compact", "delete"])).cluster_wide().only(&["delete", ""], "logs are not compacted yet; use log.cleanup.policy=delete"),
    long("log.flush.interval.messages", "9223372036854775807", "Default of the topic key flush.messages.").min(1).cluster_wide(),
    long("log.flush.interval.ms", "", "Default of the topic key flush.ms.").unset().unit(Unit::Milliseconds).cluster_wide(),
    int("log.flush.offset.checkpoint.interval.ms", "60000", "Time between two checkpoints of what was flushed.").unit(Unit::Milliseconds).min(0).no_meaning(RECOVERY),
    long("log.flush.scheduler.interval.ms", "9223372036854775807", "Default of the topic key flush.ms where log.flush.interval.ms is not set.").unit(Unit::Milliseconds),
    int("log.flush.start.offset.checkpoint.interval.ms", "60000", "Time between two checkpoints of the logs' start offsets.").unit(Unit::Milliseconds).min(0).no_meaning(STARTOFFSET),
    int("log.index.interval.bytes", "4096", "Default of the topic key index.interval.bytes.").unit(Unit::Bytes).min(0).cluster_wide(),
    int("log.index.size.max.bytes", "10485760", "Default of the topic key segment.index.bytes.").unit(Unit::Bytes).min(4).cluster_wide(),
    long("log.initial.task.delay.ms", "30000", "Pause between start and the first chores.").unit(Unit::Milliseconds).min(0).hidden().no_meaning(CHORES),
    long("log.local.retention.bytes", "-2", "Default of the topic key local.retention.bytes.").unit(Unit::Bytes).min(-2).cluster_wide().no_meaning(TIER),
    long("log.local.retention.ms", "-2", "Default of the topic key local.retention.ms.").unit(Unit::Milliseconds).min(-2).cluster_wide().no_meaning(TIER),
    long("log.message.timestamp.after.max.ms", "3600000", "Default of the topic key message.timestamp.after.max.ms.").unit(Unit::Milliseconds).min(0).cluster_wide(),
    long("log.message.timestamp.before.max.ms", "9223372036854775807", "Default of the topic key message.timestamp.before.max.ms.").unit(Unit::Milliseconds).min(0).cluster_wide(),
    text("log.message.timestamp.type", "CreateTime", "Default of the topic key message.timestamp.type.").bounds(Bounds::OneOf(&["CreateTime", "LogAppendTime"])).cluster_wide(),
    bool("log.preallocate", "false", "Default of the topic key preallocate.").cluster_wide().no_meaning(PREALLOC),
    long("log.retention.bytes", "-1", "Default of the topic key retention.bytes.").unit(Unit::Bytes).cluster_wide(),
    long("log.retention.check.interval.ms", "300000", "Time between two looks for segments to delete.").unit(Unit::Milliseconds).min(1),
    int("log.retention.hours", "168", "Default of the topic key retention.ms, in hours, where neither log.retention.ms nor log.retention.minutes is set.").unit(Unit::Hours).bounds(Bounds::PositiveOrMinusOne),
    int("log.retention.minutes", "", "Default of the topic key retention.ms, in minutes, where log.retention.ms is not set.").unset().unit(Unit::Minutes).bounds(Bounds::PositiveOrMinusOne),
    long("log.retention.ms", "", "Default of the topic key retention.ms.").unset().unit(Unit::Milliseconds).bounds(Bounds::PositiveOrMinusOne).cluster_wide(),
    int("log.roll.hours", "168", "Default of the topic key segment.ms, in hours, where log.roll.ms is not set.").unit(Unit::Hours).min(1),
    int("log.roll.jitter.hours", "0", "Default of the topic key segment.jitter.ms, in hours, where log.roll.jitter.ms is not set.").unit(Unit::Hours).min(0),
    long("log.roll.jitter.ms", "", "Default of the topic key segment.jitter.ms.").unset().unit(Unit::Milliseconds).min(0).cluster_wide(),
    long("log.roll.ms", "", "Default of the topic key segment.ms.").unset().unit(Unit::Milliseconds).min(1).cluster_wide(),
    int("log.segment.bytes", "1073741824", "Default of the topic key segment.bytes.").unit(Unit::Bytes).min(1_048_576).cluster_wide(),
    long("log.segment.delete.delay.ms", "60000", "Default of the topic key file.delete.delay.ms.").unit(Unit::Milliseconds).min(0).cluster_wide(),
    int("message.max.bytes", "1048588", "Default of the topic key max.message.bytes.").unit(Unit::Bytes).min(0).cluster_wide(),
    long("moldau.log.flush.max.ms", "1000", "Longest time that an appended record of any topic waits for a flush to begin; the bound on what recovery reads.").unit(Unit::Milliseconds).bounds(Bounds::Between(1, 1000)),
];
