//! The node's disks: the blocking [`Disk`] for recovery and the metadata log, over the log directories of the configuration.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Entry, Path};
use rustix::fs::{Advice, AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::ReadWriteFlags;

/// Descriptors that the blocking interface keeps open.
const KEPT_OPEN: usize = 32;

/// The log directories of a node.
pub struct FsDisk {
    dirs: Vec<PathBuf>,
    /// Recently used files, the latest last.
    open: Mutex<Vec<(Path, Arc<File>)>>,
}

impl FsDisk {
    /// The disks behind these directories, which exist.
    pub fn new(dirs: Vec<PathBuf>) -> FsDisk {
        FsDisk { dirs, open: Mutex::new(Vec::new()) }
    }

    /// Where a path is in the file system.
    pub fn locate(&self, path: &Path) -> io::Result<PathBuf> {
        locate(&self.dirs, path)
    }

    fn file(&self, path: &Path, create: bool) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| known == path) {
            let entry = open.remove(at);
            let file = entry.1.clone();
            open.push(entry);
            return Ok(file);
        }
        let path_there = self.locate(path)?;
        let file = Arc::new(if create { open_or_make(&path_there) } else { open_existing(&path_there) }?);
        if open.len() >= KEPT_OPEN {
            open.remove(0);
        }
        open.push((path.clone(), file.clone()));
        Ok(file)
    }

    /// Closes everything: what is kept open keeps its place on the disk, even when it is removed.
    pub fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets descriptors at or below `path`, which moves or goes.
    fn forget(&self, path: &Path) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(known, _)| known.dir != path.dir || !known.name.starts_with(&path.name));
    }
}

/// Where `path` is; names that lead out of the log directory are refused.
pub fn locate(dirs: &[PathBuf], path: &Path) -> io::Result<PathBuf> {
    let bad = path.name.split('/').any(|part| part == ".." || part == ".") || path.name.starts_with('/');
    let dir = dirs.get(usize::from(path.dir.0));
    match dir {
        Some(dir) if !bad => Ok(dir.join(&path.name)),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, format!("{path} is no path in a log directory"))),
    }
}

/// Opens for reading and writing.
pub fn open_existing(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens for reading and writing; makes the file and its directories if they are missing.
pub fn open_or_make(path: &std::path::Path) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            open()
        }
        other => other,
    }
}

/// The directories whose entries lead to a path that may be fresh: its own, and the one above, since the directory may be fresh too.
pub fn directories_of(path: &std::path::Path) -> impl Iterator<Item = &std::path::Path> {
    path.ancestors().skip(1).take(2).filter(|directory| !directory.as_os_str().is_empty())
}

/// Makes the entries of a directory durable.
pub fn sync_directory(path: &std::path::Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the name at `path` durable.
pub fn sync_directory_of(path: &std::path::Path) -> io::Result<()> {
    directories_of(path).try_for_each(sync_directory)
}

/// A file that is going to be replaced as a whole, in a directory that is held open.
pub struct Replacement {
    path: PathBuf,
    directory: File,
    name: OsString,
}

impl Replacement {
    /// Opens the directory, which is made if it is missing.
    pub fn begin(path: &std::path::Path) -> io::Result<Replacement> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let directory = match File::open(parent) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(parent)?;
                File::open(parent)?
            }
            other => other?,
        };
        Ok(Replacement { path: path.to_owned(), directory, name: name.to_owned() })
    }

    /// What is replaced, as it was named when this began.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Writes beside it, syncs, renames, syncs the directory: after a crash the old or the new content is there, whole.
    pub fn finish(&self, data: &[u8]) -> io::Result<()> {
        self.write(data, File::sync_data)?;
        self.rename()?;
        self.directory.sync_all()
    }

    /// The first half, without the sync that must follow.
    pub fn write_unsynced(&self, data: &[u8]) -> io::Result<()> {
        self.write(data, |_| Ok(()))
    }

    /// The second half, once what was written is durable; the directory must be synced afterwards.
    pub fn rename(&self) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, self.temporary(), &self.directory, &self.name)?)
    }

    /// Takes back the first half.
    pub fn abandon(&self) {
        let _ = rustix::fs::unlinkat(&self.directory, self.temporary(), AtFlags::empty());
    }

    fn temporary(&self) -> OsString {
        let mut temporary = self.name.clone();
        temporary.push(".tmp");
        temporary
    }

    fn write(&self, data: &[u8], sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let opened = rustix::fs::openat(&self.directory, self.temporary(), flags, mode);
        let written = opened.map_err(io::Error::from).and_then(|file| {
            let file = File::from(file);
            file.write_all_at(data, 0)?;
            sync(&file)
        });
        if written.is_err() {
            // On a full disk it would take the place that is missing.
            self.abandon();
        }
        written
    }
}

