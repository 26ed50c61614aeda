//! Records are deleted by request while others are written and read: the log start moves up, through crashes too, and nothing
//! above it is touched.

use moldau_check::Delivery;
use moldau_wire::ErrorCode;

use super::{Scene, Workload};
use crate::clients::admin::{self, EARLIEST, LATEST, Wanted};
use crate::clients::{producer, reader};
use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;
use crate::weather::Faults;

pub(super) const RETENTION: Workload = Workload {
    name: "retention",
    about: "DeleteRecords moves the log start while producers and readers go on",
    faults: Faults { power_loss: true, ..Faults::ORDINARY },
    synced: true,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 30_000,
    settings: |rng, overrides| overrides.set("log.retention.check.interval.ms", 1_000 + rng.below(10_000)),
    start,
};

fn start(scene: &Scene) {
    let scene = scene.clone();
    scene.clone().client(move |cx| async move {
        let configs = scene.topic_configs(&cx);
        let wanted = Wanted { name: "log".to_owned(), partitions: 2, configs, life: 1 };
        let topic = admin::create(&cx, wanted).await;
        scene.audit(&topic);
        let plan = producer::Plan {
            topic: topic.clone(),
            delivery: Delivery::Once,
            acks: -1,
            window: 5,
            pause_ms: (0, 100),
            least: 10,
        };
        scene.client(|cx| producer::produce(cx, plan));
        let read = topic.clone();
        scene.client(|cx| reader::watch(cx, read));
        scene.client(|cx| async move {
            while cx.in_trouble() {
                cx.pause_ms(100, 3_000).await;
                let kafka = Kafka::connect_at_last(&cx).await;
                let index = cx.between(0, 1) as i32;
                // Ends with its connection; the next turn tries again.
                if trim(&cx, &kafka, &topic, index).await == Err(Gone) {
                    cx.say(|| "the connection went away while records were deleted".to_owned());
                }
            }
            cx.doing("done");
        });
    });
}

/// Deletes some of what there is, and looks whether it is gone.
async fn trim(cx: &Cx, kafka: &Kafka, topic: &admin::Topic, index: i32) -> Result<(), Gone> {
    let start = admin::offset(cx, kafka, topic, index, EARLIEST).await?;
    let end = admin::offset(cx, kafka, topic, index, LATEST).await?;
    let (Some(start), Some(end)) = (start, end) else { return Ok(()) };
    if end < start {
        cx.problem(format!("partition {index} begins at {start} and ends at {end}"));
    }
    let before = start + cx.between(0, (end - start).max(0) as u64) as i64;
    if admin::delete_records(cx, kafka, topic, index, before).await? == ErrorCode::NONE {
        cx.count("trims", 1);
        let start = admin::offset(cx, kafka, topic, index, EARLIEST).await?;
        if start.is_some_and(|start| start < before) {
            cx.problem(format!(
                "records before {before} were deleted, but partition {index} begins at {start:?}"
            ));
        }
    }
    Ok(())
}
