//! Replicas that move from one log directory of their node to another, under load and in every kind of bad weather. A node may have only one:
//! then its operator asks in vain.

use moldau_check::Delivery;

use super::{Scene, Workload, cluster, produce};
use crate::clients::admin::{self, Wanted};
use crate::clients::{producer, reader, relocator};

/// One node.
pub(super) const RELOCATE: Workload = Workload {
    name: "relocate",
    about: "as bad-disk; replicas are moved between log directories",
    start,
    ..produce::BAD_DISK
};

/// Replicas of a cluster move while they lead and while they follow.
pub(super) const CLUSTER_RELOCATE: Workload = Workload {
    name: "cluster-relocate",
    about: "as cluster-bad-disk; replicas are moved between log directories",
    start: |scene| {
        scene.client(|cx| relocator::work(cx, "orders-"));
        cluster::start(scene);
    },
    ..cluster::CLUSTER_BAD_DISK
};

fn start(scene: &Scene) {
    let scene = scene.clone();
    scene.clone().client(move |cx| async move {
        let configs = scene.topic_configs(&cx);
        let partitions = cx.between(1, 4) as i32;
        let wanted = Wanted { name: "orders".to_owned(), partitions, configs, life: 1 };
        let topic = admin::create(&cx, wanted).await;
        scene.audit(&topic);
        for _ in 0..cx.between(1, 3) {
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
        scene.client(|cx| relocator::work(cx, "orders"));
        scene.client(|cx| reader::watch(cx, topic));
    });
}
