//! Names and files of one machine's log directories: what the running system sees, and what a power loss would leave.
//!
//! Directories are implied by the names below them. A change of names is durable when the host has promised so (a sync of
//! the file, a rename, a replace); a removal promises nothing and may be undone by a power loss.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use moldau_base::Rng;
use moldau_base::disk::{DirId, Entry, Path};

use super::inode::{Fate, Inode, Reach};

/// Numbers a file whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InodeId(u64);

/// The log directories of one machine.
#[derive(Debug, Default)]
pub(super) struct Volume {
    inodes: BTreeMap<InodeId, Inode>,
    names: BTreeMap<Path, InodeId>,
    /// The other way round: a file has one name, or none once it is removed.
    named: BTreeMap<InodeId, Path>,
    durable_names: BTreeMap<Path, InodeId>,
    /// Names that were removed and may come back, by their directory, with the number of their removal.
    removed: BTreeMap<(DirId, String), Vec<(u64, Path)>>,
    removals: u64,
    next: u64,
    used: u64,
    fuse: Option<u64>,
    blown: bool,
    /// The next sync fails.
    pub(super) failing_sync: Option<Unwritten>,
    /// The next write is cut short and fails.
    pub(super) failing_write: bool,
    /// Bytes that all files together may have.
    pub(super) capacity: Option<u64>,
}

/// What becomes of what a failed sync was to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// A later sync writes it.
    Kept,
    /// It counts as clean, as ext4 and XFS have it: it is read until the power goes, and no later sync writes it.
    Dropped,
}

