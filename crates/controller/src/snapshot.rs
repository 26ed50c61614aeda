//! An image as records: what a snapshot holds. Applying them to an empty image gives the same image.
//!
//! Features come first, because they say how to read the rest, and topics behind brokers and configs: what follows from
//! those for partitions ([`crate::Image`] derives it) has happened to the partitions of a snapshot.

use moldau_base::PartitionIndex;
use moldau_base::planted::{Bug, planted};

use crate::image::{Image, Partition};
use crate::record::Record;

/// The records of `image`, one after the other, without building them all at once.
pub fn records(image: &Image) -> impl Iterator<Item = Record> + '_ {
    features(image)
        .chain(brokers(image))
        .chain(configs(image))
        .chain(topics(image))
        .chain(producer_ids(image))
}

fn features(image: &Image) -> impl Iterator<Item = Record> + '_ {
    // metadata.version comes before everything: Kafka's readers insist.
    let first = image.features().get_key_value(crate::image::METADATA_VERSION);
    let rest = image.features().iter().filter(|(name, _)| &***name != crate::image::METADATA_VERSION);
    first.into_iter().chain(rest).map(|(name, level)| Record::Feature { name: name.clone(), level: *level })
}

fn brokers(image: &Image) -> impl Iterator<Item = Record> + '_ {
    image.brokers().values().map(|broker| Record::RegisterBroker((**broker).clone()))
}

fn topics(image: &Image) -> impl Iterator<Item = Record> + '_ {
    image.topics().values().flat_map(|topic| {
        let head = Record::Topic { id: topic.id, name: topic.name.clone() };
        let partitions = topic.partitions.iter().map(move |(index, partition)| Record::Partition {
            topic: topic.id,
            index: PartitionIndex(index.0),
            partition: match planted(Bug::SnapshotForgetsEligible) {
                true => Partition { eligible: [].into(), ..(**partition).clone() },
                false => (**partition).clone(),
            },
        });
        std::iter::once(head).chain(partitions)
    })
}

fn configs(image: &Image) -> impl Iterator<Item = Record> + '_ {
    image.all_configs().iter().flat_map(|(resource, configs)| {
        configs.iter().map(move |(name, value)| Record::Config {
            resource: resource.clone(),
            name: name.clone(),
            value: Some(value.clone()),
        })
    })
}

fn producer_ids(image: &Image) -> impl Iterator<Item = Record> + '_ {
    image.next_producer_id().into_iter().map(|next| Record::ProducerIds {
        broker: moldau_base::NodeId(-1),
        epoch: moldau_base::BrokerEpoch(-1),
        next,
    })
}
