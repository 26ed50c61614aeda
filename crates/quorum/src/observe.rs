//! What observers of the quorum are given: the committed part of the log, its batches verbatim, and the latest snapshot in pieces, as
//! KRaft's Fetch and FetchSnapshot give them (KIP-595, KIP-630). Nothing is given that is not committed, so an observer never has
//! anything to cut.
//!
//! Only the leader gives: it is the first to know of a commit, and it has to know who observes and how far each is. An observer that has
//! everything waits here until something is committed, this voter leads no more, or its time is over.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use moldau_base::voter::ReplicaState;
use moldau_base::{Mono, NodeId, Now, Uuid};
use moldau_batch::Batch;
use openraft::EntryPayload;

use crate::codec;
use crate::event::{Committed, Event};
use crate::snapshot;
use crate::store::Shared;
use crate::types::term;

/// Most observers that are known, and most that wait; more are answered and not remembered.
const MOST_OBSERVERS: usize = 1 << 10;
/// Most bytes that one answer holds, if they are more than one batch.
const MOST_BYTES: usize = 1 << 20;
/// An observer that has not asked for so long is forgotten, as in KRaft.
const FORGOTTEN_MS: i64 = 300_000;

/// What an observer asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Who asks, if it says so.
    pub observer: Option<NodeId>,
    /// The id of its log directory, or zero.
    pub directory: Uuid,
    /// What it wants.
    pub wanted: Wanted,
}

/// What it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Committed records.
    Records {
        /// The first.
        from: i64,
        /// The epoch of the one before it, if the observer knows.
        last_epoch: Option<i32>,
        /// At most so many bytes, except that one batch is always given.
        max_bytes: usize,
        /// How long to wait for the first, in milliseconds.
        wait_ms: i64,
    },
    /// A piece of a snapshot.
    Piece {
        /// Which snapshot: the offset after the last record in it.
        end_offset: i64,
        /// The epoch of that record.
        epoch: i32,
        /// Where in its file the piece begins.
        position: u64,
        /// At most so many bytes.
        max_bytes: usize,
    },
}

/// What an observer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Who leads, as far as this voter knows.
    pub leader: Option<NodeId>,
    /// In which epoch.
    pub epoch: i32,
    /// What it is given.
    pub given: Given,
}

/// What an observer is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing: this voter does not lead.
    NotLeader,
    /// Batches, none if nothing was committed while the observer waited.
    Records {
        /// As they lie in the log.
        batches: Bytes,
        /// The offset after the last committed record.
        committed: i64,
        /// The first offset that is in the log.
        start: i64,
    },
    /// The records that are wanted are gone; this snapshot stands for them.
    Snapshot {
        /// The offset after its last record.
        end_offset: i64,
        /// The epoch of that record.
        epoch: i32,
    },
    /// A piece of a snapshot.
    Piece {
        /// The piece.
        bytes: Bytes,
        /// Bytes of the whole snapshot.
        size: u64,
    },
    /// There is no such snapshot any more.
    NoSnapshot,
    /// The observer has records that are not those of this log.
    Diverged,
    /// The disk failed.
    Failed(String),
}

/// How far an observer is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observer {
    /// Its node.
    pub id: NodeId,
    /// The id of its log directory, or zero.
    pub directory: Uuid,
    /// The offset after the last record that it has.
    pub end_offset: i64,
    /// When it asked last, in milliseconds since the epoch.
    pub fetched_ms: i64,
    /// When it had last everything that was committed, in milliseconds since the epoch; -1 if it never had.
    pub caught_up_ms: i64,
    /// What was committed when it asked last.
    committed: i64,
}

impl From<Observer> for ReplicaState {
    fn from(observer: Observer) -> ReplicaState {
        ReplicaState {
            node: observer.id,
            directory: observer.directory,
            end_offset: observer.end_offset,
            heard_ms: observer.fetched_ms,
            caught_up_ms: observer.caught_up_ms,
            // It asks, and is not asked.
            endpoints: Vec::new(),
        }
    }
}

/// An observer that is not answered.
#[derive(Debug)]
struct Waiting {
    token: u64,
    pull: Pull,
    until: Mono,
}

impl Waiting {
    /// Whether there is nothing yet that it could be given.
    fn waits(&self, now: Now, committed: i64) -> bool {
        matches!(self.pull.wanted, Wanted::Records { from, .. } if from == committed) && now.mono < self.until
    }
}

/// The observers of a quorum.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    waiting: Vec<Waiting>,
    known: BTreeMap<NodeId, Observer>,
}

impl Observers {
    /// An observer asks.
    pub(crate) fn pull(&mut self, token: u64, pull: Pull, now: Now) {
        let wait_ms = match pull.wanted {
            Wanted::Records { wait_ms, .. } if self.waiting.len() < MOST_OBSERVERS => wait_ms.max(0),
            Wanted::Records { .. } | Wanted::Piece { .. } => 0,
        };
        self.waiting.push(Waiting { token, pull, until: now.mono.after_ms(wait_ms) });
    }

