//! Creating and deleting topics: CreateTopics, DeleteTopics, auto-creation and the internal topics, all on
//! one path.
//!
//! A request names several topics and each gets its own answer; the records of all that succeed are appended
//! together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moldau_base::config::{Change, Op, Values};
use moldau_base::{Rng, Uuid, limits};
use moldau_wire::ErrorCode;

use crate::configs;
use crate::controller::Controller;
use crate::image::{Image, Resource};
use crate::names;
use crate::partitions::{self, Assigned};
use crate::record::Record;
use crate::request::{
    CreateTopics, CreatedTopic, Decision, InternalTopic, Mode, NewTopic, Refusal, Reply, TopicCreated,
    TopicDeleted, TopicRef,
};

pub(crate) fn create(c: &Controller, rng: &mut Rng, request: &CreateTopics) -> Decision {
    if request.topics.len() > limits::TOPICS_PER_REQUEST {
        return refuse_all(request, "Excessively large number of topics per request.");
    }
    let total: i64 = request.topics.iter().map(|topic| partitions_wanted(c, topic)).sum();
    if total > i64::from(limits::PARTITIONS_PER_TOPIC) {
        return refuse_all(request, "Excessively large number of partitions per request.");
    }
    let repeated = repeated(request.topics.iter().map(|topic| &topic.name));
    // Names are checked against the topics of this request too, so what was decided so far is applied to a
    // scratch image.
    let mut scratch = c.image.clone();
    let mut records = Vec::new();
    let mut replies = Vec::with_capacity(request.topics.len());
    let mut answered = BTreeSet::new();
    for topic in &request.topics {
        if !answered.insert(topic.name.clone()) {
            continue;
        }
        let result = match repeated.contains(&topic.name) {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name.")),
            false => create_one(c, &mut scratch, rng, topic),
        };
        let result = result.map(|(created, of_topic)| {
            records.extend(of_topic);
            created
        });
        replies.push(TopicCreated { name: topic.name.clone(), result });
    }
    if request.mode == Mode::Validate {
        records.clear();
    }
    Decision { records, reply: Reply::TopicsCreated(replies) }
}

fn refuse_all(request: &CreateTopics, why: &'static str) -> Decision {
    let names: BTreeSet<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let refused = |name| TopicCreated { name, result: Err(Refusal::new(ErrorCode::POLICY_VIOLATION, why)) };
    Decision { records: vec![], reply: Reply::TopicsCreated(names.into_iter().map(refused).collect()) }
}

fn partitions_wanted(c: &Controller, topic: &NewTopic) -> i64 {
    match (topic.assignments.len(), topic.partitions) {
        (0, -1) => i64::from(c.settings.partitions),
        (0, count) => i64::from(count.max(0)),
        (count, _) => i64::try_from(count).unwrap_or(i64::MAX),
    }
}

/// Names that occur more than once.
pub(crate) fn repeated<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> BTreeSet<Arc<str>> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}

fn create_one(
    c: &Controller,
    scratch: &mut Image,
    rng: &mut Rng,
    topic: &NewTopic,
) -> Result<(CreatedTopic, Vec<Record>), Refusal> {
    check_name(scratch, &topic.name)?;
    let configs = creation_configs(topic)?;
    let assigned = assign(c, rng, topic)?;
    configs::check_min_insync(&configs, &topic.name, assigned.first().map_or(0, |a| a.replicas.len()))?;

    let id = fresh_id(scratch, rng);
    let created = CreatedTopic {
        id,
        partitions: i32::try_from(assigned.len()).unwrap_or(i32::MAX),
        replication_factor: assigned
            .first()
            .map_or(0, |a| i16::try_from(a.replicas.len()).unwrap_or(i16::MAX)),
        configs,
    };
    let name = topic.name.clone();
    let head = Record::Topic { id, name: name.clone() };
    if scratch.apply(scratch.offset(), &head).is_err() {
        return Err(already_exists(&topic.name));
    }
    let mut records = vec![head];
    let resource = Resource::Topic(name);
    records.extend(created.configs.iter().map(|(name, value)| Record::Config {
        resource: resource.clone(),
        name: name.clone(),
        value: Some(value.clone()),
    }));
    records.extend((0..).zip(assigned).map(|(index, assigned)| assigned.record(&c.image, id, index)));
    Ok((created, records))
}

fn already_exists(name: &str) -> Refusal {
    Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{name}' already exists."))
}

fn check_name(image: &Image, name: &str) -> Result<(), Refusal> {
    if name == names::CLUSTER_METADATA {
        let message = "Creation of internal topic __cluster_metadata is prohibited.";
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    names::check(name).map_err(|bad| Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, bad.to_string()))?;
    if image.topic_named(name).is_some() {
        return Err(already_exists(name));
    }
    match image.colliding(name) {
        Some(other) => Err(Refusal::new(
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            format!("Topic '{name}' collides with existing topic: {other}"),
        )),
        None => Ok(()),
    }
}

