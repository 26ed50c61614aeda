//! ListOffsets: searching a log for an offset by name or by time. By name the answer is known; by time the log finds the batch
//! and its records are looked at, the one place where the broker decompresses what a client wrote.

use bytes::Bytes;
use moldau_base::planted::{Bug, planted};
use moldau_batch::Batch;
use moldau_partition::View;
use moldau_storage::{Read, Refusal};
use moldau_wire::ErrorCode;

use crate::Shard;
use crate::message::{Answer, FoundOffset, ListOffsets, Return};
use crate::partitions::{self, Waiting};

/// The protocol's names for offsets.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// A batch is decompressed to at most this many bytes when a record in it is searched.
const DECOMPRESSED_LIMIT: usize = 128 << 20;

/// What is searched in the records of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// The first record at or after this time, in milliseconds since the epoch.
    From(i64),
    /// The first record with the greatest timestamp.
    Newest,
}

/// Answers a search, at once or when the disk has been read.
pub(crate) fn list_offsets(shard: &mut Shard, to: Return, search: ListOffsets) {
    let found = match named(shard, &search) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => return by_time(shard, to, search),
        Err(code) => Err(code),
    };
    shard.answer(to, Answer::Offset(found));
}

fn named(shard: &mut Shard, search: &ListOffsets) -> Result<Option<FoundOffset>, ErrorCode> {
    let slot = shard.partitions.leader(search.partition, search.current_epoch)?;
    let offset = match search.timestamp {
        LATEST if !search.consumer || planted(Bug::LatestIsLogEnd) => slot.log.end_offset(),
        LATEST => {
            let view = if search.read_committed { View::Committed } else { View::Replicated };
            slot.replica.latest(view).map_err(|refusal| ErrorCode(refusal.code()))?
        }
        EARLIEST | EARLIEST_LOCAL => slot.log.start_offset(),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => -1,
        MAX_TIMESTAMP | 0.. => return Ok(None),
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    let epoch = match search.timestamp {
        LATEST => Some(slot.replica.epoch().0),
        _ => slot.log.epochs().epoch_at(offset),
    };
    Ok(Some(FoundOffset { offset, timestamp: -1, epoch: epoch.filter(|_| offset >= 0).unwrap_or(-1) }))
}

fn by_time(shard: &mut Shard, to: Return, search: ListOffsets) {
    let partitions = &mut shard.partitions;
    let (slot, cache) = match partitions.leader_and_cache(search.partition, search.current_epoch) {
        Ok(found) => found,
        Err(code) => return shard.answer(to, Answer::Offset(Err(code))),
    };
    let upto =
        if search.read_committed { slot.replica.last_stable_offset() } else { slot.replica.high_watermark() };
    let (wanted, read) = match search.timestamp {
        MAX_TIMESTAMP => (Wanted::Newest, slot.log.max_timestamp(cache, upto)),
        time => (Wanted::From(time), slot.log.find_timestamp(cache, time, upto)),
    };
    let id = slot.slot;
    partitions::read_or_wait(shard, id, read, Waiting::Timestamp { to, search, wanted });
}

/// The batch that holds the answer has been read.
pub(crate) fn batch_found(shard: &mut Shard, slot: u32, to: Return, wanted: Wanted, read: Read) {
    let found = match read {
        Read::Bytes(chunk) => search_batch(&chunk.bytes, wanted),
        Read::Empty | Read::Ready(_) | Read::Pending(_) => Ok(None),
        Read::Refused(refusal) => Err(code_of(&refusal)),
    };
    let found = found.map(|found| match found {
        Some((offset, timestamp)) => {
            let epoch = shard.partitions.slot(slot).and_then(|slot| slot.log.epochs().epoch_at(offset));
            FoundOffset { offset, timestamp, epoch: epoch.unwrap_or(-1) }
        }
        None => FoundOffset { offset: -1, timestamp: -1, epoch: -1 },
    });
    shard.answer(to, Answer::Offset(found));
}

fn search_batch(bytes: &Bytes, wanted: Wanted) -> Result<Option<(i64, i64)>, ErrorCode> {
    let corrupt = |_| ErrorCode::CORRUPT_MESSAGE;
    let batch = Batch::verify(bytes).map_err(corrupt)?;
    if batch.header().attributes.timestamp_type() == moldau_batch::TimestampType::LogAppendTime {
        let header = batch.header();
        return Ok(Some((header.base_offset, header.max_timestamp)));
    }
    let mut newest: Option<(i64, i64)> = None;
    for record in batch.records(DECOMPRESSED_LIMIT).map_err(corrupt)? {
        let record = record.map_err(corrupt)?;
        match wanted {
            Wanted::From(time) if record.timestamp >= time => {
                return Ok(Some((record.offset, record.timestamp)));
            }
            Wanted::From(_) => {}
            Wanted::Newest if newest.is_none_or(|(_, timestamp)| record.timestamp > timestamp) => {
                newest = Some((record.offset, record.timestamp));
            }
            Wanted::Newest => {}
        }
    }
    Ok(newest)
}

/// A read's refusal as clients are told.
pub(crate) fn code_of(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::OutOfRange => ErrorCode::OFFSET_OUT_OF_RANGE,
        Refusal::Offline(_) | Refusal::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        Refusal::Deleting => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Refusal::Damaged(_) => ErrorCode::CORRUPT_MESSAGE,
    }
}
