//! The vocabulary between a log that computes and a host that does the I/O.
//!
//! A running log emits [`Op`]s through an [`Ops`] collector and gets each one's [`Done`] back, at once or later;
//! correctness never depends on which. A host executes the operations of one collector in order; operations on one file
//! never overtake each other. Only recovery at start-up and the metadata log use the blocking [`Disk`].

use std::fmt;
use std::io;

use bytes::Bytes;

/// One of the directories of `log.dirs`, by its place in that list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(pub u16);

/// A file that a log has opened, unique while the host runs. The host binds it to a path at [`Op::Open`] and may close and
/// reopen the descriptor as it likes; a reader that holds the file keeps a deleted one readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// A path below a log directory, with `/` between its parts and no `..` among them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The log directory.
    pub dir: DirId,
    /// For example `orders-3/00000000000000000000.log`.
    pub name: String,
}

impl Path {
    /// A path in `dir`.
    pub fn new(dir: DirId, name: impl Into<String>) -> Path {
        Path { dir, name: name.into() }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dir.0, self.name)
    }
}

/// Names an operation: who asked for it (a slot of the shard's table of logs) and which of its operations it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The slot of the log that asked, or a slot the shard keeps for itself.
    pub owner: u32,
    /// Counts the operations of that owner.
    pub seq: u32,
}

/// What a log wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Binds `file` to `path`. With `create`, the first write makes the file and its directories if they are missing; everything else finds
    /// a missing file [`Fault::Missing`]. The host need not hold a descriptor until the file is used. Never waits for the disk.
    Open {
        /// The id to bind.
        file: FileId,
        /// Where.
        path: Path,
        /// A write makes it if it is missing.
        create: bool,
    },
    /// Writes `parts` one after the other at `position`; without parts it only makes the file. Done: they are in the page cache (visible to [`Op::Read`] and file ranges).
    Write {
        /// The file.
        file: FileId,
        /// Byte position of the first part.
        position: u64,
        /// The bytes, in order.
        parts: Vec<Bytes>,
    },
    /// Makes everything written to `file` before this operation durable, its directory entry included. A failure is never retried.
    Sync {
        /// The file.
        file: FileId,
    },
    /// Reads up to `len` bytes at `position`; fewer at the end of the file.
    Read {
        /// The file.
        file: FileId,
        /// Byte position.
        position: u64,
        /// At most this many bytes.
        len: u32,
    },
    /// Cuts the file to `len` bytes.
    Truncate {
        /// The file.
        file: FileId,
        /// New length in bytes.
        len: u64,
    },
    /// Replaces the file at `path` by `data` so that after a crash the old or the new content is there, whole: temporary file, sync, rename,
    /// sync of the directory.
    Replace {
        /// The file to replace.
        path: Path,
        /// Its whole content.
        data: Bytes,
    },
    /// Renames a file or directory within one log directory, durably.
    Rename {
        /// From.
        from: Path,
        /// To.
        to: Path,
    },
    /// Forgets `file`'s binding. The file stays.
    Close {
        /// The file.
        file: FileId,
    },
    /// Removes a file, or a directory and all it holds; what is missing is no error. May take long and is done in the background.
    Remove {
        /// What to remove.
        path: Path,
    },
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It happened.
    Ok,
    /// The bytes of a [`Op::Read`].
    Read(Bytes),
    /// It failed; for a write or sync nothing is known about the bytes, and the log directory goes offline.
    Failed(Fault),
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The device or quota is full.
    #[error("no space left")]
    Full,
    /// There is no such file.
    #[error("no such file")]
    Missing,
    /// Anything else, in the words of the system.
    #[error("{0}")]
    Io(String),
}

impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
            io::ErrorKind::NotFound => Fault::Missing,
            _ => Fault::Io(error.to_string()),
        }
    }
}

/// Collects operations of one owner and numbers them.
#[derive(Debug)]
pub struct Ops {
    owner: u32,
    next: u32,
    pending: Vec<(OpId, Op)>,
}

impl Ops {
    /// A collector for the owner in this slot.
    pub fn new(owner: u32) -> Ops {
        Ops { owner, next: 0, pending: Vec::new() }
    }

    /// Asks for `op`; its completion will carry the id.
    pub fn push(&mut self, op: Op) -> OpId {
        let id = OpId { owner: self.owner, seq: self.next };
        self.next = self.next.wrapping_add(1);
        self.pending.push((id, op));
        id
    }

    /// Takes what was asked for since the last call, in order.
    pub fn take(&mut self) -> Vec<(OpId, Op)> {
        std::mem::take(&mut self.pending)
    }

    /// True when nothing is waiting to be taken.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// A plain blocking disk: for recovery at start-up, offline tools and the metadata log. The node implements it with the
/// file system, the simulator with its disk model. Paths are as in [`Op`].
pub trait Disk: Send + Sync {
    /// Names of the entries directly below `path` (an empty name is the log directory itself), sorted; empty if it is missing.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Length in bytes; `None` if the file is missing.
    fn len(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Reads up to `len` bytes at `position`; fewer only at the end of the file.
    fn read(&self, path: &Path, position: u64, len: usize) -> io::Result<Bytes>;
    /// Writes at `position`, making the file and its directories if they are missing.
    fn write(&self, path: &Path, position: u64, parts: &[Bytes]) -> io::Result<()>;
    /// Finds room for `len` bytes at `position` of a file, which is made if it is missing: writing them does not find the disk full then.
    /// Changes neither length nor content. A disk that cannot promise that does nothing.
    fn reserve(&self, path: &Path, position: u64, len: u64) -> io::Result<()> {
        let _ = (path, position, len);
        Ok(())
    }
    /// Makes what was written durable, the directory entry included.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// As [`Disk::sync`] for each of `paths`; a disk may do more at once if that is faster.
    fn sync_all(&self, paths: &[Path]) -> io::Result<()> {
        paths.iter().try_for_each(|path| self.sync(path))
    }
    /// Cuts to `len` bytes.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// As [`Op::Replace`].
    fn replace(&self, path: &Path, data: &[u8]) -> io::Result<()>;
    /// As [`Op::Rename`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// As [`Op::Remove`], but done when it returns.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// True for a directory.
    pub is_dir: bool,
    /// Length in bytes of a file, 0 of a directory.
    pub len: u64,
}
