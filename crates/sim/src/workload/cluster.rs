//! Three or five nodes, every record on three of them: leaders come and go, and what was acknowledged stays.

use moldau_check::Delivery;

use super::{Scene, Workload};
use crate::clients::admin::{self, Wanted};
use crate::clients::{cluster, mover, producer};
use crate::weather::Faults;

/// What hits the nodes of a cluster.
const FAULTS: Faults = Faults { power_loss: true, pause: true, cut: true, replace: true, ..Faults::ORDINARY };

/// Nothing is synced before it is acknowledged: what one node loses with its power, the others have.
pub(super) const CLUSTER: Workload = Workload {
    name: "cluster",
    about: "a cluster; nodes are killed, paused, cut off, and one at a time loses power",
    faults: FAULTS,
    synced: false,
    nodes: &[3, 3, 3, 5],
    controllers: 0,
    trouble_ms: 30_000,
    settings: |_, _| {},
    start,
};

/// With a sync before every acknowledgement power may go everywhere at once.
pub(super) const CLUSTER_POWER: Workload = Workload {
    name: "cluster-power",
    about: "as cluster with flush.messages=1; the power goes anywhere and everywhere",
    synced: true,
    ..CLUSTER
};

/// A node whose disk fails or is full stays behind or gives up, and the others go on.
pub(super) const CLUSTER_BAD_DISK: Workload = Workload {
    name: "cluster-bad-disk",
    about: "as cluster-power, and disks fail, forget and are full",
    faults: Faults { bad_disk: true, ..FAULTS },
    ..CLUSTER_POWER
};

/// The same while partitions move from node to node. Everything is synced, and no disk is replaced: who cancels a move while a replica that
/// stays has lost something that nobody knows of yet throws away the ones that are whole, as with Kafka.
pub(super) const CLUSTER_MOVES: Workload = Workload {
    name: "cluster-moves",
    about: "as cluster-power; partitions are moved from node to node, throttled, and leaders elected by hand",
    faults: Faults { replace: false, ..FAULTS },
    nodes: &[3, 5, 5],
    start: |scene| start_with(scene, true),
    ..CLUSTER_POWER
};

/// Brokers that follow the metadata log as observers, and controllers that hold no partition.
pub(super) const CLUSTER_ROLES: Workload = Workload {
    name: "cluster-roles",
    about: "as cluster; three controllers that are no brokers, and brokers that are no controllers",
    nodes: &[3],
    controllers: 3,
    ..CLUSTER
};

pub(super) fn start(scene: &Scene) {
    start_with(scene, false);
}

fn start_with(scene: &Scene, moves: bool) {
    let topics = scene.cx().between(1, 3);
    for number in 0..topics {
        let scene = scene.clone();
        scene.clone().client(move |cx| async move {
            let mut configs = scene.topic_configs(&cx);
            configs.push(("min.insync.replicas", "2".to_owned()));
            let wanted = Wanted { name: format!("orders-{number}"), partitions: 1, configs, life: 1 };
            let topic = admin::create(&cx, wanted).await;
            scene.audit(&topic);
            if moves {
                let topic = topic.clone();
                scene.client(|cx| mover::work(cx, topic));
            }
            for _ in 0..cx.between(1, 2) {
                let plan = producer::Plan {
                    topic: topic.clone(),
                    delivery: Delivery::Once,
                    acks: -1,
                    window: cx.between(1, 5) as usize,
                    pause_ms: (0, cx.between(20, 600)),
                    least: 5,
                };
                scene.client(|cx| producer::produce(cx, plan));
            }
            for node in 0..cx.nodes() {
                let topic = topic.clone();
                scene.client(move |cx| cluster::ask_for_end(cx, topic, node));
            }
            scene.client(|cx| cluster::watch(cx, topic));
        });
    }
}
