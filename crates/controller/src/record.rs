//! The records of the metadata log, and their codec.
//!
//! The bytes are Kafka's (KIP-631), so that its tools read the log; the types are the domain's, so that
//! nobody but this file meets versions, nulls and numbers that stand for "no change". A record that this
//! build does not know is an error and never skipped: an image without it would be another one.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, Uuid};
use moldau_wire::metadata_records as wire;
use moldau_wire::{DecodeError, EncodeError, metadata_frame};

use crate::image::{Broker, FeatureRange, Listener, Partition, Resource, directories_of};
use crate::request::ResourceName;

/// A record of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A broker registered; replaces an earlier registration.
    RegisterBroker(Broker),
    /// A broker left for good.
    UnregisterBroker {
        /// Which.
        id: NodeId,
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// Something about a registered broker changed.
    BrokerChange(BrokerChange),
    /// A topic, without partitions yet.
    Topic {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: Arc<str>,
    },
    /// A topic is gone, with its partitions and configs.
    RemoveTopic {
        /// Its id.
        id: Uuid,
    },
    /// A partition as a whole.
    Partition {
        /// Its topic.
        topic: Uuid,
        /// Its number.
        index: PartitionIndex,
        /// What is known of it.
        partition: Partition,
    },
    /// Something about a partition changed.
    PartitionChange(PartitionChange),
    /// A config was set, or removed.
    Config {
        /// Whose.
        resource: Resource,
        /// Its name.
        name: String,
        /// Its value; `None` removes it.
        value: Option<String>,
    },
    /// A broker got a block of producer ids.
    ProducerIds {
        /// Which.
        broker: NodeId,
        /// Its registration.
        epoch: BrokerEpoch,
        /// The first id of the next block.
        next: i64,
    },
    /// A feature is finalized at a level; 0 removes it.
    Feature {
        /// For example `metadata.version`.
        name: Arc<str>,
        /// The level.
        level: i16,
    },
    /// Nothing.
    NoOp,
}

/// A change of a registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerChange {
    /// Which.
    pub id: NodeId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Fenced or unfenced; `None` when that did not change.
    pub fenced: Option<bool>,
    /// It began a clean stop.
    pub stopping: bool,
    /// Its log directories; empty when they did not change.
    pub log_dirs: Vec<Uuid>,
}

/// A change of a partition; `None` where nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionChange {
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub index: PartitionIndex,
    /// New in-sync replicas.
    pub isr: Option<Vec<NodeId>>,
    /// New leader. Naming the one it has begins a new leader epoch too.
    pub leader: Option<NodeId>,
    /// New replicas.
    pub replicas: Option<Vec<NodeId>>,
    /// Replicas being taken away.
    pub removing: Option<Vec<NodeId>>,
    /// Replicas being added.
    pub adding: Option<Vec<NodeId>>,
    /// Eligible leader replicas.
    pub eligible: Option<Vec<NodeId>>,
    /// Last known eligible leader replicas.
    pub last_known_eligible: Option<Vec<NodeId>>,
    /// Log directories of the replicas.
    pub directories: Option<Vec<Uuid>>,
    /// Whether the leader recovers from an unclean election.
    pub recovering: Option<bool>,
}

