//! Shard 0's part in cluster metadata: it holds the controller, proposes what the controller decides to the metadata
//! quorum, applies what is committed, and gives every shard the image.
//!
//! One proposal is under way at a time, so that each decision sees everything decided before it. A request is answered when
//! all shards of this node have installed the image that holds its change: the client's next request sees it, whatever shard
//! its connection lives on.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::{BrokerEpoch, Rng, Uuid};
use moldau_controller::{
    Controller, Decision, Delta, Image, ProducerIdBlock, Record, Refusal, RegisterBroker, Reply, Request,
};
use moldau_wire::ErrorCode;

use crate::Shard;
use crate::message::{Answer, Message, Return, Update};
use crate::settings::Settings;
use crate::timers::Timer;
use crate::waist::{Effect, FromPeer, ShardId, ToPeer, Trace};

/// Most administrative requests that may wait for their turn; more are refused.
const WAITING_REQUESTS: usize = 4_096;

/// The controller and what is under way for it.
pub(crate) struct Control {
    controller: Controller,
    rng: Rng,
    /// The active controller is this node.
    active: bool,
    /// Everything that was committed before this start has been told. Before that, topics that are long gone still come and go in
    /// the image, and no shard is shown them.
    current: bool,
    waiting: VecDeque<(Origin, Request)>,
    under_way: Option<UnderWay>,
    next_proposal: u64,
    /// Committed, and not yet installed by every shard: offset, who asked, the answer.
    unconfirmed: VecDeque<(i64, Origin, Reply)>,
    /// Offset of the image that each shard has installed.
    installed: Vec<i64>,
    incarnation: Uuid,
    epoch: Option<BrokerEpoch>,
    ids: Option<ProducerIdBlock>,
    ids_wanted: VecDeque<Return>,
}

/// Who wants a change.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// A request of a client.
    Client(Return),
    /// This node, at its start.
    Registration,
    /// This node, for producers.
    ProducerIds,
    /// This node, for a new cluster.
    Bootstrap,
}

struct UnderWay {
    proposal: u64,
    origin: Origin,
    reply: Reply,
}

impl Control {
    pub(crate) fn new(settings: &Settings, mut rng: Rng) -> Control {
        let incarnation = Uuid::random(&mut rng);
        Control {
            controller: Controller::new(settings.controller.clone(), Image::new(settings.cluster_id.clone())),
            rng,
            active: false,
            current: false,
            waiting: VecDeque::new(),
            under_way: None,
            next_proposal: 1,
            unconfirmed: VecDeque::new(),
            installed: vec![-1; usize::from(settings.shards)],
            incarnation,
            epoch: None,
            ids: None,
            ids_wanted: VecDeque::new(),
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
    enqueue(shard, Origin::Client(to), request);
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

fn hand_out_ids(shard: &mut Shard) {
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
    let allocate = control
        .epoch
        .filter(|_| need_more)
        .map(|epoch| Request::AllocateProducerIds { broker: shard.settings.node_id, epoch });
    for (to, id) in given {
        shard.answer(to, Answer::ProducerId(Ok(id)));
    }
    if let Some(request) = allocate {
        enqueue(shard, Origin::ProducerIds, request);
    }
}

impl Control {
    fn is_allocating(&self) -> bool {
        let is = |origin: &Origin| matches!(origin, Origin::ProducerIds);
        self.waiting.iter().any(|(origin, _)| is(origin))
            || self.under_way.as_ref().is_some_and(|under_way| is(&under_way.origin))
            || self.unconfirmed.iter().any(|(_, origin, _)| is(origin))
    }
}

fn enqueue(shard: &mut Shard, origin: Origin, request: Request) {
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
                confirm_at(shard, offset, origin, reply);
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
                shard.effect(Effect::Send(ToPeer::Propose { proposal, records }));
            }
        }
    }
}

/// The image of `offset` holds the change: answer when every shard has it.
fn confirm_at(shard: &mut Shard, offset: i64, origin: Origin, reply: Reply) {
    if let Some(control) = shard.control.as_mut() {
        control.unconfirmed.push_back((offset, origin, reply));
    }
    confirm(shard);
}

fn confirm(shard: &mut Shard) {
    loop {
        let Some(control) = shard.control.as_mut() else { return };
        let everywhere = control.installed.iter().copied().min().unwrap_or(-1);
        if control.unconfirmed.front().is_none_or(|(offset, ..)| *offset > everywhere) {
            return;
        }
        let Some((_, origin, reply)) = control.unconfirmed.pop_front() else { return };
        done(shard, origin, reply);
    }
}

fn done(shard: &mut Shard, origin: Origin, reply: Reply) {
    match (origin, reply) {
        (Origin::Client(to), reply) => shard.answer(to, Answer::Controller(Ok(reply))),
        (Origin::Registration, Reply::BrokerRegistered(epoch)) => {
            if let Some(control) = shard.control.as_mut() {
                control.epoch = Some(epoch);
            }
            crate::partitions::registered(shard);
            for other in shard.all_shards().filter(|other| other.0 != 0) {
                shard.tell(other, Message::Registered);
            }
            let cluster_id = shard.settings.cluster_id.to_string();
            shard.trace(Trace::Ready { cluster_id });
            hand_out_ids(shard);
        }
        (Origin::ProducerIds, Reply::ProducerIds(block)) => {
            if let Some(control) = shard.control.as_mut() {
                control.ids = Some(block);
            }
            hand_out_ids(shard);
        }
        (Origin::Registration | Origin::ProducerIds | Origin::Bootstrap, _) => {}
    }
}

