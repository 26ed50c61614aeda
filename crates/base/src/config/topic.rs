//! Every key that a topic of Kafka 4.3 has. Defaults equal those of the broker keys they derive from; a test
//! compares the two tables.

use super::def::{Bounds, Def, Unit, bool, double, int, list, long, text};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
const NO_COMPACTION: &str = "logs are not compacted yet, and cleanup.policy=compact is refused";
const NO_RECOMPRESSION: &str = "batches are stored as the producer compressed them";
const NO_TIERING: &str = "there is no tiered storage yet, and remote.storage.enable=true is refused";

/// The keys of a topic, sorted by name.
pub static TOPIC: &[Def] = &[
    list("cleanup.policy", "delete", "What happens to old segments: `delete` removes them by retention.ms and retention.bytes; empty keeps everything.")
        .bounds(Bounds::SubsetOf(&["compact", "delete"]))
        .only(&["delete", ""], "logs are not compacted yet; use cleanup.policy=delete, with retention.ms=-1 to keep every record")
        .from_broker(&[("log.cleanup.policy", 1)]),
    int("compression.gzip.level", "-1", "Level of gzip when the broker compresses.")
        .bounds(Bounds::BetweenOrMinusOne(1, 9))
        .no_meaning(NO_RECOMPRESSION)
        .from_broker(&[("compression.gzip.level", 1)]),
    int("compression.lz4.level", "9", "Level of lz4 when the broker compresses.")
        .bounds(Bounds::Between(1, 17))
        .no_meaning(NO_RECOMPRESSION)
        .from_broker(&[("compression.lz4.level", 1)]),
    text("compression.type", "producer", "Compression of stored batches; `producer` keeps each batch as it came.")
        .bounds(Bounds::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]))
        .only(&["producer"], "batches are stored as the producer compressed them; use compression.type=producer and set compression.type in the producer")
        .from_broker(&[("compression.type", 1)]),
    int("compression.zstd.level", "3", "Level of zstd when the broker compresses.")
        .bounds(Bounds::Between(-131_072, 22))
        .no_meaning(NO_RECOMPRESSION)
        .from_broker(&[("compression.zstd.level", 1)]),
    long("delete.retention.ms", "86400000", "How long compaction keeps the marker of a deleted key.")
        .unit(Unit::Milliseconds).min(0)
        .no_meaning(NO_COMPACTION)
        .from_broker(&[("log.cleaner.delete.retention.ms", 1)]),
    long("file.delete.delay.ms", "60000", "How long a deleted segment's file stays on disk under the suffix .deleted.")
        .unit(Unit::Milliseconds).min(0)
        .from_broker(&[("log.segment.delete.delay.ms", 1)]),
    long("flush.messages", "9223372036854775807", "Records after which the log is flushed to disk; 1 flushes every batch before it is acknowledged.")
        .min(1)
        .from_broker(&[("log.flush.interval.messages", 1)]),
    long("flush.ms", "9223372036854775807", "Longest time that a record stays unflushed in the page cache; moldau.log.flush.max.ms bounds it for every topic.")
        .unit(Unit::Milliseconds).min(0)
        .from_broker(&[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)]),
    list("follower.replication.throttled.replicas", "", "Replicas that fetch no faster than follower.replication.throttled.rate while they are not in sync.")
        .bounds(Bounds::ThrottledReplicas)
        .from_broker(&[]),
    int("index.interval.bytes", "4096", "Bytes of log between two entries of the offset index.")
        .unit(Unit::Bytes).min(0)
        .from_broker(&[("log.index.interval.bytes", 1)]),
    int("internal.segment.bytes", "", "Segment size without the lower bound of segment.bytes, for tests.")
        .unset().unit(Unit::Bytes).min(1).hidden()
        .from_broker(&[]),
    list("leader.replication.throttled.replicas", "", "Replicas from which followers that are not in sync are sent no more than leader.replication.throttled.rate.")
        .bounds(Bounds::ThrottledReplicas)
        .from_broker(&[]),
    long("local.retention.bytes", "-2", "Local size limit of a tiered partition; -2 means retention.bytes.")
        .unit(Unit::Bytes).min(-2)
        .no_meaning(NO_TIERING)
        .from_broker(&[("log.local.retention.bytes", 1)]),
    long("local.retention.ms", "-2", "Local time limit of a tiered partition; -2 means retention.ms.")
        .unit(Unit::Milliseconds).min(-2)
        .no_meaning(NO_TIERING)
        .from_broker(&[("log.local.retention.ms", 1)]),
    long("max.compaction.lag.ms", "9223372036854775807", "Longest time a record escapes compaction.")
        .unit(Unit::Milliseconds).min(1)
        .no_meaning(NO_COMPACTION)
        .from_broker(&[("log.cleaner.max.compaction.lag.ms", 1)]),
    int("max.message.bytes", "1048588", "Largest record batch that is accepted, after compression.")
        .unit(Unit::Bytes).min(0)
        .from_broker(&[("message.max.bytes", 1)]),
    long("message.timestamp.after.max.ms", "3600000", "How far in the future a record's timestamp may be.")
        .unit(Unit::Milliseconds).min(0)
        .from_broker(&[("log.message.timestamp.after.max.ms", 1)]),
    long("message.timestamp.before.max.ms", "9223372036854775807", "How far in the past a record's timestamp may be.")
        .unit(Unit::Milliseconds).min(0)
        .from_broker(&[("log.message.timestamp.before.max.ms", 1)]),
    text("message.timestamp.type", "CreateTime", "Whether records keep the producer's timestamp or get the broker's time of append.")
        .bounds(Bounds::OneOf(&["CreateTime", "LogAppendTime"]))
        .from_broker(&[("log.message.timestamp.type", 1)]),
    double("min.cleanable.dirty.ratio", "0.5", "Share of the log that must be new before compaction runs.")
        .bounds(Bounds::Ratio(0.0, 1.0))
        .no_meaning(NO_COMPACTION)
        .from_broker(&[("log.cleaner.min.cleanable.ratio", 1)]),
    long("min.compaction.lag.ms", "0", "Shortest time a record escapes compaction.")
        .unit(Unit::Milliseconds).min(0)
        .no_meaning(NO_COMPACTION)
        .from_broker(&[("log.cleaner.min.compaction.lag.ms", 1)]),
    int("min.insync.replicas", "1", "Replicas that must have a batch before a producer with acks=all gets its acknowledgement; with fewer in sync the write is refused.")
        .min(1)
        .from_broker(&[("min.insync.replicas", 1)]),
    bool("preallocate", "false", "Reserve the disk space of a segment when it is created.")
        .no_meaning("segment files grow as records arrive")
        .from_broker(&[("log.preallocate", 1)]),
    bool("remote.log.copy.disable", "false", "Stop copying to tiered storage.")
        .no_meaning(NO_TIERING)
        .from_broker(&[]),
    bool("remote.log.delete.on.disable", "false", "Delete tiered data when tiering is switched off.")
        .no_meaning(NO_TIERING)
        .from_broker(&[]),
    bool("remote.storage.enable", "false", "Move closed segments to tiered storage.")
        .only(&["false"], "there is no tiered storage yet; leave remote.storage.enable=false")
        .from_broker(&[]),
    long("retention.bytes", "-1", "Size above which the oldest segments of a partition are deleted; -1 means no limit.")
        .unit(Unit::Bytes)
        .from_broker(&[("log.retention.bytes", 1)]),
    long("retention.ms", "604800000", "Age above which the oldest segments of a partition are deleted; -1 means no limit.")
        .unit(Unit::Milliseconds).min(-1)
        .from_broker(&[("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)]),
    int("segment.bytes", "1073741824", "Size at which a segment is closed and the next one begun.")
        .unit(Unit::Bytes).min(1 << 20)
        .from_broker(&[("log.segment.bytes", 1)]),
    int("segment.index.bytes", "10485760", "Size at which a segment's offset or time index is full, which closes the segment.")
        .unit(Unit::Bytes).min(4)
        .from_broker(&[("log.index.size.max.bytes", 1)]),
    long("segment.jitter.ms", "0", "Most time subtracted at random from segment.ms, so that segments do not all close at once.")
        .unit(Unit::Milliseconds).min(0)
        .from_broker(&[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)]),
    long("segment.ms", "604800000", "Age at which a segment is closed and the next one begun.")
        .unit(Unit::Milliseconds).min(1)
        .from_broker(&[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)]),
    bool("unclean.leader.election.enable", "false", "Let a replica that is not in sync lead, at the price of acknowledged records.")
        .from_broker(&[("unclean.leader.election.enable", 1)]),
];

/// The topic key of this name.
pub fn topic_key(name: &str) -> Option<&'static Def> {
    TOPIC.binary_search_by(|def| def.name.cmp(name)).ok().map(|at| &TOPIC[at])
}
