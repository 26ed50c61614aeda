//! OffsetCommit, OffsetFetch and OffsetDelete.

use bytestring::ByteString;
use moldau_base::planted::{Bug, planted};
use moldau_base::{Now, Uuid};
use moldau_wire::ErrorCode;

use crate::config::STRING_BYTES;
use crate::context::Then;
use crate::coordinator::{Coordinator, Effect};
use crate::group::{Group, State};
use crate::offsets::View;
use crate::records::{Entry, OffsetValue, own};
use crate::request::{
    CommitPartition, CommittedTopic, FetchGroup, FetchTopic, FetchedGroup, FetchedPartition, FetchedTopic,
    OffsetCommit, OffsetDelete, OffsetDeleteReply, OffsetFetch, Reply, Request,
};

impl Coordinator {
    /// Takes an OffsetCommit; it is answered once the offsets are committed to the log.
    pub(crate) fn offset_commit(
        &mut self,
        now: Now,
        token: u64,
        commit: &OffsetCommit,
        out: &mut Vec<Effect>,
    ) {
        let checked = match self.groups.get(&commit.group) {
            Some(group) => validate_commit(group, commit),
            None => self.admit_simple_consumer(commit, now.wall_ms),
        };
        if let Err(error) = checked {
            out.push(Effect::Reply { token, reply: Request::OffsetCommit(commit.clone()).refuse(error) });
            return;
        }
        let (entries, reply) = self.commit_entries(commit, now.wall_ms);
        self.with_group(now, out, &commit.group, |group, cx| {
            // A commit is a sign of life.
            if matches!(group.state, State::Stable | State::PreparingRebalance) {
                group.heard_of(cx, &commit.member_id);
            }
            if entries.is_empty() {
                cx.reply(token, reply);
            } else if planted(Bug::CommitUnwritten) {
                cx.reply(token, reply);
                cx.append(entries, Then::Nothing);
            } else {
                cx.append(entries, Then::Reply { token, reply });
            }
        });
    }

    /// A client without a generation may commit offsets to a group that is not there: it makes one without members.
    fn admit_simple_consumer(&mut self, commit: &OffsetCommit, now_ms: i64) -> Result<(), ErrorCode> {
        match (commit.generation < 0, commit.knows_group_id_not_found) {
            (true, _) => self.create_group(&commit.group, now_ms),
            (false, true) => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            (false, false) => Err(ErrorCode::ILLEGAL_GENERATION),
        }
    }

