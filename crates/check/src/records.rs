//! Checkers of what is stored: nothing acknowledged goes missing, nothing is there twice, nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Delivery, Event, Moment, Partition, Read, Record};
use crate::ranges::Ranges;
use crate::watch::{Broken, Checker};

/// A record that was acknowledged at an offset is there for every reader that passes that offset.
#[derive(Debug, Default)]
pub struct LostWrite {
    partitions: BTreeMap<Partition, Passed>,
}

#[derive(Debug, Default)]
struct Passed {
    acknowledged: BTreeMap<i64, Record>,
    read: BTreeMap<i64, Record>,
    passed: Ranges,
    kept_from: i64,
}

impl Passed {
    fn read(&mut self, read: &Read) -> Result<(), Broken> {
        let came: BTreeMap<i64, Record> = read.records.iter().copied().collect();
        let from = read.from.max(self.kept_from);
        for (offset, record) in self.acknowledged.range(from..read.next.max(from)) {
            if came.get(offset) != Some(record) {
                let what = format!(
                    "{record} was acknowledged at {}@{offset}, but {} read {}..{} without it",
                    read.partition, read.reader, read.from, read.next
                );
                return Err(Broken::partition(&read.partition, what));
            }
        }
        self.read.extend(came);
        self.passed.insert(read.from, read.next);
        Ok(())
    }

    fn acknowledged(&mut self, partition: &Partition, offset: i64, record: Record) -> Result<(), Broken> {
        if offset >= self.kept_from && self.passed.contains(offset) && self.read.get(&offset) != Some(&record)
        {
            let what =
                format!("{record} was acknowledged at {partition}@{offset}, which had been read without it");
            return Err(Broken::partition(partition, what));
        }
        self.acknowledged.insert(offset, record);
        Ok(())
    }

    fn may_be_lost(&mut self, from: i64) {
        self.acknowledged.split_off(&from);
        self.read.split_off(&from);
        self.passed.cut(from);
    }
}