fn refuse(shard: &mut Shard, origin: Origin, refusal: Refusal) {
    match origin {
        Origin::Client(to) => shard.answer(to, Answer::Controller(Err(refusal))),
        Origin::Registration => {
            // Nobody will ask again, and nothing is served without it.
            shard.trace(Trace::Failed {
                why: format!("the registration of this broker was refused: {refusal}"),
            })
        }
        Origin::Bootstrap => shard.trace(Trace::Warning(format!("the features were refused: {refusal}"))),
        Origin::ProducerIds => {
            let waiting = shard.control.as_mut().map(|control| std::mem::take(&mut control.ids_wanted));
            for to in waiting.into_iter().flatten() {
                shard.answer(to, Answer::ProducerId(Err(refusal.error)));
            }
        }
    }
}

/// News from the metadata quorum.
pub(crate) fn peer(shard: &mut Shard, news: FromPeer) {
    match news {
        FromPeer::Snapshot { offset, records } => committed(shard, offset, offset + 1, records),
        FromPeer::Committed { offset, next_offset, epoch: _, records } => {
            committed(shard, offset, next_offset, records);
        }
        FromPeer::Accepted { proposal, offset: _ } => {
            let control = shard.control.as_mut();
            let ours = control
                .and_then(|control| control.under_way.take_if(|under_way| under_way.proposal == proposal));
            if let Some(UnderWay { origin, reply, .. }) = ours {
                let offset = shard.cluster.offset;
                confirm_at(shard, offset, origin, reply);
            }
            propose_next(shard);
        }
        FromPeer::Refused { proposal, reason, certain } => {
            let control = shard.control.as_mut();
            let ours = control
                .and_then(|control| control.under_way.take_if(|under_way| under_way.proposal == proposal));
            if let Some(UnderWay { origin, .. }) = ours {
                let code = if certain { ErrorCode::NOT_CONTROLLER } else { ErrorCode::REQUEST_TIMED_OUT };
                refuse(shard, origin, Refusal::new(code, reason));
            }
            propose_next(shard);
        }
        FromPeer::Leader { node, epoch: _ } => {
            let active = node == Some(shard.settings.node_id);
            become_current(shard);
            let Some(control) = shard.control.as_mut() else { return };
            let began = active && !control.active;
            control.active = active;
            if began {
                register(shard);
            }
        }
    }
}

/// Records that every replica of the metadata log will have: the image moves on to `next_offset - 1`. The records of a snapshot
/// have no offsets of their own any more and all count as its last one.
fn committed(shard: &mut Shard, offset: i64, next_offset: i64, records: Vec<Bytes>) {
    let Some(control) = shard.control.as_mut() else { return };
    let before = control.controller.image().clone();
    let mut problems = Vec::new();
    for (at, bytes) in records.into_iter().enumerate() {
        let offset = (offset + at as i64).min(next_offset - 1);
        let applied = Record::decode(bytes).map_err(|error| error.to_string()).and_then(|record| {
            control.controller.apply(offset, &record).map_err(|misfit| misfit.to_string())
        });
        if let Err(problem) = applied {
            problems.push(format!("metadata record {offset}: {problem}"));
        }
    }
    control.controller.advance(next_offset - 1);
    if !control.current {
        return problems.into_iter().for_each(|problem| shard.trace(Trace::Warning(problem)));
    }
    let image = control.controller.image().clone();
    let delta = Delta::between(&before, &image);
    publish(shard, Arc::new(Update { offset: next_offset - 1, image, delta }));
    problems.into_iter().for_each(|problem| shard.trace(Trace::Warning(problem)));
}

/// The image is that of the cluster: logs without a topic id are given to the shards that own their names, and the shards begin.
fn become_current(shard: &mut Shard) {
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

/// This node became the active controller, or it starts: make itself known.
fn register(shard: &mut Shard) {
    let settings = shard.settings.clone();
    let Some(control) = shard.control.as_mut() else { return };
    let registration = RegisterBroker {
        id: settings.node_id,
        cluster_id: settings.cluster_id.clone(),
        incarnation: control.incarnation,
        listeners: settings.listeners.clone(),
        rack: settings.rack.as_deref().map(Arc::from),
        features: settings.features.clone(),
        log_dirs: settings.log_dirs.iter().map(|dir| dir.id).collect(),
        fenced: false,
        stopped_at: None,
    };
    control.waiting.push_back((Origin::Bootstrap, Request::Bootstrap(settings.finalized_features.clone())));
    control.waiting.push_back((Origin::Registration, Request::RegisterBroker(registration)));
    propose_next(shard);
}

/// A periodic look at what is under way.
pub(crate) fn tick(shard: &mut Shard) {
    shard.timers.set(Timer::Controller, None);
    propose_next(shard);
}
