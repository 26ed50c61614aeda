//! Decisions as text.

use std::fmt::Write as _;

use moldau_base::Uuid;
use moldau_controller::{
    Decision, Delta, Image, NO_LEADER, Partition, Record, Refusal, Reply, ResourceName, TopicCreated,
    TopicDeleted,
};

fn ids(ids: &[moldau_base::NodeId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn outcome(result: &Result<(), Refusal>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(refusal) => refusal.to_string(),
    }
}

/// Names in place of ids, which are random.
pub struct Names<'a>(pub [&'a Image; 2]);

impl Names<'_> {
    fn topic(&self, id: Uuid) -> String {
        let name = self.0.iter().find_map(|image| image.topic(id)).map(|topic| topic.name.to_string());
        name.unwrap_or_else(|| if id.is_zero() { "no id".into() } else { "?".into() })
    }

    /// A whole decision: what is answered, what is written, what brokers see change.
    pub fn decision(&self, decision: &Decision, delta: &Delta) -> String {
        let mut out = String::new();
        self.reply(&mut out, &decision.reply);
        for record in &decision.records {
            let _ = writeln!(out, "  {}", self.record(record));
        }
        let created: Vec<_> = delta.topics_created.iter().map(|topic| format!("+{}", topic.name)).collect();
        let deleted: Vec<_> = delta.topics_deleted.iter().map(|topic| format!("-{}", topic.name)).collect();
        if !delta.is_empty() {
            let (partitions, configs, brokers) =
                (delta.partitions.len(), delta.configs.len(), delta.brokers.len());
            let topics = [created, deleted].concat().join(" ");
            let _ = writeln!(
                out,
                "changed: topics [{topics}], {partitions} partitions, {configs} configs, {brokers} brokers"
            );
        }
        out
    }

    fn reply(&self, out: &mut String, reply: &Reply) {
        let _ = match reply {
            Reply::Bootstrapped => writeln!(out, "bootstrapped"),
            Reply::BrokerRegistered(epoch) => writeln!(out, "registered at epoch {epoch}"),
            Reply::BrokerUnregistered => writeln!(out, "unregistered"),
            Reply::TopicsCreated(topics) => {
                topics.iter().try_for_each(|topic| writeln!(out, "{}", created(topic)))
            }
            Reply::TopicsDeleted(topics) => {
                topics.iter().try_for_each(|topic| writeln!(out, "{}", self.deleted(topic)))
            }
            Reply::PartitionsCreated(topics) => {
                topics.iter().try_for_each(|(name, result)| writeln!(out, "{name}: {}", outcome(result)))
            }
            Reply::ConfigsAltered(resources) => resources
                .iter()
                .try_for_each(|(name, result)| writeln!(out, "{}: {}", resource(name), outcome(result))),
            Reply::Heartbeat(reply) => {
                let caught_up = if reply.caught_up { "caught up" } else { "behind" };
                let fenced = if reply.fenced { ", fenced" } else { "" };
                let stop = if reply.should_shut_down { ", may stop" } else { "" };
                writeln!(out, "{caught_up}{fenced}{stop}")
            }
            Reply::Fenced(brokers) => writeln!(out, "fenced: [{}]", ids(brokers)),
            Reply::PartitionsAltered(partitions) => partitions.iter().try_for_each(|(at, result)| {
                let said = match result {
                    Ok(partition) => self::partition(partition),
                    Err(code) => code.name().to_string(),
                };
                writeln!(out, "{}-{}: {said}", self.topic(at.topic), at.partition)
            }),
            Reply::LeadersElected(partitions) | Reply::ReassignmentsAltered(partitions) => partitions
                .iter()
                .try_for_each(|p| writeln!(out, "{}-{}: {}", p.topic, p.index, outcome(&p.result))),
            Reply::ProducerIds(block) => {
                writeln!(out, "producer ids {} to {}", block.first, block.first + i64::from(block.len) - 1)
            }
        };
    }

    fn deleted(&self, topic: &TopicDeleted) -> String {
        let name = topic.name.as_deref().map_or("(no name)", |name| name);
        format!("{name} [{}]: {}", self.topic(topic.id), outcome(&topic.result))
    }

    /// One record, in Kafka's words.
    pub fn record(&self, record: &Record) -> String {
        match record {
            Record::RegisterBroker(broker) => {
                let rack = broker.rack.as_deref().unwrap_or("none");
                let fenced = if broker.fenced { ", fenced" } else { "" };
                format!("RegisterBroker {} epoch {} rack {rack}{fenced}", broker.id, broker.epoch)
            }
            Record::UnregisterBroker { id, epoch } => format!("UnregisterBroker {id} epoch {epoch}"),
            Record::BrokerChange(change) => {
                let fenced = match change.fenced {
                    Some(true) => " fenced",
                    Some(false) => " unfenced",
                    None => "",
                };
                let stopping = if change.stopping { " stopping" } else { "" };
                let dirs = match change.log_dirs.len() {
                    0 => String::new(),
                    left => format!(" {left} directories left"),
                };
                format!("BrokerRegistrationChange {}{fenced}{stopping}{dirs}", change.id)
            }
            Record::Topic { name, .. } => format!("Topic {name}"),
            Record::RemoveTopic { id } => format!("RemoveTopic {}", self.topic(*id)),
            Record::Partition { topic, index, partition } => {
                format!("Partition {}-{index} {}", self.topic(*topic), self::partition(partition))
            }
            Record::PartitionChange(change) => {
                let mut said = format!("PartitionChange {}-{}", self.topic(change.topic), change.index);
                if let Some(leader) = change.leader {
                    let _ = write!(said, " leader {}", name_of(leader));
                }
                let sets = [
                    ("isr", &change.isr),
                    ("replicas", &change.replicas),
                    ("removing", &change.removing),
                    ("adding", &change.adding),
                    ("eligible", &change.eligible),
                    ("last leader", &change.last_known_eligible),
                ];
                for (what, set) in sets {
                    if let Some(set) = set {
                        let _ = write!(said, " {what} [{}]", ids(set));
                    }
                }
                if let Some(recovering) = change.recovering {
                    let _ = write!(said, "{}", if recovering { " recovering" } else { " recovered" });
                }
                said
            }
            Record::Config { resource, name, value } => {
                let value =
                    value.as_deref().map_or_else(|| "removed".to_owned(), |value| format!("= {value}"));
                format!("Config {} {name} {value}", self::resource(&resource.into()))
            }
            Record::ProducerIds { broker, next, .. } => format!("ProducerIds broker {broker} next {next}"),
            Record::Feature { name, level } => format!("FeatureLevel {name} {level}"),
            Record::NoOp => "NoOp".into(),
        }
    }
}

