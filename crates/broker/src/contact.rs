//! Whether the cluster goes on without this broker. One whose network is cut hears neither that it was fenced nor who leads now what it led, and
//! its clients would wait at it for their own timeouts, which are half a minute and more.
//!
//! Shard 0 notices that the active controller does not answer, and asks other brokers what metadata says of this one. When one of them says
//! "fenced", this broker sends its clients away, and serves none until the controller has let it in again: they find those who serve. When none
//! of those that metadata counts on answers at all, it closes the connections of clients once, and lets whoever comes again read: it may be the
//! last that is there. What is written would wait for replicas that are not heard, and is refused.
//!
//! Nothing here changes what is acknowledged, and the silence of a controller alone changes nothing: without a majority all serve as before.

use std::collections::BTreeSet;

use moldau_base::{Mono, NodeId};
use moldau_wire::{Request, Response, describe_cluster};

use crate::Shard;
use crate::control::Control;
use crate::lifecycle::broker_address;
use crate::message::Message;
use crate::partitions::Slot;
use crate::waist::{Lane, NoAnswer, Purpose, Trace};

/// Without an answer of the active controller for so long, others are asked, in milliseconds: half of what a fence takes.
const ASK_MS: i64 = 400;
/// Between two rounds of questions, in milliseconds.
const PAUSE_MS: i64 = 100;
/// How long an answer may take, in milliseconds.
const PATIENCE_MS: i64 = 300;
/// Most brokers that are asked at once, in turns: in a large cluster without a controller everybody asks.
const ASKED_AT_ONCE: usize = 3;
/// Without an answer of anybody for so long this broker is alone, in milliseconds: longer than it takes the others to fence it, also when it was
/// the active controller and they elect another one first.
const ALONE_MS: i64 = 1_200;
/// Who has not looked for so long stood still itself, in milliseconds, and cannot tell who was silent.
const STOOD_STILL_MS: i64 = 250;
/// The endpoint type of brokers in DescribeCluster.
const BROKERS: i8 = 1;

/// What the cluster thinks of this broker, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It counts on it.
    #[default]
    Member,
    /// Nobody is heard.
    Alone,
    /// It goes on without it.
    Outcast,
}

/// Who was heard when.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    standing: Standing,
    /// When this was looked at last.
    looked: Mono,
    /// When the active controller answered last.
    answered: Mono,
    /// When any other node did.
    heard: Mono,
    /// When others are asked again at the earliest.
    again: Mono,
    /// The broker that was asked last.
    last: Option<NodeId>,
    /// The brokers that are being asked.
    asked: BTreeSet<NodeId>,
}

impl Contact {
    /// Those of `others`, which are in order, whose turn it is to be asked.
    fn turns(&mut self, mut others: Vec<NodeId>, now: Mono) -> Vec<NodeId> {
        if now < self.again {
            return Vec::new();
        }
        self.again = now.after_ms(PAUSE_MS);
        let next = others.partition_point(|node| Some(*node) <= self.last);
        others.rotate_left(next);
        others.retain(|node| !self.asked.contains(node));
        others.truncate(ASKED_AT_ONCE.saturating_sub(self.asked.len()));
        self.asked.extend(&others);
        self.last = others.last().copied().or(self.last);
        others
    }
}

fn contact(shard: &mut Shard) -> Option<&mut Contact> {
    shard.control.as_mut().map(|control: &mut Control| &mut control.lifecycle.contact)
}

/// The active controller has registered this broker.
pub(crate) fn registered(shard: &mut Shard) {
    let now = shard.now.mono;
    if let Some(contact) = contact(shard) {
        (contact.looked, contact.answered) = (now, now);
    }
}

/// The active controller has answered, and counts on this broker or not.
pub(crate) fn answered(shard: &mut Shard, fenced: bool) {
    // A controller that nobody hears answers itself, and decides nothing.
    let at = match shard.control.as_ref() {
        Some(control) if control.active => control.heard_of_others(shard.settings.node_id),
        _ => None,
    };
    let at = at.unwrap_or(shard.now.mono);
    let Some(contact) = contact(shard) else { return };
    contact.answered = contact.answered.max(at);
    if !fenced && contact.answered.after_ms(ASK_MS) > shard.now.mono {
        stand(shard, Standing::Member);
    }
}

