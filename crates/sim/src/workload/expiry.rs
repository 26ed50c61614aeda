//! Segments expire by age or by size while records are written and read: nothing goes early, and what must go does.

use std::cell::Cell;
use std::rc::Rc;

use moldau_check::{Delivery, Event};

use super::{Scene, Workload};
use crate::clients::admin::{self, EARLIEST, Topic, Wanted};
use crate::clients::reader::{self, Reader};
use crate::clients::{deaf, producer};
use crate::cx::Cx;
use crate::failure;
use crate::kafka::Kafka;
use crate::weather::Faults;

/// Time between two looks of the broker for what expires, at most.
const CHECK_MS: u64 = 3_000;
/// `segment.bytes` of the topic.
const SEGMENT_BYTES: u64 = 8_000;

pub(super) const EXPIRY: Workload = Workload {
    name: "expiry",
    about: "retention by age or by size while producers, readers and a client that never reads go on",
    // Who moves the broker's clock moves the age of everything.
    faults: Faults { power_loss: true, clock: false, ..Faults::ORDINARY },
    synced: true,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 40_000,
    settings: |rng, overrides| {
        overrides.set("log.retention.check.interval.ms", 500 + rng.below(CHECK_MS - 500));
    },
    start,
};

/// What the topic promises.
#[derive(Clone, Copy, Debug)]
enum Keep {
    Ms(u64),
    Bytes(u64),
}

fn start(scene: &Scene) {
    let scene = scene.clone();
    scene.clone().client(move |cx| async move {
        let keep = match cx.one_in(2) {
            true => Keep::Ms(cx.between(2_000, 15_000)),
            false => Keep::Bytes(cx.between(0, 60_000)),
        };
        let mut configs = vec![
            ("flush.messages", "1".to_owned()),
            ("internal.segment.bytes", SEGMENT_BYTES.to_string()),
            ("file.delete.delay.ms", cx.between(0, 5_000).to_string()),
        ];
        configs.push(match keep {
            Keep::Ms(ms) => ("retention.ms", ms.to_string()),
            Keep::Bytes(bytes) => ("retention.bytes", bytes.to_string()),
        });
        let topic =
            admin::create(&cx, Wanted { name: "news".to_owned(), partitions: 2, configs, life: 1 }).await;
        let keep_ms = if let Keep::Ms(ms) = keep { ms } else { 0 };
        for index in 0..topic.partitions {
            cx.note(Event::Expires { partition: topic.partition(index), keep_ms });
        }
        scene.audit(&topic);
        let left = Rc::new(Cell::new(0));
        for _ in 0..cx.between(1, 2) {
            let plan = producer::Plan {
                topic: topic.clone(),
                delivery: Delivery::Once,
                acks: -1,
                window: 3,
                pause_ms: (0, cx.between(50, 400)),
                least: 10,
            };
            let left = left.clone();
            scene.client(|cx| {
                left.set(left.get() + 1);
                async move {
                    producer::produce(cx, plan).await;
                    left.set(left.get() - 1);
                }
            });
        }
        let (read, unread) = (topic.clone(), topic.clone());
        scene.client(|cx| reader::watch(cx, read));
        scene.client(|cx| deaf::deaf(cx, unread));
        scene.client(|cx| look(cx, topic, keep, left));
    });
}

/// Asks where the log begins; when all is written, whether what is left is what must be.
async fn look(cx: Cx, topic: Rc<Topic>, keep: Keep, left: Rc<Cell<u64>>) {
    while cx.in_trouble() || left.get() > 0 {
        cx.doing("asking where logs begin");
        let Ok(kafka) = Kafka::connect(&cx, 3).await else { continue };
        for index in 0..topic.partitions {
            if admin::offset(&cx, &kafka, &topic, index, EARLIEST).await.is_err() {
                break;
            }
        }
        cx.pause_ms(100, 2_000).await;
    }
    cx.doing("waiting for retention");
    let wait_ms = if let Keep::Ms(ms) = keep { ms } else { 0 };
    cx.sleep_ms(wait_ms + 3 * CHECK_MS).await;
    for index in 0..topic.partitions {
        cx.doing("measuring what is left");
        let (began, bytes) = measure(&cx, &topic, index).await;
        let least = if let Keep::Bytes(bytes) = keep { bytes } else { 0 };
        let most = if let Keep::Bytes(bytes) = keep { bytes + SEGMENT_BYTES } else { 0 };
        if began > 0 && bytes < least || bytes > most {
            let what = format!("partition {index} begins at {began} and has {bytes} bytes, with {keep:?}");
            cx.broken(failure::WRONG_SIZE, what);
        }
        if began > 0 {
            cx.count("partitions that expired", 1);
        }
    }
    cx.doing("done");
}

/// Where a partition begins, and the bytes of all its batches.
async fn measure(cx: &Cx, topic: &Rc<Topic>, index: i32) -> (i64, u64) {
    let end = admin::ends(cx, topic).await[index as usize];
    loop {
        let kafka = Kafka::connect_at_last(cx).await;
        let Ok(Some(begin)) = admin::offset(cx, &kafka, topic, index, EARLIEST).await else { continue };
        let mut reader = Reader::new(cx, topic.clone());
        reader.assign([(index, begin)].into());
        while reader.positions().get(&index).is_some_and(|at| *at < end) {
            if reader.poll(&kafka).await.is_err() {
                break;
            }
        }
        if reader.positions().get(&index).is_none_or(|at| *at >= end) {
            return (begin, reader.bytes);
        }
    }
}
