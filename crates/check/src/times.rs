//! The checker of offsets that are looked up by time.

use std::collections::{BTreeMap, BTreeSet};

use moldau_base::Mono;

use crate::history::{Event, Moment, Partition, Record};
use crate::watch::{Broken, Checker};

const MILLI: u64 = 1_000_000;

/// The offset that is told for a time is that of the first record with this time or a later one.
#[derive(Debug, Default)]
pub struct WrongByTime {
    sent: BTreeMap<Record, Mono>,
    partitions: BTreeMap<Partition, Stored>,
    /// Where records go by themselves, nobody knows which is the first.
    expiring: BTreeSet<Partition>,
}

#[derive(Debug, Default)]
struct Stored {
    /// The record at each offset, its time in milliseconds, and when it was acknowledged.
    records: BTreeMap<i64, (Record, u64, Mono)>,
    kept_from: i64,
}

impl Stored {
    fn found(&self, asked: Mono, since: Mono, offset: Option<i64>) -> Option<String> {
        let since_ms = since.0 / MILLI;
        let told = offset.and_then(|offset| Some((offset, self.records.get(&offset)?)));
        if let Some((offset, (record, time_ms, _))) = told.filter(|(_, (_, ms, _))| *ms < since_ms) {
            return Some(format!("{offset}, but {record} there is of {time_ms} ms"));
        }
        let end = offset.unwrap_or(i64::MAX).max(self.kept_from);
        let mut before = self.records.range(self.kept_from..end);
        let earlier = before.find(|(_, (_, ms, acknowledged))| *ms >= since_ms && *acknowledged < asked);
        let (at, (record, time_ms, _)) = earlier?;
        Some(format!("{offset:?}, but {record} of {time_ms} ms is at {at}"))
    }
}

impl Checker for WrongByTime {
    fn name(&self) -> &'static str {
        "WrongByTime"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Sent { record, .. } => {
                self.sent.insert(*record, moment.at);
            }
            Event::Acknowledged { record, partition, offset } => {
                if let Some(sent) = self.sent.get(record) {
                    let stored = self.partitions.entry(partition.clone()).or_default();
                    stored.records.insert(*offset, (*record, sent.0 / MILLI, moment.at));
                }
            }
            Event::Expires { partition, .. } => {
                self.expiring.insert(partition.clone());
            }
            Event::Trimmable { partition, before } => {
                let stored = self.partitions.entry(partition.clone()).or_default();
                stored.kept_from = stored.kept_from.max(*before);
            }
            Event::MayBeLost { partition, from } => {
                if let Some(stored) = self.partitions.get_mut(partition) {
                    stored.records.split_off(from);
                }
            }
            Event::FoundByTime { partition, asked, since, offset } => {
                let stored = self.partitions.get(partition).filter(|_| !self.expiring.contains(partition));
                if let Some(wrong) = stored.and_then(|stored| stored.found(*asked, *since, *offset)) {
                    let what =
                        format!("the first at or after {} ms in {partition} is {wrong}", since.0 / MILLI);
                    return Err(Broken::partition(partition, what));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