/// To be called with each sign of life that is due: asks others when the controller was silent for too long.
pub(crate) fn look(shard: &mut Shard) {
    let (now, me) = (shard.now.mono, shard.settings.node_id);
    let others =
        shard.cluster.image.brokers().values().filter(|broker| broker.id != me && broker.is_active());
    // Those whom metadata does not count on say nothing by their silence, nor know better.
    let others: Vec<NodeId> = others.map(|broker| broker.id).collect();
    let Some(contact) = contact(shard) else { return };
    let before = std::mem::replace(&mut contact.looked, now);
    if before.after_ms(STOOD_STILL_MS) < now {
        // What has come meanwhile is yet to be read.
        contact.heard = now;
    }
    if contact.answered.after_ms(ASK_MS) > now || others.is_empty() {
        return;
    }
    let is_alone = contact.answered.max(contact.heard).after_ms(ALONE_MS) <= now;
    let news = is_alone && contact.standing == Standing::Member;
    let turns = contact.turns(others, now);
    if news {
        stand(shard, Standing::Alone);
    }
    turns.into_iter().for_each(|node| ask(shard, node));
}

/// Asks another broker what metadata says of this one.
fn ask(shard: &mut Shard, node: NodeId) {
    let Some(address) = broker_address(shard, &shard.cluster.image, node) else {
        return told(shard, node, Err(NoAnswer::Unreachable));
    };
    let request = Request::DescribeCluster(describe_cluster::Request {
        endpoint_type: BROKERS,
        include_fenced_brokers: true,
        ..describe_cluster::Request::default()
    });
    let lane = Lane { node, purpose: Purpose::Hearsay };
    crate::peers::call(shard, lane, address, &request, PATIENCE_MS, move |shard, result| {
        // It may not be asked again for years.
        crate::peers::hang_up(shard, lane);
        told(shard, node, result);
    });
}

fn told(shard: &mut Shard, node: NodeId, result: Result<Response, NoAnswer>) {
    let (now, me) = (shard.now.mono, shard.settings.node_id.0);
    let cluster = crate::api::text(&shard.settings.cluster_id);
    let Some(contact) = contact(shard) else { return };
    contact.asked.remove(&node);
    match result {
        Ok(Response::DescribeCluster(response)) if response.cluster_id == cluster => {
            contact.heard = now;
            let is_silent = contact.answered.after_ms(ASK_MS) <= now;
            let fenced = response.brokers.iter().any(|broker| broker.broker_id == me && broker.is_fenced);
            if is_silent && fenced {
                stand(shard, Standing::Outcast);
            }
        }
        // Its machine is heard.
        Ok(_) | Err(NoAnswer::Refused) => contact.heard = now,
        Err(NoAnswer::Broken | NoAnswer::Unreachable | NoAnswer::Late) => {}
    }
}

/// Tells every shard where this broker stands, if that is news.
fn stand(shard: &mut Shard, standing: Standing) {
    let Some(contact) = contact(shard) else { return };
    let before = std::mem::replace(&mut contact.standing, standing);
    if standing == before {
        return;
    }
    let what = match standing {
        Standing::Member => "the active controller counts on this broker again: clients are served",
        Standing::Alone => "no other node is heard: clients are disconnected once, and may look elsewhere",
        Standing::Outcast => {
            "the active controller is not heard and has fenced this broker, as others say: clients are sent away"
        }
    };
    shard.trace(Trace::Info(what.to_owned()));
    shard.all_shards().for_each(|to| shard.tell(to, Message::Stands(standing)));
}

/// This broker stands otherwise with the cluster than before.
pub(crate) fn stands(shard: &mut Shard, standing: Standing) {
    let before = std::mem::replace(&mut shard.standing, standing);
    if standing == before || standing == Standing::Member {
        return;
    }
    let settings = shard.settings.clone();
    for conn in shard.connections.of_clients(&|listener| !settings.is_for_nodes(listener)) {
        shard.send_away(conn);
    }
}

/// Whether what is appended to a partition that is led here would be cut again: others have to have it, too, and are not heard. A producer that has been at
/// the next leader and comes back here would be told that its numbers do not fit.
pub(crate) fn is_in_vain(standing: Standing, slot: &Slot) -> bool {
    let others = || slot.replica.leadership().is_some_and(|leadership| leadership.isr.len() > 1);
    standing != Standing::Member && others()
}

/// Whether this is for a broker that the cluster counts on, and this is none.
pub(crate) fn turns_away(shard: &Shard, listener: u16, request: &Request) -> bool {
    if shard.standing != Standing::Outcast || shard.settings.is_for_nodes(listener) {
        return false;
    }
    match request {
        // What other brokers ask.
        Request::Fetch(fetch) => fetch.replica_id < 0 && fetch.replica_state.replica_id < 0,
        Request::ApiVersions(_) | Request::DescribeCluster(_) | Request::OffsetForLeaderEpoch(_) => false,
        _ => true,
    }
}