fn created(topic: &TopicCreated) -> String {
    match &topic.result {
        Err(refusal) => format!("{}: {refusal}", topic.name),
        Ok(created) => {
            let (count, factor) = (created.partitions, created.replication_factor);
            format!("{}: created, {count} partitions, {factor} replicas", topic.name)
        }
    }
}

/// A resource as a request names it.
pub fn resource(name: &ResourceName) -> String {
    match (name.kind, &*name.name) {
        (2, name) => format!("topic {name}"),
        (4, "") => "all brokers".into(),
        (4, name) => format!("broker {name}"),
        (kind, name) => format!("type {kind} {name}"),
    }
}

fn name_of(leader: moldau_base::NodeId) -> String {
    if leader == NO_LEADER { "none".into() } else { leader.to_string() }
}

/// A partition as the tools show it.
pub fn partition(partition: &Partition) -> String {
    let mut said = format!(
        "leader {} epoch {} replicas {} isr {}",
        name_of(partition.leader),
        partition.leader_epoch,
        ids(&partition.replicas),
        ids(&partition.isr)
    );
    let sets = [
        ("eligible", &partition.eligible),
        ("last leader", &partition.last_known_eligible),
        ("adding", &partition.adding),
        ("removing", &partition.removing),
    ];
    for (what, set) in sets.iter().filter(|(_, set)| !set.is_empty()) {
        let _ = write!(said, " {what} {}", ids(set));
    }
    if partition.recovering {
        said.push_str(" recovering");
    }
    said
}
