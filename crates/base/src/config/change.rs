//! Changes of configs, as CreateTopics, AlterConfigs and IncrementalAlterConfigs ask for them: each function
//! answers with the values that the resource would have, or with the refusal, and changes nothing itself.

use std::collections::BTreeSet;

use super::broker::broker_key;
use super::def::{Def, Dynamic, Kind};
use super::layers::Values;
use super::topic::topic_key;
use super::value::{Invalid, Value, split_list};
use crate::limits::STRING_BYTES;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A client, for a topic of its own: what would not be kept is refused.
    User,
    /// The broker, or a client for an internal topic: `cleanup.policy=compact` is part of what those are.
    Internal,
}

/// How a key changes (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The value becomes this one.
    Set,
    /// The value goes, and the default is in force.
    Delete,
    /// These items are added to the list.
    Append,
    /// These items are taken from the list.
    Subtract,
}

impl Op {
    /// The operation with this number in IncrementalAlterConfigs.
    pub fn from_wire(number: i8) -> Option<Op> {
        [Op::Set, Op::Delete, Op::Append, Op::Subtract].get(usize::try_from(number).ok()?).copied()
    }
}

/// One change of one key.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The key.
    pub name: &'a str,
    /// What happens to it.
    pub op: Op,
    /// The value or items; must be there unless `op` is [`Op::Delete`].
    pub value: Option<&'a str>,
}

/// A key that was accepted and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key.
    pub name: &'static str,
    /// Why it changes nothing.
    pub reason: &'static str,
}

/// Checks all the configs that a topic would have; the warnings are for the log.
pub fn validate_topic(values: &Values, audience: Audience) -> Result<Vec<Warning>, Invalid> {
    let mut warnings = Vec::new();
    for (name, value) in values {
        let def = topic_key(name).ok_or_else(|| Invalid::UnknownTopicKey(name.clone()))?;
        match audience {
            Audience::Internal => drop(def.read(value)?),
            Audience::User => {
                let accepted = def.accept(value)?;
                warnings.extend(accepted.warning.map(|reason| Warning { name: def.name, reason }));
            }
        }
    }
    let lag = |name: &str| {
        let def = topic_key(name)?;
        let raw = values.get(name).map(String::as_str).or(def.default)?;
        def.read(raw).ok().map(|value| value.number())
    };
    match (lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms")) {
        (Some(min), Some(max)) if min > max => Err(Invalid::Contradiction(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        ))),
        _ => Ok(warnings),
    }
}

/// The configs of a topic after `changes`, validated as a whole.
pub fn alter_topic(current: &Values, changes: &[Change<'_>], audience: Audience) -> Result<Values, Invalid> {
    let mut values = current.clone();
    for change in changes {
        let unknown = || Invalid::UnknownTopicKey(change.name.to_owned());
        apply(&mut values, change, topic_key(change.name), unknown)?;
    }
    validate_topic(&values, audience)?;
    Ok(values)
}

/// The dynamic configs of a broker, or of all brokers, after `changes`. Only the changed keys are checked: an
/// older value that a newer release refuses must not block a change of another key.
pub fn alter_broker(current: &Values, changes: &[Change<'_>]) -> Result<Values, Invalid> {
    let mut values = current.clone();
    for change in changes {
        let unknown = || Invalid::UnknownBrokerKey(change.name.to_owned());
        let def = broker_key(change.name);
        apply(&mut values, change, def, unknown)?;
        let Some(def) = def else { continue };
        if def.dynamic == Dynamic::ReadOnly {
            return Err(Invalid::ReadOnly(change.name.to_owned()));
        }
        if let Some(value) = values.get(def.name) {
            def.accept(value)?;
        }
    }
    Ok(values)
}

fn apply(
    values: &mut Values,
    change: &Change<'_>,
    def: Option<&'static Def>,
    unknown: impl Fn() -> Invalid,
) -> Result<(), Invalid> {
    if change.op == Op::Delete {
        values.remove(change.name);
        return Ok(());
    }
    let def = def.ok_or_else(&unknown)?;
    let Some(value) = change.value else {
        return Err(Invalid::Null(change.name.to_owned()));
    };
    if value.len() > STRING_BYTES {
        let why = format!("Value is longer than {STRING_BYTES} bytes");
        return Err(Invalid::Value { name: change.name.to_owned(), value: "...".to_owned(), why });
    }
    let canonical = match change.op {
        Op::Append => append(def, values, value)?,
        Op::Subtract => subtract(def, values, value)?,
        Op::Set | Op::Delete => value.trim().to_owned(),
    };
    values.insert(change.name.to_owned(), canonical);
    Ok(())
}

fn append(def: &'static Def, values: &Values, items: &str) -> Result<String, Invalid> {
    let current = current_list(def, values, "APPEND")?;
    Ok(Value::List(split_list(&format!("{current},{items}"))).to_string())
}

fn subtract(def: &'static Def, values: &Values, items: &str) -> Result<String, Invalid> {
    let mut list = split_list(current_list(def, values, "SUBTRACT")?);
    let gone: BTreeSet<String> = split_list(items).into_iter().collect();
    list.retain(|item| !gone.contains(item));
    Ok(Value::List(list).to_string())
}

fn current_list<'a>(def: &'static Def, values: &'a Values, op: &'static str) -> Result<&'a str, Invalid> {
    if def.kind != Kind::List {
        return Err(Invalid::NotList { op, name: def.name.to_owned() });
    }
    Ok(values.get(def.name).map(String::as_str).or(def.default).unwrap_or(""))
}