    /// When the next one has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Answers everybody who need not wait.
    pub(crate) fn answer(
        &mut self,
        shared: &Shared,
        (epoch, leader): (i32, Option<NodeId>),
        now: Now,
        events: &mut Vec<Event>,
    ) {
        let leads = leader == Some(shared.node);
        if !leads {
            self.known.clear();
        }
        let committed = shared.applied.next_offset;
        for waiting in std::mem::take(&mut self.waiting) {
            if leads {
                self.note(&waiting.pull, now, committed);
            }
            if leads && waiting.waits(now, committed) {
                self.waiting.push(waiting);
                continue;
            }
            let given = if leads { give(shared, &waiting.pull.wanted) } else { Given::NotLeader };
            events.push(Event::Pulled { token: waiting.token, pulled: Pulled { leader, epoch, given } });
        }
    }

    /// The observers of the last minutes, and how far they are; of a voter that leads.
    pub(crate) fn known(&self, wall_ms: i64) -> impl Iterator<Item = Observer> {
        self.known.values().filter(move |known| wall_ms - known.fetched_ms < FORGOTTEN_MS).copied()
    }

    /// Notes how far an observer is; it has caught up if it has all that was committed now, or when it asked last.
    fn note(&mut self, pull: &Pull, now: Now, committed: i64) {
        let (Some(id), &Wanted::Records { from, .. }) = (pull.observer, &pull.wanted) else { return };
        let before = self.known.get(&id).copied();
        if before.is_none() && self.known.len() >= MOST_OBSERVERS {
            self.known.retain(|_, known| now.wall_ms - known.fetched_ms < FORGOTTEN_MS);
            if self.known.len() >= MOST_OBSERVERS {
                return;
            }
        }
        let caught_up_ms = match before {
            _ if from >= committed => now.wall_ms,
            Some(before) if from >= before.committed => before.fetched_ms.max(before.caught_up_ms),
            Some(before) => before.caught_up_ms,
            None => -1,
        };
        let directory = pull.directory;
        let known =
            Observer { id, directory, end_offset: from, fetched_ms: now.wall_ms, caught_up_ms, committed };
        self.known.insert(id, known);
    }
}

fn give(shared: &Shared, wanted: &Wanted) -> Given {
    let given = match wanted {
        Wanted::Records { from, last_epoch, max_bytes, .. } => {
            records(shared, *from, *last_epoch, *max_bytes)
        }
        Wanted::Piece { end_offset, epoch, position, max_bytes } => {
            piece(shared, (*end_offset, *epoch), *position, *max_bytes)
        }
    };
    given.unwrap_or_else(|error| Given::Failed(error.to_string()))
}

fn records(shared: &Shared, from: i64, last_epoch: Option<i32>, max_bytes: usize) -> io::Result<Given> {
    let (log, committed) = (&shared.log, shared.applied.next_offset);
    let start = log.start_offset().min(committed);
    if from < start {
        let snapshot = shared.snapshot.as_ref().ok_or_else(|| io::Error::other("there is no snapshot"))?;
        let (end_offset, epoch) = id(snapshot);
        return Ok(Given::Snapshot { end_offset, epoch });
    }
    let here = log.epoch_before(from);
    if from > committed || here.zip(last_epoch).is_some_and(|(here, there)| here != there) {
        return Ok(Given::Diverged);
    }
    let batches = log.batches_from(from, committed, max_bytes.min(MOST_BYTES))?;
    Ok(Given::Records { batches, committed, start })
}

fn piece(shared: &Shared, wanted: (i64, i32), position: u64, max_bytes: usize) -> io::Result<Given> {
    let Some(snapshot) = shared.snapshot.as_ref().filter(|snapshot| id(snapshot) == wanted) else {
        return Ok(Given::NoSnapshot);
    };
    let max_bytes = max_bytes.min(MOST_BYTES);
    let (bytes, size) = snapshot::read_piece(&*shared.disk, shared.dir, snapshot.id, position, max_bytes)?;
    Ok(Given::Piece { bytes, size })
}

/// A snapshot as observers name it.
fn id(snapshot: &snapshot::Meta) -> (i64, i32) {
    (snapshot.id.end_offset, i32::try_from(term(&snapshot.id.id)).unwrap_or(i32::MAX))
}

// ---- what an observer makes of it

/// The committed records in batches of the log, of which the first must begin at `from`; why they are none.
pub fn read_batches(mut batches: Bytes, from: i64) -> Result<Vec<Committed>, String> {
    let mut read = Vec::new();
    let mut next = from;
    while !batches.is_empty() {
        let batch = Batch::verify(&batches).map_err(|error| error.to_string())?;
        let entry = codec::decode(&batch)?;
        let (base_offset, next_offset) = (batch.header().base_offset, batch.header().next_offset());
        if base_offset != next || next_offset != base_offset.saturating_add(codec::offsets(&entry)) {
            return Err(format!("records {base_offset} to {next_offset} where {next} is the next"));
        }
        let epoch = i32::try_from(term(&entry.log_id)).unwrap_or(i32::MAX);
        let values = match entry.payload {
            EntryPayload::Normal(records) => records.values,
            EntryPayload::Blank | EntryPayload::Membership(_) => vec![],
        };
        read.push(Committed { base_offset, next_offset, epoch, values });
        next = next_offset;
        batches = batches.slice(batch.bytes().len()..);
    }
    Ok(read)
}

/// The values in the file of the snapshot of this end and epoch; why it is none.
pub fn read_snapshot(file: Bytes, end_offset: i64, epoch: i32) -> Result<Vec<Bytes>, String> {
    let (meta, values) = snapshot::read(file, end_offset)?;
    match id(&meta) == (end_offset, epoch) {
        true => Ok(values),
        false => Err(format!("a snapshot of epoch {} in place of {epoch}", id(&meta).1)),
    }
}
