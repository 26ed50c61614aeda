//! Where a value comes from. A topic key is looked for in the topic, then under its broker synonyms in the
//! broker's own dynamic configs, the cluster's dynamic configs, the file the broker was started with, and the
//! defaults; DescribeConfigs shows the whole ladder (KIP-226).

use std::collections::BTreeMap;

use super::broker::broker_key;
use super::def::{Def, Dynamic, Kind};

/// Keys with their texts, as a resource stores them.
pub type Values = BTreeMap<String, String>;

/// The layer that a value came from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set on this broker while it ran.
    DynamicBroker = 2,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker = 3,
    /// Set in the file or on the command line.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
}

impl Source {
    /// The number in a DescribeConfigs response.
    pub fn wire(self) -> i8 {
        self as i8
    }
}

/// The values of one broker, by layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerLayers {
    /// Set on this broker while it runs.
    pub dynamic: Values,
    /// Set for all brokers while they run.
    pub cluster: Values,
    /// From the file, the environment and the command line.
    pub fixed: Values,
    /// Defaults that depend on the machine or on other keys, in place of those of the definitions.
    pub derived: Values,
}

impl BrokerLayers {
    /// The value that somebody set under this very key.
    pub fn set(&self, name: &str) -> Option<(&str, Source)> {
        let layers = [
            (&self.dynamic, Source::DynamicBroker),
            (&self.cluster, Source::DynamicDefaultBroker),
            (&self.fixed, Source::StaticBroker),
        ];
        layers.into_iter().find_map(|(layer, source)| layer.get(name).map(|value| (value.as_str(), source)))
    }

    /// The value of a broker key, with its default.
    pub fn get(&self, def: &'static Def) -> (Option<&str>, Source) {
        match self.set(def.name) {
            Some((value, source)) => (Some(value), source),
            None => (self.default_of(def), Source::Default),
        }
    }

    fn default_of(&self, def: &'static Def) -> Option<&str> {
        self.derived.get(def.name).map(String::as_str).or(def.default)
    }
}

/// One step of the ladder of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The key on this step.
    pub name: &'static str,
    /// Its value; none for a secret.
    pub value: Option<String>,
    /// The layer.
    pub source: Source,
}

/// A key as DescribeConfigs shows it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The definition: type, help.
    pub def: &'static Def,
    /// The value in force; none for a secret and where nothing is set.
    pub value: Option<String>,
    /// The layer it came from.
    pub source: Source,
    /// True if it cannot be changed while the broker runs.
    pub read_only: bool,
    /// True if the value is never shown.
    pub sensitive: bool,
    /// Every layer that has a value, the strongest first.
    pub synonyms: Vec<Synonym>,
}

/// The value of a topic key: the topic's own, or that of the first synonym that is set, in the topic key's
/// unit, or the default.
pub fn topic_value(def: &'static Def, topic: &Values, broker: &BrokerLayers) -> (Option<String>, Source) {
    if let Some(value) = topic.get(def.name) {
        return (Some(value.clone()), Source::Topic);
    }
    for (name, factor) in def.synonyms {
        if let Some((value, source)) = broker.set(name) {
            return (Some(in_topic_unit(value, *factor)), source);
        }
    }
    let derived = def.synonyms.iter().find_map(|(name, factor)| Some((broker.derived.get(*name)?, *factor)));
    let value = derived.map(|(value, factor)| in_topic_unit(value, factor));
    (value.or_else(|| def.default.map(str::to_owned)), Source::Default)
}

/// -1 keeps its meaning of "no limit" in every unit.
fn in_topic_unit(value: &str, factor: i64) -> String {
    match value.trim().parse::<i64>() {
        Ok(number) if number > 0 && factor != 1 => number.saturating_mul(factor).to_string(),
        _ => value.trim().to_owned(),
    }
}

/// A topic key as DescribeConfigs shows it.
pub fn describe_topic_key(def: &'static Def, topic: &Values, broker: &BrokerLayers) -> Described {
    let (value, source) = topic_value(def, topic, broker);
    let mut synonyms = Vec::new();
    if let Some(value) = topic.get(def.name) {
        synonyms.push(Synonym { name: def.name, value: Some(value.clone()), source: Source::Topic });
    }
    let names: Vec<&'static str> = def.synonyms.iter().map(|(name, _)| *name).collect();
    synonyms.extend(ladder(&names, broker));
    Described { def, value, source, read_only: false, sensitive: false, synonyms }
}

/// A broker key as DescribeConfigs shows it.
pub fn describe_broker_key(def: &'static Def, broker: &BrokerLayers) -> Described {
    let (value, source) = broker.get(def);
    let sensitive = def.kind == Kind::Password;
    Described {
        def,
        value: value.map(str::to_owned).filter(|_| !sensitive),
        source,
        read_only: def.dynamic == Dynamic::ReadOnly,
        sensitive,
        synonyms: ladder(&[def.name], broker),
    }
}

/// A key that is set for all brokers, as DescribeConfigs of the broker resource without a name shows it; none
/// if it is not set there.
pub fn describe_cluster_key(def: &'static Def, broker: &BrokerLayers) -> Option<Described> {
    let sensitive = def.kind == Kind::Password;
    let value = broker.cluster.get(def.name).cloned().filter(|_| !sensitive);
    let source = Source::DynamicDefaultBroker;
    let synonyms = vec![Synonym { name: def.name, value: value.clone(), source }];
    let read_only = def.dynamic == Dynamic::ReadOnly;
    broker.cluster.contains_key(def.name).then_some(Described {
        def,
        value,
        source,
        read_only,
        sensitive,
        synonyms,
    })
}

fn ladder(names: &[&'static str], broker: &BrokerLayers) -> Vec<Synonym> {
    let defs: Vec<&'static Def> = names.iter().filter_map(|name| broker_key(name)).collect();
    let layers = [
        (&broker.dynamic, Source::DynamicBroker),
        (&broker.cluster, Source::DynamicDefaultBroker),
        (&broker.fixed, Source::StaticBroker),
    ];
    let shown = |def: &Def, value: &str| Some(value.to_owned()).filter(|_| def.kind != Kind::Password);
    let mut steps = Vec::new();
    for (layer, source) in layers {
        for def in &defs {
            if let Some(value) = layer.get(def.name) {
                steps.push(Synonym { name: def.name, value: shown(def, value), source });
            }
        }
    }
    for def in &defs {
        if let Some(value) = broker.default_of(def) {
            steps.push(Synonym { name: def.name, value: shown(def, value), source: Source::Default });
        }
    }
    steps
}
