//! Following metadata: partitions come, change their leadership and configuration, and go, as the image says.

use std::collections::BTreeMap;

use moldau_base::config::TopicConfig;
use moldau_base::{TopicPartition, Uuid};
use moldau_partition::{Following, Input, Leadership, LogState, Partition, Patience, Producers};
use moldau_storage::{Log, LogConfig, RecoveredLog, State};

use super::{Slot, carry_out, drain, relocate};
use crate::Shard;
use crate::waist::Trace;

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
            Some(_) => delete(shard, id, moldau_partition::Refusal::NotLeader),
            None => {
                relocate::preferred(shard, id);
                delete(shard, id, moldau_partition::Refusal::Deleted);
            }
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
    let shared = shard.partitions.shared(config);
    let Some(slot) = shard.partitions.by_id.get(&id).and_then(|slot| shard.partitions.slots.get_mut(slot))
    else {
        return;
    };
    slot.config = shared;
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

/// The place of the partition's log among those that were found. One without an id is taken by its name, if no other has the id: a
/// directory of an earlier topic of that name may be left where its deletion was cut short.
fn claim(found: &[RecoveredLog], id: TopicPartition, name: &str) -> Option<usize> {
    let place = |of: Option<Uuid>| {
        let is_it = |log: &RecoveredLog| log.topic_id == of && log.partition == id.partition.0;
        found.iter().position(|log| is_it(log) && (of.is_some() || log.topic == name))
    };
    place(Some(id.topic)).or_else(|| place(None))
}

/// A partition of this node: its log is one that was found on disk, or a fresh one.
fn open(shard: &mut Shard, id: TopicPartition, topic: &str) -> u32 {
    let config = topic_config(shard, topic);
    let now = shard.now;
    let expire_ms = shard.settings.producer_expiration_ms;
    let me = shard.settings.node_id;
    let preferred = relocate::preferred(shard, id);
    let partitions = &mut shard.partitions;
    let number = partitions.next_slot;
    partitions.next_slot += 1;
    let (mut is_named_now, mut moves_to) = (false, None);
    // The marks on disk may still be those of the log that was here before.
    let is_renewed = partitions.leaving.range((id, 0)..=(id, u32::MAX)).next().is_some();
    let (log, high_watermark, producers) = match claim(&partitions.found, id, topic) {
        Some(at) => {
            let mut found = partitions.found.swap_remove(at);
            is_named_now = found.topic_id.is_none();
            moves_to = found.moves_to;
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
            let dir = preferred.unwrap_or_else(|| partitions.roomiest_dir());
            let name = moldau_storage::names::partition_dir(topic, id.partition.0);
            let log = Log::create(number, &mut partitions.files, dir, name, id.topic, log_config(&config));
            (log, 0, Producers::default())
        }
    };
    let state = LogState { start_offset: log.start_offset(), end_offset: log.end_offset(), high_watermark };
    let replica = if is_renewed { Partition::renewed(me) } else { Partition::new(me, state, producers) };
    let config = partitions.shared(&config);
    let slot = Slot {
        slot: number,
        id,
        log,
        replica,
        config,
        reading: BTreeMap::new(),
        waits: BTreeMap::new(),
        fetched_from: None,
        core_deadline: None,
        moves: None,
    };
    partitions.slots.insert(number, Box::new(slot));
    partitions.by_id.insert(id, number);
    if is_renewed {
        crate::checkpoints::before_append(shard, number, 0);
    }
    if is_named_now {
        // The checkpoints do not know whose its marks are.
        crate::checkpoints::changed(shard, number);
    }
    if let Some(to) = moves_to {
        relocate::begin(shard, number, to);
    }
    number
}

fn lead(shard: &mut Shard, number: u32, partition: &moldau_controller::Partition) {
    let (me, now) = (shard.settings.node_id, shard.now);
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    let (id, led) = (slot.id, slot.replica.leadership().is_some());
    let epoch = partition.leader_epoch;
    let input = match partition.leader() {
        _ if matches!(slot.log.state(), State::Offline(_)) => {
            Input::Stop { epoch: Some(epoch), refusal: moldau_partition::Refusal::Storage }
        }
        Some(leader) if leader == me => Input::Lead(Leadership {
            epoch,
            partition_epoch: partition.partition_epoch,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            min_isr: slot.config.min_insync_replicas as usize,
            patience: Patience::default(),
        }),
        leader => Input::Follow(Following { epoch, leader }),
    };
    let mut effects = Vec::new();
    slot.replica.step(now, input, &mut effects);
    let leads = slot.replica.leadership().is_some();
    carry_out(shard, number, effects);
    super::resign(shard, number);
    match led && !leads && partition.leader().is_some() {
        true => crate::handover::moved(shard, id),
        false => crate::handover::look(shard, id),
    }
}

/// The log of this partition is deleted here; whoever waits for it is told why.
fn delete(shard: &mut Shard, id: TopicPartition, why: moldau_partition::Refusal) {
    let Some(number) = shard.partitions.by_id.remove(&id) else { return };
    stop(shard, number, why);
    relocate::partition_leaves(shard, number);
    let mut fetched_from = None;
    if let Some(slot) = shard.partitions.slots.get_mut(&number) {
        slot.log.delete();
        fetched_from = slot.fetched_from.take();
        shard.partitions.leaving.insert((id, number));
    }
    crate::replication::forget(shard, id, fetched_from);
    crate::handover::look(shard, id);
    crate::checkpoints::changed(shard, number);
    drain(shard, number);
}

pub(super) fn stop(shard: &mut Shard, number: u32, refusal: moldau_partition::Refusal) {
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
        let config = partitions.shared(&config);
        let slot = Slot {
            slot: number,
            id,
            log,
            replica,
            config,
            reading: BTreeMap::new(),
            waits: BTreeMap::new(),
            fetched_from: None,
            core_deadline: None,
            moves: None,
        };
        partitions.slots.insert(number, Box::new(slot));
        shard.trace(Trace::Info(format!("removing {name}: metadata gives this node no such partition")));
        crate::checkpoints::changed(shard, number);
        drain(shard, number);
    }
}
