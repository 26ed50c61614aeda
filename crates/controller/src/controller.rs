//! The controller as a log machine: [`Controller::decide`] turns a request into records and a reply without
//! changing metadata, [`Controller::apply`] changes the image by a record of the log, at append. The reply is
//! sent when the records are committed. Whoever loses leadership drops its controller and replays the log.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use moldau_base::config::Values;
use moldau_base::{BrokerEpoch, Mono, NodeId, Now, Rng};

use crate::fencing::MIN_INSYNC_REPLICAS;
use crate::image::{Image, Misfit, Resource};
use crate::liveness::Liveness;
use crate::record::Record;
use crate::request::{Decision, Heartbeat, InternalTopic, NewTopic, Refusal, Reply, Request};
use crate::{
    brokers, configs, elections, heartbeats, in_sync, names, partitions, producer_ids, reassignments, topics,
};

const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";

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
    /// Silence that fences a broker; `None` where nobody but evidence does.
    pub session_timeout: Option<Duration>,
    /// Time between two looks whether leadership should go back to preferred replicas; `None` for never. Which partitions
    /// is decided as in Kafka without ZooKeeper: all that can, whatever `leader.imbalance.per.broker.percentage` says.
    pub rebalance_interval: Option<Duration>,
    /// `unclean.leader.election.enable` where neither topic nor cluster sets it.
    pub unclean_elections: UncleanElections,
    /// `min.insync.replicas` of the cluster, written down with a new cluster's features: who is eligible to lead depends
    /// on it, so every image must know it (KIP-966). `None` leaves it at 1.
    pub min_insync_replicas: Option<u32>,
}

/// Whether a replica that may lack acknowledged records is elected when nobody else is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UncleanElections {
    /// Only by request.
    #[default]
    ByRequest,
    /// At once: going on is worth more than every record.
    AtOnce,
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
            session_timeout: None,
            rebalance_interval: None,
            unclean_elections: UncleanElections::ByRequest,
            min_insync_replicas: None,
        }
    }
}

