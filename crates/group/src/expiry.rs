//! Offsets that nobody needs any more: expired ones (`offsets.retention.minutes`, KIP-211) and those of deleted topics.
//!
//! While a group has members, offsets of topics that they subscribe to are kept. An empty group's offsets expire when it
//! has been empty for the retention; those of simple consumers, and of topics that a stable group of consumers does not
//! subscribe to, expire by the time of their commit. A group whose last offset has gone goes too.

use bytestring::ByteString;
use moldau_base::Now;

use crate::commit::same_topic;
use crate::context::Then;
use crate::coordinator::{Coordinator, DeletedTopic, Effect};
use crate::group::{Group, State};
use crate::offsets::View;
use crate::records::{Entry, OffsetValue};

/// Most records in one batch of tombstones.
const TOMBSTONES_PER_APPEND: usize = 1_000;

/// From when the age of an offset is counted.
enum Since {
    Commit,
    Empty(i64),
}

impl Coordinator {
    /// Removes the expired offsets and the groups that are left with nothing.
    pub(crate) fn expire_offsets(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut entries = Vec::new();
        let ids: Vec<ByteString> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, out, &id, |group, cx| {
                if group.unwritten && group.state == State::Empty {
                    group.write_empty(cx);
                }
            });
            if self.expire_group(&id, now.wall_ms, &mut entries) {
                self.bury_group(&id, &mut entries);
            }
        }
        self.append_tombstones(now, entries, out);
    }

    /// Collects the tombstones of a group's expired offsets; true if the group goes with them.
    fn expire_group(&self, id: &ByteString, now_ms: i64, entries: &mut Vec<Entry>) -> bool {
        let Some(group) = self.groups.get(id) else { return false };
        let mut all_gone = true;
        let since = counted_since(group);
        for (topic, partition, value) in self.offsets.of_group(id, View::Latest) {
            let expired = match &since {
                Some(since) => !group.is_subscribed(topic) && self.is_expired(value, since, now_ms),
                None => false,
            };
            if expired {
                let (group, topic) = (group.id.clone(), topic.clone());
                entries.push(Entry::Offset { group, topic, partition, value: None });
            } else {
                all_gone = false;
            }
        }
        all_gone && group.is_deserted()
    }

    fn is_expired(&self, value: &OffsetValue, since: &Since, now_ms: i64) -> bool {
        let from_ms = match since {
            Since::Commit => value.commit_ms,
            Since::Empty(ms) if *ms >= 0 => *ms,
            Since::Empty(_) => value.commit_ms,
        };
        match value.expire_ms {
            Some(expire_ms) => now_ms >= expire_ms,
            None => now_ms.saturating_sub(from_ms) >= self.config.offsets_retention_ms,
        }
    }

    /// Removes the offsets of topics that are no more.
    pub(crate) fn topics_deleted(&mut self, now: Now, topics: &[DeletedTopic], out: &mut Vec<Effect>) {
        let mut entries = Vec::new();
        for topic in topics {
            for (group, partition, value) in self.offsets.of_topic(&topic.name) {
                if same_topic(value.topic_id, topic.id) {
                    let (group, topic) = (group.clone(), crate::records::own(&topic.name));
                    entries.push(Entry::Offset { group, topic, partition, value: None });
                }
            }
        }
        self.append_tombstones(now, entries, out);
    }

    fn append_tombstones(&mut self, now: Now, mut entries: Vec<Entry>, out: &mut Vec<Effect>) {
        let (_, mut cx) = self.split(now, out);
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(TOMBSTONES_PER_APPEND));
            cx.append(std::mem::replace(&mut entries, rest), Then::Nothing);
        }
    }
}

/// From when the offsets of a group age; `None` if they do not.
fn counted_since(group: &Group) -> Option<Since> {
    if group.protocol_type.is_none() {
        return Some(Since::Commit);
    }
    match group.state {
        State::Empty => Some(Since::Empty(group.since_ms)),
        State::Stable if group.is_consumer() && group.subscribed.is_some() => Some(Since::Commit),
        _ => None,
    }
}
