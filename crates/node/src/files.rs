//! The files of one shard: which id stands for which path, a bounded set of open descriptors, and the operations of the
//! broker carried out on them. Writes and warm reads happen at once; syncs, cold reads, replacements and removals go
//! to threads of their own and come back through the mailbox.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::{Done, Fault, FileId, Op, OpId, Path};
use moldau_broker::ConnId;
use rustix::io::ReadWriteFlags;

use crate::background::{Background, Job};
use crate::bindings::{Binding, Bindings};
use crate::conn::Cold;
use crate::fs;

/// Most parts that one `pwritev` takes (IOV_MAX is 1024).
const PARTS_PER_WRITE: usize = 512;
/// So many closed files may stand in the line of open ones before it is cleared.
const STALE_UNTIL: usize = 64;

/// An open file, and the log directory whose thread may wait for it.
#[derive(Clone)]
pub struct Opened {
    /// The file.
    pub file: Arc<File>,
    /// The log directory.
    pub dir: u16,
}

/// The files of a shard.
pub struct Files {
    dirs: Vec<PathBuf>,
    bindings: Bindings,
    /// Open descriptors, with a time before which they were not used, from the oldest on. One that was used since goes to the
    /// end when it comes to the front, and one that was closed goes then, so that using and closing a file cost nothing here.
    by_use: VecDeque<(u64, FileId)>,
    /// Descriptors now open.
    open: usize,
    clock: u64,
    most_open: usize,
    background: Background,
}

impl Files {
    /// No files yet; at most `most_open` descriptors are kept.
    pub fn new(dirs: Vec<PathBuf>, most_open: usize, background: Background) -> Files {
        let (bindings, by_use) = (Bindings::default(), VecDeque::new());
        Files { dirs, bindings, by_use, open: 0, clock: 0, most_open, background }
    }

    /// Carries out one operation. `None`: its end will come through the mailbox.
    pub fn run(&mut self, id: OpId, op: Op) -> Option<Done> {
        match op {
            Op::Open { file, path, create } => Some(finish(self.bind(file, &path, create))),
            Op::Write { file, position, parts } => Some(finish(self.write(file, position, &parts))),
            Op::Truncate { file, len } => Some(finish(self.open(file).and_then(|open| open.set_len(len)))),
            Op::Read { file, position, len } => self.read(id, file, position, len),
            Op::Sync { file } => match self.open(file) {
                Ok(open) => {
                    let binding = self.bindings.get_mut(file)?;
                    let (dir, fresh) = (binding.dir, std::mem::take(&mut binding.fresh));
                    let fresh = fresh.then(|| self.bindings.path(file)).flatten();
                    self.background.sync(dir, id, open, fresh);
                    None
                }
                Err(error) => Some(failed(&error)),
            },
            Op::Replace { path, data } => self.replace(id, &path, data),
            Op::Rename { from, to } => self.rename(id, &from, &to),
            Op::Remove { path } => self.later(&path, |path| Job::Remove { id, path }),
            Op::Close { file } => {
                let before = self.bindings.remove(file);
                self.closed(before);
                Some(Done::Ok)
            }
        }
    }

    fn bind(&mut self, file: FileId, path: &Path, create: bool) -> io::Result<()> {
        let dir = path.dir.0;
        let path = fs::locate(&self.dirs, path)?;
        let before = self.bindings.bind(file, &path, dir, create);
        self.closed(before);
        Ok(())
    }

    /// A binding is gone.
    fn closed(&mut self, binding: Option<Binding>) {
        if binding.is_some_and(|binding| binding.open.is_some()) {
            self.open -= 1;
        }
        if self.by_use.len() > 2 * self.open + STALE_UNTIL {
            let is_open =
                |file: &FileId| self.bindings.get(*file).is_some_and(|binding| binding.open.is_some());
            self.by_use.retain(|(_, file)| is_open(file));
        }
    }

    /// A descriptor of the file, opened if need be; what is missing is an error.
    pub fn open(&mut self, file: FileId) -> io::Result<Arc<File>> {
        self.obtain(file, fs::open_existing)
    }

