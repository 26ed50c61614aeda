//! What a coordinator is asked and what it answers, one pair of types per API, free of protocol versions: where a
//! version changes the behaviour, the request says which behaviour its sender understands.

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_wire::ErrorCode;

/// A request to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// JoinGroup.
    Join(Join),
    /// SyncGroup.
    Sync(Sync),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup.
    Leave(Leave),
    /// OffsetCommit.
    OffsetCommit(OffsetCommit),
    /// OffsetFetch.
    OffsetFetch(OffsetFetch),
    /// OffsetDelete.
    OffsetDelete(OffsetDelete),
    /// ListGroups.
    ListGroups(ListGroups),
    /// DescribeGroups.
    DescribeGroups(DescribeGroups),
    /// DeleteGroups.
    DeleteGroups(DeleteGroups),
}

/// The answer to the [`Request`] of the same variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To JoinGroup.
    Join(JoinReply),
    /// To SyncGroup.
    Sync(SyncReply),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To LeaveGroup.
    Leave(LeaveReply),
    /// To OffsetCommit, in the order of the request.
    OffsetCommit(Vec<CommittedTopic>),
    /// To OffsetFetch, in the order of the request.
    OffsetFetch(Vec<FetchedGroup>),
    /// To OffsetDelete.
    OffsetDelete(OffsetDeleteReply),
    /// To ListGroups.
    ListGroups(ListGroupsReply),
    /// To DescribeGroups, in the order of the request.
    DescribeGroups(Vec<DescribedGroup>),
    /// To DeleteGroups, in the order of the request; a group that it names twice is answered once.
    DeleteGroups(Vec<DeletedGroup>),
}

/// A way to share out the work that a member offers, with what it tells the leader about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// For consumers the name of the assignor, such as `range`.
    pub name: ByteString,
    /// Opaque to the coordinator; for consumers a `ConsumerProtocolSubscription`.
    pub metadata: Bytes,
}

/// JoinGroup: become or stay a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The group.
    pub group: ByteString,
    /// Silence after which the member is expelled.
    pub session_timeout_ms: i32,
    /// How long others wait for this member in a rebalance; negative (version 0) means the session timeout.
    pub rebalance_timeout_ms: i32,
    /// Empty for a client that has no member id.
    pub member_id: ByteString,
    /// `group.instance.id` of a static member (KIP-345).
    pub group_instance_id: Option<ByteString>,
    /// `consumer`, `connect` or any other.
    pub protocol_type: ByteString,
    /// What the member supports, the preferred one first.
    pub protocols: Vec<Protocol>,
    /// `client.id` of the connection; member ids begin with it.
    pub client_id: ByteString,
    /// Address of the client, in Java's spelling: `/127.0.0.1`.
    pub client_host: ByteString,
    /// The client understands MEMBER_ID_REQUIRED (version 4, KIP-394).
    pub knows_member_id_required: bool,
    /// The client understands `skip_assignment` (version 9, KIP-814).
    pub knows_skip_assignment: bool,
}

/// The answer to JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// What went wrong.
    pub error: ErrorCode,
    /// The generation, -1 with an error.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<ByteString>,
    /// The protocol that the group chose.
    pub protocol: Option<ByteString>,
    /// Member id of the leader, empty with an error.
    pub leader: ByteString,
    /// The leader keeps the stored assignment instead of computing one.
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: ByteString,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its instance id if it is a static member.
    pub group_instance_id: Option<ByteString>,
    /// What it said with the chosen protocol.
    pub metadata: Bytes,
}

impl JoinReply {
    /// An answer that only says what went wrong.
    pub fn refused(member_id: ByteString, error: ErrorCode) -> JoinReply {
        JoinReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: ByteString::new(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// SyncGroup: receive one's assignment; from the leader also everyone's assignments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The group.
    pub group: ByteString,
    /// The generation of the JoinGroup answer.
    pub generation: i32,
    /// The member.
    pub member_id: ByteString,
    /// Its instance id if it is a static member.
    pub group_instance_id: Option<ByteString>,
    /// Compared with the group's if given (version 5).
    pub protocol_type: Option<ByteString>,
    /// Compared with the group's if given (version 5).
    pub protocol: Option<ByteString>,
    /// Member ids with their assignments; from the leader only.
    pub assignments: Vec<(ByteString, Bytes)>,
}

/// The answer to SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    /// What went wrong.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<ByteString>,
    /// The protocol that the group chose.
    pub protocol: Option<ByteString>,
    /// The member's assignment, opaque to the coordinator.
    pub assignment: Bytes,
}

impl SyncReply {
    /// An answer that only says what went wrong.
    pub fn refused(error: ErrorCode) -> SyncReply {
        SyncReply { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// Heartbeat: the member is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group: ByteString,
    /// The member's generation.
    pub generation: i32,
    /// The member.
    pub member_id: ByteString,
    /// Its instance id if it is a static member.
    pub group_instance_id: Option<ByteString>,
}

/// LeaveGroup: members go, or are removed by an administrator. Versions before 3 name one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The group.
    pub group: ByteString,
    /// Who goes.
    pub members: Vec<LeavingMember>,
}

/// A member that goes, named by its member id, or with an empty one by its instance id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id, or empty.
    pub member_id: ByteString,
    /// Its instance id.
    pub group_instance_id: Option<ByteString>,
}

/// The answer to LeaveGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveReply {
    /// What went wrong with the request as a whole. Versions before 3 carry the member's error here.
    pub error: ErrorCode,
    /// What became of each member, in the order of the request.
    pub members: Vec<LeftMember>,
}

