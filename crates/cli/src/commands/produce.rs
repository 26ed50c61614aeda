//! `moldau produce`: a record for each line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use moldau_client::{Codec, Delivery, Message, Producer, ProducerOptions, partition_of};
use serde_json::json;
use tokio::sync::mpsc;

use crate::args::{Acks, Compression, Global, Produce};
use crate::commands::connect;
use crate::output;
use crate::progress::Progress;

/// Longest line; a broker takes no larger record by default.
const LINE_BYTES: u64 = 64 << 20;
/// Lines that were read and not yet taken by the producer.
const QUEUED_LINES: usize = 1_000;
/// Records without a key stay with one partition for so many records.
const STICKY: u64 = 500;

/// What has become of the records so far.
#[derive(Default)]
struct Tally {
    acknowledged: u64,
    failed: u64,
    first_error: Option<String>,
}

impl Tally {
    fn add(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let count = u64::from(delivery.count.unsigned_abs());
            match delivery.outcome {
                Ok(_) => self.acknowledged += count,
                Err(error) => {
                    self.failed += count;
                    self.first_error.get_or_insert_with(|| error.to_string());
                }
            }
        }
    }
}

/// Runs the command.
pub async fn run(global: &Global, arguments: &Produce) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let topic = client.ready_topic(&arguments.topic, true).await?;
    let partitions = i32::try_from(topic.partitions.len())?;
    if let Some(partition) = arguments.partition.filter(|partition| *partition >= partitions) {
        bail!("topic {} has no partition {partition}: it has {partitions}, counted from 0", topic.name);
    }
    let mut producer = Producer::new(client, options(arguments)).await?;
    let (total, mut lines) = open(arguments.file.clone())?;
    let mut progress = Progress::of_bytes(total);
    let mut tally = Tally::default();
    let (mut read, mut count) = (0, 0);
    while let Some(line) = lines.recv().await {
        let line = line?;
        read += line.len() as u64;
        let message = message(&line, arguments.key_separator.as_deref());
        let partition = match (arguments.partition, message.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, partitions),
            (None, None) => i32::try_from(count / STICKY % u64::from(partitions.unsigned_abs()).max(1))?,
        };
        producer.send(&topic.name, partition, &message).await?;
        count += 1;
        tally.add(producer.deliveries());
        progress.set(read);
        if tally.failed > 0 {
            break;
        }
    }
    producer.flush().await?;
    tally.add(producer.deliveries());
    drop(progress);
    report(global, arguments, &tally)
}

fn report(global: &Global, arguments: &Produce, tally: &Tally) -> anyhow::Result<()> {
    if let Some(error) = &tally.first_error {
        bail!("{} records acknowledged, {} not: {error}", tally.acknowledged, tally.failed);
    }
    let json = json!({ "topic": arguments.topic, "records": tally.acknowledged });
    output::done(global.output, &format!("{} records to {}", tally.acknowledged, arguments.topic), &json)
}

fn options(arguments: &Produce) -> ProducerOptions {
    ProducerOptions {
        acks: match arguments.acks {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        },
        codec: match arguments.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        },
        ..ProducerOptions::default()
    }
}

type Lines = mpsc::Receiver<anyhow::Result<Vec<u8>>>;

/// Lines come from a thread of their own: reading them may block, sending records may not.
fn open(file: Option<PathBuf>) -> anyhow::Result<(Option<u64>, Lines)> {
    let (sender, lines) = mpsc::channel(QUEUED_LINES);
    let Some(path) = file else {
        std::thread::spawn(move || read_lines(std::io::stdin().lock(), &sender));
        return Ok((None, lines));
    };
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let total = file.metadata()?.len();
    std::thread::spawn(move || read_lines(BufReader::with_capacity(1 << 20, file), &sender));
    Ok((Some(total), lines))
}

fn read_lines(mut input: impl BufRead, lines: &mpsc::Sender<anyhow::Result<Vec<u8>>>) {
    loop {
        let mut line = Vec::new();
        let next = match input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(taken) if taken as u64 == LINE_BYTES => {
                Err(anyhow!("a line is longer than {}", output::bytes(LINE_BYTES)))
            }
            Ok(_) => Ok(line),
            Err(error) => Err(error.into()),
        };
        let last = next.is_err();
        if lines.blocking_send(next).is_err() || last {
            return;
        }
    }
}

fn message<'a>(line: &'a [u8], key_separator: Option<&str>) -> Message<'a> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let at = key_separator.filter(|text| !text.is_empty()).and_then(|text| {
        let at = line.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((at, at + text.len()))
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let (key, value) = match at {
        Some((end, from)) => (Some(&line[..end]), &line[from..]),
        None => (None, line),
    };
    Message { key, value: Some(value), headers: &[], timestamp }
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_line_is_a_value_or_a_key_and_a_value() {
        let plain = message(b"a:b\r\n", None);
        assert_eq!((plain.key, plain.value), (None, Some(&b"a:b"[..])));
        let keyed = message(b"a:b:c", Some(":"));
        assert_eq!((keyed.key, keyed.value), (Some(&b"a"[..]), Some(&b"b:c"[..])));
        let keyless = message(b"abc\n", Some(":"));
        assert_eq!((keyless.key, keyless.value), (None, Some(&b"abc"[..])));
    }
}