fn broken() -> io::Error {
    io::Error::other("simulated: Input/output error")
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

/// Whether `name` is `directory` or lies below it.
fn is_within(name: &str, directory: &str) -> bool {
    directory.is_empty()
        || name.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn below(names: &BTreeMap<Path, InodeId>, path: &Path) -> Vec<(Path, InodeId)> {
    let from = Path::new(path.dir, path.name.clone());
    let near = names.range(from..).take_while(|(p, _)| p.dir == path.dir && p.name.starts_with(&path.name));
    near.filter(|(p, _)| is_within(&p.name, &path.name)).map(|(p, id)| (p.clone(), *id)).collect()
}

fn directory(path: &Path) -> (DirId, String) {
    (path.dir, path.name.rsplit_once('/').map_or(String::new(), |(at, _)| at.to_owned()))
}

/// Where `path` is once `from` is called `to`, if it is `from` or lies below it.
pub(super) fn moved(path: &Path, from: &Path, to: &Path) -> Option<Path> {
    let inside = path.dir == from.dir && is_within(&path.name, &from.name);
    inside.then(|| Path::new(to.dir, format!("{}{}", to.name, &path.name[from.name.len()..])))
}

impl Volume {
    /// As [`super::SimDisk::set_fuse`].
    pub(super) fn set_fuse(&mut self, changes: Option<u64>) -> bool {
        self.fuse = changes;
        std::mem::take(&mut self.blown)
    }

    /// Whether a change has failed for the fuse.
    pub(super) fn has_blown(&self) -> bool {
        self.blown
    }

    /// Counts a change by a process that may be killed after some.
    pub(super) fn burn(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => {
                self.blown = true;
                Err(io::Error::other("simulated: the process is killed here"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    pub(super) fn find(&self, path: &Path) -> Option<InodeId> {
        self.names.get(path).copied()
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used))
    }

    /// A disk that is quite full has no place for a new name either.
    pub(super) fn find_or_create(&mut self, path: &Path) -> io::Result<InodeId> {
        if let Some(id) = self.find(path) {
            return Ok(id);
        }
        if self.room() == 0 {
            return Err(full());
        }
        let id = InodeId(self.next);
        self.next += 1;
        self.inodes.insert(id, Inode::default());
        self.bind(path.clone(), id);
        Ok(id)
    }

    fn bind(&mut self, path: Path, id: InodeId) {
        self.unbind(&path);
        self.named.insert(id, path.clone());
        self.names.insert(path, id);
    }

    fn unbind(&mut self, path: &Path) {
        if let Some(id) = self.names.remove(path) {
            self.named.remove(&id);
        }
    }

    pub(super) fn len(&self, id: InodeId) -> u64 {
        self.inodes.get(&id).map_or(0, Inode::len)
    }

    pub(super) fn read(&self, id: InodeId, position: u64, len: usize) -> Bytes {
        self.inodes.get(&id).map_or_else(Bytes::new, |inode| inode.read(position, len))
    }

    /// Writes; when the disk is full, as much as fits, and an error.
    pub(super) fn write(&mut self, id: InodeId, position: u64, parts: &[Bytes]) -> io::Result<()> {
        let mut at = position;
        for part in parts {
            let end = at + part.len() as u64;
            let len = self.len(id);
            let room = self.room();
            let fits = (part.len() as u64).min(len.saturating_sub(at).saturating_add(room));
            let Some(inode) = self.inodes.get_mut(&id) else { return Err(missing()) };
            inode.write(at, part.slice(..fits as usize));
            self.used += inode.len() - len;
            if fits < part.len() as u64 {
                return Err(full());
            }
            at = end;
        }
        Ok(())
    }

    /// Writes, or half of it, when a write is to fail.
    pub(super) fn write_or_fail(&mut self, id: InodeId, position: u64, parts: &[Bytes]) -> io::Result<()> {
        if std::mem::take(&mut self.failing_write) {
            self.write_half(id, position, parts);
            return Err(broken());
        }
        self.write(id, position, parts)
    }

    pub(super) fn write_half(&mut self, id: InodeId, position: u64, parts: &[Bytes]) {
        let half = parts.iter().map(Bytes::len).sum::<usize>() / 2;
        self.write_torn(id, position, parts, half);
    }

    /// Writes only the first `len` bytes: what a crash in the middle of a write leaves.
    pub(super) fn write_torn(&mut self, id: InodeId, position: u64, parts: &[Bytes], len: usize) {
        let mut left = len;
        let mut torn = Vec::new();
        for part in parts {
            torn.push(part.slice(..left.min(part.len())));
            left -= left.min(part.len());
        }
        // A full disk leaves less of it, which is as good a tear as any.
        drop(self.write(id, position, &torn));
    }

    pub(super) fn truncate(&mut self, id: InodeId, len: u64) {
        let before = self.len(id);
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.truncate(len);
        }
        self.used = (self.used + len).saturating_sub(before);
    }

    pub(super) fn sync_begins(&self, id: InodeId) -> Option<Reach> {
        self.inodes.get(&id).map(Inode::sync_begins)
    }

    /// A sync ends; an error if one is to fail.
    pub(super) fn sync_ends(&mut self, id: InodeId, reach: Reach) -> io::Result<()> {
        if let Some(unwritten) = self.failing_sync.take() {
            if let (Unwritten::Dropped, Some(inode)) = (unwritten, self.inodes.get_mut(&id)) {
                inode.sync_drops(reach);
            }
            return Err(broken());
        }
        self.is_synced(id, reach);
        Ok(())
    }

    fn is_synced(&mut self, id: InodeId, reach: Reach) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.sync_ends(reach);
        }
        if let Some(path) = self.named.get(&id).cloned() {
            // Its directory is durable with it: what was removed from there before stays removed.
            for (_, removed) in self.removed.remove(&directory(&path)).unwrap_or_default() {
                self.durable_names.remove(&removed);
            }
            self.durable_names.insert(path, id);
        }
    }

    pub(super) fn sync(&mut self, id: InodeId) -> io::Result<()> {
        self.sync_begins(id).map_or(Ok(()), |reach| self.sync_ends(id, reach))
    }

    pub(super) fn replace(&mut self, path: &Path, data: Bytes) -> io::Result<()> {
        if data.len() as u64 >= self.room() {
            return Err(full());
        }
        // What is to be the new file is written and synced under another name.
        if std::mem::take(&mut self.failing_write) || self.failing_sync.take().is_some() {
            return Err(broken());
        }
        self.forget_used(path);
        self.unbind(path);
        let id = self.find_or_create(path)?;
        self.write(id, 0, &[data])?;
        self.sync(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let sources = below(&self.names, from);
        if sources.is_empty() {
            return Err(missing());
        }
        for (path, id) in sources {
            let Some(target) = moved(&path, from, to) else { continue };
            self.forget_used(&target);
            self.unbind(&path);
            self.bind(target, id);
        }
        for (path, id) in below(&self.durable_names, from) {
            self.durable_names.remove(&path);
            self.durable_names.extend(moved(&path, from, to).map(|target| (target, id)));
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) {
        for (path, _) in below(&self.names, path) {
            self.forget_used(&path);
            self.unbind(&path);
            self.removals += 1;
            self.removed.entry(directory(&path)).or_default().push((self.removals, path));
        }
    }

    fn forget_used(&mut self, path: &Path) {
        if let Some(id) = self.find(path) {
            self.used = self.used.saturating_sub(self.len(id));
        }
    }

    pub(super) fn list(&self, path: &Path) -> Vec<Entry> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (at, id) in below(&self.names, path) {
            let Some(rest) = at.name.get(path.name.len()..) else { continue };
            let rest = rest.trim_start_matches('/');
            let (name, is_dir) =
                rest.split_once('/').map_or((rest, false), |(directory, _)| (directory, true));
            if !name.is_empty() {
                let len = if is_dir { 0 } else { self.len(id) };
                entries.insert(name.to_owned(), Entry { name: name.to_owned(), is_dir, len });
            }
        }
        entries.into_values().collect()
    }

    /// Every file that a power loss cannot take, with the content that it cannot take.
    pub(super) fn durable_files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.durable_names.iter().filter_map(|(path, id)| Some((path, self.inodes.get(id)?.durable())))
    }

    /// Every file as the running system sees it.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.names.iter().filter_map(|(path, id)| Some((path, self.inodes.get(id)?.content())))
    }

    /// The power goes. Names that were never made durable stay or go, removals may be undone, contents tear.
    pub(super) fn power_loss(&mut self, rng: &mut Rng) {
        let mut names = self.durable_names.clone();
        for (path, id) in &self.names {
            if !names.contains_key(path) && rng.chance(1, 2) {
                names.insert(path.clone(), *id);
            }
        }
        // Removals reach the device in their order: the last ones may not have.
        let removed = std::mem::take(&mut self.removed);
        let in_order: BTreeMap<u64, Path> = removed.into_values().flatten().collect();
        let reached = rng.below(in_order.len() as u64 + 1) as usize;
        let back: BTreeSet<Path> = in_order.into_values().skip(reached).collect();
        names.retain(|path, _| self.names.contains_key(path) || back.contains(path));
        let fates = [Fate::Nothing, Fate::Everything, Fate::Prefix, Fate::Sectors, Fate::Sectors];
        for inode in self.inodes.values_mut() {
            let fate = *rng.pick(&fates).unwrap_or(&Fate::Nothing);
            inode.power_loss(fate, rng);
        }
        let living: BTreeSet<InodeId> = names.values().copied().collect();
        self.inodes.retain(|id, _| living.contains(id));
        self.used = self.inodes.values().map(Inode::len).sum();
        self.named = names.iter().map(|(path, id)| (*id, path.clone())).collect();
        self.durable_names = names.clone();
        self.names = names;
    }
}
