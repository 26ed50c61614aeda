//! What the replicas of a partition owe each other, which no client sees: one leader in an epoch, in-sync replicas that have what is
//! committed, and a committed prefix that stays as it is, whoever leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::{NodeId, TopicPartition};
use moldau_controller::Image;
use moldau_partition::{Leadership, Partition};
use moldau_storage::{Log, State};

use super::World;
use crate::boot;
use crate::disk::SimDisk;
use crate::failure;
use crate::replay;

/// A log's batches by where they begin.
type Batches = BTreeMap<i64, Bytes>;
/// Which promise was broken, and how.
type Found = (&'static str, String);

/// What leaders have shown of themselves so far.
#[derive(Default)]
pub(super) struct History {
    /// Who led a partition in each of its epochs.
    leaders: BTreeMap<(TopicPartition, i32), usize>,
    committed: BTreeMap<TopicPartition, Committed>,
}

/// What was ever seen below a high watermark.
#[derive(Default)]
struct Committed {
    /// The newest epoch in which that was.
    epoch: i32,
    batches: Batches,
}

/// A replica that is in service.
struct Replica<'a> {
    node: usize,
    log: &'a Log,
    core: &'a Partition,
}

impl World {
    /// Compares the replicas of every partition with each other and with what was committed before.
    pub(crate) fn compare_nodes(&mut self) {
        if self.nodes.len() == 1 {
            return;
        }
        let mut history = std::mem::take(&mut self.history);
        let found =
            self.replicas().into_iter().find_map(|(id, replicas)| self.compare(&mut history, id, &replicas));
        self.history = history;
        if let Some((checker, what)) = found {
            self.fail(checker, what);
        }
    }

