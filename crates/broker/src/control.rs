//! Shard 0's part in cluster metadata: it holds the controller, proposes what the controller decides to the metadata
//! quorum, applies what is committed, and gives every shard the image.
//!
//! One proposal is under way at a time, so that each decision sees everything decided before it. A request is answered when
//! all shards of this node have installed the image that holds its change: the client's next request sees it, whatever shard
//! its connection lives on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::planted::{Bug, planted};
use moldau_base::voter::Voters;
use moldau_base::{NodeId, Rng};
use moldau_controller::{
    Controller, Decision, Delta, Image, ProducerIdBlock, Record, Refusal, Reply, Request,
};
use moldau_wire::ErrorCode;

use crate::forward::Stalled;
use crate::lifecycle::Lifecycle;
use crate::message::{Answer, Message, Return, Update};
use crate::settings::Settings;
use crate::timers::Timer;
use crate::waist::{Effect, FromQuorum, Lane, Purpose, ShardId, ToPeer, ToQuorum, Trace};
use crate::{Shard, voters};

/// Most administrative requests that may wait for their turn; more are refused.
const WAITING_REQUESTS: usize = 4_096;
/// Between two looks at who is silent, in milliseconds.
const LIVENESS_PAUSE_MS: i64 = 10;

/// The controller and what is under way for it.
pub(crate) struct Control {
    controller: Controller,
    rng: Rng,
    /// The active controller is this node.
    pub(crate) active: bool,
    /// The active controller, as far as this node knows.
    pub(crate) leader: Option<NodeId>,
    /// Everything that was committed before this start has been told. Before that, topics that are long gone still come and go in
    /// the image, and no shard is shown them.
    current: bool,
    waiting: VecDeque<(Origin, Request)>,
    under_way: Option<UnderWay>,
    next_proposal: u64,
    /// Committed, and not yet installed by every shard: offset, and what follows then.
    unconfirmed: VecDeque<(i64, Confirmed)>,
    /// Offset of the image that each shard has installed.
    installed: Vec<i64>,
    /// Who this broker is to the controller.
    pub(crate) lifecycle: Lifecycle,
    /// What is to be carried to the active controller once one is known.
    pub(crate) stalled: Stalled,
    ids: Option<ProducerIdBlock>,
    ids_wanted: VecDeque<Return>,
    /// Who votes, as far as the metadata log has told.
    pub(crate) voters: Voters,
    /// Voters that do not answer.
    pub(crate) silent: Vec<NodeId>,
    /// Calls of other voters and of observers, and questions of operators, that the quorum has not answered.
    pub(crate) called: BTreeMap<u64, Return>,
    pub(crate) next_called: u64,
}

/// What follows when all shards have a change.
pub(crate) enum Confirmed {
    /// This node's controller has decided it.
    Here(Origin, Reply),
    /// Another node's controller has, and its answer is this.
    There(Return, Answer),
    /// This broker is registered.
    Registered,
    /// The controller has let it in.
    Serving,
}

/// Who wants a change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// A request of a client.
    Client(Return),
    /// This node, at its start.
    Registration,
    /// This node, for producers.
    ProducerIds,
    /// This node, for a new cluster.
    Bootstrap,
    /// This node's sign of life.
    Heartbeat,
    /// This node, because a broker is gone or silent, or time has passed.
    Liveness,
}

struct UnderWay {
    proposal: u64,
    origin: Origin,
    reply: Reply,
}

impl Control {
    pub(crate) fn new(settings: &Settings, mut rng: Rng) -> Control {
        let lifecycle = Lifecycle::new(&mut rng);
        Control {
            controller: Controller::new(settings.controller.clone(), Image::new(settings.cluster_id.clone())),
            rng,
            active: false,
            leader: None,
            current: false,
            waiting: VecDeque::new(),
            under_way: None,
            next_proposal: 1,
            unconfirmed: VecDeque::new(),
            installed: vec![-1; usize::from(settings.shards)],
            lifecycle,
            stalled: Stalled::default(),
            ids: None,
            ids_wanted: VecDeque::new(),
            voters: Voters::default(),
            silent: Vec::new(),
            called: BTreeMap::new(),
            next_called: 0,
        }
    }

    /// The controller's view, for checks that a replay of the log gives the same.
    pub(crate) fn image(&self) -> &Image {
        self.controller.image()
    }
}