/// What became of a member that was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member_id: ByteString,
    /// As in the request.
    pub group_instance_id: Option<ByteString>,
    /// What went wrong.
    pub error: ErrorCode,
}

/// OffsetCommit: remember how far a group has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The group.
    pub group: ByteString,
    /// The member's generation, negative for a client that is no member.
    pub generation: i32,
    /// The member, or empty.
    pub member_id: ByteString,
    /// Its instance id if it is a static member.
    pub group_instance_id: Option<ByteString>,
    /// How long to keep the offsets (versions 2 to 4); negative means the broker's retention.
    pub retention_ms: i64,
    /// The client understands GROUP_ID_NOT_FOUND and STALE_MEMBER_EPOCH (version 9).
    pub knows_group_id_not_found: bool,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// Offsets to commit for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic's name.
    pub name: ByteString,
    /// Its id, or zero if it is not known.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<CommitPartition>,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset that the group will read.
    pub offset: i64,
    /// Leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// A text that the consumer wants back with the offset.
    pub metadata: ByteString,
}

/// What became of the offsets of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTopic {
    /// As in the request.
    pub name: ByteString,
    /// As in the request.
    pub topic_id: Uuid,
    /// Partitions and what went wrong with them.
    pub partitions: Vec<(i32, ErrorCode)>,
}

/// OffsetFetch: how far have groups read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetch {
    /// The groups.
    pub groups: Vec<FetchGroup>,
    /// Wait for offsets that are written and not committed to the log, instead of answering the older ones (KIP-447).
    pub require_stable: bool,
}

/// Which offsets of a group are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchGroup {
    /// The group.
    pub group: ByteString,
    /// The topics, or all that the group has offsets for.
    pub topics: Option<Vec<FetchTopic>>,
}

/// Which offsets of a topic are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic's name.
    pub name: ByteString,
    /// Its id, or zero; an offset that was committed for another topic of this name is not answered.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// The offsets of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedGroup {
    /// The group.
    pub group: ByteString,
    /// What went wrong.
    pub error: ErrorCode,
    /// The offsets.
    pub topics: Vec<FetchedTopic>,
}

/// The offsets of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: ByteString,
    /// As in the request; for "all topics" the id stored with the offsets, or zero.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// The offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// The offset, or -1.
    pub offset: i64,
    /// The leader epoch committed with it, or -1.
    pub leader_epoch: i32,
    /// The text committed with it.
    pub metadata: ByteString,
    /// What went wrong.
    pub error: ErrorCode,
}

/// OffsetDelete: forget offsets of topics that the group does not subscribe to (KIP-496).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDelete {
    /// The group.
    pub group: ByteString,
    /// Topics and their partitions.
    pub topics: Vec<(ByteString, Vec<i32>)>,
}

/// The answer to OffsetDelete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDeleteReply {
    /// What went wrong with the request as a whole; nothing was deleted then.
    pub error: ErrorCode,
    /// Topics, their partitions and what went wrong with each.
    pub topics: Vec<(ByteString, Vec<(i32, ErrorCode)>)>,
}

/// ListGroups: which groups are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListGroups {
    /// Only groups in one of these states, in any spelling of their case; empty for all (KIP-518).
    pub states: Vec<ByteString>,
    /// Only groups of one of these types, in any spelling of their case; empty for all (KIP-848).
    pub types: Vec<ByteString>,
}

/// The answer to ListGroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListGroupsReply {
    /// What went wrong.
    pub error: ErrorCode,
    /// The groups of this coordinator.
    pub groups: Vec<ListedGroup>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: ByteString,
    /// Its protocol type, empty if it has none.
    pub protocol_type: ByteString,
    /// Its state, as Kafka spells it.
    pub state: &'static str,
    /// Its type, as Kafka spells it.
    pub group_type: &'static str,
}

/// DescribeGroups: members and assignments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeGroups {
    /// The groups.
    pub groups: Vec<ByteString>,
    /// The client understands GROUP_ID_NOT_FOUND (version 6, KIP-1043); others are told that the group is dead.
    pub knows_group_id_not_found: bool,
}

/// A group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// What went wrong.
    pub error: ErrorCode,
    /// What went wrong, in words.
    pub error_message: Option<ByteString>,
    /// The group.
    pub group: ByteString,
    /// Its state, as Kafka spells it; empty with an error other than GROUP_ID_NOT_FOUND.
    pub state: &'static str,
    /// Its protocol type, empty if it has none.
    pub protocol_type: ByteString,
    /// The protocol that it chose, if it is stable.
    pub protocol: ByteString,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

impl DescribedGroup {
    /// An answer that only says what went wrong.
    pub fn refused(group: ByteString, error: ErrorCode) -> DescribedGroup {
        DescribedGroup {
            error,
            error_message: None,
            group,
            state: "",
            protocol_type: ByteString::new(),
            protocol: ByteString::new(),
            members: Vec::new(),
        }
    }
}

/// A member in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its instance id if it is a static member.
    pub group_instance_id: Option<ByteString>,
    /// Its `client.id`.
    pub client_id: ByteString,
    /// Its address.
    pub client_host: ByteString,
    /// What it said with the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// DeleteGroups: forget groups without members, with their offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroups {
    /// The groups.
    pub groups: Vec<ByteString>,
}

/// What became of a group that was to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedGroup {
    /// The group.
    pub group: ByteString,
    /// What went wrong.
    pub error: ErrorCode,
}
