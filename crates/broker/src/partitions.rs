//! The partitions of a shard: each slot ties a partition's core to its log. The core decides, the log computes, and this module
//! carries effects of the one to the other, operations to the host, and answers home.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::config::{TimestampType, TopicConfig};
use moldau_base::disk::{DirId, Done, Op, OpId, Ops, Path};
use moldau_base::producer::ProducerEntry;
use moldau_base::{LeaderEpoch, Now, TopicPartition, Uuid};
use moldau_batch::Batch;
use moldau_partition::{
    Acks, Effect, Input, Leadership, LogState, Partition, Producers, Token as CoreToken, View,
};
use moldau_storage::{
    AppendError, Appended, FileIds, IndexCache, Log, LogConfig, Read, ReadId, ReadRequest, RecoveredLog,
    State,
};
use moldau_wire::{ErrorCode, FileRange};

use crate::Shard;
use crate::lookup::{self, Wanted, code_of};
use crate::message::{Answer, Fetch, Fetched, LogSize, LogSizes, Produce, Produced, Refusal, Return};
use crate::settings::Settings;
use crate::timers::Timer;
use crate::waist::{self, ShardId, Trace};

/// The owner of operations that belong to no log.
pub(crate) const SHARD_SLOT: u32 = u32::MAX;
/// Bytes of offset indexes that a shard keeps in memory.
const INDEX_CACHE_BYTES: usize = 32 << 20;

/// A partition and its log.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its number, which is the owner of its log's operations.
    pub slot: u32,
    pub id: TopicPartition,
    pub log: Log,
    pub replica: Partition,
    config: TopicConfig,
    /// Readers that wait for the disk.
    reading: BTreeMap<ReadId, Waiting>,
    /// Fetches that wait for more, by who waits.
    waits: BTreeMap<Return, CoreToken>,
}

/// What a read that needed the disk is for.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A fetch; `wait` asks to be woken when nothing was found.
    Fetch { to: Return, fetch: Fetch, bounds: Bounds },
    /// A search by time.
    Timestamp { to: Return, wanted: Wanted },
    /// A coordinator that replays its partition.
    Load { partition: i32 },
}