/// Bytes that are no record of the metadata log, or one that this build does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The bytes cannot be read, or are of a later version.
    #[error("metadata record: {0}")]
    Wire(#[from] DecodeError),
    /// A field holds something that has no meaning.
    #[error("metadata record: {0}")]
    Field(&'static str),
}

impl Record {
    /// The bytes of the record as the value of a log record. The versions of Kafka's records are those of
    /// metadata.version 4.3-IV0.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let (record, version) = self.to_wire();
        metadata_frame::encode(&record, version)
    }

    /// Reads the value of a log record.
    pub fn decode(value: Bytes) -> Result<Record, BadRecord> {
        let (record, _version) = metadata_frame::decode(value)?;
        Record::from_wire(record)
    }

    fn to_wire(&self) -> (wire::Record, i16) {
        match self {
            Record::RegisterBroker(broker) => (register_broker(broker).into(), 3),
            Record::UnregisterBroker { id, epoch } => {
                (wire::UnregisterBroker { broker_id: id.0, broker_epoch: epoch.0 }.into(), 0)
            }
            Record::BrokerChange(change) => (broker_change(change).into(), 2),
            Record::Topic { id, name } => (wire::Topic { name: text(name), topic_id: *id }.into(), 0),
            Record::RemoveTopic { id } => (wire::RemoveTopic { topic_id: *id }.into(), 0),
            Record::Partition { topic, index, partition } => {
                (whole_partition(*topic, *index, partition).into(), 2)
            }
            Record::PartitionChange(change) => (partition_change(change).into(), 2),
            Record::Config { resource, name, value } => {
                let ResourceName { kind, name: resource_name } = resource.into();
                let record = wire::Config {
                    resource_type: kind,
                    resource_name: text(&resource_name),
                    name: text(name),
                    value: value.as_deref().map(text),
                };
                (record.into(), 0)
            }
            Record::ProducerIds { broker, epoch, next } => {
                let (broker_id, broker_epoch) = (broker.0, epoch.0);
                (wire::ProducerIds { broker_id, broker_epoch, next_producer_id: *next }.into(), 0)
            }
            Record::Feature { name, level } => {
                (wire::FeatureLevel { name: text(name), feature_level: *level }.into(), 0)
            }
            Record::NoOp => (wire::NoOp {}.into(), 0),
        }
    }

    fn from_wire(record: wire::Record) -> Result<Record, BadRecord> {
        Ok(match record {
            wire::Record::RegisterBroker(r) => Record::RegisterBroker(broker(r)),
            wire::Record::UnregisterBroker(r) => {
                Record::UnregisterBroker { id: NodeId(r.broker_id), epoch: BrokerEpoch(r.broker_epoch) }
            }
            wire::Record::BrokerRegistrationChange(r) => Record::BrokerChange(BrokerChange {
                id: NodeId(r.broker_id),
                epoch: BrokerEpoch(r.broker_epoch),
                fenced: match r.fenced {
                    -1 => Some(false),
                    0 => None,
                    1 => Some(true),
                    _ => return Err(BadRecord::Field("fenced is neither -1, 0 nor 1")),
                },
                stopping: r.in_controlled_shutdown == 1,
                log_dirs: r.log_dirs,
            }),
            wire::Record::FenceBroker(r) => fence(r.id, r.epoch, Fence::Up),
            wire::Record::UnfenceBroker(r) => fence(r.id, r.epoch, Fence::Down),
            wire::Record::Topic(r) => Record::Topic { id: r.topic_id, name: shared(&r.name) },
            wire::Record::RemoveTopic(r) => Record::RemoveTopic { id: r.topic_id },
            wire::Record::Partition(r) => Record::Partition {
                topic: r.topic_id,
                index: PartitionIndex(r.partition_id),
                partition: partition(r)?,
            },
            wire::Record::PartitionChange(r) => Record::PartitionChange(change(r)?),
            wire::Record::Config(r) => Record::Config {
                resource: config_resource(r.resource_type, &r.resource_name)?,
                name: r.name.to_string(),
                value: r.value.map(|value| value.to_string()),
            },
            wire::Record::ProducerIds(r) => Record::ProducerIds {
                broker: NodeId(r.broker_id),
                epoch: BrokerEpoch(r.broker_epoch),
                next: r.next_producer_id,
            },
            wire::Record::FeatureLevel(r) => {
                Record::Feature { name: shared(&r.name), level: r.feature_level }
            }
            wire::Record::NoOp(_) => Record::NoOp,
        })
    }
}

fn text(value: &str) -> ByteString {
    ByteString::from(value)
}

/// A copy of its own: a slice would keep the whole batch in memory.
fn shared(value: &str) -> Arc<str> {
    Arc::from(value)
}

