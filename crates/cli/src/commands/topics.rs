//! `moldau topics`: list, create, describe, alter, delete.

use anyhow::{Context, bail};
use moldau_client::wire::ErrorCode;
use moldau_client::{Client, ConfigChange, NewTopic, Resource, Topic};
use serde_json::{Value, json};

use crate::args::{Format, Global, Topics, TopicsAction};
use crate::commands::{connect, pair};
use crate::output;

/// Runs the command.
pub async fn run(global: &Global, arguments: Topics) -> anyhow::Result<()> {
    let client = connect(global).await?;
    match arguments.action {
        TopicsAction::List { internal } => list(global.output, &client, internal).await,
        TopicsAction::Create { name, partitions, replication_factor, set, if_not_exists } => {
            let topic = NewTopic {
                name,
                partitions: partitions.unwrap_or(-1),
                replication_factor: replication_factor.unwrap_or(-1),
                configs: set.iter().map(|text| pair(text)).collect::<anyhow::Result<_>>()?,
            };
            create(global.output, &client, &topic, if_not_exists).await
        }
        TopicsAction::Describe { name, all_configs } => {
            describe(global.output, &client, &name, all_configs).await
        }
        TopicsAction::Alter { name, partitions, set, unset } => {
            alter(global.output, &client, &name, partitions, &changes(&set, unset)?).await
        }
        TopicsAction::Delete { name, if_exists } => delete(global.output, &client, &name, if_exists).await,
    }
}

fn changes(set: &[String], unset: Vec<String>) -> anyhow::Result<Vec<ConfigChange>> {
    let set = set.iter().map(|text| pair(text).map(|(key, value)| ConfigChange::Set(key, value)));
    set.chain(unset.into_iter().map(|key| Ok(ConfigChange::Delete(key)))).collect()
}

async fn list(format: Format, client: &Client, internal: bool) -> anyhow::Result<()> {
    let topics: Vec<Topic> =
        client.topics().await?.into_iter().filter(|topic| internal || !topic.internal).collect();
    let replicas = |topic: &Topic| topic.partitions.iter().map(|p| p.replicas.len()).min().unwrap_or(0);
    let row = |topic: &Topic| {
        vec![
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replicas(topic).to_string(),
            topic.id.to_string(),
        ]
    };
    let object = |topic: &Topic| {
        json!({
            "name": topic.name,
            "id": topic.id.to_string(),
            "partitions": topic.partitions.len(),
            "replication_factor": replicas(topic),
            "internal": topic.internal,
        })
    };
    let rows: Vec<Vec<String>> = topics.iter().map(row).collect();
    let json: Vec<Value> = topics.iter().map(object).collect();
    output::show(format, &["topic", "partitions", "replicas", "id"], &rows, &json!(json))
}

async fn create(
    format: Format,
    client: &Client,
    topic: &NewTopic,
    if_not_exists: bool,
) -> anyhow::Result<()> {
    let partitions = match client.create_topic(topic).await {
        Err(error) if if_not_exists && error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
            let sentence = format!("topic {} is there already", topic.name);
            return output::done(format, &sentence, &json!({ "name": topic.name, "created": false }));
        }
        created => created?,
    };
    let sentence = match partitions {
        1 => format!("created topic {} with 1 partition", topic.name),
        0.. => format!("created topic {} with {partitions} partitions", topic.name),
        _ => format!("created topic {}", topic.name),
    };
    output::done(format, &sentence, &json!({ "name": topic.name, "created": true, "partitions": partitions }))
}

async fn describe(format: Format, client: &Client, name: &str, all_configs: bool) -> anyhow::Result<()> {
    let topic = existing(client, name).await?;
    let configs = client.describe_configs(&Resource::Topic(name.to_owned())).await?;
    let shown: Vec<_> = configs.into_iter().filter(|config| all_configs || config.is_own()).collect();
    let mut partitions = Vec::new();
    for partition in &topic.partitions {
        let (start, end) = match partition.leader {
            0.. => (
                client.offset_at(name, partition.index, -2).await?.0,
                client.offset_at(name, partition.index, -1).await?.0,
            ),
            _ => (-1, -1),
        };
        partitions.push((partition, start, end));
    }
    if format == Format::Json {
        let object = |(p, start, end): &(&moldau_client::Partition, i64, i64)| {
            json!({
                "partition": p.index, "leader": p.leader, "leader_epoch": p.leader_epoch, "replicas": p.replicas,
                "in_sync": p.in_sync, "offline": p.offline, "start_offset": start, "end_offset": end,
            })
        };
        let configs: serde_json::Map<String, Value> =
            shown.iter().map(|config| (config.name.clone(), json!(config.value))).collect();
        let partitions: Vec<Value> = partitions.iter().map(object).collect();
        let id = topic.id.to_string();
        let json = json!({ "name": name, "id": id, "partitions": partitions, "configs": configs });
        return output::line(&serde_json::to_string_pretty(&json)?);
    }
    output::line(&format!("topic {name}, id {}\n", topic.id))?;
    if !shown.is_empty() {
        let row = |config: &moldau_client::ConfigEntry| {
            vec![config.name.clone(), config.value.clone().unwrap_or_else(|| "-".to_owned())]
        };
        let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
        output::line(&format!("{}\n", output::table(&["config", "value"], &rows)))?;
    }
    let row = |(p, start, end): &(&moldau_client::Partition, i64, i64)| {
        let leader = if p.leader < 0 { "none".to_owned() } else { p.leader.to_string() };
        vec![
            p.index.to_string(),
            leader,
            ids(&p.replicas),
            ids(&p.in_sync),
            start.to_string(),
            end.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = partitions.iter().map(row).collect();
    output::line(&output::table(&["partition", "leader", "replicas", "in sync", "start", "end"], &rows))
}

fn ids(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn alter(
    format: Format,
    client: &Client,
    name: &str,
    partitions: Option<i32>,
    changes: &[ConfigChange],
) -> anyhow::Result<()> {
    if partitions.is_none() && changes.is_empty() {
        bail!("nothing to change: give --partitions, --set or --unset");
    }
    existing(client, name).await?;
    if !changes.is_empty() {
        client.alter_configs(&Resource::Topic(name.to_owned()), changes).await?;
    }
    if let Some(count) = partitions {
        client.create_partitions(name, count).await?;
    }
    output::done(format, &format!("changed topic {name}"), &json!({ "name": name, "changed": true }))
}

async fn delete(format: Format, client: &Client, name: &str, if_exists: bool) -> anyhow::Result<()> {
    match client.delete_topic(name).await {
        Err(error) if if_exists && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
            let sentence = format!("there is no topic {name}");
            output::done(format, &sentence, &json!({ "name": name, "deleted": false }))
        }
        Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Err(no_such_topic(name)),
        deleted => {
            deleted?;
            output::done(format, &format!("deleted topic {name}"), &json!({ "name": name, "deleted": true }))
        }
    }
}

/// The topic, or an error that says how to get one.
pub async fn existing(client: &Client, name: &str) -> anyhow::Result<Topic> {
    match client.topic(name, false).await {
        Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Err(no_such_topic(name)),
        found => found.with_context(|| format!("topic {name}")),
    }
}

fn no_such_topic(name: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "there is no topic {name}; `moldau topics list` shows them, `moldau topics create {name}` makes it"
    )
}