/// What a fetch saw besides records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    view: View,
    upto: i64,
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
    slots: BTreeMap<u32, Slot>,
    by_id: BTreeMap<TopicPartition, u32>,
    next_slot: u32,
    files: FileIds,
    cache: IndexCache,
    /// Logs that were found on disk and that metadata has not named yet.
    found: Vec<RecoveredLog>,
    tokens: BTreeMap<u64, Token>,
    next_token: u64,
    offline_dirs: BTreeSet<DirId>,
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
            next_slot: 0,
            files: FileIds::new(shard.0),
            cache: IndexCache::new(INDEX_CACHE_BYTES),
            checkpoints: crate::checkpoints::Checkpoints::found(&found),
            found,
            tokens: BTreeMap::new(),
            next_token: 1,
            offline_dirs: BTreeSet::new(),
            ops: Ops::new(SHARD_SLOT),
            stopping: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(&slot)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    pub(crate) fn by_id(&self, id: TopicPartition) -> Option<&Slot> {
        self.slots.get(self.by_id.get(&id)?)
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

    fn token(&mut self, owner: Token) -> CoreToken {
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token, owner);
        CoreToken(token)
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
        LogSizes {
            logs: slots
                .map(|slot| LogSize {
                    partition: slot.id,
                    dir: slot.log.dir().0,
                    bytes: slot.log.size_bytes(),
                })
                .collect(),
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

// ---- following metadata

/// The image has changed: partitions come, change and go.
pub(crate) fn follow_image(shard: &mut Shard) {
    let update = shard.cluster.clone();
    for change in &update.delta.partitions {
        let id = TopicPartition { topic: change.topic.id, partition: change.index };
        if shard.owner_of(id) != shard.id {
            continue;
        }
        match &change.after {
            Some(after) if after.replicas.contains(&shard.settings.node_id) => {
                let known = shard.partitions.by_id.get(&id).copied();
                let slot = known.unwrap_or_else(|| open(shard, id, &change.topic.name));
                lead(shard, slot, after);
            }
            Some(_) | None => delete(shard, id),
        }
    }
    follow_configs(shard);
}

fn topic_config(shard: &Shard, topic: &str) -> TopicConfig {
    let layers = crate::api::layers(shard);
    let resource = moldau_controller::Resource::Topic(topic.into());
    match shard.cluster.image.configs(&resource) {
        Some(set) => TopicConfig::resolve(set, &layers),
        None => TopicConfig::resolve(&Default::default(), &layers),
    }
}

fn follow_configs(shard: &mut Shard) {
    let update = shard.cluster.clone();
    let everything = update
        .delta
        .configs
        .iter()
        .any(|resource| !matches!(resource, moldau_controller::Resource::Topic(_)));
    for resource in &update.delta.configs {
        if let moldau_controller::Resource::Topic(name) = resource
            && let Some(topic) = update.image.topic_named(name)
        {
            let config = topic_config(shard, name);
            for index in topic.partitions.keys() {
                set_config(shard, TopicPartition { topic: topic.id, partition: *index }, &config);
            }
        }
    }
    if everything {
        let ids: Vec<TopicPartition> = shard.partitions.by_id.keys().copied().collect();
        for id in ids {
            if let Some(topic) = update.image.topic(id.topic) {
                let config = topic_config(shard, &topic.name);
                set_config(shard, id, &config);
            }
        }
    }
}

fn set_config(shard: &mut Shard, id: TopicPartition, config: &TopicConfig) {
    let now = shard.now;
    let Some(slot) = shard.partitions.by_id.get(&id).and_then(|slot| shard.partitions.slots.get_mut(slot))
    else {
        return;
    };
    slot.config = config.clone();
    slot.log.set_config(log_config(config));
    let min_isr = config.min_insync_replicas as usize;
    let mut effects = Vec::new();
    slot.replica.step(now, Input::MinIsr(min_isr), &mut effects);
    let number = slot.slot;
    carry_out(shard, number, effects);
    drain(shard, number);
}

fn log_config(config: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: config.segment_ms,
        segment_jitter_ms: config.segment_jitter_ms,
        retention_bytes: config.retention_bytes.unwrap_or(-1),
        retention_ms: config.retention_ms.unwrap_or(-1),
        delete: config.cleanup.delete,
        index_interval_bytes: config.index_interval_bytes,
        index_max_bytes: config.segment_index_bytes,
        flush_messages: config.flush_messages.unwrap_or(i64::MAX),
        flush_ms: config.flush_ms.unwrap_or(i64::MAX),
        file_delete_delay_ms: config.file_delete_delay_ms,
    }
}

/// A partition of this node: its log is one that was found on disk, or a fresh one.
fn open(shard: &mut Shard, id: TopicPartition, topic: &str) -> u32 {
    let config = topic_config(shard, topic);
    let now = shard.now;
    let expire_ms = shard.settings.producer_expiration_ms;
    let me = shard.settings.node_id;
    let partitions = &mut shard.partitions;
    let number = partitions.next_slot;
    partitions.next_slot += 1;
    let is_it = |log: &RecoveredLog| match log.topic_id {
        Some(topic) => topic == id.topic && log.partition == id.partition.0,
        None => log.topic == topic && log.partition == id.partition.0,
    };
    let (log, high_watermark, producers) = match partitions.found.iter().position(is_it) {
        Some(at) => {
            let mut found = partitions.found.swap_remove(at);
            let entries = std::mem::take(&mut found.producers);
            let mut producers = Producers::restore(entries, now, expire_ms);
            for header in std::mem::take(&mut found.replay) {
                producers.apply(&header, None, now.mono);
            }
            let high_watermark = found.high_watermark;
            (
                found.into_log(number, &mut partitions.files, id.topic, log_config(&config)),
                high_watermark,
                producers,
            )
        }
        None => {
            let dir = partitions.roomiest_dir();
            let name = moldau_storage::names::partition_dir(topic, id.partition.0);
            let log = Log::create(number, &mut partitions.files, dir, name, id.topic, log_config(&config));
            (log, 0, Producers::default())
        }
    };
    let state = LogState { start_offset: log.start_offset(), end_offset: log.end_offset(), high_watermark };
    let replica = Partition::new(me, state, producers);
    let slot =
        Slot { slot: number, id, log, replica, config, reading: BTreeMap::new(), waits: BTreeMap::new() };
    partitions.slots.insert(number, slot);
    partitions.by_id.insert(id, number);
    number
}

fn lead(shard: &mut Shard, number: u32, partition: &moldau_controller::Partition) {
    let (me, now) = (shard.settings.node_id, shard.now);
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    let input = match partition.leader() == Some(me) {
        true => Input::Lead(Leadership {
            epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            replicas: partition.replicas.clone().into(),
            isr: partition.isr.clone().into(),
            min_isr: slot.config.min_insync_replicas as usize,
        }),
        false => {
            Input::Stop { epoch: Some(partition.leader_epoch), refusal: moldau_partition::Refusal::NotLeader }
        }
    };
    let mut effects = Vec::new();
    slot.replica.step(now, input, &mut effects);
    carry_out(shard, number, effects);
}

fn delete(shard: &mut Shard, id: TopicPartition) {
    let Some(number) = shard.partitions.by_id.remove(&id) else { return };
    stop(shard, number, moldau_partition::Refusal::Deleted);
    if let Some(slot) = shard.partitions.slots.get_mut(&number) {
        slot.log.delete();
    }
    crate::checkpoints::changed(shard, number);
    drain(shard, number);
}

fn stop(shard: &mut Shard, number: u32, refusal: moldau_partition::Refusal) {
    let now = shard.now;
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    let mut effects = Vec::new();
    slot.replica.step(now, Input::Stop { epoch: None, refusal }, &mut effects);
    carry_out(shard, number, effects);
}

/// This broker's registration is in the image: logs that metadata still does not name belong to topics that were deleted
/// while it was away.
pub(crate) fn registered(shard: &mut Shard) {
    for found in std::mem::take(&mut shard.partitions.found) {
        let topic = found.topic_id.unwrap_or(Uuid::ZERO);
        let id = TopicPartition { topic, partition: moldau_base::PartitionIndex(found.partition) };
        let partitions = &mut shard.partitions;
        let number = partitions.next_slot;
        partitions.next_slot += 1;
        let name = found.name().to_owned();
        let state = LogState {
            start_offset: found.start_offset(),
            end_offset: found.end_offset(),
            high_watermark: 0,
        };
        let config = TopicConfig::default();
        let mut log = found.into_log(number, &mut partitions.files, topic, log_config(&config));
        log.delete();
        let replica = Partition::new(shard.settings.node_id, state, Producers::default());
        let slot =
            Slot { slot: number, id, log, replica, config, reading: BTreeMap::new(), waits: BTreeMap::new() };
        partitions.slots.insert(number, slot);
        shard.trace(Trace::Info(format!("removing {name}: its topic was deleted")));
        crate::checkpoints::changed(shard, number);
        drain(shard, number);
    }
}

// ---- produce

/// Appends a client's records.
pub(crate) fn produce(shard: &mut Shard, to: Return, produce: Produce) {
    if let Err(refusal) = try_produce(shard, to, produce) {
        shard.metrics.produce_refused += 1;
        shard.answer(to, Answer::Produced(Err(refusal)));
    }
}

fn try_produce(shard: &mut Shard, to: Return, produce: Produce) -> Result<(), Refusal> {
    let acks = Acks::from_wire(produce.acks).ok_or(ErrorCode::INVALID_REQUIRED_ACKS)?;
    let number = shard.partitions.slot_of(produce.partition)?;
    let batches = moldau_batch::split(&produce.records).map_err(|error| invalid(&error))?;
    let slot = shard.partitions.slots.get_mut(&number).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let append_time = check(slot, shard.now, &batches)?;
    let own = Token::Client(to);
    let count = batches.len() as u64;
    let records: i64 = batches.iter().map(|batch| i64::from(batch.header().count)).sum();
    append(shard, number, own, acks, &batches, append_time);
    shard.metrics.bytes_in += produce.records.len() as u64;
    shard.metrics.batches_in += count;
    shard.metrics.records_in += records.unsigned_abs();
    Ok(())
}

fn invalid(error: &moldau_batch::BatchError) -> Refusal {
    Refusal { code: ErrorCode(error.code()), message: Some(error.to_string()), batch: None }
}

/// What the topic's configuration and the log's state say about batches of a client; the append time, if the topic stamps it.
fn check(slot: &Slot, now: Now, batches: &[Batch]) -> Result<Option<i64>, Refusal> {
    let config = &slot.config;
    let append_time = (config.timestamp_type == TimestampType::LogAppendTime).then_some(now.wall_ms);
    for batch in batches {
        let header = batch.header();
        if batch.bytes().len() > config.max_message_bytes as usize {
            let why = format!(
                "the batch has {} bytes, max.message.bytes is {}",
                batch.bytes().len(),
                config.max_message_bytes
            );
            return Err(Refusal { code: ErrorCode::MESSAGE_TOO_LARGE, message: Some(why), batch: None });
        }
        if header.attributes.is_transactional() {
            let why = "this broker does not support transactions".to_owned();
            return Err(Refusal { code: ErrorCode::INVALID_TXN_STATE, message: Some(why), batch: None });
        }
        if append_time.is_none() {
            let (before, after) = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
            header
                .check_timestamps(now.wall_ms, before.unwrap_or(i64::MAX), after.unwrap_or(i64::MAX))
                .map_err(|error| invalid(&error))?;
        }
    }
    let bytes: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
    if bytes > config.segment_bytes as usize {
        let why = format!("{bytes} bytes are more than segment.bytes, {}", config.segment_bytes);
        return Err(Refusal { code: ErrorCode::RECORD_LIST_TOO_LARGE, message: Some(why), batch: None });
    }
    writable(slot, now)?;
    Ok(append_time)
}

fn writable(slot: &Slot, now: Now) -> Result<(), Refusal> {
    let why = match slot.log.state() {
        State::Online => return Ok(()),
        State::Full { until } if *until <= now.mono => return Ok(()),
        State::Full { .. } => "the disk of this partition is full".to_owned(),
        State::Truncating => "the partition is being truncated".to_owned(),
        State::Offline(fault) => format!("the log directory is offline: {fault}"),
        State::Deleting => return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into()),
    };
    Err(Refusal { code: ErrorCode::KAFKA_STORAGE_ERROR, message: Some(why), batch: None })
}

