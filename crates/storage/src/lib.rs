//! One partition's log: segments, indexes, leader epochs, producer snapshots, recovery, retention, truncation, deletion.
//!
//! A running [`Log`] is a state machine that asks for disk operations ([`moldau_base::disk::Op`]) and is told how they ended;
//! it does no I/O, so a host decides what happens at once and what in the background, and a simulator can crash it anywhere.
//! Only [`recover()`] and the offline reader in [`dump`] use a plain blocking disk. Files have Apache Kafka's formats.
//!
//! Batches are opaque: headers are looked at, payload is neither decompressed nor copied.

mod checkpoint;
mod config;
pub mod dump;
mod epochs;
mod index;
mod log;
pub mod names;
mod recover;
mod scan;
mod segment;
mod snapshot;

pub use checkpoint::{
    BadText, encode_boot, encode_clean_shutdown, encode_epochs, encode_metadata, encode_offsets,
    encode_topic_ids, parse_epochs, parse_metadata, parse_offsets, parse_topic_ids,
};
pub use config::{LogConfig, SEGMENT_BYTES_MAX};
pub use epochs::EpochHistory;
pub use index::{BadIndex, IndexCache};
pub use log::{
    AppendError, Appended, Chunk, Damage, Events, FLUSH_BYTES, FLUSH_INTERVAL_MS, FULL_RETRY_MS, Log,
    Producers, Range, Read, ReadId, ReadRequest, Refusal, State,
};
pub use recover::{
    Finding, FindingKind, Moves, RecoverError, Recovered, RecoveredLog, RecoveryPolicy, common_boot_epoch,
    common_clean_epoch, is_marked_clean, mark_clean, recover, recover_moves, unmark_clean,
};
pub use scan::{Depth, Flaw, Scanned, Scanner};
pub use segment::FileIds;
pub use snapshot::{BadSnapshot, encode as encode_snapshot, parse as parse_snapshot};
