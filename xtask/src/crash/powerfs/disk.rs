//! What is on the disk for certain, what the running system sees, and what a power loss leaves.
//!
//! A file's content is certain up to its last sync; of what came later a power loss keeps nothing, everything, a prefix that is
//! torn at a sector, or any sectors in any order, the others reading as before or as zeros. The entries of a directory
//! are certain up to the directory's last sync; of later creations, renames and removals a power loss keeps the first few.
//! Syncing a file says nothing about its name. The disk may be told to freeze before its n-th change from now on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::draw::Draw;

/// A disk keeps or loses whole sectors.
const SECTOR: u64 = 512;
/// Number of the root directory.
pub const ROOT: u64 = 1;

/// Why an operation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such file or directory.
    Missing,
    /// There is one already.
    Exists,
    /// A directory where a file is meant.
    IsDirectory,
    /// A file where a directory is meant.
    NotDirectory,
    /// The directory has entries.
    NotEmpty,
    /// From one directory to another, which no broker does and this disk does not.
    Across,
    /// The power is about to go.
    Frozen,
}

#[derive(Clone, Debug)]
enum Change {
    Write { position: u64, bytes: Vec<u8> },
    Resize { len: u64 },
}

#[derive(Clone, Debug, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Move {
    Add { name: String, id: u64 },
    Remove { name: String },
    Rename { from: String, to: String },
}

#[derive(Clone, Debug, Default)]
struct Directory {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    moves: Vec<Move>,
}

#[derive(Clone, Debug)]
enum Node {
    File(File),
    Directory(Directory),
}

/// The disk.
#[derive(Debug)]
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Changes that are still let through.
    left: Option<u64>,
    frozen: bool,
}

/// What is asked about a name or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its number.
    pub id: u64,
    /// Its size in bytes.
    pub len: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl Default for Disk {
    fn default() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Self { nodes, next: ROOT + 1, left: None, frozen: false }
    }
}

