//! How clients find their way in a cluster: any node tells who leads, and what is asked of a partition goes there. With one node
//! there is nothing to find.

use std::rc::Rc;

use bytestring::ByteString;
use moldau_wire::{ApiKey, metadata};

use super::admin::{self, LATEST, Topic};
use super::member;
use super::reader::Reader;
use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;

/// Connects to the node that leads partition 0 of the topic, however long it takes.
pub async fn connect(cx: &Cx, topic: &Topic) -> Kafka {
    connect_since(cx, topic, -1).await
}

/// The same for a client that has met this leader epoch: it does not believe who knows only of earlier ones (KIP-320).
pub async fn connect_since(cx: &Cx, topic: &Topic, met: i32) -> Kafka {
    if cx.nodes() == 1 {
        return Kafka::connect_at_last(cx).await;
    }
    loop {
        if let Ok(Some((node, epoch))) = leader(cx, topic).await
            && epoch >= met
            && let Ok(kafka) = Kafka::connect_to(cx, node).await
        {
            kafka.leads_in(epoch);
            return kafka;
        }
        cx.pause_ms(20, 200).await;
    }
}

/// Who leads partition 0, by its place, and in which epoch, as some node knows it.
async fn leader(cx: &Cx, topic: &Topic) -> Result<Option<(usize, i32)>, Gone> {
    leader_as_told(cx, topic, &Kafka::connect(cx, 1).await?).await
}

/// The newest leader epoch that any node knows; all are asked, however long it takes. What was acknowledged was acknowledged in that epoch
/// or before it, by a broker that knows it.
async fn newest_epoch(cx: &Cx, topic: &Topic) -> i32 {
    let mut newest = -1;
    for node in 0..cx.nodes() {
        loop {
            if let Ok(kafka) = Kafka::connect_to(cx, node).await
                && let Ok(Some((_, epoch))) = leader_as_told(cx, topic, &kafka).await
            {
                newest = newest.max(epoch);
                break;
            }
            cx.pause_ms(20, 200).await;
        }
    }
    newest
}

/// Who leads partition 0, as the node at the other end of this connection knows it.
async fn leader_as_told(cx: &Cx, topic: &Topic, kafka: &Kafka) -> Result<Option<(usize, i32)>, Gone> {
    kafka.use_newest(ApiKey::Metadata);
    let wanted = metadata::request::Topic { name: Some(topic.name.clone()), ..Default::default() };
    let request = metadata::Request {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let response = kafka.call(request).await?;
    let found = response.topics.first().and_then(|topic| topic.partitions.first());
    let found = found.filter(|partition| partition.error_code.is_ok());
    // Node ids begin with 1.
    let place = found.and_then(|partition| usize::try_from(partition.leader_id - 1).ok());
    let place = place.filter(|place| *place < cx.nodes());
    Ok(place.zip(found.map(|partition| partition.leader_epoch)))
}

/// Connects to the node that coordinates a group, as some node knows it.
pub async fn coordinator(cx: &Cx, group: &ByteString) -> Result<Kafka, Gone> {
    let kafka = Kafka::connect(cx, 5).await?;
    if cx.nodes() == 1 {
        return Ok(kafka);
    }
    let id = member::coordinator(&kafka, group).await?.map_err(|_| Gone)?;
    let place = usize::try_from(id - 1).ok().filter(|place| *place < cx.nodes()).ok_or(Gone)?;
    Kafka::connect_to(cx, place).await
}

/// Reads partition 0 of a topic over and over, from the beginning or the end, until the faults are over.
pub async fn watch(cx: Cx, topic: Rc<Topic>) {
    let mut reader = Reader::new(&cx, topic.clone());
    while cx.in_trouble() {
        let kafka = connect_since(&cx, &topic, reader.met()).await;
        reader.connected(&kafka);
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

/// Asks one node over and over where partition 0 ends, until the faults are over: whoever has just become its leader is asked before it knows
/// what the others have.
pub async fn ask_for_end(cx: Cx, topic: Rc<Topic>, node: usize) {
    while cx.in_trouble() {
        if let Ok(kafka) = Kafka::connect_to(&cx, node).await {
            kafka.use_newest(ApiKey::ListOffsets);
            while cx.in_trouble() && admin::offset(&cx, &kafka, &topic, 0, LATEST).await.is_ok() {
                cx.pause_ms(5, 60).await;
            }
        }
        cx.pause_ms(5, 60).await;
    }
    cx.doing("done");
}

/// Reads everything there is in partition 0, once, when the faults are over: what was acknowledged must be there. A node that was cut off
/// a moment ago may still lead in an epoch that is over, and does not have what came later.
pub async fn audit(cx: Cx, topic: Rc<Topic>) {
    cx.doing(format!("auditing {}", topic.name));
    let mut reader = Reader::new(&cx, topic.clone());
    let newest = newest_epoch(&cx, &topic).await;
    loop {
        let kafka = connect_since(&cx, &topic, reader.met().max(newest)).await;
        reader.connected(&kafka);
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
