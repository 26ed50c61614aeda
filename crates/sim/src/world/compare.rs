//! What the simulator sees and clients cannot: memory against logs, metadata of one node against that of another, and whether a cluster is
//! whole. Replicas are compared in [`super::replicas`].

use std::collections::BTreeMap;

use moldau_base::NodeId;
use moldau_controller::Image;

use super::World;
use crate::boot;
use crate::failure;
use crate::replay;

/// Nanoseconds after a power loss by which every node knows of it.
const LONG: u64 = 5_000_000_000;
/// Images that are remembered to compare others with.
const IMAGES: usize = 400;

/// What the nodes have shown of themselves so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Metadata by the offset of its last record.
    images: BTreeMap<i64, Image>,
}

impl World {
    /// `replay(log) == live`, for everything that shards keep in logs.
    pub(crate) fn compare_replays(&mut self) {
        let found = self.nodes.iter().find_map(|node| {
            // On a full disk writes may have failed that the shards have not been told of.
            let process = node.process.as_ref().filter(|_| !node.disk.is_limited())?;
            process.each_shard().iter().find_map(|shard| replay::difference(shard, &node.disk))
        });
        if let Some(what) = found {
            self.fail(failure::REPLAY_DIFFERS, what);
        }
    }

    /// `replay(log) == live`: the controller's image is what a replay of the committed records gives. And at one offset of the metadata
    /// log there is one image, on whatever node.
    pub(super) fn compare_images(&mut self, place: usize) {
        let node = &self.nodes[place];
        let Some((process, quorum)) = node.process.as_ref().zip(node.quorum.as_ref()) else { return };
        if !quorum.news.is_empty() || !self.rng.chance(1, 4) {
            return;
        }
        if let Some(live) = process.image().filter(|live| *live != quorum.image()) {
            let (node, replayed) = (boot::node_id(place), quorum.image());
            let what = format!(
                "node {node}: the controller's image at offset {} is not what a replay of the metadata log gives, at offset {}: {}",
                live.offset(),
                replayed.offset(),
                first_difference(live, replayed)
            );
            return self.fail(failure::REPLAY_DIFFERS, what);
        }
        if self.nodes.len() == 1 {
            return;
        }
        let image = quorum.image();
        if let Some(what) = fenced_member(image) {
            return self.fail(failure::FENCED_MEMBER, what);
        }
        let known = self.seen.images.entry(image.offset()).or_insert_with(|| image.clone());
        if known != image {
            let (node, offset) = (boot::node_id(place), image.offset());
            let what = format!("node {node} at metadata offset {offset}: {}", first_difference(known, image));
            return self.fail(failure::IMAGES_DIFFER, what);
        }
        if self.seen.images.len() > IMAGES {
            self.seen.images.pop_first();
        }
    }

    /// A broker that is no voter reads the metadata log of those who are: at one offset it has the same image.
    pub(crate) fn compare_observers(&mut self) {
        let observers = self.nodes.iter().enumerate().filter(|(_, node)| node.quorum.is_none());
        let found = observers
            .filter_map(|(place, node)| Some((place, node.process.as_ref()?.image()?)))
            .find_map(|(place, image)| {
                let known = self.seen.images.get(&image.offset()).filter(|known| *known != image)?;
                let (node, offset) = (boot::node_id(place), image.offset());
                Some(format!(
                    "node {node}, an observer at metadata offset {offset}: {}",
                    first_difference(known, image)
                ))
            });
        if let Some(what) = found {
            self.fail(failure::IMAGES_DIFFER, what);
        }
    }

    /// Every node is registered and serves, and every replica is in sync, as every node sees it.
    pub(crate) fn is_whole(&self) -> bool {
        let brokers = self.setup.weather.brokers();
        self.nodes.iter().all(|node| {
            let image =
                node.process.as_ref().filter(|process| process.ready).and_then(|process| process.image());
            image.is_some_and(|image| {
                let serve = image.brokers().values().filter(|broker| broker.is_active()).count();
                let mut partitions = image.topics().values().flat_map(|topic| topic.partitions.values());
                serve == brokers
                    && partitions.all(|partition| partition.isr.len() == partition.replicas.len())
            })
        })
    }

    /// What each node knows that is not as it should be, for a report.
    pub(crate) fn what_is_missing(&self) -> String {
        let of = |(place, node): (usize, &super::Node)| {
            let id = boot::node_id(place);
            let Some(process) = node.process.as_ref().filter(|process| process.ready) else {
                return format!("node {id} does not serve");
            };
            let Some(image) = process.image() else { return format!("node {id} has no metadata") };
            let brokers =
                image.brokers().iter().filter(|(_, broker)| !broker.is_active()).map(|(id, _)| id.0);
            let topics =
                image.topics().values().flat_map(|topic| topic.partitions.iter().map(|p| (&topic.name, p)));
            let short = topics.filter(|(_, (_, partition))| partition.isr.len() < partition.replicas.len());
            let short: Vec<String> = short
                .map(|(name, (index, p))| {
                    format!("{name}-{index} led by {:?} in sync {:?}", p.leader(), p.isr)
                })
                .collect();
            format!(
                "node {id} at offset {} sees {} brokers, not serving {:?}, {}",
                image.offset(),
                image.brokers().len(),
                brokers.collect::<Vec<i32>>(),
                short.join(", ")
            )
        };
        self.nodes.iter().enumerate().map(of).collect::<Vec<String>>().join("; ")
    }

    /// As [`World::is_whole`], and nobody lost anything for a while.
    pub(super) fn is_settled(&self) -> bool {
        self.is_whole()
            && self.nodes.iter().all(|node| node.lost_at.is_none_or(|at| at.0 + LONG < self.clock.now().0))
    }
}

/// A partition of which somebody is in sync who is fenced or gone.
fn fenced_member(image: &Image) -> Option<String> {
    let all = image.topics().values().flat_map(|topic| topic.partitions.iter().map(|p| (&topic.name, p)));
    let fenced = |id: &NodeId| image.broker(*id).is_none_or(|broker| broker.fenced);
    let mut found =
        all.filter_map(|(name, (index, p))| Some((name, index, p.isr.iter().find(|id| fenced(id))?)));
    let (name, index, id) = found.next()?;
    Some(format!("at metadata offset {}, {name}-{index} has {id} in sync, which is fenced", image.offset()))
}

/// Where two images differ, in a few words.
fn first_difference(one: &Image, other: &Image) -> String {
    let brokers =
        (one.brokers() != other.brokers()).then(|| format!("{:?} / {:?}", one.brokers(), other.brokers()));
    let topics =
        (one.topics() != other.topics()).then(|| format!("{:?} / {:?}", one.topics(), other.topics()));
    brokers.or(topics).unwrap_or_else(|| format!("{one:?} / {other:?}"))
}
