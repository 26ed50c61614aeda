//! Refusals that have nothing to do with the state of a group: how each API says that the coordinator is loading, is
//! elsewhere, or could not write.

use moldau_wire::ErrorCode;

use crate::request::{
    CommittedTopic, DeletedGroup, DescribedGroup, FetchedGroup, JoinReply, LeaveReply, ListGroupsReply,
    OffsetDeleteReply, Reply, Request, SyncReply,
};

impl Request {
    /// The answer that refuses the whole request with `error`, in the form that this API gives it.
    pub fn refuse(&self, error: ErrorCode) -> Reply {
        match self {
            Request::Join(join) => Reply::Join(JoinReply::refused(join.member_id.clone(), error)),
            Request::Sync(_) => Reply::Sync(SyncReply::refused(error)),
            Request::Heartbeat(_) => Reply::Heartbeat(error),
            Request::Leave(_) => Reply::Leave(LeaveReply { error, members: Vec::new() }),
            Request::OffsetCommit(commit) => {
                let topics = commit.topics.iter().map(|topic| CommittedTopic {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: topic.partitions.iter().map(|p| (p.partition, error)).collect(),
                });
                Reply::OffsetCommit(topics.collect())
            }
            Request::OffsetFetch(fetch) => {
                let groups = fetch.groups.iter();
                let refused =
                    groups.map(|g| FetchedGroup { group: g.group.clone(), error, topics: Vec::new() });
                Reply::OffsetFetch(refused.collect())
            }
            Request::OffsetDelete(_) => Reply::OffsetDelete(OffsetDeleteReply { error, topics: Vec::new() }),
            Request::ListGroups(_) => Reply::ListGroups(ListGroupsReply { error, groups: Vec::new() }),
            Request::DescribeGroups(describe) => {
                let groups = describe.groups.iter();
                Reply::DescribeGroups(groups.map(|g| DescribedGroup::refused(g.clone(), error)).collect())
            }
            Request::DeleteGroups(delete) => {
                let groups = delete.groups.iter();
                Reply::DeleteGroups(groups.map(|g| DeletedGroup { group: g.clone(), error }).collect())
            }
        }
    }
}

impl Reply {
    /// Turns an answer that was prepared for the moment its records are committed into one that says they are not.
    /// What had an error of its own keeps it.
    pub(crate) fn into_failure(mut self, error: ErrorCode) -> Reply {
        let fail = |slot: &mut ErrorCode| {
            if slot.is_ok() {
                *slot = error;
            }
        };
        match &mut self {
            Reply::Join(reply) => {
                self = Reply::Join(JoinReply::refused(std::mem::take(&mut reply.member_id), error));
            }
            Reply::Sync(_) => self = Reply::Sync(SyncReply::refused(error)),
            Reply::Heartbeat(slot) => fail(slot),
            Reply::Leave(reply) => fail(&mut reply.error),
            Reply::OffsetCommit(topics) => {
                topics.iter_mut().flat_map(|topic| &mut topic.partitions).for_each(|(_, slot)| fail(slot));
            }
            Reply::OffsetFetch(groups) => {
                for group in groups {
                    group.topics.clear();
                    fail(&mut group.error);
                }
            }
            Reply::OffsetDelete(reply) => {
                reply.topics.clear();
                fail(&mut reply.error);
            }
            Reply::ListGroups(reply) => fail(&mut reply.error),
            Reply::DescribeGroups(groups) => groups.iter_mut().for_each(|group| fail(&mut group.error)),
            Reply::DeleteGroups(groups) => groups.iter_mut().for_each(|group| fail(&mut group.error)),
        }
        self
    }
}

/// What a client is told when its records could not be written: the errors of a partition mean nothing to it.
pub(crate) fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::NOT_COORDINATOR,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE | ErrorCode::INVALID_FETCH_SIZE => {
            ErrorCode::UNKNOWN_SERVER_ERROR
        }
        other => other,
    }
}
