//! The storage that openraft is given: its log, its vote, and the state machine, which hands committed
//! entries to the host.
//!
//! All of it is one [`Shared`] on one thread; a call into it finishes, its disk writes included, before it
//! returns.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use moldau_base::disk::{DirId, Disk, Fault};
use moldau_base::{NodeId, Uuid};
use moldau_batch::Batch;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{EntryPayload, LogState, RaftLogReader, RaftSnapshotBuilder};

use crate::calls::Calls;
use crate::codec;
use crate::event::{Committed, Event};
use crate::log::Log;
use crate::progress::Progress;
use crate::proposals::Proposals;
use crate::serve::Incoming;
use crate::snapshot::{self, Meta, SnapshotFile, SnapshotId};
use crate::types::{Entry, LogId, Membership, StoredMembership, Types, Vote, Voter, term};
use crate::vote;

/// What the log, the state machine and the host share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: DirId,
    pub(crate) node: NodeId,
    /// The voters in the configuration, with which a log begins; empty on a node that is to join a quorum.
    pub(crate) configured: BTreeMap<NodeId, Voter>,
    pub(crate) directory: Uuid,
    /// The nodes that the log names last, whether that is committed or not.
    pub(crate) named: Arc<StoredMembership>,
    /// Something that was said of this node and cannot be right; said once.
    pub(crate) warned: Option<String>,
    pub(crate) log: Log,
    pub(crate) vote: Option<Vote>,
    /// The host's wall clock at its last input.
    pub(crate) wall_ms: i64,
    pub(crate) applied: Applied,
    pub(crate) snapshot: Option<Meta>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) proposals: Proposals,
    pub(crate) calls: Calls,
    /// How far the others are, while this node leads.
    pub(crate) progress: Progress,
    /// The batches of entries that came from the leader, by their index, until they are appended.
    pub(crate) received: BTreeMap<u64, Batch>,
    /// A snapshot that comes from the leader in pieces.
    pub(crate) incoming: Option<Incoming>,
    /// The leader is known to be dead: its lease does not stand in the way of an election.
    pub(crate) leader_lost: bool,
}

/// How far entries have been handed to the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    pub(crate) id: Option<LogId>,
    pub(crate) next_offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) membership: StoredMembership,
}

impl Applied {
    pub(crate) fn from(meta: &Meta) -> Applied {
        Applied {
            id: Some(meta.id.id),
            next_offset: meta.id.end_offset,
            timestamp: meta.timestamp,
            membership: meta.membership.clone(),
        }
    }
}

impl Shared {
    /// Hands a committed entry to the host; answers with the offset of its first record.
    fn apply(&mut self, entry: Entry) -> i64 {
        let base_offset = self.applied.next_offset;
        let next_offset = base_offset + codec::offsets(&entry);
        let id = entry.log_id;
        let values = match entry.payload {
            EntryPayload::Blank => vec![],
            EntryPayload::Membership(membership) => {
                self.applied.membership = StoredMembership::new(Some(id), membership);
                vec![]
            }
            EntryPayload::Normal(records) => {
                self.applied.timestamp = records.timestamp;
                records.values
            }
        };
        self.applied.id = Some(id);
        self.applied.next_offset = next_offset;
        self.log.applied(id.index);
        let epoch = i32::try_from(term(&id)).unwrap_or(i32::MAX);
        self.events.push_back(Event::Committed(Committed { base_offset, next_offset, epoch, values }));
        self.proposals.committed(&id, base_offset, &mut self.events);
        base_offset
    }

    /// Finds room for entries of `bytes`; why there is none. What else is wrong with the log shows when it is appended to.
    pub(crate) fn no_room(&mut self, bytes: u64) -> Option<String> {
        let error = self.log.find_room(bytes).err()?;
        (Fault::from(&error) == Fault::Full).then(|| error.to_string())
    }

    /// Writes a snapshot of everything applied so far. False when nothing is new since the last one.
    pub(crate) fn write_snapshot(&mut self, values: impl Iterator<Item = Bytes>) -> io::Result<bool> {
        let Some(id) = self.applied.id else { return Ok(false) };
        let meta = Meta {
            id: SnapshotId { id, end_offset: self.applied.next_offset },
            timestamp: self.applied.timestamp,
            membership: self.applied.membership.clone(),
        };
        if self.snapshot.as_ref().is_some_and(|last| last.id == meta.id) {
            return Ok(false);
        }
        snapshot::write(&self.disk, self.dir, &meta, values)?;
        self.snapshot = Some(meta);
        self.log.roll();
        Ok(true)
    }

    /// Whether an entry with this id may have the place that it names: what is committed here stays.
    pub(crate) fn may_hold(&self, id: &LogId) -> bool {
        let Some(applied) = self.applied.id.filter(|applied| id.index <= applied.index) else { return true };
        let term_here = self.log.term_at(id.index).or((id.index == applied.index).then(|| term(&applied)));
        term_here.map_or(term(id) <= term(&applied), |here| here == term(id))
    }

    /// Refuses a log that does not know the voters that are configured: it is that of other voters. Whom it knows besides, and who
    /// of them still votes, has changed since it began.
    pub(crate) fn check_voters(&self, membership: &Membership) -> Result<(), String> {
        let known: BTreeSet<NodeId> = membership.nodes().map(|(node, _)| *node).collect();
        match self.configured.keys().all(|node| known.contains(node)) {
            true => Ok(()),
            false => {
                let configured: Vec<&NodeId> = self.configured.keys().collect();
                Err(format!("it names the voters {known:?}, the configuration {configured:?}"))
            }
        }
    }

