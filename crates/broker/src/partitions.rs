//! The partitions of a shard: each slot ties a partition's core to its log. The core decides, the log computes, and this module
//! carries effects of the one to the other, operations to the host, and answers home.

mod cut;
mod follow;
mod produce;
mod read;
mod relocate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moldau_base::config::TopicConfig;
use moldau_base::disk::{DirId, Done, Op, OpId, Ops, Path};
use moldau_base::producer::ProducerEntry;
use moldau_base::{LeaderEpoch, Mono, NodeId, Now, TopicPartition};
use moldau_partition::{Effect, Input, Partition, Producers, Token as CoreToken, View};
use moldau_storage::{FileIds, IndexCache, Log, ReadId, RecoveredLog, State};
use moldau_wire::ErrorCode;

use crate::Shard;
use crate::lookup::Wanted;
use crate::message::{Answer, Fetch, ListOffsets, LogSize, LogSizes, Produced, Refusal, Return, Taker};
use crate::settings::Settings;
use crate::timers::Timer;
use crate::waist::{self, ShardId, Trace};

pub(crate) use cut::settled as cut_is_written;
pub(crate) use follow::{follow_image, registered};
pub(crate) use produce::{append_own, produce, produce_here};
pub(crate) use read::{delete_records, epoch_end, fetch, read_or_wait};
pub(crate) use relocate::{is_held, marked as move_is_marked, relocate};

/// The owner of operations that belong to no log.
pub(crate) const SHARD_SLOT: u32 = u32::MAX;
/// Bytes of offset indexes that a shard keeps in memory.
const INDEX_CACHE_BYTES: usize = 32 << 20;
/// Between two attempts to give leadership away, in milliseconds.
const RESIGN_AGAIN_MS: i64 = 200;

/// A partition and its log.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its number, which is the owner of its log's operations.
    pub slot: u32,
    pub id: TopicPartition,
    pub log: Log,
    pub replica: Partition,
    /// Shared with other partitions whose topics are configured alike.
    config: Arc<TopicConfig>,
    /// Readers that wait for the disk.
    reading: BTreeMap<ReadId, Waiting>,
    /// Fetches that wait for more, by who waits.
    waits: BTreeMap<Return, CoreToken>,
    /// The node whose fetcher knows of this replica.
    pub fetched_from: Option<NodeId>,
    /// When the core wants to be stepped.
    core_deadline: Option<Mono>,
    /// Its move to another log directory, by the number of the copy.
    moves: Option<u32>,
}

impl Slot {
    /// The topic's configuration.
    pub(crate) fn config(&self) -> &TopicConfig {
        &self.config
    }
}

/// What a read that needed the disk is for.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A fetch; `wait` asks to be woken when nothing was found.
    Fetch { to: Return, fetch: Fetch, bounds: Bounds },
    /// A search by time.
    Timestamp { to: Return, search: ListOffsets, wanted: Wanted },
    /// A coordinator that replays its partition.
    Load { partition: i32 },
    /// Producers that are replayed from a log that was cut.
    Replay { producers: Producers, next_offset: i64 },
    /// The copy of this number.
    Copy { at: u32 },
}

/// What a fetch saw besides records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    view: View,
    upto: i64,
    /// It is for a follower that is throttled.
    throttled: bool,
}

/// Who is told about an append or a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A produce request.
    Client(Return),
    /// A coordinator's append.
    Group {
        /// Its partition of `__consumer_offsets`.
        partition: i32,
        /// Its name for the append.
        id: u64,
    },
    /// A parked fetch.
    Wait(Return),
}

