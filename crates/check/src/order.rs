//! Checkers of order: what one producer sent, and what one reader polls.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Client, Delivery, Event, Moment, Partition, Read, Record};
use crate::watch::{Broken, Checker};

/// Records that an idempotent producer sent to one partition lie there in the order of sending.
#[derive(Debug, Default)]
pub struct Reordered {
    once: BTreeSet<Record>,
    streams: BTreeMap<Partition, BTreeMap<Client, BTreeMap<i64, u64>>>,
}

impl Reordered {
    fn put(&mut self, partition: &Partition, records: &[(i64, Record)]) -> Result<(), Broken> {
        let streams = self.streams.entry(partition.clone()).or_default();
        for (offset, record) in records.iter().filter(|(_, record)| self.once.contains(record)) {
            let stream = streams.entry(record.producer).or_default();
            let before = stream.range(..offset).next_back().filter(|(_, number)| **number >= record.number);
            let after = stream.range(offset + 1..).next().filter(|(_, number)| **number <= record.number);
            if let Some((other, number)) = before.or(after) {
                let what = format!(
                    "{record} is at {partition}@{offset} and {}/{number} at {partition}@{other}: not the order of sending",
                    record.producer
                );
                return Err(Broken::partition(partition, what));
            }
            stream.insert(*offset, record.number);
        }
        Ok(())
    }
}

impl Checker for Reordered {
    fn name(&self) -> &'static str {
        "Reordered"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Sent { record, delivery: Delivery::Once, .. } => {
                self.once.insert(*record);
                Ok(())
            }
            Event::Acknowledged { record, partition, offset } => self.put(partition, &[(*offset, *record)]),
            Event::Read(read) => self.put(&read.partition, &read.records),
            Event::MayBeLost { partition, from } => {
                let streams = self.streams.get_mut(partition).into_iter().flat_map(BTreeMap::values_mut);
                streams.for_each(|stream| drop(stream.split_off(from)));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Within one assignment a reader passes over no record that somebody else has read.
#[derive(Debug, Default)]
pub struct PollSkip {
    expected: BTreeMap<(Client, Partition), i64>,
    exists: BTreeMap<Partition, BTreeMap<i64, Record>>,
    kept_from: BTreeMap<Partition, i64>,
}

impl PollSkip {
    fn read(&mut self, read: &Read) -> Result<(), Broken> {
        let key = (read.reader, read.partition.clone());
        let expected = self.expected.get(&key).copied().unwrap_or(read.from);
        let kept_from = self.kept_from.get(&read.partition).copied().unwrap_or(0);
        let exists = self.exists.entry(read.partition.clone()).or_default();
        let came: BTreeSet<i64> = read.records.iter().map(|(offset, _)| *offset).collect();
        let first = expected.min(read.from).max(kept_from);
        let skipped = exists.range(first..read.next.max(first)).find(|(offset, _)| {
            **offset < read.from && **offset >= expected || **offset >= read.from && !came.contains(offset)
        });
        if let Some((offset, record)) = skipped {
            let what = format!(
                "{} expected {}@{expected}, read {}..{} and passed over {record} at {offset}",
                read.reader, read.partition, read.from, read.next
            );
            return Err(Broken::partition(&read.partition, what));
        }
        exists.extend(read.records.iter().copied());
        self.expected.insert(key, read.next);
        Ok(())
    }
}

impl Checker for PollSkip {
    fn name(&self) -> &'static str {
        "PollSkip"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Read(read) => return self.read(read),
            Event::Assigned { reader, partition, position } => {
                self.expected.insert((*reader, partition.clone()), *position);
            }
            Event::Trimmable { partition, before } => {
                let kept_from = self.kept_from.entry(partition.clone()).or_default();
                *kept_from = (*kept_from).max(*before);
            }
            Event::MayBeLost { partition, from } => {
                if let Some(exists) = self.exists.get_mut(partition) {
                    exists.split_off(from);
                }
                // A reader that was beyond may find other records there, or go back.
                self.expected.retain(|(_, of), expected| of != partition || *expected <= *from);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Within one assignment a reader's offsets only grow.
#[derive(Debug, Default)]
pub struct NonMonotonicPoll {
    last: BTreeMap<(Client, Partition), i64>,
}

impl NonMonotonicPoll {
    fn read(&mut self, read: &Read) -> Result<(), Broken> {
        let last = self.last.entry((read.reader, read.partition.clone())).or_insert(read.from - 1);
        for (offset, record) in &read.records {
            if *offset <= *last || *offset < read.from {
                let what = format!(
                    "{} got {record} at {}@{offset} after {}@{last} (it asked for {})",
                    read.reader, read.partition, read.partition, read.from
                );
                return Err(Broken::partition(&read.partition, what));
            }
            *last = *offset;
        }
        Ok(())
    }
}

impl Checker for NonMonotonicPoll {
    fn name(&self) -> &'static str {
        "NonMonotonicPoll"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Read(read) => return self.read(read),
            Event::Assigned { reader, partition, position } => {
                self.last.insert((*reader, partition.clone()), *position - 1);
            }
            Event::MayBeLost { partition, from } => {
                self.last.retain(|(_, of), last| of != partition || *last < *from);
            }
            _ => {}
        }
        Ok(())
    }
}
