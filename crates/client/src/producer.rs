//! Sending records: a batch per partition fills while the one before it is on its way.
//!
//! Each partition has at most one batch in flight, so that tries again never reorder; with a producer id (KIP-98) a
//! batch that was appended and not acknowledged is not appended twice. Without one, a batch whose fate is unknown
//! is reported as such and not sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_batch::{Builder, Codec};
use moldau_wire::{ErrorCode, init_producer_id, produce};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;
use crate::client::Client;
use crate::error::{ClientError, check};

/// How a producer behaves.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Acknowledgements asked for: -1 (all in-sync replicas), 1 or 0.
    pub acks: i16,
    /// Compression of batches.
    pub codec: Codec,
    /// Bytes at which a batch is sent.
    pub batch_bytes: usize,
    /// Longest time that a record waits for others.
    pub linger: Duration,
    /// Most bytes of records that wait or are on their way; [`Producer::send`] waits for room.
    pub buffer_bytes: usize,
    /// Ask for a producer id, so that tries again append nothing twice. Needs acks=-1.
    pub idempotent: bool,
    /// How long the broker may take.
    pub timeout: Duration,
    /// How long a batch is tried again.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> ProducerOptions {
        ProducerOptions {
            acks: -1,
            codec: Codec::None,
            batch_bytes: 64 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            idempotent: true,
            timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A record to be sent.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    /// The key; none is null.
    pub key: Option<&'a [u8]>,
    /// The value; none is null.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Delivery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Number of the first record of the batch among those sent to this partition by this producer, from 0.
    pub first: u64,
    /// How many records.
    pub count: i32,
    /// Offset of the first record, -1 with acks=0; or why it is not known to be there.
    pub outcome: Result<i64>,
}

type Place = (String, i32);

#[derive(Debug)]
struct Sealed {
    first: u64,
    count: i32,
    /// What its records were counted as in the buffer.
    charged: usize,
    bytes: Bytes,
}

#[derive(Debug, Default)]
struct Lane {
    open: Option<(Builder, Instant)>,
    charged: usize,
    sealed: std::collections::VecDeque<Sealed>,
    in_flight: bool,
    sent: u64,
    sequence: i32,
}

/// Sends records to partitions.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    options: ProducerOptions,
    producer_id: i64,
    producer_epoch: i16,
    lanes: BTreeMap<Place, Lane>,
    buffered: usize,
    next_look: Instant,
    flying: JoinSet<(Place, Sealed, Result<i64>)>,
    delivered: Vec<Delivery>,
}

impl Producer {
    /// A producer; asks for a producer id if it is to be idempotent.
    pub async fn new(client: Client, options: ProducerOptions) -> Result<Producer> {
        let idempotent = options.idempotent && options.acks == -1;
        let (producer_id, producer_epoch) = if idempotent { producer_id(&client).await? } else { (-1, -1) };
        Ok(Producer {
            client,
            options,
            producer_id,
            producer_epoch,
            lanes: BTreeMap::new(),
            buffered: 0,
            next_look: Instant::now(),
            flying: JoinSet::new(),
            delivered: Vec::new(),
        })
    }

    /// The producer id; -1 if the producer is not idempotent.
    pub fn id(&self) -> i64 {
        self.producer_id
    }

    /// Adds a record to the batch of its partition. Waits only while the buffer is full. Returns the record's
    /// number among those of this partition, by which [`Delivery`] speaks of it.
    pub async fn send(&mut self, topic: &str, partition: i32, message: &Message<'_>) -> Result<u64> {
        let size = size_of(message);
        if size > self.options.buffer_bytes {
            return Err(ClientError::TooLarge { bytes: size, limit: self.options.buffer_bytes });
        }
        while self.buffered + size > self.options.buffer_bytes {
            self.seal_all()?;
            self.launch();
            self.land().await;
        }
        let place = (topic.to_owned(), partition);
        let full = self
            .lanes
            .get(&place)
            .and_then(|lane| lane.open.as_ref())
            .is_some_and(|(open, _)| open.count() > 0 && open.size() + size > self.options.batch_bytes);
        if full {
            self.seal(&place)?;
            self.launch();
        }
        let codec = self.options.codec;
        let lane = self.lanes.entry(place).or_default();
        let (builder, _) = lane.open.get_or_insert_with(|| (Builder::new(codec), Instant::now()));
        let number = lane.sent + u64::from(builder.count().unsigned_abs());
        builder.push(message.timestamp, message.key, message.value, message.headers);
        lane.charged += size;
        self.buffered += size;
        if Instant::now() >= self.next_look {
            self.next_look = Instant::now() + self.options.linger;
            self.seal_due()?;
            self.launch();
        }
        while let Some(joined) = self.flying.try_join_next() {
            self.landed(joined);
        }
        Ok(number)
    }

    /// Sends everything and waits until its fate is known.
    pub async fn flush(&mut self) -> Result<()> {
        self.seal_all()?;
        self.launch();
        while !self.flying.is_empty() {
            self.land().await;
        }
        Ok(())
    }

