//! Quotas.

use super::super::def::{Def, Unit, class, int};

const QUOTA: &str = "there are no quotas yet, and requests to set one are refused";

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
    int("quota.window.num", "11", "Samples kept for client quotas.").min(1).no_meaning(QUOTA),
    int("quota.window.size.seconds", "1", "Length of a sample for client quotas.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(QUOTA),
    int("replication.quota.window.num", "11", "Samples kept for the replication quota.")
        .min(1)
        .no_meaning(QUOTA),
    int("replication.quota.window.size.seconds", "1", "Length of a sample for the replication quota.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(QUOTA),
];
