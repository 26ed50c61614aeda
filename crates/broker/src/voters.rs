//! What the voters of the metadata quorum say to each other, and what others ask of the quorum of this node: shard 0 carries it between the
//! network and the quorum, and understands none of it.

use bytes::Bytes;
use moldau_base::NodeId;
use moldau_base::voter::{VoterChange, Voters};
use moldau_quorum::Pull;
use moldau_wire::{ErrorCode, Response, voters};

use crate::Shard;
use crate::message::{Answer, Return};
use crate::waist::{Address, Effect, Lane, Purpose, ToPeer, ToQuorum};

/// How long a voter may take to answer another, in milliseconds: more than a sync and a large piece of a snapshot take.
const PATIENCE_MS: i64 = 2_000;

/// Carries a message of the quorum to another voter.
pub(crate) fn call(shard: &mut Shard, call: u64, to: NodeId, message: Bytes) {
    let reply = move |shard: &mut Shard, message| {
        shard.effect(Effect::Send(ToPeer::Quorum(ToQuorum::Answered { call, message })));
    };
    let Some(address) = address(shard, to) else { return reply(shard, None) };
    let request = voters::Request {
        cluster_id: crate::api::text(&shard.settings.cluster_id),
        from: shard.settings.node_id.0,
        to: to.0,
        message,
    };
    let lane = Lane { node: to, purpose: Purpose::Voter };
    let request = moldau_wire::Request::Voters(request);
    crate::peers::call(shard, lane, address, &request, PATIENCE_MS, move |shard, result| {
        let message = match result {
            Ok(Response::Voters(response)) if response.error_code == ErrorCode::NONE => {
                Some(response.message)
            }
            Ok(Response::Voters(response)) => {
                let what = format!("node {to} does not hear this voter: {}", response.error_code.name());
                shard.warn_once(what);
                None
            }
            Ok(_) => None,
            Err(why) => {
                crate::lifecycle::no_answer(shard, to, why);
                None
            }
        };
        reply(shard, message);
    });
}

/// Another voter asks; the answer goes to `to`.
pub(crate) fn called(shard: &mut Shard, to: Return, from: NodeId, message: Bytes) {
    ask_quorum(shard, to, |token| ToQuorum::Called { token, from, message });
}

/// An observer asks; the answer goes to `to`.
pub(crate) fn called_by_observer(shard: &mut Shard, to: Return, pull: Pull) {
    ask_quorum(shard, to, |token| ToQuorum::Pull { token, pull });
}

/// Somebody wants to know how far the voters are; the answer goes to `to`.
pub(crate) fn describe(shard: &mut Shard, to: Return) {
    ask_quorum(shard, to, |token| ToQuorum::Describe { token });
}

/// Somebody wants other voters; the answer goes to `to`.
pub(crate) fn change(shard: &mut Shard, to: Return, change: VoterChange) {
    ask_quorum(shard, to, |token| ToQuorum::Change { token, change });
}

fn ask_quorum(shard: &mut Shard, to: Return, question: impl FnOnce(u64) -> ToQuorum) {
    let Some(control) = shard.control.as_mut() else { return };
    let token = control.next_called;
    control.next_called += 1;
    control.called.insert(token, to);
    shard.effect(Effect::Send(ToPeer::Quorum(question(token))));
}

/// The quorum has answered.
pub(crate) fn answered(shard: &mut Shard, token: u64, answer: Answer) {
    let waiting = shard.control.as_mut().and_then(|control| control.called.remove(&token));
    if let Some(to) = waiting {
        shard.answer(to, answer);
    }
}

/// Where a node listens for others, if it is a voter or was one: by the configuration, by the metadata log, or as another voter said.
pub(crate) fn address(shard: &Shard, node: NodeId) -> Option<Address> {
    if let Some(address) = shard.settings.voters.get(&node) {
        return Some(address.clone());
    }
    if let Some(observer) = &shard.observer {
        return observer.address(node).cloned();
    }
    let Voters { voters, observers } = &shard.control.as_ref()?.voters;
    let endpoints = &voters.get(&node).or_else(|| observers.get(&node))?.endpoints;
    let named = endpoints.iter().find(|endpoint| endpoint.listener == shard.settings.controller_listener);
    let endpoint = named.or(endpoints.first())?;
    Some(Address { host: endpoint.host.clone(), port: endpoint.port })
}

/// Who is missing, if there cannot be an active controller for that.
pub(crate) fn missing(shard: &Shard) -> Option<String> {
    // A leader stays one when nobody hears it any more, and decides nothing.
    let control = shard.control.as_ref().filter(|control| control.leader.is_none() || control.active)?;
    control.voters.without(&control.silent)
}
