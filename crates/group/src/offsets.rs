//! The committed offsets of all groups of a coordinator.
//!
//! Each offset remembers the writes that are not committed to the log yet. Decisions see the latest write; clients are
//! answered what is committed. An append that fails takes its writes back.

use std::collections::BTreeMap;

use bytestring::ByteString;

use crate::records::OffsetValue;

/// Names one offset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OffsetKey {
    pub(crate) group: ByteString,
    pub(crate) topic: ByteString,
    pub(crate) partition: i32,
}

/// One offset: what is committed, and what is on its way, oldest first.
#[derive(Clone, Debug, Default)]
struct Slot {
    committed: Option<OffsetValue>,
    pending: Vec<(u64, Option<OffsetValue>)>,
}

impl Slot {
    fn latest(&self) -> Option<&OffsetValue> {
        match self.pending.last() {
            Some((_, value)) => value.as_ref(),
            None => self.committed.as_ref(),
        }
    }

    fn is_gone(&self) -> bool {
        self.committed.is_none() && self.pending.is_empty()
    }
}

type Partitions = BTreeMap<i32, Slot>;
type Topics = BTreeMap<ByteString, Partitions>;

/// Which state of the offsets is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// What is committed to the log.
    Committed,
    /// What will be once everything that was written is committed.
    Latest,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offsets {
    groups: BTreeMap<ByteString, Topics>,
}

impl Offsets {
    /// Takes a record that is in the log for good.
    pub(crate) fn replay(&mut self, key: OffsetKey, value: Option<OffsetValue>) {
        match value {
            Some(value) => self.slot(&key).committed = Some(value),
            None => self.change(&key, |slot| slot.committed = None),
        }
    }

    /// Notes a write that append `id` carries.
    pub(crate) fn write(&mut self, id: u64, key: &OffsetKey, value: Option<OffsetValue>) {
        self.slot(key).pending.push((id, value));
    }

    /// The writes of append `id` to `key` are committed.
    pub(crate) fn commit(&mut self, id: u64, key: &OffsetKey) {
        self.change(key, |slot| {
            for (_, value) in slot.pending.extract_if(.., |(of, _)| *of == id) {
                slot.committed = value;
            }
        });
    }

    /// The writes of append `id` to `key` did not happen.
    pub(crate) fn take_back(&mut self, id: u64, key: &OffsetKey) {
        self.change(key, |slot| slot.pending.retain(|(of, _)| *of != id));
    }

    /// One offset.
    pub(crate) fn get(
        &self,
        group: &ByteString,
        topic: &ByteString,
        partition: i32,
        view: View,
    ) -> Option<&OffsetValue> {
        let slot = self.groups.get(group)?.get(topic)?.get(&partition)?;
        match view {
            View::Committed => slot.committed.as_ref(),
            View::Latest => slot.latest(),
        }
    }

    /// The appends that a partition waits for.
    pub(crate) fn pending(
        &self,
        group: &ByteString,
        topic: &ByteString,
        partition: i32,
    ) -> impl Iterator<Item = u64> {
        let slot = self.groups.get(group).and_then(|topics| topics.get(topic)?.get(&partition));
        slot.into_iter().flat_map(|slot| slot.pending.iter().map(|(id, _)| *id))
    }

    /// The appends that partitions of the group wait for.
    pub(crate) fn pending_of_group(&self, group: &ByteString) -> impl Iterator<Item = u64> {
        let topics = self.groups.get(group).into_iter().flat_map(BTreeMap::values);
        let slots = topics.flat_map(BTreeMap::values);
        slots.flat_map(|slot| slot.pending.iter().map(|(id, _)| *id))
    }

    /// Whether there is such an offset, committed or on its way. One whose deletion is on its way is there until that is committed.
    pub(crate) fn is_there(&self, group: &ByteString, topic: &ByteString, partition: i32) -> bool {
        self.groups.get(group).and_then(|topics| topics.get(topic)?.get(&partition)).is_some()
    }

    /// All of these of a group.
    pub(crate) fn there_of_group(&self, group: &ByteString) -> impl Iterator<Item = (&ByteString, i32)> {
        let topics = self.groups.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)))
    }

    /// The offsets of a group, by topic and partition.
    pub(crate) fn of_group(
        &self,
        group: &ByteString,
        view: View,
    ) -> impl Iterator<Item = (&ByteString, i32, &OffsetValue)> {
        let topics = self.groups.get(group).into_iter().flatten();
        topics.flat_map(move |(topic, partitions)| {
            partitions.iter().filter_map(move |(partition, slot)| {
                let value = match view {
                    View::Committed => slot.committed.as_ref(),
                    View::Latest => slot.latest(),
                };
                value.map(|value| (topic, *partition, value))
            })
        })
    }

    /// The latest offsets of a topic in all groups.
    pub(crate) fn of_topic(
        &self,
        topic: &ByteString,
    ) -> impl Iterator<Item = (&ByteString, i32, &OffsetValue)> {
        let groups =
            self.groups.iter().filter_map(|(group, topics)| topics.get(topic).map(|parts| (group, parts)));
        groups.flat_map(|(group, partitions)| {
            partitions
                .iter()
                .filter_map(move |(partition, slot)| slot.latest().map(|value| (group, *partition, value)))
        })
    }

    /// Whether the group has any offset, committed or on its way.
    pub(crate) fn has_group(&self, group: &ByteString) -> bool {
        self.groups.contains_key(group)
    }

    /// The groups that have any offset, committed or on its way.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &ByteString> {
        self.groups.keys()
    }

    fn slot(&mut self, key: &OffsetKey) -> &mut Slot {
        let topics = self.groups.entry(key.group.clone()).or_default();
        topics.entry(key.topic.clone()).or_default().entry(key.partition).or_default()
    }

    /// Changes a slot if it is there, and removes what became empty.
    fn change(&mut self, key: &OffsetKey, change: impl FnOnce(&mut Slot)) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        let Some(slot) = partitions.get_mut(&key.partition) else { return };
        change(slot);
        if !slot.is_gone() {
            return;
        }
        partitions.remove(&key.partition);
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
    }
}

#[cfg(test)]
mod tests {
    use moldau_base::Uuid;

    use super::*;

    fn key() -> OffsetKey {
        OffsetKey { group: ByteString::from_static("g"), topic: ByteString::from_static("t"), partition: 0 }
    }

    fn value(offset: i64) -> Option<OffsetValue> {
        Some(OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: ByteString::new(),
            commit_ms: 0,
            expire_ms: None,
            topic_id: Uuid::ZERO,
        })
    }

    fn seen(offsets: &Offsets, view: View) -> Option<i64> {
        let key = key();
        offsets.get(&key.group, &key.topic, 0, view).map(|value| value.offset)
    }

    #[test]
    fn writes_are_seen_by_clients_once_committed_and_taken_back_if_they_fail() {
        let mut offsets = Offsets::default();
        offsets.write(1, &key(), value(10));
        offsets.write(2, &key(), value(20));
        offsets.write(3, &key(), None);
        assert_eq!((seen(&offsets, View::Committed), seen(&offsets, View::Latest)), (None, None));
        offsets.commit(1, &key());
        offsets.take_back(3, &key());
        assert_eq!((seen(&offsets, View::Committed), seen(&offsets, View::Latest)), (Some(10), Some(20)));
        assert_eq!(offsets.pending_of_group(&key().group).max(), Some(2));
        offsets.commit(2, &key());
        offsets.write(4, &key(), None);
        offsets.commit(4, &key());
        assert!(!offsets.has_group(&key().group), "nothing stays behind");
    }
}
