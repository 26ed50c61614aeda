//! Checkers of committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moldau_base::Mono;

use crate::history::{Commit, Event, Moment, Partition};
use crate::watch::{Broken, Checker};

/// A committed offset that was acknowledged is not followed by a lower one. Members of a group commit growing offsets; a
/// commit without an answer may take effect at any later time, so its offset stays allowed.
#[derive(Debug, Default)]
pub struct CommittedOffsetBack {
    positions: BTreeMap<(Arc<str>, Partition), Position>,
}

#[derive(Debug, Default)]
struct Position {
    acknowledged: Vec<(Mono, i64)>,
    open: BTreeMap<i64, u32>,
}

impl CommittedOffsetBack {
    fn position(&mut self, commit: &Commit) -> &mut Position {
        self.positions.entry((commit.group.clone(), commit.partition.clone())).or_default()
    }

    fn close(&mut self, commit: &Commit) {
        let open = &mut self.position(commit).open;
        if let Some(count) = open.get_mut(&commit.offset) {
            *count -= 1;
            if *count == 0 {
                open.remove(&commit.offset);
            }
        }
    }

    fn told(
        &mut self,
        group: &Arc<str>,
        partition: &Partition,
        asked: Mono,
        offset: Option<i64>,
    ) -> Result<(), Broken> {
        let Some(position) = self.positions.get_mut(&(group.clone(), partition.clone())) else {
            return Ok(());
        };
        let before = position.acknowledged.partition_point(|(when, _)| *when < asked);
        let Some((when, highest)) = position.acknowledged[..before].last().copied() else { return Ok(()) };
        match offset {
            Some(offset) if offset >= highest => return Ok(()),
            Some(offset) if position.open.contains_key(&offset) => {
                // A late commit took effect; who comes next goes on from there.
                position.acknowledged = vec![(when, offset)];
                return Ok(());
            }
            _ => {}
        }
        let told = offset.map_or("none".to_owned(), |offset| offset.to_string());
        let what = format!("{group} had committed {partition}@{highest} and was told {told}");
        Err(Broken::group(group, what))
    }
}

impl Checker for CommittedOffsetBack {
    fn name(&self) -> &'static str {
        "CommittedOffsetBack"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Committing(commit) => *self.position(commit).open.entry(commit.offset).or_default() += 1,
            Event::CommitRefused(commit) => self.close(commit),
            Event::Committed(commit) => {
                self.close(commit);
                let acknowledged = &mut self.position(commit).acknowledged;
                if acknowledged.last().is_none_or(|(_, highest)| *highest < commit.offset) {
                    acknowledged.push((moment.at, commit.offset));
                }
            }
            Event::CommittedRead { group, partition, asked, offset } => {
                return self.told(group, partition, *asked, *offset);
            }
            Event::GroupMayBeLost { group } => self.positions.retain(|(of, _), _| of != group),
            Event::MayBeLost { partition, from } => {
                let of_partition = self.positions.iter_mut().filter(|((_, p), _)| p == partition);
                of_partition
                    .for_each(|(_, position)| position.acknowledged.retain(|(_, offset)| offset <= from));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A committed offset that is told was committed by somebody.
#[derive(Debug, Default)]
pub struct CommitInvented {
    asked: BTreeSet<(Arc<str>, Partition, i64)>,
}

impl Checker for CommitInvented {
    fn name(&self) -> &'static str {
        "CommitInvented"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Committing(commit) => {
                self.asked.insert((commit.group.clone(), commit.partition.clone(), commit.offset));
            }
            Event::CommittedRead { group, partition, offset: Some(offset), .. }
                if !self.asked.contains(&(group.clone(), partition.clone(), *offset)) =>
            {
                let what = format!("{group} was told {partition}@{offset}, which nobody has committed");
                return Err(Broken::group(group, what));
            }
            _ => {}
        }
        Ok(())
    }
}
