//! Who the node is, where its data is and what runs.

use super::super::def::{Bounds, Def, Unit, bool, int, list, long, text};

const DIRS: &str = "the controller is in the same process";
const ONE: &str = "the cluster is this node alone";
const STARTUP: &str = "nothing bounds the start";
const THREADS: &str = "there are no such threads: moldau.shards sets the number of event loops";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    int("broker.id", "-1", "Old name of node.id; must be equal to it where both are set."),
    text("broker.rack", "", "Zone of this node: a rack, a datacenter, an availability zone.").unset(),
    text("cluster.id", "", "Id of the cluster, 22 characters; chosen at first start where not set. A data directory of another cluster is refused."),
    list("config.providers", "", "Classes that fetch config values.").only(&[""], "values are not fetched from elsewhere; write them into the file, or set MOLDAU_ variables"),
    list("cordoned.log.dirs", "", "Data directories that get no further partitions.").only(&[""], "no directory can be closed to new partitions yet; leave cordoned.log.dirs empty"),
    int("initial.broker.registration.timeout.ms", "60000", "Time in which a broker must have registered.").unit(Unit::Milliseconds).no_meaning(ONE),
    list("log.dir", "moldau-data", "Data directory, where log.dirs is not set."),
    long("log.dir.failure.timeout.ms", "30000", "Time in which a failed directory must be reported to the controller.").unit(Unit::Milliseconds).min(1).no_meaning(DIRS),
    list("log.dirs", "", "Data directories, one per disk; partitions are spread over them.").unset(),
    text("metadata.log.dir", "", "Directory of the metadata log; the first of log.dirs where not set.").unset(),
    text("moldau.http.listener", "", "Host and port of /metrics, /healthz and /readyz; 127.0.0.1 and the first listener's port + 552 where not set, off where empty.").unset(),
    text("moldau.region", "", "Region of this node: the level above broker.rack.").no_meaning("nothing is placed by region yet"),
    int("moldau.shards", "-1", "Event loops that share the partitions and connections; -1 means one per core but one, which is left to the kernel, to syncs and to the quorum.").bounds(Bounds::BetweenOrMinusOne(1, 1024)),
    int("node.id", "1", "Number of this node in its cluster.").min(0),
    int("num.recovery.threads.per.data.dir", "2", "Threads that recover one data directory.").min(1).cluster_wide().no_meaning(THREADS),
    list("process.roles", "broker,controller", "What this node does: `broker`, which has partitions and clients, `controller`, which votes in the metadata quorum, or both.").bounds(Bounds::SubsetOf(&["broker", "controller"])),
    long("server.max.startup.time.ms", "9223372036854775807", "Longest start.").unit(Unit::Milliseconds).min(0).hidden().no_meaning(STARTUP),
    bool("unstable.api.versions.enable", "false", "Serve API versions that are not final.").hidden().only(&["false"], "versions of APIs that are not final in Kafka 4.3 are not served; leave unstable.api.versions.enable=false"),
    bool("unstable.feature.versions.enable", "false", "Allow feature levels that are not final.").hidden().only(&["false"], "feature levels that are not final in Kafka 4.3 do not exist here; leave unstable.feature.versions.enable=false"),
];
