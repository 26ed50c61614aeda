//! Which leader epoch began at which offset (KIP-101): the base of every truncation and of OffsetForLeaderEpoch.
//!
//! Epochs and start offsets only grow along the history. It lives in memory, in `leader-epoch-checkpoint`, and, for what
//! the checkpoint has not seen, in the headers of the batches themselves.

/// Leader epochs with their start offsets, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochHistory {
    entries: Vec<(i32, i64)>,
}

impl EpochHistory {
    /// A history from a checkpoint's entries. Those that contradict an earlier one are left out.
    pub fn from_entries(entries: impl IntoIterator<Item = (i32, i64)>) -> EpochHistory {
        let mut history = EpochHistory::default();
        for (epoch, start) in entries {
            history.assign(epoch, start);
        }
        history
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[(i32, i64)] {
        &self.entries
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|&(epoch, _)| epoch)
    }

    /// Notes that batches of `epoch` begin at `start`; true when that was news. An epoch that began at the same offset or
    /// later but is older never had a batch and goes.
    pub fn assign(&mut self, epoch: i32, start: i64) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| epoch <= latest) {
            return false;
        }
        while self.entries.last().is_some_and(|&(_, begun)| begun >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    /// The epoch of the batch at `offset`.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|&(_, start)| start <= offset);
        after.checked_sub(1).map(|i| self.entries[i].0)
    }

    /// The largest epoch not above `epoch`, and where it ends, which is where the next one begins or `end`, the log's end.
    /// `None` when every known epoch is above or there is none. This is the answer to OffsetForLeaderEpoch.
    pub fn end_of(&self, epoch: i32, end: i64) -> Option<(i32, i64)> {
        let after = self.entries.partition_point(|&(known, _)| known <= epoch);
        let (found, _) = self.entries[after.checked_sub(1)?];
        Some((found, self.entries.get(after).map_or(end, |&(_, start)| start)))
    }

    /// Forgets what begins at `end` or later, after a truncation; true when that changed something.
    pub fn truncate_end(&mut self, end: i64) -> bool {
        let keep = self.entries.partition_point(|&(_, start)| start < end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Forgets what ended before `start`, the log's first offset; the epoch at `start` begins there then. True when that
    /// changed something.
    pub fn truncate_start(&mut self, start: i64) -> bool {
        let after = self.entries.partition_point(|&(_, begun)| begun <= start);
        if after == 0 || self.entries[after - 1].1 == start && after == 1 {
            return false;
        }
        self.entries.drain(..after - 1);
        self.entries[0].1 = start;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> EpochHistory {
        EpochHistory::from_entries([(1, 0), (3, 10), (4, 25)])
    }

    #[test]
    fn ends_are_the_next_beginnings() {
        assert_eq!(history().end_of(0, 40), None);
        assert_eq!(history().end_of(1, 40), Some((1, 10)));
        assert_eq!(history().end_of(2, 40), Some((1, 10)));
        assert_eq!(history().end_of(9, 40), Some((4, 40)));
        assert_eq!(history().epoch_at(10), Some(3));
        assert_eq!(history().epoch_at(9), Some(1));
        assert_eq!(EpochHistory::default().epoch_at(0), None);
    }

    #[test]
    fn assignments_only_grow() {
        let mut history = history();
        assert!(!history.assign(4, 30));
        assert!(!history.assign(-1, 30));
        assert!(history.assign(6, 25));
        assert_eq!(history.entries(), [(1, 0), (3, 10), (6, 25)]);
    }

    #[test]
    fn truncation_keeps_what_has_batches() {
        let mut end = history();
        assert!(end.truncate_end(25));
        assert!(!end.truncate_end(25));
        assert_eq!(end.entries(), [(1, 0), (3, 10)]);
        let mut start = history();
        assert!(start.truncate_start(12));
        assert!(!start.truncate_start(12));
        assert_eq!(start.entries(), [(3, 12), (4, 25)]);
    }
}