/// Appends a batch of the broker itself, acknowledged when the in-sync set has it.
pub(crate) fn append_own(shard: &mut Shard, id: TopicPartition, owner: Token, records: Bytes) {
    let ready = shard.partitions.slot_of(id).map_err(Refusal::from).and_then(|number| {
        let slot = shard.partitions.slots.get(&number).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        writable(slot, shard.now)?;
        let batch = Batch::verify(&records).map_err(|error| invalid(&error))?;
        Ok((number, batch))
    });
    match ready {
        Ok((number, batch)) => append(shard, number, owner, Acks::All, &[batch], None),
        Err(refusal) => shard.answer_append(owner, Err(refusal)),
    }
}

fn append(
    shard: &mut Shard,
    number: u32,
    owner: Token,
    acks: Acks,
    batches: &[Batch],
    append_time: Option<i64>,
) {
    let now = shard.now;
    let partitions = &mut shard.partitions;
    let token = partitions.token(owner);
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    let mut effects = Vec::new();
    slot.replica.step(now, Input::Produce { token, acks, batches, append_time }, &mut effects);
    let mut first_offset = None;
    if let Some(Effect::Append { epoch, append_time, .. }) =
        effects.pop_if(|last| matches!(last, Effect::Append { .. }))
    {
        let Slot { log, replica, .. } = slot;
        let mut producers = || replica.producers().snapshot().collect();
        let taken = log.append(now, epoch, append_time, batches, &mut producers);
        let result = match taken {
            Ok(Appended { base_offset, .. }) => {
                first_offset = Some(base_offset);
                Input::Appended { token, base_offset, batches }
            }
            Err(error) => Input::NotAppended { token, refusal: refusal_of(&error) },
        };
        replica.step(now, result, &mut effects);
    }
    carry_out(shard, number, effects);
    if let (Token::Group { partition, id }, Some(first_offset)) = (owner, first_offset) {
        crate::groups::appended(shard, partition, id, first_offset);
    }
    if acks == Acks::None && shard.partitions.tokens.remove(&token.0).is_some() {
        let done = Produced { base_offset: -1, append_time_ms: -1, log_start: -1 };
        shard.answer_append(owner, Ok(done));
    }
    drain(shard, number);
}

