//! What becomes of topics that clients create.

use super::super::def::{Def, Unit, bool, class, int, long};

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    class("alter.config.policy.class.name", "Java class that judges changes of configs.")
        .only(&[], "Java classes do not run here; leave alter.config.policy.class.name out"),
    bool("auto.create.topics.enable", "true", "Create a topic when a client first asks for it by name."),
    class("create.topic.policy.class.name", "Java class that judges the creation of topics.")
        .only(&[], "Java classes do not run here; leave create.topic.policy.class.name out"),
    int("default.replication.factor", "1", "Replicas of a topic whose creator names no number.").min(1),
    bool("delete.topic.enable", "true", "Allow clients to delete topics."),
    int("min.insync.replicas", "1", "Default of the topic key min.insync.replicas.").min(1).cluster_wide(),
    int("num.partitions", "1", "Partitions of a topic whose creator names no number.").min(1),
    bool(
        "unclean.leader.election.enable",
        "false",
        "Default of the topic key unclean.leader.election.enable.",
    )
    .cluster_wide(),
    long(
        "unclean.leader.election.interval.ms",
        "300000",
        "Time between two attempts to elect a leader that is not in sync.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .hidden()
    .no_meaning("such an election is held when the last replica in sync is gone, if it may be at all"),
];
