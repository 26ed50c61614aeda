//! The reference page of all keys, made from their definitions.

use std::fmt::Write as _;

use super::broker::BROKER;
use super::def::{Bounds, Def, Dynamic, Kind, Status};
use super::topic::TOPIC;

const HEAD: &str = "# Configuration

<!-- Made by `moldau config reference`; change crates/base/src/config, then run `cargo xtask docs`. -->

A node reads `server.properties` (`moldau start --config FILE`), then variables of the environment, then
`--set key=value`; the later one wins. A variable is `MOLDAU_` and the key in capitals with dots as underscores:
`MOLDAU_NUM_PARTITIONS`; keys that begin with `moldau.` do not say it twice: `MOLDAU_SHARDS`. A variable that begins with
`MOLDAU_` and is no key is refused, except for `MOLDAU_LOG` (the log filter, such as `debug`), `MOLDAU_CONFIG` and
`MOLDAU_BOOTSTRAP_SERVER` (defaults of the command line), and what Kubernetes sets for a service called `moldau`.
`moldau config check` says what a node would be started with.

Keys, types, defaults and bounds are those of Apache Kafka 4.3; the keys of Moldau alone are `cluster.id` and
`moldau.*`. What a key does here is one of three things:

- **honoured**: it does what it says;
- **no effect**: it steers a part of Kafka that does not exist here; it is accepted, with one warning line at start;
- **refused**: its promise would not be kept; only the values that promise nothing are accepted.

*Dynamic* keys can be changed while brokers run (`kafka-configs`, `moldau topics alter`), the others at start.
";

/// The page, in Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Topics' own keys\n\nSet when a topic is created, or later. The broker key in brackets gives the default.\n\n");
    table(&mut page, TOPIC);
    for (group, keys) in BROKER {
        let _ = write!(page, "\n## {}\n\n", group.title());
        table(&mut page, keys);
    }
    page
}

fn table(page: &mut String, keys: &[Def]) {
    page.push_str("| key | type | default | allowed | here | what it does |\n|---|---|---|---|---|---|\n");
    for def in keys.iter().filter(|def| !def.hidden) {
        let _ = writeln!(
            page,
            "| `{}`{} | {} | {} | {} | {} | {} |",
            def.name,
            synonyms(def),
            kind(def),
            default(def),
            bounds(def.bounds),
            status(def),
            cell(def.help)
        );
    }
}

fn synonyms(def: &Def) -> String {
    if def.synonyms.is_empty() {
        return String::new();
    }
    let names: Vec<String> = def.synonyms.iter().map(|(name, _)| format!("`{name}`")).collect();
    format!(" ({})", names.join(", "))
}

fn kind(def: &Def) -> String {
    let name = match def.kind {
        Kind::Bool => "boolean",
        Kind::Text => "string",
        Kind::Int => "int",
        Kind::Short => "short",
        Kind::Long => "long",
        Kind::Double => "double",
        Kind::List => "list",
        Kind::Class => "class",
        Kind::Password => "password",
    };
    match def.unit.symbol() {
        "" => name.to_owned(),
        unit => format!("{name}, {unit}"),
    }
}

fn default(def: &Def) -> String {
    match def.default {
        None => "–".to_owned(),
        Some("") => "empty".to_owned(),
        Some("9223372036854775807" | "2147483647" | "1.7976931348623157E308") => "no limit".to_owned(),
        Some(default) => format!("`{default}`"),
    }
}

fn bounds(bounds: Bounds) -> String {
    let texts = |choices: &[&str]| choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    match bounds {
        Bounds::Any => String::new(),
        Bounds::AtLeast(min) => format!("≥ {min}"),
        Bounds::Between(min, max) => format!("{min} to {max}"),
        Bounds::BetweenOrMinusOne(min, max) => format!("{min} to {max}, or -1"),
        Bounds::PositiveOrMinusOne => "≥ 1, or -1".to_owned(),
        Bounds::Ratio(min, max) => format!("{min} to {max}"),
        Bounds::OneOf(choices) | Bounds::OneOfAnyCase(choices) => texts(choices),
        Bounds::SubsetOf(choices) => format!("some of {}", texts(choices)),
        Bounds::ThrottledReplicas => "`*` or `partition:broker` pairs".to_owned(),
        Bounds::NotEmpty => "not empty".to_owned(),
    }
}

fn status(def: &Def) -> String {
    let dynamic = if def.dynamic == Dynamic::ClusterWide { ", dynamic" } else { "" };
    match def.status {
        Status::Honoured => format!("honoured{dynamic}"),
        Status::NoMeaning(reason) => format!("no effect: {}", cell(reason)),
        Status::Refused { fine: [], reason } => format!("refused: {}", cell(reason)),
        Status::Refused { fine, reason } => {
            let show =
                |value: &&str| if value.is_empty() { "empty".to_owned() } else { format!("`{value}`") };
            let values: Vec<String> = fine.iter().map(show).collect();
            format!("refused unless {}: {}", values.join(" or "), cell(reason))
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