/// All partitions of a shard.
pub(crate) struct Partitions {
    dirs: u16,
    /// In boxes: half of a map's places are empty, and a slot is large.
    slots: BTreeMap<u32, Box<Slot>>,
    by_id: BTreeMap<TopicPartition, u32>,
    /// Logs that are deleted while their topics may live on, and may come back here, until nothing on disk speaks of them.
    leaving: BTreeSet<(TopicPartition, u32)>,
    next_slot: u32,
    /// The configuration that a partition was given last: the next one mostly has the same.
    last_config: Arc<TopicConfig>,
    files: FileIds,
    cache: IndexCache,
    /// Logs that were found on disk and that metadata has not named yet.
    found: Vec<RecoveredLog>,
    tokens: BTreeMap<u64, Token>,
    next_token: u64,
    offline_dirs: BTreeSet<DirId>,
    moves: relocate::Moves,
    ops: Ops,
    /// What is written down of each log now and then.
    checkpoints: crate::checkpoints::Checkpoints,
    /// The host is stopping; flushes that are still missing.
    pub(crate) stopping: Option<crate::stop::Stopping>,
}

impl Partitions {
    pub(crate) fn new(shard: ShardId, settings: &Settings, found: Vec<RecoveredLog>) -> Partitions {
        Partitions {
            dirs: u16::try_from(settings.log_dirs.len()).unwrap_or(1),
            slots: BTreeMap::new(),
            by_id: BTreeMap::new(),
            leaving: BTreeSet::new(),
            next_slot: 0,
            last_config: Arc::default(),
            files: FileIds::new(shard.0),
            cache: IndexCache::new(INDEX_CACHE_BYTES),
            checkpoints: crate::checkpoints::Checkpoints::found(&found),
            found,
            tokens: BTreeMap::new(),
            next_token: 1,
            offline_dirs: BTreeSet::new(),
            moves: relocate::Moves::default(),
            ops: Ops::new(SHARD_SLOT),
            stopping: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(&slot).map(Box::as_ref)
    }

    pub(crate) fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(&slot).map(Box::as_mut)
    }

    /// A partition with its number.
    pub(crate) fn numbered(&mut self, id: TopicPartition) -> Option<(u32, &mut Slot)> {
        let number = *self.by_id.get(&id)?;
        Some((number, self.slots.get_mut(&number)?))
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().map(Box::as_ref)
    }

    pub(crate) fn by_id(&self, id: TopicPartition) -> Option<&Slot> {
        self.slots.get(self.by_id.get(&id)?).map(Box::as_ref)
    }

    /// A log that was found on disk.
    pub(crate) fn found(&mut self, log: RecoveredLog) {
        self.found.push(log);
    }

    /// The logs found on disk whose topic's id is not known; the host gives all of them to shard 0.
    pub(crate) fn take_nameless(&mut self) -> Vec<RecoveredLog> {
        let (nameless, named) =
            std::mem::take(&mut self.found).into_iter().partition(|log| log.topic_id.is_none());
        self.found = named;
        nameless
    }

    fn slot_of(&self, id: TopicPartition) -> Result<u32, ErrorCode> {
        self.by_id.get(&id).copied().ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
    }

    /// The partition, if this node leads it in the epoch that the client knows.
    pub(crate) fn leader(
        &mut self,
        id: TopicPartition,
        known: Option<LeaderEpoch>,
    ) -> Result<&mut Slot, ErrorCode> {
        self.leader_and_cache(id, known).map(|(slot, _)| slot)
    }

    /// Whether this log directory is out of service.
    pub(crate) fn is_offline(&self, dir: DirId) -> bool {
        self.offline_dirs.contains(&dir)
    }

