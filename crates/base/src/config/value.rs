//! Reading one value: the text of a key becomes a typed value or a refusal in the words that Kafka's users
//! already know.

use std::collections::BTreeSet;
use std::fmt;

use super::def::{Bounds, Def, Kind, Status};

/// A value of a key, read and within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a [`Kind::Bool`].
    Bool(bool),
    /// Of a [`Kind::Int`], [`Kind::Short`] or [`Kind::Long`].
    Number(i64),
    /// Of a [`Kind::Double`].
    Double(f64),
    /// Of a [`Kind::Text`], [`Kind::Class`] or [`Kind::Password`].
    Text(String),
    /// Of a [`Kind::List`].
    List(Vec<String>),
}

impl Value {
    /// The number; 0 for a value of another type.
    pub fn number(&self) -> i64 {
        match self {
            Value::Number(number) => *number,
            _ => 0,
        }
    }

    /// The truth value; false for a value of another type.
    pub fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(v) => v.fmt(f),
            Value::Number(v) => v.fmt(f),
            Value::Double(v) => write!(f, "{v:?}"),
            Value::Text(v) => f.write_str(v),
            Value::List(v) => f.write_str(&v.join(",")),
        }
    }
}

/// Why a key or a value is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No topic has such a key.
    #[error("Unknown topic config name: {0}")]
    UnknownTopicKey(String),
    /// No broker has such a key.
    #[error("Unknown broker config name: {0}")]
    UnknownBrokerKey(String),
    /// The value is not of the key's type or out of its bounds.
    #[error("Invalid value {value} for configuration {name}: {why}")]
    Value {
        /// The key.
        name: String,
        /// The value; `[hidden]` for a secret.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The value is a good one in Kafka, and its promise would not be kept here.
    #[error("{name}={value} is refused: {reason}")]
    NotKept {
        /// The key.
        name: &'static str,
        /// The value; `[hidden]` for a secret.
        value: String,
        /// What would not be kept.
        reason: &'static str,
    },
    /// APPEND or SUBTRACT on a key that holds no list.
    #[error("Can't {op} to key {name} because its type is not LIST.")]
    NotList {
        /// `APPEND` or `SUBTRACT`.
        op: &'static str,
        /// The key.
        name: String,
    },
    /// A key without a value.
    #[error("Null value not supported for configs: {0}")]
    Null(String),
    /// Two keys contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// The key is fixed while the broker runs.
    #[error("Cannot update these configs dynamically: [{0}]")]
    ReadOnly(String),
}

/// A value that may be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The value.
    pub value: Value,
    /// Why it will change nothing, for a key without meaning here.
    pub warning: Option<&'static str>,
}

impl Def {
    /// Reads `raw` and checks it against the bounds; says nothing about whether the key is honoured.
    pub fn read(&self, raw: &str) -> Result<Value, Invalid> {
        let raw = raw.trim();
        let value = self.parse(raw).map_err(|why| self.invalid(raw, why))?;
        self.check_bounds(&value).map_err(|(shown, why)| self.invalid(&shown, why))?;
        Ok(value)
    }

    /// Reads `raw` and decides whether it may be set here.
    pub fn accept(&self, raw: &str) -> Result<Accepted, Invalid> {
        let value = self.read(raw)?;
        match self.status {
            Status::Honoured => Ok(Accepted { value, warning: None }),
            Status::NoMeaning(reason) => Ok(Accepted { value, warning: Some(reason) }),
            Status::Refused { fine, reason } => {
                let shown = value.to_string();
                if fine.iter().any(|f| f.eq_ignore_ascii_case(&shown)) {
                    return Ok(Accepted { value, warning: None });
                }
                Err(Invalid::NotKept { name: self.name, value: self.shown(&shown), reason })
            }
        }
    }

    fn shown(&self, raw: &str) -> String {
        if self.kind == Kind::Password { "[hidden]".to_owned() } else { raw.to_owned() }
    }

