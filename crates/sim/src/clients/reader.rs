//! Reads partitions as consumers do: Fetch with or without a session (KIP-227), positions kept by the reader, every record
//! identified and told to the checkers.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use moldau_base::Mono;
use moldau_batch::Batch;
use moldau_check::{Client, Event, Read, Record};
use moldau_wire::{ApiKey, ErrorCode, Records, fetch};

use super::admin::{self, EARLIEST, LATEST, Topic};
use super::value::identify;
use crate::cx::{Cx, Gone};
use crate::failure;
use crate::kafka::Kafka;

/// No batch of a run decompresses to more.
const BATCH_LIMIT: usize = 1 << 20;

/// What a reader is at.
pub struct Reader {
    cx: Cx,
    topic: Rc<Topic>,
    /// Who reads, for the checkers.
    pub name: Client,
    positions: BTreeMap<i32, i64>,
    session: Session,
    /// The node did not serve what was asked for: another one may.
    lost: bool,
    /// The newest leader epoch that it has met.
    met: i32,
    /// Bytes of batches that came.
    pub bytes: u64,
}

#[derive(Default)]
struct Session {
    id: i32,
    epoch: i32,
    /// What the broker remembers of each partition.
    told: BTreeMap<i32, i64>,
}

/// How one fetch asks.
#[derive(Clone, Copy, Debug)]
struct Ask {
    max_wait_ms: i32,
    min_bytes: i32,
    max_bytes: i32,
    partition_max_bytes: i32,
}

/// What a partition's answer held.
struct Parsed {
    records: Vec<(i64, Record)>,
    next: i64,
    garbled: Option<(i64, String)>,
    /// Of whole batches.
    bytes: u64,
    /// There are batches, and none of them reaches the offset that was asked for.
    stale: bool,
}

impl Reader {
    /// A reader of nothing yet.
    pub fn new(cx: &Cx, topic: Rc<Topic>) -> Reader {
        Reader {
            cx: cx.clone(),
            topic,
            name: cx.another(),
            positions: BTreeMap::new(),
            session: Session::default(),
            lost: false,
            met: -1,
            bytes: 0,
        }
    }

    /// Reads these partitions from these offsets on.
    pub fn assign(&mut self, positions: BTreeMap<i32, i64>) {
        self.positions.clear();
        for (index, position) in positions {
            self.seek(index, position);
        }
    }

    /// Goes on at another offset of a partition.
    pub fn seek(&mut self, index: i32, position: i64) {
        self.positions.insert(index, position);
        let partition = self.topic.partition(index);
        self.cx.note(Event::Assigned { reader: self.name, partition, position });
    }

    /// Goes on over a connection to another node, which knows nothing of a session.
    pub fn connected(&mut self, kafka: &Kafka) {
        self.session = Session::default();
        self.met = kafka.leader_epoch().unwrap_or(-1).max(self.met);
    }

    /// The newest leader epoch that it has met; -1 before the first.
    pub fn met(&self) -> i32 {
        self.met
    }

    /// Whether the last fetch was refused by a node that may not be the right one.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The offset to be asked for next, for each partition.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// Fetches once; how many records came.
    pub async fn poll(&mut self, kafka: &Kafka) -> Result<usize, Gone> {
        let ask = self.ask();
        self.lost = false;
        let with_session =
            kafka.version(ApiKey::Fetch).is_some_and(|version| version >= 7) && !self.cx.one_in(4);
        if !with_session {
            self.session = Session::default();
        }
        let positions = self.positions.clone();
        let request = self.request(ask, with_session, kafka.leader_epoch());
        let (asked, response) =
            kafka.call_at(request).await.inspect_err(|_| self.session = Session::default())?;
        if response.error_code.is_err() {
            self.session_ended(response.error_code);
            return Ok(0);
        }
        if with_session {
            self.session.id = response.session_id;
            self.session.epoch = if response.session_id == 0 { 0 } else { next_epoch(self.session.epoch) };
        }
        let mut count = 0;
        for topic in &response.responses {
            for partition in &topic.partitions {
                count += self.partition(kafka, &positions, asked, partition).await?;
            }
        }
        Ok(count)
    }