    /// The partition, for a consumer that may read from a follower (KIP-392).
    fn reader(&mut self, id: TopicPartition, known: Option<LeaderEpoch>) -> Result<&mut Slot, ErrorCode> {
        let slot = self.slot_of(id)?;
        let slot = self.slots.get_mut(&slot).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        if matches!(slot.log.state(), State::Offline(_)) {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        slot.replica.check_reader(known.map(|epoch| epoch.0)).map_err(|refusal| ErrorCode(refusal.code()))?;
        Ok(slot)
    }

    /// The same, with the cache that its log reads through.
    pub(crate) fn leader_and_cache(
        &mut self,
        id: TopicPartition,
        known: Option<LeaderEpoch>,
    ) -> Result<(&mut Slot, &mut IndexCache), ErrorCode> {
        let slot = self.slot_of(id)?;
        let slot = self.slots.get_mut(&slot).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        if matches!(slot.log.state(), State::Offline(_)) {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        slot.replica.check_epoch(known.map(|epoch| epoch.0)).map_err(|refusal| ErrorCode(refusal.code()))?;
        Ok((slot, &mut self.cache))
    }

    /// The same configuration, in the memory of the last one if they are equal.
    fn shared(&mut self, config: &TopicConfig) -> Arc<TopicConfig> {
        if *self.last_config != *config {
            self.last_config = Arc::new(config.clone());
        }
        self.last_config.clone()
    }

    /// Nothing on disk speaks of that log any more.
    pub(crate) fn has_left(&mut self, id: TopicPartition, number: u32) {
        self.leaving.remove(&(id, number));
    }

    fn token(&mut self, owner: Token) -> CoreToken {
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token, owner);
        CoreToken(token)
    }

    /// Nobody is told any more what became of a coordinator's appends.
    pub(crate) fn forget_appends_of(&mut self, coordinator: i32) {
        let is_its =
            |token: &Token| matches!(token, Token::Group { partition, .. } if *partition == coordinator);
        self.tokens.retain(|_, token| !is_its(token));
        self.moves.forget_appends(is_its);
    }

    /// A fetch does not wait any more.
    pub(crate) fn unwait(&mut self, back: Return, partition: TopicPartition) {
        let Some(slot) = self.by_id.get(&partition).and_then(|slot| self.slots.get_mut(slot)) else { return };
        if let Some(token) = slot.waits.remove(&back) {
            self.tokens.remove(&token.0);
            slot.replica.step(Now::default(), Input::Cancel { token }, &mut Vec::new());
        }
    }

    /// What the partition remembers of its producers.
    pub(crate) fn producers(&mut self, id: TopicPartition) -> Result<Vec<ProducerEntry>, ErrorCode> {
        Ok(self.leader(id, None)?.replica.producers().entries().collect())
    }

    /// Sizes of all logs, or of the named ones.
    pub(crate) fn sizes(&self, wanted: Option<&[TopicPartition]>) -> LogSizes {
        let is_wanted = |id: &TopicPartition| wanted.is_none_or(|wanted| wanted.contains(id));
        let slots = self.slots.values().filter(|slot| is_wanted(&slot.id));
        let logs = slots.map(|slot| LogSize {
            partition: slot.id,
            dir: slot.log.dir().0,
            bytes: slot.log.size_bytes(),
            lag: slot.replica.high_watermark().saturating_sub(slot.log.end_offset()).max(0),
            is_copy: false,
        });
        let copies = relocate::copies(self, is_wanted).map(|(slot, copy)| LogSize {
            partition: slot.id,
            dir: copy.dir().0,
            bytes: copy.size_bytes(),
            lag: slot.log.end_offset().saturating_sub(copy.end_offset()).max(0),
            is_copy: true,
        });
        LogSizes {
            logs: logs.chain(copies).collect(),
            offline: self.offline_dirs.iter().map(|dir| dir.0).collect(),
        }
    }

    /// The log directory with the fewest partitions of this shard, among those in service.
    fn roomiest_dir(&self) -> DirId {
        let mut counts: BTreeMap<DirId, usize> = (0..self.dirs).map(|dir| (DirId(dir), 0)).collect();
        counts.retain(|dir, _| !self.offline_dirs.contains(dir));
        for slot in self.slots.values() {
            counts.entry(slot.log.dir()).and_modify(|count| *count += 1);
        }
        counts.into_iter().min_by_key(|(_, count)| *count).map(|(dir, _)| dir).unwrap_or_default()
    }
}

/// A leader epoch as the protocol has it: negative for none.
pub(crate) fn known_epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

/// Does what a partition's core wants, except appends, which its caller did.
fn carry_out(shard: &mut Shard, number: u32, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Acknowledge { token, base_offset, append_time, log_start_offset } => {
                if let Some(owner) = shard.partitions.tokens.remove(&token.0) {
                    let done = Produced {
                        base_offset,
                        append_time_ms: append_time,
                        log_start: log_start_offset,
                        taker: Taker::Here,
                    };
                    shard.answer_append(owner, Ok(done));
                }
            }
            Effect::Refuse { token, refusal } => {
                let in_doubt = refusal == moldau_partition::Refusal::NotEnoughReplicasAfterAppend;
                if let (true, Some(Token::Group { partition, id })) =
                    (in_doubt, shard.partitions.tokens.get(&token.0).copied())
                {
                    crate::groups::in_doubt(shard, partition, id);
                } else if let Some(owner) = shard.partitions.tokens.remove(&token.0) {
                    let message = Some(refusal.to_string());
                    let refusal = Refusal { code: ErrorCode(refusal.code()), message, batch: None };
                    shard.answer_append(owner, Err(refusal));
                }
            }
            Effect::Wake { token } => {
                if let Some(Token::Wait(back)) = shard.partitions.tokens.remove(&token.0) {
                    if let Some(slot) = shard.partitions.slots.get_mut(&number) {
                        slot.waits.remove(&back);
                    }
                    shard.wake(back);
                }
            }
            // The log notes an epoch with its first append; before that its start is the end of the log.
            Effect::StartEpoch { .. } | Effect::HighWatermark { .. } => {}
            Effect::ProposeIsr(proposal) => {
                if let Some(id) = shard.partitions.slot(number).map(|slot| slot.id) {
                    shard.in_sync.wants(id, proposal);
                }
            }
            Effect::Truncate { offset } => cut::truncate(shard, number, offset),
            Effect::Restart { offset } => cut::restart(shard, number, offset),
            Effect::ReplayProducers => cut::replay_producers(shard, number),
            Effect::MoveLogStart { offset } => {
                let now = shard.now;
                if let Some(slot) = shard.partitions.slots.get_mut(&number) {
                    slot.log.delete_records(now, offset);
                }
                crate::checkpoints::changed(shard, number);
            }
            Effect::Append { .. } | Effect::AppendFetched { .. } => {
                unreachable!("appends are done where batches are at hand")
            }
        }
    }
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    let deadline = slot.replica.deadline();
    if std::mem::replace(&mut slot.core_deadline, deadline) != deadline {
        shard.timers.set(Timer::Replica(number), deadline);
    }
    crate::replication::look(shard, number);
}

