//! Records for a topic, or a partition of it, that this node has not heard of yet: the client has it from another node, and metadata is on
//! its way here. They wait for that for a moment.
//!
//! It is more than a courtesy. A producer has several requests under way: were the first one refused and the next one taken, because metadata
//! came in between, their records would change places; nobody here could know that there was one before.

use std::collections::{BTreeSet, VecDeque};

use moldau_base::Mono;
use moldau_wire::produce::Request;

use crate::Shard;
use crate::connections::Context;
use crate::timers::Timer;

/// How long they wait at most, in milliseconds.
const HOLD_MS: i64 = 200;
/// Most requests that wait; more are refused at once.
const HELD: usize = 1_000;

/// The requests that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Early {
    held: VecDeque<(Mono, Context, Request)>,
}

/// Keeps a request that names what this node does not know; gives any other one back.
pub(crate) fn keep(shard: &mut Shard, context: Context, request: Request) -> Option<(Context, Request)> {
    if shard.settings.is_alone() || shard.early.held.len() >= HELD || knows(shard, &request) {
        return Some((context, request));
    }
    let until = shard.now.mono.after_ms(HOLD_MS);
    shard.early.held.push_back((until, context, request));
    arm(shard);
    None
}

fn knows(shard: &Shard, request: &Request) -> bool {
    let image = &shard.cluster.image;
    request.topic_data.iter().all(|topic| {
        crate::api::find_topic(image, &topic.name, topic.topic_id).is_ok_and(|found| {
            topic.partition_data.iter().all(|named| crate::api::find_partition(found, named.index).is_ok())
        })
    })
}

fn arm(shard: &mut Shard) {
    let first = shard.early.held.front().map(|(until, ..)| *until);
    shard.timers.set(Timer::Early, first);
}

/// The image has changed, or time has passed. Who has waited for long enough is refused, and so is what its connection sent after that.
pub(crate) fn look(shard: &mut Shard) {
    if shard.early.held.is_empty() {
        return;
    }
    let now = shard.now.mono;
    let mut over = BTreeSet::new();
    for (until, context, request) in std::mem::take(&mut shard.early.held) {
        let known = knows(shard, &request);
        if over.contains(&context.conn) {
            crate::api::produce::put_off(shard, context, request);
        } else if known || until <= now {
            over.extend((!known).then_some(context.conn));
            crate::api::produce::append(shard, context, request);
        } else {
            shard.early.held.push_back((until, context, request));
        }
    }
    arm(shard);
}
