//! The checker of what retention takes.

use std::collections::BTreeMap;

use moldau_base::Mono;

use crate::history::{Event, Moment, Partition, Record};
use crate::watch::{Broken, Checker};

/// Retention by time takes no record before it has the age that the topic promises.
#[derive(Debug, Default)]
pub struct ExpiredEarly {
    partitions: BTreeMap<Partition, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    keep_ms: u64,
    sent: BTreeMap<Record, Mono>,
    acknowledged: BTreeMap<i64, Record>,
}

impl Kept {
    /// The log begins at `start`: what was below it is old enough.
    fn begins(&mut self, partition: &Partition, at: Mono, start: i64) -> Result<(), Broken> {
        let stay = self.acknowledged.split_off(&start);
        let gone = std::mem::replace(&mut self.acknowledged, stay);
        let age_ms = |record: &Record| {
            self.sent.get(record).map_or(u64::MAX, |sent| at.0.saturating_sub(sent.0) / 1_000_000)
        };
        match gone.iter().find(|(_, record)| age_ms(record) < self.keep_ms) {
            Some((offset, record)) => {
                let what = format!(
                    "{partition} begins at {start}; {record} at {offset} is gone after {} ms of {}",
                    age_ms(record),
                    self.keep_ms
                );
                Err(Broken::partition(partition, what))
            }
            None => Ok(()),
        }
    }
}

impl Checker for ExpiredEarly {
    fn name(&self) -> &'static str {
        "ExpiredEarly"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        if let Event::Expires { partition, keep_ms } = &moment.event {
            self.partitions.entry(partition.clone()).or_default().keep_ms = *keep_ms;
        }
        let known = moment.event.partition().and_then(|partition| self.partitions.get_mut(partition));
        let Some(kept) = known else { return Ok(()) };
        match &moment.event {
            Event::Sent { record, .. } => {
                kept.sent.insert(*record, moment.at);
            }
            Event::Acknowledged { record, offset, .. } => {
                kept.acknowledged.insert(*offset, *record);
            }
            Event::MayBeLost { from, .. } => drop(kept.acknowledged.split_off(from)),
            Event::LogStart { partition, offset } => return kept.begins(partition, moment.at, *offset),
            _ => {}
        }
        Ok(())
    }
}
