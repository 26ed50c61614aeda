//! Shard 0's part in being a broker of a cluster: it makes this broker known to the active controller (KIP-631), and notices when
//! the process of another node is gone.
//!
//! A connection that ends is no proof: a network may do that. The node is asked at once over a new connection, and only when
//! its machine answers that nobody listens there is it taken for dead.

use std::collections::BTreeSet;

use moldau_base::disk::DirId;
use moldau_base::{BrokerEpoch, Mono, NodeId, Rng, Uuid};
use moldau_controller::{Evidence, Heartbeat, RegisterBroker, Request, Wants};
use moldau_wire::{ErrorCode, Response, api_versions, broker_heartbeat, broker_registration};

use crate::Shard;
use crate::control::{self, Confirmed, Control, Origin};
use crate::leaving::Leaving;
use crate::message::Message;
use crate::waist::{Address, Effect, Lane, NoAnswer, Purpose, ToPeer, ToQuorum, Trace};

/// Between two attempts to register, in milliseconds.
const RETRY_MS: i64 = 50;
/// Between two signs of life, in milliseconds.
const HEARTBEAT_MS: i64 = 100;
/// The same of a broker that wants to stop.
const STOPPING_HEARTBEAT_MS: i64 = 5;
/// How long the active controller may take to answer, in milliseconds.
const PATIENCE_MS: i64 = 2_000;
/// How long another process with this broker's id must be heard of before this one gives up, in milliseconds: much longer than a dead
/// one can be.
const TWIN_MS: i64 = 10_000;
/// How long a node that is asked whether it is there may take, in milliseconds.
const PROBE_MS: i64 = 500;
/// So often a node is asked that hangs up.
const PROBES: u32 = 10;

/// Who this broker is to the controller.
pub(crate) struct Lifecycle {
    incarnation: Uuid,
    state: State,
    /// Clients have been let in.
    announced: bool,
    /// Nobody has to wait for the controller to let this broker in any more.
    serving: bool,
    /// What the log directories say of this registration.
    pub(crate) marks: crate::boot::Marks,
    /// Producer ids have been asked for.
    pub(crate) allocating: bool,
    /// When to ask again, or to give the next sign of life.
    pub(crate) again: Option<Mono>,
    /// A sign of life is not answered yet.
    beating: bool,
    /// The node is to be stopped, and how far that is.
    pub(crate) leaving: Option<Leaving>,
    /// Since when the registration is refused because another process has this broker's id.
    twin_since: Option<Mono>,
    /// Nodes that are being asked whether they are there.
    probed: BTreeSet<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Asked,
    Registered(BrokerEpoch),
}

impl Lifecycle {
    pub(crate) fn new(rng: &mut Rng) -> Lifecycle {
        Lifecycle {
            incarnation: Uuid::random(rng),
            state: State::Unknown,
            announced: false,
            serving: false,
            marks: Default::default(),
            allocating: false,
            again: None,
            beating: false,
            leaving: None,
            twin_since: None,
            probed: BTreeSet::new(),
        }
    }

    /// This broker's registration.
    pub(crate) fn epoch(&self) -> Option<BrokerEpoch> {
        match self.state {
            State::Registered(epoch) => Some(epoch),
            State::Unknown | State::Asked => None,
        }
    }
}

/// Another controller is active, or none.
pub(crate) fn leader_changed(shard: &mut Shard) {
    if !shard.settings.role.is_broker() {
        if has_leader(shard) {
            votes(shard);
        }
        return;
    }
    let Some(control) = shard.control.as_mut() else { return };
    if control.lifecycle.state != State::Unknown {
        return;
    }
    if control.active {
        control.lifecycle.state = State::Asked;
        let registration = Request::RegisterBroker(registration(shard));
        control::enqueue(shard, Origin::Registration, registration);
    } else if let Some(leader) = control.leader {
        control.lifecycle.state = State::Asked;
        ask(shard, leader);
    }
}

/// Whether this node knows the active controller.
fn has_leader(shard: &Shard) -> bool {
    shard.control.as_ref().is_some_and(|control| control.leader.is_some())
}

/// This node is no broker, and its part in the quorum works: that is all that it is ready for.
fn votes(shard: &mut Shard) {
    control::become_current(shard);
    ready(shard);
}

