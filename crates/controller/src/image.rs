//! The image: cluster metadata as it is after some offset of the metadata log.
//!
//! An image is immutable for whoever holds one: a clone costs a few reference counts, and applying a record
//! to a clone leaves the other as it was. Only [`Image::apply`] changes an image, and it never fails on
//! records that a controller decided: a record that does not fit names what it misses. The image must hold
//! nothing that a replay of the log would not reproduce; who the controller is comes from the quorum and is
//! kept beside it. After the images of KIP-631.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use moldau_base::config::Values;
use moldau_base::planted::{Bug, planted};
use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicPartition, Uuid};

use crate::fencing::MIN_INSYNC_REPLICAS;
use crate::names;
use crate::record::{BrokerChange, PartitionChange, Record};

/// Set in a partition's leader when nobody leads it.
pub const NO_LEADER: NodeId = NodeId(-1);

/// What a config belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A topic, by name.
    Topic(Arc<str>),
    /// One broker.
    Broker(NodeId),
    /// All brokers: the cluster-wide default, an empty broker name on the wire.
    ClusterDefault,
    /// A consumer group, by name (KIP-848).
    Group(Arc<str>),
    /// A client metrics subscription, by name (KIP-714).
    ClientMetrics(Arc<str>),
}

/// Where a broker can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, for example `PLAINTEXT`.
    pub name: Arc<str>,
    /// The advertised host.
    pub host: Arc<str>,
    /// The advertised port.
    pub port: u16,
    /// Kafka's number of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// Versions of a feature that a broker can run with (KIP-584).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRange {
    /// For example `metadata.version`.
    pub name: Arc<str>,
    /// The lowest level.
    pub min: i16,
    /// The highest level.
    pub max: i16,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub id: NodeId,
    /// One incarnation's number.
    pub epoch: BrokerEpoch,
    /// Chosen by the process when it starts.
    pub incarnation: Uuid,
    /// Where clients and brokers reach it.
    pub listeners: Vec<Listener>,
    /// `broker.rack`, which is also the zone.
    pub rack: Option<Arc<str>>,
    /// Feature levels it can run with.
    pub features: Vec<FeatureRange>,
    /// Ids of its log directories.
    pub log_dirs: Vec<Uuid>,
    /// Not to be given leadership or new replicas.
    pub fenced: bool,
    /// On its way to a clean stop.
    pub stopping: bool,
}

impl Broker {
    /// True when the broker may lead partitions.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.stopping
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|l| &*l.name == name)
    }
}

/// One partition's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// All replicas, in order of preference.
    pub replicas: Box<[NodeId]>,
    /// The log directory of each replica, in the same order; zero where it is not known.
    pub directories: Box<[Uuid]>,
    /// The in-sync replicas.
    pub isr: Box<[NodeId]>,
    /// Replicas that a reassignment takes away.
    pub removing: Box<[NodeId]>,
    /// Replicas that a reassignment adds.
    pub adding: Box<[NodeId]>,
    /// Replicas outside the ISR that are still safe to elect (KIP-966).
    pub eligible: Box<[NodeId]>,
    /// The last members of ISR and eligible replicas known (KIP-966).
    pub last_known_eligible: Box<[NodeId]>,
    /// The leader, or [`NO_LEADER`].
    pub leader: NodeId,
    /// Counts leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes.
    pub partition_epoch: PartitionEpoch,
    /// True while the leader of an unclean election still recovers.
    pub recovering: bool,
}

/// One directory for each replica: zero stands for those that are not known.
pub(crate) fn directories_of(mut known: Vec<Uuid>, replicas: usize) -> Box<[Uuid]> {
    known.resize(replicas, Uuid::ZERO);
    known.into()
}

impl Partition {
    /// The leader, if there is one.
    pub fn leader(&self) -> Option<NodeId> {
        (self.leader != NO_LEADER).then_some(self.leader)
    }

    /// The partition after `change`. Naming a leader, the same one too, begins a new leader epoch.
    fn changed(&self, change: &PartitionChange) -> Partition {
        let mut next = self.clone();
        let take = |slot: &mut Box<[NodeId]>, value: &Option<Vec<NodeId>>| {
            if let Some(value) = value {
                *slot = value.as_slice().into();
            }
        };
        take(&mut next.replicas, &change.replicas);
        take(&mut next.isr, &change.isr);
        take(&mut next.removing, &change.removing);
        take(&mut next.adding, &change.adding);
        take(&mut next.eligible, &change.eligible);
        take(&mut next.last_known_eligible, &change.last_known_eligible);
        let directories = change.directories.as_deref().unwrap_or(&self.directories);
        next.directories = directories_of(directories.to_vec(), next.replicas.len());
        if let Some(leader) = change.leader {
            next.leader = leader;
            if !planted(Bug::SameLeaderEpoch) {
                next.leader_epoch.0 = next.leader_epoch.0.saturating_add(1);
            }
        }
        if let Some(recovering) = change.recovering {
            next.recovering = recovering;
        }
        next.partition_epoch.0 = next.partition_epoch.0.saturating_add(1);
        next
    }
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Stable over its life.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions, by number from 0 without a gap.
    pub partitions: OrdMap<PartitionIndex, Arc<Partition>>,
}

