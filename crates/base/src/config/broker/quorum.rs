//! The metadata quorum and the controller.

use super::super::def::{Def, Unit, bool, int, list, long};

const META: &str = "the metadata log takes snapshots and drops what they cover by itself";
const OWN: &str =
    "nodes notice each other in a way of their own: by their connections at once, by silence within a second";
const NO_JOIN: &str = "a controller votes after kafka-metadata-quorum add-controller, never by itself";
const QUORUM: &str =
    "the voters of the metadata quorum keep a pace of their own: a new leader within half a second";
const STOP: &str = "a node that stops leaves its partitions to the others in any case";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    int("broker.heartbeat.interval.ms", "2000", "Time between two heartbeats to the controller.")
        .unit(Unit::Milliseconds)
        .no_meaning(OWN),
    int("broker.session.timeout.ms", "9000", "Silence after which a broker is fenced.")
        .unit(Unit::Milliseconds)
        .no_meaning(OWN),
    bool("controlled.shutdown.enable", "true", "Hand leadership over before a stop.").no_meaning(STOP),
    list(
        "controller.listener.names",
        "",
        "Names of the listeners of the metadata quorum; they are not opened by a node that is alone.",
    )
    .unset(),
    long(
        "controller.performance.always.log.threshold.ms",
        "2000",
        "Duration from which an event of the controller is logged.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .hidden()
    .no_meaning(QUORUM),
    long(
        "controller.performance.sample.period.ms",
        "60000",
        "Period of the controller's performance samples.",
    )
    .unit(Unit::Milliseconds)
    .min(100)
    .hidden()
    .no_meaning(QUORUM),
    int(
        "controller.quorum.append.linger.ms",
        "25",
        "How long the quorum's leader collects records before it writes them.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(QUORUM),
    bool("controller.quorum.auto.join.enable", "false", "Join the voters at start.").no_meaning(NO_JOIN),
    list(
        "controller.quorum.bootstrap.servers",
        "",
        "Addresses (`host:port`) at which the voters of a running cluster are found, where controller.quorum.voters does not name them. A controller that comes so votes after kafka-metadata-quorum add-controller.",
    ),
    int("controller.quorum.election.backoff.max.ms", "1000", "Longest pause between two elections.")
        .unit(Unit::Milliseconds)
        .min(0)
        .no_meaning(QUORUM),
    int("controller.quorum.election.timeout.ms", "1000", "How long a candidate waits for votes.")
        .unit(Unit::Milliseconds)
        .min(0)
        .no_meaning(QUORUM),
    int("controller.quorum.fetch.max.bytes", "1048576", "Most bytes of one fetch of the metadata log.")
        .unit(Unit::Bytes)
        .min(1)
        .no_meaning(QUORUM),
    int(
        "controller.quorum.fetch.snapshot.max.bytes",
        "1048576",
        "Most bytes of one fetch of a metadata snapshot.",
    )
    .unit(Unit::Bytes)
    .min(1)
    .no_meaning(QUORUM),
    int(
        "controller.quorum.fetch.timeout.ms",
        "2000",
        "Silence of the leader after which a voter elects another.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(QUORUM),
    int("controller.quorum.request.timeout.ms", "2000", "How long a voter waits for another one's answer.")
        .unit(Unit::Milliseconds)
        .min(0)
        .no_meaning(QUORUM),
    int("controller.quorum.retry.backoff.ms", "20", "Pause before a request to a voter is repeated.")
        .unit(Unit::Milliseconds)
        .min(0)
        .no_meaning(QUORUM),
    list(
        "controller.quorum.voters",
        "",
        "Voters of the metadata quorum, as `id@host:port`; the same on each node of the cluster. Empty for a node that is alone.",
    ),
    int("controller.socket.timeout.ms", "30000", "How long a broker waits for the controller's answer.")
        .unit(Unit::Milliseconds)
        .no_meaning(OWN),
    long("internal.metadata.delete.delay.millis", "60000", "How long old metadata files stay on disk.")
        .unit(Unit::Milliseconds)
        .hidden()
        .no_meaning(META),
    int("internal.metadata.log.segment.bytes", "", "Segment size of the metadata log, for tests.")
        .unset()
        .unit(Unit::Bytes)
        .hidden()
        .no_meaning(META),
    int("internal.metadata.max.batch.size.in.bytes", "8388608", "Largest batch of metadata records.")
        .unit(Unit::Bytes)
        .hidden()
        .no_meaning(META),
    long(
        "metadata.log.max.record.bytes.between.snapshots",
        "20971520",
        "Bytes of metadata records after which a snapshot is taken.",
    )
    .unit(Unit::Bytes)
    .min(1),
    long("metadata.log.max.snapshot.interval.ms", "3600000", "Time after which a snapshot is taken.")
        .unit(Unit::Milliseconds)
        .min(0)
        .no_meaning(META),
    int("metadata.log.segment.bytes", "1073741824", "Segment size of the metadata log.")
        .unit(Unit::Bytes)
        .min(8_388_608)
        .no_meaning(META),
    long("metadata.log.segment.ms", "604800000", "Age at which a segment of the metadata log is closed.")
        .unit(Unit::Milliseconds)
        .no_meaning(META),
    int("metadata.max.idle.interval.ms", "500", "Time between two empty records in an idle metadata log.")
        .unit(Unit::Milliseconds)
        .min(0)
        .no_meaning(QUORUM),
    long("metadata.max.retention.bytes", "104857600", "Size above which old metadata is deleted.")
        .unit(Unit::Bytes)
        .no_meaning(META),
    long("metadata.max.retention.ms", "604800000", "Age above which old metadata is deleted.")
        .unit(Unit::Milliseconds)
        .no_meaning(META),
];
