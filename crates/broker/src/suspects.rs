//! Nodes that are suspected to be gone while metadata still says that they serve. Who asks for metadata meanwhile is answered when the
//! suspicion has ended, one way or the other, instead of being sent to a dead leader: a client that was told the same leader twice
//! waits for much longer than an election takes.

use std::collections::{BTreeMap, VecDeque};

use moldau_base::{Mono, NodeId};
use moldau_controller::Image;
use moldau_wire::metadata::Request;

use crate::Shard;
use crate::connections::Context;
use crate::message::Message;
use crate::timers::Timer;
use crate::waist::ShardId;

/// How long a suspicion holds answers back, in milliseconds: an election is over long before, or there is no majority for one.
const HOLD_MS: i64 = 1_000;
/// Most requests that are held back; more are answered with what metadata says.
const HELD: usize = 10_000;

/// The nodes that are suspected, since when; and who waits for that to end.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    nodes: BTreeMap<NodeId, Mono>,
    held: VecDeque<(Context, Request)>,
}

/// Shard 0: a node is suspected. Every shard will know.
pub(crate) fn suspect(shard: &mut Shard, node: NodeId) {
    let tells = |shard: &mut Shard, to: ShardId| shard.tell(to, Message::Suspected { node, gone: true });
    shard.all_shards().for_each(|to| tells(shard, to));
}

/// Shard 0: the node is there after all.
pub(crate) fn acquit(shard: &mut Shard, node: NodeId) {
    let tells = |shard: &mut Shard, to: ShardId| shard.tell(to, Message::Suspected { node, gone: false });
    shard.all_shards().for_each(|to| tells(shard, to));
}

/// A node is suspected, or is not any more.
pub(crate) fn suspected(shard: &mut Shard, node: NodeId, gone: bool) {
    let now = shard.now.mono;
    if gone {
        if serves(&shard.cluster.image, node) {
            shard.suspects.nodes.entry(node).or_insert(now);
        }
    } else {
        shard.suspects.nodes.remove(&node);
    }
    look(shard);
}

/// Whether the node leads something, as metadata says: one that is fenced or stops does not.
fn serves(image: &Image, node: NodeId) -> bool {
    image.broker(node).is_some_and(|broker| broker.is_active())
}

/// Whether this node is suspected to be gone.
pub(crate) fn is_suspect(shard: &Shard, node: NodeId) -> bool {
    shard.suspects.nodes.contains_key(&node)
}

/// Whether an answer about leaders would better wait.
pub(crate) fn are_there(shard: &Shard) -> bool {
    !shard.suspects.nodes.is_empty() && shard.suspects.held.len() < HELD
}

/// Answers this when the suspicion has ended.
pub(crate) fn hold(shard: &mut Shard, context: Context, request: Request) {
    shard.suspects.held.push_back((context, request));
    look(shard);
}

/// The image has changed, or time has passed: whoever metadata says is out is not suspected any more.
pub(crate) fn look(shard: &mut Shard) {
    if shard.suspects.nodes.is_empty() && shard.suspects.held.is_empty() {
        return;
    }
    let (now, image) = (shard.now.mono, &shard.cluster.image);
    shard.suspects.nodes.retain(|node, since| since.after_ms(HOLD_MS) > now && serves(image, *node));
    let until = shard.suspects.nodes.values().map(|since| since.after_ms(HOLD_MS)).min();
    shard.timers.set(Timer::Suspects, until);
    if until.is_none() {
        for (context, request) in std::mem::take(&mut shard.suspects.held) {
            crate::api::metadata::answer(shard, context, request);
        }
    }
}
