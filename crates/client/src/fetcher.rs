//! Reading partitions: one fetch per leader at a time, the records of the answers, the next offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_batch::{Batch, HEADER_BYTES, Header, Record};
use moldau_wire::{ErrorCode, Records, fetch};
use tokio::task::JoinSet;

use crate::Result;
use crate::client::Client;
use crate::error::{ClientError, check};

/// Most bytes that one compressed batch may become.
const DECOMPRESSED_BYTES: usize = 256 << 20;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the first record that is there.
    Beginning,
    /// Behind the last record that is there.
    End,
    /// At this offset.
    Offset(i64),
    /// At the first record with this time, in milliseconds since the epoch, or a later one.
    Time(i64),
}

/// What one fetch brought of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The records, from the offset that was asked for; without control records.
    pub records: Vec<Record>,
    /// Offset behind the last record that every replica in sync has.
    pub high_watermark: i64,
    /// Offset at which the next fetch of this partition begins.
    pub next_offset: i64,
}

/// Reads a set of partitions from where each of them stands.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    positions: BTreeMap<(String, i32), i64>,
    /// Longest that a broker waits for records.
    pub max_wait: Duration,
    /// Most bytes of one answer.
    pub max_bytes: i32,
    /// Most bytes of one partition in one answer.
    pub partition_max_bytes: i32,
    /// True to see only records of committed transactions.
    pub read_committed: bool,
}

type Wanted = (String, i32, i64, i32);
type Answer = (Vec<Wanted>, Result<fetch::Response>);

impl Fetcher {
    /// A fetcher that reads nothing yet.
    pub fn new(client: Client) -> Fetcher {
        Fetcher {
            client,
            positions: BTreeMap::new(),
            max_wait: Duration::from_millis(500),
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            read_committed: false,
        }
    }

    /// Adds a partition, or moves it.
    pub async fn seek(&mut self, topic: &str, partition: i32, position: Position) -> Result<i64> {
        let offset = match position {
            Position::Offset(offset) => offset,
            Position::Beginning => self.client.offset_at(topic, partition, -2).await?.0,
            Position::End => self.client.offset_at(topic, partition, -1).await?.0,
            Position::Time(timestamp) => match self.client.offset_at(topic, partition, timestamp).await?.0 {
                -1 => self.client.offset_at(topic, partition, -1).await?.0,
                offset => offset,
            },
        };
        self.positions.insert((topic.to_owned(), partition), offset);
        Ok(offset)
    }

    /// Reads no partition any more.
    pub fn clear(&mut self) {
        self.positions.clear();
    }

    /// Every partition with the offset that is read next.
    pub fn positions(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.positions.iter().map(|((topic, partition), offset)| (topic.as_str(), *partition, *offset))
    }

    /// One fetch from every leader. Empty if no broker had records within `max_wait`. A partition whose leader has
    /// moved is asked for again at the next call; an offset that does not exist is an error.
    pub async fn poll(&mut self) -> Result<Vec<Fetched>> {
        let mut by_leader: BTreeMap<i32, Vec<Wanted>> = BTreeMap::new();
        for ((topic, partition), offset) in &self.positions {
            let (leader, epoch) = self.client.leader(topic, *partition).await?;
            by_leader.entry(leader).or_default().push((topic.clone(), *partition, *offset, epoch));
        }
        if by_leader.is_empty() {
            tokio::time::sleep(self.max_wait).await;
        }
        let mut fetches: JoinSet<Answer> = JoinSet::new();
        for (leader, wanted) in by_leader {
            let request = self.request(&wanted);
            let client = self.client.clone();
            let max_wait = self.max_wait;
            fetches.spawn(async move {
                let answer = async {
                    let connection = client.to(leader).await?;
                    let version = connection.version::<fetch::Request>(12)?;
                    connection.call_as(version, &request, max_wait).await
                };
                (wanted, answer.await)
            });
        }
        let mut fetched = Vec::new();
        while let Some(joined) = fetches.join_next().await {
            let Ok((wanted, answer)) = joined else { continue };
            self.take(&wanted, answer, &mut fetched).await?;
        }
        Ok(fetched)
    }