/// Does what a partition's core wants after a step that was made elsewhere, and what its log wants.
pub(crate) fn did(shard: &mut Shard, number: u32, effects: Vec<Effect>) {
    carry_out(shard, number, effects);
    drain(shard, number);
}

/// A core's deadline has come.
pub(crate) fn tick_replica(shard: &mut Shard, number: u32) {
    tell_core(shard, number, Input::Tick);
    resign(shard, number);
}

/// Gives leadership away if the log is out of service.
fn resign(shard: &mut Shard, number: u32) {
    let offline = |slot: &&Slot| matches!(slot.log.state(), State::Offline(_));
    if let Some(id) = shard.partitions.slot(number).filter(offline).map(|slot| slot.id) {
        crate::in_sync::resign(shard, id);
    }
}

/// The controller has answered such a leader: if it leads still, it asks once more.
pub(crate) fn resign_again(shard: &mut Shard, number: u32) {
    let offline = |slot: &Slot| matches!(slot.log.state(), State::Offline(_));
    if shard.partitions.slot(number).is_some_and(offline) {
        let at = shard.now.mono.after_ms(RESIGN_AGAIN_MS);
        shard.timers.set(Timer::Replica(number), Some(at));
    }
}

/// Gives a partition's core an input that brings no batches.
pub(crate) fn tell_core(shard: &mut Shard, number: u32, input: Input<'_>) {
    let now = shard.now;
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    // The timer that brought this here is gone, whatever the core wants next.
    slot.core_deadline = slot.core_deadline.filter(|at| *at > now.mono);
    let mut effects = Vec::new();
    slot.replica.step(now, input, &mut effects);
    did(shard, number, effects);
}

impl Shard {
    /// Tells whoever appended how it ended.
    fn answer_append(&mut self, owner: Token, result: Result<Produced, Refusal>) {
        match (owner, result) {
            (Token::Client(to), result) => self.answer(to, Answer::Produced(result)),
            (Token::Group { partition, id }, Ok(_)) => crate::groups::committed(self, partition, id),
            (Token::Group { partition, id }, Err(refusal)) => {
                crate::groups::failed(self, partition, id, refusal.code);
            }
            (Token::Wait(to), _) => self.wake(to),
        }
    }
}

