//! Executes the operations of running shards on the disk model, as the node does: what only touches the page cache or a name happens
//! at once, in the order in which it is asked for; a sync begins at once and ends later, and what is written meanwhile is not
//! covered by it; replacements and removals happen some time later, in no order. The scheduler decides when.

use std::collections::BTreeMap;

use bytes::Bytes;
use moldau_base::Rng;
use moldau_base::disk::{Done, Fault, FileId, Op, OpId, Path};

use super::SimDisk;
use super::inode::Reach;
use super::volume::{InodeId, moved};

/// An open file; keeps the content readable after the file was deleted.
#[derive(Clone, Debug)]
pub struct Handle {
    disk: SimDisk,
    inode: InodeId,
}

impl Handle {
    /// Bytes as the running system sees them.
    pub fn read(&self, position: u64, len: usize) -> Bytes {
        self.disk.volume().read(self.inode, position, len)
    }
}

/// What became of an operation that was submitted.
#[derive(Debug)]
pub enum Submitted {
    /// It is done.
    Done(Done),
    /// It is a sync; tell [`Queue::finish`] when it ends.
    Syncing(Sync),
    /// It happens in the background; tell [`Queue::run`] when.
    Later(Ticket),
}

/// Names an operation in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A sync under way.
#[derive(Debug)]
pub struct Sync {
    op: OpId,
    inode: InodeId,
    reach: Reach,
}

impl Sync {
    /// Who asked for it.
    pub fn owner(&self) -> u32 {
        self.op.owner
    }
}

#[derive(Clone, Debug)]
struct Open {
    path: Path,
    create: bool,
    inode: Option<InodeId>,
}

/// The operations that the shards of one process have asked for, and their open files.
#[derive(Debug)]
pub struct Queue {
    disk: SimDisk,
    background: BTreeMap<Ticket, (OpId, Op)>,
    next: u64,
    open: BTreeMap<FileId, Open>,
}

impl Queue {
    /// An empty queue on this disk, for one life of a process.
    pub fn new(disk: SimDisk) -> Queue {
        Queue { disk, background: BTreeMap::new(), next: 0, open: BTreeMap::new() }
    }

    /// Binds the name of a file that is being opened, so that a response may send from it; what it names is found when it is used.
    pub fn announce(&mut self, what: &Op) {
        if let Op::Open { file, path, create } = what {
            self.open.insert(*file, Open { path: path.clone(), create: *create, inode: None });
        }
    }

    /// Takes an operation.
    pub fn submit(&mut self, op: OpId, what: Op) -> Submitted {
        match what {
            Op::Sync { file } => match self.begin_sync(op, file) {
                Ok(sync) => Submitted::Syncing(sync),
                Err(fault) => Submitted::Done(Done::Failed(fault)),
            },
            Op::Replace { .. } | Op::Remove { .. } => {
                let ticket = Ticket(self.next);
                self.next += 1;
                self.background.insert(ticket, (op, what));
                Submitted::Later(ticket)
            }
            what => Submitted::Done(self.execute(what)),
        }
    }

    /// An operation in the background happens.
    pub fn run(&mut self, ticket: Ticket) -> Option<(OpId, Done)> {
        let (op, what) = self.background.remove(&ticket)?;
        Some((op, self.execute(what)))
    }

    /// The process dies in the middle of an operation: a write is torn, anything else has not begun.
    pub fn tear(&mut self, what: &Op, rng: &mut Rng) {
        if let Op::Write { file, position, parts } = what
            && let Ok(inode) = self.made(*file)
        {
            let len = parts.iter().map(Bytes::len).sum::<usize>();
            let torn = rng.below(len as u64 + 1) as usize;
            self.disk.volume().write_torn(inode, *position, parts, torn);
        }
    }

    /// A sync ends.
    pub fn finish(&mut self, sync: Sync) -> (OpId, Done) {
        let ended = self.disk.volume().sync_ends(sync.inode, sync.reach);
        (sync.op, ended.map_or_else(|error| Done::Failed(Fault::from(&error)), |()| Done::Ok))
    }

