//! How a log begins: fresh, or from what recovery found.

use std::collections::VecDeque;

use moldau_base::Uuid;
use moldau_base::disk::{DirId, Ops};

use super::{Busy, Dirty, Log, Metadata, Place, State};
use crate::config::LogConfig;
use crate::epochs::EpochHistory;
use crate::segment::{FileIds, Segment, SegmentMeta};

/// What a log is made of, before it has a slot.
#[derive(Clone, Debug)]
pub(crate) struct LogParts {
    pub(crate) dir: DirId,
    pub(crate) name: String,
    pub(crate) segments: Vec<SegmentMeta>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) flushed: i64,
    pub(crate) epochs: EpochHistory,
    pub(crate) epochs_dirty: bool,
    pub(crate) snapshot: Option<i64>,
    /// Batches say of producers what the snapshot does not.
    pub(crate) producers_dirty: bool,
    pub(crate) has_metadata: bool,
    pub(crate) loaded_ms: i64,
}

impl Log {
    /// An empty log. Nothing is written until the first append. `slot` comes back as the owner of its operations.
    pub fn create(
        slot: u32,
        files: &mut FileIds,
        dir: DirId,
        name: String,
        topic: Uuid,
        config: LogConfig,
    ) -> Log {
        Log::create_at(slot, files, dir, name, topic, config, 0)
    }

    /// As [`Log::create`], beginning at `start` instead of 0: for a replica of a log whose beginning is gone.
    pub fn create_at(
        slot: u32,
        files: &mut FileIds,
        dir: DirId,
        name: String,
        topic: Uuid,
        config: LogConfig,
        start: i64,
    ) -> Log {
        let parts = LogParts {
            dir,
            name,
            segments: Vec::new(),
            start,
            end: start,
            flushed: start,
            epochs: EpochHistory::default(),
            epochs_dirty: false,
            snapshot: None,
            producers_dirty: false,
            has_metadata: false,
            loaded_ms: 0,
        };
        Log::from_parts(slot, files, parts, topic, config)
    }

    pub(crate) fn from_parts(
        slot: u32,
        files: &mut FileIds,
        parts: LogParts,
        topic: Uuid,
        config: LogConfig,
    ) -> Log {
        let mut files = files.block();
        let segments: VecDeque<Segment> =
            parts.segments.iter().map(|&m| Segment::new(m, files.take(), parts.loaded_ms)).collect();
        let end = Place {
            offset: parts.end,
            segment: segments.back().map_or(parts.end, |s| s.base),
            position: segments.back().map_or(0, |s| s.size),
        };
        Log {
            dir: parts.dir,
            name: parts.name,
            folder: None,
            topic,
            config,
            state: State::Online,
            ops: Ops::new(slot),
            files,
            metadata: if parts.has_metadata { Metadata::Durable } else { Metadata::Missing },
            segments,
            start: parts.start,
            end: parts.end,
            written: end,
            synced: end,
            stored: end,
            flushed: parts.flushed,
            epochs: parts.epochs,
            epochs_dirty: parts.epochs_dirty,
            snapshot: parts.snapshot,
            removed_snapshot: None,
            dirty: Dirty::behind(
                parts.flushed < parts.end
                    || parts.producers_dirty
                    || (parts.epochs_dirty && !parts.segments.is_empty()),
            ),
            busy: Busy::default(),
            next_flush: 0,
            next_read: 0,
            cut_steps: 0,
            events: None,
        }
    }
}