fn incarnation(shard: &Shard) -> Uuid {
    shard.control.as_ref().map_or(Uuid::ZERO, |control| control.lifecycle.incarnation)
}

fn registration(shard: &Shard) -> RegisterBroker {
    let settings = &shard.settings;
    RegisterBroker {
        id: settings.node_id,
        cluster_id: settings.cluster_id.clone(),
        incarnation: incarnation(shard),
        listeners: settings.listeners.clone(),
        rack: settings.rack.as_deref().map(std::sync::Arc::from),
        features: settings.features.clone(),
        log_dirs: settings.log_dirs.iter().map(|dir| dir.id).collect(),
        // A node alone has nobody to wait for.
        fenced: !settings.is_alone(),
        stopped_at: settings.stopped_at,
    }
}

/// Registers with the active controller, which is another node.
fn ask(shard: &mut Shard, leader: NodeId) {
    let Some(address) = crate::voters::address(shard, leader) else { return register_again(shard) };
    let request = moldau_wire::Request::BrokerRegistration(as_request(registration(shard)));
    let lane = Lane { node: leader, purpose: Purpose::Liveness };
    crate::peers::call(shard, lane, address, &request, PATIENCE_MS, |shard, result| match result {
        Ok(Response::BrokerRegistration(response)) => match response.error_code {
            ErrorCode::NONE => registered(shard, BrokerEpoch(response.broker_epoch)),
            error => refused(shard, error, error.name()),
        },
        _ => register_again(shard),
    });
}

fn as_request(registration: RegisterBroker) -> broker_registration::Request {
    use broker_registration::request::{Feature, Listener};
    let listener = |listener: &moldau_controller::Listener| Listener {
        name: crate::api::text(&listener.name),
        host: crate::api::text(&listener.host),
        port: listener.port,
        security_protocol: listener.security_protocol,
    };
    let feature = |feature: &moldau_controller::FeatureRange| Feature {
        name: crate::api::text(&feature.name),
        min_supported_version: feature.min,
        max_supported_version: feature.max,
    };
    broker_registration::Request {
        broker_id: registration.id.0,
        cluster_id: crate::api::text(&registration.cluster_id),
        incarnation_id: registration.incarnation,
        listeners: registration.listeners.iter().map(listener).collect(),
        features: registration.features.iter().map(feature).collect(),
        rack: registration.rack.as_deref().map(crate::api::text),
        log_dirs: registration.log_dirs,
        previous_broker_epoch: registration.stopped_at.map_or(-1, |epoch| epoch.0),
        ..broker_registration::Request::default()
    }
}

/// The controller refuses the registration. What may be otherwise in a moment is asked again: nobody leads, there is no room, the
/// outcome is not known, the process before this one is not noticed to be gone yet. A node that is alone would be told the same.
pub(crate) fn refused(shard: &mut Shard, error: ErrorCode, reason: &str) {
    if !shard.settings.is_alone() && error == ErrorCode::DUPLICATE_BROKER_REGISTRATION {
        return twin(shard);
    }
    if !shard.settings.is_alone() && error.is_retriable() {
        return register_again(shard);
    }
    // Nobody will ask again, and nothing is served without it.
    shard.trace(Trace::Failed { why: format!("the registration of this broker was refused: {reason}") });
}

/// Another process has this broker's id and gives signs of life. One that has died stops that very soon.
fn twin(shard: &mut Shard) {
    let (now, id) = (shard.now.mono, shard.settings.node_id);
    let Some(control) = shard.control.as_mut() else { return };
    let since = *control.lifecycle.twin_since.get_or_insert(now);
    if now < since.after_ms(TWIN_MS) {
        return register_again(shard);
    }
    let why = format!(
        "another process is broker {id} and alive: give each node a node.id of its own, or stop the other one"
    );
    shard.trace(Trace::Failed { why });
}

/// The registration did not come through: another time.
fn register_again(shard: &mut Shard) {
    let at = shard.now.mono.after_ms(RETRY_MS);
    let Some(control) = shard.control.as_mut() else { return };
    control.lifecycle.state = State::Unknown;
    control.lifecycle.again = Some(at);
    control::arm(shard);
}

