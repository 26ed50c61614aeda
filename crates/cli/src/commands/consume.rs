//! `moldau consume`: records to standard output, from chosen positions or as a member of a group.

use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Write};

use anyhow::bail;
use moldau_client::{Client, Fetched, Fetcher, Member, MemberOptions, Record};
use serde_json::json;

use crate::args::{Consume, Format, Global};
use crate::commands::topics::existing;
use crate::commands::{connect, position};
use crate::output;
use crate::progress::Progress;

/// Runs the command.
pub async fn run(global: &Global, arguments: &Consume) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let mut printer = Printer::new(global, arguments);
    let done = match &arguments.group {
        Some(group) => in_group(&client, arguments, group, &mut printer).await,
        None => alone(&client, arguments, &mut printer).await,
    };
    printer.out.flush()?;
    done
}

async fn alone(client: &Client, arguments: &Consume, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let from = position(&arguments.from)?;
    let mut fetcher = Fetcher::new(client.clone());
    fetcher.read_committed = arguments.read_committed;
    for name in &arguments.topics {
        existing(client, name).await?;
        let topic = client.ready_topic(name, false).await?;
        let wanted = |index: i32| arguments.partition.is_none_or(|partition| partition == index);
        if !topic.partitions.iter().any(|partition| wanted(partition.index)) {
            bail!("topic {name} has {} partitions, counted from 0", topic.partitions.len());
        }
        for partition in topic.partitions.iter().filter(|partition| wanted(partition.index)) {
            fetcher.seek(name, partition.index, from).await?;
        }
    }
    let ends = match arguments.until_end {
        true => Some(ends(client, fetcher.positions()).await?),
        false => None,
    };
    // Records on a terminal are progress enough.
    let silent = arguments.until_end && !std::io::stdout().is_terminal();
    let mut progress =
        silent.then(|| Progress::of_records(ends.as_ref().map(|e| behind(e, fetcher.positions()))));
    let total = ends.as_ref().map_or(0, |ends| behind(ends, fetcher.positions()));
    loop {
        if let (Some(progress), Some(ends)) = (&mut progress, &ends) {
            progress.set(total.saturating_sub(behind(ends, fetcher.positions())));
        }
        if is_at(&ends, fetcher.positions()) {
            return Ok(());
        }
        tokio::select! {
            fetched = fetcher.poll() => {
                if !printer.print(&fetched?)? {
                    return Ok(());
                }
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn in_group(
    client: &Client,
    arguments: &Consume,
    group: &str,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    for topic in &arguments.topics {
        existing(client, topic).await?;
    }
    let mut options = MemberOptions::new(group, &arguments.topics);
    options.start = position(&arguments.from)?;
    let mut member = Member::new(client.clone(), options);
    member.fetcher().read_committed = arguments.read_committed;
    let done = read_in_group(client, arguments, &mut member, printer).await;
    let left = member.leave().await;
    done?;
    Ok(left?)
}

/// Commits what was printed, after it was printed.
async fn read_in_group(
    client: &Client,
    arguments: &Consume,
    member: &mut Member,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let mut known: Option<(i32, Ends)> = None;
    loop {
        tokio::select! {
            fetched = member.poll() => {
                let goes_on = printer.print(&fetched?)?;
                printer.out.flush()?;
                if member.commit().await? && !goes_on {
                    return Ok(());
                }
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        if !arguments.until_end {
            continue;
        }
        if known.as_ref().is_none_or(|(generation, _)| *generation != member.generation()) {
            let generation = member.generation();
            known = Some((generation, ends(client, member.positions()).await?));
        }
        let ends = known.as_ref().map(|(_, ends)| ends.clone());
        if member.generation() >= 0 && is_at(&ends, member.positions()) {
            return Ok(());
        }
    }
}

type Ends = BTreeMap<(String, i32), i64>;

async fn ends(client: &Client, positions: impl Iterator<Item = (&str, i32, i64)>) -> anyhow::Result<Ends> {
    let mut ends = Ends::new();
    for (topic, partition, _) in positions {
        let end = client.offset_at(topic, partition, -1).await?.0;
        ends.insert((topic.to_owned(), partition), end);
    }
    Ok(ends)
}

/// Offsets between the positions and the ends.
fn behind<'a>(ends: &Ends, positions: impl Iterator<Item = (&'a str, i32, i64)>) -> u64 {
    positions
        .map(|(topic, partition, offset)| {
            let end = ends.get(&(topic.to_owned(), partition)).copied().unwrap_or(offset);
            u64::try_from(end - offset).unwrap_or(0)
        })
        .sum()
}

fn is_at<'a>(ends: &Option<Ends>, mut positions: impl Iterator<Item = (&'a str, i32, i64)>) -> bool {
    let Some(ends) = ends else { return false };
    positions.all(|(topic, partition, offset)| {
        ends.get(&(topic.to_owned(), partition)).is_none_or(|end| offset >= *end)
    })
}

struct Printer<'a> {
    out: BufWriter<std::io::Stdout>,
    format: Format,
    key_separator: Option<&'a str>,
    left: Option<u64>,
}

impl<'a> Printer<'a> {
    fn new(global: &Global, arguments: &'a Consume) -> Printer<'a> {
        Printer {
            out: BufWriter::with_capacity(64 << 10, std::io::stdout()),
            format: global.output,
            key_separator: arguments.key_separator.as_deref(),
            left: arguments.max,
        }
    }

    /// Prints records; false once it has printed as many as were asked for.
    fn print(&mut self, fetched: &[Fetched]) -> anyhow::Result<bool> {
        for partition in fetched {
            for record in &partition.records {
                if self.left == Some(0) {
                    break;
                }
                self.record(partition, record)?;
                self.left = self.left.map(|left| left - 1);
            }
        }
        self.out.flush()?;
        Ok(self.left != Some(0))
    }

    fn record(&mut self, of: &Fetched, record: &Record) -> anyhow::Result<()> {
        if self.format == Format::Json {
            let header = |(key, value): (bytes::Bytes, Option<bytes::Bytes>)| {
                json!([output::json_bytes(Some(&key)), output::json_bytes(value.as_deref())])
            };
            let headers: Vec<serde_json::Value> = record.headers.clone().map(header).collect();
            let object = json!({
                "topic": of.topic, "partition": of.partition, "offset": record.offset,
                "timestamp": record.timestamp, "key": output::json_bytes(record.key.as_deref()),
                "value": output::json_bytes(record.value.as_deref()), "headers": headers,
            });
            serde_json::to_writer(&mut self.out, &object)?;
        } else {
            if let Some(separator) = self.key_separator {
                self.out.write_all(record.key.as_deref().unwrap_or_default())?;
                self.out.write_all(separator.as_bytes())?;
            }
            self.out.write_all(record.value.as_deref().unwrap_or_default())?;
        }
        Ok(self.out.write_all(b"\n")?)
    }
}
