//! A disk that forgets: what was not synced is lost or torn by a crash.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use moldau_base::Rng;
use moldau_base::disk::{Disk, Entry, Path};

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    /// Whether a crash keeps the file at all.
    linked: bool,
    pending: Vec<Change>,
}

impl File {
    fn apply(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Truncate(len) => content.truncate(*len as usize),
            Change::Write(position, data) => {
                let end = *position as usize + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*position as usize..end].copy_from_slice(data);
            }
        }
    }

    fn content(&self) -> Vec<u8> {
        let mut content = self.durable.clone();
        self.pending.iter().for_each(|change| File::apply(&mut content, change));
        content
    }
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    /// Bytes that there is still room for; `None` for no limit.
    space: Option<u64>,
    /// Length up to which a file has its place.
    reserved: BTreeMap<String, u64>,
    /// Operations until one fails, and all after it.
    fuse: Option<u64>,
    syncs: u64,
}

/// The disk.
#[derive(Debug, Default)]
pub struct ModelDisk(Mutex<State>);

impl ModelDisk {
    /// The power fails: of what was not synced a random part survives, the last write perhaps torn.
    pub fn crash(&self, rng: &mut Rng) {
        let mut state = self.0.lock().expect("lock");
        state.fuse = None;
        state.files.retain(|_, file| file.linked || rng.chance(1, 2));
        for file in state.files.values_mut() {
            file.linked = true;
            for mut change in std::mem::take(&mut file.pending) {
                if rng.chance(1, 3) {
                    continue;
                }
                if let Change::Write(_, data) = &mut change {
                    data.truncate(rng.below(data.len() as u64 + 1) as usize);
                }
                File::apply(&mut file.durable, &change);
            }
        }
    }

    /// Lets the `n`th operation from now that changes something fail, and all after it.
    pub fn fail_after(&self, n: u64) {
        self.0.lock().expect("lock").fuse = Some(n);
    }

    /// From here on there is room for so many bytes more.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.0.lock().expect("lock").space = bytes;
    }

    /// How often something was made durable.
    pub fn syncs(&self) -> u64 {
        self.0.lock().expect("lock").syncs
    }

    /// Names of all files.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().expect("lock").files.keys().cloned().collect()
    }

    /// Changes a file behind everybody's back.
    pub fn damage(&self, name: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().expect("lock");
        damage(&mut state.files.get_mut(name).expect("the file").durable);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.0.lock().expect("lock");
        match &mut state.fuse {
            Some(0) => return Err(io::Error::other("the disk is gone")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(change(&mut state))
    }
}

impl State {
    /// Finds room for a file that shall have this length.
    fn grow(&mut self, name: &str, len: u64) -> io::Result<()> {
        let content = self.files.get(name).map_or(0, |file| file.content().len() as u64);
        let has = self.reserved.get(name).copied().unwrap_or(0).max(content);
        let more = len.saturating_sub(has);
        match &mut self.space {
            Some(space) if more > *space => return Err(io::ErrorKind::StorageFull.into()),
            Some(space) => *space -= more,
            None => {}
        }
        self.reserved.insert(name.to_owned(), has.max(len));
        Ok(())
    }

    /// The place of a file that goes.
    fn shrink(&mut self, name: &str) {
        let content = self.files.get(name).map_or(0, |file| file.content().len() as u64);
        let had = self.reserved.remove(name).unwrap_or(0).max(content);
        self.space = self.space.map(|space| space + had);
    }
}

impl Disk for ModelDisk {
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.0.lock().expect("lock");
        let prefix = if path.name.is_empty() { String::new() } else { format!("{}/", path.name) };
        let below = state.files.iter().filter_map(|(name, file)| Some((name.strip_prefix(&prefix)?, file)));
        let direct = below.filter(|(name, _)| !name.contains('/'));
        Ok(direct
            .map(|(name, file)| Entry {
                name: name.to_owned(),
                is_dir: false,
                len: file.content().len() as u64,
            })
            .collect())
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(self.0.lock().expect("lock").files.get(&path.name).map(|file| file.content().len() as u64))
    }

    fn read(&self, path: &Path, position: u64, len: usize) -> io::Result<Bytes> {
        let state = self.0.lock().expect("lock");
        let content = state.files.get(&path.name).ok_or(io::ErrorKind::NotFound)?.content();
        let start = (position as usize).min(content.len());
        let end = start.saturating_add(len).min(content.len());
        Ok(Bytes::copy_from_slice(&content[start..end]))
    }

    fn write(&self, path: &Path, position: u64, parts: &[Bytes]) -> io::Result<()> {
        self.change(|state| {
            let len = position + parts.iter().map(|part| part.len() as u64).sum::<u64>();
            state.grow(&path.name, len)?;
            let file = state.files.entry(path.name.clone()).or_default();
            let mut position = position;
            for part in parts {
                file.pending.push(Change::Write(position, part.to_vec()));
                position += part.len() as u64;
            }
            Ok(())
        })?
    }

    fn reserve(&self, path: &Path, position: u64, len: u64) -> io::Result<()> {
        self.change(|state| {
            state.grow(&path.name, position + len)?;
            state.files.entry(path.name.clone()).or_default();
            Ok(())
        })?
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.syncs += 1;
            if let Some(file) = state.files.get_mut(&path.name) {
                file.durable = file.content();
                file.pending.clear();
                file.linked = true;
            }
        })
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.change(|state| {
            if let Some(file) = state.files.get_mut(&path.name) {
                file.pending.push(Change::Truncate(len));
            }
        })
    }

    fn replace(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.change(|state| {
            state.syncs += 1;
            // The old one goes when the new one is there.
            state.grow(&format!("{}.tmp", path.name), data.len() as u64)?;
            state.shrink(&path.name);
            state.reserved.remove(&format!("{}.tmp", path.name));
            let file = File { durable: data.to_vec(), linked: true, pending: vec![] };
            state.files.insert(path.name.clone(), file);
            Ok(())
        })?
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            if let Some(file) = state.files.remove(&from.name) {
                state.files.insert(to.name.clone(), file);
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.shrink(&path.name);
            state.files.remove(&path.name);
        })
    }
}
