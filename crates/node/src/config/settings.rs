//! Settings with the place they came from, and the check of each by its definition.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use moldau_base::config::{
    Def, Invalid, Status, TOPIC, Value, broker_key, broker_keys, nearest, properties, topic_key,
};

use super::Problem;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File {
        /// The file as it was named.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// The file as a whole.
    WholeFile(String),
    /// A variable of the environment.
    Environment(String),
    /// An argument `--set`.
    CommandLine(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::WholeFile(path) => f.write_str(path),
            Origin::Environment(name) => f.write_str(name),
            Origin::CommandLine(argument) => write!(f, "--set {argument}"),
        }
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it was written.
    pub origin: Origin,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Variables that begin with `MOLDAU_` and are no keys: the log filter, and defaults of the command line.
const NOT_KEYS: &[&str] = &["MOLDAU_LOG", "MOLDAU_CONFIG", "MOLDAU_BOOTSTRAP_SERVER"];

/// What Kubernetes sets in every container beside a service that is called `moldau`.
const KUBERNETES: &[&str] = &["MOLDAU_SERVICE_", "MOLDAU_PORT"];

pub(super) fn from_file(path: &Path) -> Result<Vec<Setting>, Problem> {
    let shown = path.display().to_string();
    let whole = |message: String| Problem { origin: Some(Origin::WholeFile(shown.clone())), message };
    let bytes = std::fs::read(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let read = properties::parse(&bytes).map_err(|error| whole(error.to_string()))?;
    let setting = |p: properties::Property| Setting {
        origin: Origin::File { path: shown.clone(), line: p.line },
        key: p.key,
        value: p.value,
    };
    Ok(read.into_iter().map(setting).collect())
}

/// `MOLDAU_` and the key in capitals, dots as underscores; a key that begins with `moldau.` says it once.
pub(super) fn variable(key: &str) -> String {
    let bare = key.strip_prefix("moldau.").unwrap_or(key);
    format!("MOLDAU_{}", bare.to_ascii_uppercase().replace('.', "_"))
}

pub(super) fn from_environment(
    environment: &[(String, String)],
    settings: &mut Vec<Setting>,
    problems: &mut Vec<Problem>,
) {
    let keys: BTreeMap<String, &'static str> =
        broker_keys().map(|def| (variable(def.name), def.name)).collect();
    for (name, value) in environment {
        let foreign = NOT_KEYS.contains(&name.as_str()) || KUBERNETES.iter().any(|p| name.starts_with(p));
        if !name.starts_with("MOLDAU_") || foreign {
            continue;
        }
        let origin = Origin::Environment(name.clone());
        match keys.get(name.as_str()) {
            Some(key) => settings.push(Setting { origin, key: (*key).to_owned(), value: value.clone() }),
            None => {
                let hint = match nearest(name, keys.keys().map(String::as_str)) {
                    Some(near) => format!("; did you mean {near}?"),
                    None => {
                        "; a variable is MOLDAU_ and a key in capitals with dots as underscores".to_owned()
                    }
                };
                problems
                    .push(Problem { origin: Some(origin), message: format!("there is no such key{hint}") });
            }
        }
    }
}

pub(super) fn from_command_line(sets: &[String], settings: &mut Vec<Setting>, problems: &mut Vec<Problem>) {
    for argument in sets {
        let origin = Origin::CommandLine(argument.clone());
        match argument.split_once('=') {
            Some((key, value)) => {
                settings.push(Setting { origin, key: key.trim().to_owned(), value: value.to_owned() });
            }
            None => problems.push(Problem {
                origin: Some(origin),
                message: "write it as key=value, such as --set num.partitions=3".to_owned(),
            }),
        }
    }
}

/// A value that passed the check of its definition.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub origin: Origin,
    pub value: Value,
}

/// Settings that passed, and what was found on the way.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub taken: BTreeMap<&'static str, Taken>,
    pub warnings: Vec<String>,
    pub problems: Vec<Problem>,
}

impl Checked {
    /// Checks one setting; a later one of the same key wins.
    pub fn take(&mut self, setting: &Setting) {
        match judge(setting) {
            Ok(Judged::Key(def, value, warning)) => {
                self.warn_of_repeat(def, setting);
                self.warnings.extend(warning.map(|reason| no_effect(setting, reason)));
                self.taken.insert(def.name, Taken { origin: setting.origin.clone(), value });
            }
            Ok(Judged::WithoutMeaning(reason)) => self.warnings.push(no_effect(setting, reason)),
            Err(message) => self.problem(Some(&setting.origin), message),
        }
    }

    /// Notes what is wrong.
    pub fn problem(&mut self, origin: Option<&Origin>, message: String) {
        self.problems.push(Problem { origin: origin.cloned(), message });
    }