/// A request to the controller, from any shard.
pub(crate) fn request(shard: &mut Shard, to: Return, request: Request) {
    let full = shard.control.as_ref().is_none_or(|control| control.waiting.len() >= WAITING_REQUESTS);
    if full {
        let refusal =
            Refusal::new(ErrorCode::THROTTLING_QUOTA_EXCEEDED, "too many metadata changes are waiting");
        return shard.answer(to, Answer::Controller(Err(refusal)));
    }
    if is_active(shard) || shard.settings.is_alone() {
        if voters::missing(shard).is_some() && !matches!(request, Request::Heartbeat(_)) {
            let refusal = no_controller(shard);
            return shard.answer(to, Answer::Controller(Err(refusal)));
        }
        let now = shard.now;
        if let (Some(control), Request::Heartbeat(beat)) = (shard.control.as_mut(), &request) {
            control.controller.heard(now, beat);
        }
        enqueue(shard, Origin::Client(to), request);
    } else {
        crate::forward::own(shard, to, request);
    }
}

/// Whether this node is the active controller.
pub(crate) fn is_active(shard: &Shard) -> bool {
    shard.control.as_ref().is_some_and(|control| control.active)
}

/// A producer id for `to`.
pub(crate) fn producer_id(shard: &mut Shard, to: Return) {
    let Some(control) = shard.control.as_mut() else { return };
    if control.ids_wanted.len() >= WAITING_REQUESTS {
        return shard.answer(to, Answer::ProducerId(Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)));
    }
    control.ids_wanted.push_back(to);
    hand_out_ids(shard);
}

pub(crate) fn hand_out_ids(shard: &mut Shard) {
    let mut given = Vec::new();
    let Some(control) = shard.control.as_mut() else { return };
    while let Some(&to) = control.ids_wanted.front() {
        let Some(block) = control.ids.as_mut().filter(|block| block.len > 0) else { break };
        given.push((to, block.first));
        block.first += 1;
        block.len -= 1;
        control.ids_wanted.pop_front();
    }
    let need_more = !control.ids_wanted.is_empty() && !control.is_allocating();
    let epoch = control.lifecycle.epoch().filter(|_| need_more);
    for (to, id) in given {
        shard.answer(to, Answer::ProducerId(Ok(id)));
    }
    let Some(epoch) = epoch else { return };
    if is_active(shard) {
        let broker = shard.settings.node_id;
        enqueue(shard, Origin::ProducerIds, Request::AllocateProducerIds { broker, epoch });
    } else {
        crate::forward::allocate_ids(shard, epoch);
    }
}

/// A block of producer ids for this broker, or why there is none.
pub(crate) fn ids_given(shard: &mut Shard, block: Result<ProducerIdBlock, ErrorCode>) {
    let Some(control) = shard.control.as_mut() else { return };
    control.lifecycle.allocating = false;
    match block {
        Ok(block) => {
            control.ids = Some(block);
            hand_out_ids(shard);
        }
        Err(error) => {
            for to in std::mem::take(&mut control.ids_wanted) {
                shard.answer(to, Answer::ProducerId(Err(error)));
            }
        }
    }
}

impl Control {
    fn is_allocating(&self) -> bool {
        let is = |origin: &Origin| matches!(origin, Origin::ProducerIds);
        self.waiting.iter().any(|(origin, _)| is(origin))
            || self.under_way.as_ref().is_some_and(|under_way| is(&under_way.origin))
            || self
                .unconfirmed
                .iter()
                .any(|(_, what)| matches!(what, Confirmed::Here(origin, _) if is(origin)))
            || self.lifecycle.allocating
    }
}

pub(crate) fn enqueue(shard: &mut Shard, origin: Origin, request: Request) {
    if let Some(control) = shard.control.as_mut() {
        control.waiting.push_back((origin, request));
        propose_next(shard);
    }
}

