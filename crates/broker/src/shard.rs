//! One shard: a single-threaded machine that owns some of the node's connections, partitions and groups; shard 0 also the
//! controller. It runs each input to completion, never blocks and reads no clock.
//!
//! Work inside a step goes through one queue, so that an answer never runs inside the question that it answers: frames,
//! questions to this shard, answers from this shard. What is meant for other shards is collected and leaves as one message
//! per shard at the end of the step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use moldau_base::disk::{Done, FileId, OpId};
use moldau_base::{Now, Rng, TopicPartition};
use moldau_controller::Image;
use moldau_wire::{Frame, Response};

use crate::api;
use crate::api::fetch::Fetches;
use crate::connections::{Connections, Context};
use crate::control::Control;
use crate::followed::Followers;
use crate::gather::{Answers, Gathers};
use crate::groups::Groups;
use crate::message::{Answer, Ask, Message, Return, Update};
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::partitions::{Partitions, SHARD_SLOT};
use crate::peers::Peers;
use crate::replication::Replication;
use crate::settings::Settings;
use crate::timers::{Timer, Timers};
use crate::waist::{ConnId, Effect, FromPeer, Input, ShardId, Trace};

/// Warnings that are remembered, so that none is said twice.
const MOST_WARNINGS: usize = 256;

/// One shard of a node.
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) settings: Arc<Settings>,
    pub(crate) now: Now,
    pub(crate) cluster: Arc<Update>,
    pub(crate) connections: Connections,
    pub(crate) gathers: Gathers,
    pub(crate) timers: Timers,
    pub(crate) partitions: Partitions,
    pub(crate) groups: Groups,
    pub(crate) control: Option<Control>,
    pub(crate) fetches: Fetches,
    pub(crate) followers: Followers,
    pub(crate) peers: Peers,
    /// Shard 0 of a broker that is no voter: how it learns metadata.
    pub(crate) observer: Option<Observer>,
    pub(crate) replication: Replication,
    pub(crate) in_sync: crate::in_sync::InSync,
    pub(crate) suspects: crate::suspects::Suspects,
    pub(crate) early: crate::early::Early,
    pub(crate) pulse: crate::pulse::Pulse,
    pub(crate) hand_over: crate::handover::HandOver,
    pub(crate) metrics: Metrics,
    warned: BTreeSet<String>,
    queue: VecDeque<Work>,
    outbox: BTreeMap<ShardId, Outbox>,
    effects: Vec<Effect>,
}

/// Something to do within this step.
enum Work {
    Frames(ConnId),
    Ask(Return, Ask),
    Answer(Return, Answer),
    Wake(Return),
}

/// What another shard will be told at the end of the step.
#[derive(Default)]
struct Outbox {
    asks: Vec<(Return, Ask)>,
    answers: Vec<(Return, Answer)>,
    wakes: Vec<Return>,
    unwaits: Vec<(Return, TopicPartition)>,
    others: Vec<Message>,
}

impl Shard {
    /// A shard that has its logs but no metadata yet; the host tells shard 0 of the metadata log, and shard 0 tells the others.
    pub fn new(
        id: ShardId,
        settings: Arc<Settings>,
        mut rng: Rng,
        recovered: Vec<moldau_storage::RecoveredLog>,
        now: Now,
    ) -> Shard {
        let image = Image::new(settings.cluster_id.clone());
        let control = (id.0 == 0).then(|| Control::new(&settings, rng.fork()));
        let mut shard = Shard {
            id,
            now,
            cluster: Arc::new(Update { offset: -1, image, delta: Default::default() }),
            connections: Connections::default(),
            gathers: Gathers::default(),
            timers: Timers::default(),
            partitions: Partitions::new(id, &settings, recovered),
            groups: Groups::new(settings.groups.clone(), rng.fork()),
            control,
            fetches: Fetches::new(&settings, rng.fork()),
            followers: Followers::new(rng.fork()),
            peers: Peers::default(),
            observer: (id.0 == 0 && !settings.role.is_voter())
                .then(|| Observer::new(settings.voters.clone())),
            replication: Replication::default(),
            in_sync: Default::default(),
            suspects: Default::default(),
            early: Default::default(),
            pulse: Default::default(),
            hand_over: Default::default(),
            metrics: Metrics::default(),
            warned: BTreeSet::new(),
            queue: VecDeque::new(),
            outbox: BTreeMap::new(),
            effects: Vec::new(),
            settings,
        };
        crate::checkpoints::write_soon(&mut shard);
        crate::observer::start(&mut shard);
        if id.0 == 0 {
            crate::throttle::set_rates(&shard);
        }
        shard
            .timers
            .set(Timer::Retention, Some(now.mono.after_ms(shard.settings.retention_check_ms.min(30_000))));
        shard
    }

