//! What a controller is asked and what it answers, in the words of the domain: the API layer translates from
//! and to the wire.
//!
//! A [`Refusal`] is the asker's problem and changed nothing. Requests about several things answer for each of
//! them.

use std::borrow::Cow;
use std::sync::Arc;

use moldau_base::config::Values;
use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicPartition, Uuid};
use moldau_wire::ErrorCode;

use crate::image::{FeatureRange, Listener, Partition, Resource};
use crate::record::Record;

/// Why something was not done: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", error.name())]
pub struct Refusal {
    /// Kafka's code.
    pub error: ErrorCode,
    /// A sentence for people, as Kafka words it.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal in these words.
    pub fn new(error: ErrorCode, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { error, message: message.into() }
    }

    /// A refusal in the words that belong to the code.
    pub fn plain(error: ErrorCode) -> Refusal {
        Refusal { error, message: Cow::Borrowed(error.message()) }
    }
}

/// Records to append, all or none, and what to answer once they are committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<R = Reply> {
    /// In order; empty when nothing changes, then the reply is due at once.
    pub records: Vec<Record>,
    /// The answer.
    pub reply: R,
}

/// Whether a request is carried out or only checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Carried out.
    #[default]
    Apply,
    /// Only checked (`validate_only`): the reply is the same, no record is written.
    Validate,
}

/// What a controller can be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Finalized features of a new cluster. Does nothing when the log has some.
    Bootstrap(Vec<(Arc<str>, i16)>),
    /// A broker starts.
    RegisterBroker(RegisterBroker),
    /// A broker leaves for good.
    UnregisterBroker(NodeId),
    /// New topics.
    CreateTopics(CreateTopics),
    /// A topic that the broker writes itself, if it is not there yet.
    CreateInternalTopic(InternalTopic),
    /// Topics to remove.
    DeleteTopics(Vec<TopicRef>),
    /// More partitions for topics.
    CreatePartitions(CreatePartitions),
    /// Configs to replace as a whole, per resource.
    AlterConfigs(AlterConfigs<Vec<(String, Option<String>)>>),
    /// Configs to change one by one.
    IncrementalAlterConfigs(AlterConfigs<Vec<ConfigOp>>),
    /// A block of producer ids for a broker.
    AllocateProducerIds {
        /// Who asks.
        broker: NodeId,
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// A broker is there, and says how far it is and what it wants (KIP-631).
    Heartbeat(Heartbeat),
    /// There is evidence that a broker is gone: it is fenced at once.
    BrokerGone {
        /// Which.
        broker: NodeId,
        /// The registration that the evidence is about; a later one is not touched.
        epoch: BrokerEpoch,
        /// What was seen.
        evidence: Evidence,
    },
    /// The moment of [`Controller::deadline`](crate::Controller::deadline) came: fences who fell silent, gives leadership back
    /// to preferred replicas.
    Tick,
    /// A leader wants other in-sync sets (KIP-497).
    AlterPartitions(AlterPartitions),
    /// Leaders to elect (KIP-460).
    ElectLeaders(ElectLeaders),
    /// Moves of partitions to begin or to cancel (KIP-455).
    AlterReassignments(AlterReassignments),
}