/// Takes the next requests to the controller, until one needs the quorum.
fn propose_next(shard: &mut Shard) {
    loop {
        let now = shard.now;
        let Some(control) = shard.control.as_mut() else { return };
        if !control.active || control.under_way.is_some() {
            return;
        }
        let Some((origin, request)) = control.waiting.pop_front() else { return };
        match control.controller.decide(now, &mut control.rng, &request) {
            Err(refusal) => refuse(shard, origin, refusal),
            Ok(Decision { records, reply }) if records.is_empty() => {
                let offset = shard.cluster.offset;
                confirm_at(shard, offset, Confirmed::Here(origin, reply));
            }
            Ok(Decision { records, reply }) => {
                let encoded: Result<Vec<Bytes>, _> = records.iter().map(Record::encode).collect();
                let records = match encoded {
                    Ok(records) => records,
                    Err(error) => {
                        let why = format!("cannot be written down: {error}");
                        refuse(shard, origin, Refusal::new(ErrorCode::INVALID_REQUEST, why));
                        continue;
                    }
                };
                let proposal = control.next_proposal;
                control.next_proposal += 1;
                control.under_way = Some(UnderWay { proposal, origin, reply });
                shard.effect(Effect::Send(ToPeer::Quorum(ToQuorum::Propose { proposal, records })));
            }
        }
    }
}

/// The image of `offset` holds the change: go on when every shard has it.
pub(crate) fn confirm_at(shard: &mut Shard, offset: i64, what: Confirmed) {
    if let Some(control) = shard.control.as_mut() {
        control.unconfirmed.push_back((offset, what));
    }
    confirm(shard);
}

fn confirm(shard: &mut Shard) {
    loop {
        let Some(control) = shard.control.as_mut() else { return };
        let everywhere = match control.current {
            true => control.installed.iter().copied().min().unwrap_or(-1),
            // No shard has begun yet.
            false => control.image().offset(),
        };
        if control.unconfirmed.front().is_none_or(|(offset, _)| *offset > everywhere) {
            return;
        }
        let Some((_, what)) = control.unconfirmed.pop_front() else { return };
        match what {
            Confirmed::Here(origin, reply) => done(shard, origin, reply),
            Confirmed::There(to, answer) => shard.answer(to, answer),
            Confirmed::Registered => crate::lifecycle::ready(shard),
            Confirmed::Serving => shard.trace(Trace::Serving),
        }
    }
}

fn done(shard: &mut Shard, origin: Origin, reply: Reply) {
    match (origin, reply) {
        (Origin::Client(to), reply) => shard.answer(to, Answer::Controller(Ok(reply))),
        (Origin::Registration, Reply::BrokerRegistered(epoch)) => {
            crate::lifecycle::registered(shard, epoch);
        }
        (Origin::ProducerIds, Reply::ProducerIds(block)) => ids_given(shard, Ok(block)),
        (Origin::Heartbeat, reply) => {
            if matches!(reply, Reply::Heartbeat(reply) if reply.should_shut_down) {
                crate::leaving::consented(shard);
            }
            crate::lifecycle::beaten(shard, Some(ErrorCode::NONE));
        }
        (Origin::Liveness, Reply::Fenced(brokers)) => {
            for broker in brokers {
                shard.trace(Trace::Info(format!("broker {broker} is fenced: it is gone or silent")));
            }
        }
        (Origin::Registration | Origin::ProducerIds | Origin::Bootstrap | Origin::Liveness, _) => {}
    }
}

fn refuse(shard: &mut Shard, origin: Origin, refusal: Refusal) {
    match origin {
        Origin::Client(to) => shard.answer(to, Answer::Controller(Err(refusal))),
        Origin::Registration => crate::lifecycle::refused(shard, refusal.error, &refusal.to_string()),
        Origin::Bootstrap => shard.trace(Trace::Warning(format!("the features were refused: {refusal}"))),
        Origin::ProducerIds => {
            // Producers try again after this one, and give up after a storage error.
            let error = match refusal.error {
                ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                error => error,
            };
            ids_given(shard, Err(error));
        }
        Origin::Heartbeat => crate::lifecycle::beaten(shard, Some(refusal.error)),
        Origin::Liveness => {}
    }
}

/// This node's controller does not decide any more, and has not decided this.
fn resigned(shard: &mut Shard, origin: Origin) {
    match origin {
        Origin::Client(to) => shard.answer(to, Answer::Resigned),
        origin => refuse(shard, origin, Refusal::plain(ErrorCode::NOT_CONTROLLER)),
    }
}

