//! One process per data directory: a lock on `.lock` in each, held as long as the process lives.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;

/// The locks of all log directories.
pub struct Locks {
    _files: Vec<File>,
}

/// Makes the directories that are missing and locks all.
pub fn claim(dirs: &[PathBuf]) -> anyhow::Result<Locks> {
    let mut files = Vec::new();
    for dir in dirs {
        std::fs::create_dir_all(dir).with_context(|| {
            format!("log directory {} cannot be made: name another one in log.dirs", dir.display())
        })?;
        files.push(lock(dir)?);
    }
    Ok(Locks { _files: files })
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join(".lock");
    let file = crate::fs::open_or_make(&path).with_context(|| {
        format!("log directory {} is not writable: see its owner and mode", dir.display())
    })?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!(
            "log directory {} is in use by another process: stop it, or name another directory in log.dirs",
            dir.display()
        ),
        Err(error) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}
