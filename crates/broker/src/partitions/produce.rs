//! Appending: what a client or the broker itself writes goes past the partition's core into its log.

use bytes::Bytes;
use moldau_base::config::TimestampType;
use moldau_base::{Now, TopicPartition};
use moldau_batch::Batch;
use moldau_partition::{Acks, Effect, Input};
use moldau_storage::{AppendError, Appended, State};
use moldau_wire::ErrorCode;

use super::{Slot, Token, carry_out, drain};
use crate::Shard;
use crate::message::{Answer, Produce, Produced, Refusal, Return, Taker};

/// Appends a client's records, or keeps them while their partition moves.
pub(crate) fn produce(shard: &mut Shard, to: Return, produce: Produce) {
    if let Some(produce) = crate::handover::keep(shard, to, produce) {
        produce_here(shard, to, produce);
    }
}

/// Appends a client's records.
pub(crate) fn produce_here(shard: &mut Shard, to: Return, produce: Produce) {
    if let Err(refusal) = try_produce(shard, to, produce) {
        shard.metrics.produce_refused += 1;
        shard.answer(to, Answer::Produced(Err(refusal)));
    }
}

fn try_produce(shard: &mut Shard, to: Return, produce: Produce) -> Result<(), Refusal> {
    refuse_while_stopping(shard)?;
    let acks = Acks::from_wire(produce.acks).ok_or(ErrorCode::INVALID_REQUIRED_ACKS)?;
    let number = shard.partitions.slot_of(produce.partition)?;
    let batches = moldau_batch::split(&produce.records).map_err(|error| invalid(&error))?;
    let slot = shard.partitions.slots.get_mut(&number).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let append_time = check(slot, shard.now, &batches)?;
    if let Err(refusal) = writable(slot, shard.now) {
        slot.replica.step(shard.now, Input::Refused { batches: &batches }, &mut Vec::new());
        return Err(refusal);
    }
    let own = Token::Client(to);
    let count = batches.len() as u64;
    let records: i64 = batches.iter().map(|batch| i64::from(batch.header().count)).sum();
    append(shard, number, own, acks, &batches, append_time);
    shard.metrics.bytes_in += produce.records.len() as u64;
    shard.metrics.batches_in += count;
    shard.metrics.records_in += records.unsigned_abs();
    Ok(())
}

/// What a stop has flushed stays as it is: it will be called clean.
fn refuse_while_stopping(shard: &Shard) -> Result<(), ErrorCode> {
    match shard.partitions.stopping {
        Some(_) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        None => Ok(()),
    }
}

fn invalid(error: &moldau_batch::BatchError) -> Refusal {
    Refusal { code: ErrorCode(error.code()), message: Some(error.to_string()), batch: None }
}

/// What the topic's configuration says about batches of a client; the append time, if the topic stamps it.
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
    let Some(records) = super::relocate::keep(shard, id, owner, records) else { return };
    let number = refuse_while_stopping(shard).and_then(|()| shard.partitions.slot_of(id));
    let ready = number.map_err(Refusal::from).and_then(|number| {
        let slot = shard.partitions.slots.get(&number).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        writable(slot, shard.now)?;
        let batch = Batch::verify(&records).map_err(|error| invalid(&error))?;
        Ok((number, batch))
    });
    match ready {
        Ok((number, batch)) => append(shard, number, owner, Acks::Standing, &[batch], None),
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
        let Slot { log, replica, .. } = &mut **slot;
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
        let taker = Taker::Here;
        let done = Produced { base_offset: -1, append_time_ms: -1, log_start: -1, taker };
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
