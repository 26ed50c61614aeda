//! An operator who moves partitions from node to node, changes their mind, throttles what moves, and gives leadership about (KIP-455,
//! KIP-73, KIP-460).

use std::rc::Rc;

use bytestring::ByteString;
use moldau_wire::{
    ErrorCode, alter_partition_reassignments, elect_leaders, incremental_alter_configs,
    list_partition_reassignments,
};

use super::admin::Topic;
use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;

/// Fewest replicas that a partition is left: the topics' `min.insync.replicas`.
const FEWEST: u64 = 2;
/// In ConfigResource.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// In IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// What an election may be answered.
const ELECTED: [ErrorCode; 3] =
    [ErrorCode::NONE, ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE];

/// Moves partition 0 of the topic until the faults are over, and then waits until it stands still.
pub async fn work(cx: Cx, topic: Rc<Topic>) {
    cx.doing(format!("moving {}", topic.name));
    while cx.in_trouble() {
        let kafka = Kafka::connect_at_last(&cx).await;
        for _ in 0..cx.between(1, 6) {
            let did = match cx.between(0, 9) {
                0..=5 => begin(&cx, &kafka, &topic).await,
                6 => elect(&cx, &kafka, &topic).await,
                7 => throttle(&cx, &kafka, &topic).await,
                _ => alter(&cx, &kafka, &topic, None).await,
            };
            if did.is_err() || !cx.in_trouble() {
                break;
            }
            cx.pause_ms(20, 3_000).await;
        }
        cx.pause_ms(20, 200).await;
    }
    loop {
        let kafka = Kafka::connect_at_last(&cx).await;
        // What is throttled may take longer than anybody waits.
        if set_throttle(&cx, &kafka, &topic, None).await.is_ok()
            && let Ok(false) = is_moving(&kafka).await
        {
            return cx.doing("done");
        }
        cx.pause_ms(50, 200).await;
    }
}

/// Begins a move to other nodes, or to the same in another order.
async fn begin(cx: &Cx, kafka: &Kafka, topic: &Topic) -> Result<(), Gone> {
    let mut nodes: Vec<i32> = (1..=cx.nodes() as i32).collect();
    let count = cx.between(FEWEST, 3) as usize;
    let target = (0..count).map(|_| nodes.swap_remove(cx.between(0, nodes.len() as u64 - 1) as usize));
    let target = target.collect();
    alter(cx, kafka, topic, Some(target)).await
}

/// Begins a move, or cancels the one that is under way.
async fn alter(cx: &Cx, kafka: &Kafka, topic: &Topic, replicas: Option<Vec<i32>>) -> Result<(), Gone> {
    use alter_partition_reassignments::{Request, request};
    let cancels = replicas.is_none();
    let partition = request::Partition { partition_index: 0, replicas };
    let topics = vec![request::Topic { name: topic.name.clone(), partitions: vec![partition] }];
    let response = kafka.call(Request { topics, timeout_ms: 10_000, ..Default::default() }).await?;
    let answer = response.responses.first().and_then(|topic| topic.partitions.first());
    let code = match answer {
        Some(answer) if response.error_code.is_ok() => answer.error_code,
        _ => response.error_code,
    };
    match code {
        ErrorCode::NONE => cx.count(if cancels { "moves cancelled" } else { "moves begun" }, 1),
        ErrorCode::NO_REASSIGNMENT_IN_PROGRESS if cancels => {}
        // None of the old replicas is in sync, or not every node has registered yet.
        ErrorCode::INVALID_REPLICA_ASSIGNMENT => {}
        code if code.is_retriable() => {}
        code => cx.problem(format!("a move of {} was refused: {code:?}", topic.name)),
    }
    Ok(())
}

/// Gives leadership to the first replica.
async fn elect(cx: &Cx, kafka: &Kafka, topic: &Topic) -> Result<(), Gone> {
    use elect_leaders::{Request, request};
    let wanted = request::Topic { topic: topic.name.clone(), partitions: vec![0] };
    let request = Request { election_type: 0, topic_partitions: Some(vec![wanted]), timeout_ms: 10_000 };
    let response = kafka.call(request).await?;
    let answer = response.replica_election_results.first().and_then(|topic| topic.partition_result.first());
    let code = answer.map_or(response.error_code, |answer| answer.error_code);
    if !ELECTED.contains(&code) && !code.is_retriable() {
        cx.problem(format!("an election for {} was refused: {code:?}", topic.name));
    }
    cx.count("leaders elected by request", u64::from(code.is_ok()));
    Ok(())
}

/// Throttles the topic's replicas on all nodes, or takes a throttle off.
async fn throttle(cx: &Cx, kafka: &Kafka, topic: &Topic) -> Result<(), Gone> {
    let rate = (!cx.one_in(3)).then(|| cx.between(500, 50_000).to_string());
    set_throttle(cx, kafka, topic, rate).await
}

async fn set_throttle(cx: &Cx, kafka: &Kafka, topic: &Topic, rate: Option<String>) -> Result<(), Gone> {
    use incremental_alter_configs::{Request, request};
    let config = |name: &'static str, value: Option<&str>| request::Config {
        name: ByteString::from_static(name),
        config_operation: if value.is_some() { SET } else { DELETE },
        value: value.map(ByteString::from),
    };
    let all = rate.as_ref().map(|_| "*");
    let of_topic = vec![
        config("leader.replication.throttled.replicas", all),
        config("follower.replication.throttled.replicas", all),
    ];
    let of_nodes = vec![
        config("leader.replication.throttled.rate", rate.as_deref()),
        config("follower.replication.throttled.rate", rate.as_deref()),
    ];
    let resources = vec![
        request::Resource { resource_type: TOPIC, resource_name: topic.name.clone(), configs: of_topic },
        request::Resource { resource_type: BROKER, resource_name: ByteString::new(), configs: of_nodes },
    ];
    let response = kafka.call(Request { resources, validate_only: false }).await?;
    for answer in response.responses.iter().filter(|answer| answer.error_code.is_err()) {
        let code = answer.error_code;
        if !code.is_retriable() {
            cx.problem(format!("a throttle for {} was refused: {code:?}", topic.name));
        }
    }
    cx.count("throttles changed", 1);
    Ok(())
}

/// Whether anything moves.
async fn is_moving(kafka: &Kafka) -> Result<bool, Gone> {
    let request = list_partition_reassignments::Request { timeout_ms: 10_000, ..Default::default() };
    let response = kafka.call(request).await?;
    Ok(response.error_code.is_err() || !response.topics.is_empty())
}
