//! Offsets that are committed and deleted by consumers without a group protocol: a deleted one does not come back.

use super::{Scene, Workload};
use crate::clients::admin::{self, Wanted};
use crate::clients::solo;
use crate::weather::Faults;

pub(super) const OFFSETS: Workload = Workload {
    name: "offsets",
    about: "consumers without a group commit, fetch and delete offsets; the power goes as well",
    faults: Faults { power_loss: true, ..Faults::ORDINARY },
    synced: true,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 40_000,
    settings: |rng, overrides| overrides.set("offsets.topic.num.partitions", 1 + rng.below(4)),
    start,
};

/// Coordinators move with the leadership of their partitions, which they replay before they answer. Nobody is cut off here: a
/// coordinator that does not know that it was replaced tells what it knows, as Kafka's does.
pub(super) const CLUSTER_OFFSETS: Workload = Workload {
    name: "cluster-offsets",
    about: "as offsets in a cluster whose nodes die, lose power and are restarted in turn",
    faults: Faults { power_loss: true, replace: true, ..Faults::ORDINARY },
    nodes: &[3, 3, 3, 5],
    ..OFFSETS
};

fn start(scene: &Scene) {
    let scene = scene.clone();
    scene.clone().client(move |cx| async move {
        let partitions = cx.between(1, 4) as i32;
        let configs = scene.topic_configs(&cx);
        if cx.nodes() > 1 {
            // Offsets, too, are acknowledged only when more than one node has them: one alone may lose its disk.
            admin::set_default(&cx, "min.insync.replicas", "2").await;
        }
        let topic =
            admin::create(&cx, Wanted { name: "read".to_owned(), partitions, configs, life: 1 }).await;
        for _ in 0..cx.between(1, 4) {
            let topic = topic.clone();
            scene.client(|cx| solo::solo(cx, topic));
        }
    });
}
