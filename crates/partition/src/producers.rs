//! What a partition remembers of idempotent producers (KIP-98, KIP-360): for each its epoch and its last five batches, to refuse
//! gaps and zombies and to recognise repeats; and the transactions that are open.
//!
//! The state is a function of the batches in the log, in order: [`Producers::apply`] is the only way in, for the leader that has
//! just appended, for a restart that replays the log's tail over a snapshot, and for a follower.

use std::collections::{BTreeMap, VecDeque};

use moldau_base::limits::{BATCHES_TO_TAKE_BACK, PRODUCERS_PER_PARTITION};
use moldau_base::planted::{Bug, planted};
use moldau_base::{Mono, Now, ProducerEntry};
use moldau_batch::{Batch, Header, Marker};

use crate::recent::{Recent, Seen};
use crate::refusal::Refusal;

/// The producers of one partition. Allocates nothing while there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// First offset of each open transaction, with its producer.
    open: BTreeMap<i64, i64>,
    /// First offset of each ended transaction whose marker is not known to be replicated, with the marker's offset.
    ending: BTreeMap<i64, i64>,
    /// What was known before each batch that the log has taken and may yet take back, oldest first.
    undo: VecDeque<Undo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Undo {
    base_offset: i64,
    producer_id: i64,
    before: Option<Producer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Producer {
    epoch: i16,
    coordinator_epoch: Option<i32>,
    timestamp: i64,
    txn_first_offset: Option<i64>,
    recent: Recent,
    /// The sequence that has to come again when nothing of this producer is in the log, because all was taken back.
    resume: Option<i32>,
    /// When this process last heard of it. Timestamps are the producer's and may be years old.
    heard: Mono,
}

/// What becomes of batches that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Append them.
    Fresh,
    /// They are in the log.
    Duplicate {
        /// Offset of the first record.
        base_offset: i64,
        /// Offset after the last one.
        end_offset: i64,
        /// Timestamp of the first batch.
        timestamp: i64,
    },
}

impl Producer {
    fn new(epoch: i16) -> Producer {
        let recent = Recent::default();
        Producer {
            epoch,
            coordinator_epoch: None,
            timestamp: -1,
            txn_first_offset: None,
            recent,
            resume: None,
            heard: Mono::default(),
        }
    }

    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.recent.clear();
        }
    }

    /// The sequence that the next batch of this epoch has to follow.
    fn last_sequence(&self) -> Option<i32> {
        let resume = self.resume.map(|first| first.wrapping_sub(1) & i32::MAX);
        self.recent.last().map(|seen| seen.last_sequence).or(resume)
    }

    /// The batch this one repeats: same epoch, same first and last sequence.
    fn find(&self, header: &Header) -> Option<&Seen> {
        let same = |seen: &&Seen| {
            seen.first_sequence() == header.base_sequence && seen.last_sequence == header.last_sequence()
        };
        if header.producer_epoch == self.epoch { self.recent.as_slice().iter().find(same) } else { None }
    }

    fn to_entry(&self, producer_id: i64) -> ProducerEntry {
        let last = self.recent.last();
        ProducerEntry {
            producer_id,
            epoch: self.epoch,
            last_sequence: last.map(|seen| seen.last_sequence),
            last_offset: last.map(|seen| seen.last_offset),
            offset_delta: last.map_or(0, |seen| seen.offset_delta),
            timestamp: self.timestamp,
            coordinator_epoch: self.coordinator_epoch,
            txn_first_offset: self.txn_first_offset,
        }
    }
}

/// Where a producer stands: its epoch and, if a batch of that epoch is known, its last sequence.
#[derive(Clone, Copy)]
struct Standing {
    epoch: i16,
    last_sequence: Option<i32>,
}

