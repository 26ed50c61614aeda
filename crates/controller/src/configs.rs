//! Changing configs: AlterConfigs, which replaces all that is set on a resource, and IncrementalAlterConfigs
//! (KIP-339).
//!
//! All changes of one resource happen or none; every resource has its own answer. What a key may hold is
//! defined in [`moldau_base::config`].

use std::borrow::Cow;
use std::collections::BTreeSet;

use moldau_base::NodeId;
use moldau_base::config::{Audience, Change, Invalid, Op, Values, alter_broker, alter_topic};
use moldau_base::planted::{Bug, planted};
use moldau_wire::ErrorCode;

use crate::controller::Controller;
use crate::fencing::MIN_INSYNC_REPLICAS;
use crate::image::{Partition, Resource};
use crate::names;
use crate::record::Record;
use crate::request::{AlterConfigs, ConfigOp, Decision, Mode, Refusal, Reply, ResourceName};

fn invalid(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, message)
}

pub(crate) fn alter(c: &Controller, request: &AlterConfigs<Vec<(String, Option<String>)>>) -> Decision {
    each(c, request, |resource, wanted| {
        let sets: Vec<Change<'_>> = wanted
            .iter()
            .map(|(name, value)| Change { name, op: Op::Set, value: value.as_deref() })
            .collect();
        check_changes(&sets)?;
        let after = altered(resource, &Values::new(), &sets)?;
        Ok((after, sets.iter().map(|set| set.name.to_owned()).collect()))
    })
}

pub(crate) fn alter_incrementally(c: &Controller, request: &AlterConfigs<Vec<ConfigOp>>) -> Decision {
    each(c, request, |resource, ops| {
        let change = |op: &'_ ConfigOp| match Op::from_wire(op.op) {
            None => Err(invalid(format!("Unknown operations type {}", op.op))),
            Some(known) => Ok(known),
        };
        let changes = ops
            .iter()
            .map(|op| Ok(Change { name: &op.name, op: change(op)?, value: op.value.as_deref() }))
            .collect::<Result<Vec<_>, Refusal>>()?;
        check_changes(&changes)?;
        let none = Values::new();
        let after = altered(resource, c.image.configs(resource).map_or(&none, |set| set), &changes)?;
        Ok((after, changes.iter().map(|change| change.name.to_owned()).collect()))
    })
}