/// The active controller has registered this broker.
pub(crate) fn registered(shard: &mut Shard, epoch: BrokerEpoch) {
    let Some(control) = shard.control.as_mut() else { return };
    control.lifecycle.state = State::Registered(epoch);
    control.lifecycle.again = None;
    control.lifecycle.twin_since = None;
    if control.image().offset() >= epoch.0 {
        control::become_current(shard);
    }
    control::confirm_at(shard, epoch.0, Confirmed::Registered);
    crate::boot::mark(shard, epoch);
    if !crate::boot::is_marking(shard) {
        beat(shard);
    }
}

/// Tells the active controller that this broker is there, and again after a while.
fn beat(shard: &mut Shard) {
    if shard.settings.is_alone() || !shard.settings.role.is_broker() {
        return;
    }
    let well = crate::pulse::beats(shard);
    let dirs = shard.settings.log_dirs.iter().enumerate();
    let offline = dirs.filter(|(at, _)| shard.partitions.is_offline(DirId(*at as u16)));
    let offline_dirs = offline.map(|(_, dir)| dir.id).collect();
    let (now, offset, broker) = (shard.now.mono, shard.cluster.offset, shard.settings.node_id);
    let Some(control) = shard.control.as_mut() else { return };
    let State::Registered(epoch) = control.lifecycle.state else { return };
    let stops = control.lifecycle.leaving.is_some_and(Leaving::wants_to_stop);
    let (pause_ms, wants) =
        if stops { (STOPPING_HEARTBEAT_MS, Wants::Stop) } else { (HEARTBEAT_MS, Wants::Serve) };
    control.lifecycle.again = Some(now.after_ms(pause_ms));
    if !well && !stops {
        return control::arm(shard);
    }
    let beat = Heartbeat { broker, epoch, offset, wants, offline_dirs };
    let busy = std::mem::replace(&mut control.lifecycle.beating, true);
    match control.leader {
        _ if busy => {}
        Some(leader) if leader == broker => {
            control::enqueue(shard, Origin::Heartbeat, Request::Heartbeat(beat));
        }
        Some(leader) => send_beat(shard, leader, &beat),
        None => control.lifecycle.beating = false,
    }
    control::arm(shard);
}

/// The same, at once.
pub(crate) fn beat_now(shard: &mut Shard) {
    beat(shard);
}

fn send_beat(shard: &mut Shard, leader: NodeId, beat: &Heartbeat) {
    let Some(address) = crate::voters::address(shard, leader) else { return beaten(shard, None) };
    let request = moldau_wire::Request::BrokerHeartbeat(broker_heartbeat::Request {
        broker_id: beat.broker.0,
        broker_epoch: beat.epoch.0,
        current_metadata_offset: beat.offset,
        want_shut_down: beat.wants == Wants::Stop,
        offline_log_dirs: beat.offline_dirs.clone(),
        ..broker_heartbeat::Request::default()
    });
    let lane = Lane { node: leader, purpose: Purpose::Liveness };
    crate::peers::call(shard, lane, address, &request, PATIENCE_MS, move |shard, result| match result {
        Ok(Response::BrokerHeartbeat(response)) => {
            if response.should_shut_down {
                crate::leaving::consented(shard);
            }
            beaten(shard, Some(response.error_code));
        }
        Ok(_) => beaten(shard, None),
        Err(why) => {
            beaten(shard, None);
            no_answer(shard, leader, why);
        }
    });
}

/// A sign of life was answered, or not.
pub(crate) fn beaten(shard: &mut Shard, answer: Option<ErrorCode>) {
    let Some(control) = shard.control.as_mut() else { return };
    control.lifecycle.beating = false;
    if let Some(ErrorCode::STALE_BROKER_EPOCH | ErrorCode::BROKER_ID_NOT_REGISTERED) = answer {
        register_again(shard);
    }
}

/// All shards have this broker's registration: clients can be served.
pub(crate) fn ready(shard: &mut Shard) {
    let Some(control) = shard.control.as_mut() else { return };
    if std::mem::replace(&mut control.lifecycle.announced, true) {
        return;
    }
    crate::partitions::registered(shard);
    for other in shard.all_shards().filter(|other| other.0 != 0) {
        shard.tell(other, Message::Registered);
    }
    let cluster_id = shard.settings.cluster_id.to_string();
    shard.trace(Trace::Ready { cluster_id });
    control::hand_out_ids(shard);
    look(shard);
}