    fn session_ended(&mut self, code: ErrorCode) {
        let known = [ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ErrorCode::INVALID_FETCH_SESSION_EPOCH];
        if !known.contains(&code) && !code.is_retriable() {
            self.cx.problem(format!("Fetch was refused: {code:?}"));
        }
        self.session = Session::default();
    }

    fn ask(&self) -> Ask {
        let cx = &self.cx;
        Ask {
            max_wait_ms: cx.between(0, 500) as i32,
            min_bytes: if cx.one_in(4) { 1000 } else { 1 },
            max_bytes: if cx.one_in(8) { 1 } else { 1 << 20 },
            partition_max_bytes: if cx.one_in(4) { cx.between(1, 500) as i32 } else { 1 << 18 },
        }
    }

    fn request(&mut self, ask: Ask, with_session: bool, epoch: Option<i32>) -> fetch::Request {
        let session = &mut self.session;
        let is_new = |(index, at): &(&i32, &i64)| session.epoch == 0 || session.told.get(*index) != Some(*at);
        let partitions =
            self.positions.iter().filter(is_new).map(|(index, position)| fetch::request::Partition {
                partition: *index,
                fetch_offset: *position,
                current_leader_epoch: epoch.unwrap_or(-1),
                partition_max_bytes: ask.partition_max_bytes,
                ..Default::default()
            });
        let partitions: Vec<_> = partitions.collect();
        let forgotten =
            session.told.keys().filter(|index| session.epoch > 0 && !self.positions.contains_key(index));
        let forgotten: Vec<i32> = forgotten.copied().collect();
        session.told = self.positions.clone();
        let topic =
            fetch::request::Topic { topic: self.topic.name.clone(), topic_id: self.topic.id, partitions };
        let gone = fetch::request::ForgottenTopic {
            topic: self.topic.name.clone(),
            topic_id: self.topic.id,
            partitions: forgotten,
        };
        fetch::Request {
            replica_id: -1,
            max_wait_ms: ask.max_wait_ms,
            min_bytes: ask.min_bytes,
            max_bytes: ask.max_bytes,
            session_id: if with_session { session.id } else { 0 },
            session_epoch: if with_session { session.epoch } else { -1 },
            topics: if topic.partitions.is_empty() { vec![] } else { vec![topic] },
            forgotten_topics_data: if gone.partitions.is_empty() { vec![] } else { vec![gone] },
            ..Default::default()
        }
    }