/// A log's refusal as its partition answers it.
fn refusal_of(error: &AppendError) -> moldau_partition::Refusal {
    match error {
        AppendError::Offline(_)
        | AppendError::Full
        | AppendError::Truncating
        | AppendError::OffsetsExhausted => moldau_partition::Refusal::Storage,
        AppendError::Deleting => moldau_partition::Refusal::Deleted,
        AppendError::TooLarge { .. } | AppendError::Empty => moldau_partition::Refusal::TooLarge,
        AppendError::StaleEpoch { .. } | AppendError::NotNext { .. } => moldau_partition::Refusal::NotLeader,
    }
}

// ---- fetch

/// Finds records for a fetch.
pub(crate) fn fetch(shard: &mut Shard, to: Return, fetch: Fetch) {
    let (slot, cache) = match shard.partitions.leader_and_cache(fetch.partition, fetch.current_epoch) {
        Ok(found) => found,
        Err(code) => return shard.answer(to, Answer::Fetched(Fetched::error(code))),
    };
    let view = if fetch.read_committed { View::Committed } else { View::Replicated };
    let bounds = Bounds {
        high_watermark: slot.replica.high_watermark(),
        last_stable: slot.replica.last_stable_offset(),
        log_start: slot.log.start_offset(),
        view,
        upto: slot.replica.end_of(view),
    };
    if let Some(diverging) = diverging(slot, &fetch) {
        let fetched = Fetched { diverging: Some(diverging), ..found(bounds, None) };
        return shard.answer(to, Answer::Fetched(fetched));
    }
    if fetch.offset < bounds.log_start || fetch.offset > slot.log.end_offset() {
        return shard.answer(to, Answer::Fetched(Fetched::error(ErrorCode::OFFSET_OUT_OF_RANGE)));
    }
    let read = match fetch.offset >= bounds.upto {
        true => Read::Empty,
        false => slot.log.read(
            cache,
            ReadRequest {
                offset: fetch.offset,
                max_bytes: fetch.max_bytes,
                min_one_batch: true,
                upto: bounds.upto,
            },
        ),
    };
    let number = slot.slot;
    read_or_wait(shard, number, read, Waiting::Fetch { to, fetch, bounds });
}

