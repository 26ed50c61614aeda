//! A set of offsets as few half-open ranges.

use std::collections::BTreeMap;

/// Offsets, as ranges that neither touch nor overlap.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Adds `from..to`.
    pub(crate) fn insert(&mut self, from: i64, to: i64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        while let Some((&start, &end)) = self.0.range(..=to).next_back() {
            if end < from {
                break;
            }
            from = from.min(start);
            to = to.max(end);
            self.0.remove(&start);
        }
        self.0.insert(from, to);
    }

    /// Whether `offset` is in the set.
    pub(crate) fn contains(&self, offset: i64) -> bool {
        self.0.range(..=offset).next_back().is_some_and(|(_, &end)| offset < end)
    }

    /// Takes out everything from `from` on.
    pub(crate) fn cut(&mut self, from: i64) {
        self.0.split_off(&from);
        if let Some((_, end)) = self.0.range_mut(..from).next_back() {
            *end = (*end).min(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_are_cut() {
        let mut set = Ranges::default();
        set.insert(0, 5);
        set.insert(10, 12);
        set.insert(4, 10);
        set.insert(20, 20);
        assert_eq!(set.0, BTreeMap::from([(0, 12)]));
        set.insert(15, 20);
        set.cut(16);
        assert!(set.contains(0) && set.contains(15) && !set.contains(12) && !set.contains(16));
        set.cut(3);
        assert_eq!(set.0, BTreeMap::from([(0, 3)]));
    }
}
