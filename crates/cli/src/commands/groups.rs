//! `moldau groups`: list, describe, reset, delete.

use std::collections::BTreeMap;

use anyhow::bail;
use moldau_client::{Client, CommittedOffset, GroupDescription, GroupListing, Position};
use serde_json::{Value, json};

use crate::args::{Format, Global, Groups, GroupsAction};
use crate::commands::topics::existing;
use crate::commands::{connect, position};
use crate::output;

/// Runs the command.
pub async fn run(global: &Global, arguments: Groups) -> anyhow::Result<()> {
    let client = connect(global).await?;
    match arguments.action {
        GroupsAction::List => list(global.output, &client).await,
        GroupsAction::Describe { group } => describe(global.output, &client, &group).await,
        GroupsAction::Reset { group, topic, to } => {
            reset(global.output, &client, &group, &topic, position(&to)?).await
        }
        GroupsAction::Delete { group } => {
            client.delete_group(&group).await?;
            let json = json!({ "group": group, "deleted": true });
            output::done(global.output, &format!("deleted group {group}"), &json)
        }
    }
}

async fn list(format: Format, client: &Client) -> anyhow::Result<()> {
    let groups = client.list_groups().await?;
    let row = |group: &GroupListing| vec![group.id.clone(), group.state.clone(), group.protocol_type.clone()];
    let object = |group: &GroupListing| json!({ "group": group.id, "state": group.state, "protocol_type": group.protocol_type });
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    let json: Vec<Value> = groups.iter().map(object).collect();
    output::show(format, &["group", "state", "protocol"], &rows, &json!(json))
}

/// A partition that a group has read or is reading.
struct Line {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: i64,
    member: Option<String>,
}

impl Line {
    fn lag(&self) -> Option<i64> {
        self.committed.map(|committed| (self.end - committed).max(0))
    }
}

async fn describe(format: Format, client: &Client, group: &str) -> anyhow::Result<()> {
    let description = client.describe_group(group).await?;
    let committed = client.committed(group).await?;
    if description.state == "Dead" && committed.is_empty() {
        bail!("there is no group {group}; `moldau groups list` shows them");
    }
    let lines = lines(client, &description, &committed).await?;
    let shown = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    if format == Format::Json {
        let object = |line: &Line| {
            json!({
                "topic": line.topic, "partition": line.partition, "committed": line.committed, "end": line.end,
                "lag": line.lag(), "member": line.member,
            })
        };
        let partitions: Vec<Value> = lines.iter().map(object).collect();
        let member = |member: &moldau_client::GroupMember| {
            json!({
                "id": member.id, "instance_id": member.instance_id, "client_id": member.client_id,
                "host": member.host,
            })
        };
        let members: Vec<Value> = description.members.iter().map(member).collect();
        let json = json!({
            "group": group, "state": description.state, "protocol_type": description.protocol_type,
            "assignor": description.assignor, "members": members, "partitions": partitions,
        });
        return output::line(&serde_json::to_string_pretty(&json)?);
    }
    let members = description.members.len();
    output::line(&format!(
        "group {group}: {}, {members} members, assignor {}\n",
        description.state, description.assignor
    ))?;
    let row = |line: &Line| {
        let member = line.member.clone().unwrap_or_else(|| "-".to_owned());
        let partition = line.partition.to_string();
        let (committed, lag) = (shown(line.committed), shown(line.lag()));
        vec![line.topic.clone(), partition, committed, line.end.to_string(), lag, member]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    output::line(&output::table(&["topic", "partition", "committed", "end", "lag", "member"], &rows))
}

async fn lines(
    client: &Client,
    description: &GroupDescription,
    committed: &[CommittedOffset],
) -> anyhow::Result<Vec<Line>> {
    type Known = (Option<i64>, Option<String>);
    let mut known: BTreeMap<(String, i32), Known> = BTreeMap::new();
    for offset in committed {
        known.entry((offset.topic.clone(), offset.partition)).or_default().0 = Some(offset.offset);
    }
    for member in &description.members {
        for place in &member.partitions {
            known.entry(place.clone()).or_default().1 = Some(member.id.clone());
        }
    }
    let mut lines = Vec::new();
    for ((topic, partition), (committed, member)) in known {
        // A topic that was deleted has offsets and no end.
        let Ok(found) = client.topic(&topic, false).await else { continue };
        if found.partitions.iter().any(|p| p.index == partition) {
            let end = client.offset_at(&topic, partition, -1).await?.0;
            lines.push(Line { topic, partition, committed, end, member });
        }
    }
    Ok(lines)
}

async fn reset(format: Format, client: &Client, group: &str, name: &str, to: Position) -> anyhow::Result<()> {
    let state = client.describe_group(group).await.map(|description| description.state).unwrap_or_default();
    if !["", "Empty", "Dead"].contains(&state.as_str()) {
        bail!("group {group} has members; stop them first, or they would commit over it");
    }
    let topic = existing(client, name).await?;
    let mut offsets = Vec::new();
    for partition in &topic.partitions {
        let (index, end) = (partition.index, client.offset_at(name, partition.index, -1).await?.0);
        let start = client.offset_at(name, index, -2).await?.0;
        let offset = match to {
            Position::Beginning => start,
            Position::End => end,
            Position::Offset(offset) => offset.clamp(start, end),
            Position::Time(timestamp) => match client.offset_at(name, index, timestamp).await?.0 {
                -1 => end,
                offset => offset,
            },
        };
        offsets.push(CommittedOffset { topic: name.to_owned(), partition: index, offset });
    }
    client.reset_offsets(group, &offsets).await?;
    let row = |offset: &CommittedOffset| {
        vec![offset.topic.clone(), offset.partition.to_string(), offset.offset.to_string()]
    };
    let object = |offset: &CommittedOffset| json!({ "topic": offset.topic, "partition": offset.partition, "committed": offset.offset });
    let rows: Vec<Vec<String>> = offsets.iter().map(row).collect();
    let json: Vec<Value> = offsets.iter().map(object).collect();
    output::show(format, &["topic", "partition", "committed"], &rows, &json!(json))
}
