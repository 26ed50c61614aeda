//! What this node has proposed, until it is known what became of it.
//!
//! A leader that loses its place does not know whether its last entries are committed, and openraft ends them without an answer
//! when another leader's take their place. The log tells it in the end: terms never fall along a log, so an entry
//! that is not committed when one of a later term is never will be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use openraft::EntryPayload;

use crate::event::{Event, ProposalId, ProposeError};
use crate::types::{Entry, LogId, term};

/// Proposals without an outcome.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    open: BTreeSet<ProposalId>,
    /// The entries of those that were appended, by term and index: the order of any log.
    entries: BTreeMap<(u64, u64), ProposalId>,
}

impl Proposals {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// One more.
    pub(crate) fn add(&mut self, id: ProposalId) {
        self.open.insert(id);
    }

    /// Entries are about to be appended; those that came from another leader are nobody's proposal here.
    pub(crate) fn appended(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let EntryPayload::Normal(records) = &entry.payload
                && let Some(id) = records.proposal
            {
                self.entries.insert((term(&entry.log_id), entry.log_id.index), id);
            }
        }
    }

    /// This entry is committed, and everything before it has been named.
    pub(crate) fn committed(&mut self, id: &LogId, base_offset: i64, events: &mut VecDeque<Event>) {
        while let Some(entry) = self.entries.first_entry().filter(|first| first.key().0 < term(id)) {
            let proposal = entry.remove();
            self.end(proposal, Err(ProposeError::NotLeader(None)), events);
        }
        if let Some(proposal) = self.entries.remove(&(term(id), id.index)) {
            self.end(proposal, Ok(base_offset), events);
        }
    }

    /// A snapshot tells what was committed up to this entry, and not in which entries.
    pub(crate) fn skipped(&mut self, last: &LogId, events: &mut VecDeque<Event>) {
        for (_, proposal) in
            self.entries.extract_if(.., |(_, index), _| *index <= last.index).collect::<Vec<_>>()
        {
            let why = "a snapshot came in the place of the entry".to_owned();
            self.end(proposal, Err(ProposeError::Unknown(why)), events);
        }
    }

    /// One has its outcome, if it had none.
    pub(crate) fn end(
        &mut self,
        id: ProposalId,
        result: Result<i64, ProposeError>,
        events: &mut VecDeque<Event>,
    ) {
        if self.open.remove(&id) {
            events.push_back(Event::Proposed { id, result });
        }
    }

    /// None of them will have an outcome.
    pub(crate) fn fail(&mut self, why: &str) -> impl Iterator<Item = Event> {
        self.entries.clear();
        let unknown = |id| Event::Proposed { id, result: Err(ProposeError::Unknown(why.to_owned())) };
        std::mem::take(&mut self.open).into_iter().map(unknown)
    }
}
