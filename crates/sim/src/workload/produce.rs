//! Idempotent and plain producers, readers beside them: the smallest workload that everything else rests on.

use moldau_check::Delivery;

use super::{Scene, Workload};
use crate::clients::admin::{self, Wanted};
use crate::clients::{deaf, producer, reader};
use crate::weather::Faults;

/// Kills, resets and clock jumps; nothing may be lost.
pub(super) const PRODUCE: Workload = Workload {
    name: "produce",
    about: "producers and readers; the process is killed, connections are reset",
    faults: Faults::ORDINARY,
    synced: false,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 30_000,
    settings: |_, _| {},
    start,
};

/// Power losses with a sync before every acknowledgement; nothing may be lost.
pub(super) const POWER: Workload = Workload {
    name: "power",
    about: "as produce with flush.messages=1; the power goes as well",
    faults: Faults { power_loss: true, ..Faults::ORDINARY },
    synced: true,
    ..PRODUCE
};

/// Power losses without syncs; what was flushed may not be lost, and nothing wrong may be served.
pub(super) const UNSYNCED: Workload = Workload {
    name: "unsynced",
    about: "as produce; the power goes and takes what was not flushed",
    faults: Faults { power_loss: true, kill: true, ..Faults::NONE },
    ..PRODUCE
};

/// Disks that fail and fill up.
pub(super) const BAD_DISK: Workload = Workload {
    name: "bad-disk",
    about: "as power; syncs fail or take seconds, and the disk is full for a while",
    faults: Faults::ALL,
    synced: true,
    ..PRODUCE
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
        let plan = producer::Plan {
            topic: topic.clone(),
            delivery: Delivery::AtLeastOnce,
            acks: cx.between(0, 2) as i16 - 1,
            window: 1,
            pause_ms: (10, 500),
            least: 2,
        };
        scene.client(|cx| producer::produce(cx, plan));
        for _ in 0..2 {
            let topic = topic.clone();
            scene.client(|cx| reader::watch(cx, topic));
        }
        scene.client(|cx| deaf::deaf(cx, topic));
    });
}