    /// The same; a file that may be made is made.
    fn make(&mut self, file: FileId) -> io::Result<Arc<File>> {
        match self.bindings.get(file) {
            Some(binding) if binding.create => self.obtain(file, fs::open_or_make),
            _ => self.open(file),
        }
    }

    fn obtain(
        &mut self,
        file: FileId,
        open: impl FnOnce(&std::path::Path) -> io::Result<File>,
    ) -> io::Result<Arc<File>> {
        self.clock += 1;
        let unknown = || io::Error::new(ErrorKind::NotFound, format!("file {} is not open", file.0));
        let binding = self.bindings.get_mut(file).ok_or_else(unknown)?;
        binding.used = self.clock;
        if let Some(open) = &binding.open {
            return Ok(open.clone());
        }
        let path = self.bindings.path(file).ok_or_else(unknown)?;
        let known = path.exists();
        let open = Arc::new(open(&path)?);
        self.make_room();
        let binding = self.bindings.get_mut(file).ok_or_else(unknown)?;
        binding.fresh |= !known;
        binding.open = Some(open.clone());
        self.open += 1;
        self.by_use.push_back((self.clock, file));
        Ok(open)
    }

    /// The same, to be sent from.
    pub fn opened(&mut self, file: FileId) -> io::Result<Opened> {
        let open = self.open(file)?;
        Ok(Opened { file: open, dir: self.bindings.get(file).map_or(0, |binding| binding.dir) })
    }

    /// Has a part of a file brought into memory; the mailbox tells the connection.
    pub fn warm(&self, conn: ConnId, cold: Cold) {
        let Cold { opened: Opened { file, dir }, position, len } = cold;
        self.background.send(dir, Job::Warm { conn, file, position, len });
    }

    /// Closes descriptors that were not used for long, until one more may be open.
    fn make_room(&mut self) {
        while self.open >= self.most_open.max(1) {
            let Some((since, file)) = self.by_use.pop_front() else { return };
            match self.bindings.get_mut(file).filter(|binding| binding.open.is_some()) {
                Some(binding) if binding.used > since => self.by_use.push_back((binding.used, file)),
                Some(binding) => {
                    binding.open = None;
                    self.open -= 1;
                }
                None => {}
            }
        }
    }

    /// Descriptors now open.
    pub fn open_count(&self) -> usize {
        self.open
    }

