//! The paced load of the demonstration, and what is read back of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use moldau_client::{Client, Fetcher, Message, Position, Producer, ProducerOptions};
use tokio::time::Instant;

/// How often what is due is sent.
const TICK: Duration = Duration::from_millis(1);
/// What one character of the picture stands for.
const WINDOW: Duration = Duration::from_millis(100);
/// How long reading back may take.
const READ: Duration = Duration::from_secs(60);

/// An acknowledged record.
#[derive(Clone, Copy, Debug)]
struct Ack {
    offset: i64,
    number: u64,
    at: Instant,
}

/// Numbered records at a steady rate.
pub struct Load {
    producer: Producer,
    topic: &'static str,
    rate: f64,
    began: Instant,
    /// Sent since it was begun, and before.
    sent: [u64; 2],
    acks: Vec<Ack>,
}

impl Load {
    pub async fn new(client: Client, topic: &'static str, rate: u32) -> anyhow::Result<Load> {
        let options = ProducerOptions { linger: TICK, ..ProducerOptions::default() };
        let producer = Producer::new(client, options).await?;
        Ok(Load {
            producer,
            topic,
            rate: f64::from(rate),
            began: Instant::now(),
            sent: [0; 2],
            acks: Vec::new(),
        })
    }

    /// Begins a stretch of load: what was not sent in the pause before is not due.
    pub fn begin(&mut self) {
        self.began = Instant::now();
        self.sent = [0, self.sent[0] + self.sent[1]];
    }

    /// Load for the time of one character; how many acknowledgements came.
    pub async fn window(&mut self) -> anyhow::Result<usize> {
        let (until, before) = (Instant::now() + WINDOW, self.acks.len());
        while Instant::now() < until {
            while (self.sent[0] as f64) < self.began.elapsed().as_secs_f64() * self.rate {
                self.send().await?;
            }
            self.note()?;
            tokio::time::sleep(TICK).await;
        }
        Ok(self.acks.len() - before)
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        let number = (self.sent[0] + self.sent[1]).to_string();
        let timestamp = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let message = Message { key: None, value: Some(number.as_bytes()), headers: &[], timestamp };
        self.producer.send(self.topic, 0, &message).await?;
        self.sent[0] += 1;
        Ok(())
    }

    /// Waits until everything that was sent is acknowledged.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        self.producer.flush().await?;
        self.note()
    }

    fn note(&mut self) -> anyhow::Result<()> {
        let at = Instant::now();
        for delivery in self.producer.deliveries() {
            let first = delivery.outcome.context("a record was given up")?;
            ensure!(first >= 0, "the broker does not tell the offset of a record");
            let records = 0..delivery.count.unsigned_abs();
            let ack =
                |n: u32| Ack { offset: first + i64::from(n), number: delivery.first + u64::from(n), at };
            self.acks.extend(records.map(ack));
        }
        Ok(())
    }

    /// How many records were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acks.len()
    }

    /// When the last acknowledgement came.
    pub fn last(&self) -> Instant {
        self.acks.last().map_or(self.began, |ack| ack.at)
    }

    /// The longest time without an acknowledgement that ended after `since`.
    pub fn largest_gap(&self, since: Instant) -> Duration {
        let pairs = self.acks.windows(2).filter(|pair| pair[1].at > since);
        pairs.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
    }
}

/// What is read of the topic: the number of the record at each offset.
pub struct ReadBack {
    client: Client,
    topic: &'static str,
    numbers: Vec<u64>,
}

impl ReadBack {
    pub fn new(client: Client, topic: &'static str) -> ReadBack {
        ReadBack { client, topic, numbers: Vec::new() }
    }

    /// Reads on, and says how many acknowledged records from the one at place `first` on are not there or are others.
    pub async fn compare(&mut self, load: &Load, first: usize) -> anyhow::Result<usize> {
        let acks = &load.acks[first..];
        let end = acks.iter().map(|ack| ack.offset + 1).max().unwrap_or(0);
        let from = self.numbers.len();
        let more = self.read(i64::try_from(from)?, end).await?;
        self.numbers.extend(more);
        Ok(missing(&self.numbers, acks))
    }

    /// Reads everything once more; how many acknowledged records are not there or are others, or are there twice.
    pub async fn again(&self, load: &Load) -> anyhow::Result<usize> {
        let end = load.acks.iter().map(|ack| ack.offset + 1).max().unwrap_or(0);
        let numbers = self.read(0, end).await?;
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        let twice = sorted.windows(2).filter(|pair| pair[0] == pair[1]).count();
        Ok(missing(&numbers, &load.acks) + twice)
    }

    async fn read(&self, from: i64, end: i64) -> anyhow::Result<Vec<u64>> {
        let mut fetcher = Fetcher::new(self.client.clone());
        fetcher.seek(self.topic, 0, Position::Offset(from)).await?;
        let (mut numbers, mut at, deadline) = (Vec::new(), from, Instant::now() + READ);
        while at < end {
            for fetched in fetcher.poll().await? {
                for record in &fetched.records {
                    let value = record.value.as_deref().unwrap_or_default();
                    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    numbers.push(
                        number
                            .with_context(|| format!("offset {} holds what was not sent", record.offset))?,
                    );
                }
                at = fetched.next_offset;
            }
            if Instant::now() > deadline {
                // What cannot be read counts as missing.
                break;
            }
        }
        if numbers.len() as i64 > at - from {
            bail!("{} records were read where {} can be", numbers.len(), at - from);
        }
        Ok(numbers)
    }
}

/// How many of these are not there, or are others.
fn missing(numbers: &[u64], acks: &[Ack]) -> usize {
    let is_there = |ack: &&Ack| {
        usize::try_from(ack.offset)
            .ok()
            .and_then(|at| numbers.get(at))
            .is_some_and(|number| *number == ack.number)
    };
    acks.iter().filter(|ack| !is_there(ack)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_gone_or_another_is_missing() {
        let at = Instant::now();
        let ack = |offset, number| Ack { offset, number, at };
        assert_eq!(missing(&[7, 8], &[ack(0, 7), ack(1, 8)]), 0);
        assert_eq!(missing(&[7, 8], &[ack(0, 8), ack(1, 8), ack(2, 9), ack(-1, 9)]), 3);
    }
}