    fn request(&self, wanted: &[Wanted]) -> fetch::Request {
        let mut topics: BTreeMap<&str, Vec<fetch::request::Partition>> = BTreeMap::new();
        for (topic, partition, offset, epoch) in wanted {
            topics.entry(topic).or_default().push(fetch::request::Partition {
                partition: *partition,
                current_leader_epoch: *epoch,
                fetch_offset: *offset,
                partition_max_bytes: self.partition_max_bytes,
                ..Default::default()
            });
        }
        let topic = |(name, partitions): (&str, _)| fetch::request::Topic {
            topic: ByteString::from(name),
            partitions,
            ..Default::default()
        };
        fetch::Request {
            replica_id: -1,
            max_wait_ms: i32::try_from(self.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.max_bytes,
            isolation_level: i8::from(self.read_committed),
            session_epoch: -1,
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        }
    }

    async fn take(
        &mut self,
        wanted: &[Wanted],
        answer: Result<fetch::Response>,
        fetched: &mut Vec<Fetched>,
    ) -> Result<()> {
        let response = match answer {
            Ok(response) => response,
            Err(error) if error.is_retriable() => return self.moved(wanted).await,
            Err(error) => return Err(error),
        };
        check(|| "fetch".to_owned(), response.error_code, None)?;
        for topic in response.responses {
            for partition in topic.partitions {
                if is_stale(partition.error_code) {
                    self.moved(wanted).await?;
                    continue;
                }
                let what = || format!("fetching {}-{}", topic.topic, partition.partition_index);
                check(what, partition.error_code, None)?;
                fetched.extend(self.advance(&topic.topic, partition)?);
            }
        }
        Ok(())
    }

    /// The records from the position on, and the position moved behind them.
    fn advance(&mut self, topic: &str, partition: fetch::response::Partition) -> Result<Option<Fetched>> {
        let index = partition.partition_index;
        let Some(position) = self.positions.get_mut(&(topic.to_owned(), index)) else { return Ok(None) };
        let bytes = match partition.records {
            Records::Bytes(bytes) => bytes,
            _ => Bytes::new(),
        };
        let aborted = partition.aborted_transactions.unwrap_or_default();
        let mut records = Vec::new();
        let bad = |cause| ClientError::Batch { topic: topic.to_owned(), partition: index, cause };
        let next =
            read_batches(&bytes, *position, &aborted, self.read_committed, &mut records).map_err(bad)?;
        if next == *position {
            return Ok(None);
        }
        *position = next;
        Ok(Some(Fetched {
            topic: topic.to_owned(),
            partition: index,
            records,
            high_watermark: partition.high_watermark,
            next_offset: next,
        }))
    }

    async fn moved(&self, wanted: &[Wanted]) -> Result<()> {
        for (topic, ..) in wanted {
            self.client.forget(topic).await;
        }
        tokio::time::sleep(self.client.options().retry_pause).await;
        Ok(())
    }
}

/// Codes that say that the leader is another one by now, or that this broker does not know of it yet.
fn is_stale(code: ErrorCode) -> bool {
    [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::OFFSET_NOT_AVAILABLE,
    ]
    .contains(&code)
}

/// Reads all whole batches; a last one that is cut off is left for the next fetch. Returns the next offset.
fn read_batches(
    bytes: &Bytes,
    from: i64,
    aborted: &[fetch::response::AbortedTransaction],
    read_committed: bool,
    records: &mut Vec<Record>,
) -> std::result::Result<i64, moldau_batch::BatchError> {
    let mut next = from;
    let mut at = 0;
    let mut pending: Vec<_> = aborted.iter().map(|t| (t.first_offset, t.producer_id)).collect();
    pending.sort_unstable_by(|a, b| b.cmp(a));
    let mut aborting = BTreeSet::new();
    while let Some(header) = whole_batch(&bytes.slice(at..), at > 0)? {
        let batch = Batch::verify(&bytes.slice(at..at + header.size()))?;
        at += header.size();
        while let Some((_, producer_id)) = pending.pop_if(|(first, _)| *first <= header.last_offset()) {
            aborting.insert(producer_id);
        }
        let was_aborting = aborting.contains(&header.producer_id);
        if header.attributes.is_control() {
            aborting.remove(&header.producer_id);
        }
        if header.last_offset() < from {
            continue;
        }
        next = header.next_offset();
        let hidden = read_committed && header.attributes.is_transactional() && was_aborting;
        if hidden || header.attributes.is_control() {
            continue;
        }
        for record in batch.records(DECOMPRESSED_BYTES)? {
            let record = record?;
            if record.offset >= from {
                records.push(record);
            }
        }
    }
    Ok(next)
}

/// The header of the batch at the front of `bytes`, if the whole batch is there. What cannot be read behind good
/// batches is left for the fetch that begins with it, which then fails.
fn whole_batch(
    bytes: &Bytes,
    has_more: bool,
) -> std::result::Result<Option<Header>, moldau_batch::BatchError> {
    if bytes.len() < HEADER_BYTES {
        return Ok(None);
    }
    match Header::parse(bytes) {
        Ok(header) if header.size() <= bytes.len() => Ok(Some(header)),
        Err(error) if !has_more => Err(error),
        _ => Ok(None),
    }
}