/// Where the client's log parts from ours, if it does (KIP-595).
fn diverging(slot: &Slot, fetch: &Fetch) -> Option<(i32, i64)> {
    let epoch = fetch.last_fetched_epoch?;
    let end = slot.log.end_offset();
    let (known, known_end) = slot.log.epochs().end_of(epoch.0, end).unwrap_or((-1, -1));
    (known < epoch.0 || known_end < fetch.offset).then_some((known, known_end))
}

fn found(bounds: Bounds, records: Option<FileRange>) -> Fetched {
    Fetched {
        error: ErrorCode::NONE,
        high_watermark: bounds.high_watermark,
        last_stable: bounds.last_stable,
        log_start: bounds.log_start,
        records,
        diverging: None,
    }
}

fn fetch_read(shard: &mut Shard, number: u32, to: Return, fetch: &Fetch, bounds: Bounds, read: Read) {
    let fetched = match read {
        Read::Ready(range) => {
            let records = FileRange { file: range.file.0, position: range.position, len: range.len };
            found(bounds, Some(records))
        }
        Read::Empty | Read::Bytes(_) | Read::Pending(_) => found(bounds, None),
        Read::Refused(refusal) => Fetched::error(code_of(&refusal)),
    };
    if fetch.wait && fetched.error.is_ok() {
        wait(shard, number, to, fetch.offset, bounds);
    }
    shard.answer(to, Answer::Fetched(fetched));
}

