//! Registration of brokers (KIP-631).
//!
//! An incarnation that registers gets the offset of its record as its epoch. A later incarnation supersedes
//! an earlier one: the partitions that the earlier one led begin a new leader epoch, because it may have lost
//! what it had not flushed, and an offset of an epoch must never name two records. In a cluster of several it is fenced
//! first, so that others lead, and unless it stopped cleanly, or its machine has been up since, it is no longer taken for one that has
//! all records (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use moldau_base::{BrokerEpoch, NodeId, Now, TopicPartition, Uuid};
use moldau_wire::ErrorCode;

use crate::change::Change;
use crate::controller::Controller;
use crate::image::{Broker, Image};
use crate::record::{BrokerChange, PartitionChange, Record};
use crate::request::{Decision, Refusal, RegisterBroker, Reply};

pub(crate) fn register(c: &mut Controller, now: Now, request: &RegisterBroker) -> Result<Decision, Refusal> {
    check(&c.image, request)?;
    let existing = c.image.broker(request.id).cloned();
    let same = existing.as_ref().filter(|broker| broker.incarnation == request.incarnation);
    let records = match &existing {
        Some(_) if same.is_some() => vec![],
        Some(former) => {
            check_supersedes(c, now, former, request)?;
            let kept = stopped_as(c, former, request);
            supersede(&c.image, former, kept.is_some(), request)
        }
        None => forget_lost(&c.image, &[], false, request),
    };
    let offset = c.next_offset() + records.len() as i64;
    let epoch = same.map_or(BrokerEpoch(offset), |broker| broker.epoch);
    let registered = Broker {
        id: request.id,
        epoch,
        incarnation: request.incarnation,
        listeners: request.listeners.clone(),
        rack: request.rack.clone(),
        features: request.features.clone(),
        log_dirs: request.log_dirs.clone(),
        fenced: same.map_or(request.fenced, |broker| broker.fenced),
        stopping: same.is_some_and(|broker| broker.stopping),
    };
    if let Some(former) = existing.as_ref().filter(|_| same.is_none()) {
        let kept = stopped_as(c, former, request);
        c.liveness.resumes(request.id, epoch, kept);
    }
    if !registered.fenced {
        c.liveness.heard(request.id, epoch, -1, now.mono);
    }
    let records = records.into_iter().chain([Record::RegisterBroker(registered)]).collect();
    Ok(Decision { records, reply: Reply::BrokerRegistered(epoch) })
}

/// Two nodes with one id must not take turns: while the earlier incarnation is heard of, a later one must be shown to
/// have taken its place, by a log directory that only one process can have locked.
fn check_supersedes(
    c: &Controller,
    now: Now,
    former: &Broker,
    request: &RegisterBroker,
) -> Result<(), Refusal> {
    let same_disk = former.log_dirs.iter().any(|dir| request.log_dirs.contains(dir));
    let live = !former.fenced && c.is_live(now, former.id, former.epoch);
    if live && !same_disk {
        let message = format!(
            "Another broker is registered with that broker id: {} is alive and has other log directories. Give each node an id \
             (node.id) of its own.",
            former.id
        );
        return Err(Refusal::new(ErrorCode::DUPLICATE_BROKER_REGISTRATION, message));
    }
    Ok(())
}

/// The incarnation that the broker says it was at its last stop, if nothing can be lost since. One that was over before it served, and
/// before it had heard of its epoch, had the same.
fn stopped_as(c: &Controller, former: &Broker, request: &RegisterBroker) -> Option<BrokerEpoch> {
    let had = c.liveness.has_what(former.id, former.epoch);
    request.stopped_at.filter(|&at| at == former.epoch || at == had)
}

/// What a new incarnation means for the partitions of the `former` one.
fn supersede(image: &Image, former: &Broker, clean: bool, request: &RegisterBroker) -> Vec<Record> {
    if !request.fenced {
        return new_leader_epochs(image, request.id);
    }
    let mut scratch = image.clone();
    let mut records = Vec::new();
    if !former.fenced {
        let fence = BrokerChange {
            id: former.id,
            epoch: former.epoch,
            fenced: Some(true),
            stopping: false,
            log_dirs: vec![],
        };
        records.push(Record::BrokerChange(fence));
        if scratch.apply(scratch.offset(), &records[0]).is_err() {
            return records;
        }
    }
    records.extend(forget_lost(&scratch, &former.log_dirs, clean, request));
    records
}