impl Topic {
    /// True for the topics that the broker itself writes (`__consumer_offsets` and its like).
    pub fn is_internal(&self) -> bool {
        names::is_internal(&self.name)
    }

    /// One partition.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<Partition>> {
        self.partitions.get(&index)
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Replicas of its first partition: what Kafka calls the replication factor of the topic.
    pub fn replication_factor(&self) -> i16 {
        let first = self.partitions.get_min().map_or(0, |(_, p)| p.replicas.len());
        i16::try_from(first).unwrap_or(i16::MAX)
    }
}

/// A record that does not fit the image: the log is damaged or was written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A record about a topic that is not there.
    #[error("no topic with id {0}")]
    NoTopic(Uuid),
    /// A change of a partition that is not there.
    #[error("no partition {0}")]
    NoPartition(TopicPartition),
    /// A record about a broker that is not registered.
    #[error("broker {0} is not registered")]
    NoBroker(NodeId),
    /// A record about another incarnation of a broker.
    #[error("broker {id} has epoch {has}, the record says {says}")]
    BrokerEpoch {
        /// The broker.
        id: NodeId,
        /// Its epoch in the image.
        has: BrokerEpoch,
        /// The epoch in the record.
        says: BrokerEpoch,
    },
    /// A broker whose epoch, which is the offset of a record that registered it, is yet to come.
    #[error("broker {id} has epoch {epoch} in the record at offset {offset}")]
    EpochAhead {
        /// The broker.
        id: NodeId,
        /// Its epoch in the record.
        epoch: BrokerEpoch,
        /// The record's offset.
        offset: i64,
    },
    /// A topic whose name another topic has.
    #[error("there is a topic '{0}' already")]
    NameTaken(Arc<str>),
    /// A topic whose id another topic has.
    #[error("there is a topic with id {0} already")]
    IdTaken(Uuid),
    /// The next producer id would go back.
    #[error("next producer id {says} is below {has}")]
    ProducerIdBack {
        /// The next id in the image.
        has: i64,
        /// The next id in the record.
        says: i64,
    },
}

/// Cluster metadata after some offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    cluster_id: Arc<str>,
    offset: i64,
    topics: OrdMap<Uuid, Arc<Topic>>,
    names: OrdMap<Arc<str>, Uuid>,
    folded: OrdMap<Arc<str>, OrdSet<Arc<str>>>,
    brokers: OrdMap<NodeId, Arc<Broker>>,
    configs: OrdMap<Resource, Arc<Values>>,
    features: OrdMap<Arc<str>, i16>,
    next_producer_id: Option<i64>,
    /// Who holds what; follows from the replicas of `topics`.
    pub(crate) held: OrdMap<NodeId, OrdSet<TopicPartition>>,
}

impl Image {
    /// The image of an empty log.
    pub fn new(cluster_id: impl Into<Arc<str>>) -> Image {
        Image {
            cluster_id: cluster_id.into(),
            offset: -1,
            topics: OrdMap::new(),
            names: OrdMap::new(),
            folded: OrdMap::new(),
            brokers: OrdMap::new(),
            configs: OrdMap::new(),
            features: OrdMap::new(),
            next_producer_id: None,
            held: OrdMap::new(),
        }
    }

    /// `cluster.id`.
    pub fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// Offset of the last record applied; -1 before the first.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// All topics by id, in the order of ids.
    pub fn topics(&self) -> &OrdMap<Uuid, Arc<Topic>> {
        &self.topics
    }

