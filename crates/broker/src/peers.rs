//! Calls to other nodes: which wait for an answer, for how long, and what is done with it.
//!
//! A call ends exactly once: with the answer, or with why there is none. When one comes too late its connection is given up
//! with everything on it, because whatever stands behind it there would be late as well.
//!
//! The nodes of a cluster may be of different releases, while one after the other is restarted with a newer one. So the first call over a
//! connection asks which versions are spoken there (KIP-35), and each request has the newest version that both sides know. What
//! was learned is forgotten with any call that was not answered: the other node may have been restarted as another release. One that was restarted
//! as an older release refuses the first request in a version that it does not know any more, which is such a call.

use std::collections::BTreeMap;

use bytestring::ByteString;
use moldau_wire::{ApiKey, Request, Response, VersionRange, api_versions};

use crate::Shard;
use crate::api::{OF_NODES, spoken, text};
use crate::timers::Timer;
use crate::waist::{Address, Effect, Lane, NoAnswer, ToPeer, Trace};

/// What is done when a call has ended.
pub(crate) type Finish = Box<dyn FnOnce(&mut Shard, Result<Response, NoAnswer>)>;

/// The version in which it is asked for versions: every release knows it.
const ASK_VERSION: i16 = 3;

struct Waiting {
    lane: Lane,
    api: ApiKey,
    /// The version of the request, which is that of its answer.
    version: i16,
    finish: Finish,
}

/// What is known of the versions that are spoken at the other end of a lane.
enum Spoken {
    /// It has been asked; these calls wait for what it says.
    Asked(Vec<Unsent>),
    /// What it said.
    Known(BTreeMap<i16, VersionRange>),
}

struct Unsent {
    call: u64,
    address: Address,
    request: Request,
}

/// The calls of a shard that wait.
#[derive(Default)]
pub(crate) struct Peers {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    spoken: BTreeMap<Lane, Spoken>,
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
    let api = request.api_key();
    let call = begin(shard, lane, api, patience_ms, Box::new(finish));
    if api == ApiKey::ApiVersions {
        return send(shard, call, address, request, ASK_VERSION);
    }
    match shard.peers.spoken.get_mut(&lane) {
        Some(Spoken::Known(known)) => {
            let theirs = known.get(&(api as i16)).copied();
            send_spoken(shard, call, address, request, theirs);
        }
        Some(Spoken::Asked(unsent)) => unsent.push(Unsent { call, address, request: request.clone() }),
        None => {
            let unsent = Unsent { call, address: address.clone(), request: request.clone() };
            shard.peers.spoken.insert(lane, Spoken::Asked(vec![unsent]));
            ask(shard, lane, address, patience_ms);
        }
    }
}

fn begin(shard: &mut Shard, lane: Lane, api: ApiKey, patience_ms: i64, finish: Finish) -> u64 {
    let call = shard.peers.next;
    shard.peers.next += 1;
    shard.peers.waiting.insert(call, Waiting { lane, api, version: 0, finish });
    shard.timers.set(Timer::Call(call), Some(shard.now.mono.after_ms(patience_ms)));
    call
}

/// Asks which versions are spoken at the other end of a lane.
fn ask(shard: &mut Shard, lane: Lane, address: Address, patience_ms: i64) {
    let request = Request::ApiVersions(api_versions::Request {
        client_software_name: text(OF_NODES),
        client_software_version: text(env!("CARGO_PKG_VERSION")),
    });
    call(shard, lane, address, &request, patience_ms, move |shard, result| {
        let Some(Spoken::Asked(unsent)) = shard.peers.spoken.remove(&lane) else { return };
        let why = match result {
            Ok(Response::ApiVersions(response)) if response.error_code.is_ok() => {
                let range = |api: &api_versions::response::Api| {
                    (api.api_key, VersionRange { min: api.min_version, max: api.max_version })
                };
                let known: BTreeMap<i16, VersionRange> = response.api_keys.iter().map(range).collect();
                for Unsent { call, address, request } in unsent {
                    let theirs = known.get(&(request.api_key() as i16)).copied();
                    send_spoken(shard, call, address, &request, theirs);
                }
                shard.peers.spoken.insert(lane, Spoken::Known(known));
                return;
            }
            Ok(_) => NoAnswer::Broken,
            Err(why) => why,
        };
        for Unsent { call, .. } in unsent {
            end(shard, call, Err(why));
        }
    });
}

/// Sends a request in the newest version that this node and the other one know, if it still waits.
fn send_spoken(
    shard: &mut Shard,
    call: u64,
    address: Address,
    request: &Request,
    theirs: Option<VersionRange>,
) {
    let Some(Waiting { lane, api, .. }) = shard.peers.waiting.get(&call) else { return };
    let (node, api) = (lane.node, *api);
    let ours = spoken(shard, api);
    if let Some(common) = theirs.and_then(|theirs| ours.intersection(theirs)) {
        return send(shard, call, address, request, common.max);
    }
    let there = theirs.map_or("none".to_owned(), |theirs| format!("{} to {}", theirs.min, theirs.max));
    shard.warn_once(format!(
        "node {node} speaks no version of {} that this node does: there {there}, here {} to {}. \
         Upgrade the older of the two to a release in between first",
        api.name(),
        ours.min,
        ours.max
    ));
    shard.timers.set(Timer::Call(call), Some(shard.now.mono));
}

fn send(shard: &mut Shard, call: u64, address: Address, request: &Request, version: i16) {
    let Some(waiting) = shard.peers.waiting.get_mut(&call) else { return };
    waiting.version = version;
    let (lane, api) = (waiting.lane, waiting.api);
    let client = ByteString::from(format!("node-{}", shard.settings.node_id));
    // The answers of a connection come in order; the number is for those who read along.
    match moldau_wire::encode_request(call as i32 & i32::MAX, Some(client), version, request) {
        Ok(frame) => shard.effect(Effect::Send(ToPeer::Call { call, lane, address, frame })),
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
    forget(shard, lane);
    let on_it = shard.peers.waiting.iter().filter(|(_, waiting)| waiting.lane == lane);
    let on_it: Vec<u64> = on_it.map(|(call, _)| *call).collect();
    for call in on_it {
        end(shard, call, Err(NoAnswer::Broken));
    }
}

fn end(shard: &mut Shard, call: u64, result: Result<Response, NoAnswer>) {
    let Some(waiting) = shard.peers.waiting.remove(&call) else { return };
    shard.timers.set(Timer::Call(call), None);
    if result.is_err() {
        forget(shard, waiting.lane);
    }
    (waiting.finish)(shard, result);
}

/// What is at the other end of a lane may speak other versions from now on.
fn forget(shard: &mut Shard, lane: Lane) {
    if matches!(shard.peers.spoken.get(&lane), Some(Spoken::Known(_))) {
        shard.peers.spoken.remove(&lane);
    }
}
