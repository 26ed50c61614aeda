//! Consumer groups and committed offsets.

use super::super::def::{Bounds, Def, Unit, int, list, long, short, text};

const CONSUMER_PROTOCOL: &str = "only the classic group protocol is served yet";
const COORD: &str =
    "a coordinator has no such buffers: it appends each change and reads its partition in bounded pieces";
const COMMIT: &str = "a commit waits for the in-sync replicas as long as its client does";
const SHARE: &str = "share groups are not served yet";
const STREAMS: &str = "streams groups are not served yet";
const THREADS: &str = "there are no such threads: moldau.shards sets the number of event loops";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    int("group.consumer.assignment.interval.ms", "1000", "Shortest time between two assignments of a group.")
        .unit(Unit::Milliseconds)
        .min(0)
        .cluster_wide()
        .no_meaning(CONSUMER_PROTOCOL),
    list("group.consumer.assignors", "uniform,range", "Assignors on the broker's side.")
        .no_meaning(CONSUMER_PROTOCOL),
    int("group.consumer.heartbeat.interval.ms", "5000", "Time between heartbeats of a member.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.consumer.max.assignment.interval.ms",
        "15000",
        "Upper bound of the assignment interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.consumer.max.heartbeat.interval.ms",
        "15000",
        "Upper bound of the heartbeat interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.consumer.max.session.timeout.ms",
        "60000",
        "Upper bound of the session timeout that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(CONSUMER_PROTOCOL),
    int("group.consumer.max.size", "2147483647", "Most members of a group.")
        .min(1)
        .no_meaning(CONSUMER_PROTOCOL),
    text(
        "group.consumer.migration.policy",
        "bidirectional",
        "Moves of a group between the classic and the consumer protocol.",
    )
    .bounds(Bounds::OneOfAnyCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]))
    .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.consumer.min.assignment.interval.ms",
        "0",
        "Lower bound of the assignment interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.consumer.min.heartbeat.interval.ms",
        "5000",
        "Lower bound of the heartbeat interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.consumer.min.session.timeout.ms",
        "45000",
        "Lower bound of the session timeout that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.consumer.regex.refresh.interval.ms",
        "600000",
        "Time between two evaluations of a subscription pattern.",
    )
    .unit(Unit::Milliseconds)
    .min(10_000)
    .hidden()
    .no_meaning(CONSUMER_PROTOCOL),
    int("group.consumer.session.timeout.ms", "45000", "Silence after which a member is removed.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(CONSUMER_PROTOCOL),
    int(
        "group.coordinator.append.linger.ms",
        "-1",
        "How long the coordinator collects records before it appends them.",
    )
    .unit(Unit::Milliseconds)
    .min(-1)
    .no_meaning(COORD),
    int("group.coordinator.background.threads", "2", "Threads for chores of the coordinator.")
        .min(1)
        .no_meaning(THREADS),
    int("group.coordinator.cached.buffer.max.bytes", "1048588", "Buffers that the coordinator keeps.")
        .unit(Unit::Bytes)
        .min(524_288)
        .cluster_wide()
        .no_meaning(COORD),
    list("group.coordinator.rebalance.protocols", "classic", "Group protocols that are served.")
        .bounds(Bounds::SubsetOf(&["consumer", "classic", "share", "streams"]))
        .only(&["classic"], "only the classic group protocol is served yet; leave the others out"),
    int("group.coordinator.threads", "4", "Threads of the coordinator.").min(1).no_meaning(THREADS),
    int(
        "group.initial.rebalance.delay.ms",
        "3000",
        "How long an empty group waits for more members before its first rebalance.",
    )
    .unit(Unit::Milliseconds)
    .min(0),
    int("group.max.session.timeout.ms", "1800000", "Longest session timeout that a member may ask for.")
        .unit(Unit::Milliseconds)
        .min(1),
    int("group.max.size", "2147483647", "Most members of a group.").min(1),
    int("group.min.session.timeout.ms", "6000", "Shortest session timeout that a member may ask for.")
        .unit(Unit::Milliseconds)
        .min(1),
    int("group.share.assignment.interval.ms", "1000", "Shortest time between two assignments of a group.")
        .unit(Unit::Milliseconds)
        .min(0)
        .cluster_wide()
        .no_meaning(SHARE),
    list("group.share.assignors", "simple", "Assignors on the broker's side.").no_meaning(SHARE),
    int("group.share.delivery.count.limit", "5", "Deliveries after which a record is given up.")
        .bounds(Bounds::Between(2, 10))
        .no_meaning(SHARE),
    int("group.share.heartbeat.interval.ms", "5000", "Time between heartbeats of a member.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(SHARE),
    int(
        "group.share.initialize.retry.interval.ms",
        "30000",
        "Pause before the state of a partition is set up again.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .hidden()
    .no_meaning(SHARE),
    int(
        "group.share.max.assignment.interval.ms",
        "15000",
        "Upper bound of the assignment interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(SHARE),
    int(
        "group.share.max.delivery.count.limit",
        "10",
        "Upper bound of the delivery limit that a group may have.",
    )
    .bounds(Bounds::Between(5, 25))
    .no_meaning(SHARE),
    int(
        "group.share.max.heartbeat.interval.ms",
        "15000",
        "Upper bound of the heartbeat interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(SHARE),
    int(
        "group.share.max.partition.max.record.locks",
        "4000",
        "Upper bound of the record locks that a group may have.",
    )
    .bounds(Bounds::Between(2000, 10_000))
    .no_meaning(SHARE),
    int(
        "group.share.max.record.lock.duration.ms",
        "60000",
        "Upper bound of the lock duration that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .bounds(Bounds::Between(30_000, 3_600_000))
    .no_meaning(SHARE),
    int(
        "group.share.max.session.timeout.ms",
        "60000",
        "Upper bound of the session timeout that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(SHARE),
    int("group.share.max.share.sessions", "2000", "Most share sessions of a broker.")
        .min(1)
        .no_meaning(SHARE),
    int("group.share.max.size", "200", "Most members of a group.")
        .bounds(Bounds::Between(1, 1000))
        .no_meaning(SHARE),
    int(
        "group.share.min.assignment.interval.ms",
        "0",
        "Lower bound of the assignment interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(SHARE),
    int(
        "group.share.min.delivery.count.limit",
        "2",
        "Lower bound of the delivery limit that a group may have.",
    )
    .bounds(Bounds::Between(2, 5))
    .no_meaning(SHARE),
    int(
        "group.share.min.heartbeat.interval.ms",
        "5000",
        "Lower bound of the heartbeat interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(SHARE),
    int(
        "group.share.min.partition.max.record.locks",
        "100",
        "Lower bound of the record locks that a group may have.",
    )
    .bounds(Bounds::Between(100, 2000))
    .no_meaning(SHARE),
    int(
        "group.share.min.record.lock.duration.ms",
        "15000",
        "Lower bound of the lock duration that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .bounds(Bounds::Between(1000, 30_000))
    .no_meaning(SHARE),
    int(
        "group.share.min.session.timeout.ms",
        "45000",
        "Lower bound of the session timeout that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(SHARE),
    int(
        "group.share.partition.max.record.locks",
        "2000",
        "Most records of a partition that are locked at one time.",
    )
    .bounds(Bounds::Between(100, 10_000))
    .no_meaning(SHARE),
    text(
        "group.share.persister.class.name",
        "org.apache.kafka.server.share.persister.DefaultStatePersister",
        "Java class that keeps the state.",
    )
    .hidden()
    .no_meaning(SHARE),
    int("group.share.record.lock.duration.ms", "30000", "How long a delivered record stays locked.")
        .unit(Unit::Milliseconds)
        .bounds(Bounds::Between(1000, 3_600_000))
        .no_meaning(SHARE),
    int("group.share.session.timeout.ms", "45000", "Silence after which a member is removed.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(SHARE),
    int("group.streams.assignment.interval.ms", "1000", "Shortest time between two assignments of a group.")
        .unit(Unit::Milliseconds)
        .min(0)
        .cluster_wide()
        .no_meaning(STREAMS),
    int("group.streams.heartbeat.interval.ms", "5000", "Time between heartbeats of a member.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(STREAMS),
    int(
        "group.streams.initial.rebalance.delay.ms",
        "3000",
        "How long an empty group waits for more members before its first rebalance.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(STREAMS),
    int(
        "group.streams.max.assignment.interval.ms",
        "15000",
        "Upper bound of the assignment interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(STREAMS),
    int(
        "group.streams.max.heartbeat.interval.ms",
        "15000",
        "Upper bound of the heartbeat interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(STREAMS),
    int(
        "group.streams.max.session.timeout.ms",
        "60000",
        "Upper bound of the session timeout that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(STREAMS),
    int("group.streams.max.size", "2147483647", "Most members of a group.").min(1).no_meaning(STREAMS),
    int(
        "group.streams.max.standby.replicas",
        "2",
        "Upper bound of the standby replicas that a group may have.",
    )
    .min(0)
    .no_meaning(STREAMS),
    int(
        "group.streams.min.assignment.interval.ms",
        "0",
        "Lower bound of the assignment interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(STREAMS),
    int(
        "group.streams.min.heartbeat.interval.ms",
        "5000",
        "Lower bound of the heartbeat interval that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(STREAMS),
    int(
        "group.streams.min.session.timeout.ms",
        "45000",
        "Lower bound of the session timeout that a group may have.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(STREAMS),
    int("group.streams.num.standby.replicas", "0", "Standby replicas of each task.")
        .min(0)
        .no_meaning(STREAMS),
    int("group.streams.session.timeout.ms", "45000", "Silence after which a member is removed.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(STREAMS),
    int("offset.metadata.max.bytes", "4096", "Longest note that may go with a committed offset.")
        .unit(Unit::Bytes)
        .min(0),
    int(
        "offsets.commit.timeout.ms",
        "5000",
        "How long a commit waits for the replicas of __consumer_offsets.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(COMMIT),
    int("offsets.load.buffer.size", "5242880", "Bytes per read when a coordinator loads its partition.")
        .unit(Unit::Bytes)
        .min(1)
        .no_meaning(COORD),
    long("offsets.retention.check.interval.ms", "600000", "Time between two looks for expired offsets.")
        .unit(Unit::Milliseconds)
        .min(1),
    int("offsets.retention.minutes", "10080", "How long the offsets of an empty group are kept.")
        .unit(Unit::Minutes)
        .min(1),
    int("offsets.topic.compression.codec", "0", "Compression of __consumer_offsets.").only(
        &["0"],
        "the coordinator writes its records uncompressed; leave offsets.topic.compression.codec=0",
    ),
    int(
        "offsets.topic.num.partitions",
        "50",
        "Partitions of __consumer_offsets; fixed once the topic exists.",
    )
    .min(1),
    short(
        "offsets.topic.replication.factor",
        "3",
        "Replicas of __consumer_offsets; 1 in a cluster of one node where not set.",
    )
    .min(1),
    int(
        "offsets.topic.segment.bytes",
        "104857600",
        "Segment size of __consumer_offsets; bounded as segment.bytes of any topic.",
    )
    .unit(Unit::Bytes)
    .min(1_048_576),
    int(
        "share.coordinator.append.linger.ms",
        "-1",
        "How long the coordinator collects records before it appends them.",
    )
    .unit(Unit::Milliseconds)
    .min(-1)
    .no_meaning(SHARE),
    int("share.coordinator.cached.buffer.max.bytes", "1048588", "Buffers that the coordinator keeps.")
        .unit(Unit::Bytes)
        .min(524_288)
        .cluster_wide()
        .no_meaning(SHARE),
    int(
        "share.coordinator.cold.partition.snapshot.interval.ms",
        "300000",
        "Time after which an idle partition is snapshotted.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .hidden()
    .no_meaning(SHARE),
    int(
        "share.coordinator.load.buffer.size",
        "5242880",
        "Bytes per read when a coordinator loads its partition.",
    )
    .unit(Unit::Bytes)
    .min(1)
    .no_meaning(SHARE),
    int("share.coordinator.snapshot.update.records.per.snapshot", "500", "Updates between two snapshots.")
        .bounds(Bounds::Between(0, 500))
        .no_meaning(SHARE),
    int("share.coordinator.state.topic.compression.codec", "0", "Compression of __share_group_state.")
        .no_meaning(SHARE),
    short("share.coordinator.state.topic.min.isr", "2", "min.insync.replicas of __share_group_state.")
        .min(1)
        .no_meaning(SHARE),
    int("share.coordinator.state.topic.num.partitions", "50", "Partitions of __share_group_state.")
        .min(1)
        .no_meaning(SHARE),
    int(
        "share.coordinator.state.topic.prune.interval.ms",
        "300000",
        "Time between two deletions of old state.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .hidden()
    .no_meaning(SHARE),
    short("share.coordinator.state.topic.replication.factor", "3", "Replicas of __share_group_state.")
        .min(1)
        .no_meaning(SHARE),
    int("share.coordinator.state.topic.segment.bytes", "104857600", "Segment size of __share_group_state.")
        .unit(Unit::Bytes)
        .min(1)
        .no_meaning(SHARE),
    int("share.coordinator.threads", "1", "Threads of the coordinator.").min(1).no_meaning(SHARE),
    int("share.coordinator.write.timeout.ms", "5000", "Longest wait for a write of state.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(SHARE),
];