    /// Refuses nodes that are not configured while the log says nothing of others: these begin another quorum.
    pub(crate) fn check_caller(&self, from: NodeId) -> Result<(), String> {
        let begins = self.is_fresh() && !self.configured.is_empty();
        match begins && !self.configured.contains_key(&from) {
            true => Err(format!(
                "node {from} is not among the voters that this node knows (controller.quorum.voters)"
            )),
            false => Ok(()),
        }
    }

    /// The directory that a node should have by this log; zero while that is not known. A voter that has just started has applied nothing
    /// and knows it all the same, or a disk that was replaced could elect it.
    pub(crate) fn directory_of(&self, node: NodeId) -> Uuid {
        self.named.membership().get_node(&node).map_or(Uuid::ZERO, |voter| voter.directory)
    }

    /// This node's log holds nothing but the voters with which every log begins.
    pub(crate) fn is_fresh(&self) -> bool {
        self.log.last().is_none_or(|last| last.index == 0)
    }

    /// Says something that an operator has to mend, once.
    pub(crate) fn warn(&mut self, what: &str) {
        if self.warned.as_deref() != Some(what) {
            self.warned = Some(what.to_owned());
            self.events.push_back(Event::Warning(what.to_owned()));
        }
    }

    /// The bytes of the last snapshot.
    pub(crate) fn read_snapshot(&self) -> io::Result<(SnapshotId, Bytes)> {
        let meta = self.snapshot.as_ref().ok_or_else(|| io::Error::other("no snapshot has been written"))?;
        Ok((meta.id, snapshot::read_file(&*self.disk, self.dir, meta.id)?))
    }

    /// Puts a snapshot of the leader in the place of everything up to it.
    fn install(&mut self, last: LogId, file: &Bytes, end_offset: i64) -> io::Result<()> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let (meta, values) = snapshot::read(file.clone(), end_offset).map_err(invalid)?;
        if meta.id.id != last {
            return Err(invalid(format!("a snapshot of entry {} in place of {last}", meta.id.id)));
        }
        snapshot::write_file(&*self.disk, self.dir, meta.id, file)?;
        self.log.follow(meta.id)?;
        self.applied = Applied::from(&meta);
        self.events.push_back(Event::Restored { next_offset: end_offset, values });
        self.proposals.skipped(&last, &mut self.events);
        self.snapshot = Some(meta);
        Ok(())
    }

    fn snapshot_meta(&self) -> Option<SnapshotMetaOf<Types>> {
        let meta = self.snapshot.as_ref()?;
        Some(SnapshotMetaOf::<Types> {
            last_log_id: Some(meta.id.id),
            last_membership: meta.membership.clone(),
        })
    }
}

/// A handle on [`Shared`] that openraft holds.
#[derive(Clone)]
pub(crate) struct Store(pub(crate) Rc<RefCell<Shared>>);

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.0.borrow().log.entries(start..end)
    }

    /// What is sent to a voter. A stream may still ask for entries that have been purged meanwhile: then there are none for it, not those that
    /// come after them, and it ends ([`crate::peers`]).
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.0.borrow().log.entries(start..end)?;
        let is_whole = entries.first().is_some_and(|first| first.log_id.index == start);
        Ok(if is_whole { entries } else { Vec::new() })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.borrow().vote)
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Store;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let shared = self.0.borrow();
        Ok(LogState { last_purged_log_id: shared.log.purged(), last_log_id: shared.log.last() })
    }

    async fn get_log_reader(&mut self) -> Store {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut shared = self.0.borrow_mut();
        vote::write(&*shared.disk, shared.dir, vote, shared.directory)?;
        shared.vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry>,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let result = {
            let shared = &mut *self.0.borrow_mut();
            shared.proposals.appended(&entries);
            let received = entries.iter().map(|entry| {
                let batch = shared.received.remove(&entry.log_id.index);
                batch.filter(|batch| codec::is(batch.header(), &entry.log_id))
            });
            let received = received.collect();
            let voters = shared.applied.membership.membership();
            shared.log.append(entries, received, shared.wall_ms, shared.node, voters)
        };
        flushed.io_completed(result);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.0.borrow_mut().log.truncate_after(last)
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        self.0.borrow_mut().log.purge(id)
    }
}

impl RaftSnapshotBuilder<Types> for Store {
    type SnapshotData = SnapshotFile;

    /// The snapshot that the host wrote last: the host owns the image, so it decides when one is written.
    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, SnapshotFile>, io::Error> {
        let meta = self.0.borrow().snapshot_meta();
        let meta = meta.ok_or_else(|| io::Error::other("no snapshot has been written"))?;
        Ok(SnapshotOf::<Types, SnapshotFile> { meta, snapshot: SnapshotFile::Here })
    }
}

impl RaftStateMachine<Types> for Store {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Store;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = &self.0.borrow().applied;
        Ok((applied.id, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let base_offset = self.0.borrow_mut().apply(entry);
            if let Some(responder) = responder {
                responder.send(base_offset);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Store {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        match (meta.last_log_id, snapshot) {
            (Some(last), SnapshotFile::Received { bytes, end_offset }) => {
                self.0.borrow_mut().install(last, &bytes, end_offset)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "this snapshot did not come from a leader")),
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, SnapshotFile>>, io::Error> {
        Ok(self
            .0
            .borrow()
            .snapshot_meta()
            .map(|meta| SnapshotOf::<Types, SnapshotFile> { meta, snapshot: SnapshotFile::Here }))
    }
}