/// News from the metadata quorum.
pub(crate) fn quorum(shard: &mut Shard, news: FromQuorum) {
    match news {
        FromQuorum::Snapshot { offset, records } => restored(shard, offset, records),
        FromQuorum::Committed { offset, next_offset, epoch: _, records } => {
            committed(shard, offset, next_offset, records);
        }
        FromQuorum::Accepted { proposal, offset: _ } => {
            if let Some(UnderWay { origin, reply, .. }) = take_under_way(shard, proposal) {
                let offset = shard.cluster.offset;
                confirm_at(shard, offset, Confirmed::Here(origin, reply));
            }
            propose_next(shard);
        }
        FromQuorum::NotLeader { proposal } => {
            if let Some(UnderWay { origin, .. }) = take_under_way(shard, proposal) {
                resigned(shard, origin);
            }
            propose_next(shard);
        }
        FromQuorum::Refused { proposal, reason, certain } => {
            let code = if certain { ErrorCode::NOT_CONTROLLER } else { ErrorCode::REQUEST_TIMED_OUT };
            refused(shard, proposal, Refusal::new(code, reason));
        }
        FromQuorum::NoRoom { proposal, reason } => {
            shard.trace(Trace::Warning(format!("a metadata change was refused: {reason}")));
            refused(shard, proposal, Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, reason));
        }
        FromQuorum::Leader { node, epoch: _ } => leader(shard, node),
        FromQuorum::Call { call, to, message } => voters::call(shard, call, to, message),
        FromQuorum::Answer { token, message } => voters::answered(shard, token, Answer::Voter(message)),
        FromQuorum::State { token, state } => voters::answered(shard, token, Answer::Quorum(state)),
        FromQuorum::Changed { token, result } => {
            voters::answered(shard, token, Answer::VotersChanged(result));
        }
        FromQuorum::Voters(voters) => {
            if let Some(control) = shard.control.as_mut() {
                control.voters = voters;
            }
        }
        FromQuorum::Silent(silent) => {
            if let Some(control) = shard.control.as_mut() {
                control.silent = silent;
            }
        }
        FromQuorum::Pulled { token, pulled } => voters::answered(shard, token, Answer::Pulled(pulled)),
    }
}

fn take_under_way(shard: &mut Shard, proposal: u64) -> Option<UnderWay> {
    shard.control.as_mut()?.under_way.take_if(|under_way| under_way.proposal == proposal)
}

/// A proposal was not accepted.
fn refused(shard: &mut Shard, proposal: u64, refusal: Refusal) {
    if let Some(UnderWay { origin, .. }) = take_under_way(shard, proposal) {
        refuse(shard, origin, refusal);
    }
    propose_next(shard);
}

/// Another node leads the quorum, or none, or this one.
pub(crate) fn leader(shard: &mut Shard, node: Option<NodeId>) {
    let (active, now) = (node == Some(shard.settings.node_id), shard.now);
    let Some(control) = shard.control.as_mut() else { return };
    let began = active && !control.active;
    let former = std::mem::replace(&mut control.leader, node).filter(|former| Some(*former) != node);
    control.active = active;
    if began {
        control.controller.activate(now);
    }
    if !active {
        control.controller.resign();
        for (origin, _) in std::mem::take(&mut control.waiting) {
            resigned(shard, origin);
        }
    }
    if began {
        let features = shard.settings.finalized_features.clone();
        enqueue(shard, Origin::Bootstrap, Request::Bootstrap(features));
    }
    // What the former one was asked it will not answer, or not be believed.
    if let Some(node) = former {
        crate::peers::hang_up(shard, Lane { node, purpose: Purpose::Controller });
        crate::peers::hang_up(shard, Lane { node, purpose: Purpose::Liveness });
    }
    crate::lifecycle::leader_changed(shard);
    crate::leaving::leader_changed(shard);
    crate::forward::leader_changed(shard);
    arm(shard);
}

/// Sets the timer for whatever comes first.
pub(crate) fn arm(shard: &mut Shard) {
    let Some(control) = shard.control.as_ref() else { return };
    // What is due is on its way while it is not decided: not at once again.
    let soon = shard.now.mono.after_ms(LIVENESS_PAUSE_MS);
    let liveness =
        control.controller.deadline().filter(|_| !shard.settings.is_alone()).map(|at| at.max(soon));
    let next = [control.lifecycle.again, control.stalled.again, liveness].into_iter().flatten().min();
    shard.timers.set(Timer::Controller, next);
}

/// There is no active controller, and why if it is known.
pub(crate) fn no_controller(shard: &Shard) -> Refusal {
    match voters::missing(shard) {
        Some(why) => Refusal::new(ErrorCode::NOT_CONTROLLER, why),
        None => Refusal::plain(ErrorCode::NOT_CONTROLLER),
    }
}

