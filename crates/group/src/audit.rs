//! The promise that the log tells everything: a coordinator and one that has replayed the same log are compared.

use std::collections::BTreeMap;

use bytestring::ByteString;

use crate::coordinator::Coordinator;
use crate::group::{Group, State};
use crate::offsets::View;
use crate::records::OffsetValue;

impl Coordinator {
    /// Compares this coordinator with one that has just replayed everything that this one has asked to append and that did
    /// not fail; the first difference, in words. Nothing is compared of a group that is between two assignments, except that
    /// the log is not ahead of it.
    pub fn differs_from(&self, replayed: &Coordinator) -> Option<String> {
        for id in self.offsets.groups().chain(replayed.offsets.groups()) {
            let (live, logged) = (latest(self, id), latest(replayed, id));
            if live != logged {
                return Some(format!("offsets of {id}: live {live:?}, log {logged:?}"));
            }
        }
        for group in replayed.groups.values().filter(|group| group.recorded) {
            if !self.groups.get(&group.id).is_some_and(|live| live.recorded) {
                return Some(format!("group {} is only in the log", group.id));
            }
        }
        self.groups.values().filter(|group| group.recorded && !group.unwritten).find_map(|live| {
            match replayed.groups.get(&live.id).filter(|group| group.recorded) {
                Some(logged) => group_difference(live, logged),
                // An append that failed may leave a group without its first record.
                None if live.state == State::Stable => Some(format!("group {} is not in the log", live.id)),
                None => None,
            }
        })
    }
}

fn latest<'a>(
    coordinator: &'a Coordinator,
    id: &ByteString,
) -> BTreeMap<(&'a ByteString, i32), &'a OffsetValue> {
    coordinator.offsets.of_group(id, View::Latest).map(|(topic, p, value)| ((topic, p), value)).collect()
}

fn group_difference(live: &Group, logged: &Group) -> Option<String> {
    if logged.generation > live.generation {
        return Some(format!("group {} has generation {} in the log", live.id, logged.generation));
    }
    if !matches!(live.state, State::Empty | State::Stable) {
        return None;
    }
    let record = |group: &Group| group.record(|member| member.assignment.clone());
    let (live_record, logged_record) = (record(live), record(logged));
    (live_record != logged_record)
        .then(|| format!("group {}: live {live_record:?}, log {logged_record:?}", live.id))
}
