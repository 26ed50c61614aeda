//! Topics that come and go under the same names: what was in an earlier life of a name is never seen in a later one, and a topic
//! that was deleted stays deleted through every crash.

use std::collections::BTreeMap;
use std::rc::Rc;

use moldau_check::Delivery;
use moldau_wire::ErrorCode;

use super::{Scene, Workload};
use crate::clients::admin::{self, Topic, Wanted};
use crate::clients::producer;
use crate::clients::reader::Reader;
use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;
use crate::weather::Faults;

pub(super) const CHURN: Workload = Workload {
    name: "churn",
    about: "topics are made, filled, read and deleted under a few names",
    faults: Faults { power_loss: true, ..Faults::ORDINARY },
    synced: true,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 30_000,
    settings: |_, _| {},
    start,
};

/// The same on disks that fail and fill up.
pub(super) const CHURN_BAD_DISK: Workload = Workload {
    name: "churn-bad-disk",
    about: "as churn; syncs and writes fail, and the disk is full for a while",
    faults: Faults::ALL,
    ..CHURN
};

fn start(scene: &Scene) {
    for name in ["red", "green", "blue"] {
        let scene_of_name = scene.clone();
        scene.client(move |cx| lives(scene_of_name, cx, name));
    }
}

/// One life of a name after the other.
async fn lives(scene: Scene, cx: Cx, name: &'static str) {
    let mut life = 1;
    while cx.in_trouble() {
        let wanted = Wanted {
            name: name.to_owned(),
            partitions: cx.between(1, 3) as i32,
            configs: scene.topic_configs(&cx),
            life,
        };
        cx.doing(format!("making {name}, life {life}"));
        let topic = admin::create(&cx, wanted).await;
        live(&scene, &cx, &topic).await;
        if cx.one_in(3) {
            // Long enough for what is known of the log to be written down.
            cx.pause_ms(500, 3_000).await;
        }
        cx.doing(format!("deleting {name}, life {life}"));
        delete(&cx, &topic).await;
        cx.count("topics deleted", 1);
        cx.pause_ms(0, 400).await;
        life += 1;
    }
    cx.doing("done");
}

/// Some records go in, and all of them come out.
async fn live(scene: &Scene, cx: &Cx, topic: &Rc<Topic>) {
    let plan = producer::Plan {
        topic: topic.clone(),
        delivery: Delivery::Once,
        acks: -1,
        window: 2,
        pause_ms: (0, 100),
        least: cx.between(1, 20),
    };
    producer::some(scene.cx(), plan).await;
    let ends = admin::ends(cx, topic).await;
    let mut reader = Reader::new(cx, topic.clone());
    reader.assign((0..topic.partitions).map(|index| (index, 0)).collect::<BTreeMap<_, _>>());
    let mut kafka = Kafka::connect_at_last(cx).await;
    while ends
        .iter()
        .enumerate()
        .any(|(index, end)| reader.positions().get(&(index as i32)).is_none_or(|at| at < end))
    {
        if reader.poll(&kafka).await.is_err() {
            kafka = Kafka::connect_at_last(cx).await;
        }
    }
    if cx.one_in(3) {
        let index = cx.between(0, topic.partitions as u64 - 1) as usize;
        let before = cx.between(0, ends[index].max(0) as u64) as i64;
        if admin::delete_records(cx, &kafka, topic, index as i32, before).await == Ok(ErrorCode::NONE) {
            cx.count("trims", 1);
        }
    }
}

/// Deletes until the broker says that it is done, and looks whether it is.
async fn delete(cx: &Cx, topic: &Rc<Topic>) {
    loop {
        let kafka = Kafka::connect_at_last(cx).await;
        match admin::delete(&kafka, topic).await {
            Ok(ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID) => {
                break;
            }
            Ok(code) if code.is_retriable() => cx.pause_ms(20, 200).await,
            Ok(code) => return cx.problem(format!("DeleteTopics of {} was refused: {code:?}", topic.name)),
            Err(Gone) => {}
        }
    }
    cx.has_no_topic(topic);
    loop {
        let kafka = Kafka::connect_at_last(cx).await;
        match admin::topic_id(&kafka, &topic.name).await {
            Ok(None) => return,
            Ok(Some(_)) => return cx.problem(format!("{} was deleted and is there", topic.name)),
            Err(Gone) => {}
        }
    }
}
