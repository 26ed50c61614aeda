//! A client that asks and never reads: its answers lie in the broker until it is gone.

use std::rc::Rc;

use moldau_wire::{fetch, metadata};

use super::admin::Topic;
use crate::cx::Cx;
use crate::kafka::Kafka;

/// Longer than any run.
const FOREVER_MS: u64 = 3_600_000;

/// Connects, asks for much, reads nothing, vanishes; again and again.
pub async fn deaf(cx: Cx, topic: Rc<Topic>) {
    while cx.in_trouble() {
        let Ok(kafka) = Kafka::connect(&cx, 3).await else { continue };
        kafka.stall_ms(FOREVER_MS);
        for _ in 0..cx.between(1, 50) {
            // Nobody waits for the answer; a connection that is gone is made again.
            let sent = if cx.one_in(2) {
                kafka.start(everything(&topic)).map(drop)
            } else {
                kafka.start(metadata::Request::default()).map(drop)
            };
            if sent.is_err() {
                break;
            }
            cx.pause_ms(0, 20).await;
        }
        cx.pause_ms(500, 10_000).await;
        kafka.vanish();
    }
    cx.doing("done");
}

/// A fetch of all partitions from their beginning.
fn everything(topic: &Topic) -> fetch::Request {
    let partition = |partition| fetch::request::Partition {
        partition,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions = (0..topic.partitions).map(partition).collect();
    let topic = fetch::request::Topic { topic: topic.name.clone(), topic_id: topic.id, partitions };
    fetch::Request {
        replica_id: -1,
        max_wait_ms: 100,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}
