//! Registration of brokers (KIP-631).
//!
//! An incarnation that registers gets the offset of its record as its epoch. A later incarnation supersedes
//! an earlier one: the partitions that the earlier one led begin a new leader epoch, because it may have lost
//! what it had not flushed, and an offset of an epoch must never name two records.

use std::collections::BTreeSet;

use moldau_base::{BrokerEpoch, NodeId};
use moldau_wire::ErrorCode;

use crate::controller::Controller;
use crate::image::{Broker, Image};
use crate::record::{PartitionChange, Record};
use crate::request::{Decision, Refusal, RegisterBroker, Reply};

pub(crate) fn register(c: &Controller, request: &RegisterBroker) -> Result<Decision, Refusal> {
    check(&c.image, request)?;
    let existing = c.image.broker(request.id);
    let same = existing.filter(|broker| broker.incarnation == request.incarnation);

    let mut records = Vec::new();
    if existing.is_some() && same.is_none() {
        records = new_leader_epochs(&c.image, request.id);
    }
    let offset = c.next_offset() + records.len() as i64;
    let epoch = same.map_or(BrokerEpoch(offset), |broker| broker.epoch);
    records.push(Record::RegisterBroker(Broker {
        id: request.id,
        epoch,
        incarnation: request.incarnation,
        listeners: request.listeners.clone(),
        rack: request.rack.clone(),
        features: request.features.clone(),
        log_dirs: request.log_dirs.clone(),
        fenced: same.map_or(request.fenced, |broker| broker.fenced),
        stopping: same.is_some_and(|broker| broker.stopping),
    }));
    Ok(Decision { records, reply: Reply::BrokerRegistered(epoch) })
}

fn check(image: &Image, request: &RegisterBroker) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_REGISTRATION, message));
    if *request.cluster_id != **image.cluster_id() {
        let message =
            format!("Expected cluster ID {}, but got cluster ID {}", image.cluster_id(), request.cluster_id);
        return Err(Refusal::new(ErrorCode::INCONSISTENT_CLUSTER_ID, message));
    }
    if request.id.0 < 0 {
        return invalid(format!("Invalid negative broker id {}", request.id));
    }
    if request.listeners.is_empty() {
        return invalid("No listeners specified in request".into());
    }
    if request.log_dirs.is_empty() {
        return invalid("No directories specified in request".into());
    }
    if request.log_dirs.iter().any(|dir| dir.0[..8] == [0; 8] && u64_of(&dir.0[8..]) < 100) {
        return invalid("Reserved directory ID in request".into());
    }
    if request.log_dirs.iter().collect::<BTreeSet<_>>().len() < request.log_dirs.len() {
        return invalid("Duplicate directory ID in request".into());
    }
    for other in image.brokers().values().filter(|broker| broker.id != request.id) {
        if let Some(dir) = other.log_dirs.iter().find(|dir| request.log_dirs.contains(dir)) {
            return invalid(format!("Broker {} is already registered with directory {dir}", other.id));
        }
    }
    for (name, level) in image.features() {
        let range = request.features.iter().find(|feature| feature.name == *name);
        if !range.is_some_and(|range| (range.min..=range.max).contains(level)) {
            let message = format!(
                "Unable to register because the broker does not support finalized version {level} of {name}. The broker wants \
                 a version between {} and {}, inclusive.",
                range.map_or(0, |range| range.min),
                range.map_or(0, |range| range.max)
            );
            return Err(Refusal::new(ErrorCode::UNSUPPORTED_VERSION, message));
        }
    }
    Ok(())
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A new leader epoch, with the same leader, for every partition that `broker` leads.
fn new_leader_epochs(image: &Image, broker: NodeId) -> Vec<Record> {
    let led = image.topics().values().flat_map(|topic| {
        let led = topic.partitions.iter().filter(move |(_, partition)| partition.leader == broker);
        led.map(|(index, _)| PartitionChange {
            topic: topic.id,
            index: *index,
            leader: Some(broker),
            ..PartitionChange::default()
        })
    });
    led.map(Record::PartitionChange).collect()
}

pub(crate) fn unregister(c: &Controller, id: NodeId) -> Result<Decision, Refusal> {
    let Some(broker) = c.image.broker(id) else {
        return Err(Refusal::new(
            ErrorCode::BROKER_ID_NOT_REGISTERED,
            format!("Broker ID {id} is not currently registered"),
        ));
    };
    let holds = c.image.topics().values().any(|t| t.partitions.values().any(|p| p.replicas.contains(&id)));
    if holds {
        return Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            format!("Broker ID {id} still has replicas: move them or delete their topics first"),
        ));
    }
    let records = vec![Record::UnregisterBroker { id, epoch: broker.epoch }];
    Ok(Decision { records, reply: Reply::BrokerUnregistered })
}

/// Checks that a request comes from the registered incarnation of `id`.
pub(crate) fn check_epoch(image: &Image, id: NodeId, epoch: BrokerEpoch) -> Result<(), Refusal> {
    match image.broker(id) {
        None => Err(Refusal::new(
            ErrorCode::STALE_BROKER_EPOCH,
            format!("No broker registration found for broker id {id}"),
        )),
        Some(broker) if broker.epoch != epoch => Err(Refusal::new(
            ErrorCode::STALE_BROKER_EPOCH,
            format!("Expected broker epoch {}, but got broker epoch {epoch}", broker.epoch),
        )),
        Some(_) => Ok(()),
    }
}