    fn write(&mut self, file: FileId, mut position: u64, parts: &[Bytes]) -> io::Result<()> {
        let open = self.make(file)?;
        for parts in parts.chunks(PARTS_PER_WRITE) {
            let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                match rustix::io::pwritev(&open, rest, position) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        position += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// What is in memory is read at once; the rest by a thread that may wait for the disk.
    fn read(&mut self, id: OpId, file: FileId, position: u64, len: u32) -> Option<Done> {
        let open = match self.open(file) {
            Ok(open) => open,
            Err(error) => return Some(failed(&error)),
        };
        let mut bytes = vec![0; len as usize];
        let mut slices = [io::IoSliceMut::new(&mut bytes)];
        match rustix::io::preadv2(&open, &mut slices, position, ReadWriteFlags::NOWAIT) {
            Ok(n) if n == len as usize => Some(Done::Read(bytes.into())),
            _ => {
                let dir = self.bindings.get(file).map_or(0, |binding| binding.dir);
                self.background.send(dir, Job::Read { id, file: open, position, len });
                None
            }
        }
    }

    fn later(&mut self, path: &Path, job: impl FnOnce(PathBuf) -> Job) -> Option<Done> {
        match fs::locate(&self.dirs, path) {
            Ok(located) => {
                self.background.send(path.dir.0, job(located));
                None
            }
            Err(error) => Some(failed(&error)),
        }
    }

    /// The directory is opened at once: should it be renamed before the file is written, the file goes with it, and never into a
    /// directory that has come under the old name.
    fn replace(&mut self, id: OpId, path: &Path, data: Bytes) -> Option<Done> {
        let opened = fs::locate(&self.dirs, path).and_then(|path| fs::Replacement::begin(&path));
        match opened {
            Ok(replacement) => {
                self.background.send(path.dir.0, Job::Replace { id, replacement, data });
                None
            }
            Err(error) => Some(failed(&error)),
        }
    }

    /// The name changes at once, so that what is opened under the old one afterwards is another file; that the change lasts
    /// waits for the disk.
    fn rename(&mut self, id: OpId, from: &Path, to: &Path) -> Option<Done> {
        let renamed = fs::locate(&self.dirs, from).and_then(|old| {
            let new = fs::locate(&self.dirs, to)?;
            std::fs::rename(&old, &new)?;
            Ok((old, new))
        });
        match renamed {
            Ok((old, new)) => {
                self.bindings.moved(&old, &new);
                self.background.sync_name(to.dir.0, id, new);
                None
            }
            Err(error) => Some(failed(&error)),
        }
    }
}

fn finish(result: io::Result<()>) -> Done {
    match result {
        Ok(()) => Done::Ok,
        Err(error) => failed(&error),
    }
}

/// An operation's failure as the broker is told.
pub fn failed(error: &io::Error) -> Done {
    Done::Failed(Fault::from(error))
}

#[cfg(test)]
mod tests {
    use moldau_base::disk::DirId;

    use super::*;
    use crate::background::Threads;

    #[test]
    fn the_descriptor_that_was_not_used_for_longest_is_closed() {
        let dir = std::env::temp_dir().join(format!("moldau-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let background = Threads::start(&[std::env::temp_dir()], 16).unwrap().of(Arc::default());
        let mut files = Files::new(vec![dir.clone()], 2, background);
        for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
            files.bind(FileId(id), &Path::new(DirId(0), name), true).unwrap();
        }
        let mut opened_after = |uses: &[u64]| {
            uses.iter().for_each(|id| drop(files.make(FileId(*id)).unwrap()));
            let open =
                |id: &u64| files.bindings.get(FileId(*id)).is_some_and(|binding| binding.open.is_some());
            assert_eq!(files.open_count(), 2);
            [1, 2, 3].into_iter().filter(open).collect::<Vec<u64>>()
        };
        assert_eq!(opened_after(&[1, 2]), [1, 2]);
        assert_eq!(opened_after(&[1, 3]), [1, 3], "b was not used since it was opened");
        assert_eq!(opened_after(&[3, 1, 3, 2]), [2, 3], "a was used before c");
        for round in 0..1000 {
            let (id, file) = (OpId { owner: 0, seq: round }, FileId(4));
            files.bind(file, &Path::new(DirId(0), "d"), true).unwrap();
            drop(files.make(file).unwrap());
            files.run(id, Op::Close { file });
        }
        assert!(files.open_count() == 1 && files.by_use.len() <= 2 + STALE_UNTIL, "{}", files.by_use.len());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_a_write_makes_a_file() {
        let dir = std::env::temp_dir().join(format!("moldau-makes-{}", std::process::id()));
        let background = Threads::start(&[std::env::temp_dir()], 16).unwrap().of(Arc::default());
        let mut files = Files::new(vec![dir.clone()], 2, background);
        let (id, file) = (OpId { owner: 0, seq: 0 }, FileId(1));
        files.bind(file, &Path::new(DirId(0), "t-0/0.log"), true).unwrap();
        let missing = Some(Done::Failed(Fault::Missing));
        assert_eq!(files.run(id, Op::Truncate { file, len: 0 }), missing);
        assert_eq!(files.run(id, Op::Sync { file }), missing);
        assert_eq!(files.run(id, Op::Read { file, position: 0, len: 1 }), missing);
        assert_eq!(files.run(id, Op::Write { file, position: 0, parts: Vec::new() }), Some(Done::Ok));
        assert_eq!(files.run(id, Op::Truncate { file, len: 0 }), Some(Done::Ok));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
