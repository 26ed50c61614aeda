//! What the simulator sees and clients cannot: memory against logs, and the nodes of a cluster against each other.

use std::collections::BTreeMap;

use bytes::Bytes;
use moldau_base::{NodeId, TopicPartition};
use moldau_controller::Image;
use moldau_partition::Partition;
use moldau_storage::{Log, State};

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
    /// Who led a partition in each of its epochs.
    leaders: BTreeMap<(TopicPartition, i32), usize>,
}

/// A replica that is in service.
struct Replica<'a> {
    node: usize,
    log: &'a Log,
    core: &'a Partition,
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
        if process.image().is_some_and(|live| live != quorum.image()) {
            let what = "the controller's image is not what a replay of the metadata log gives";
            return self.fail(failure::REPLAY_DIFFERS, what);
        }
        if self.nodes.len() == 1 {
            return;
        }
        let image = quorum.image();
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

    /// What replicas of a partition owe each other.
    pub(crate) fn compare_nodes(&mut self) {
        if self.nodes.len() == 1 {
            return;
        }
        let mut seen = std::mem::take(&mut self.seen);
        let found = self.two_leaders(&mut seen).map(|what| (failure::TWO_LEADERS, what));
        let found = found.or_else(|| self.not_in_sync());
        self.seen = seen;
        if let Some((checker, what)) = found {
            self.fail(checker, what);
        }
    }

    fn replicas(&self) -> BTreeMap<TopicPartition, Vec<Replica<'_>>> {
        let mut all: BTreeMap<TopicPartition, Vec<Replica<'_>>> = BTreeMap::new();
        for (place, node) in self.nodes.iter().enumerate() {
            for shard in node.process.iter().flat_map(|process| process.each_shard()) {
                for (id, log, core) in shard.logs().filter(|(_, log, _)| *log.state() == State::Online) {
                    all.entry(id).or_default().push(Replica { node: place, log, core });
                }
            }
        }
        all
    }

    /// In one epoch of a partition one node leads.
    fn two_leaders(&self, seen: &mut Seen) -> Option<String> {
        for (id, replicas) in self.replicas() {
            for replica in replicas {
                let Some(leadership) = replica.core.leadership() else { continue };
                let known = seen.leaders.entry((id, leadership.epoch.0)).or_insert(replica.node);
                if *known != replica.node {
                    let (one, other) = (boot::node_id(*known), boot::node_id(replica.node));
                    return Some(format!(
                        "{id}: nodes {one} and {other} lead in epoch {}",
                        leadership.epoch.0
                    ));
                }
            }
        }
        None
    }

    /// Every in-sync replica has what is below its leader's high watermark, byte by byte. Where a power loss may have taken something, the
    /// leader may not know yet that the replica left.
    fn not_in_sync(&self) -> Option<(&'static str, String)> {
        for (id, replicas) in self.replicas() {
            for leader in &replicas {
                let Some(leadership) = leader.core.leadership() else { continue };
                let is_in_sync = |id: NodeId| leadership.isr.contains(&id);
                let trusted = |replica: &&Replica<'_>| {
                    self.setup.synced || self.nodes[replica.node].lost_at.is_none() || self.is_settled()
                };
                let mut expected = None;
                for replica in replicas.iter().filter(|r| is_in_sync(boot::node_id(r.node))).filter(trusted) {
                    let told = leader.core.high_watermark();
                    let who = || {
                        let (leader, member) = (boot::node_id(leader.node), boot::node_id(replica.node));
                        format!(
                            "{id}: in-sync replica {member} of leader {leader} in epoch {}",
                            leadership.epoch.0
                        )
                    };
                    if replica.log.end_offset() < told {
                        let end = replica.log.end_offset();
                        let what = format!("{} ends at {end}, below the high watermark {told}", who());
                        return Some((failure::NOT_IN_SYNC, what));
                    }
                    let disk = &self.nodes[leader.node].disk;
                    let expected = expected.get_or_insert_with(|| batches(disk, leader.log, told));
                    let got = batches(&self.nodes[replica.node].disk, replica.log, told);
                    if let Some(offset) = differ(expected, &got) {
                        let what =
                            format!("{} has other bytes at {offset}, below the high watermark {told}", who());
                        return Some((failure::COMMITTED_DIFFERS, what));
                    }
                }
            }
        }
        None
    }

    /// Every node is registered and serves, and every replica is in sync, as every node sees it.
    pub(crate) fn is_whole(&self) -> bool {
        let nodes = self.nodes.len();
        self.nodes.iter().all(|node| {
            let image =
                node.process.as_ref().filter(|process| process.ready).and_then(|process| process.image());
            image.is_some_and(|image| {
                let serve = image.brokers().values().filter(|broker| broker.is_active()).count();
                let mut partitions = image.topics().values().flat_map(|topic| topic.partitions.values());
                serve == nodes && partitions.all(|partition| partition.isr.len() == partition.replicas.len())
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
    fn is_settled(&self) -> bool {
        self.is_whole()
            && self.nodes.iter().all(|node| node.lost_at.is_none_or(|at| at.0 + LONG < self.clock.now().0))
    }
}

/// The batches of a log below an offset, by where they begin, as the running system sees its files.
fn batches(disk: &crate::disk::SimDisk, log: &Log, below: i64) -> BTreeMap<i64, Bytes> {
    let all = replay::read(disk, log.dir(), log.name()).unwrap_or_default();
    let committed = all.into_iter().filter(|batch| batch.header().base_offset < below);
    committed.map(|batch| (batch.header().base_offset, batch.bytes().clone())).collect()
}

/// The first offset at which two logs differ where both have something.
fn differ(one: &BTreeMap<i64, Bytes>, other: &BTreeMap<i64, Bytes>) -> Option<i64> {
    let start = *one.keys().next()?.max(other.keys().next()?);
    let mut pairs = one.range(start..).zip(other.range(start..));
    pairs.find(|(one, other)| one != other).map(|((offset, _), _)| *offset)
}

/// Where two images differ, in a few words.
fn first_difference(one: &Image, other: &Image) -> String {
    let brokers =
        (one.brokers() != other.brokers()).then(|| format!("{:?} / {:?}", one.brokers(), other.brokers()));
    let topics =
        (one.topics() != other.topics()).then(|| format!("{:?} / {:?}", one.topics(), other.topics()));
    brokers.or(topics).unwrap_or_else(|| format!("{one:?} / {other:?}"))
}