/// Sends a log's operations to the host and takes in what happened to it.
fn drain(shard: &mut Shard, number: u32) {
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    let ops = slot.log.has_ops().then(|| slot.log.take_ops());
    let events = slot.log.has_events().then(|| slot.log.take_events());
    // A flush writes down the producers, which are not those of a log that is being cut.
    let deadline = slot.log.deadline().filter(|_| !slot.replica.is_being_cut());
    shard.timers.set(Timer::Log(number), deadline);
    for (op, what) in ops.into_iter().flatten() {
        shard.effect(waist::Effect::Disk { op, what });
    }
    if let Some(events) = events.filter(|events| !events.is_empty()) {
        happened(shard, number, events);
    }
}

fn happened(shard: &mut Shard, number: u32, events: moldau_storage::Events) {
    let now = shard.now;
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    let mut effects = Vec::new();
    if events.rolled_back.is_some() {
        let end_offset = slot.log.end_offset();
        slot.replica.step(now, Input::TakenBack { end_offset }, &mut effects);
    }
    if let Some(end_offset) = events.stored {
        slot.replica.step(now, Input::Stored { end_offset }, &mut effects);
    }
    if let Some(offset) = events.start {
        slot.replica.step(now, Input::LogStart { offset }, &mut effects);
        crate::checkpoints::changed(shard, number);
    }
    if events.flushed.is_some() {
        crate::checkpoints::flushed(shard, number);
    }
    carry_out(shard, number, effects);
    if let Some(end_offset) = events.truncated {
        cut::truncated(shard, number, end_offset);
    }
    for (id, read) in events.reads {
        let slot = shard.partitions.slots.get_mut(&number);
        if let Some(waiting) = slot.and_then(|slot| slot.reading.remove(&id)) {
            read::read_done(shard, number, waiting, read);
        }
    }
    if events.stored.is_some() || events.rolled_back.is_some() || events.renamed.is_some() {
        relocate::log_changed(shard, number, events.renamed);
    }
    if events.stored.is_some() || events.rolled_back.is_some() || events.offline.is_some() {
        crate::groups::log_changed(shard, number);
    }
    if !events.damage.is_empty() || !events.leftovers.is_empty() || events.offline.is_some() {
        report(shard, number, events.damage, events.leftovers, events.offline);
    }
    if events.deleted {
        shard.timers.set(Timer::Log(number), None);
        shard.timers.set(Timer::Replica(number), None);
        let gone = shard.partitions.slots.remove(&number).map(|slot| (slot.id, number));
        if let Some((id, number)) = gone.filter(|gone| shard.partitions.leaving.contains(gone)) {
            crate::checkpoints::after_deletion(shard, id, number);
        }
        crate::stop::flushed(shard, number);
    } else {
        drain(shard, number);
    }
}

/// Tells an operator what is wrong with a log.
fn report(
    shard: &mut Shard,
    number: u32,
    damage: Vec<moldau_storage::Damage>,
    leftovers: Vec<moldau_base::disk::Fault>,
    offline: Option<moldau_base::disk::Fault>,
) {
    let name = shard.partitions.slots.get(&number).map(|slot| (slot.log.dir(), slot.log.name().to_owned()));
    let Some((dir, name)) = name else { return };
    for damage in damage {
        shard.trace(Trace::Warning(format!("{name}: damaged: {damage}")));
    }
    for fault in leftovers {
        shard.trace(Trace::Warning(format!("{name}: a file could not be removed: {fault}")));
    }
    if let Some(fault) = offline {
        take_offline(shard, dir, &name, &fault);
    }
}

