//! Elections by request (KIP-183, KIP-460), and leadership that goes back to preferred replicas by itself.
//!
//! Who may be elected is decided in [`crate::change`]. An unclean election happens only where somebody asks for it or the
//! topic allows it, and leaves the partition marked as recovering.

use std::sync::Arc;

use moldau_base::{Now, PartitionIndex, TopicPartition};
use moldau_wire::ErrorCode;

use crate::change::Election;
use crate::controller::Controller;
use crate::heartbeats::unclean_elections;
use crate::image::{Image, NO_LEADER, Partition};
use crate::record::Record;
use crate::request::{Decision, ElectLeaders, ElectionKind, PartitionOutcome, Refusal, Reply};

/// Most elections that one look at all partitions makes, as in Kafka.
const MOST_AT_ONCE: usize = 1_000;

pub(crate) fn elect(c: &Controller, request: &ElectLeaders) -> Decision {
    let mut records = Vec::new();
    let mut outcome = |topic: &Arc<str>, index| {
        let result = elect_one(&c.image, topic, index, request.kind).map(|record| records.push(record));
        PartitionOutcome { topic: topic.clone(), index, result }
    };
    let replies = match &request.partitions {
        Some(named) => named.iter().map(|(topic, index)| outcome(topic, *index)).collect(),
        None => {
            let all = c.image.topics_by_name().flat_map(|t| t.partitions.keys().map(|i| (&t.name, *i)));
            let outcomes = all.map(|(topic, index)| outcome(topic, index));
            let not_needed = |o: &PartitionOutcome| matches!(&o.result, Err(r) if r.error == ErrorCode::ELECTION_NOT_NEEDED);
            outcomes.filter(|outcome| !not_needed(outcome)).collect()
        }
    };
    Decision { records, reply: Reply::LeadersElected(replies) }
}

fn elect_one(
    image: &Image,
    topic: &Arc<str>,
    index: PartitionIndex,
    kind: ElectionKind,
) -> Result<Record, Refusal> {
    let unknown = |what: String| Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what);
    let found = image.topic_named(topic).ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
    let partition =
        found.partition(index).ok_or_else(|| unknown(format!("No such partition as {topic}-{index}")))?;
    let (needed, election, unavailable) = match kind {
        ElectionKind::Preferred => {
            (!leads_preferred(partition), Election::Preferred, ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE)
        }
        ElectionKind::Unclean => {
            (partition.leader == NO_LEADER, Election::Unclean, ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE)
        }
    };
    if !needed {
        return Err(Refusal::plain(ErrorCode::ELECTION_NOT_NEEDED));
    }
    let at = TopicPartition { topic: found.id, partition: index };
    let change = image.changing(at, &|change| change.election = election);
    change.map(Record::PartitionChange).ok_or_else(|| Refusal::plain(unavailable))
}

fn leads_preferred(partition: &Partition) -> bool {
    partition.replicas.first() == Some(&partition.leader)
}

/// Gives leadership back to preferred replicas that are in sync and warm, and elects where nobody leads and the topic allows an
/// unclean election; a bounded number at once.
pub(crate) fn rebalance(c: &Controller, now: Now, image: &Image) -> Vec<Record> {
    let all = || {
        let of = |topic: &Arc<crate::image::Topic>| topic.id;
        image.topics().values().flat_map(move |t| {
            let topic = of(t);
            t.partitions.iter().map(move |(index, p)| (TopicPartition { topic, partition: *index }, p))
        })
    };
    let mut records = match c.may_elect_uncleanly() {
        true => unclean_elections(c, image, all().map(|(at, _)| at)),
        false => vec![],
    };
    let is_warm = |p: &Partition| p.replicas.first().is_some_and(|id| c.liveness.is_warm(*id, now.mono));
    let led_by_another = all().filter(|(_, p)| p.leader != NO_LEADER && !leads_preferred(p) && is_warm(p));
    let back = led_by_another
        .filter_map(|(at, _)| image.changing(at, &|change| change.election = Election::Preferred))
        .map(Record::PartitionChange);
    records.extend(back.take(MOST_AT_ONCE));
    records
}