fn wait(shard: &mut Shard, number: u32, to: Return, offset: i64, bounds: Bounds) {
    let now = shard.now;
    let partitions = &mut shard.partitions;
    let token = partitions.token(Token::Wait(to));
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    if let Some(before) = slot.waits.insert(to, token) {
        partitions.tokens.remove(&before.0);
        slot.replica.step(now, Input::Cancel { token: before }, &mut Vec::new());
    }
    let mut effects = Vec::new();
    slot.replica.step(
        now,
        Input::Wait { token, view: bounds.view, offset, beyond: bounds.upto },
        &mut effects,
    );
    carry_out(shard, number, effects);
}

/// Passes on what a read found, now or when the disk has been read.
pub(crate) fn read_or_wait(shard: &mut Shard, number: u32, read: Read, waiting: Waiting) {
    match read {
        Read::Pending(id) => {
            if let Some(slot) = shard.partitions.slots.get_mut(&number) {
                slot.reading.insert(id, waiting);
            }
        }
        read => read_done(shard, number, waiting, read),
    }
    drain(shard, number);
}

fn read_done(shard: &mut Shard, number: u32, waiting: Waiting, read: Read) {
    match waiting {
        Waiting::Fetch { to, fetch, bounds } => fetch_read(shard, number, to, &fetch, bounds, read),
        Waiting::Timestamp { to, wanted } => lookup::batch_found(shard, number, to, wanted, read),
        Waiting::Load { partition } => crate::groups::read(shard, partition, read),
    }
}

// ---- other questions

/// The end of a leader epoch.
pub(crate) fn epoch_end(
    shard: &mut Shard,
    id: TopicPartition,
    known: Option<LeaderEpoch>,
    epoch: LeaderEpoch,
) -> Result<(i32, i64), ErrorCode> {
    let slot = shard.partitions.leader(id, known)?;
    let end = slot.log.end_offset();
    if epoch == slot.replica.epoch() {
        return Ok((epoch.0, end));
    }
    if epoch > slot.replica.epoch() {
        return Ok((-1, -1));
    }
    Ok(slot.log.epochs().end_of(epoch.0, end).unwrap_or((-1, -1)))
}

