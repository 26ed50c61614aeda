//! The disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use moldau_base::Rng;
use moldau_base::disk::{Disk, Entry, Path};

/// Torn writes end at a multiple of this.
const SECTOR: u64 = 512;

/// What happens at a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the page cache stays.
    Kill,
    /// Power is lost: of what was not synced, each write may be there, be gone, or be torn.
    Power,
}

#[derive(Clone, Debug)]
enum Change {
    Write { position: u64, data: Vec<u8> },
    Truncate(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    changes: Vec<Change>,
}

impl Inode {
    fn apply(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { position, data } => {
                let (at, end) = (*position as usize, *position as usize + data.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[at..end].copy_from_slice(data);
            }
            Change::Truncate(len) => content.resize(*len as usize, 0),
        }
    }

    fn change(&mut self, change: Change) {
        Inode::apply(&mut self.current, &change);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.changes.drain(..).for_each(|change| Inode::apply(&mut self.durable, &change));
    }

    fn lose(&mut self, rng: &mut Rng) {
        let mut content = std::mem::take(&mut self.durable);
        for change in self.changes.drain(..) {
            match (rng.below(4), change) {
                (0, _) => {}
                (1, Change::Write { position, data }) => {
                    let end = (position + rng.below(data.len() as u64 + 1)) / SECTOR * SECTOR;
                    let keep = end.saturating_sub(position).min(data.len() as u64) as usize;
                    let data = data[..keep].to_vec();
                    if keep > 0 {
                        Inode::apply(&mut content, &Change::Write { position, data });
                    }
                }
                (_, change) => Inode::apply(&mut content, &change),
            }
        }
        self.current.clone_from(&content);
        self.durable = content;
    }
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Bytes that writes may still add; `None` for no limit.
    space: Option<u64>,
    failing: Option<String>,
    renames_refused: u32,
}

/// One log directory in memory.
#[derive(Debug, Default)]
pub struct ModelDisk(Mutex<State>);

impl ModelDisk {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().expect("no test panics while it holds the disk"))
    }

    /// Crashes the machine.
    pub fn crash(&self, crash: Crash, rng: &mut Rng) {
        if crash == Crash::Kill {
            return;
        }
        self.with(|state| {
            let durable = std::mem::take(&mut state.durable_names);
            let mut after = durable.clone();
            for (name, inode) in &state.names {
                if !durable.contains_key(name) && rng.chance(1, 2) {
                    after.insert(name.clone(), *inode);
                }
            }
            for name in durable.keys() {
                if !state.names.contains_key(name) && rng.chance(1, 2) {
                    after.remove(name);
                }
            }
            state.names.clone_from(&after);
            state.durable_names = after;
            for inode in state.inodes.values_mut() {
                inode.lose(rng);
            }
        });
    }

    /// From here on, writes may add so many bytes; then the disk is full.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.with(|state| state.space = bytes);
    }

    /// From here on, writes and syncs of files whose path contains `name` fail.
    pub fn fail(&self, name: Option<&str>) {
        self.with(|state| state.failing = name.map(str::to_owned));
    }

    /// A sync of everything has failed, and what it was to write counts as clean: no later sync writes it.
    pub fn forget_unsynced(&self) {
        self.with(|state| state.inodes.values_mut().for_each(|inode| inode.changes.clear()));
    }

    /// The names of all files, with their lengths.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.with(|s| s.names.iter().map(|(n, i)| (n.clone(), s.inodes[i].current.len() as u64)).collect())
    }

    /// Changes a byte, durably and silently.
    pub fn damage(&self, name: &str, position: u64) {
        self.with(|state| {
            let id = state.names[name];
            let inode = state.inodes.get_mut(&id).expect("the file");
            inode.current[position as usize] ^= 0x5a;
            inode.changes.clear();
            inode.durable.clone_from(&inode.current);
        });
    }

    /// The whole content of a file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.with(|s| s.names.get(name).map(|i| s.inodes[i].current.clone()))
    }

    /// The inode of a name.
    pub fn find(&self, name: &str) -> Option<u64> {
        self.with(|state| state.names.get(name).copied())
    }

    /// The inode of a name, made if it is missing; a disk that is quite full has no place for another name.
    pub fn make(&self, name: &str) -> io::Result<u64> {
        self.with(|state| match state.names.get(name) {
            Some(&inode) => Ok(inode),
            None if state.space == Some(0) => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(state.create(name)),
        })
    }

    /// The disk has no place for another name in place of an old one, so many times.
    pub fn refuse_renames(&self, times: u32) {
        self.with(|state| state.renames_refused = times);
    }

    pub fn read_inode(&self, inode: u64, position: u64, len: usize) -> Bytes {
        self.with(|state| {
            let content = state.inodes.get(&inode).map(|i| i.current.as_slice()).unwrap_or_default();
            let start = (position as usize).min(content.len());
            let end = start.saturating_add(len).min(content.len());
            Bytes::copy_from_slice(&content[start..end])
        })
    }

    pub fn write_inode(&self, inode: u64, position: u64, parts: &[Bytes]) -> io::Result<()> {
        self.with(|state| {
            state.check(inode)?;
            let mut data = parts.concat();
            // What is written over has its place.
            let there = state.inodes.get(&inode).map_or(0, |file| file.current.len() as u64);
            let inside = there.saturating_sub(position).min(data.len() as u64);
            let more = data.len() as u64 - inside;
            let full = state.space.is_some_and(|space| more > space);
            if full {
                // A part of it may be there.
                data.truncate((inside + state.space.unwrap_or(0)) as usize);
            }
            state.space = state.space.map(|space| space.saturating_sub(more));
            if !data.is_empty() {
                let inode = state.inodes.get_mut(&inode).expect("an open file");
                inode.change(Change::Write { position, data });
            }
            if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    pub fn sync_inode(&self, inode: u64) -> io::Result<()> {
        self.with(|state| {
            state.check(inode)?;
            state.inodes.get_mut(&inode).expect("an open file").sync();
            let names: Vec<String> =
                state.names.iter().filter(|&(_, &i)| i == inode).map(|(n, _)| n.clone()).collect();
            for name in names {
                state.durable_names.insert(name, inode);
            }
            Ok(())
        })
    }

    pub fn truncate_inode(&self, inode: u64, len: u64) {
        self.with(|state| {
            let inode = state.inodes.get_mut(&inode).expect("an open file");
            if (inode.current.len() as u64) != len {
                inode.change(Change::Truncate(len));
            }
        });
    }
}

impl State {
    fn create(&mut self, name: &str) -> u64 {
        self.next += 1;
        self.inodes.insert(self.next, Inode::default());
        self.names.insert(name.to_owned(), self.next);
        self.next
    }

    /// What syncing a directory does: what was removed from it stays removed.
    fn sync_dir(&mut self, name: &str) {
        let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
        let names = &self.names;
        self.durable_names
            .retain(|n, _| n.rsplit_once('/').map_or("", |(d, _)| d) != dir || names.contains_key(n));
    }

    fn check(&self, inode: u64) -> io::Result<()> {
        let Some(part) = &self.failing else { return Ok(()) };
        if self.names.iter().any(|(name, &i)| i == inode && name.contains(part.as_str())) {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(())
    }

    fn below(names: &BTreeMap<String, u64>, path: &str) -> Vec<(String, u64)> {
        let prefix = format!("{path}/");
        names
            .iter()
            .filter(|(n, _)| n.as_str() == path || n.starts_with(&prefix))
            .map(|(n, &i)| (n.clone(), i))
            .collect()
    }
}

impl Disk for ModelDisk {
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.with(|state| {
            let prefix = if path.name.is_empty() { String::new() } else { format!("{}/", path.name) };
            let mut found: BTreeMap<String, Entry> = BTreeMap::new();
            for (name, inode) in state.names.iter().filter(|(n, _)| n.starts_with(&prefix)) {
                let rest = &name[prefix.len()..];
                let (name, is_dir) = rest.split_once('/').map_or((rest, false), |(dir, _)| (dir, true));
                let len = if is_dir { 0 } else { state.inodes[inode].current.len() as u64 };
                found.insert(name.to_owned(), Entry { name: name.to_owned(), is_dir, len });
            }
            Ok(found.into_values().collect())
        })
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(self.with(|s| s.names.get(&path.name).map(|i| s.inodes[i].current.len() as u64)))
    }

    fn read(&self, path: &Path, position: u64, len: usize) -> io::Result<Bytes> {
        let inode = self.find(&path.name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.read_inode(inode, position, len))
    }

    fn write(&self, path: &Path, position: u64, parts: &[Bytes]) -> io::Result<()> {
        let inode = self.make(&path.name)?;
        self.write_inode(inode, position, parts)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let inode = self.find(&path.name).ok_or(io::ErrorKind::NotFound)?;
        self.sync_inode(inode)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let inode = self.find(&path.name).ok_or(io::ErrorKind::NotFound)?;
        self.truncate_inode(inode, len);
        Ok(())
    }

    fn replace(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.with(|state| {
            if state.failing.as_ref().is_some_and(|part| path.name.contains(part.as_str())) {
                return Err(io::Error::other("the disk is broken"));
            }
            if state.space.is_some_and(|space| (data.len() as u64) > space) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let inode = state.create(&path.name);
            let file = state.inodes.get_mut(&inode).expect("just made");
            file.change(Change::Write { position: 0, data: data.to_vec() });
            file.sync();
            state.durable_names.insert(path.name.clone(), inode);
            state.sync_dir(&path.name);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|state| {
            if state.renames_refused > 0 {
                state.renames_refused -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let moved = State::below(&state.names, &from.name);
            if moved.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            // What was removed from a directory goes with it, should it come back.
            for (name, inode) in State::below(&state.durable_names, &from.name) {
                state.durable_names.remove(&name);
                state.durable_names.insert(format!("{}{}", to.name, &name[from.name.len()..]), inode);
            }
            for (name, inode) in moved {
                let renamed = format!("{}{}", to.name, &name[from.name.len()..]);
                state.names.remove(&name);
                state.names.insert(renamed.clone(), inode);
                state.durable_names.insert(renamed, inode);
            }
            state.sync_dir(&to.name);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|state| {
            for (name, _) in State::below(&state.names, &path.name) {
                state.names.remove(&name);
            }
            Ok(())
        })
    }
}