/// The image has changed: the controller may have let this broker in.
pub(crate) fn look(shard: &mut Shard) {
    let (me, role) = (shard.settings.node_id, shard.settings.role);
    let image = &shard.cluster.image;
    let (offset, is_in) = (shard.cluster.offset, image.broker(me).is_some_and(|broker| !broker.fenced));
    let Some(control) = shard.control.as_mut() else { return };
    let waits = control.lifecycle.announced && !control.lifecycle.serving;
    if waits && (is_in || !role.is_broker()) {
        control.lifecycle.serving = true;
        control::confirm_at(shard, offset, Confirmed::Serving);
    }
}

/// Does what is due.
pub(crate) fn tick(shard: &mut Shard) {
    let now = shard.now.mono;
    let again = shard.control.as_mut().and_then(|control| control.lifecycle.again.take_if(|at| *at <= now));
    if again.is_some() {
        leader_changed(shard);
        beat(shard);
    }
}

// ---- whether other nodes are there

/// A call to this node was not answered.
pub(crate) fn no_answer(shard: &mut Shard, node: NodeId, why: NoAnswer) {
    match why {
        NoAnswer::Refused => gone(shard, node),
        NoAnswer::Broken => suspect(shard, node),
        NoAnswer::Unreachable | NoAnswer::Late => {}
    }
}

/// A connection with this node has ended: is it still there?
pub(crate) fn suspect(shard: &mut Shard, node: NodeId) {
    if node == shard.settings.node_id {
        // Somebody else has called itself so.
        return;
    }
    match shard.control {
        Some(_) => probe(shard, node, PROBES),
        None => shard.tell(crate::ShardId(0), Message::Suspect(node)),
    }
}

fn probe(shard: &mut Shard, node: NodeId, left: u32) {
    let Some(address) = address(shard, node) else { return };
    let Some(control) = shard.control.as_mut() else { return };
    if !control.lifecycle.probed.insert(node) {
        return;
    }
    crate::suspects::suspect(shard, node);
    let request = api_versions::Request {
        client_software_name: crate::api::text("moldau"),
        client_software_version: crate::api::text(env!("CARGO_PKG_VERSION")),
    };
    let request = moldau_wire::Request::ApiVersions(request);
    let lane = Lane { node, purpose: Purpose::Probe };
    crate::peers::call(shard, lane, address, &request, PROBE_MS, move |shard, result| {
        shard.effect(Effect::Send(ToPeer::HangUp { lane }));
        if let Some(control) = shard.control.as_mut() {
            control.lifecycle.probed.remove(&node);
        }
        match result {
            Ok(_) => crate::suspects::acquit(shard, node),
            Err(NoAnswer::Refused) => gone(shard, node),
            // A process that ends may take a connection while it closes the others.
            Err(NoAnswer::Broken) if left > 1 => probe(shard, node, left - 1),
            // It says nothing of the node; what it leads will be moved when it was silent for long enough.
            Err(NoAnswer::Broken | NoAnswer::Unreachable | NoAnswer::Late) => {}
        }
    });
}

/// Where this node listens for others.
fn address(shard: &Shard, node: NodeId) -> Option<Address> {
    crate::voters::address(shard, node)
        .or_else(|| broker_address(shard, shard.control.as_ref().map(Control::image)?, node))
}

/// Where this broker listens for other brokers.
pub(crate) fn broker_address(
    shard: &Shard,
    image: &moldau_controller::Image,
    node: NodeId,
) -> Option<Address> {
    let name = &shard.settings.inter_broker_listener;
    let listeners = &image.broker(node)?.listeners;
    let listener = listeners.iter().find(|listener| listener.name == *name).or(listeners.first())?;
    Some(Address { host: listener.host.clone(), port: listener.port })
}

/// The process of this node is gone: its machine says that nobody listens.
fn gone(shard: &mut Shard, node: NodeId) {
    if shard.control.is_none() {
        return shard.tell(crate::ShardId(0), Message::Suspect(node));
    }
    crate::suspects::suspect(shard, node);
    shard.effect(Effect::Send(ToPeer::Quorum(ToQuorum::Lost(node))));
    let Some(control) = shard.control.as_ref().filter(|control| control.active) else { return };
    if let Some(broker) = control.image().broker(node).filter(|broker| !broker.fenced) {
        let request = Request::BrokerGone { broker: node, epoch: broker.epoch, evidence: Evidence::Refused };
        control::enqueue(shard, Origin::Liveness, request);
    }
}