impl Standing {
    /// May a batch follow? As `ProducerAppendInfo` of Kafka 4.3 decides for clients.
    fn check(self, header: &Header) -> Result<(), Refusal> {
        if header.producer_epoch < self.epoch {
            return Err(Refusal::InvalidProducerEpoch);
        }
        // A new epoch, and one of which only a marker is known, begin at 0.
        let next = match self.last_sequence {
            Some(last) if header.producer_epoch == self.epoch => last.wrapping_add(1) & i32::MAX,
            _ => 0,
        };
        if header.base_sequence == next { Ok(()) } else { Err(Refusal::OutOfOrderSequence) }
    }
}

impl Producers {
    /// The state of a snapshot, from its rows in order; the batches after it are to be [applied](Producers::apply). Producers that were idle for `expire_after_ms` are left
    /// out, the others count as heard of at `now`.
    pub fn restore(
        entries: impl IntoIterator<Item = ProducerEntry>,
        now: Now,
        expire_after_ms: i64,
    ) -> Producers {
        let mut producers = Producers::default();
        for entry in entries {
            if entry.txn_first_offset.is_none()
                && now.wall_ms.saturating_sub(entry.timestamp) >= expire_after_ms
            {
                continue;
            }
            let producer =
                producers.by_id.entry(entry.producer_id).or_insert_with(|| Producer::new(entry.epoch));
            producer.enter(entry.epoch);
            producer.coordinator_epoch = entry.coordinator_epoch;
            producer.timestamp = entry.timestamp;
            producer.txn_first_offset = entry.txn_first_offset;
            producer.heard = now.mono;
            if let (Some(last_sequence), Some(last_offset)) = (entry.last_sequence, entry.last_offset) {
                producer.recent.push(Seen {
                    last_sequence,
                    last_offset,
                    offset_delta: entry.offset_delta,
                    timestamp: entry.timestamp,
                });
            }
            if let Some(first) = entry.txn_first_offset {
                producers.open.insert(first, entry.producer_id);
            }
        }
        producers
    }

    /// The rows of a snapshot: for each producer one for each batch that is remembered, oldest first. A producer that had
    /// several batches in flight when the broker died sends them again from the first that it saw no answer for; all of
    /// them have to be recognised. Kafka writes and needs only the last row, and takes the last one that it reads of a producer.
    pub fn snapshot(&self) -> impl Iterator<Item = ProducerEntry> {
        let in_log = self.by_id.iter().filter(|(_, producer)| producer.resume.is_none());
        in_log.flat_map(|(&id, producer)| {
            let last = producer.to_entry(id);
            let recent = producer.recent.as_slice();
            let earlier = recent.iter().take(recent.len().saturating_sub(1)).map(move |seen| ProducerEntry {
                last_sequence: Some(seen.last_sequence),
                last_offset: Some(seen.last_offset),
                offset_delta: seen.offset_delta,
                timestamp: seen.timestamp,
                ..last
            });
            earlier.chain(std::iter::once(last))
        })
    }

