//! Checkers of the high watermark, as fetches tell it.

use std::collections::BTreeMap;

use moldau_base::Mono;

use crate::history::{Event, Moment, Partition, Read};
use crate::watch::{Broken, Checker};

/// A question that is sent after a high watermark was told is answered with the same one or a higher one. Where several nodes may
/// lead that holds within a leader epoch: a new leader learns late what its followers have. But it must not tell where the log ends
/// before it knows of everything that was ever told to be there.
#[derive(Debug, Default)]
pub struct HighWatermarkBack {
    partitions: BTreeMap<Partition, Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// By leader epoch: when the first answer with each high watermark came.
    epochs: BTreeMap<Option<i32>, Vec<(Mono, i64)>>,
    /// When offsets were last lost, and from which on.
    lost: Option<(Mono, i64)>,
}

impl Told {
    fn told(&mut self, at: Mono, asked: Mono, epoch: Option<i32>, offset: i64) -> Result<(), String> {
        let told = self.epochs.entry(epoch).or_default();
        let before = told.partition_point(|(when, _)| *when < asked);
        if let Some((when, highest)) = told[..before].last().filter(|(_, highest)| *highest > offset) {
            return Err(format!(
                "high watermark {highest} at {:.6}s, and {offset} for a question sent at {:.6}s",
                when.0 as f64 / 1e9,
                asked.0 as f64 / 1e9
            ));
        }
        // An answer may come late, from before offsets were lost.
        let was_lost = self.lost.is_some_and(|(when, from)| asked <= when && offset >= from);
        if !was_lost && told.last().is_none_or(|(_, highest)| *highest < offset) {
            told.push((at, offset));
        }
        Ok(())
    }

    /// What was told in earlier epochs is there, whenever that was.
    fn ends(&self, epoch: i32, offset: i64) -> Result<(), String> {
        let earlier = self.epochs.range(..Some(epoch));
        let highest = earlier.filter_map(|(epoch, told)| Some((told.last()?.1, (*epoch)?))).max();
        match highest.filter(|(told, _)| *told > offset) {
            Some((told, former)) => Err(format!(
                "high watermark {told} in epoch {former}, and its end is {offset} in epoch {epoch}"
            )),
            None => Ok(()),
        }
    }

    fn may_be_lost(&mut self, at: Mono, from: i64) {
        self.epochs.values_mut().for_each(|told| told.retain(|(_, highest)| *highest < from));
        self.lost = Some((at, from));
    }
}

impl Checker for HighWatermarkBack {
    fn name(&self) -> &'static str {
        "HighWatermarkBack"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        let Some(partition) = moment.event.partition() else { return Ok(()) };
        let told = self.partitions.entry(partition.clone()).or_default();
        let verdict = match &moment.event {
            Event::Read(Read { asked, epoch, high_watermark, .. }) if *high_watermark >= 0 => {
                told.told(moment.at, *asked, *epoch, *high_watermark)
            }
            Event::LogEnd { asked, epoch, offset, .. } => {
                let as_before = epoch.map_or(Ok(()), |epoch| told.ends(epoch, *offset));
                as_before.and_then(|()| told.told(moment.at, *asked, *epoch, *offset))
            }
            Event::MayBeLost { from, .. } => {
                told.may_be_lost(moment.at, *from);
                Ok(())
            }
            _ => Ok(()),
        };
        verdict.map_err(|what| Broken::partition(partition, format!("{partition} had {what}")))
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