impl Settings {
    /// An internal topic as it would be created.
    pub fn internal_topic(&self, topic: InternalTopic) -> NewTopic {
        let settings = match topic {
            InternalTopic::ConsumerOffsets => &self.offsets_topic,
        };
        let configs = settings.configs.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        NewTopic {
            partitions: settings.partitions,
            replication_factor: settings.replication_factor,
            configs: configs.collect(),
            ..NewTopic::named(topic.name())
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
    pub(crate) liveness: Liveness,
    /// Set while this controller is the active one.
    active: Option<Active>,
}

/// What only the active controller keeps about time.
#[derive(Clone, Copy, Debug)]
struct Active {
    /// When it was asked or told anything last.
    awake: Mono,
    /// When leadership is looked at next.
    rebalance: Option<Mono>,
}

impl Controller {
    /// A controller that continues from `image`.
    pub fn new(settings: Settings, image: Image) -> Controller {
        Controller { settings, image, liveness: Liveness::default(), active: None }
    }

    /// The image after the last record applied.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// This controller is the active one from `now` on: everybody gets a fresh session.
    pub fn activate(&mut self, now: Now) {
        let rebalance = self.settings.rebalance_interval.map(|interval| now.mono + interval);
        self.active = Some(Active { awake: now.mono, rebalance });
        self.liveness = Liveness::begin(&self.image, now.mono);
    }

    /// Another controller is the active one.
    pub fn resign(&mut self) {
        self.active = None;
        self.liveness = Liveness::default();
    }

    /// When [`Request::Tick`] is due; `None` while nothing waits for time to pass.
    pub fn deadline(&self) -> Option<Mono> {
        let active = self.active?;
        self.session_end().into_iter().chain(active.rebalance).min()
    }

    /// When the first session ends.
    fn session_end(&self) -> Option<Mono> {
        let timeout = self.settings.session_timeout.filter(|_| self.active.is_some())?;
        Some(self.liveness.quietest(&self.image)? + timeout)
    }

    /// A broker was heard of. A host calls it when the heartbeat comes, even if it cannot be answered yet.
    pub fn heard(&mut self, now: Now, beat: &Heartbeat) {
        if self.image.broker(beat.broker).is_some_and(|broker| broker.epoch == beat.epoch) {
            self.liveness.heard(beat.broker, beat.epoch, beat.offset, now.mono);
        }
        if let Some(active) = &mut self.active {
            active.awake = now.mono;
        }
    }

    /// Whether this request is answered, and if so which records make it true. Changes no metadata: it notes who was
    /// heard of. `rng` draws topic ids and the starting points of placement.
    pub fn decide(&mut self, now: Now, rng: &mut Rng, request: &Request) -> Result<Decision, Refusal> {
        let decision = match request {
            Request::Bootstrap(features) => Ok(self.bootstrap(features)),
            Request::RegisterBroker(request) => brokers::register(self, now, request),
            Request::UnregisterBroker(id) => brokers::unregister(self, *id),
            Request::CreateTopics(request) => Ok(topics::create(self, rng, request)),
            Request::CreateInternalTopic(topic) => Ok(topics::create_internal(self, rng, *topic)),
            Request::DeleteTopics(topics) => Ok(topics::delete(self, topics)),
            Request::CreatePartitions(request) => Ok(partitions::create(self, rng, request)),
            Request::AlterConfigs(request) => Ok(configs::alter(self, request)),
            Request::IncrementalAlterConfigs(request) => Ok(configs::alter_incrementally(self, request)),
            Request::AllocateProducerIds { broker, epoch } => producer_ids::allocate(self, *broker, *epoch),
            Request::Heartbeat(beat) => heartbeats::heartbeat(self, now, beat),
            Request::BrokerGone { broker, epoch, evidence } => {
                Ok(heartbeats::gone(self, *broker, *epoch, *evidence))
            }
            Request::Tick => Ok(self.tick(now)),
            Request::AlterPartitions(request) => in_sync::alter(self, request),
            Request::ElectLeaders(request) => Ok(elections::elect(self, request)),
            Request::AlterReassignments(request) => Ok(reassignments::alter(self, request)),
        };
        if let Some(active) = &mut self.active {
            active.awake = now.mono;
        }
        decision
    }

    fn tick(&mut self, now: Now) -> Decision {
        let mut decision = heartbeats::silent(self, now);
        let due = self.active.and_then(|active| active.rebalance).is_some_and(|at| at <= now.mono);
        // Whoever was just fenced is dealt with first; leadership can wait for the next look.
        if due && decision.records.is_empty() {
            decision.records = elections::rebalance(self, now, &self.image);
            let interval = self.settings.rebalance_interval;
            if let Some(active) = &mut self.active {
                active.rebalance = interval.map(|interval| now.mono + interval);
            }
        }
        decision
    }

    /// Those whose sessions ended. A controller that was asleep itself accuses nobody and gives everybody a fresh session;
    /// so does one that accuses somebody, lest it repeats that before the fence is committed.
    pub(crate) fn fall_silent(&mut self, now: Now) -> Vec<NodeId> {
        let (Some(timeout), Some(end), Some(active)) =
            (self.settings.session_timeout, self.session_end(), self.active)
        else {
            return vec![];
        };
        if end > now.mono {
            return vec![];
        }
        let asleep = now.mono.since(end) > timeout / 2 && now.mono.since(active.awake) > timeout / 2;
        let silent = if asleep { vec![] } else { self.liveness.silent(&self.image, timeout, now.mono) };
        if asleep {
            self.liveness.refresh(now.mono);
        }
        for id in &silent {
            self.liveness.put_off(*id, now.mono);
        }
        silent
    }

    /// Whether this registration was heard of within a session.
    pub(crate) fn is_live(&self, now: Now, id: NodeId, epoch: BrokerEpoch) -> bool {
        let timeout = self.settings.session_timeout.filter(|_| self.active.is_some());
        timeout.is_some_and(|timeout| self.liveness.is_live(id, epoch, timeout, now.mono))
    }

    /// Whether any topic allows unclean elections.
    pub(crate) fn may_elect_uncleanly(&self) -> bool {
        self.settings.unclean_elections == UncleanElections::AtOnce
            || self
                .image
                .all_configs()
                .values()
                .any(|configs| configs.get(UNCLEAN_LEADER_ELECTION).is_some_and(|on| on == "true"))
    }

    /// Whether this topic allows unclean elections: as it says itself, else as the cluster does, else as the settings do.
    pub(crate) fn elects_uncleanly(&self, topic: &str) -> bool {
        let own = self.image.config(&Resource::Topic(topic.into()), UNCLEAN_LEADER_ELECTION);
        match own.or_else(|| self.image.config(&Resource::ClusterDefault, UNCLEAN_LEADER_ELECTION)) {
            Some(value) => value == "true",
            None => self.settings.unclean_elections == UncleanElections::AtOnce,
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
        if !self.image.features().is_empty() {
            return Decision { records: vec![], reply: Reply::Bootstrapped };
        }
        let levels =
            features.iter().map(|(name, level)| Record::Feature { name: name.clone(), level: *level });
        // Every controller that becomes active comes by here; what somebody has set since stays.
        let is_set = self.image.config(&Resource::ClusterDefault, MIN_INSYNC_REPLICAS).is_some();
        let min_insync = self.settings.min_insync_replicas.filter(|_| !is_set).map(|count| Record::Config {
            resource: Resource::ClusterDefault,
            name: MIN_INSYNC_REPLICAS.to_owned(),
            value: Some(count.to_string()),
        });
        let records = levels.chain(min_insync).collect();
        Decision { records, reply: Reply::Bootstrapped }
    }

    /// Whether this broker is registered and may lead.
    pub(crate) fn is_active(&self, id: NodeId) -> bool {
        self.image.broker(id).is_some_and(|broker| broker.is_active())
    }
}
