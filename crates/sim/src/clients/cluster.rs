//! How clients find their way in a cluster: any node tells who leads, and what is asked of a partition goes there. With one node
//! there is nothing to find.

use std::rc::Rc;

use moldau_wire::{ApiKey, metadata};

use super::admin::{self, LATEST, Topic};
use super::reader::Reader;
use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;

/// Connects to the node that leads partition 0 of the topic, however long it takes.
pub async fn connect(cx: &Cx, topic: &Topic) -> Kafka {
    if cx.nodes() == 1 {
        return Kafka::connect_at_last(cx).await;
    }
    loop {
        if let Ok(Some(node)) = leader(cx, topic).await
            && let Ok(kafka) = Kafka::connect_to(cx, node).await
        {
            return kafka;
        }
        cx.pause_ms(20, 200).await;
    }
}

/// Who leads partition 0, by its place, as some node knows it.
async fn leader(cx: &Cx, topic: &Topic) -> Result<Option<usize>, Gone> {
    let kafka = Kafka::connect(cx, 1).await?;
    kafka.use_newest(ApiKey::Metadata);
    let wanted = metadata::request::Topic { name: Some(topic.name.clone()), ..Default::default() };
    let request = metadata::Request {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let response = kafka.call(request).await?;
    let found = response.topics.first().and_then(|topic| topic.partitions.first());
    let leader = found.filter(|partition| partition.error_code.is_ok()).map(|partition| partition.leader_id);
    // Node ids begin with 1.
    Ok(leader.and_then(|id| usize::try_from(id - 1).ok()).filter(|place| *place < cx.nodes()))
}

/// Reads partition 0 of a topic over and over, from the beginning or the end, until the faults are over.
pub async fn watch(cx: Cx, topic: Rc<Topic>) {
    let mut reader = Reader::new(&cx, topic.clone());
    while cx.in_trouble() {
        let kafka = connect(&cx, &topic).await;
        if reader.positions().is_empty() || cx.one_in(8) {
            let at = if cx.one_in(2) { admin::EARLIEST } else { LATEST };
            match admin::offset(&cx, &kafka, &topic, 0, at).await {
                Ok(Some(offset)) => reader.assign([(0, offset)].into()),
                Ok(None) | Err(Gone) => continue,
            }
        }
        for _ in 0..cx.between(1, 60) {
            if reader.poll(&kafka).await.is_err() || reader.is_lost() || !cx.in_trouble() {
                break;
            }
            cx.pause_ms(0, 150).await;
        }
    }
    cx.doing("done");
}

/// Reads everything there is in partition 0, once, when the faults are over: what was acknowledged must be there.
pub async fn audit(cx: Cx, topic: Rc<Topic>) {
    cx.doing(format!("auditing {}", topic.name));
    let mut reader = Reader::new(&cx, topic.clone());
    loop {
        let kafka = connect(&cx, &topic).await;
        let Ok(Some(end)) = admin::offset(&cx, &kafka, &topic, 0, LATEST).await else { continue };
        let Ok(Some(start)) = admin::offset(&cx, &kafka, &topic, 0, admin::EARLIEST).await else { continue };
        reader.assign([(0, start)].into());
        while reader.positions().get(&0).is_none_or(|at| *at < end) {
            if reader.poll(&kafka).await.is_err() || reader.is_lost() {
                break;
            }
        }
        if reader.positions().get(&0).is_some_and(|at| *at >= end) {
            return cx.doing("done");
        }
    }
}