    /// A row for each producer, by id: for DescribeProducers.
    pub fn entries(&self) -> impl Iterator<Item = ProducerEntry> {
        let in_log = self.by_id.iter().filter(|(_, producer)| producer.resume.is_none());
        in_log.map(|(&id, producer)| producer.to_entry(id))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The first offset that readers of committed data may not pass: of a transaction that is open, or whose marker is not replicated.
    pub fn first_unstable(&self) -> Option<i64> {
        let first = |offsets: &BTreeMap<i64, i64>| offsets.first_key_value().map(|(&first, _)| first);
        [first(&self.open), first(&self.ending)].into_iter().flatten().min()
    }

    /// May these batches of one request be appended, all of them? A producer that nobody remembers may begin anywhere: its records may
    /// have been deleted, or it may have been idle for long.
    pub fn admit(&self, batches: &[Batch]) -> Result<Admission, Refusal> {
        if planted(Bug::IgnoreSequences) {
            return Ok(Admission::Fresh);
        }
        let mut standings: BTreeMap<i64, Standing> = BTreeMap::new();
        let (mut fresh, mut duplicate) = (false, None);
        for header in batches.iter().map(Batch::header) {
            if !header.has_producer_id() {
                fresh = true;
                continue;
            }
            let known = self.by_id.get(&header.producer_id);
            if let Some(seen) = known.and_then(|producer| producer.find(header)) {
                let (base_offset, timestamp) = duplicate
                    .map_or((seen.base_offset(), seen.timestamp), |(base, _, timestamp)| (base, timestamp));
                duplicate = Some((base_offset, seen.last_offset + 1, timestamp));
                continue;
            }
            fresh = true;
            let here = standings.get(&header.producer_id).copied();
            Self::check(header, known, here)?;
            if batches.len() > 1 {
                standings.insert(
                    header.producer_id,
                    Standing { epoch: header.producer_epoch, last_sequence: Some(header.last_sequence()) },
                );
            }
        }
        match duplicate {
            None => Ok(Admission::Fresh),
            Some(_) if fresh => Err(Refusal::DuplicateSequence),
            Some((base_offset, end_offset, timestamp)) => {
                Ok(Admission::Duplicate { base_offset, end_offset, timestamp })
            }
        }
    }

    /// Checks one batch against what the log has (`known`) and what stands before it in its request (`here`).
    fn check(header: &Header, known: Option<&Producer>, here: Option<Standing>) -> Result<(), Refusal> {
        let in_log = known.map(|p| Standing { epoch: p.epoch, last_sequence: p.last_sequence() });
        let Some(standing) = here.or(in_log) else { return Ok(()) };
        if header.attributes.is_control() {
            return if header.producer_epoch < standing.epoch {
                Err(Refusal::InvalidProducerEpoch)
            } else {
                Ok(())
            };
        }
        standing.check(header)?;
        let in_transaction = known.is_some_and(|p| p.txn_first_offset.is_some());
        if in_transaction && !header.attributes.is_transactional() {
            Err(Refusal::InvalidTxnState)
        } else {
            Ok(())
        }
    }

    /// Takes note of a batch that is in the log, by its header there; `marker` is what a control batch says. Batches come in the order of the
    /// log and are not checked.
    pub fn apply(&mut self, header: &Header, marker: Option<Marker>, heard: Mono) {
        if !header.has_producer_id() || (header.attributes.is_control() && marker.is_none()) {
            return;
        }
        if !self.by_id.contains_key(&header.producer_id) && self.by_id.len() >= PRODUCERS_PER_PARTITION {
            self.forget_oldest();
        }
        let producer =
            self.by_id.entry(header.producer_id).or_insert_with(|| Producer::new(header.producer_epoch));
        producer.enter(header.producer_epoch);
        producer.resume = None;
        producer.timestamp = header.max_timestamp;
        producer.heard = heard;
        if let Some(marker) = marker {
            producer.coordinator_epoch = Some(marker.coordinator_epoch);
            if let Some(first) = producer.txn_first_offset.take() {
                self.open.remove(&first);
                self.ending.insert(first, header.base_offset);
            }
            return;
        }
        producer.recent.push(Seen {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        if header.attributes.is_transactional() && producer.txn_first_offset.is_none() {
            producer.txn_first_offset = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// As [`Producers::apply`], for a batch that the log has taken and not stored: it may be [taken back](Producers::take_back).
    pub fn append(&mut self, header: &Header, marker: Option<Marker>, heard: Mono) {
        if header.has_producer_id() {
            let before = self.by_id.get(&header.producer_id).cloned();
            self.undo.push_back(Undo {
                base_offset: header.base_offset,
                producer_id: header.producer_id,
                before,
            });
            self.apply(header, marker, heard);
        }
    }

    /// Everything below `replicated` is there for good, everything below `stored` can only be cut off by another leader. The state can be
    /// taken back to any end of the log from the returned offset on; `None` when nothing was forgotten.
    pub(crate) fn settle(&mut self, replicated: i64, stored: i64) -> Option<i64> {
        let mut from = None;
        while let Some(undo) = self.undo.front() {
            let crowded = self.undo.len() > BATCHES_TO_TAKE_BACK && undo.base_offset < stored;
            if undo.base_offset >= replicated && !crowded {
                break;
            }
            from = Some(undo.base_offset + 1);
            self.undo.pop_front();
        }
        if self.undo.is_empty() && self.undo.capacity() > 0 {
            self.undo = VecDeque::new();
        }
        from
    }

    /// The first offset to whose batch the state can be taken back, if it can be taken back at all.
    pub(crate) fn first_undo(&self) -> Option<i64> {
        self.undo.front().map(|undo| undo.base_offset)
    }

    /// The log could not store what was appended from `end` on, and has taken it back: the state is that of before. Only of a producer
    /// that was unknown then, the sequence is kept that has to come again: its later batches are on their way already and would be taken
    /// for a fresh start.
    pub fn take_back(&mut self, end: i64) {
        self.undo(end, |taken| {
            let first = taken.recent.last()?.first_sequence();
            Some(Producer { resume: Some(first), heard: taken.heard, ..Producer::new(taken.epoch) })
        });
    }

    /// These batches are refused before the log has seen them. Of a producer that nobody remembers the sequence is kept that has to come
    /// again: its later batches are on their way already and would be taken for a fresh start.
    pub(crate) fn refuse(&mut self, batches: &[Batch], heard: Mono) {
        for header in batches.iter().map(Batch::header).filter(|header| header.has_producer_id()) {
            if self.by_id.contains_key(&header.producer_id) || header.attributes.is_control() {
                continue;
            }
            if self.by_id.len() >= PRODUCERS_PER_PARTITION {
                self.forget_oldest();
            }
            let resume = Some(header.base_sequence);
            let producer = Producer { resume, heard, ..Producer::new(header.producer_epoch) };
            self.by_id.insert(header.producer_id, producer);
        }
    }

    /// The log was cut at `end`, because its leader has something else there: the state is that of before.
    pub(crate) fn truncate(&mut self, end: i64) {
        self.undo(end, |_| None);
    }

    fn undo(&mut self, end: i64, left: impl Fn(Producer) -> Option<Producer>) {
        while let Some(undo) = self.undo.pop_back_if(|undo| undo.base_offset >= end) {
            let taken = self.by_id.remove(&undo.producer_id);
            if let Some(first) = taken.as_ref().and_then(|producer| producer.txn_first_offset) {
                self.open.remove(&first);
            }
            if let Some(first) = undo.before.as_ref().and_then(|producer| producer.txn_first_offset) {
                self.ending.remove(&first);
                self.open.insert(first, undo.producer_id);
            }
            if let Some(producer) = undo.before.or_else(|| left(taken?)) {
                self.by_id.insert(undo.producer_id, producer);
            }
        }
    }

    /// Everything below `high_watermark` is replicated: transactions whose markers are there are over.
    pub fn replicated(&mut self, high_watermark: i64) {
        self.ending.retain(|_, &mut marker| marker >= high_watermark);
    }

    /// Forgets producers without an open transaction whose last batch is older than `after_ms`, by its timestamp and by when it came here.
    pub fn expire(&mut self, now: Now, after_ms: i64) {
        self.by_id.retain(|_, producer| {
            let old = now.wall_ms.saturating_sub(producer.timestamp) >= after_ms;
            let idle = now.mono >= producer.heard.after_ms(after_ms);
            producer.txn_first_offset.is_some() || !(old && idle)
        });
    }

    /// Makes room: the sixteenth of the producers that wrote longest ago is forgotten, as if it had expired.
    fn forget_oldest(&mut self) {
        let newest = |producer: &Producer| producer.recent.last().map_or(-1, |seen| seen.last_offset);
        let mut idle: Vec<(i64, i64)> = self
            .by_id
            .iter()
            .filter(|(_, p)| p.txn_first_offset.is_none())
            .map(|(&id, p)| (newest(p), id))
            .collect();
        idle.sort_unstable();
        for (_, id) in idle.iter().take(PRODUCERS_PER_PARTITION / 16) {
            self.by_id.remove(id);
        }
    }
}