/// The answers, one variant for each of [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Request::Bootstrap`].
    Bootstrapped,
    /// To [`Request::RegisterBroker`].
    BrokerRegistered(BrokerEpoch),
    /// To [`Request::UnregisterBroker`].
    BrokerUnregistered,
    /// To [`Request::CreateTopics`] and [`Request::CreateInternalTopic`], in the order of the request.
    TopicsCreated(Vec<TopicCreated>),
    /// To [`Request::DeleteTopics`].
    TopicsDeleted(Vec<TopicDeleted>),
    /// To [`Request::CreatePartitions`], in the order of the request.
    PartitionsCreated(Vec<(Arc<str>, Result<(), Refusal>)>),
    /// To [`Request::AlterConfigs`] and [`Request::IncrementalAlterConfigs`], in the order of the request.
    ConfigsAltered(Vec<(ResourceName, Result<(), Refusal>)>),
    /// To [`Request::AllocateProducerIds`].
    ProducerIds(ProducerIdBlock),
    /// To [`Request::Heartbeat`].
    Heartbeat(HeartbeatReply),
    /// To [`Request::BrokerGone`] and [`Request::Tick`]: who is fenced by it.
    Fenced(Vec<NodeId>),
    /// To [`Request::AlterPartitions`], in the order of the request.
    PartitionsAltered(Vec<(TopicPartition, Result<Arc<Partition>, ErrorCode>)>),
    /// To [`Request::ElectLeaders`].
    LeadersElected(Vec<PartitionOutcome>),
    /// To [`Request::AlterReassignments`], in the order of the request.
    ReassignmentsAltered(Vec<PartitionOutcome>),
}

/// A broker's registration.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterBroker {
    /// `node.id`.
    pub id: NodeId,
    /// Must be the controller's.
    pub cluster_id: Arc<str>,
    /// Chosen by the process at its start.
    pub incarnation: Uuid,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// `broker.rack`.
    pub rack: Option<Arc<str>>,
    /// Must cover the finalized levels.
    pub features: Vec<FeatureRange>,
    /// Ids of the log directories; at least one, none zero.
    pub log_dirs: Vec<Uuid>,
    /// Whether it must first be unfenced before it leads.
    pub fenced: bool,
    /// The epoch it had when it stopped cleanly; `None` when it did not, and may have lost what was not flushed (KIP-966).
    pub stopped_at: Option<BrokerEpoch>,
}

/// New topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateTopics {
    /// Each with its own answer.
    pub topics: Vec<NewTopic>,
    /// Carry out or check.
    pub mode: Mode,
}

/// One new topic.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions; -1 for `num.partitions`.
    pub partitions: i32,
    /// Replicas of each; -1 for `default.replication.factor`.
    pub replication_factor: i16,
    /// Replicas chosen by the asker: partition and brokers. Empty to let the controller choose.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// Configs; a null value is refused.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the defaults of the cluster, as auto-creation makes it.
    pub fn named(name: impl Into<Arc<str>>) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: vec![],
            configs: vec![],
        }
    }
}

/// The topics that brokers create for themselves on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalTopic {
    /// `__consumer_offsets`, with `offsets.topic.*`.
    ConsumerOffsets,
}

/// What became of one new topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicCreated {
    /// The name asked for.
    pub name: Arc<str>,
    /// The topic, or why there is none.
    pub result: Result<CreatedTopic, Refusal>,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
    /// The configs set on it.
    pub configs: Values,
}

/// How a request names a topic to remove. Giving both or none is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRef {
    /// By name.
    pub name: Option<Arc<str>>,
    /// By id; zero for none.
    pub id: Uuid,
}

/// What became of one topic to remove.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDeleted {
    /// Its name, when it is known.
    pub name: Option<Arc<str>>,
    /// Its id, zero when it is not known.
    pub id: Uuid,
    /// Gone, or why not.
    pub result: Result<(), Refusal>,
}

/// More partitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreatePartitions {
    /// Each with its own answer.
    pub topics: Vec<MorePartitions>,
    /// Carry out or check.
    pub mode: Mode,
}

/// More partitions for one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct MorePartitions {
    /// The topic.
    pub name: Arc<str>,
    /// How many it shall have in all.
    pub count: i32,
    /// Replicas of each new one, chosen by the asker.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// A resource as a request names it, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceName {
    /// Kafka's number: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub kind: i8,
    /// The name; empty for the cluster-wide default of brokers.
    pub name: Arc<str>,
}

