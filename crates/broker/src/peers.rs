//! Calls to other nodes: which wait for an answer, for how long, and what is done with it.
//!
//! A call ends exactly once: with the answer, or with why there is none. When one comes too late its connection is given up
//! with everything on it, because whatever stands behind it there would be late as well.

use std::collections::BTreeMap;

use bytestring::ByteString;
use moldau_wire::{ApiKey, Request, Response};

use crate::Shard;
use crate::timers::Timer;
use crate::waist::{Address, Effect, Lane, NoAnswer, ToPeer, Trace};

/// What is done when a call has ended.
pub(crate) type Finish = Box<dyn FnOnce(&mut Shard, Result<Response, NoAnswer>)>;

struct Waiting {
    lane: Lane,
    api: ApiKey,
    version: i16,
    finish: Finish,
}

/// The calls of a shard that wait.
#[derive(Default)]
pub(crate) struct Peers {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// Sends a request to another node; `finish` hears of the answer, after `patience_ms` at the latest. It is never called before this
/// returns.
pub(crate) fn call(
    shard: &mut Shard,
    lane: Lane,
    address: Address,
    request: &Request,
    patience_ms: i64,
    finish: impl FnOnce(&mut Shard, Result<Response, NoAnswer>) + 'static,
) {
    let call = shard.peers.next;
    shard.peers.next += 1;
    let api = request.api_key();
    let version = api.versions().max;
    let client = ByteString::from(format!("node-{}", shard.settings.node_id));
    // The answers of a connection come in order; the number is for those who read along.
    let frame = moldau_wire::encode_request(call as i32 & i32::MAX, Some(client), version, request);
    shard.peers.waiting.insert(call, Waiting { lane, api, version, finish: Box::new(finish) });
    match frame {
        Ok(frame) => {
            shard.timers.set(Timer::Call(call), Some(shard.now.mono.after_ms(patience_ms)));
            shard.effect(Effect::Send(ToPeer::Call { call, lane, address, frame }));
        }
        Err(error) => {
            shard.trace(Trace::Warning(format!(
                "{} cannot be sent to node {}: {error}",
                api.name(),
                lane.node
            )));
            shard.timers.set(Timer::Call(call), Some(shard.now.mono));
        }
    }
}

/// An answer has come.
pub(crate) fn answered(shard: &mut Shard, call: u64, frame: bytes::Bytes) {
    let Some(Waiting { lane, api, version, .. }) = shard.peers.waiting.get(&call) else { return };
    let (lane, api, version) = (*lane, *api, *version);
    match moldau_wire::decode_response(api, version, frame) {
        Ok((_, response)) => end(shard, call, Ok(response)),
        Err(error) => {
            let what = format!("node {} answers {} with what cannot be read: {error}", lane.node, api.name());
            shard.trace(Trace::Warning(what));
            hang_up(shard, lane);
        }
    }
}

/// There will be no answer.
pub(crate) fn not_answered(shard: &mut Shard, call: u64, why: NoAnswer) {
    end(shard, call, Err(why));
}

/// A call has waited long enough.
pub(crate) fn late(shard: &mut Shard, call: u64) {
    let Some(lane) = shard.peers.waiting.get(&call).map(|waiting| waiting.lane) else { return };
    end(shard, call, Err(NoAnswer::Late));
    hang_up(shard, lane);
}

/// Closes the connection of a lane; its calls have no answer.
pub(crate) fn hang_up(shard: &mut Shard, lane: Lane) {
    shard.effect(Effect::Send(ToPeer::HangUp { lane }));
    let on_it = shard.peers.waiting.iter().filter(|(_, waiting)| waiting.lane == lane);
    let on_it: Vec<u64> = on_it.map(|(call, _)| *call).collect();
    for call in on_it {
        end(shard, call, Err(NoAnswer::Broken));
    }
}

fn end(shard: &mut Shard, call: u64, result: Result<Response, NoAnswer>) {
    let Some(waiting) = shard.peers.waiting.remove(&call) else { return };
    shard.timers.set(Timer::Call(call), None);
    (waiting.finish)(shard, result);
}