fn write_at(content: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let from = position as usize;
    let end = from + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[from..end].copy_from_slice(bytes);
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { position, bytes } => write_at(content, *position, bytes),
            Change::Resize { len } => content.resize(*len as usize, 0),
        }
    }

    /// Some of its sectors.
    fn apply_some(&self, content: &mut Vec<u8>, mut keep: impl FnMut(u64) -> bool) {
        match self {
            Change::Resize { .. } => {
                if keep(0) {
                    self.apply(content);
                }
            }
            Change::Write { position, bytes } => {
                let mut from = 0;
                while from < bytes.len() {
                    let at = position + from as u64;
                    let to = (from + (SECTOR - at % SECTOR) as usize).min(bytes.len());
                    if keep(at / SECTOR) {
                        write_at(content, at, &bytes[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn power_loss(&mut self, draw: &mut Draw) {
        let changes = std::mem::take(&mut self.changes);
        match draw.below(5) {
            0 => {}
            1 => changes.iter().for_each(|change| change.apply(&mut self.durable)),
            2 => {
                for change in &changes {
                    change.apply_some(&mut self.durable, |_| draw.one_in(2));
                }
            }
            _ => {
                let whole = draw.below(changes.len() as u64 + 1) as usize;
                changes[..whole].iter().for_each(|change| change.apply(&mut self.durable));
                if let Some(torn) = changes.get(whole) {
                    let mut going = true;
                    torn.apply_some(&mut self.durable, |_| {
                        going &= !draw.one_in(8);
                        going
                    });
                }
            }
        }
        self.live.clone_from(&self.durable);
    }
}

impl Directory {
    fn make(&mut self, step: Move) {
        apply(&step, &mut self.live);
        self.moves.push(step);
    }

    fn power_loss(&mut self, draw: &mut Draw) {
        let kept = draw.below(self.moves.len() as u64 + 1) as usize;
        for step in self.moves.drain(..).take(kept) {
            apply(&step, &mut self.durable);
        }
        self.live.clone_from(&self.durable);
    }
}

fn apply(step: &Move, entries: &mut BTreeMap<String, u64>) {
    match step {
        Move::Add { name, id } => drop(entries.insert(name.clone(), *id)),
        Move::Remove { name } => drop(entries.remove(name)),
        Move::Rename { from, to } => {
            if let Some(id) = entries.remove(from) {
                entries.insert(to.clone(), id);
            }
        }
    }
}

impl Disk {
    /// Lets `changes` more through and then none; `None` lets all through.
    pub fn freeze_after(&mut self, changes: Option<u64>) {
        self.left = changes;
        self.frozen = false;
    }

    /// Whether a change has been refused.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    fn spend(&mut self) -> Result<(), Refused> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => {
                self.frozen = true;
                Err(Refused::Frozen)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn file(&mut self, id: u64) -> Result<&mut File, Refused> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(Refused::IsDirectory),
            None => Err(Refused::Missing),
        }
    }

    fn directory(&mut self, id: u64) -> Result<&mut Directory, Refused> {
        match self.nodes.get_mut(&id) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(Refused::NotDirectory),
            None => Err(Refused::Missing),
        }
    }

    /// What is known of a number.
    pub fn facts(&self, id: u64) -> Result<Facts, Refused> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(Facts { id, len: file.live.len() as u64, is_directory: false }),
            Some(Node::Directory(_)) => Ok(Facts { id, len: 0, is_directory: true }),
            None => Err(Refused::Missing),
        }
    }

    /// What has this name.
    pub fn find(&mut self, directory: u64, name: &str) -> Result<Facts, Refused> {
        let id = self.directory(directory)?.live.get(name).copied().ok_or(Refused::Missing)?;
        self.facts(id)
    }

    /// Makes an empty file or directory.
    pub fn make(&mut self, directory: u64, name: &str, is_directory: bool) -> Result<Facts, Refused> {
        if self.find(directory, name).is_ok() {
            return Err(Refused::Exists);
        }
        self.spend()?;
        let id = self.next;
        self.next += 1;
        let node = match is_directory {
            true => Node::Directory(Directory::default()),
            false => Node::File(File::default()),
        };
        self.directory(directory)?.make(Move::Add { name: name.to_owned(), id });
        self.nodes.insert(id, node);
        self.facts(id)
    }

    /// Removes a file or an empty directory.
    pub fn remove(&mut self, directory: u64, name: &str, is_directory: bool) -> Result<(), Refused> {
        let found = self.find(directory, name)?;
        match (found.is_directory, is_directory) {
            (true, false) => return Err(Refused::IsDirectory),
            (false, true) => return Err(Refused::NotDirectory),
            (true, true) if !self.directory(found.id)?.live.is_empty() => return Err(Refused::NotEmpty),
            _ => {}
        }
        self.spend()?;
        self.directory(directory)?.make(Move::Remove { name: name.to_owned() });
        Ok(())
    }

    /// Renames within a directory; what had the new name is gone.
    pub fn rename(&mut self, directory: u64, from: &str, to: (u64, &str)) -> Result<(), Refused> {
        let found = self.find(directory, from)?;
        if to.0 != directory {
            return Err(Refused::Across);
        }
        match self.find(directory, to.1) {
            Ok(target) if target.is_directory != found.is_directory => return Err(Refused::Exists),
            Ok(target) if target.is_directory && !self.directory(target.id)?.live.is_empty() => {
                return Err(Refused::NotEmpty);
            }
            _ => {}
        }
        self.spend()?;
        self.directory(directory)?.make(Move::Rename { from: from.to_owned(), to: to.1.to_owned() });
        Ok(())
    }

    /// Reads at most `len` bytes.
    pub fn read(&mut self, id: u64, position: u64, len: u32) -> Result<&[u8], Refused> {
        let content = &self.file(id)?.live;
        let from = (position as usize).min(content.len());
        let to = (from + len as usize).min(content.len());
        Ok(&content[from..to])
    }

    /// Writes.
    pub fn write(&mut self, id: u64, position: u64, bytes: &[u8]) -> Result<(), Refused> {
        self.file(id)?;
        self.spend()?;
        self.file(id)?.change(Change::Write { position, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Cuts or extends a file.
    pub fn resize(&mut self, id: u64, len: u64) -> Result<(), Refused> {
        self.file(id)?;
        self.spend()?;
        self.file(id)?.change(Change::Resize { len });
        Ok(())
    }

    /// Makes the content of a file, or the entries of a directory, certain.
    pub fn sync(&mut self, id: u64) -> Result<(), Refused> {
        self.spend()?;
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => file.sync(),
            Some(Node::Directory(directory)) => {
                directory.moves.clear();
                directory.durable.clone_from(&directory.live);
            }
            None => return Err(Refused::Missing),
        }
        Ok(())
    }

    /// Name and number of everything in a directory.
    pub fn list(&mut self, id: u64) -> Result<Vec<(String, Facts)>, Refused> {
        let entries = self.directory(id)?.live.clone();
        entries.into_iter().map(|(name, id)| Ok((name, self.facts(id)?))).collect()
    }

    /// Path and content of every file that a power loss cannot take, as far as it cannot.
    pub fn certain(&self) -> Vec<(PathBuf, &[u8])> {
        let mut files = Vec::new();
        let mut stack = vec![(PathBuf::new(), ROOT)];
        while let Some((path, id)) = stack.pop() {
            match self.nodes.get(&id) {
                Some(Node::File(file)) => files.push((path, &file.durable[..])),
                Some(Node::Directory(directory)) => {
                    let below = directory.durable.iter().map(|(name, id)| (path.join(Path::new(name)), *id));
                    stack.extend(below);
                }
                None => {}
            }
        }
        files
    }

    /// The power goes.
    pub fn power_loss(&mut self, draw: &mut Draw) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.power_loss(draw),
                Node::Directory(directory) => directory.power_loss(draw),
            }
        }
        let mut kept = BTreeMap::new();
        let mut stack = vec![ROOT];
        while let Some(id) = stack.pop() {
            let Some(node) = self.nodes.remove(&id) else { continue };
            if let Node::Directory(directory) = &node {
                stack.extend(directory.live.values());
            }
            kept.insert(id, node);
        }
        self.nodes = kept;
        self.freeze_after(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, name: &str) -> u64 {
        disk.make(ROOT, name, false).expect("there is none").id
    }

    #[test]
    fn what_is_synced_with_its_name_survives_and_nothing_else_must() {
        let (mut lost, mut kept, mut holes) = (0, 0, 0);
        for seed in 0..300 {
            let (mut disk, mut draw) = (Disk::default(), Draw::new(seed));
            let id = file(&mut disk, "a");
            disk.write(id, 0, &[1; 700]).expect("it is a file");
            disk.sync(id).expect("it is there");
            disk.sync(ROOT).expect("it is there");
            disk.write(id, 700, &[2; 5000]).expect("it is a file");
            file(&mut disk, "b");
            disk.power_loss(&mut draw);
            let content = disk.read(id, 0, 10_000).expect("its name was synced").to_vec();
            assert!(content[..700].iter().all(|b| *b == 1));
            assert!(content[700..].iter().all(|b| *b == 2 || *b == 0));
            lost += u32::from(content.len() == 700);
            kept += u32::from(disk.find(ROOT, "b").is_ok());
            holes += u32::from(content[700..].contains(&0));
        }
        assert!(lost > 30 && kept > 30 && kept < 270 && holes > 10, "{lost} {kept} {holes}");
    }

    #[test]
    fn a_name_is_certain_only_after_the_directory_was_synced() {
        let vanished = (0..100).any(|seed| {
            let mut disk = Disk::default();
            let id = file(&mut disk, "a");
            disk.write(id, 0, b"x").expect("it is a file");
            disk.sync(id).expect("it is there");
            disk.power_loss(&mut Draw::new(seed));
            disk.find(ROOT, "a").is_err()
        });
        assert!(vanished);
    }

    #[test]
    fn a_rename_happens_or_not_and_a_removal_may_be_undone() {
        let (mut old, mut new, mut back) = (false, false, false);
        for seed in 0..100 {
            let mut disk = Disk::default();
            file(&mut disk, "a");
            file(&mut disk, "gone");
            disk.sync(ROOT).expect("it is there");
            disk.rename(ROOT, "a", (ROOT, "b")).expect("it is there");
            disk.remove(ROOT, "gone", false).expect("it is there");
            disk.power_loss(&mut Draw::new(seed));
            let (a, b) = (disk.find(ROOT, "a").is_ok(), disk.find(ROOT, "b").is_ok());
            assert!(a != b);
            old |= a;
            new |= b;
            back |= disk.find(ROOT, "gone").is_ok();
        }
        assert!(old && new && back);
    }

    #[test]
    fn a_frozen_disk_takes_nothing() {
        let mut disk = Disk::default();
        let id = file(&mut disk, "a");
        disk.freeze_after(Some(1));
        assert_eq!(disk.write(id, 0, b"x"), Ok(()));
        assert_eq!((disk.write(id, 1, b"y"), disk.sync(id)), (Err(Refused::Frozen), Err(Refused::Frozen)));
        assert!(disk.is_frozen() && disk.read(id, 0, 9) == Ok(b"x"));
        disk.power_loss(&mut Draw::new(1));
        assert!(!disk.is_frozen());
    }
}