    /// Takes in one input and runs until nothing is left to do; what is to be done outside is added to `effects`.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        self.within(now, effects, |shard| shard.take(input));
    }

    /// Does something as one step: with the time, the work that follows, and the effects collected.
    pub(crate) fn within(&mut self, now: Now, effects: &mut Vec<Effect>, what: impl FnOnce(&mut Shard)) {
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        what(self);
        while let Some(work) = self.queue.pop_front() {
            self.work(work);
        }
        self.run_timers();
        crate::in_sync::propose(self);
        while let Some(work) = self.queue.pop_front() {
            self.work(work);
        }
        self.send_outbox();
        std::mem::swap(&mut self.effects, effects);
    }

    /// When the shard wants an [`Input::Tick`].
    pub fn deadline(&self) -> Option<moldau_base::Mono> {
        self.timers.deadline()
    }

    /// Counters for the host to publish.
    pub fn metrics(&mut self) -> &Metrics {
        self.metrics.connections = self.connections.count() as u64;
        self.metrics.partitions = self.partitions.len() as u64;
        self.metrics.requests_in_work = self.gathers.count() as u64;
        &self.metrics
    }

    /// Files that answers of other shards have named, and that a reply may still name: no others of theirs are needed.
    pub fn named_files(&self) -> impl Iterator<Item = FileId> {
        self.fetches.files().chain(self.followers.files())
    }

    /// The metadata that this shard acts on.
    pub fn image(&self) -> &Image {
        &self.cluster.image
    }

    /// Shard 0: the controller's metadata. For checks that a replay of the log gives the same.
    pub fn controller_image(&self) -> Option<&Image> {
        self.control.as_ref().map(Control::image)
    }

    /// Shard 0: this broker's registration, which a clean stop writes down for the next start.
    pub fn broker_epoch(&self) -> Option<moldau_base::BrokerEpoch> {
        self.control.as_ref()?.lifecycle.epoch()
    }

    /// The coordinators that have replayed their logs, by partition of `__consumer_offsets`. For the same checks.
    pub fn coordinators(&self) -> impl Iterator<Item = (i32, &moldau_group::Coordinator)> {
        self.groups.loaded()
    }

    /// The logs of this shard with the cores of their partitions. For the same checks.
    pub fn logs(
        &self,
    ) -> impl Iterator<Item = (TopicPartition, &moldau_storage::Log, &moldau_partition::Partition)> {
        self.partitions.slots().map(|slot| (slot.id, &slot.log, &slot.replica))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Accepted { conn, address, listener } => self.connections.accept(conn, address, listener),
            Input::Frame { conn, bytes } => {
                self.connections.push(conn, bytes);
                self.queue.push_back(Work::Frames(conn));
            }
            Input::Closed { conn } => self.closed(conn),
            Input::Peer(news) => self.peer(news),
            Input::DiskDone { op, done } => self.disk_done(op, done),
            Input::FromShard { from, message } => self.message(from, *message),
            Input::Tick => {}
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Frames(conn) => {
                if self.connections.is_pressed(conn) {
                    crate::followed::hurry(self, conn);
                }
                while let Some((sequence, frame)) = self.connections.next_frame(conn) {
                    api::dispatch(self, conn, sequence, frame);
                }
            }
            Work::Ask(to, ask) => self.asked(to, ask),
            Work::Answer(to, answer) => self.answered(to, answer),
            Work::Wake(to) => {
                if !crate::followed::woken(self, to) {
                    api::fetch::woken(self, to);
                }
            }
        }
    }

    fn closed(&mut self, conn: ConnId) {
        let peer = self.connections.remove(conn);
        api::fetch::connection_closed(self, conn);
        crate::followed::close(self, conn);
        if let Some(node) = peer {
            crate::lifecycle::suspect(self, node);
        }
    }

    fn peer(&mut self, news: FromPeer) {
        match news {
            FromPeer::Quorum(news) => crate::control::quorum(self, news),
            FromPeer::Answer { call, frame } => crate::peers::answered(self, call, frame),
            FromPeer::NoAnswer { call, why } => crate::peers::not_answered(self, call, why),
        }
    }

    fn message(&mut self, from: ShardId, message: Message) {
        match message {
            Message::Asks(asks) => self.queue.extend(asks.into_iter().map(|(to, ask)| Work::Ask(to, ask))),
            Message::Answers(answers) => {
                self.queue.extend(answers.into_iter().map(|(to, answer)| Work::Answer(to, answer)));
            }
            Message::Wake(wakes) => self.queue.extend(wakes.into_iter().map(Work::Wake)),
            Message::Unwait(waits) => {
                for (to, partition) in waits {
                    self.unwait_here(to, partition);
                }
            }
            Message::Image(update) => {
                let offset = update.offset;
                self.install(update);
                self.tell(ShardId(0), Message::ImageApplied(offset));
            }
            Message::ImageApplied(offset) => crate::control::image_applied(self, from, offset),
            Message::Found(log) => self.partitions.found(*log),
            Message::Registered => crate::partitions::registered(self),
            Message::DirOffline { dir, fault } => crate::partitions::dir_offline(self, dir, &fault),
            Message::Checkpoint(reports) => crate::checkpoints::report(self, from, reports),
            Message::CheckpointWanted => crate::checkpoints::wanted(self, from),
            Message::CheckpointWritten => crate::checkpoints::written(self),
            Message::Suspected { node, gone } => crate::suspects::suspected(self, node, gone),
            Message::Hold(hold) => crate::handover::hold(self, hold),
            Message::Holding => crate::leaving::holding(self),
            Message::Pulse => self.tell(from, Message::Felt),
            Message::Felt => crate::pulse::felt(self, from),
            Message::Suspect(node) => crate::lifecycle::suspect(self, node),
            Message::LastCheckpoint => crate::stop::last_report(self),
        }
    }

    fn disk_done(&mut self, op: OpId, done: Done) {
        if op.owner == SHARD_SLOT {
            crate::checkpoints::shard_op_done(self, op.seq, done);
        } else {
            crate::partitions::log_op_done(self, op, done);
        }
    }

    fn run_timers(&mut self) {
        while let Some(timer) = self.timers.due(self.now.mono) {
            match timer {
                Timer::Gather(id) => {
                    if let Some((finish, answers)) = self.gathers.give_up(id) {
                        finish(self, answers);
                    }
                }
                Timer::Call(call) => crate::peers::late(self, call),
                Timer::Fetch(id) => api::fetch::timed_out(self, id),
                Timer::Followed(conn) => crate::followed::timed_out(self, conn),
                Timer::Log(slot) => crate::partitions::tick_log(self, slot),
                Timer::Replica(slot) => crate::partitions::tick_replica(self, slot),
                Timer::HandOver => crate::handover::tick(self),
                Timer::Leaving => crate::leaving::tick(self),
                Timer::Fetcher(node) => crate::replication::tick(self, node),
                Timer::Group(partition) => crate::groups::tick(self, partition),
                Timer::Retention => crate::partitions::retention_pass(self),
                Timer::Checkpoint => crate::checkpoints::tick(self),
                Timer::Suspects => crate::suspects::look(self),
                Timer::Early => crate::early::look(self),
                Timer::Observer => crate::observer::ask(self),
                Timer::Controller => crate::control::tick(self),
            }
            while let Some(work) = self.queue.pop_front() {
                self.work(work);
            }
        }
    }

    /// This shard's view of the cluster becomes `update`.
    pub(crate) fn install(&mut self, update: Arc<Update>) {
        self.cluster = update;
        crate::throttle::follow_image(self);
        crate::partitions::follow_image(self);
        crate::groups::follow_image(self);
        crate::suspects::look(self);
        crate::early::look(self);
        crate::leaving::look(self);
        crate::lifecycle::look(self);
    }

    // ---- asking and answering

    /// Puts questions to their owners and does `finish` with all answers, at the latest after `timeout_ms`.
    pub(crate) fn gather(
        &mut self,
        questions: Vec<(ShardId, Ask)>,
        timeout_ms: Option<i64>,
        finish: impl FnOnce(&mut Shard, Answers) + 'static,
    ) {
        if questions.is_empty() {
            return finish(self, Vec::new());
        }
        let gather = self.gathers.open(questions.len(), Box::new(finish));
        if let Some(ms) = timeout_ms {
            self.timers.set(Timer::Gather(gather), Some(self.now.mono.after_ms(ms)));
        }
        for (index, (owner, ask)) in questions.into_iter().enumerate() {
            let back = Return { shard: self.id, gather, index: index as u32 };
            self.ask(owner, back, ask);
        }
    }

    /// Puts one question; the answer goes to `back`.
    pub(crate) fn ask(&mut self, owner: ShardId, back: Return, ask: Ask) {
        if owner == self.id {
            self.queue.push_back(Work::Ask(back, ask));
        } else {
            self.outbox.entry(owner).or_default().asks.push((back, ask));
        }
    }

    /// Sends an answer home.
    pub(crate) fn answer(&mut self, to: Return, answer: Answer) {
        if to.shard == self.id {
            self.queue.push_back(Work::Answer(to, answer));
        } else {
            self.outbox.entry(to.shard).or_default().answers.push((to, answer));
        }
    }

    /// Tells a parked fetch that there is news.
    pub(crate) fn wake(&mut self, to: Return) {
        if to.shard == self.id {
            self.queue.push_back(Work::Wake(to));
        } else {
            self.outbox.entry(to.shard).or_default().wakes.push(to);
        }
    }

    /// Ends a wait that was asked for with [`crate::message::Fetch::wait`].
    pub(crate) fn unwait(&mut self, owner: ShardId, back: Return, partition: TopicPartition) {
        if owner == self.id {
            self.unwait_here(back, partition);
        } else {
            self.outbox.entry(owner).or_default().unwaits.push((back, partition));
        }
    }

    fn unwait_here(&mut self, back: Return, partition: TopicPartition) {
        self.partitions.unwait(back, partition);
    }

    /// Tells another shard something that is no question.
    pub(crate) fn tell(&mut self, to: ShardId, message: Message) {
        if to == self.id {
            self.message(self.id, message);
        } else {
            self.outbox.entry(to).or_default().others.push(message);
        }
    }

    fn asked(&mut self, to: Return, ask: Ask) {
        match ask {
            Ask::Produce(produce) => crate::partitions::produce(self, to, produce),
            Ask::Fetch(fetch) => crate::partitions::fetch(self, to, fetch),
            Ask::ListOffsets(search) => crate::lookup::list_offsets(self, to, search),
            Ask::EpochEnd { partition, current_epoch, epoch } => {
                let end = crate::partitions::epoch_end(self, partition, current_epoch, epoch);
                self.answer(to, Answer::EpochEnd(end));
            }
            Ask::DeleteRecords { partition, before } => {
                let low = crate::partitions::delete_records(self, partition, before);
                self.answer(to, Answer::LowWatermark(low));
            }
            Ask::Producers { partition } => {
                let producers = self.partitions.producers(partition);
                self.answer(to, Answer::Producers(producers));
            }
            Ask::Relocate { partition, dir } => {
                let code = crate::partitions::relocate(self, partition, dir);
                self.answer(to, Answer::Relocated(code));
            }
            Ask::LogSizes { partitions } => {
                let sizes = self.partitions.sizes(partitions.as_deref());
                self.answer(to, Answer::LogSizes(sizes));
            }
            Ask::Group { partition, request } => crate::groups::request(self, to, partition, request),
            Ask::EveryGroup { request } => crate::groups::request_all(self, to, request),
            Ask::Controller(request) => crate::control::request(self, to, *request),
            Ask::ProducerId => crate::control::producer_id(self, to),
            Ask::Forward(carriage) => crate::forward::client(self, to, carriage),
            Ask::Voter { from, message } => crate::voters::called(self, to, from, message),
            Ask::Pull(pull) => crate::voters::called_by_observer(self, to, pull),
            Ask::Quorum => crate::voters::describe(self, to),
            Ask::ChangeVoters(change) => crate::voters::change(self, to, change),
        }
    }

    fn answered(&mut self, to: Return, answer: Answer) {
        if let Answer::Fetched(fetched) = answer {
            if let Some(fetched) = crate::followed::answered(self, to, fetched) {
                api::fetch::answered(self, to, fetched);
            }
            return;
        }
        if let Some((finish, answers)) = self.gathers.answer(to, answer) {
            self.timers.set(Timer::Gather(to.gather), None);
            finish(self, answers);
        }
    }

    // ---- replying

    /// Answers a request.
    pub(crate) fn reply(&mut self, context: Context, response: Response) {
        match moldau_wire::encode_response(context.correlation, context.version, &response) {
            Ok(frame) if context.envelope.is_some() => crate::forward::reply(self, context, frame),
            Ok(frame) => self.reply_frame(context, Some(frame)),
            Err(error) => self.close(context.conn, format!("cannot encode {}: {error}", context.api.name())),
        }
    }

    /// Ends a request that has no response.
    pub(crate) fn reply_nothing(&mut self, context: Context) {
        self.reply_frame(context, None);
    }

    pub(crate) fn reply_frame(&mut self, context: Context, frame: Option<Frame>) {
        self.metrics.responses += 1;
        if self.connections.answer(context.conn, context.sequence, frame, &mut self.effects) {
            self.queue.push_back(Work::Frames(context.conn));
        }
    }

    /// Closes a connection whose client did something that cannot be answered.
    pub(crate) fn close(&mut self, conn: ConnId, reason: String) {
        self.metrics.connections_refused += 1;
        self.effects.push(Effect::Trace(Trace::BadClient { conn, what: reason.clone() }));
        self.effects.push(Effect::Close { conn, reason });
        self.closed(conn);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Says something that may come again and again.
    pub(crate) fn warn_once(&mut self, text: String) {
        if self.warned.len() >= MOST_WARNINGS {
            self.warned.clear();
        }
        if self.warned.insert(text.clone()) {
            self.trace(Trace::Warning(text));
        }
    }

    pub(crate) fn trace(&mut self, trace: Trace) {
        self.effects.push(Effect::Trace(trace));
    }

    fn send_outbox(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        for (to, mut outbox) in std::mem::take(&mut self.outbox) {
            let mut messages = std::mem::take(&mut outbox.others);
            if !outbox.asks.is_empty() {
                messages.push(Message::Asks(outbox.asks));
            }
            if !outbox.answers.is_empty() {
                messages.push(Message::Answers(outbox.answers));
            }
            if !outbox.wakes.is_empty() {
                messages.push(Message::Wake(outbox.wakes));
            }
            if !outbox.unwaits.is_empty() {
                messages.push(Message::Unwait(outbox.unwaits));
            }
            for message in messages {
                self.effects.push(Effect::ToShard { to, message: Box::new(message) });
            }
        }
    }

    /// The shard that owns a partition, on every node and at every start the same for the same number of shards.
    pub(crate) fn owner_of(&self, partition: TopicPartition) -> ShardId {
        owner(partition, self.settings.shards)
    }

    /// All shards of the node.
    pub(crate) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.settings.shards).map(ShardId)
    }
}

/// The shard of `shards` that owns a partition. Neighbouring partitions of a topic go to neighbouring shards.
pub fn owner(partition: TopicPartition, shards: u16) -> ShardId {
    let topic = partition
        .topic
        .0
        .iter()
        .fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let place = topic.wrapping_add(partition.partition.0 as u32) % u32::from(shards.max(1));
    ShardId(place as u16)
}
