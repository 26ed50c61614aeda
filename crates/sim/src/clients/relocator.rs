//! An operator who moves replicas between the log directories of their nodes, changes their mind, and throttles it (KIP-113).

use bytestring::ByteString;
use moldau_wire::{ErrorCode, alter_replica_log_dirs, describe_log_dirs, incremental_alter_configs};

use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;

/// In ConfigResource.
const BROKER: i8 = 4;
/// In IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// Where a replica is, or a copy of it.
#[derive(Clone, Debug)]
struct Place {
    topic: ByteString,
    partition: i32,
    dir: ByteString,
    is_copy: bool,
}

/// Log directories of a node, and what is in them.
#[derive(Debug, Default)]
struct Layout {
    dirs: Vec<ByteString>,
    places: Vec<Place>,
}

/// Moves replicas of topics whose names begin so until the faults are over, and then waits until none moves any more.
pub async fn work(cx: Cx, topics: &'static str) {
    cx.doing("moving replicas between log directories");
    while cx.in_trouble() {
        if let Ok(kafka) = connect(&cx).await {
            for _ in 0..cx.between(1, 10) {
                if change(&cx, &kafka, topics).await.is_err() || !cx.in_trouble() {
                    break;
                }
                cx.pause_ms(5, 1_500).await;
            }
        }
        cx.pause_ms(20, 200).await;
    }
    for node in 0..cx.nodes() {
        loop {
            if is_still(&cx, node).await == Ok(true) {
                break;
            }
            cx.pause_ms(50, 200).await;
        }
    }
    cx.doing("done");
}

async fn connect(cx: &Cx) -> Result<Kafka, Gone> {
    match cx.nodes() {
        1 => Ok(Kafka::connect_at_last(cx).await),
        nodes => Kafka::connect_to(cx, cx.between(0, nodes as u64 - 1) as usize).await,
    }
}

async fn change(cx: &Cx, kafka: &Kafka, topics: &str) -> Result<(), Gone> {
    if cx.one_in(8) {
        let rate = (!cx.one_in(3)).then(|| cx.between(500, 50_000).to_string());
        return throttle(cx, kafka, rate).await;
    }
    let layout = look(kafka).await?;
    let places: Vec<&Place> = layout.places.iter().filter(|place| place.topic.starts_with(topics)).collect();
    if places.is_empty() || layout.dirs.is_empty() {
        return Ok(());
    }
    let place = places[cx.between(0, places.len() as u64 - 1) as usize];
    let to = &layout.dirs[cx.between(0, layout.dirs.len() as u64 - 1) as usize];
    relocate(cx, kafka, place, to).await
}

/// Asks for a move, or, to where the replica is, for the end of one.
async fn relocate(cx: &Cx, kafka: &Kafka, place: &Place, to: &ByteString) -> Result<(), Gone> {
    use alter_replica_log_dirs::{Request, request};
    let topic = request::Topic { name: place.topic.clone(), partitions: vec![place.partition] };
    let dirs = vec![request::Dir { path: to.clone(), topics: vec![topic] }];
    let response = kafka.call(Request { dirs }).await?;
    let answer = response.results.first().and_then(|topic| topic.partitions.first());
    match answer.map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |answer| answer.error_code) {
        ErrorCode::NONE if place.dir != *to => cx.count("moves between log directories", 1),
        ErrorCode::NONE => cx.count("moves between log directories ended", 1),
        // The partition has gone from the node, its disk does not work, or the node has just started.
        ErrorCode::REPLICA_NOT_AVAILABLE | ErrorCode::KAFKA_STORAGE_ERROR => {}
        code if code.is_retriable() => {}
        code => cx.problem(format!("a move of {}-{} was refused: {code:?}", place.topic, place.partition)),
    }
    Ok(())
}

async fn throttle(cx: &Cx, kafka: &Kafka, rate: Option<String>) -> Result<(), Gone> {
    use incremental_alter_configs::{Request, request};
    let config = request::Config {
        name: ByteString::from_static(RATE),
        config_operation: if rate.is_some() { SET } else { DELETE },
        value: rate.map(ByteString::from),
    };
    let resource =
        request::Resource { resource_type: BROKER, resource_name: ByteString::new(), configs: vec![config] };
    let response = kafka.call(Request { resources: vec![resource], validate_only: false }).await?;
    for answer in response.responses.iter().filter(|answer| answer.error_code.is_err()) {
        let code = answer.error_code;
        if !code.is_retriable() {
            cx.problem(format!("a rate for moves was refused: {code:?}"));
        }
    }
    Ok(())
}

/// What is where on the node.
async fn look(kafka: &Kafka) -> Result<Layout, Gone> {
    let response = kafka.call(describe_log_dirs::Request { topics: None }).await?;
    let mut layout = Layout::default();
    for dir in response.results {
        layout.dirs.push(dir.log_dir.clone());
        for topic in dir.topics {
            for partition in topic.partitions {
                layout.places.push(Place {
                    topic: topic.name.clone(),
                    partition: partition.partition_index,
                    dir: dir.log_dir.clone(),
                    is_copy: partition.is_future_key,
                });
            }
        }
    }
    Ok(layout)
}

/// Whether nothing moves on a node, without any throttle.
async fn is_still(cx: &Cx, node: usize) -> Result<bool, Gone> {
    let kafka = match cx.nodes() {
        1 => Kafka::connect_at_last(cx).await,
        _ => Kafka::connect_to(cx, node).await?,
    };
    throttle(cx, &kafka, None).await?;
    let layout = look(&kafka).await?;
    Ok(!layout.places.iter().any(|place| place.is_copy))
}