impl Checker for LostWrite {
    fn name(&self) -> &'static str {
        "LostWrite"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Read(read) => self.partitions.entry(read.partition.clone()).or_default().read(read),
            Event::Acknowledged { record, partition, offset } => self
                .partitions
                .entry(partition.clone())
                .or_default()
                .acknowledged(partition, *offset, *record),
            Event::Trimmable { partition, before } => {
                let state = self.partitions.entry(partition.clone()).or_default();
                state.kept_from = state.kept_from.max(*before);
                Ok(())
            }
            Event::MayBeLost { partition, from } => {
                self.partitions.entry(partition.clone()).or_default().may_be_lost(*from);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A record of an idempotent producer is at one offset of its partition only.
#[derive(Debug, Default)]
pub struct Duplicate {
    once: BTreeSet<Record>,
    places: BTreeMap<Partition, BTreeMap<Record, i64>>,
}

impl Duplicate {
    fn place(&mut self, partition: &Partition, records: &[(i64, Record)]) -> Result<(), Broken> {
        let places = self.places.entry(partition.clone()).or_default();
        for (offset, record) in records.iter().filter(|(_, record)| self.once.contains(record)) {
            let first = *places.entry(*record).or_insert(*offset);
            if first != *offset {
                let what = format!(
                    "{record} of an idempotent producer is at {partition}@{first} and at {partition}@{offset}"
                );
                return Err(Broken::partition(partition, what));
            }
        }
        Ok(())
    }
}

impl Checker for Duplicate {
    fn name(&self) -> &'static str {
        "Duplicate"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Sent { record, delivery: Delivery::Once, .. } => {
                self.once.insert(*record);
                Ok(())
            }
            Event::Acknowledged { record, partition, offset } => self.place(partition, &[(*offset, *record)]),
            Event::Read(read) => self.place(&read.partition, &read.records),
            Event::MayBeLost { partition, from } => {
                if let Some(places) = self.places.get_mut(partition) {
                    places.retain(|_, offset| *offset < *from);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Whoever reads an offset, or was told what is stored there, finds the same record.
#[derive(Debug, Default)]
pub struct InconsistentOffset {
    partitions: BTreeMap<Partition, BTreeMap<i64, Record>>,
}

impl InconsistentOffset {
    fn put(&mut self, partition: &Partition, records: &[(i64, Record)]) -> Result<(), Broken> {
        let offsets = self.partitions.entry(partition.clone()).or_default();
        for (offset, record) in records {
            let known = *offsets.entry(*offset).or_insert(*record);
            if known != *record {
                let what = format!("{partition}@{offset} was {known} and is {record}");
                return Err(Broken::partition(partition, what));
            }
        }
        Ok(())
    }
}

impl Checker for InconsistentOffset {
    fn name(&self) -> &'static str {
        "InconsistentOffset"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Acknowledged { record, partition, offset } => self.put(partition, &[(*offset, *record)]),
            Event::Read(read) => self.put(&read.partition, &read.records),
            Event::MayBeLost { partition, from } => {
                if let Some(known) = self.partitions.get_mut(partition) {
                    known.split_off(from);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// When the run is over and everything readable was read, every acknowledged record has been read.
#[derive(Debug, Default)]
pub struct UnseenAcknowledged {
    unseen: BTreeMap<Partition, BTreeMap<i64, Record>>,
    seen: BTreeMap<Partition, Ranges>,
    expiring: BTreeSet<Partition>,
    /// What lies before may be gone, also when it is acknowledged later.
    kept_from: BTreeMap<Partition, i64>,
}

impl UnseenAcknowledged {
    fn may_go(&mut self, partition: &Partition, before: i64) {
        let kept_from = self.kept_from.entry(partition.clone()).or_default();
        *kept_from = before.max(*kept_from);
        if let Some(unseen) = self.unseen.get_mut(partition) {
            *unseen = unseen.split_off(&before);
        }
    }
}

impl Checker for UnseenAcknowledged {
    fn name(&self) -> &'static str {
        "UnseenAcknowledged"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Acknowledged { record, partition, offset }
                if !self.seen.get(partition).is_some_and(|seen| seen.contains(*offset))
                    && self.kept_from.get(partition).is_none_or(|kept_from| offset >= kept_from) =>
            {
                self.unseen.entry(partition.clone()).or_default().insert(*offset, *record);
            }
            Event::Read(read) => {
                let unseen = self.unseen.entry(read.partition.clone()).or_default();
                let seen = self.seen.entry(read.partition.clone()).or_default();
                for (offset, _) in &read.records {
                    unseen.remove(offset);
                    seen.insert(*offset, offset + 1);
                }
            }
            Event::Trimmable { partition, before } => self.may_go(partition, *before),
            Event::Expires { partition, .. } => drop(self.expiring.insert(partition.clone())),
            Event::LogStart { partition, offset } if self.expiring.contains(partition) => {
                self.may_go(partition, *offset);
            }
            Event::MayBeLost { partition, from } => {
                if let Some(unseen) = self.unseen.get_mut(partition) {
                    unseen.split_off(from);
                }
                if let Some(seen) = self.seen.get_mut(partition) {
                    seen.cut(*from);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Broken> {
        for (partition, unseen) in &self.unseen {
            if let Some((offset, record)) = unseen.first_key_value() {
                let what = format!(
                    "{record} was acknowledged at {partition}@{offset} and nobody has read it ({} such records there)",
                    unseen.len()
                );
                return Err(Broken::partition(partition, what));
            }
        }
        Ok(())
    }
}

/// A record that the broker said it did not store is never read.
#[derive(Debug, Default)]
pub struct RefusedRead {
    refused: BTreeSet<Record>,
    read: BTreeSet<Record>,
}

impl Checker for RefusedRead {
    fn name(&self) -> &'static str {
        "RefusedRead"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Refused { record, partition } => {
                self.refused.insert(*record);
                if self.read.contains(record) {
                    return Err(Broken::partition(
                        partition,
                        format!("{record} was refused after it had been read"),
                    ));
                }
            }
            Event::Read(read) => {
                self.read.extend(read.records.iter().map(|(_, record)| *record));
                if let Some((offset, record)) = read.records.iter().find(|(_, r)| self.refused.contains(r)) {
                    let what = format!("{record} was refused, but it is at {}@{offset}", read.partition);
                    return Err(Broken::partition(&read.partition, what));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A record is read in the partition that it was sent to, and nowhere before it was sent.
#[derive(Debug, Default)]
pub struct InventedRecord {
    sent: BTreeMap<Record, Partition>,
}

impl Checker for InventedRecord {
    fn name(&self) -> &'static str {
        "InventedRecord"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Sent { record, partition, .. } => {
                self.sent.insert(*record, partition.clone());
            }
            Event::Read(read) => {
                let is_home = |record| self.sent.get(record) == Some(&read.partition);
                if let Some((offset, record)) = read.records.iter().find(|(_, record)| !is_home(record)) {
                    let partition = &read.partition;
                    let what = match self.sent.get(record) {
                        Some(home) => format!("{record} was sent to {home} and is at {partition}@{offset}"),
                        None => format!("{record} is at {partition}@{offset}, and nobody has sent it"),
                    };
                    return Err(Broken::partition(partition, what));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Every record that is read is, byte for byte, one that was sent.
#[derive(Debug)]
pub struct GarbledRead;

impl Checker for GarbledRead {
    fn name(&self) -> &'static str {
        "GarbledRead"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Garbled { partition, .. } => Err(Broken::partition(partition, moment.event.to_string())),
            _ => Ok(()),
        }
    }
}
