//! Configurations that change and partitions that are added, under load: what was answered holds through every crash.

use std::rc::Rc;

use super::Workload;
use crate::clients::admin::{self, Topic, Wanted};
use crate::clients::{operator, producer, reader};
use crate::weather::Faults;

pub(super) const ALTER: Workload = Workload {
    name: "alter",
    about: "an operator changes configurations and adds partitions; the power goes as well",
    faults: Faults { power_loss: true, ..Faults::ORDINARY },
    synced: true,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 30_000,
    settings: |_, _| {},
    start: |scene| {
        let scene = scene.clone();
        scene.clone().client(move |cx| async move {
            let partitions = cx.between(1, 3) as i32;
            let configs = scene.topic_configs(&cx);
            let wanted = Wanted { name: "grows".to_owned(), partitions, configs, life: 1 };
            let topic = admin::create(&cx, wanted).await;
            let (plan, read) = (producer::Plan::idempotent(topic.clone()), topic.clone());
            scene.client(|cx| producer::produce(cx, plan));
            scene.client(|cx| reader::watch(cx, read));
            let later = scene.clone();
            scene.client(move |cx| async move {
                let partitions = operator::operate(cx, topic.clone()).await;
                let grown = Rc::new(Topic { partitions, ..(*topic).clone() });
                later.audit(&grown);
                // Those that were added take records, too.
                let plan = producer::Plan { least: 10, ..producer::Plan::idempotent(grown) };
                later.client(|cx| producer::some(cx, plan));
            });
        });
    },
};