    async fn partition(
        &mut self,
        kafka: &Kafka,
        asked_for: &BTreeMap<i32, i64>,
        asked: Mono,
        answer: &fetch::response::Partition,
    ) -> Result<usize, Gone> {
        let index = answer.partition_index;
        let Some(from) = asked_for.get(&index).copied() else {
            self.cx.problem(format!("Fetch answered for partition {index}, which was not asked for"));
            return Ok(0);
        };
        match answer.error_code {
            ErrorCode::NONE => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                self.out_of_range(kafka, index).await?;
                return Ok(0);
            }
            code => {
                self.cx.say(|| format!("fetch of {index}@{from}: {code:?}"));
                // Asked for anew by the next fetch.
                self.lost = true;
                self.session.told.insert(index, -1);
                // As clients do (retry.backoff.ms): where the only replica in sync has a failed disk, this may last.
                self.cx.pause_ms(0, 100).await;
                return Ok(0);
            }
        }
        let Records::Bytes(bytes) = &answer.records else { return Ok(0) };
        let parsed = parse(&self.cx, bytes, from);
        if parsed.stale {
            self.cx.problem(format!("a fetch of {index}@{from} was answered with batches below it only"));
        }
        if let Some((offset, what)) = parsed.garbled {
            let partition = self.topic.partition(index);
            self.cx.note(Event::Garbled { reader: self.name, partition, offset, what });
        }
        // A node answers in the epoch that it was asked for, and old versions do not ask: nothing is known of its high watermark then.
        let epoch = kafka.leader_epoch();
        let is_known = epoch.is_none() || kafka.version(ApiKey::Fetch).is_some_and(|version| version >= 9);
        let count = parsed.records.len();
        self.bytes += parsed.bytes;
        self.positions.insert(index, parsed.next);
        self.cx.count("records read", count as u64);
        self.cx.note(Event::Read(Read {
            reader: self.name,
            partition: self.topic.partition(index),
            asked,
            from,
            records: parsed.records,
            next: parsed.next,
            high_watermark: if is_known { answer.high_watermark } else { -1 },
            epoch,
        }));
        Ok(count)
    }

    /// Begins again at the earliest offset when the position was deleted, at the end when the log is shorter than that.
    async fn out_of_range(&mut self, kafka: &Kafka, index: i32) -> Result<(), Gone> {
        let at = self.positions.get(&index).copied().unwrap_or(0);
        let earliest = admin::offset(&self.cx, kafka, &self.topic, index, EARLIEST).await?;
        let latest = admin::offset(&self.cx, kafka, &self.topic, index, LATEST).await?;
        if let (Some(earliest), Some(latest)) = (earliest, latest) {
            self.cx.say(|| format!("{index}@{at} is out of range {earliest}..{latest}"));
            // Whoever is not asked for an epoch may have led in an earlier one.
            let is_asked = |key, least| kafka.version(key).is_some_and(|version| version >= least);
            let is_fenced = is_asked(ApiKey::Fetch, 9) && is_asked(ApiKey::ListOffsets, 4);
            if at > latest && (kafka.leader_epoch().is_none() || is_fenced) {
                let what = format!("the log end {latest} is below a position {at}");
                self.cx.excuse(failure::END_WENT_BACK, what);
            }
            self.seek(index, at.clamp(earliest, latest));
        }
        Ok(())
    }
}

/// The session epoch after this one; 0 is for a new session.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// The records in whole batches from `from` on; a torn batch at the end is none.
fn parse(cx: &Cx, bytes: &Bytes, from: i64) -> Parsed {
    let mut parsed = Parsed { records: Vec::new(), next: from, garbled: None, bytes: 0, stale: false };
    let mut at = 0;
    while at < bytes.len() {
        let batch = match Batch::verify(&bytes.slice(at..)) {
            Ok(batch) => batch,
            Err(moldau_batch::BatchError::Truncated { .. }) => break,
            Err(error) => {
                parsed.garbled = Some((parsed.next, error.to_string()));
                break;
            }
        };
        at += batch.bytes().len();
        if let Err((offset, what)) = records(cx, &batch, from, &mut parsed.records) {
            parsed.garbled = Some((offset, what));
            break;
        }
        parsed.next = parsed.next.max(batch.header().last_offset() + 1);
    }
    parsed.bytes = at as u64;
    parsed.stale = at > 0 && parsed.next == from && parsed.garbled.is_none();
    parsed
}

fn records(cx: &Cx, batch: &Batch, from: i64, into: &mut Vec<(i64, Record)>) -> Result<(), (i64, String)> {
    let base = batch.header().base_offset;
    // The checksum is right: what has been taken apart once would give the same again.
    let key = (batch.header().crc, batch.bytes().len());
    let records = match cx.known_batch(key) {
        Some(known) => known,
        None => cx.know_batch(key, take_apart(batch)?),
    };
    let wanted = records.iter().map(|(delta, record)| (base + delta, *record));
    into.extend(wanted.filter(|(offset, _)| *offset >= from));
    Ok(())
}

