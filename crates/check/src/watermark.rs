//! Checkers of the high watermark, as fetches tell it.

use std::collections::BTreeMap;

use moldau_base::Mono;

use crate::history::{Event, Moment, Partition, Read};
use crate::watch::{Broken, Checker};

/// A fetch that is sent after a high watermark was told answers with the same one or a higher one.
#[derive(Debug, Default)]
pub struct HighWatermarkBack {
    told: BTreeMap<Partition, Vec<(Mono, i64)>>,
    /// When offsets were last lost, and from which on.
    lost: BTreeMap<Partition, (Mono, i64)>,
}

impl HighWatermarkBack {
    fn read(&mut self, at: Mono, read: &Read) -> Result<(), Broken> {
        if read.high_watermark < 0 {
            return Ok(());
        }
        let told = self.told.entry(read.partition.clone()).or_default();
        let before = told.partition_point(|(when, _)| *when < read.asked);
        if let Some((when, highest)) =
            told[..before].last().filter(|(_, highest)| *highest > read.high_watermark)
        {
            let what = format!(
                "{} had high watermark {highest} at {:.6}s, and {} for a fetch sent at {:.6}s",
                read.partition,
                when.0 as f64 / 1e9,
                read.high_watermark,
                read.asked.0 as f64 / 1e9
            );
            return Err(Broken::partition(&read.partition, what));
        }
        // An answer may come late, from before offsets were lost.
        let was_lost = self
            .lost
            .get(&read.partition)
            .is_some_and(|(when, from)| read.asked <= *when && read.high_watermark >= *from);
        if !was_lost && told.last().is_none_or(|(_, highest)| *highest < read.high_watermark) {
            told.push((at, read.high_watermark));
        }
        Ok(())
    }
}

impl Checker for HighWatermarkBack {
    fn name(&self) -> &'static str {
        "HighWatermarkBack"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Read(read) => return self.read(moment.at, read),
            Event::MayBeLost { partition, from } => {
                let told = self.told.entry(partition.clone()).or_default();
                told.retain(|(_, highest)| highest < from);
                self.lost.insert(partition.clone(), (moment.at, *from));
            }
            _ => {}
        }
        Ok(())
    }
}

/// No record at or above the high watermark is delivered.
#[derive(Debug)]
pub struct ReadAboveHighWatermark;

impl Checker for ReadAboveHighWatermark {
    fn name(&self) -> &'static str {
        "ReadAboveHighWatermark"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        let Event::Read(read) = &moment.event else { return Ok(()) };
        if read.high_watermark < 0 {
            return Ok(());
        }
        match read.records.iter().find(|(offset, _)| *offset >= read.high_watermark) {
            Some((offset, record)) => {
                let what = format!(
                    "{} got {record} at {}@{offset} with high watermark {}",
                    read.reader, read.partition, read.high_watermark
                );
                Err(Broken::partition(&read.partition, what))
            }
            None => Ok(()),
        }
    }
}
