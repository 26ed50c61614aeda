//! The directory of a log, which has another name than the log while it is a copy, on its way to another log directory (KIP-113).
//!
//! A copy is written under a name of its own, `-future`. When it has all that the log has it is renamed to `-moved`; then the log steps
//! aside, and the copy takes its name. Each rename is durable before the next one is asked for, so that no two directories
//! ever have the partition's name, and what a crash leaves says whether the copy counts ([`crate::recover_moves`]).

use moldau_base::disk::{DirId, Done, Fault, Op, Path};
use moldau_base::{Now, Uuid};

use super::read::{Job, Read, ReadId};
use super::{IndexCache, Log, Metadata, Pending, Place, Producers, Refusal, State};
use crate::config::LogConfig;
use crate::names::{copy_dir, whole_copy_dir};
use crate::segment::FileIds;

/// A new name for the folder.
#[derive(Debug)]
pub(super) struct Renaming {
    to: String,
    /// The name before, once the rename is on its way: it waits for the operations before it.
    from: Option<String>,
    /// Reads that go on when it has ended.
    held: Vec<ReadId>,
}

impl Log {
    /// An empty log at `start` for a copy of the log `name`, in a directory of its own, which `tag` makes different from all others. `None` if
    /// the name is too long for that.
    #[expect(clippy::too_many_arguments)]
    pub fn create_copy(
        slot: u32,
        files: &mut FileIds,
        dir: DirId,
        name: String,
        tag: Uuid,
        topic: Uuid,
        config: LogConfig,
        start: i64,
    ) -> Option<Log> {
        let folder = copy_dir(&name, tag)?;
        let mut log = Log::create_at(slot, files, dir, name, topic, config, start);
        log.folder = Some(folder.into());
        Some(log)
    }

    /// The name of its directory.
    pub fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or(&self.name)
    }

    /// Whether it has anything on disk, or will have.
    pub fn is_on_disk(&self) -> bool {
        !self.segments.is_empty() || self.metadata != Metadata::Missing
    }

    /// Lets an empty log begin at another offset, as long as nothing was asked of it.
    pub fn begin_at(&mut self, start: i64) {
        if self.is_on_disk() {
            return;
        }
        let place = Place { offset: start, segment: start, position: 0 };
        (self.start, self.end, self.flushed) = (start, start, start);
        (self.written, self.synced, self.stored) = (place, place, place);
    }

    /// Whether nothing that it asked for is on its way.
    pub fn is_quiet(&self) -> bool {
        self.busy.pending.is_empty()
    }

    /// A copy has everything: gives its directory the name that says so. [`super::Events::renamed`] tells the end, of this as of the other
    /// two; reads wait for it.
    pub fn call_whole(&mut self) {
        self.rename_folder(whole_copy_dir(self.folder()));
    }

    /// Gives up the name, to a copy that has everything. What the log has can be read on.
    pub fn step_aside(&mut self) {
        let (_, to) = self.way_out();
        self.rename_folder(to.name);
    }

    /// A copy takes the name of its log, which has stepped aside.
    pub fn take_name(&mut self) {
        self.rename_folder(self.name.clone());
    }

    /// Flushes all of a copy, what was flushed included: flushes before were not told of its producers. [`super::Events::flushed`] tells the
    /// end.
    pub fn seal(&mut self, now: Now, producers: Producers<'_>) {
        self.flushed = -1;
        self.start_flush(now, producers);
    }

    /// A copy becomes the log that its operations are asked for, and the log before gets the number of the copy. Its readers have to ask
    /// the copy.
    pub fn replace(&mut self, before: &mut Log) {
        debug_assert!(self.busy.pending.is_empty(), "a copy that is used has nothing on its way");
        debug_assert!(self.ops.is_empty() && before.ops.is_empty(), "what was asked for is taken");
        before.refuse_reads(&Refusal::Deleting);
        // Numbers count on for each owner; what is on its way for the log before is nobody's.
        std::mem::swap(&mut self.ops, &mut before.ops);
        before.busy.pending.clear();
        before.events = None;
    }

    /// Whether it has stepped aside, or is about to.
    pub(super) fn is_aside(&self) -> bool {
        let (from, to) = self.way_out();
        from == to
    }

    fn rename_folder(&mut self, to: String) {
        if self.is_unusable() || self.busy.renaming.is_some() {
            return;
        }
        if !self.is_on_disk() {
            self.call_folder(to);
            self.events().renamed = Some(Ok(()));
            return;
        }
        self.busy.renaming = Some(Renaming { to, from: None, held: Vec::new() });
        self.rename_when_quiet();
    }

    /// Asks for a rename that waits, once everything that was asked for before has ended: what happens in the background is given a path.
    pub(super) fn rename_when_quiet(&mut self) {
        if self.is_unusable() || !self.busy.pending.is_empty() {
            return;
        }
        let waits = |renaming: &&Renaming| renaming.from.is_none();
        let Some(Renaming { to, .. }) = self.busy.renaming.as_ref().filter(waits) else { return };
        let (from, to) = (self.folder().to_owned(), to.clone());
        if let Some(renaming) = &mut self.busy.renaming {
            renaming.from = Some(from.clone());
        }
        self.call_folder(to.clone());
        let (from, to) = (Path::new(self.dir, from), Path::new(self.dir, to));
        self.ask(Op::Rename { from, to }, Pending::Folder);
    }

    /// A rename that is not on its way does not happen.
    pub(super) fn forget_renaming(&mut self) {
        if self.busy.renaming.as_ref().is_some_and(|renaming| renaming.from.is_none()) {
            self.busy.renaming = None;
        }
    }

    fn call_folder(&mut self, to: String) {
        self.folder = (to != self.name).then(|| to.into());
    }

    /// Without the name that it was to have, a log is what it was; after any other failure nobody knows what it is called.
    pub(super) fn folder_renamed(&mut self, cache: &mut IndexCache, done: Done) {
        let Some(Renaming { from, held, .. }) = self.busy.renaming.take() else { return };
        let renamed = match done {
            Done::Failed(Fault::Full) => Err(Fault::Full),
            Done::Failed(Fault::Missing) if self.state == State::Deleting => Ok(()),
            Done::Failed(fault) if self.state == State::Deleting => {
                self.events().offline = Some(fault);
                return;
            }
            Done::Failed(fault) => return self.go_offline(fault),
            _ => Ok(()),
        };
        if renamed.is_err() {
            from.into_iter().for_each(|from| self.call_folder(from));
        }
        if self.state == State::Deleting {
            // Its deletion took the other name for true.
            if renamed.is_err() {
                let (from, to) = self.way_out();
                self.ask(Op::Rename { from, to }, Pending::May);
            }
            return;
        }
        self.events().renamed = Some(renamed);
        for id in held {
            let Some(job) = self.busy.jobs.remove(&id) else { continue };
            match self.drive(cache, id, job) {
                Read::Pending(_) => {}
                read => self.events().reads.push((id, read)),
            }
        }
    }

    /// Keeps a read until the folder has its name: what names a file must not come between.
    pub(super) fn hold(&mut self, id: ReadId, job: Job) -> Read {
        self.busy.jobs.insert(id, job);
        if let Some(renaming) = &mut self.busy.renaming {
            renaming.held.push(id);
        }
        Read::Pending(id)
    }
}