    fn invalid(&self, raw: &str, why: String) -> Invalid {
        Invalid::Value { name: self.name.to_owned(), value: self.shown(raw), why }
    }

    fn parse(&self, raw: &str) -> Result<Value, String> {
        let not_a_number = |_| format!("Not a number of type {}", self.kind.name());
        match self.kind {
            Kind::Bool if raw.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            Kind::Bool if raw.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            Kind::Bool => Err("Expected value to be either true or false".to_owned()),
            Kind::Int => raw.parse::<i32>().map(|v| Value::Number(v.into())).map_err(not_a_number),
            Kind::Short => raw.parse::<i16>().map(|v| Value::Number(v.into())).map_err(not_a_number),
            Kind::Long => raw.parse::<i64>().map(Value::Number).map_err(not_a_number),
            Kind::Double => match raw.parse::<f64>() {
                Ok(v) if v.is_finite() => Ok(Value::Double(v)),
                _ => Err("Not a number of type DOUBLE".to_owned()),
            },
            Kind::List => Ok(Value::List(split_list(raw))),
            Kind::Text | Kind::Class | Kind::Password => Ok(Value::Text(raw.to_owned())),
        }
    }

    fn check_bounds(&self, value: &Value) -> Result<(), (String, String)> {
        let shown = || value.to_string();
        let refuse = |why: String| Err((shown(), why));
        match (self.bounds, value) {
            (Bounds::AtLeast(min), Value::Number(v)) if *v < min => {
                refuse(format!("Value must be at least {min}"))
            }
            (Bounds::Between(min, _), Value::Number(v)) if *v < min => {
                refuse(format!("Value must be at least {min}"))
            }
            (Bounds::Between(_, max), Value::Number(v)) if *v > max => {
                refuse(format!("Value must be no more than {max}"))
            }
            (Bounds::BetweenOrMinusOne(min, max), Value::Number(v))
                if *v != -1 && !(min..=max).contains(v) =>
            {
                refuse(format!("Value must be between {min} and {max} or equal to -1"))
            }
            (Bounds::PositiveOrMinusOne, Value::Number(v)) if *v != -1 && *v < 1 => {
                refuse("Value must be -1 for unlimited, or at least 1".to_owned())
            }
            (Bounds::Ratio(min, _), Value::Double(v)) if *v < min => {
                refuse(format!("Value must be at least {min}"))
            }
            (Bounds::Ratio(_, max), Value::Double(v)) if *v > max => {
                refuse(format!("Value must be no more than {max}"))
            }
            (Bounds::OneOf(choices), Value::Text(v)) if !choices.contains(&v.as_str()) => {
                refuse(one_of(choices))
            }
            (Bounds::OneOfAnyCase(choices), Value::Text(v))
                if !choices.iter().any(|c| c.eq_ignore_ascii_case(v)) =>
            {
                refuse(one_of(choices))
            }
            (Bounds::SubsetOf(choices), Value::List(items)) => {
                match items.iter().find(|item| !choices.contains(&item.as_str())) {
                    Some(stranger) => Err((stranger.clone(), one_of(choices))),
                    None => Ok(()),
                }
            }
            (Bounds::ThrottledReplicas, Value::List(items)) if !throttled_replicas(items) => Err((
                format!("[{}]", items.join(", ")),
                format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                ),
            )),
            (Bounds::NotEmpty, Value::Text(v)) if v.is_empty() => {
                refuse("String must be non-empty".to_owned())
            }
            (Bounds::NotEmpty, Value::List(v)) if v.is_empty() => {
                refuse("Configuration must not be empty".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn one_of(choices: &[&str]) -> String {
    format!("String must be one of: {}", choices.join(", "))
}

/// The items of a list value: separated by commas, blanks around them dropped, each item once.
pub fn split_list(raw: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let items = raw.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.filter(|item| seen.insert(*item)).map(str::to_owned).collect()
}

fn throttled_replicas(items: &[String]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    items == ["*"]
        || items.iter().all(|item| item.split_once(':').is_some_and(|(p, b)| number(p) && number(b)))
}
