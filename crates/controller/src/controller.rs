//! The controller as a log machine: [`Controller::decide`] turns a request into records and a reply without
//! changing anything, [`Controller::apply`] changes the image by a record of the log, at append. The reply is
//! sent when the records are committed. Whoever loses leadership drops its controller and replays the log.

use std::ops::Range;
use std::sync::Arc;

use moldau_base::config::Values;
use moldau_base::{NodeId, Now, Rng};

use crate::image::{Image, Misfit};
use crate::record::Record;
use crate::request::{Decision, InternalTopic, Refusal, Reply, Request};
use crate::{brokers, configs, names, partitions, producer_ids, topics};

/// What the controller's host configures.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `offsets.topic.*`: the topic that [`InternalTopic::ConsumerOffsets`] stands for.
    pub offsets_topic: InternalTopicSettings,
    /// Producer ids of this cluster; see [`producer_ids::of_member`].
    pub producer_ids: Range<i64>,
}

impl Default for Settings {
    /// Kafka's defaults, for a cluster of one broker.
    fn default() -> Settings {
        let offsets =
            [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
        Settings {
            partitions: 1,
            replication_factor: 1,
            offsets_topic: InternalTopicSettings {
                partitions: 50,
                replication_factor: 1,
                configs: offsets.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            },
            producer_ids: producer_ids::of_member(0),
        }
    }
}

/// How an internal topic is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopicSettings {
    /// Its partitions.
    pub partitions: i32,
    /// Replicas of each.
    pub replication_factor: i16,
    /// Its configs.
    pub configs: Values,
}

impl InternalTopic {
    /// The topic's name.
    pub fn name(self) -> &'static str {
        match self {
            InternalTopic::ConsumerOffsets => names::CONSUMER_OFFSETS,
        }
    }
}

/// Decides about cluster metadata on the image after the last record appended.
#[derive(Clone, Debug)]
pub struct Controller {
    pub(crate) settings: Settings,
    pub(crate) image: Image,
}

impl Controller {
    /// A controller that continues from `image`.
    pub fn new(settings: Settings, image: Image) -> Controller {
        Controller { settings, image }
    }

    /// The image after the last record applied.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whether this request is answered, and if so which records make it true. Changes nothing; `rng` draws
    /// topic ids and the starting points of placement.
    pub fn decide(&self, _now: Now, rng: &mut Rng, request: &Request) -> Result<Decision, Refusal> {
        match request {
            Request::Bootstrap(features) => Ok(self.bootstrap(features)),
            Request::RegisterBroker(request) => brokers::register(self, request),
            Request::UnregisterBroker(id) => brokers::unregister(self, *id),
            Request::CreateTopics(request) => Ok(topics::create(self, rng, request)),
            Request::CreateInternalTopic(topic) => Ok(topics::create_internal(self, rng, *topic)),
            Request::DeleteTopics(topics) => Ok(topics::delete(self, topics)),
            Request::CreatePartitions(request) => Ok(partitions::create(self, rng, request)),
            Request::AlterConfigs(request) => Ok(configs::alter(self, request)),
            Request::IncrementalAlterConfigs(request) => Ok(configs::alter_incrementally(self, request)),
            Request::AllocateProducerIds { broker, epoch } => producer_ids::allocate(self, *broker, *epoch),
        }
    }

    /// Applies the record appended at `offset`.
    pub fn apply(&mut self, offset: i64, record: &Record) -> Result<(), Misfit> {
        self.image.apply(offset, record)
    }

    /// Moves on to `offset` without a record: the quorum's own control records take offsets too, and so does
    /// everything that a snapshot contains.
    pub fn advance(&mut self, offset: i64) {
        self.image.advance(offset);
    }

    /// The offset that the next record is expected to get.
    pub fn next_offset(&self) -> i64 {
        self.image.offset() + 1
    }

    fn bootstrap(&self, features: &[(Arc<str>, i16)]) -> Decision {
        let records = match self.image.features().is_empty() {
            true => features
                .iter()
                .map(|(name, level)| Record::Feature { name: name.clone(), level: *level })
                .collect(),
            false => vec![],
        };
        Decision { records, reply: Reply::Bootstrapped }
    }

    /// Whether this broker is registered and may lead.
    pub(crate) fn is_active(&self, id: NodeId) -> bool {
        self.image.broker(id).is_some_and(|broker| broker.is_active())
    }
}