/// The records of a batch, with their offsets from its first.
fn take_apart(batch: &Batch) -> Result<Vec<(i64, Record)>, (i64, String)> {
    let base = batch.header().base_offset;
    let mut next = base;
    let mut records = Vec::new();
    for record in batch.records(BATCH_LIMIT).map_err(|error| (next, error.to_string()))? {
        let record = record.map_err(|error| (next, error.to_string()))?;
        next = record.offset;
        let value = record.value.ok_or((next, "a null value".to_owned()))?;
        records.push((next - base, identify(&value).map_err(|what| (next, what))?));
    }
    Ok(records)
}

/// Reads a whole topic over and over, from the beginning or the end, until the faults are over.
pub async fn watch(cx: Cx, topic: Rc<Topic>) {
    let mut reader = Reader::new(&cx, topic.clone());
    while cx.in_trouble() {
        let Ok(kafka) = Kafka::connect(&cx, 3).await else { continue };
        let fresh = reader.positions.is_empty() || cx.one_in(4);
        let begin =
            cx.draw(|rng| rng.pick(&[Begin::Earliest, Begin::Latest, Begin::Middle, Begin::Time]).copied());
        if fresh && start(&mut reader, &kafka, begin.unwrap_or(Begin::Earliest)).await.is_err() {
            continue;
        }
        if cx.one_in(10) {
            // Slow to read: the answer lies in the broker's files meanwhile.
            kafka.stall_ms(cx.between(100, 20_000));
        }
        for _ in 0..cx.between(1, 60) {
            if reader.poll(&kafka).await.is_err() || !cx.in_trouble() {
                break;
            }
            cx.pause_ms(0, 150).await;
        }
        if cx.one_in(5) {
            kafka.vanish();
        }
    }
    cx.doing("done");
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Earliest,
    Latest,
    /// At any offset that there is.
    Middle,
    /// At the first record of the last seconds.
    Time,
}

async fn start(reader: &mut Reader, kafka: &Kafka, begin: Begin) -> Result<(), Gone> {
    let (cx, topic) = (reader.cx.clone(), reader.topic.clone());
    let mut positions = BTreeMap::new();
    for index in 0..topic.partitions {
        let offset = match begin {
            Begin::Earliest => admin::offset(&cx, kafka, &topic, index, EARLIEST).await?,
            Begin::Latest => admin::offset(&cx, kafka, &topic, index, LATEST).await?,
            Begin::Middle => {
                let earliest = admin::offset(&cx, kafka, &topic, index, EARLIEST).await?;
                let latest = admin::offset(&cx, kafka, &topic, index, LATEST).await?;
                let between = |(low, high): (i64, i64)| cx.between(low.max(0) as u64, high.max(low) as u64);
                earliest.zip(latest).map(|ends| between(ends) as i64)
            }
            Begin::Time => {
                let since = cx.wall_ms() - cx.between(0, 10_000) as i64;
                admin::offset(&cx, kafka, &topic, index, since).await?.filter(|offset| *offset >= 0)
            }
        };
        if let Some(offset) = offset {
            positions.insert(index, offset);
        }
    }
    reader.assign(positions);
    Ok(())
}

/// Reads everything there is in a topic, once, when the faults are over: what was acknowledged must be there.
pub async fn audit(cx: Cx, topic: Rc<Topic>) {
    cx.doing("auditing");
    let ends = admin::ends(&cx, &topic).await;
    let mut reader = Reader::new(&cx, topic);
    'connected: loop {
        let kafka = Kafka::connect_at_last(&cx).await;
        if start(&mut reader, &kafka, Begin::Earliest).await.is_err() {
            continue;
        }
        loop {
            let behind =
                |(index, end): (usize, &i64)| reader.positions.get(&(index as i32)).is_none_or(|at| at < end);
            if !ends.iter().enumerate().any(behind) {
                break 'connected;
            }
            if reader.poll(&kafka).await.is_err() {
                continue 'connected;
            }
        }
    }
    cx.doing("done");
}
