//! A producer whose first request comes to a node that has not heard of the topic yet has the next one on its way already: they keep their order.

use moldau_check::Delivery;
use moldau_sim::clients::admin::{self, Wanted};
use moldau_sim::clients::producer;
use moldau_sim::run::{Plan, run};
use moldau_sim::weather::Faults;
use moldau_sim::workload::Workload;

/// Producers send to topics that have just been made.
const YOUNG: Workload = Workload {
    name: "young",
    about: "topics are made and written to at once, while nodes hear of it late",
    faults: Faults { cut: true, pause: true, ..Faults::NONE },
    synced: false,
    nodes: &[3],
    controllers: 0,
    trouble_ms: 5_000,
    settings: |_, _| {},
    start: |scene| {
        for number in 0..30 {
            let scene = scene.clone();
            scene.clone().client(move |cx| async move {
                cx.pause_ms(0, 4_000).await;
                let configs = scene.topic_configs(&cx);
                let wanted = Wanted { name: format!("young-{number}"), partitions: 1, configs, life: 1 };
                let topic = admin::create(&cx, wanted).await;
                scene.audit(&topic);
                let plan = producer::Plan {
                    topic,
                    delivery: Delivery::Once,
                    acks: -1,
                    window: 5,
                    pause_ms: (0, 100),
                    least: 10,
                };
                producer::some(cx, plan).await;
            });
        }
    },
};

#[test]
fn records_for_a_topic_that_is_being_made_keep_their_order() {
    for seed in 15..=24 {
        let outcome = run(&Plan::whole(seed, &YOUNG));
        assert!(outcome.failure.is_none(), "seed {seed}: {:?}", outcome.failure);
        assert!(outcome.counts.get("records acknowledged").is_some_and(|count| *count > 500), "seed {seed}");
    }
}