fn check_changes(changes: &[Change<'_>]) -> Result<(), Refusal> {
    let unique: BTreeSet<_> = changes.iter().map(|change| change.name).collect();
    if unique.len() < changes.len() {
        return Err(invalid("Error due to duplicate config keys"));
    }
    let nulls: Vec<&str> =
        changes.iter().filter(|c| c.op != Op::Delete && c.value.is_none()).map(|c| c.name).collect();
    match nulls.is_empty() {
        true => Ok(()),
        false => Err(invalid(format!("Null value not supported for : {}", nulls.join(", ")))),
    }
}

/// The configs that `resource` would have after `changes`, checked.
pub(crate) fn altered(
    resource: &Resource,
    current: &Values,
    changes: &[Change<'_>],
) -> Result<Values, Refusal> {
    let result = match resource {
        Resource::Topic(name) => {
            let audience = if names::is_internal(name) { Audience::Internal } else { Audience::User };
            alter_topic(current, changes, audience)
        }
        Resource::Broker(_) | Resource::ClusterDefault => alter_broker(current, changes),
        Resource::Group(_) | Resource::ClientMetrics(_) => {
            return Err(invalid("Configs of groups and client metrics are not supported"));
        }
    };
    // Kafka refuses what a broker cannot take as an invalid request (KAFKA-13609).
    result.map_err(|bad| match (&bad, resource) {
        (Invalid::NotList { .. }, _) | (_, Resource::Topic(_)) => {
            Refusal::new(ErrorCode::INVALID_CONFIG, bad.to_string())
        }
        _ => invalid(bad.to_string()),
    })
}

/// Decides about each resource on its own. `changed` answers with the configs after the change and the names
/// that the request gave.
fn each<C>(
    c: &Controller,
    request: &AlterConfigs<C>,
    changed: impl Fn(&Resource, &C) -> Result<(Values, BTreeSet<String>), Refusal>,
) -> Decision {
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<_> =
        request.resources.iter().map(|(name, _)| name).filter(|name| !seen.insert(*name)).collect();
    let mut records = Vec::new();
    let mut replies = Vec::with_capacity(request.resources.len());
    for (name, wanted) in &request.resources {
        let result = match repeated.contains(name) {
            true => Err(invalid("Each resource must appear at most once.")),
            false => resource(name).and_then(|resource| {
                let (after, named) = changed(&resource, wanted)?;
                check_exists(c, &resource)?;
                check_replicas(c, &resource, &after)?;
                Ok(records_between(c, &resource, &after, &named))
            }),
        };
        replies.push((name.clone(), result.map(|altered| records.extend(altered))));
    }
    if request.mode == Mode::Validate {
        records.clear();
    }
    let records = if planted(Bug::AlterNothing) { Vec::new() } else { records };
    Decision { records, reply: Reply::ConfigsAltered(replies) }
}

/// The resource that a request names.
fn resource(name: &ResourceName) -> Result<Resource, Refusal> {
    match name.kind {
        2 if name.name.is_empty() => Err(invalid("Default topic resources are not allowed.")),
        2 => {
            let bad = |bad: names::BadName| Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, bad.to_string());
            names::check(&name.name).map_err(bad)?;
            Ok(Resource::Topic(name.name.clone()))
        }
        4 if name.name.is_empty() => Ok(Resource::ClusterDefault),
        4 => match name.name.parse::<i32>() {
            Err(_) => Err(invalid("Unable to parse broker name as a base 10 number.")),
            Ok(id) if id < 0 => Err(invalid("Invalid negative broker ID.")),
            Ok(id) => Ok(Resource::Broker(NodeId(id))),
        },
        kind => Err(invalid(format!("Unknown resource type {kind}"))),
    }
}

/// The records that lead from what is set to `after`.
fn records_between(
    c: &Controller,
    resource: &Resource,
    after: &Values,
    named: &BTreeSet<String>,
) -> Vec<Record> {
    let none = Values::new();
    let before = c.image.configs(resource).map_or(&none, |set| set);
    let record = |name: &String, value: Option<&String>| Record::Config {
        resource: resource.clone(),
        name: name.clone(),
        value: value.cloned(),
    };
    // A broker reads some values anew when they are set (a key store, for example), so setting one to what it
    // is counts.
    let is_broker = matches!(resource, Resource::Broker(_) | Resource::ClusterDefault);
    let counts = |name: &String, value: &String| {
        before.get(name) != Some(value) || (is_broker && named.contains(name))
    };
    let set = after
        .iter()
        .filter(|(name, value)| counts(name, value))
        .map(|(name, value)| record(name, Some(value)));
    let removed = before.keys().filter(|name| !after.contains_key(*name)).map(|name| record(name, None));
    set.chain(removed).collect()
}

/// Refuses a topic's `min.insync.replicas` that none of its acknowledgements could keep.
fn check_replicas(c: &Controller, resource: &Resource, after: &Values) -> Result<(), Refusal> {
    let Resource::Topic(name) = resource else { return Ok(()) };
    let before = c.image.config(resource, MIN_INSYNC_REPLICAS);
    if before == after.get(MIN_INSYNC_REPLICAS).map(String::as_str) {
        return Ok(());
    }
    let Some(topic) = c.image.topic_named(name) else { return Ok(()) };
    // Whatever becomes of a move that is under way.
    let replicas =
        |p: &Partition| p.replicas.len() - p.adding.len().max(p.removing.len()).min(p.replicas.len());
    let fewest = topic.partitions.values().map(|partition| replicas(partition)).min();
    fewest.map_or(Ok(()), |fewest| check_min_insync(after, name, fewest))
}

/// Refuses more in-sync replicas than there are replicas: a write would be acknowledged by fewer than it says.
pub(crate) fn check_min_insync(values: &Values, topic: &str, replicas: usize) -> Result<(), Refusal> {
    let Some(min) = min_insync(values).filter(|min| *min > replicas) else { return Ok(()) };
    Err(Refusal::new(
        ErrorCode::INVALID_CONFIG,
        format!(
            "min.insync.replicas={min} cannot be kept by topic {topic}, which has {replicas} replica(s) of a partition: set it to \
             {replicas} at most, or give the topic {min} replicas first"
        ),
    ))
}

/// `min.insync.replicas`, if it is set here.
pub(crate) fn min_insync(values: &Values) -> Option<usize> {
    values.get(MIN_INSYNC_REPLICAS).and_then(|value| value.parse().ok())
}

fn check_exists(c: &Controller, resource: &Resource) -> Result<(), Refusal> {
    match resource {
        Resource::Topic(name) if c.image.topic_named(name).is_none() => Err(Refusal::new(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            format!("The topic '{name}' does not exist."),
        )),
        Resource::Broker(id) if c.image.broker(*id).is_none() => {
            Err(Refusal::new(ErrorCode::BROKER_ID_NOT_REGISTERED, format!("No broker with id {id} found.")))
        }
        _ => Ok(()),
    }
}