    /// All topics in the order of names.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// The topics whose names are at least `from`, in the order of names (for paging).
    pub fn topics_from<'a>(&'a self, from: &str) -> impl Iterator<Item = &'a Arc<Topic>> + use<'a> {
        let from: Arc<str> = Arc::from(from);
        self.names.range(from..).filter_map(|(_, id)| self.topics.get(id))
    }

    /// A topic by id.
    pub fn topic(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// A topic by name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// A partition.
    pub fn partition(&self, at: TopicPartition) -> Option<&Arc<Partition>> {
        self.topics.get(&at.topic)?.partitions.get(&at.partition)
    }

    /// A topic other than `name` that differs from it only in `.` and `_`, which Kafka's metric names cannot
    /// tell apart.
    pub fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        names::has_collision_chars(name)
            .then(|| self.folded.get(&*names::fold(name)))
            .flatten()
            .and_then(|set| set.iter().find(|other| &***other != name))
    }

    /// All brokers, in the order of ids.
    pub fn brokers(&self) -> &OrdMap<NodeId, Arc<Broker>> {
        &self.brokers
    }

    /// A broker.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// The configs set on all resources.
    pub fn all_configs(&self) -> &OrdMap<Resource, Arc<Values>> {
        &self.configs
    }

    /// The configs set on `resource`; `None` when none is.
    pub fn configs(&self, resource: &Resource) -> Option<&Arc<Values>> {
        self.configs.get(resource)
    }

    /// One config set on `resource`.
    pub fn config(&self, resource: &Resource, name: &str) -> Option<&str> {
        self.configs.get(resource)?.get(name).map(String::as_str)
    }

    /// Finalized feature levels, by name.
    pub fn features(&self) -> &OrdMap<Arc<str>, i16> {
        &self.features
    }

    /// The level of `metadata.version`, 0 before it is set.
    pub fn metadata_version(&self) -> i16 {
        self.features.get(METADATA_VERSION).copied().unwrap_or(0)
    }

    /// The first producer id that no block holds; `None` before the first block.
    pub fn next_producer_id(&self) -> Option<i64> {
        self.next_producer_id
    }

    /// Sets the offset without a record: control records and blanks of the quorum move it too.
    pub fn advance(&mut self, offset: i64) {
        self.offset = self.offset.max(offset);
    }

    /// Applies the record at `offset`. On an error the image is as before, its offset too.
    pub fn apply(&mut self, offset: i64, record: &Record) -> Result<(), Misfit> {
        match record {
            Record::RegisterBroker(Broker { id, epoch, .. }) if epoch.0 > offset => {
                return Err(Misfit::EpochAhead { id: *id, epoch: *epoch, offset });
            }
            Record::RegisterBroker(broker) => {
                let before = self.brokers.insert(broker.id, Arc::new(broker.clone()));
                self.follow_broker(broker.id, before.as_deref())?;
            }
            Record::UnregisterBroker { id, epoch } => {
                self.broker_at(*id, *epoch)?;
                let before = self.brokers.remove(id);
                self.follow_broker(*id, before.as_deref())?;
            }
            Record::BrokerChange(change) => self.change_broker(change)?,
            Record::Topic { id, name } => self.add_topic(*id, name)?,
            Record::RemoveTopic { id } => self.remove_topic(*id)?,
            Record::Partition { topic, index, partition } => {
                self.set_partition(*topic, *index, Arc::new(partition.clone()))?;
            }
            Record::PartitionChange(change) => self.change_partition(change)?,
            Record::Config { resource, name, value } => {
                self.set_config(resource, name, value.as_deref());
                if name == MIN_INSYNC_REPLICAS {
                    self.follow_min_insync(resource)?;
                }
            }
            Record::ProducerIds { next, .. } => {
                match self.next_producer_id {
                    Some(has) if *next < has => return Err(Misfit::ProducerIdBack { has, says: *next }),
                    _ => self.next_producer_id = Some(*next),
                };
            }
            Record::Feature { name, level } => {
                match *level {
                    0 => self.features.remove(name),
                    level => self.features.insert(name.clone(), level),
                };
            }
            Record::NoOp => {}
        }
        self.offset = offset;
        Ok(())
    }

    fn broker_at(&self, id: NodeId, epoch: BrokerEpoch) -> Result<&Arc<Broker>, Misfit> {
        let broker = self.brokers.get(&id).ok_or(Misfit::NoBroker(id))?;
        if broker.epoch != epoch {
            return Err(Misfit::BrokerEpoch { id, has: broker.epoch, says: epoch });
        }
        Ok(broker)
    }

    fn change_broker(&mut self, change: &BrokerChange) -> Result<(), Misfit> {
        let before = self.broker_at(change.id, change.epoch)?.clone();
        let mut broker = Broker::clone(&before);
        if let Some(fenced) = change.fenced {
            broker.fenced = fenced;
        }
        broker.stopping |= change.stopping;
        if !change.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&change.log_dirs);
        }
        self.brokers.insert(change.id, Arc::new(broker));
        self.follow_broker(change.id, Some(&before))
    }

    pub(crate) fn change_partition(&mut self, change: &PartitionChange) -> Result<(), Misfit> {
        let at = TopicPartition { topic: change.topic, partition: change.index };
        let changed = self.partition(at).ok_or(Misfit::NoPartition(at))?.changed(change);
        self.set_partition(change.topic, change.index, Arc::new(changed))
    }

    fn add_topic(&mut self, id: Uuid, name: &Arc<str>) -> Result<(), Misfit> {
        if self.names.contains_key(name) {
            return Err(Misfit::NameTaken(name.clone()));
        }
        if self.topics.contains_key(&id) {
            return Err(Misfit::IdTaken(id));
        }
        self.names.insert(name.clone(), id);
        if names::has_collision_chars(name) {
            self.folded.entry(Arc::from(names::fold(name))).or_default().insert(name.clone());
        }
        self.topics.insert(id, Arc::new(Topic { id, name: name.clone(), partitions: OrdMap::new() }));
        Ok(())
    }

    fn remove_topic(&mut self, id: Uuid) -> Result<(), Misfit> {
        let topic = self.topics.remove(&id).ok_or(Misfit::NoTopic(id))?;
        for (index, partition) in &topic.partitions {
            self.index_replicas(TopicPartition { topic: id, partition: *index }, &partition.replicas, &[]);
        }
        self.names.remove(&topic.name);
        self.configs.remove(&Resource::Topic(topic.name.clone()));
        let folded = names::fold(&topic.name);
        if let Some(set) = self.folded.get_mut(&*folded) {
            set.remove(&topic.name);
            if set.is_empty() {
                self.folded.remove(&*folded);
            }
        }
        Ok(())
    }

    fn set_partition(
        &mut self,
        id: Uuid,
        index: PartitionIndex,
        partition: Arc<Partition>,
    ) -> Result<(), Misfit> {
        let topic = self.topics.get_mut(&id).ok_or(Misfit::NoTopic(id))?;
        let before = Arc::make_mut(topic).partitions.insert(index, partition.clone());
        let replicas = before.as_deref().map_or(&[][..], |before| &before.replicas);
        self.index_replicas(TopicPartition { topic: id, partition: index }, replicas, &partition.replicas);
        Ok(())
    }

    fn set_config(&mut self, resource: &Resource, name: &str, value: Option<&str>) {
        match value {
            Some(value) => {
                let configs = self.configs.entry(resource.clone()).or_default();
                Arc::make_mut(configs).insert(name.to_owned(), value.to_owned());
            }
            None => {
                let Some(configs) = self.configs.get_mut(resource) else { return };
                let configs = Arc::make_mut(configs);
                configs.remove(name);
                if configs.is_empty() {
                    self.configs.remove(resource);
                }
            }
        }
    }
}

