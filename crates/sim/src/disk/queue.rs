//! Executes the operations of running shards on the disk model.
//!
//! Operations of one owner begin in the order in which they were asked for; a sync ends later than it begins, and what is
//! written meanwhile is not covered by it. The scheduler decides when each begins and ends.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moldau_base::Rng;
use moldau_base::disk::{Done, Fault, FileId, Op, OpId, Path};

use super::SimDisk;
use super::inode::Reach;
use super::volume::InodeId;

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

/// An operation that has begun.
#[derive(Debug)]
pub enum Started {
    /// It is done.
    Done(OpId, Done),
    /// It is a sync; tell [`Queue::finish`] when it ends.
    Syncing(Sync),
}

/// A sync under way.
#[derive(Debug)]
pub struct Sync {
    op: OpId,
    inode: InodeId,
    reach: Reach,
}

#[derive(Clone, Debug)]
struct Open {
    path: Path,
    inode: Option<InodeId>,
}

/// The operations that the shards of one process have asked for, and their open files.
#[derive(Debug)]
pub struct Queue {
    disk: SimDisk,
    waiting: BTreeMap<(u16, u32), VecDeque<(OpId, Op)>>,
    open: BTreeMap<FileId, Open>,
    failing_writes: u32,
    failing_syncs: u32,
}

impl Queue {
    /// An empty queue on this disk, for one life of a process.
    pub fn new(disk: SimDisk) -> Queue {
        Queue { disk, waiting: BTreeMap::new(), open: BTreeMap::new(), failing_writes: 0, failing_syncs: 0 }
    }

    /// Takes an operation of a shard. True when its owner had nothing waiting: the caller then schedules a [`Queue::start`].
    pub fn push(&mut self, shard: u16, op: OpId, what: Op) -> bool {
        if let Op::Open { file, path, .. } = &what {
            // The name is bound at once, so that a response may send from the file; what it names is found when it is used.
            self.open.insert(*file, Open { path: path.clone(), inode: None });
        }
        let waiting = self.waiting.entry((shard, op.owner)).or_default();
        waiting.push_back((op, what));
        waiting.len() == 1
    }

    /// Operations that have not begun.
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// The next writes, or syncs, fail.
    pub fn fail_next(&mut self, writes: u32, syncs: u32) {
        self.failing_writes = writes;
        self.failing_syncs = syncs;
    }

    /// Begins the oldest waiting operation of an owner. The flag says whether more wait.
    pub fn start(&mut self, shard: u16, owner: u32) -> Option<(Started, More)> {
        let waiting = self.waiting.get_mut(&(shard, owner))?;
        let (id, op) = waiting.pop_front()?;
        let more = if waiting.is_empty() { More::No } else { More::Yes };
        Some((self.execute(id, op), more))
    }

    /// A sync ends.
    pub fn finish(&mut self, sync: Sync) -> (OpId, Done) {
        if self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            return (sync.op, Done::Failed(Fault::Io("simulated: Input/output error".to_owned())));
        }
        self.disk.volume().sync_ends(sync.inode, sync.reach);
        (sync.op, Done::Ok)
    }

    /// What `file` is bound to, for a reader that will send from it.
    pub fn handle(&mut self, file: FileId) -> Option<Handle> {
        self.bound(file).ok().map(|inode| Handle { disk: self.disk.clone(), inode })
    }

    /// The process is killed: of the operations that wait, a few at the front happen, and one is torn.
    pub fn kill(&mut self, rng: &mut Rng) {
        let owners: Vec<(u16, u32)> = self.waiting.keys().copied().collect();
        for (shard, owner) in owners {
            while rng.chance(1, 2) && self.start(shard, owner).is_some() {}
            let next = self.waiting.get_mut(&(shard, owner)).and_then(VecDeque::pop_front);
            if let Some((_, Op::Write { file, position, parts })) = next
                && let Ok(inode) = self.bound(file)
            {
                let len = parts.iter().map(Bytes::len).sum::<usize>();
                let torn = rng.below(len as u64 + 1) as usize;
                self.disk.volume().write_torn(inode, position, &parts, torn);
            }
        }
        self.waiting.clear();
    }

    fn execute(&mut self, id: OpId, op: Op) -> Started {
        let done = match op {
            Op::Sync { file } => match self.begin_sync(id, file) {
                Ok(sync) => return Started::Syncing(sync),
                Err(fault) => Err(fault),
            },
            Op::Open { file, path, create } => self.bind(file, path, create),
            Op::Write { file, position, parts } => self.write(file, position, &parts),
            Op::Read { file, position, len } => match self.bound(file) {
                Ok(inode) => {
                    return Started::Done(
                        id,
                        Done::Read(self.disk.volume().read(inode, position, len as usize)),
                    );
                }
                Err(fault) => Err(fault),
            },
            Op::Truncate { file, len } => {
                self.bound(file).map(|inode| self.disk.volume().truncate(inode, len))
            }
            Op::Replace { path, data } => {
                self.disk.volume().replace(&path, data).map_err(|e| Fault::from(&e))
            }
            Op::Rename { from, to } => self.disk.volume().rename(&from, &to).map_err(|e| Fault::from(&e)),
            Op::Close { file } => {
                self.open.remove(&file);
                Ok(())
            }
            Op::Remove { path } => {
                self.disk.volume().remove(&path);
                Ok(())
            }
        };
        Started::Done(id, done.map_or_else(Done::Failed, |()| Done::Ok))
    }

    fn bind(&mut self, file: FileId, path: Path, create: bool) -> Result<(), Fault> {
        let mut volume = self.disk.volume();
        let inode = if create { Some(volume.find_or_create(&path)) } else { volume.find(&path) };
        let open = self.open.entry(file).or_insert(Open { path, inode });
        open.inode = open.inode.or(inode);
        Ok(())
    }

    fn bound(&mut self, file: FileId) -> Result<InodeId, Fault> {
        let open = self.open.get_mut(&file).ok_or(Fault::Missing)?;
        if open.inode.is_none() {
            open.inode = self.disk.volume().find(&open.path);
        }
        open.inode.ok_or(Fault::Missing)
    }

    fn write(&mut self, file: FileId, position: u64, parts: &[Bytes]) -> Result<(), Fault> {
        let inode = self.bound(file)?;
        if self.failing_writes > 0 {
            self.failing_writes -= 1;
            let half = parts.iter().map(Bytes::len).sum::<usize>() / 2;
            self.disk.volume().write_torn(inode, position, parts, half);
            return Err(Fault::Io("simulated: Input/output error".to_owned()));
        }
        self.disk.volume().write(inode, position, parts).map_err(|e| Fault::from(&e))
    }

    fn begin_sync(&mut self, op: OpId, file: FileId) -> Result<Sync, Fault> {
        let inode = self.bound(file)?;
        let reach = self.disk.volume().sync_begins(inode).ok_or(Fault::Missing)?;
        Ok(Sync { op, inode, reach })
    }
}

/// Whether an owner has more operations waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// It has none.
    No,
    /// It has, and the caller schedules the next start.
    Yes,
}