    /// What `file` is bound to, for a reader that will send from it.
    pub fn handle(&mut self, file: FileId) -> Option<Handle> {
        self.bound(file).ok().map(|inode| Handle { disk: self.disk.clone(), inode })
    }

    /// The process ends: some of what was to happen in the background has happened.
    pub fn kill(&mut self, rng: &mut Rng) {
        for ticket in self.background.keys().copied().collect::<Vec<Ticket>>() {
            if rng.chance(1, 2) {
                self.run(ticket);
            }
        }
        self.background.clear();
    }

    fn execute(&mut self, op: Op) -> Done {
        let done = match op {
            Op::Sync { .. } => Ok(()),
            Op::Open { file, path, create } => {
                self.bind(file, path, create);
                Ok(())
            }
            Op::Write { file, position, parts } => self.write(file, position, &parts),
            Op::Read { file, position, len } => match self.bound(file) {
                Ok(inode) => return Done::Read(self.disk.volume().read(inode, position, len as usize)),
                Err(fault) => Err(fault),
            },
            Op::Truncate { file, len } => {
                self.bound(file).map(|inode| self.disk.volume().truncate(inode, len))
            }
            Op::Replace { path, data } => {
                self.disk.volume().replace(&path, data).map_err(|e| Fault::from(&e))
            }
            Op::Rename { from, to } => self.rename(&from, &to),
            Op::Close { file } => {
                self.open.remove(&file);
                Ok(())
            }
            Op::Remove { path } => {
                self.disk.volume().remove(&path);
                Ok(())
            }
        };
        done.map_or_else(Done::Failed, |()| Done::Ok)
    }

    /// Renames; names that are bound follow. So does what is being replaced in a directory, since the directory was opened when that was
    /// asked for.
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Fault> {
        self.disk.volume().rename(from, to).map_err(|e| Fault::from(&e))?;
        for (_, op) in self.background.values_mut() {
            if let Op::Replace { path, .. } = op
                && let Some(target) = moved(path, from, to)
            {
                *path = target;
            }
        }
        for open in self.open.values_mut() {
            if let Some(path) = moved(&open.path, from, to) {
                open.path = path;
            }
        }
        Ok(())
    }

    /// Binds a name; the first write makes the file. What had the name when it was announced may have been renamed since.
    fn bind(&mut self, file: FileId, path: Path, create: bool) {
        let inode = self.disk.volume().find(&path);
        let open = self.open.entry(file).or_insert(Open { path: path.clone(), create, inode });
        if open.inode.is_none() {
            (open.path, open.inode) = (path, inode);
        }
    }

    fn bound(&mut self, file: FileId) -> Result<InodeId, Fault> {
        let open = self.open.get_mut(&file).ok_or(Fault::Missing)?;
        if open.inode.is_none() {
            open.inode = self.disk.volume().find(&open.path);
        }
        open.inode.ok_or(Fault::Missing)
    }

    /// The file, made if it is missing.
    fn made(&mut self, file: FileId) -> Result<InodeId, Fault> {
        match self.bound(file) {
            Err(Fault::Missing) => {}
            bound => return bound,
        }
        let open = self.open.get_mut(&file).filter(|open| open.create).ok_or(Fault::Missing)?;
        let inode = self.disk.volume().find_or_create(&open.path).map_err(|e| Fault::from(&e))?;
        open.inode = Some(inode);
        Ok(inode)
    }

    fn write(&mut self, file: FileId, position: u64, parts: &[Bytes]) -> Result<(), Fault> {
        let inode = self.made(file)?;
        self.disk.volume().write_or_fail(inode, position, parts).map_err(|e| Fault::from(&e))
    }

    fn begin_sync(&mut self, op: OpId, file: FileId) -> Result<Sync, Fault> {
        let inode = self.bound(file)?;
        let reach = self.disk.volume().sync_begins(inode).ok_or(Fault::Missing)?;
        Ok(Sync { op, inode, reach })
    }
}