/// Replaces a file so that after a crash the old or the new content is there, whole.
pub fn replace_file(path: &std::path::Path, data: &[u8]) -> io::Result<()> {
    Replacement::begin(path)?.finish(data)?;
    sync_directory_of(path)
}

/// Removes a file or a directory with all it holds; what is missing is no error.
pub fn remove_all(path: &std::path::Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Bytes between two places that are looked at to find out whether a part of a file is in memory.
const PROBE_STEP: u64 = 256 * 1024;

/// Bytes behind what is wanted from a disk that the kernel is told to read too: who catches up will want them next.
const READ_AHEAD: u64 = 4 * 1024 * 1024;

/// Whether a part of a file is in memory, as far as its last byte and one byte of each [`PROBE_STEP`] before it tell: the kernel reads
/// ahead and forgets in pieces of about that length.
pub fn is_in_memory(file: &File, position: u64, len: u64) -> bool {
    let last = position + len.saturating_sub(1);
    let between = (position + PROBE_STEP - 1..last).step_by(PROBE_STEP as usize);
    between.chain(std::iter::once(last)).all(|place| {
        let mut byte = [0];
        let mut slices = [io::IoSliceMut::new(&mut byte)];
        match rustix::io::preadv2(file, &mut slices, place, ReadWriteFlags::NOWAIT) {
            // A file system that cannot tell is taken to be fast; an error is met again when the file is sent.
            Err(error) => error != rustix::io::Errno::AGAIN,
            Ok(_) => true,
        }
    })
}

/// Reads a part of a file so that it is in memory, and has the kernel begin with what comes behind it.
pub fn warm(file: &File, position: u64, len: u64) -> io::Result<()> {
    let both = NonZeroU64::new(len.saturating_add(READ_AHEAD));
    let _ = rustix::fs::fadvise(file, position, both, Advice::WillNeed);
    let mut buffer = vec![0; 64 * 1024];
    let end = position + len;
    let mut at = position;
    while at < end {
        let most = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        match file.read_at(&mut buffer[..most], at) {
            Ok(0) => return Ok(()),
            Ok(n) => at += n as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// File systems by their numbers in statfs(2) of which `syncfs` makes every file durable and reports what could not be written: ext2 to
/// ext4, XFS, Btrfs, F2FS, tmpfs. Others do not hear of it, do not pass it on to where the data is (FUSE, NFS), or keep the errors (overlayfs).
const SYNCED_AS_A_WHOLE: [u32; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994];

/// Since Linux 5.8, `syncfs` reports what could not be written.
const REPORTS_ERRORS: (u32, u32) = (5, 8);

/// Whether `syncfs` can be relied on, on a file system with this number and a kernel of this release.
fn hears_syncfs(number: u32, release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    SYNCED_AS_A_WHOLE.contains(&number) && kernel >= REPORTS_ERRORS
}

/// The file system of a directory, if `syncfs` on it makes its files durable and says if it did not. What could not be written before
/// this is not reported.
pub fn synced_as_a_whole(directory: &std::path::Path) -> io::Result<Option<File>> {
    let whole = File::open(directory)?;
    let number = rustix::fs::fstatfs(&whole)?.f_type as u32;
    let release = rustix::system::uname();
    Ok(hears_syncfs(number, &release.release().to_string_lossy()).then_some(whole))
}

/// More syncs than this are one pass over the file system: each single one commits its journal.
pub const SINGLE_SYNCS: usize = 16;

impl Disk for FsDisk {
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let entries = match fs::read_dir(self.locate(path)?) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut list = Vec::new();
        for entry in entries {
            let entry = entry?;
            let meta = entry.metadata()?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_dir = meta.is_dir();
            list.push(Entry { name, is_dir, len: if is_dir { 0 } else { meta.len() } });
        }
        list.sort();
        Ok(list)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(self.locate(path)?) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, path: &Path, position: u64, len: usize) -> io::Result<Bytes> {
        let file = self.file(path, false)?;
        let left = file.metadata()?.len().saturating_sub(position);
        let mut bytes = vec![0; len.min(usize::try_from(left).unwrap_or(usize::MAX))];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.into())
    }

    fn write(&self, path: &Path, mut position: u64, parts: &[Bytes]) -> io::Result<()> {
        let file = self.file(path, true)?;
        for part in parts {
            file.write_all_at(part, position)?;
            position += part.len() as u64;
        }
        Ok(())
    }

    fn reserve(&self, path: &Path, position: u64, len: u64) -> io::Result<()> {
        use rustix::io::Errno;
        let file = self.file(path, true)?;
        match rustix::fs::fallocate(&*file, FallocateFlags::KEEP_SIZE, position, len) {
            // Not on every file system.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            reserved => Ok(reserved?),
        }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.file(path, false)?.sync_data()?;
        sync_directory_of(&self.locate(path)?)
    }

    fn sync_all(&self, paths: &[Path]) -> io::Result<()> {
        if paths.len() <= SINGLE_SYNCS {
            return paths.iter().try_for_each(|path| self.sync(path));
        }
        let used: BTreeSet<DirId> = paths.iter().map(|path| path.dir).collect();
        for dir in used {
            let Some(at) = self.dirs.get(usize::from(dir.0)) else { continue };
            match synced_as_a_whole(at)? {
                Some(whole) => rustix::fs::syncfs(whole)?,
                None => paths.iter().filter(|path| path.dir == dir).try_for_each(|path| self.sync(path))?,
            }
        }
        Ok(())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.file(path, false)?.set_len(len)
    }

    fn replace(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.forget(path);
        replace_file(&self.locate(path)?, data)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        let to = self.locate(to)?;
        fs::rename(self.locate(from)?, &to)?;
        sync_directory_of(&to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.forget(path);
        remove_all(&self.locate(path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_in_memory_and_the_end_of_a_file_is_no_error() {
        let path = std::env::temp_dir().join(format!("moldau-warm-{}", std::process::id()));
        let file = open_or_make(&path).unwrap();
        let len = 3 * PROBE_STEP + 5;
        file.write_all_at(&vec![1; len as usize], 0).unwrap();
        warm(&file, 0, len).unwrap();
        assert!(is_in_memory(&file, 0, len) && is_in_memory(&file, 7, 1));
        warm(&file, len - 1, 100).unwrap();
        assert!(is_in_memory(&file, len - 1, 100), "nothing to wait for behind the end");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_was_closed_holds_no_place_on_the_disk() {
        let dir = std::env::temp_dir().join(format!("moldau-closed-{}", std::process::id()));
        let disk = FsDisk::new(vec![dir.clone()]);
        let path = Path::new(DirId(0), "t-0/0.log");
        disk.write(&path, 0, &[Bytes::from_static(b"bytes")]).unwrap();
        let file = Arc::downgrade(&disk.file(&path, false).unwrap());
        assert_eq!(file.strong_count(), 1, "kept for the next use");
        disk.close();
        assert_eq!(file.strong_count(), 0);
        assert_eq!(disk.read(&path, 0, 9).unwrap(), &b"bytes"[..]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_where_it_can_be_relied_on_is_a_file_system_synced_as_a_whole() {
        for (number, hears) in
            [(0xEF53, true), (0x5846_5342, true), (0x6573_5546, false), (0x794C_7630, false)]
        {
            assert_eq!(hears_syncfs(number, "6.1.0-13-amd64"), hears, "{number:x}");
        }
        for (release, reports) in [("5.8.0", true), ("5.7.19", false), ("4.18.0-553.el8", false), ("6", true)]
        {
            assert_eq!(hears_syncfs(0xEF53, release), reports, "{release}");
        }
    }
}