/// Moves the log start offset up to `before`; -1 means the high watermark. The new start is durable with the next checkpoint.
pub(crate) fn delete_records(shard: &mut Shard, id: TopicPartition, before: i64) -> Result<i64, ErrorCode> {
    let now = shard.now;
    let slot = shard.partitions.leader(id, None)?;
    if !slot.config.cleanup.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let high_watermark = slot.replica.high_watermark();
    let before = if before == -1 { high_watermark } else { before };
    if before < 0 || before > high_watermark {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let mut effects = Vec::new();
    if before > slot.log.start_offset() {
        slot.log.delete_records(now, before);
        slot.replica.step(now, Input::LogStart { offset: slot.log.start_offset() }, &mut effects);
    }
    let (start, number) = (slot.log.start_offset(), slot.slot);
    carry_out(shard, number, effects);
    drain(shard, number);
    crate::checkpoints::changed(shard, number);
    Ok(start)
}

// ---- carrying out

/// Does what a partition's core wants, except appends, which its caller did.
fn carry_out(shard: &mut Shard, number: u32, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Acknowledge { token, base_offset, append_time, log_start_offset } => {
                if let Some(owner) = shard.partitions.tokens.remove(&token.0) {
                    let done =
                        Produced { base_offset, append_time_ms: append_time, log_start: log_start_offset };
                    shard.answer_append(owner, Ok(done));
                }
            }
            Effect::Refuse { token, refusal } => {
                if let Some(owner) = shard.partitions.tokens.remove(&token.0) {
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
            Effect::Append { .. } => unreachable!("appends are done where batches are at hand"),
        }
    }
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
    let ops = slot.log.take_ops();
    let events = slot.log.take_events();
    let deadline = slot.log.deadline();
    shard.timers.set(Timer::Log(number), deadline);
    for (op, what) in ops {
        shard.effect(waist::Effect::Disk { op, what });
    }
    if !events.is_empty() {
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
    for (id, read) in events.reads {
        let slot = shard.partitions.slots.get_mut(&number);
        if let Some(waiting) = slot.and_then(|slot| slot.reading.remove(&id)) {
            read_done(shard, number, waiting, read);
        }
    }
    let name = shard.partitions.slots.get(&number).map(|slot| (slot.log.dir(), slot.log.name().to_owned()));
    let Some((dir, name)) = name else { return };
    for damage in events.damage {
        shard.trace(Trace::Warning(format!("{name}: damaged: {damage}")));
    }
    for fault in events.leftovers {
        shard.trace(Trace::Warning(format!("{name}: a file could not be removed: {fault}")));
    }
    if let Some(fault) = events.offline {
        take_offline(shard, dir, &name, &fault);
    }
    if events.deleted {
        shard.timers.set(Timer::Log(number), None);
        shard.partitions.slots.remove(&number);
        crate::stop::flushed(shard, number);
    } else {
        drain(shard, number);
    }
}

/// A write or sync failed: everything in that log directory is out of service.
fn take_offline(shard: &mut Shard, dir: DirId, name: &str, fault: &moldau_base::disk::Fault) {
    if !shard.partitions.offline_dirs.insert(dir) {
        return;
    }
    let path = Path::new(dir, name);
    shard.trace(Trace::Offline { path, why: fault.to_string() });
    let here: Vec<u32> =
        shard.partitions.slots.values().filter(|slot| slot.log.dir() == dir).map(|slot| slot.slot).collect();
    for number in here {
        if let Some(slot) = shard.partitions.slots.get_mut(&number) {
            slot.log.go_offline(fault.clone());
        }
        stop(shard, number, moldau_partition::Refusal::Storage);
        drain(shard, number);
        crate::stop::flushed(shard, number);
    }
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
    let Some(slot) = partitions.slots.get_mut(&op.owner) else { return };
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
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    let Slot { log, replica, .. } = slot;
    let mut producers = || replica.producers().snapshot().collect();
    log.tick(now, replica.high_watermark(), &mut producers);
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
        if let Some(slot) = shard.partitions.slots.get_mut(&number)
            && !slot.replica.producers().is_empty()
        {
            slot.replica.step(now, Input::Expire { after_ms }, &mut Vec::new());
        }
        tick_log(shard, number);
    }
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
