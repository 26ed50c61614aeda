//! What a log needs only while something goes on: operations on their way, appends and syncs that wait for them, places near the
//! end, ends of earlier reads. In a box, and only when there is something in it: most logs of a node are idle.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::Pending;
use super::append::{Appending, Mark};
use super::flush::{FlushJob, Syncing};
use super::folder::Renaming;
use super::read::{Cursor, Job, ReadId};
use super::retain::Doomed;

/// The queues of a log.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Why each operation on its way was asked for.
    pub(super) pending: BTreeMap<u32, Pending>,
    pub(super) appends: VecDeque<Appending>,
    pub(super) syncs: VecDeque<Syncing>,
    pub(super) flushes: VecDeque<FlushJob>,
    /// Files of flushes, by name, that are written one after the other; the first is on its way.
    pub(super) files: VecDeque<(u32, String, Bytes)>,
    /// Reads that wait for the disk.
    pub(super) jobs: BTreeMap<ReadId, Job>,
    pub(super) marks: VecDeque<Mark>,
    pub(super) cursors: VecDeque<Cursor>,
    /// Segments whose files go later.
    pub(super) doomed: VecDeque<Doomed>,
    /// The log's folder gets another name.
    pub(super) renaming: Option<Renaming>,
}

impl Queues {
    const EMPTY: Queues = Queues {
        pending: BTreeMap::new(),
        appends: VecDeque::new(),
        syncs: VecDeque::new(),
        flushes: VecDeque::new(),
        files: VecDeque::new(),
        jobs: BTreeMap::new(),
        marks: VecDeque::new(),
        cursors: VecDeque::new(),
        doomed: VecDeque::new(),
        renaming: None,
    };

    fn is_empty(&self) -> bool {
        self.pending.is_empty()
            && self.appends.is_empty()
            && self.syncs.is_empty()
            && self.flushes.is_empty()
            && self.files.is_empty()
            && self.jobs.is_empty()
            && self.marks.is_empty()
            && self.cursors.is_empty()
            && self.doomed.is_empty()
            && self.renaming.is_none()
    }
}

/// The queues as their log uses them: empty ones take no memory, and changing them makes the box.
#[derive(Debug, Default)]
pub(super) struct Busy(Option<Box<Queues>>);

impl Busy {
    /// Gives back memory when nothing is written any more: marks go, the box too if nothing else is in it.
    pub(super) fn rest(&mut self) {
        let Some(queues) = &mut self.0 else { return };
        queues.marks = VecDeque::new();
        if queues.is_empty() {
            self.0 = None;
        } else {
            queues.appends.shrink_to_fit();
            queues.syncs.shrink_to_fit();
            queues.flushes.shrink_to_fit();
        }
    }
}

impl Deref for Busy {
    type Target = Queues;

    fn deref(&self) -> &Queues {
        static EMPTY: Queues = Queues::EMPTY;
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl DerefMut for Busy {
    fn deref_mut(&mut self) -> &mut Queues {
        self.0.get_or_insert_default()
    }
}
