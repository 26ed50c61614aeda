//! A consumer group of the classic protocol whose members come and go, behind producers.

use std::cell::RefCell;
use std::rc::Rc;

use moldau_check::Delivery;

use super::{Scene, Workload};
use crate::clients::admin::{self, Wanted};
use crate::clients::{member, producer};
use crate::weather::Faults;

/// Kills, resets and clock jumps; committed offsets do not go back.
pub(super) const GROUPS: Workload = Workload {
    name: "groups",
    about: "a group of members that come and go; the process is killed, connections are reset",
    faults: Faults::ORDINARY,
    synced: false,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 60_000,
    settings: |rng, overrides| {
        overrides.set("group.initial.rebalance.delay.ms", rng.below(3_000));
        overrides.set("offsets.topic.num.partitions", 1 + rng.below(4));
    },
    start,
};

/// The same through power losses, with every log synced before acknowledgements.
pub(super) const GROUPS_POWER: Workload = Workload {
    name: "groups-power",
    about: "as groups with flush.messages=1 everywhere; the power goes as well",
    faults: Faults { power_loss: true, ..Faults::ORDINARY },
    synced: true,
    ..GROUPS
};

/// And on disks that fail and fill up.
pub(super) const GROUPS_BAD_DISK: Workload = Workload {
    name: "groups-bad-disk",
    about: "as groups-power; syncs and writes fail, and the disk is full for a while",
    faults: Faults::ALL,
    ..GROUPS_POWER
};

fn start(scene: &Scene) {
    let scene = scene.clone();
    scene.clone().client(move |cx| async move {
        let configs = scene.topic_configs(&cx);
        let partitions = cx.between(1, 6) as i32;
        let wanted = Wanted { name: "events".to_owned(), partitions, configs, life: 1 };
        let topic = admin::create(&cx, wanted).await;
        scene.audit(&topic);
        let producers = cx.between(1, 2) as usize;
        let left = Rc::new(RefCell::new(0));
        for _ in 0..producers {
            let plan = producer::Plan {
                topic: topic.clone(),
                delivery: Delivery::Once,
                acks: -1,
                window: 3,
                pause_ms: (20, cx.between(50, 600)),
                least: 5,
            };
            let left = left.clone();
            scene.client(|cx| {
                *left.borrow_mut() += 1;
                async move {
                    producer::produce(cx, plan).await;
                    *left.borrow_mut() -= 1;
                }
            });
        }
        let session_timeout_ms = cx.between(6_000, 10_000) as i32;
        let group = member::Group::new("readers", topic, session_timeout_ms);
        cx.has_group(group.id.clone());
        for _ in 0..cx.between(1, 4) {
            let group = group.clone();
            scene.client(|cx| member::member(cx, group));
        }
        scene.client(|cx| member::aim(cx, group, left));
    });
}
