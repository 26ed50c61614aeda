//! A panel of checkers that looks at every event as it happens and keeps enough of the history to explain a violation.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use moldau_base::Mono;

use crate::history::{Event, Moment, Partition};
use crate::{commits, order, ownership, records, retention, times, watermark};

/// One safety property, checked event by event. The doc sentence of the implementing struct is the promise.
pub trait Checker: fmt::Debug {
    /// The property's name, as reports print it.
    fn name(&self) -> &'static str;
    /// Looks at the next event of the history.
    fn observe(&mut self, moment: &Moment) -> Result<(), Broken>;
    /// The run is over and every reader has read to the end of what it could.
    fn finish(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// In a sentence, with the numbers.
    pub what: String,
    /// What the report shows the history of.
    pub about: About,
}

/// What a violation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A partition.
    Partition(Partition),
    /// A group.
    Group(Arc<str>),
}

impl Broken {
    /// A violation about a partition.
    pub fn partition(partition: &Partition, what: String) -> Broken {
        Broken { what, about: About::Partition(partition.clone()) }
    }

    /// A violation about a group.
    pub fn group(group: &Arc<str>, what: String) -> Broken {
        Broken { what, about: About::Group(group.clone()) }
    }
}

/// A property that did not hold, and the end of the history of what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker's name.
    pub checker: &'static str,
    /// In a sentence, with the numbers.
    pub what: String,
    /// The last events about it, oldest first.
    pub history: Vec<Moment>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.checker, self.what)?;
        for moment in &self.history {
            writeln!(f, "  {:>12.6}s  {}", moment.at.0 as f64 / 1e9, moment.event)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Events that a report shows at most.
const REPORTED: usize = 40;

/// A panel of checkers over one history.
#[derive(Debug)]
pub struct Watch {
    checkers: Vec<Box<dyn Checker + Send>>,
    kept: VecDeque<Moment>,
    keep: usize,
    seen: u64,
}

impl Watch {
    /// Every checker there is, explaining with the last `keep` events.
    pub fn all(keep: usize) -> Watch {
        let checkers: Vec<Box<dyn Checker + Send>> = vec![
            Box::new(records::LostWrite::default()),
            Box::new(records::Duplicate::default()),
            Box::new(records::InconsistentOffset::default()),
            Box::new(records::UnseenAcknowledged::default()),
            Box::new(records::RefusedRead::default()),
            Box::new(records::GarbledRead),
            Box::new(records::InventedRecord::default()),
            Box::new(order::Reordered::default()),
            Box::new(order::PollSkip::default()),
            Box::new(order::NonMonotonicPoll::default()),
            Box::new(watermark::HighWatermarkBack::default()),
            Box::new(watermark::ReadAboveHighWatermark),
            Box::new(commits::CommittedOffsetBack::default()),
            Box::new(commits::CommitInvented::default()),
            Box::new(ownership::TwoOwners::default()),
            Box::new(retention::ExpiredEarly::default()),
            Box::new(times::WrongByTime::default()),
        ];
        Watch::of(checkers, keep)
    }

    /// These checkers only.
    pub fn of(checkers: Vec<Box<dyn Checker + Send>>, keep: usize) -> Watch {
        Watch { checkers, kept: VecDeque::new(), keep, seen: 0 }
    }

    /// Shows the next event to every checker.
    pub fn observe(&mut self, at: Mono, event: Event) -> Result<(), Violation> {
        let moment = Moment { at, event };
        self.seen += 1;
        let found = self.checkers.iter_mut().find_map(|c| Some((c.name(), c.observe(&moment).err()?)));
        if self.kept.len() >= self.keep {
            self.kept.pop_front();
        }
        self.kept.push_back(moment);
        self.report(found)
    }

    /// Ends the history.
    pub fn finish(&mut self) -> Result<(), Violation> {
        let found = self.checkers.iter_mut().find_map(|c| Some((c.name(), c.finish().err()?)));
        self.report(found)
    }

    /// Events seen so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    fn report(&self, found: Option<(&'static str, Broken)>) -> Result<(), Violation> {
        let Some((checker, broken)) = found else { return Ok(()) };
        let about = |moment: &&Moment| match &broken.about {
            About::Partition(partition) => moment.event.partition() == Some(partition),
            About::Group(group) => moment.event.group() == Some(group),
        };
        let mut history: Vec<Moment> = self.kept.iter().rev().filter(about).take(REPORTED).cloned().collect();
        history.reverse();
        Err(Violation { checker, what: broken.what, history })
    }
}