fn numbers(ids: &[NodeId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}

fn nodes(ids: Vec<i32>) -> Vec<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

fn register_broker(broker: &Broker) -> wire::RegisterBroker {
    let listeners = broker.listeners.iter().map(|listener| wire::BrokerEndpoint {
        name: text(&listener.name),
        host: text(&listener.host),
        port: listener.port,
        security_protocol: listener.security_protocol,
    });
    let features = broker.features.iter().map(|feature| wire::BrokerFeature {
        name: text(&feature.name),
        min_supported_version: feature.min,
        max_supported_version: feature.max,
    });
    wire::RegisterBroker {
        broker_id: broker.id.0,
        incarnation_id: broker.incarnation,
        broker_epoch: broker.epoch.0,
        end_points: listeners.collect(),
        features: features.collect(),
        rack: broker.rack.as_deref().map(text),
        fenced: broker.fenced,
        in_controlled_shutdown: broker.stopping,
        log_dirs: broker.log_dirs.clone(),
        ..wire::RegisterBroker::default()
    }
}

fn broker(r: wire::RegisterBroker) -> Broker {
    let listeners = r.end_points.iter().map(|end| Listener {
        name: shared(&end.name),
        host: shared(&end.host),
        port: end.port,
        security_protocol: end.security_protocol,
    });
    let features = r.features.iter().map(|feature| FeatureRange {
        name: shared(&feature.name),
        min: feature.min_supported_version,
        max: feature.max_supported_version,
    });
    Broker {
        id: NodeId(r.broker_id),
        epoch: BrokerEpoch(r.broker_epoch),
        incarnation: r.incarnation_id,
        listeners: listeners.collect(),
        rack: r.rack.as_deref().map(shared),
        features: features.collect(),
        log_dirs: r.log_dirs,
        fenced: r.fenced,
        stopping: r.in_controlled_shutdown,
    }
}

fn broker_change(change: &BrokerChange) -> wire::BrokerRegistrationChange {
    wire::BrokerRegistrationChange {
        broker_id: change.id.0,
        broker_epoch: change.epoch.0,
        fenced: match change.fenced {
            None => 0,
            Some(true) => 1,
            Some(false) => -1,
        },
        in_controlled_shutdown: i8::from(change.stopping),
        log_dirs: change.log_dirs.clone(),
        ..wire::BrokerRegistrationChange::default()
    }
}

/// Which way a broker's fence goes in the two records of metadata versions before 3.3.
enum Fence {
    Up,
    Down,
}

fn fence(id: i32, epoch: i64, way: Fence) -> Record {
    Record::BrokerChange(BrokerChange {
        id: NodeId(id),
        epoch: BrokerEpoch(epoch),
        fenced: Some(matches!(way, Fence::Up)),
        stopping: false,
        log_dirs: vec![],
    })
}

fn whole_partition(topic: Uuid, index: PartitionIndex, p: &Partition) -> wire::Partition {
    let some = |ids: &[NodeId]| (!ids.is_empty()).then(|| numbers(ids));
    wire::Partition {
        partition_id: index.0,
        topic_id: topic,
        replicas: numbers(&p.replicas),
        isr: numbers(&p.isr),
        removing_replicas: numbers(&p.removing),
        adding_replicas: numbers(&p.adding),
        leader: p.leader.0,
        leader_recovery_state: i8::from(p.recovering),
        leader_epoch: p.leader_epoch.0,
        partition_epoch: p.partition_epoch.0,
        directories: p.directories.to_vec(),
        eligible_leader_replicas: some(&p.eligible),
        last_known_elr: some(&p.last_known_eligible),
    }
}

fn partition(r: wire::Partition) -> Result<Partition, BadRecord> {
    if r.partition_id < 0 {
        return Err(BadRecord::Field("partition number below zero"));
    }
    Ok(Partition {
        // Before version 1 the record has no directories.
        directories: directories_of(r.directories, r.replicas.len()),
        replicas: nodes(r.replicas).into(),
        isr: nodes(r.isr).into(),
        removing: nodes(r.removing_replicas).into(),
        adding: nodes(r.adding_replicas).into(),
        eligible: nodes(r.eligible_leader_replicas.unwrap_or_default()).into(),
        last_known_eligible: nodes(r.last_known_elr.unwrap_or_default()).into(),
        leader: NodeId(r.leader),
        leader_epoch: LeaderEpoch(r.leader_epoch),
        partition_epoch: PartitionEpoch(r.partition_epoch),
        recovering: r.leader_recovery_state == 1,
    })
}

/// On the wire, the leader that stands for "no change".
const SAME_LEADER: i32 = -2;

fn partition_change(change: &PartitionChange) -> wire::PartitionChange {
    let ids = |ids: &Option<Vec<NodeId>>| ids.as_deref().map(numbers);
    wire::PartitionChange {
        partition_id: change.index.0,
        topic_id: change.topic,
        isr: ids(&change.isr),
        leader: change.leader.map_or(SAME_LEADER, |leader| leader.0),
        replicas: ids(&change.replicas),
        removing_replicas: ids(&change.removing),
        adding_replicas: ids(&change.adding),
        leader_recovery_state: change.recovering.map_or(-1, i8::from),
        directories: change.directories.clone(),
        eligible_leader_replicas: ids(&change.eligible),
        last_known_elr: ids(&change.last_known_eligible),
    }
}

fn change(r: wire::PartitionChange) -> Result<PartitionChange, BadRecord> {
    Ok(PartitionChange {
        topic: r.topic_id,
        index: PartitionIndex(r.partition_id),
        isr: r.isr.map(nodes),
        leader: (r.leader != SAME_LEADER).then_some(NodeId(r.leader)),
        replicas: r.replicas.map(nodes),
        removing: r.removing_replicas.map(nodes),
        adding: r.adding_replicas.map(nodes),
        eligible: r.eligible_leader_replicas.map(nodes),
        last_known_eligible: r.last_known_elr.map(nodes),
        directories: r.directories,
        recovering: match r.leader_recovery_state {
            -1 => None,
            0 => Some(false),
            1 => Some(true),
            _ => return Err(BadRecord::Field("leader recovery state is neither -1, 0 nor 1")),
        },
    })
}

fn config_resource(kind: i8, name: &str) -> Result<Resource, BadRecord> {
    match kind {
        2 => Ok(Resource::Topic(shared(name))),
        4 if name.is_empty() => Ok(Resource::ClusterDefault),
        4 => name
            .parse()
            .map(|id| Resource::Broker(NodeId(id)))
            .map_err(|_| BadRecord::Field("broker name is no number")),
        16 => Ok(Resource::ClientMetrics(shared(name))),
        32 => Ok(Resource::Group(shared(name))),
        _ => Err(BadRecord::Field("unknown resource type")),
    }
}
