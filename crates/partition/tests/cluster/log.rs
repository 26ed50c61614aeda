//! A log in memory: a record a batch.

use bytes::Bytes;
use moldau_base::Mono;
use moldau_batch::{Batch, Builder, Codec, Stamp};
use moldau_partition::{Partition, Producers};

/// A batch of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub offset: i64,
    pub epoch: i32,
    pub record: u32,
    /// The producer and its sequence number.
    pub producer: Option<(i64, i32)>,
}

impl Entry {
    pub fn batch(&self) -> Batch {
        let mut builder = Builder::new(Codec::None);
        if let Some((producer, sequence)) = self.producer {
            builder = builder.producer(producer, 0, sequence);
        }
        builder.push(5, None, Some(&self.record.to_be_bytes()), &[]);
        let plain = Batch::verify(&builder.build().unwrap()).unwrap();
        let stamp = Stamp::new(plain.header(), self.offset, self.epoch);
        Batch::verify(&Bytes::from(stamp.parts(plain.bytes()).concat())).unwrap()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    pub start: i64,
    pub stored: i64,
    /// From where on there are no more entries, when there are none.
    base: i64,
    entries: Vec<Entry>,
}

impl Log {
    pub fn end(&self) -> i64 {
        self.entries.last().map_or(self.base, |last| last.offset + 1)
    }

    /// What a leader would append now.
    pub fn next(&self, epoch: i32, record: u32, producer: Option<i64>, replica: &Partition) -> Entry {
        let next = |producer: i64| {
            let known = replica.producers().entries().find(|known| known.producer_id == producer);
            (producer, known.and_then(|known| known.last_sequence).map_or(0, |last| last + 1))
        };
        Entry { offset: self.end(), epoch, record, producer: producer.map(next) }
    }

    pub fn push(&mut self, entry: Entry) {
        assert!(entry.offset >= self.end() && self.last_epoch().is_none_or(|last| last <= entry.epoch));
        if self.entries.is_empty() && entry.offset > self.base {
            self.start = self.start.max(entry.offset);
        }
        self.entries.push(entry);
    }

    pub fn at(&self, offset: i64) -> Option<&Entry> {
        self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok().map(|at| &self.entries[at])
    }

    pub fn read(&self, offset: i64, upto: i64) -> Vec<Entry> {
        self.entries.iter().filter(|entry| (offset..upto).contains(&entry.offset)).take(2).copied().collect()
    }

    pub fn last_epoch(&self) -> Option<i32> {
        self.entries.last().map(|last| last.epoch)
    }

    /// The largest epoch not above this one, and where it ends.
    pub fn end_of(&self, epoch: i32) -> Option<(i32, i64)> {
        let known = self.entries.iter().rfind(|entry| entry.epoch <= epoch)?;
        Some((known.epoch, known.offset + 1))
    }

    pub fn truncate(&mut self, end: i64) {
        self.entries.retain(|entry| entry.offset < end);
        if self.entries.is_empty() {
            self.base = end;
        }
        self.stored = self.stored.min(end);
        self.start = self.start.min(end);
    }

    pub fn restart_at(&mut self, offset: i64) {
        *self = Log { start: offset, stored: offset, base: offset, entries: Vec::new() };
    }

    pub fn delete_below(&mut self, offset: i64) {
        self.start = self.start.max(offset);
    }

    /// What was not stored is gone.
    pub fn die(&mut self) {
        self.truncate(self.stored);
    }

    /// What a replay gives.
    pub fn producers(&self) -> Producers {
        let mut producers = Producers::default();
        self.entries.iter().for_each(|entry| producers.apply(entry.batch().header(), None, Mono::default()));
        producers
    }
}