    /// What became of batches since the last call.
    pub fn deliveries(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.delivered)
    }

    fn seal_due(&mut self) -> Result<()> {
        let linger = self.options.linger;
        let is_due = |lane: &Lane| lane.open.as_ref().is_some_and(|(_, since)| since.elapsed() >= linger);
        let due: Vec<Place> = self.lanes.iter().filter(|(_, l)| is_due(l)).map(|(p, _)| p.clone()).collect();
        due.iter().try_for_each(|place| self.seal(place))
    }

    fn seal_all(&mut self) -> Result<()> {
        let open: Vec<Place> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.open.is_some())
            .map(|(place, _)| place.clone())
            .collect();
        open.iter().try_for_each(|place| self.seal(place))
    }

    fn seal(&mut self, place: &Place) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(place) else { return Ok(()) };
        let Some((builder, _)) = lane.open.take() else { return Ok(()) };
        let (count, charged) = (builder.count(), std::mem::take(&mut lane.charged));
        let builder = match self.producer_id {
            -1 => builder,
            id => builder.producer(id, self.producer_epoch, lane.sequence),
        };
        let bad = |cause| ClientError::Batch { topic: place.0.clone(), partition: place.1, cause };
        let bytes = builder.build().map_err(bad)?;
        lane.sealed.push_back(Sealed { first: lane.sent, count, charged, bytes });
        lane.sent += u64::from(count.unsigned_abs());
        lane.sequence = lane.sequence.wrapping_add(count) & i32::MAX;
        Ok(())
    }

    /// Sends the oldest batch of every partition that has none in flight.
    fn launch(&mut self) {
        for (place, lane) in &mut self.lanes {
            if lane.in_flight {
                continue;
            }
            let Some(batch) = lane.sealed.pop_front() else { continue };
            lane.in_flight = true;
            let (client, options, place) = (self.client.clone(), self.options.clone(), place.clone());
            let idempotent = self.producer_id >= 0;
            self.flying.spawn(async move {
                let outcome = deliver(&client, &options, &place, &batch.bytes, idempotent).await;
                (place, batch, outcome)
            });
        }
    }

    async fn land(&mut self) {
        if let Some(joined) = self.flying.join_next().await {
            self.landed(joined);
        }
    }

    fn landed(&mut self, joined: std::result::Result<(Place, Sealed, Result<i64>), tokio::task::JoinError>) {
        let Ok((place, batch, outcome)) = joined else { return };
        self.buffered = self.buffered.saturating_sub(batch.charged);
        if let Some(lane) = self.lanes.get_mut(&place) {
            lane.in_flight = false;
        }
        let (topic, partition) = place;
        self.delivered.push(Delivery { topic, partition, first: batch.first, count: batch.count, outcome });
        self.launch();
    }
}

/// Bytes that a record takes of the buffer, never less than it takes in its batch.
fn size_of(message: &Message<'_>) -> usize {
    const OVERHEAD: usize = 40;
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers: usize = message.headers.iter().map(|(key, value)| key.len() + len(*value) + 10).sum();
    OVERHEAD + len(message.key) + len(message.value) + headers
}

async fn producer_id(client: &Client) -> Result<(i64, i16)> {
    let tries = client.tries();
    loop {
        match ask_producer_id(client).await {
            Ok(id) => return Ok(id),
            Err(error) => tries.again(error).await?,
        }
    }
}

async fn ask_producer_id(client: &Client) -> Result<(i64, i16)> {
    let request = init_producer_id::Request {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    };
    let connection = client.any().await?;
    let version = connection.version::<init_producer_id::Request>(5)?;
    let response = connection.call_as(version, &request, Duration::ZERO).await?;
    check(|| "a producer id".to_owned(), response.error_code, None)?;
    Ok((response.producer_id, response.producer_epoch))
}

/// Sends one batch until its fate is known or the time is over.
async fn deliver(
    client: &Client,
    options: &ProducerOptions,
    place: &Place,
    batch: &Bytes,
    idempotent: bool,
) -> Result<i64> {
    let until = Instant::now() + options.delivery_timeout;
    loop {
        let error = match attempt(client, options, place, batch).await {
            Ok(offset) => return Ok(offset),
            Err(error) => error,
        };
        client.forget(&place.0).await;
        let unknown_fate = matches!(error, ClientError::Closed { .. } | ClientError::Timeout { .. });
        let again = error.is_retriable() && (idempotent || !unknown_fate);
        if !again || Instant::now() >= until {
            return Err(error);
        }
        tokio::time::sleep(client.options().retry_pause).await;
    }
}

async fn attempt(client: &Client, options: &ProducerOptions, place: &Place, batch: &Bytes) -> Result<i64> {
    let (topic, partition) = place;
    let (leader, _) = client.leader(topic, *partition).await?;
    let connection = client.to(leader).await?;
    let version = connection.version::<produce::Request>(12)?;
    let partition_data =
        vec![produce::request::Partition { index: *partition, records: Some(batch.clone()) }];
    let request = produce::Request {
        transactional_id: None,
        acks: options.acks,
        timeout_ms: i32::try_from(options.timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: vec![produce::request::Topic {
            name: ByteString::from(topic.as_str()),
            partition_data,
            ..Default::default()
        }],
    };
    if options.acks == 0 {
        connection.send(version, &request).await?;
        return Ok(-1);
    }
    let response = connection.call_as(version, &request, options.timeout).await?;
    let found = response.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
    let what = || format!("producing to {topic}-{partition}");
    let missing = || ClientError::Missing { api: moldau_wire::ApiKey::Produce, what: what() };
    let found = found.ok_or_else(missing)?;
    match found.error_code {
        // The batch is there from an earlier try, and too old for its offset to be remembered.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Ok(-1),
        code => check(what, code, found.error_message.as_ref()).map(|()| found.base_offset),
    }
}