/// What the replicas of a broker that starts may have lost since its incarnation before, which had the log directories `before`.
fn forget_lost(image: &Image, before: &[Uuid], clean: bool, request: &RegisterBroker) -> Vec<Record> {
    let lost_one = before.iter().any(|dir| !request.log_dirs.contains(dir));
    let lost_since = Since { clean, lost_one };
    image.partitions_of(request.id).filter_map(|at| forget_replica(image, at, lost_since, request)).collect()
}

/// What happened to a broker between two incarnations.
#[derive(Clone, Copy, Debug)]
struct Since {
    /// Whatever it had written is there.
    clean: bool,
    /// One of its log directories is not there any more.
    lost_one: bool,
}

/// A replica whose disk is not there any more, or whose broker did not stop cleanly, may have lost what it had: it is no
/// longer safe to elect (KIP-966). The only replica there is stays: nobody has more.
fn forget_replica(
    image: &Image,
    at: TopicPartition,
    since: Since,
    request: &RegisterBroker,
) -> Option<Record> {
    let id = request.id;
    let partition = image.partition(at)?;
    let place = partition.replicas.iter().position(|replica| *replica == id)?;
    let directory = partition.directories.get(place).copied().unwrap_or(Uuid::ZERO);
    let unsure = !since.clean && partition.replicas.len() > 1;
    // Nobody knows where a broker of several directories had it.
    let swapped = match directory.is_zero() {
        true => unsure && since.lost_one,
        false => !request.log_dirs.contains(&directory),
    };
    if !swapped && !unsure {
        return None;
    }
    let lose = |change: &mut Change<'_>| if swapped { change.lose_all(id) } else { change.lose(id) };
    let mut change = image.changing(at, &lose).unwrap_or(PartitionChange {
        topic: at.topic,
        index: at.partition,
        ..PartitionChange::default()
    });
    if swapped {
        let now = only(&request.log_dirs);
        if now != directory {
            let directories = change.directories.get_or_insert_with(|| partition.directories.to_vec());
            if let Some(directory) = directories.get_mut(place) {
                *directory = now;
            }
        }
    }
    let nothing = PartitionChange { topic: at.topic, index: at.partition, ..PartitionChange::default() };
    (change != nothing).then_some(Record::PartitionChange(change))
}

fn only(dirs: &[Uuid]) -> Uuid {
    match dirs {
        [only] => *only,
        _ => Uuid::ZERO,
    }
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

/// Partitions keep the broker in their replicas, as in Kafka: a broker of that id may come back and follow. What is in
/// sync without it follows from the record.
pub(crate) fn unregister(c: &Controller, id: NodeId) -> Result<Decision, Refusal> {
    let Some(broker) = c.image.broker(id) else {
        return Err(Refusal::new(
            ErrorCode::BROKER_ID_NOT_REGISTERED,
            format!("Broker ID {id} is not currently registered"),
        ));
    };
    let records = vec![Record::UnregisterBroker { id, epoch: broker.epoch }];
    Ok(Decision { records, reply: Reply::BrokerUnregistered })
}

/// The registered incarnation of `id`, if that is who asks.
pub(crate) fn check_epoch(image: &Image, id: NodeId, epoch: BrokerEpoch) -> Result<&Arc<Broker>, Refusal> {
    match image.broker(id) {
        None => Err(Refusal::new(
            ErrorCode::STALE_BROKER_EPOCH,
            format!("No broker registration found for broker id {id}"),
        )),
        Some(broker) if broker.epoch != epoch => Err(Refusal::new(
            ErrorCode::STALE_BROKER_EPOCH,
            format!("Expected broker epoch {}, but got broker epoch {epoch}", broker.epoch),
        )),
        Some(broker) => Ok(broker),
    }
}
