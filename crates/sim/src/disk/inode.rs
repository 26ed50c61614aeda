//! One file: what a reader sees of it, and what would be left of it after a power loss.

use bytes::Bytes;
use moldau_base::Rng;

/// A disk keeps or loses whole sectors.
const SECTOR: usize = 512;

/// What happened to a file since it was last made durable.
#[derive(Clone, Debug)]
enum Change {
    Write { position: usize, bytes: Bytes },
    Truncate { len: usize },
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { position, bytes } => write_at(content, *position, bytes),
            Change::Truncate { len } => content.resize(*len, 0),
        }
    }
}

fn write_at(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[position..end].copy_from_slice(bytes);
}

/// A file's content in the page cache and on the device.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    cache: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    synced: u64,
}

/// How far a sync reaches: the changes made before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach(u64);

/// What a power loss leaves of the changes that were not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing of them.
    Nothing,
    /// All of them.
    Everything,
    /// The first ones, the last of these torn.
    Prefix,
    /// Any sectors of them, in any order; the rest reads as it was, or as zeros.
    Sectors,
}

impl Inode {
    pub(super) fn content(&self) -> &[u8] {
        &self.cache
    }

    /// What is on the device for certain.
    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    pub(super) fn read(&self, position: u64, len: usize) -> Bytes {
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(self.cache.len());
        let to = from.saturating_add(len).min(self.cache.len());
        Bytes::copy_from_slice(&self.cache[from..to])
    }

    pub(super) fn write(&mut self, position: u64, bytes: Bytes) {
        let change = Change::Write { position: position as usize, bytes };
        change.apply(&mut self.cache);
        self.changes.push(change);
    }

    pub(super) fn truncate(&mut self, len: u64) {
        let change = Change::Truncate { len: len as usize };
        change.apply(&mut self.cache);
        self.changes.push(change);
    }

    /// A sync begins: it will cover what was changed up to now.
    pub(super) fn sync_begins(&self) -> Reach {
        Reach(self.synced + self.changes.len() as u64)
    }

    /// A sync ends well.
    pub(super) fn sync_ends(&mut self, reach: Reach) {
        let count = reach.0.saturating_sub(self.synced) as usize;
        for change in self.changes.drain(..count.min(self.changes.len())) {
            change.apply(&mut self.durable);
            self.synced += 1;
        }
    }

    /// A sync fails, and what it was to write counts as clean: it can be read, and no later sync writes it.
    pub(super) fn sync_drops(&mut self, reach: Reach) {
        let count = (reach.0.saturating_sub(self.synced) as usize).min(self.changes.len());
        self.changes.drain(..count);
        self.synced += count as u64;
    }

    /// The power goes: the page cache is gone, and of what was not made durable `fate` decides.
    pub(super) fn power_loss(&mut self, fate: Fate, rng: &mut Rng) {
        let changes = std::mem::take(&mut self.changes);
        self.synced += changes.len() as u64;
        match fate {
            Fate::Nothing => {}
            Fate::Everything => changes.iter().for_each(|change| change.apply(&mut self.durable)),
            Fate::Prefix => self.keep_prefix(&changes, rng),
            Fate::Sectors => changes.iter().for_each(|change| self.keep_sectors(change, rng)),
        }
        self.cache = self.durable.clone();
    }

    fn keep_prefix(&mut self, changes: &[Change], rng: &mut Rng) {
        let whole = rng.below(changes.len() as u64 + 1) as usize;
        changes[..whole].iter().for_each(|change| change.apply(&mut self.durable));
        if let Some(Change::Write { position, bytes }) = changes.get(whole) {
            let torn = rng.below(bytes.len() as u64 + 1) as usize;
            write_at(&mut self.durable, *position, &bytes[..torn]);
        }
    }

    fn keep_sectors(&mut self, change: &Change, rng: &mut Rng) {
        match change {
            Change::Truncate { len } => {
                if rng.chance(1, 2) {
                    self.durable.resize(*len, 0);
                }
            }
            Change::Write { position, bytes } => {
                let mut from = 0;
                while from < bytes.len() {
                    let to = (from + SECTOR - (position + from) % SECTOR).min(bytes.len());
                    if rng.chance(1, 2) {
                        write_at(&mut self.durable, position + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_covers_what_came_before_it_began() {
        let mut inode = Inode::default();
        inode.write(0, Bytes::from_static(b"before"));
        let reach = inode.sync_begins();
        inode.write(6, Bytes::from_static(b"after"));
        inode.sync_ends(reach);
        assert_eq!(inode.content(), b"beforeafter");
        inode.power_loss(Fate::Nothing, &mut Rng::seeded(1));
        assert_eq!(inode.content(), b"before");
    }

    #[test]
    fn syncs_may_overlap() {
        let mut inode = Inode::default();
        inode.write(0, Bytes::from_static(b"one"));
        let first = inode.sync_begins();
        inode.write(3, Bytes::from_static(b"two"));
        let second = inode.sync_begins();
        inode.sync_ends(second);
        inode.sync_ends(first);
        assert_eq!(inode.durable(), b"onetwo");
    }

    #[test]
    fn what_a_failed_sync_dropped_no_later_one_writes() {
        let mut inode = Inode::default();
        inode.write(0, Bytes::from_static(b"before"));
        inode.sync_drops(inode.sync_begins());
        inode.write(6, Bytes::from_static(b"after"));
        inode.sync_ends(inode.sync_begins());
        assert_eq!(inode.content(), b"beforeafter");
        inode.power_loss(Fate::Everything, &mut Rng::seeded(1));
        assert_eq!(inode.content(), b"\0\0\0\0\0\0after");
    }

    #[test]
    fn what_is_durable_survives_every_fate() {
        for seed in 0..200 {
            let mut rng = Rng::seeded(seed);
            for fate in [Fate::Nothing, Fate::Everything, Fate::Prefix, Fate::Sectors] {
                let mut inode = Inode::default();
                inode.write(0, Bytes::from(vec![1; 700]));
                let reach = inode.sync_begins();
                inode.sync_ends(reach);
                inode.write(700, Bytes::from(vec![2; 2000]));
                inode.power_loss(fate, &mut rng);
                assert!(inode.content()[..700].iter().all(|b| *b == 1));
                assert!(inode.content()[700..].iter().all(|b| *b == 2 || *b == 0));
            }
        }
    }
}
