//! The disk model: log directories with a page cache above a device that keeps only what was made durable.
//!
//! [`SimDisk`] is the blocking [`Disk`] of recovery and of the metadata log; [`Queue`] executes the operations of a running
//! shard with delays and faults. Both look at the same files. A process that is killed loses operations that had not begun;
//! a machine that loses power loses what was not synced, sector by sector (the faults of "All File Systems Are Not Created
//! Equal", OSDI 2014).

mod inode;
mod queue;
mod volume;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use moldau_base::Rng;
use moldau_base::disk::{Disk, Entry, Path};

pub use queue::{Handle, Queue, Submitted, Sync, Ticket};
pub use volume::Unwritten;
use volume::Volume;

/// The log directories of one simulated machine; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Volume>>);

impl SimDisk {
    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits all files together to this many bytes, or lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.volume().capacity = bytes;
    }

    /// Lets the next sync fail, whoever asks for it.
    pub fn fail_next_sync(&self, unwritten: Unwritten) {
        self.volume().failing_sync = Some(unwritten);
    }

    /// Lets the next write be cut short and fail, whoever asks for it.
    pub fn fail_next_write(&self) {
        self.volume().failing_write = true;
    }

    /// Nothing that was to fail will; whether something was.
    pub fn heal(&self) -> bool {
        let mut volume = self.volume();
        volume.failing_sync.take().is_some() | std::mem::take(&mut volume.failing_write)
    }

    /// Whether the room is limited.
    pub fn is_limited(&self) -> bool {
        self.volume().capacity.is_some()
    }

    /// Lets every change after so many more fail, as in a process that is killed; whether an earlier fuse had blown.
    pub fn set_fuse(&self, changes: Option<u64>) -> bool {
        self.volume().set_fuse(changes)
    }

    /// Whether the fuse has blown.
    pub fn has_blown(&self) -> bool {
        self.volume().has_blown()
    }

    /// The bytes of all files.
    pub fn used(&self) -> u64 {
        self.volume().files().map(|(_, content)| content.len() as u64).sum()
    }

    /// The power goes.
    pub fn power_loss(&self, rng: &mut Rng) {
        self.volume().power_loss(rng);
    }

    /// Shows every file that a power loss cannot take, with the content that it cannot take.
    pub fn durable_files(&self, mut show: impl FnMut(&Path, &[u8])) {
        self.volume().durable_files().for_each(|(path, content)| show(path, content));
    }

    /// Shows every file as the running system sees it.
    pub fn files(&self, mut show: impl FnMut(&Path, &[u8])) {
        self.volume().files().for_each(|(path, content)| show(path, content));
    }
}

impl Disk for SimDisk {
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        Ok(self.volume().list(path))
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        let volume = self.volume();
        Ok(volume.find(path).map(|id| volume.len(id)))
    }

    fn read(&self, path: &Path, position: u64, len: usize) -> io::Result<Bytes> {
        let volume = self.volume();
        let id = volume.find(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(volume.read(id, position, len))
    }

    fn write(&self, path: &Path, position: u64, parts: &[Bytes]) -> io::Result<()> {
        let mut volume = self.volume();
        let is_dead = volume.has_blown();
        let burnt = volume.burn();
        if is_dead {
            return burnt;
        }
        let id = volume.find_or_create(path)?;
        if burnt.is_err() {
            volume.write_half(id, position, parts);
            return burnt;
        }
        volume.write_or_fail(id, position, parts)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut volume = self.volume();
        volume.burn()?;
        let id = volume.find(path).ok_or(io::ErrorKind::NotFound)?;
        volume.sync(id)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut volume = self.volume();
        volume.burn()?;
        let id = volume.find(path).ok_or(io::ErrorKind::NotFound)?;
        volume.truncate(id, len);
        Ok(())
    }

    fn replace(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut volume = self.volume();
        volume.burn()?;
        volume.replace(path, Bytes::copy_from_slice(data))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut volume = self.volume();
        volume.burn()?;
        volume.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut volume = self.volume();
        volume.burn()?;
        volume.remove(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use moldau_base::disk::DirId;

    use super::*;

    fn path(name: &str) -> Path {
        Path::new(DirId(0), name)
    }

    #[test]
    fn names_form_directories() {
        let disk = SimDisk::default();
        for name in ["t-0/0.log", "t-0/0.index", "t-01/0.log", "meta"] {
            disk.write(&path(name), 0, &[Bytes::from_static(b"x")]).expect("there is room");
        }
        let names = |at: &str| -> Vec<String> {
            disk.list(&path(at)).expect("listing").into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(""), ["meta", "t-0", "t-01"]);
        assert_eq!(names("t-0"), ["0.index", "0.log"]);
        disk.rename(&path("t-0"), &path("t-0.gone")).expect("it is there");
        assert_eq!(names(""), ["meta", "t-0.gone", "t-01"]);
        disk.remove(&path("t-0.gone")).expect("removal");
        assert_eq!(names(""), ["meta", "t-01"]);
        assert!(disk.rename(&path("t-0"), &path("x")).is_err());
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = SimDisk::default();
        disk.set_capacity(Some(10));
        let wrote = disk.write(&path("a"), 0, &[Bytes::from(vec![7; 16])]);
        assert_eq!(wrote.expect_err("no room").kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.len(&path("a")).expect("len"), Some(10));
        disk.remove(&path("a")).expect("removal");
        disk.write(&path("b"), 0, &[Bytes::from(vec![7; 10])]).expect("room again");
    }

    #[test]
    fn replace_is_whole_and_synced_names_stay() {
        for seed in 0..50 {
            let mut rng = Rng::seeded(seed);
            let disk = SimDisk::default();
            disk.replace(&path("checkpoint"), b"old").expect("room");
            disk.replace(&path("checkpoint"), b"new").expect("room");
            disk.write(&path("t/log"), 0, &[Bytes::from_static(b"synced")]).expect("room");
            disk.sync(&path("t/log")).expect("it is there");
            disk.write(&path("t/other"), 0, &[Bytes::from_static(b"unsynced")]).expect("room");
            disk.power_loss(&mut rng);
            assert_eq!(&disk.read(&path("checkpoint"), 0, 9).expect("read")[..], b"new");
            assert_eq!(&disk.read(&path("t/log"), 0, 9).expect("read")[..], b"synced");
        }
    }
}