    /// The part of it that needs no look into the logs: one leader in an epoch, and in-sync replicas that reach up to the high watermark.
    pub(crate) fn compare_ends(&mut self) {
        if self.nodes.len() == 1 {
            return;
        }
        let mut history = std::mem::take(&mut self.history);
        let found = self.replicas().into_iter().find_map(|(id, replicas)| {
            replicas.iter().find_map(|leader| {
                let leadership = leader.core.leadership()?;
                let found = history.led(id, leader, leadership.epoch.0);
                found.or_else(|| self.behind(id, leader, leadership, &replicas))
            })
        });
        self.history = history;
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

    fn compare(&self, history: &mut History, id: TopicPartition, replicas: &[Replica<'_>]) -> Option<Found> {
        for leader in replicas {
            let Some(leadership) = leader.core.leadership() else { continue };
            let found = history.led(id, leader, leadership.epoch.0);
            // What a fault has cut short in the middle of a write is read when the node has noticed.
            let Some(own) = batches(&self.nodes[leader.node].disk, leader.log) else { continue };
            let found = found.or_else(|| history.committed(id, leader, leadership.epoch.0, &own));
            let found = found.or_else(|| self.not_in_sync(id, leader, leadership, &own, replicas));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The replicas that may be elected: those that the leader knows to be in sync, and those of which the controller knows that they are, or
    /// are eligible. A leader that was replaced and does not know says nothing: who was in sync with it may hold no replica any more.
    fn trusted<'a, 'b>(
        &self,
        id: TopicPartition,
        leadership: &Leadership,
        replicas: &'b [Replica<'a>],
    ) -> Vec<&'b Replica<'a>> {
        let known = self.newest_image().and_then(|image| image.partition(id));
        // Voters that start know what their snapshots say, which leaders may be ahead of.
        let is_of_now = |known: &&Arc<moldau_controller::Partition>| {
            known.leader_epoch == leadership.epoch && known.partition_epoch >= leadership.partition_epoch
        };
        let Some(known) = known.filter(is_of_now) else { return vec![] };
        let members: BTreeSet<NodeId> =
            leadership.isr.iter().chain(&known.isr).chain(&known.eligible).copied().collect();
        let is_trusted = |replica: &&Replica<'_>| {
            members.contains(&boot::node_id(replica.node)) && self.may_be_trusted(replica.node)
        };
        replicas.iter().filter(is_trusted).collect()
    }

    /// One of them that does not reach up to the leader's high watermark.
    fn behind(
        &self,
        id: TopicPartition,
        leader: &Replica<'_>,
        leadership: &Leadership,
        replicas: &[Replica<'_>],
    ) -> Option<Found> {
        let told = leader.core.high_watermark();
        let all = self.trusted(id, leadership, replicas);
        let member = all.into_iter().find(|member| member.log.end_offset() < told)?;
        let (who, end) = (who(id, leader, leadership, member), member.log.end_offset());
        Some((failure::NOT_IN_SYNC, format!("{who} ends at {end}, below the high watermark {told}")))
    }

    /// They have what is below their leader's high watermark, byte by byte.
    fn not_in_sync(
        &self,
        id: TopicPartition,
        leader: &Replica<'_>,
        leadership: &Leadership,
        own: &Batches,
        replicas: &[Replica<'_>],
    ) -> Option<Found> {
        let told = leader.core.high_watermark();
        let other = |member: &Replica<'_>| {
            let theirs = batches(&self.nodes[member.node].disk, member.log)?;
            let (who, offset) = (who(id, leader, leadership, member), differ(own, &theirs, told)?);
            let what = format!("{who} has other bytes at {offset}, below the high watermark {told}");
            Some((failure::COMMITTED_DIFFERS, what))
        };
        let behind = self.behind(id, leader, leadership, replicas);
        behind.or_else(|| self.trusted(id, leadership, replicas).into_iter().find_map(other))
    }

    /// Where a node may have lost something, its leaders may not know yet that it left their in-sync sets.
    fn may_be_trusted(&self, node: usize) -> bool {
        self.nodes[node].lost_at.is_none() || self.is_settled()
    }

    /// The metadata of whoever has read most of it.
    fn newest_image(&self) -> Option<&Image> {
        let images = self.nodes.iter().filter_map(|node| Some(node.quorum.as_ref()?.image()));
        images.max_by_key(|image| image.offset())
    }
}

impl History {
    /// In one epoch of a partition one node leads.
    fn led(&mut self, id: TopicPartition, leader: &Replica<'_>, epoch: i32) -> Option<Found> {
        let known = *self.leaders.entry((id, epoch)).or_insert(leader.node);
        (known != leader.node).then(|| {
            let (one, other) = (boot::node_id(known), boot::node_id(leader.node));
            (failure::TWO_LEADERS, format!("{id}: nodes {one} and {other} lead in epoch {epoch}"))
        })
    }

    /// What was committed once stays: a leader of that epoch or a later one has it, and no leader has something else in its place.
    fn committed(
        &mut self,
        id: TopicPartition,
        leader: &Replica<'_>,
        epoch: i32,
        own: &Batches,
    ) -> Option<Found> {
        let (start, told) = (leader.log.start_offset(), leader.core.high_watermark());
        let seen = self.committed.entry(id).or_default();
        let must_have_all = epoch >= seen.epoch;
        let is_wrong = |(offset, batch): &(&i64, &Bytes)| match own.get(offset) {
            Some(other) => other != *batch && (must_have_all || **offset < told),
            None => must_have_all,
        };
        if let Some((offset, _)) = seen.batches.range(start..).find(is_wrong) {
            let node = boot::node_id(leader.node);
            let what =
                format!("{id}: leader {node} in epoch {epoch} does not have what was committed at {offset}");
            return Some((failure::COMMITTED_DIFFERS, what));
        }
        seen.epoch = seen.epoch.max(epoch);
        for (offset, batch) in own.range(..told) {
            seen.batches.entry(*offset).or_insert_with(|| batch.clone());
        }
        None
    }
}

fn who(id: TopicPartition, leader: &Replica<'_>, leadership: &Leadership, member: &Replica<'_>) -> String {
    let (leader, member) = (boot::node_id(leader.node), boot::node_id(member.node));
    format!("{id}: in-sync replica {member} of leader {leader} in epoch {}", leadership.epoch.0)
}

/// The batches of a log, as the running system sees its files.
fn batches(disk: &SimDisk, log: &Log) -> Option<Batches> {
    let all = replay::read(disk, log.dir(), log.folder()).ok()?;
    Some(all.into_iter().map(|batch| (batch.header().base_offset, batch.bytes().clone())).collect())
}

/// The first offset below `end` at which two logs differ where both have something.
fn differ(one: &Batches, other: &Batches, end: i64) -> Option<i64> {
    let start = *one.keys().next()?.max(other.keys().next()?);
    if start >= end {
        return None;
    }
    let mut pairs = one.range(start..end).zip(other.range(start..end));
    pairs.find(|(one, other)| one != other).map(|((offset, _), _)| *offset)
}