impl From<&Resource> for ResourceName {
    fn from(resource: &Resource) -> ResourceName {
        let (kind, name) = match resource {
            Resource::Topic(name) => (2, name.clone()),
            Resource::Broker(id) => (4, Arc::from(id.to_string())),
            Resource::ClusterDefault => (4, Arc::from("")),
            Resource::ClientMetrics(name) => (16, name.clone()),
            Resource::Group(name) => (32, name.clone()),
        };
        ResourceName { kind, name }
    }
}

/// Changes of configs; `C` is the changes of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterConfigs<C> {
    /// Each resource at most once.
    pub resources: Vec<(ResourceName, C)>,
    /// Carry out or check.
    pub mode: Mode,
}

/// One change of one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigOp {
    /// The config's name.
    pub name: String,
    /// Kafka's number of the operation: 0 set, 1 delete, 2 append, 3 subtract (KIP-339).
    pub op: i8,
    /// The value; ignored by delete.
    pub value: Option<String>,
}

/// Producer ids `first..first + len` that only one broker may hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first.
    pub first: i64,
    /// How many.
    pub len: i32,
}

/// What a broker says of itself, several times in each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who.
    pub broker: NodeId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// The metadata it has applied, to this offset.
    pub offset: i64,
    /// What it asks for.
    pub wants: Wants,
    /// Log directories that failed.
    pub offline_dirs: Vec<Uuid>,
}

/// What a broker asks for with a heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wants {
    /// To serve: to be unfenced as soon as it has caught up.
    #[default]
    Serve,
    /// To be fenced, for example because it stalls.
    Fence,
    /// To stop: to hand over what it leads and be told when it may go.
    Stop,
    /// To stop now, whatever it leads.
    FenceAndStop,
}

/// What a broker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// It has applied its own registration.
    pub caught_up: bool,
    /// It is fenced.
    pub fenced: bool,
    /// Nobody needs it any more: it may stop.
    pub should_shut_down: bool,
}

/// Why a broker is taken for gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Its connection was reset, and connecting again was refused.
    Refused,
    /// Its connection was reset, as another node saw too.
    SeenByTwo,
    /// It did not answer for longer than its connection's threshold.
    Silent,
}

/// In-sync sets that a leader wants; each partition has its own answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartitions {
    /// The leader.
    pub broker: NodeId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// What it wants.
    pub partitions: Vec<AlterPartition>,
}

/// The in-sync set that a leader wants, for the partition as it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    /// Which partition.
    pub at: TopicPartition,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Its partition epoch: a change that the leader does not know of makes it fail.
    pub partition_epoch: PartitionEpoch,
    /// Who shall be in sync, the leader too, each with the registration it had when it caught up; -1 where that is not known.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
    /// Whether the leader still recovers from an unclean election (KIP-704).
    pub recovering: bool,
}

/// Which leader to elect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionKind {
    /// The first replica, if it is in sync.
    Preferred,
    /// Anybody, where nobody leads: acknowledged records may be lost.
    Unclean,
}

/// Leaders to elect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectLeaders {
    /// Which.
    pub kind: ElectionKind,
    /// Of these partitions; `None` for all, then those that need no election are left out of the answer.
    pub partitions: Option<Vec<(Arc<str>, PartitionIndex)>>,
}

/// What became of a partition in a request about several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub index: PartitionIndex,
    /// Done, or why not.
    pub result: Result<(), Refusal>,
}

/// Moves to begin or to cancel; each partition has its own answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterReassignments {
    /// What to do.
    pub partitions: Vec<Reassignment>,
    /// Whether a partition may get more or fewer replicas than it has (KIP-860).
    pub factor: FactorChange,
}

/// Whether a move may change the number of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FactorChange {
    /// It may.
    #[default]
    Allowed,
    /// It is refused.
    Refused,
}

/// A move of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub index: PartitionIndex,
    /// Its replicas after the move, in order of preference; `None` cancels the move that is under way.
    pub target: Option<Vec<NodeId>>,
}