/// The image begins anew with what a snapshot holds. Its records have no offsets of their own any more and all count as its last one.
pub(crate) fn restored(shard: &mut Shard, offset: i64, records: Vec<Bytes>) {
    let Some(control) = shard.control.as_mut() else { return };
    let before = control.controller.image().clone();
    let empty = Image::new(before.cluster_id().clone());
    control.controller = Controller::new(shard.settings.controller.clone(), empty);
    let records = records.into_iter().map(|record| (offset, record));
    apply(shard, before, offset, records.collect());
}

/// Records that every replica of the metadata log will have: the image moves on to `next_offset - 1`.
pub(crate) fn committed(shard: &mut Shard, offset: i64, next_offset: i64, records: Vec<Bytes>) {
    let Some(control) = shard.control.as_mut() else { return };
    let before = control.controller.image().clone();
    apply(shard, before, next_offset - 1, (offset..).zip(records).collect());
}

fn apply(shard: &mut Shard, before: Image, last: i64, records: Vec<(i64, Bytes)>) {
    let Some(control) = shard.control.as_mut() else { return };
    let mut problems = Vec::new();
    for (offset, bytes) in records {
        let applied = Record::decode(bytes).map_err(|error| error.to_string()).and_then(|record| {
            control.controller.apply(offset, &record).map_err(|misfit| misfit.to_string())
        });
        if let Err(problem) = applied {
            problems.push(format!("metadata record {offset}: {problem}"));
        }
    }
    control.controller.advance(last);
    if control.current {
        let image = control.controller.image().clone();
        let delta = Delta::between(&before, &image);
        publish(shard, Arc::new(Update { offset: last, image, delta }));
    } else if control.lifecycle.epoch().is_some_and(|epoch| last >= epoch.0) {
        // What the broker's own registration follows is no more than a moment old.
        become_current(shard);
    }
    problems.into_iter().for_each(|problem| shard.trace(Trace::Warning(problem)));
    // Whose silence is waited for may be somebody else now. A controller that is no broker has nothing else that looks after this.
    if !planted(Bug::SilenceUnheard) {
        arm(shard);
    }
}

/// The image has this broker's registration: logs without a topic id are given to the shards that own their names, and the shards
/// begin. Before that it says that this broker leads what the process before it led, though the end of a log may be gone since. A
/// node that begins as the active controller waits for it as others do.
pub(crate) fn become_current(shard: &mut Shard) {
    let Some(control) = shard.control.as_mut() else { return };
    if std::mem::replace(&mut control.current, true) {
        return;
    }
    let image = control.controller.image().clone();
    for found in shard.partitions.take_nameless() {
        if let Some(topic) = image.topic_named(&found.topic) {
            let partition = moldau_base::PartitionIndex(found.partition);
            let owner = shard.owner_of(moldau_base::TopicPartition { topic: topic.id, partition });
            shard.tell(owner, Message::Found(Box::new(found)));
        } else {
            shard.partitions.found(found);
        }
    }
    let before = Image::new(image.cluster_id().clone());
    let delta = Delta::between(&before, &image);
    publish(shard, Arc::new(Update { offset: image.offset(), image, delta }));
}

/// Gives every shard the image.
fn publish(shard: &mut Shard, update: Arc<Update>) {
    let offset = update.offset;
    for other in shard.all_shards().filter(|other| other.0 != 0) {
        shard.tell(other, Message::Image(update.clone()));
    }
    shard.install(update);
    image_applied(shard, ShardId(0), offset);
}

/// `from` has installed the image of `offset`.
pub(crate) fn image_applied(shard: &mut Shard, from: ShardId, offset: i64) {
    let Some(control) = shard.control.as_mut() else { return };
    if let Some(installed) = control.installed.get_mut(usize::from(from.0)) {
        *installed = offset.max(*installed);
    }
    confirm(shard);
}

/// A periodic look at what is under way.
pub(crate) fn tick(shard: &mut Shard) {
    let now = shard.now.mono;
    crate::lifecycle::tick(shard);
    crate::forward::tick(shard);
    let Some(control) = shard.control.as_ref().filter(|control| control.active) else { return arm(shard) };
    let is_queued = control.waiting.iter().any(|(_, request)| matches!(request, Request::Tick));
    let is_due = control.controller.deadline().is_some_and(|at| at <= now);
    if is_due && !is_queued && !shard.settings.is_alone() {
        enqueue(shard, Origin::Liveness, Request::Tick);
    }
    arm(shard);
}