/// The feature that says which records the log may hold.
pub const METADATA_VERSION: &str = "metadata.version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_taken_once() {
        let mut image = Image::new("c");
        let id = Uuid([1; 16]);
        image.apply(0, &Record::Topic { id, name: "a".into() }).expect("a new topic");
        let before = image.clone();
        let again = image.apply(1, &Record::Topic { id, name: "b".into() });
        assert_eq!(again, Err(Misfit::IdTaken(id)));
        assert_eq!(image, before);
    }

    #[test]
    fn the_epoch_of_a_broker_is_not_ahead_of_the_log() {
        let broker = |epoch| Broker {
            id: NodeId(1),
            epoch: BrokerEpoch(epoch),
            incarnation: Uuid([1; 16]),
            listeners: vec![],
            rack: None,
            features: vec![],
            log_dirs: vec![],
            fenced: false,
            stopping: false,
        };
        let mut image = Image::new("c");
        let refused = image.apply(3, &Record::RegisterBroker(broker(4)));
        assert_eq!(refused, Err(Misfit::EpochAhead { id: NodeId(1), epoch: BrokerEpoch(4), offset: 3 }));
        image.apply(3, &Record::RegisterBroker(broker(3))).expect("its own offset");
    }

    #[test]
    fn each_replica_has_a_directory_after_a_change() {
        let ids = vec![NodeId(1), NodeId(2)];
        let partition = Partition {
            replicas: [NodeId(1)].into(),
            directories: [Uuid([5; 16])].into(),
            isr: [].into(),
            removing: [].into(),
            adding: [].into(),
            eligible: [].into(),
            last_known_eligible: [].into(),
            leader: NO_LEADER,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            recovering: false,
        };
        let change = PartitionChange { replicas: Some(ids), ..PartitionChange::default() };
        assert_eq!(*partition.changed(&change).directories, [Uuid([5; 16]), Uuid::ZERO]);
    }
}