    fn commit_entries(&self, commit: &OffsetCommit, now_ms: i64) -> (Vec<Entry>, Reply) {
        let expire_ms = (commit.retention_ms >= 0).then(|| now_ms.saturating_add(commit.retention_ms));
        let group = own(&commit.group);
        let mut entries = Vec::new();
        let mut topics = Vec::with_capacity(commit.topics.len());
        for topic in &commit.topics {
            let name = own(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let error = self.commit_fault(&name, partition);
                partitions.push((partition.partition, error));
                if error.is_err() {
                    continue;
                }
                let value = OffsetValue {
                    offset: partition.offset,
                    leader_epoch: partition.leader_epoch,
                    metadata: own(&partition.metadata),
                    commit_ms: now_ms,
                    expire_ms,
                    topic_id: topic.topic_id,
                };
                entries.push(Entry::Offset {
                    group: group.clone(),
                    topic: name.clone(),
                    partition: partition.partition,
                    value: Some(value),
                });
            }
            topics.push(CommittedTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions });
        }
        (entries, Reply::OffsetCommit(topics))
    }

    fn commit_fault(&self, topic: &ByteString, partition: &CommitPartition) -> ErrorCode {
        let max = self.config.offset_metadata_max_bytes;
        let metadata = &partition.metadata;
        if metadata.len() > STRING_BYTES || metadata.len() > max && metadata.encode_utf16().count() > max {
            ErrorCode::OFFSET_METADATA_TOO_LARGE
        } else if topic.len() > STRING_BYTES {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        } else {
            ErrorCode::NONE
        }
    }

    /// Takes an OffsetFetch. One that wants stable offsets waits for the appends that may change its answer.
    pub(crate) fn offset_fetch(&mut self, token: u64, fetch: OffsetFetch, out: &mut Vec<Effect>) {
        let pending = match fetch.require_stable {
            true => fetch.groups.iter().filter_map(|group| self.pending_for(group)).max(),
            false => None,
        };
        if let Some(write) = pending.and_then(|id| self.writes.open.get_mut(&id)) {
            self.parked.insert(token);
            write.waiting.push((token, fetch));
            return;
        }
        let groups = fetch.groups.iter().map(|group| self.fetched(group)).collect();
        out.push(Effect::Reply { token, reply: Reply::OffsetFetch(groups) });
    }

    /// Looks again at requests that waited for an append, unless their senders have gone.
    pub(crate) fn fetch_again(&mut self, waiting: Vec<(u64, OffsetFetch)>, out: &mut Vec<Effect>) {
        for (token, fetch) in waiting {
            if self.parked.remove(&token) {
                self.offset_fetch(token, fetch, out);
            }
        }
    }

    /// The newest append that may change what the request is answered, of those that will end soon.
    fn pending_for(&self, wanted: &FetchGroup) -> Option<u64> {
        let ends = |id: &u64| self.writes.open.get(id).is_some_and(|write| !write.in_doubt);
        let Some(topics) = &wanted.topics else {
            return self.offsets.pending_of_group(&wanted.group).filter(ends).max();
        };
        let partitions = topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, *p)));
        let pending = partitions.flat_map(|(topic, p)| self.offsets.pending(&wanted.group, &topic.name, p));
        pending.filter(ends).max()
    }

    fn fetched(&self, wanted: &FetchGroup) -> FetchedGroup {
        let topics = match &wanted.topics {
            Some(topics) => topics.iter().map(|topic| self.fetched_topic(&wanted.group, topic)).collect(),
            None => self.fetched_all(&wanted.group),
        };
        FetchedGroup { group: wanted.group.clone(), error: ErrorCode::NONE, topics }
    }

    fn fetched_topic(&self, group: &ByteString, topic: &FetchTopic) -> FetchedTopic {
        let partitions = topic.partitions.iter().map(|&partition| {
            let value = self.offsets.get(group, &topic.name, partition, View::Committed);
            fetched_partition(partition, value.filter(|value| same_topic(value.topic_id, topic.topic_id)))
        });
        FetchedTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions: partitions.collect() }
    }

    fn fetched_all(&self, group: &ByteString) -> Vec<FetchedTopic> {
        let mut topics: Vec<FetchedTopic> = Vec::new();
        for (topic, partition, value) in self.offsets.of_group(group, View::Committed) {
            let fetched = fetched_partition(partition, Some(value));
            match topics.last_mut() {
                Some(last) if last.name == *topic => last.partitions.push(fetched),
                _ => topics.push(FetchedTopic {
                    name: topic.clone(),
                    topic_id: value.topic_id,
                    partitions: vec![fetched],
                }),
            }
        }
        topics
    }

    /// Takes an OffsetDelete; it is answered once the tombstones are committed to the log.
    pub(crate) fn offset_delete(
        &mut self,
        now: Now,
        token: u64,
        delete: &OffsetDelete,
        out: &mut Vec<Effect>,
    ) {
        let refusal = match self.groups.get(&delete.group) {
            None => Some(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(group) if group.state != State::Empty && !group.is_consumer() => {
                Some(ErrorCode::NON_EMPTY_GROUP)
            }
            Some(_) => None,
        };
        if let Some(error) = refusal {
            let reply = Reply::OffsetDelete(OffsetDeleteReply { error, topics: Vec::new() });
            out.push(Effect::Reply { token, reply });
            return;
        }
        let (entries, reply) = self.delete_entries(delete);
        let (_, mut cx) = self.split(now, out);
        if entries.is_empty() || planted(Bug::DeleteNothing) {
            cx.reply(token, reply);
        } else {
            cx.append(entries, Then::Reply { token, reply });
        }
    }

    fn delete_entries(&self, delete: &OffsetDelete) -> (Vec<Entry>, Reply) {
        let group = self.groups.get(&delete.group);
        let mut entries = Vec::new();
        let mut topics = Vec::with_capacity(delete.topics.len());
        for (topic, partitions) in &delete.topics {
            let in_use = group.is_some_and(|group| group.is_subscribed(topic));
            let error = if in_use { ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC } else { ErrorCode::NONE };
            for &partition in partitions.iter().filter(|_| !in_use) {
                if self.offsets.is_there(&delete.group, topic, partition) {
                    entries.push(Entry::Offset {
                        group: own(&delete.group),
                        topic: own(topic),
                        partition,
                        value: None,
                    });
                }
            }
            topics.push((topic.clone(), partitions.iter().map(|p| (*p, error)).collect()));
        }
        (entries, Reply::OffsetDelete(OffsetDeleteReply { error: ErrorCode::NONE, topics }))
    }
}

/// Whether the group takes offsets from this client: from members of this generation, and while there are no members from
/// anybody without a generation.
fn validate_commit(group: &Group, commit: &OffsetCommit) -> Result<(), ErrorCode> {
    if commit.generation < 0 && group.state == State::Empty || planted(Bug::CommitOfFormer) {
        return Ok(());
    }
    let is_member =
        commit.generation >= 0 || !commit.member_id.is_empty() || commit.group_instance_id.is_some();
    if is_member {
        group.validate_member(&commit.member_id, commit.group_instance_id.as_ref())?;
        if commit.generation != group.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
    } else if group.state != State::Empty {
        return Err(ErrorCode::UNKNOWN_MEMBER_ID);
    }
    match group.state {
        State::CompletingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
        State::Empty | State::PreparingRebalance | State::Stable => Ok(()),
    }
}

/// Ids that are both known tell topics of one name apart.
pub(crate) fn same_topic(a: Uuid, b: Uuid) -> bool {
    a.is_zero() || b.is_zero() || a == b
}

fn fetched_partition(partition: i32, value: Option<&OffsetValue>) -> FetchedPartition {
    FetchedPartition {
        partition,
        offset: value.map_or(-1, |value| value.offset),
        leader_epoch: value.map_or(-1, |value| value.leader_epoch),
        metadata: value.map(|value| value.metadata.clone()).unwrap_or_default(),
        error: ErrorCode::NONE,
    }
}
