//! What a controller is asked and what it answers, in the words of the domain: the API layer translates from
//! and to the wire.
//!
//! A [`Refusal`] is the asker's problem and changed nothing. Requests about several things answer for each of
//! them.

use std::borrow::Cow;
use std::sync::Arc;

use moldau_base::config::Values;
use moldau_base::{BrokerEpoch, NodeId, Uuid};
use moldau_wire::ErrorCode;

use crate::image::{FeatureRange, Listener, Resource};
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
