//! Entries as record batches, so that Kafka's tools read the log: one entry is one batch.
//!
//! | of the entry | in the batch |
//! |---|---|
//! | term | leader epoch |
//! | index | producer id, which a metadata batch does not use otherwise |
//! | place among the entries that were made durable together | base sequence |
//! | records | records, values in Kafka's metadata frame |
//! | blank of a new leader | control record LeaderChange |
//! | voters | control records KRaftVoters |

use std::io;

use bytes::{Bytes, BytesMut};
use moldau_base::NodeId;
use moldau_batch::{Batch, Builder, Codec, HEADER_BYTES, Header, checksum};
use openraft::EntryPayload;

use crate::control::{self, Kind};
use crate::types::{Entry, LogId, Membership, Records, log_id, term};

/// How many records, and so offsets, the entry takes.
pub(crate) fn offsets(entry: &Entry) -> i64 {
    let count = match &entry.payload {
        EntryPayload::Blank => 1,
        EntryPayload::Normal(records) => records.values.len(),
        EntryPayload::Membership(membership) => membership.get_joint_config().len(),
    };
    count as i64
}

/// What the log knows that the entry does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Offset of the first record.
    pub(crate) base_offset: i64,
    /// 0 for the first of the entries that are made durable together.
    pub(crate) in_group: i32,
    /// The wall clock, for entries that do not carry a time of their own.
    pub(crate) timestamp: i64,
    /// Who appends.
    pub(crate) leader: NodeId,
}

/// The batch of `entry`.
pub(crate) fn encode(entry: &Entry, place: Place, voters: &Membership) -> io::Result<Bytes> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let epoch = i32::try_from(term(&entry.log_id)).map_err(|_| invalid("epochs are exhausted".into()))?;
    let index = i64::try_from(entry.log_id.index).map_err(|_| invalid("indexes are exhausted".into()))?;
    let builder = Builder::new(Codec::None).base_offset(place.base_offset).leader_epoch(epoch).producer(
        index,
        -1,
        place.in_group,
    );
    let control = |kind: Kind, values: Vec<Bytes>| {
        let mut builder = builder.clone().control();
        for value in values {
            builder.push(place.timestamp, Some(&kind.key()), Some(&value), &[]);
        }
        builder
    };
    let builder = match &entry.payload {
        EntryPayload::Normal(records) => {
            let mut builder = builder;
            for value in &records.values {
                builder.push(records.timestamp, None, Some(value), &[]);
            }
            builder
        }
        EntryPayload::Blank => {
            // The first blank of a log comes before its voters are applied: then the leader is the one that
            // is known.
            let mut voters: Vec<NodeId> = voters.voter_ids().collect();
            if voters.is_empty() {
                voters.push(place.leader);
            }
            let value = control::leader_change(place.leader, &voters).map_err(|e| invalid(e.to_string()))?;
            control(Kind::LeaderChange, vec![value])
        }
        EntryPayload::Membership(membership) => {
            control(Kind::Voters, control::voters(membership).map_err(|e| invalid(e.to_string()))?)
        }
    };
    builder.build().map_err(|error| invalid(error.to_string()))
}

/// The batch of an entry that came from the leader, at its place within this append; nothing else of it changes.
pub(crate) fn regroup(batch: &Batch, in_group: i32) -> Bytes {
    let mut header = *batch.header();
    if header.base_sequence == in_group {
        return batch.bytes().clone();
    }
    header.base_sequence = in_group;
    let mut bytes = BytesMut::from(&batch.bytes()[..]);
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    header.crc = checksum(&bytes);
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    bytes.freeze()
}

/// Whether this is the batch of the entry.
pub(crate) fn is(header: &Header, of: &LogId) -> bool {
    id(header) == Some((of.index, term(of)))
}

/// Index and term in a batch's header.
pub(crate) fn id(header: &Header) -> Option<(u64, u64)> {
    Some((u64::try_from(header.producer_id).ok()?, u64::try_from(header.leader_epoch).ok()?))
}

/// The entry of a batch whose checksum is right.
pub(crate) fn decode(batch: &Batch) -> Result<Entry, String> {
    let header = batch.header();
    let (index, term) = id(header).ok_or("no index or epoch in the batch")?;
    let size = batch.bytes().len();
    let records = batch.records(size).map_err(|error| error.to_string())?;
    let mut keys = Vec::new();
    let mut values = Vec::new();
    for record in records {
        let record = record.map_err(|error| error.to_string())?;
        values.push(record.value.ok_or("a record without a value")?);
        keys.push(record.key);
    }
    let payload = if header.attributes.is_control() {
        let kind = keys.first().and_then(|key| Kind::of(key.as_deref()?));
        match kind {
            Some(Kind::LeaderChange) => EntryPayload::Blank,
            Some(Kind::Voters) => EntryPayload::Membership(control::read_voters(&values)?),
            _ => return Err("a control record that does not belong into the log".into()),
        }
    } else {
        EntryPayload::Normal(Records { timestamp: header.base_timestamp, values, proposal: None })
    };
    Ok(Entry { log_id: log_id(term, index), payload })
}
