//! The node's disks: the blocking [`Disk`] for recovery and the metadata log, over the log directories of the configuration.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Entry, Path};
use rustix::fs::{Advice, AtFlags, Mode, OFlags};
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

/// Makes the entries of a directory durable; of its parent too, since the directory may be fresh.
pub fn sync_directory_of(path: &std::path::Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent)?.sync_all()?;
    match parent.parent() {
        Some(above) if !above.as_os_str().is_empty() => File::open(above)?.sync_all(),
        _ => Ok(()),
    }
}

/// A file that is going to be replaced as a whole, in a directory that is held open.
pub struct Replacement {
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
        Ok(Replacement { directory, name: name.to_owned() })
    }

    /// Writes beside it, syncs, renames, syncs the directory: after a crash the old or the new content is there, whole.
    pub fn finish(&self, data: &[u8]) -> io::Result<()> {
        let mut temporary = self.name.clone();
        temporary.push(".tmp");
        let written = self.write_beside(&temporary, data);
        if written.is_err() {
            // On a full disk it would take the place that is missing.
            let _ = rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
        written?;
        rustix::fs::renameat(&self.directory, &temporary, &self.directory, &self.name)?;
        self.directory.sync_all()
    }

    fn write_beside(&self, temporary: &OsStr, data: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = File::from(rustix::fs::openat(&self.directory, temporary, flags, mode)?);
        file.write_all_at(data, 0)?;
        file.sync_data()
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

/// File systems by their numbers in statfs(2) that do not hear of syncfs(2), or do not pass it on to where the data is: FUSE, NFS, SMB, CIFS,
/// SMB2, 9P, Ceph, Lustre.
const DEAF_TO_SYNCFS: [u32; 8] =
    [0x6573_5546, 0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x00C3_6400, 0x0BD0_0BD0];

/// Whether `syncfs` on a file system with this number makes its files durable.
fn hears_syncfs(number: u32) -> bool {
    !DEAF_TO_SYNCFS.contains(&number)
}

/// More syncs than this are one pass over the file system: each single one commits its journal.
const SINGLE_SYNCS: usize = 16;

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
            let whole = File::open(at)?;
            // What is cut off is the sign of some of them.
            if hears_syncfs(rustix::fs::fstatfs(&whole)?.f_type as u32) {
                rustix::fs::syncfs(whole)?;
            } else {
                paths.iter().filter(|path| path.dir == dir).try_for_each(|path| self.sync(path))?;
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
    fn a_file_system_that_does_not_pass_syncfs_on_is_known() {
        for (number, hears) in [(0xEF53, true), (0x5846_5342, true), (0x6573_5546, false), (0x6969, false)] {
            assert_eq!(hears_syncfs(number), hears, "{number:x}");
        }
    }
}