    /// The place where this key was set.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.taken.get(key).map(|taken| &taken.origin)
    }

    fn warn_of_repeat(&mut self, def: &Def, setting: &Setting) {
        let earlier = self.taken.get(def.name).map(|taken| &taken.origin);
        if let (Some(Origin::File { line, .. }), Origin::File { .. }) = (earlier, &setting.origin) {
            self.warnings.push(format!("{}: {} replaces the value of line {line}", setting.origin, def.name));
        }
    }
}

fn no_effect(setting: &Setting, reason: &str) -> String {
    format!("{}: {} has no effect: {reason}", setting.origin, setting.key)
}

enum Judged {
    Key(&'static Def, Value, Option<&'static str>),
    WithoutMeaning(&'static str),
}

fn judge(setting: &Setting) -> Result<Judged, String> {
    let key = setting.key.as_str();
    if let Some(def) = broker_key(key) {
        let accepted = def.accept(&setting.value).map_err(|refusal| with_fix(def, &refusal))?;
        return Ok(Judged::Key(def, accepted.value, accepted.warning));
    }
    if let Some(rest) = key.strip_prefix("listener.name.") {
        return of_one_listener(rest);
    }
    if key.starts_with("rsm.config.") || key.starts_with("rlmm.config.") {
        return Ok(Judged::WithoutMeaning("there is no tiered storage yet"));
    }
    if let Some((_, advice)) = REMOVED.iter().find(|(name, _)| *name == key) {
        return Err(format!("{key} is a key of Kafka before 4.0; {advice}"));
    }
    Err(unknown(key))
}

/// Keys that a file of an older Kafka may still have.
const REMOVED: &[(&str, &str)] = &[
    ("zookeeper.connect", "the metadata is kept in the node itself: remove the line"),
    ("zookeeper.connection.timeout.ms", "the metadata is kept in the node itself: remove the line"),
    ("zookeeper.session.timeout.ms", "the metadata is kept in the node itself: remove the line"),
    ("zookeeper.set.acl", "the metadata is kept in the node itself: remove the line"),
    ("inter.broker.protocol.version", "remove the line"),
    (
        "log.message.format.version",
        "records are stored in format 2, as Kafka has done since 0.11: remove the line",
    ),
    ("log.message.timestamp.difference.max.ms", "use log.message.timestamp.before.max.ms and .after.max.ms"),
    ("host.name", "use listeners=PLAINTEXT://HOST:PORT"),
    ("port", "use listeners=PLAINTEXT://HOST:PORT"),
    ("advertised.host.name", "use advertised.listeners=PLAINTEXT://HOST:PORT"),
    ("advertised.port", "use advertised.listeners=PLAINTEXT://HOST:PORT"),
];

/// A key of a single listener: what would be kept for all of them is not kept for one.
fn of_one_listener(rest: &str) -> Result<Judged, String> {
    let known = rest.match_indices('.').find_map(|(at, _)| broker_key(without_mechanism(&rest[at + 1..])));
    match known.map(|def| (def, def.status)) {
        Some((_, Status::NoMeaning(reason))) => Ok(Judged::WithoutMeaning(reason)),
        Some((def, _)) => {
            Err(format!("{} cannot be set for one listener; set {} for all of them", def.name, def.name))
        }
        None => Err(unknown(&format!("listener.name.{rest}"))),
    }
}

/// `plain.sasl.jaas.config` is `sasl.jaas.config` of the mechanism PLAIN.
fn without_mechanism(key: &str) -> &str {
    const MECHANISMS: &[&str] = &["plain.", "scram-sha-256.", "scram-sha-512.", "oauthbearer.", "gssapi."];
    MECHANISMS.iter().find_map(|mechanism| key.strip_prefix(mechanism)).unwrap_or(key)
}

fn unknown(key: &str) -> String {
    if let Some(def) = topic_key(key) {
        let broker = def.synonyms.first().map(|(name, _)| *name);
        return match broker {
            Some(name) => format!("{key} is a key of topics; its default for all topics is set with {name}"),
            None => format!("{key} is a key of topics; set it when a topic is created"),
        };
    }
    let names = broker_keys().chain(TOPIC).map(|def| def.name);
    match nearest(key, names) {
        Some(near) => format!("there is no key {key}; did you mean {near}?"),
        None => format!("there is no key {key}; `moldau config reference` lists them all"),
    }
}

fn with_fix(def: &Def, refusal: &Invalid) -> String {
    match (refusal, def.default) {
        (Invalid::Value { .. }, Some(default)) if !default.is_empty() => {
            format!("{refusal} (default: {default})")
        }
        _ => refusal.to_string(),
    }
}