/// A write or sync failed: everything in that log directory is out of service.
fn take_offline(shard: &mut Shard, dir: DirId, name: &str, fault: &moldau_base::disk::Fault) {
    if !shard.partitions.offline_dirs.insert(dir) {
        return;
    }
    let path = Path::new(dir, name);
    shard.trace(Trace::Offline { path, why: fault.to_string() });
    crate::boot::unmark(shard, dir);
    let here: Vec<u32> =
        shard.partitions.slots.values().filter(|slot| slot.log.dir() == dir).map(|slot| slot.slot).collect();
    for number in here {
        if let Some(slot) = shard.partitions.slots.get_mut(&number) {
            slot.log.go_offline(fault.clone());
        }
        follow::stop(shard, number, moldau_partition::Refusal::Storage);
        drain(shard, number);
        resign(shard, number);
        crate::stop::flushed(shard, number);
    }
    relocate::dir_offline(shard, dir, fault);
    for other in shard.all_shards().filter(|other| *other != shard.id).collect::<Vec<_>>() {
        shard.tell(other, crate::message::Message::DirOffline { dir, fault: fault.clone() });
    }
}

/// Another shard has met a failed write in this log directory.
pub(crate) fn dir_offline(shard: &mut Shard, dir: DirId, fault: &moldau_base::disk::Fault) {
    take_offline(shard, dir, "", fault);
}

/// A log's operation has ended.
pub(crate) fn log_op_done(shard: &mut Shard, op: OpId, done: Done) {
    let now = shard.now;
    let partitions = &mut shard.partitions;
    let Some(slot) = partitions.slots.get_mut(&op.owner) else {
        return relocate::op_done(shard, op.owner, op.seq, done);
    };
    slot.log.done(now, &mut partitions.cache, op.seq, done);
    drain(shard, op.owner);
}

/// Asks the host for an operation of the shard itself.
pub(crate) fn shard_op(shard: &mut Shard, what: Op) -> u32 {
    let op = shard.partitions.ops.push(what);
    for (op, what) in shard.partitions.ops.take() {
        shard.effect(waist::Effect::Disk { op, what });
    }
    op.seq
}

/// A log has something to flush, or files to remove.
pub(crate) fn tick_log(shard: &mut Shard, number: u32) {
    let now = shard.now;
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return relocate::tick(shard, number) };
    let Slot { log, replica, .. } = &mut **slot;
    log.tick(now, &mut || replica.producers().snapshot().collect());
    drain(shard, number);
}

/// The periodic look at all logs: rolling and retention, producers that were idle for long.
pub(crate) fn retention_pass(shard: &mut Shard) {
    let after_ms = shard.settings.producer_expiration_ms;
    let next = shard.now.mono.after_ms(shard.settings.retention_check_ms);
    shard.timers.set(Timer::Retention, Some(next));
    let all: Vec<u32> = shard.partitions.slots.keys().copied().collect();
    for number in all {
        let now = shard.now;
        let Some(slot) = shard.partitions.slots.get_mut(&number) else { continue };
        let Slot { log, replica, .. } = &mut **slot;
        if !replica.producers().is_empty() {
            replica.step(now, Input::Expire { after_ms }, &mut Vec::new());
        }
        if !replica.is_being_cut() {
            let high_watermark = replica.high_watermark();
            log.retention_pass(now, high_watermark, &mut || replica.producers().snapshot().collect());
        }
        drain(shard, number);
    }
}

/// The copy of this number and the core of its partition, for checkpoints.
pub(crate) fn copy_of(partitions: &Partitions, at: u32) -> Option<(&Log, &Slot)> {
    relocate::copy(partitions, at)
}

/// The number of a slot and its log, for checkpoints and stopping.
pub(crate) fn log_of(partitions: &mut Partitions, number: u32) -> Option<(&mut Log, &Partition)> {
    let slot = partitions.slots.get_mut(&number)?;
    Some((&mut slot.log, &slot.replica))
}

/// After something was asked of a log from outside this module.
pub(crate) fn settle(shard: &mut Shard, number: u32) {
    drain(shard, number);
}

impl Partitions {
    pub(crate) fn checkpoints(&mut self) -> &mut crate::checkpoints::Checkpoints {
        &mut self.checkpoints
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.slots.keys().copied().collect()
    }
}

/// Keeps the compiler honest about what is shared between shards.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Arc<crate::message::Update>>();
};