fn creation_configs(topic: &NewTopic) -> Result<Values, Refusal> {
    let nulls: Vec<&str> =
        topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
    }
    let sets: Vec<Change<'_>> = topic
        .configs
        .iter()
        .map(|(name, value)| Change { name, op: Op::Set, value: value.as_deref() })
        .collect();
    configs::altered(&Resource::Topic(topic.name.clone()), &Values::new(), &sets)
}

fn assign(c: &Controller, rng: &mut Rng, topic: &NewTopic) -> Result<Vec<Assigned>, Refusal> {
    if !topic.assignments.is_empty() {
        return assign_by_hand(c, topic);
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return Err(Refusal::new(
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ));
    }
    if topic.partitions < -1 || topic.partitions == 0 {
        return Err(Refusal::new(
            ErrorCode::INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.",
        ));
    }
    let count = if topic.partitions == -1 { c.settings.partitions } else { topic.partitions };
    let factor =
        if topic.replication_factor == -1 { c.settings.replication_factor } else { topic.replication_factor };
    partitions::assign_by_placement(c, rng, count, factor)
}

fn assign_by_hand(c: &Controller, topic: &NewTopic) -> Result<Vec<Assigned>, Refusal> {
    let invalid = |message: &'static str| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    if topic.replication_factor != -1 {
        return invalid(
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        );
    }
    if topic.partitions != -1 {
        return invalid("A manual partition assignment was specified, but numPartitions was not set to -1.");
    }
    let mut by_index = BTreeMap::new();
    let mut factor = None;
    for (index, replicas) in &topic.assignments {
        if by_index.contains_key(index) {
            return Err(Refusal::new(
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                format!("Found multiple manual partition assignments for partition {index}"),
            ));
        }
        let assigned = partitions::assign_by_hand(c, *index, replicas, factor)?;
        factor = Some(replicas.len());
        by_index.insert(*index, assigned);
    }
    if !(0..).zip(by_index.keys()).all(|(expected, index)| expected == *index) {
        return Err(Refusal::new(
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
        ));
    }
    Ok(by_index.into_values().collect())
}

/// An id that no topic has.
fn fresh_id(image: &Image, rng: &mut Rng) -> Uuid {
    loop {
        let id = Uuid::random(rng);
        if image.topic(id).is_none() {
            return id;
        }
    }
}

pub(crate) fn create_internal(c: &Controller, rng: &mut Rng, topic: InternalTopic) -> Decision {
    let topics = vec![c.settings.internal_topic(topic)];
    create(c, rng, &CreateTopics { topics, mode: Mode::Apply })
}

pub(crate) fn delete(c: &Controller, refs: &[TopicRef]) -> Decision {
    let named = || refs.iter().filter(|r| r.id.is_zero()).filter_map(|r| r.name.as_ref());
    let repeated_names = repeated(named());
    let mut seen = BTreeSet::new();
    let repeated_ids: BTreeSet<Uuid> = refs
        .iter()
        .filter(|r| r.name.is_none() && !r.id.is_zero() && !seen.insert(r.id))
        .map(|r| r.id)
        .collect();

    let mut records = Vec::new();
    let mut deleted = BTreeSet::new();
    let mut answered = BTreeSet::new();
    let mut replies = Vec::with_capacity(refs.len());
    for r in refs {
        let reply = |name: Option<&Arc<str>>, id, result| TopicDeleted { name: name.cloned(), id, result };
        let invalid = |message: &'static str| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        if !answered.insert((r.name.clone(), r.id)) {
            continue;
        }
        replies.push(match (&r.name, r.id.is_zero()) {
            (None, true) => reply(None, r.id, invalid("Neither topic name nor id were specified.")),
            (Some(name), false) => {
                reply(Some(name), r.id, invalid("You may not specify both topic name and topic id."))
            }
            (Some(name), true) if repeated_names.contains(name) => {
                reply(Some(name), r.id, invalid("Duplicate topic name."))
            }
            (None, false) if repeated_ids.contains(&r.id) => {
                reply(None, r.id, invalid("Duplicate topic id."))
            }
            (Some(name), true) => match c.image.topic_named(name) {
                None => {
                    let unknown = Refusal::plain(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                    reply(Some(name), r.id, Err(unknown))
                }
                Some(topic) => {
                    let result = remove_once(&mut deleted, &mut records, topic.id);
                    reply(Some(name), topic.id, result)
                }
            },
            (None, false) => match c.image.topic(r.id) {
                None => reply(None, r.id, Err(Refusal::plain(ErrorCode::UNKNOWN_TOPIC_ID))),
                Some(topic) => {
                    let result = remove_once(&mut deleted, &mut records, topic.id);
                    reply(Some(&topic.name), topic.id, result)
                }
            },
        });
    }
    Decision { records, reply: Reply::TopicsDeleted(replies) }
}

fn remove_once(deleted: &mut BTreeSet<Uuid>, records: &mut Vec<Record>, id: Uuid) -> Result<(), Refusal> {
    if !deleted.insert(id) {
        let message = "The provided topic name maps to an ID that was already supplied.";
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    records.push(Record::RemoveTopic { id });
    Ok(())
}
