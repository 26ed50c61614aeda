//! A producer: batches of a few records, some in flight at once, retried in order until the broker has said what became of
//! them. An idempotent one numbers them (KIP-98), and begins a new numbering when the broker has lost its own (KIP-360).

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use moldau_batch::{Builder, Codec};
use moldau_check::{Client, Delivery, Event, Record};
use moldau_wire::{ErrorCode, init_producer_id, produce};

use super::admin::Topic;
use super::cluster;
use super::value::value;
use crate::cx::{Cx, Gone};
use crate::failure;
use crate::kafka::{Kafka, Pending};

/// What a producer does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub topic: Rc<Topic>,
    /// With which promise.
    pub delivery: Delivery,
    /// 0, 1 or -1; idempotence needs -1.
    pub acks: i16,
    /// Batches in flight at once, at most 5; a producer without idempotence that wants no reordering has 1.
    pub window: usize,
    /// Milliseconds between rounds, at least and at most.
    pub pause_ms: (u64, u64),
    /// Batches to send at least, faults or not.
    pub least: u64,
}

impl Plan {
    /// An idempotent producer with three batches in flight.
    pub fn idempotent(topic: Rc<Topic>) -> Plan {
        Plan { topic, delivery: Delivery::Once, acks: -1, window: 3, pause_ms: (0, 200), least: 5 }
    }
}

/// A batch on its way.
struct Sending {
    partition: i32,
    records: Vec<Record>,
    bytes: Bytes,
    /// An attempt ended without an answer.
    uncertain: bool,
}

/// What an answer says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stored(i64),
    StoredSomewhere,
    Retry,
    RetryUncertain,
    OutOfOrder,
    Refused,
}

struct Producer {
    cx: Cx,
    plan: Plan,
    kafka: Option<Kafka>,
    /// In a cluster: the newest leader epoch that it has met. Who knows only of earlier ones is not believed (KIP-320).
    met: i32,
    /// Whose records these are for the checkers: one name per producer id, because order is promised within one only.
    name: Client,
    next: u64,
    identity: Option<(i64, i16)>,
    sequences: Vec<i32>,
    waiting: VecDeque<Sending>,
}

/// Produces while faults happen, and until everything it began is settled.
pub async fn produce(cx: Cx, plan: Plan) {
    run(cx, plan, |cx| cx.in_trouble()).await;
}

/// Produces the least that the plan says, and settles it.
pub async fn some(cx: Cx, plan: Plan) {
    run(cx, plan, |_| false).await;
}

async fn run(cx: Cx, plan: Plan, more: impl Fn(&Cx) -> bool) {
    let partitions = plan.topic.partitions as usize;
    let mut producer = Producer {
        cx: cx.clone(),
        plan,
        kafka: None,
        met: -1,
        name: cx.client(),
        next: 0,
        identity: None,
        sequences: vec![0; partitions],
        waiting: VecDeque::new(),
    };
    let mut batches = 0;
    while more(&cx) || batches < producer.plan.least {
        cx.doing(format!("producing; {batches} batches are settled"));
        producer.connect().await;
        for _ in 0..cx.between(1, producer.plan.window as u64) {
            producer.prepare();
            batches += 1;
        }
        producer.settle().await;
        cx.pause_ms(producer.plan.pause_ms.0, producer.plan.pause_ms.1).await;
    }
    cx.doing("done");
}

impl Producer {
    fn is_idempotent(&self) -> bool {
        self.plan.delivery == Delivery::Once
    }

    /// Makes sure that there is a connection, and an identity where one is needed.
    async fn connect(&mut self) {
        loop {
            if self.kafka.as_ref().is_none_or(Kafka::is_closed) {
                let kafka = cluster::connect_since(&self.cx, &self.plan.topic, self.met).await;
                self.met = self.met.max(kafka.leader_epoch().unwrap_or(-1));
                self.kafka = Some(kafka);
            }
            let Some(kafka) = self.kafka.clone() else { continue };
            if !self.is_idempotent() || self.identity.is_some() {
                return;
            }
            match self.identify(&kafka).await {
                Ok(true) => return,
                Ok(false) => self.cx.pause_ms(50, 200).await,
                Err(Gone) => self.kafka = None,
            }
        }
    }

