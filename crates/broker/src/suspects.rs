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

/// How long a suspicion lasts and an answer is held back, in milliseconds: an election is over long before, or there is no majority for
/// one. A node that is gone is suspected again and again then, and of several one or the other always is.
const HOLD_MS: i64 = 1_000;
/// Most requests that are held back; more are answered with what metadata says.
const HELD: usize = 10_000;

/// The nodes that are suspected, since when; and who waits for that to end.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    nodes: BTreeMap<NodeId, Mono>,
    held: VecDeque<Held>,
}

/// A request that waits, and until when at most.
#[derive(Debug)]
struct Held {
    until: Mono,
    context: Context,
    request: Request,
}

impl Suspects {
    /// Ends the suspicions that are over, and gives back who has waited for that or for long enough.
    fn settle(&mut self, now: Mono, serves: impl Fn(NodeId) -> bool) -> Vec<Held> {
        self.nodes.retain(|node, since| since.after_ms(HOLD_MS) > now && serves(*node));
        let waiting = match self.nodes.is_empty() {
            true => 0,
            // They came in the order of their times.
            false => self.held.len() - self.held.partition_point(|held| held.until <= now),
        };
        self.held.drain(..self.held.len() - waiting).collect()
    }

    /// When to look again.
    fn next(&self) -> Option<Mono> {
        let ends = self.nodes.values().map(|since| since.after_ms(HOLD_MS));
        ends.chain(self.held.front().map(|held| held.until)).min()
    }
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
    let until = shard.now.mono.after_ms(HOLD_MS);
    shard.suspects.held.push_back(Held { until, context, request });
    look(shard);
}

/// The image has changed, or time has passed: whoever metadata says is out is not suspected any more.
pub(crate) fn look(shard: &mut Shard) {
    if shard.suspects.nodes.is_empty() && shard.suspects.held.is_empty() {
        return;
    }
    let (now, image) = (shard.now.mono, &shard.cluster.image);
    let answered = shard.suspects.settle(now, |node| serves(image, node));
    shard.timers.set(Timer::Suspects, shard.suspects.next());
    for Held { context, request, .. } in answered {
        crate::api::metadata::answer(shard, context, request);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use moldau_wire::ApiKey;

    use super::*;
    use crate::waist::ConnId;

    fn held(now: Mono) -> Held {
        let context = Context {
            conn: ConnId(1),
            sequence: 0,
            correlation: 0,
            api: ApiKey::Metadata,
            version: 12,
            client_id: None,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener: 0,
            envelope: None,
            carriage: None,
        };
        Held { until: now.after_ms(HOLD_MS), context, request: Request::default() }
    }

    #[test]
    fn who_waits_is_answered_when_nobody_is_suspected_any_more() {
        let mut suspects = Suspects::default();
        suspects.nodes.insert(NodeId(1), Mono(0));
        suspects.held.push_back(held(Mono(0)));
        assert!(suspects.settle(Mono(0).after_ms(10), |_| true).is_empty());
        assert_eq!(suspects.settle(Mono(0).after_ms(20), |_| false).len(), 1);
        assert_eq!(suspects.next(), None);
    }

    /// Two nodes are gone and stay in the metadata, because there is no majority to take them out.
    #[test]
    fn suspicions_that_take_turns_do_not_hold_for_ever() {
        let mut suspects = Suspects::default();
        let mut answered = 0;
        for ms in (0..3 * HOLD_MS).step_by(100) {
            let now = Mono(0).after_ms(ms);
            suspects.nodes.entry(NodeId(1)).or_insert(now);
            if ms >= HOLD_MS / 2 {
                suspects.nodes.entry(NodeId(2)).or_insert(now);
            }
            if ms == 0 {
                suspects.held.push_back(held(now));
            }
            answered += suspects.settle(now, |_| true).len();
        }
        assert_eq!(answered, 1);
    }
}