    async fn identify(&mut self, kafka: &Kafka) -> Result<bool, Gone> {
        let request = init_producer_id::Request {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let response = kafka.call(request).await?;
        if response.error_code.is_err() {
            if !response.error_code.is_retriable() {
                self.cx.problem(format!("InitProducerId was refused: {:?}", response.error_code));
            }
            return Ok(false);
        }
        self.cx.take_producer_id(response.producer_id);
        self.name = self.cx.another();
        self.identity = Some((response.producer_id, response.producer_epoch));
        self.sequences.fill(0);
        Ok(true)
    }

    /// Makes a batch and puts it in line.
    fn prepare(&mut self) {
        let cx = &self.cx;
        let partition = cx.draw(|rng| rng.below(self.plan.topic.partitions as u64)) as i32;
        // Rarely: the broker does not look inside, and compressing is most of what a run would do.
        let codecs = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        let compressed = if cx.one_in(16) { cx.draw(|rng| rng.pick(&codecs).copied()) } else { None };
        let codec = compressed.unwrap_or(Codec::None);
        let mut builder = Builder::new(codec);
        let sequence = self.sequences[partition as usize];
        if let Some((id, epoch)) = self.identity {
            builder = builder.producer(id, epoch, sequence);
        }
        let mut records = Vec::new();
        for _ in 0..cx.between(1, 5) {
            let record = Record { producer: self.name, number: self.next };
            self.next += 1;
            let key = record.number.to_be_bytes();
            let key = (!record.number.is_multiple_of(3)).then_some(&key[..]);
            builder.push(cx.wall_ms(), key, Some(&value(record)), &[]);
            let delivery = self.plan.delivery;
            cx.note(Event::Sent { record, partition: self.plan.topic.partition(partition), delivery });
            records.push(record);
        }
        self.sequences[partition as usize] += records.len() as i32;
        match builder.build() {
            Ok(bytes) => self.waiting.push_back(Sending { partition, records, bytes, uncertain: false }),
            Err(error) => cx.problem(format!("a batch does not build: {error}")),
        }
    }

    /// Sends what is in line until each batch is stored, refused or given up.
    async fn settle(&mut self) {
        while !self.waiting.is_empty() {
            if self.cx.one_in(300) {
                // A client that is restarted in the middle of its work.
                self.kafka.take().inspect(Kafka::close);
                self.waiting.iter_mut().for_each(|sending| sending.uncertain = true);
                return self.give_up();
            }
            self.connect().await;
            let Some(kafka) = self.kafka.clone() else { continue };
            if self.round(&kafka).await == Err(Gone) {
                self.kafka = None;
                self.waiting.iter_mut().for_each(|sending| sending.uncertain = true);
            }
            if !self.waiting.is_empty() {
                if self.cx.nodes() > 1 {
                    // Another node may lead.
                    self.kafka = None;
                }
                self.cx.doing(format!("settling {} batches", self.waiting.len()));
                self.cx.pause_ms(20, 200).await;
            }
        }
    }

    /// Sends every batch in line, several requests in flight, and sorts by what the answers say.
    async fn round(&mut self, kafka: &Kafka) -> Result<(), Gone> {
        let requests = self.group();
        if self.plan.acks == 0 {
            for request in requests {
                kafka.send(&self.request(&request))?;
            }
            self.give_up();
            return Ok(());
        }
        let mut pending: VecDeque<(Vec<usize>, Pending<produce::Request>)> = VecDeque::new();
        for places in requests {
            let request = self.request(&places);
            pending.push_back((places, kafka.start(request)?));
        }
        let mut verdicts: Vec<Option<Verdict>> = vec![None; self.waiting.len()];
        let mut outcome = Ok(());
        while let Some((places, request)) = pending.pop_front() {
            match request.answer().await {
                Ok(response) => self.judge(&places, &response, &mut verdicts),
                Err(Gone) => {
                    outcome = Err(Gone);
                    break;
                }
            }
        }
        self.sort(&verdicts);
        outcome
    }

    /// Places of the batches of each request: one batch of a partition in one request.
    fn group(&self) -> Vec<Vec<usize>> {
        let mut requests: Vec<Vec<usize>> = Vec::new();
        let mut partitions = BTreeSet::new();
        for (place, sending) in self.waiting.iter().enumerate() {
            match requests.last_mut() {
                Some(request) if partitions.insert(sending.partition) && self.cx.one_in(2) => {
                    request.push(place)
                }
                _ => {
                    partitions = BTreeSet::from([sending.partition]);
                    requests.push(vec![place]);
                }
            }
        }
        requests
    }

    fn request(&self, places: &[usize]) -> produce::Request {
        let sending = places.iter().filter_map(|place| self.waiting.get(*place));
        let partition_data = sending.map(|sending| produce::request::Partition {
            index: sending.partition,
            records: Some(sending.bytes.clone()),
        });
        let topic = produce::request::Topic {
            name: self.plan.topic.name.clone(),
            topic_id: self.plan.topic.id,
            partition_data: partition_data.collect(),
        };
        produce::Request {
            transactional_id: None,
            acks: self.plan.acks,
            timeout_ms: 10_000,
            topic_data: vec![topic],
        }
    }

    fn judge(&self, places: &[usize], response: &produce::Response, verdicts: &mut [Option<Verdict>]) {
        let answers: Vec<_> =
            response.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
        for place in places {
            let partition = self.waiting[*place].partition;
            let Some(answer) = answers.iter().find(|answer| answer.index == partition) else {
                self.cx.problem(format!("a produce response says nothing of partition {partition}"));
                continue;
            };
            let verdict = verdict(answer.error_code, answer.base_offset);
            // Told at once: from here on it is a promise.
            match verdict {
                Verdict::Stored(offset) => self.stored(&self.waiting[*place], Some(offset)),
                Verdict::StoredSomewhere => self.stored(&self.waiting[*place], None),
                _ => {}
            }
            verdicts[*place] = Some(verdict);
            if answer.error_code.is_err() {
                self.cx.say(|| format!("produce to {partition}: {:?}", answer.error_code));
            }
        }
    }

    /// Takes out of the line what is settled. A batch without a verdict got no answer.
    fn sort(&mut self, verdicts: &[Option<Verdict>]) {
        let mut failed = BTreeSet::new();
        let (mut numbering_lost, mut gap) = (false, false);
        let waiting = std::mem::take(&mut self.waiting);
        for (mut sending, verdict) in waiting.into_iter().zip(verdicts) {
            let first_failure = verdict.is_some_and(is_failure) && failed.insert(sending.partition);
            match verdict {
                Some(Verdict::Stored(_) | Verdict::StoredSomewhere) => {}
                Some(Verdict::Refused) => {
                    self.refused(&sending);
                    gap = true;
                }
                Some(Verdict::OutOfOrder) => {
                    numbering_lost |= first_failure;
                    self.waiting.push_back(sending);
                }
                Some(Verdict::Retry) => self.waiting.push_back(sending),
                Some(Verdict::RetryUncertain) | None => {
                    sending.uncertain = true;
                    self.waiting.push_back(sending);
                }
            }
        }
        if numbering_lost && !gap {
            self.cx.excuse(failure::NUMBERING_LOST, "the broker lost a producer's sequence numbers");
        }
        if numbering_lost || gap {
            // The numbers after a batch that is not stored do not fit any more.
            self.give_up();
        }
    }

    fn stored(&self, sending: &Sending, base_offset: Option<i64>) {
        self.cx.count("records acknowledged", sending.records.len() as u64);
        let Some(base_offset) = base_offset else { return };
        for (i, record) in sending.records.iter().enumerate() {
            let partition = self.plan.topic.partition(sending.partition);
            let offset = base_offset + i as i64;
            self.cx.note(Event::Acknowledged { record: *record, partition, offset });
        }
    }

    fn refused(&self, sending: &Sending) {
        for record in &sending.records {
            let (record, partition) = (*record, self.plan.topic.partition(sending.partition));
            self.cx.note(match sending.uncertain {
                true => Event::Unknown { record, partition },
                false => Event::Refused { record, partition },
            });
        }
    }

    /// Leaves what is in line to its fate, and begins a new numbering.
    fn give_up(&mut self) {
        for sending in std::mem::take(&mut self.waiting) {
            for record in sending.records {
                let partition = self.plan.topic.partition(sending.partition);
                self.cx.note(Event::Unknown { record, partition });
            }
        }
        self.renumber();
    }

    /// A new epoch where the client may raise it itself, or a new identity.
    fn renumber(&mut self) {
        self.identity = self
            .identity
            .filter(|(_, epoch)| self.cx.one_in(2) && *epoch < 1000)
            .map(|(id, epoch)| (id, epoch + 1));
        self.sequences.fill(0);
    }
}

fn is_failure(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Stored(_) | Verdict::StoredSomewhere)
}

fn verdict(code: ErrorCode, base_offset: i64) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Stored(base_offset),
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::StoredSomewhere,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID => Verdict::OutOfOrder,
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => Verdict::RetryUncertain,
        code if code.is_retriable() => Verdict::Retry,
        _ => Verdict::Refused,
    }
}
