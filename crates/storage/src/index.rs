//! Offset and time indexes: their file formats, which are Kafka's, and the cache of those that are in files.
//!
//! An entry of an offset index names the last offset of a batch and where that batch begins, so a lookup finds a
//! batch at or before the one that is wanted. What an entry does not say, the first offset of its batch, is remembered in memory
//! once known: a reader that was given a range up to an entry continues there without looking at the file.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};
use moldau_base::disk::FileId;
use moldau_base::planted::{Bug, planted};

/// Bytes of an offset index entry.
pub const INDEX_ENTRY_BYTES: u64 = 8;
/// Bytes of a time index entry.
pub const TIME_ENTRY_BYTES: u64 = 12;
const UNKNOWN: u32 = u32::MAX;
/// In place of a first offset: the entry was found to be wrong.
const WRONG: u32 = u32::MAX - 1;

/// An entry of an offset index. Offsets are relative to the segment's base offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Last offset of a batch.
    pub last: u32,
    /// Where that batch begins in the log file.
    pub position: u32,
    base: u32,
}

impl IndexEntry {
    /// An entry whose batch begins at the relative offset `base`.
    pub fn new(base: u32, last: u32, position: u32) -> IndexEntry {
        IndexEntry { last, position, base }
    }

    /// Relative first offset of the batch, if it is known.
    pub fn base(&self) -> Option<u32> {
        (self.base < WRONG).then_some(self.base)
    }

    fn is_believed(&self) -> bool {
        self.base != WRONG
    }
}

/// An entry of a time index: nothing before the batch that ends at `last` has a greater timestamp than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// Greatest timestamp up to and including that batch, in milliseconds.
    pub timestamp_ms: i64,
    /// Last offset of the batch with that timestamp, relative.
    pub last: u32,
}

/// An index file that cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry} is out of order or out of range")]
pub struct BadIndex {
    /// Which entry, from 0.
    pub entry: usize,
}

/// The bytes of offset index entries.
pub fn encode_index(entries: &[IndexEntry]) -> Bytes {
    let mut bytes = Vec::with_capacity(entries.len() * INDEX_ENTRY_BYTES as usize);
    for entry in entries {
        bytes.put_u32(entry.last);
        bytes.put_u32(entry.position);
    }
    bytes.into()
}

/// Reads an offset index of a log file of `log_bytes`. Entries grow in both numbers. A tail of zeros, which Kafka leaves when
/// it is killed, and a torn last entry are left out.
pub fn parse_index(data: &[u8], log_bytes: u64) -> Result<Vec<IndexEntry>, BadIndex> {
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(data.len() / INDEX_ENTRY_BYTES as usize);
    let (chunks, _) = data.as_chunks::<{ INDEX_ENTRY_BYTES as usize }>();
    for (i, chunk) in chunks.iter().enumerate() {
        let number = |at: usize| u32::from_be_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]]);
        let (last, position) = (number(0), number(4));
        if last == 0 && position == 0 && chunks[i..].iter().all(|c| *c == [0; 8]) {
            break;
        }
        let ordered = entries.last().is_none_or(|e| e.last < last && e.position < position);
        if !ordered || last > i32::MAX as u32 || u64::from(position) >= log_bytes {
            return Err(BadIndex { entry: i });
        }
        entries.push(IndexEntry { last, position, base: UNKNOWN });
    }
    Ok(entries)
}

/// The bytes of time index entries.
pub fn encode_time_index(entries: &[TimeEntry]) -> Bytes {
    let mut bytes = Vec::with_capacity(entries.len() * TIME_ENTRY_BYTES as usize);
    for entry in entries {
        bytes.put_i64(entry.timestamp_ms);
        bytes.put_u32(entry.last);
    }
    bytes.into()
}

/// Reads a time index, as [`parse_index`] reads an offset index.
pub fn parse_time_index(data: &[u8]) -> Result<Vec<TimeEntry>, BadIndex> {
    let mut entries: Vec<TimeEntry> = Vec::with_capacity(data.len() / TIME_ENTRY_BYTES as usize);
    let (chunks, _) = data.as_chunks::<{ TIME_ENTRY_BYTES as usize }>();
    for (i, chunk) in chunks.iter().enumerate() {
        if i > 0 && chunks[i..].iter().all(|c| *c == [0; 12]) {
            break;
        }
        let timestamp_ms = i64::from_be_bytes(std::array::from_fn(|at| chunk[at]));
        let last = u32::from_be_bytes(std::array::from_fn(|at| chunk[8 + at]));
        let ordered = entries.last().is_none_or(|e| e.timestamp_ms < timestamp_ms && e.last <= last);
        if !ordered || last > i32::MAX as u32 {
            return Err(BadIndex { entry: i });
        }
        entries.push(TimeEntry { timestamp_ms, last });
    }
    Ok(entries)
}

/// The last entry whose batch begins at or before the batch with the relative offset `offset`.
pub fn floor(entries: &[IndexEntry], offset: u32) -> Option<IndexEntry> {
    let after = entries.partition_point(|e| e.last <= offset);
    let after = if planted(Bug::IndexBeyond) { entries.len().min(after + 1) } else { after };
    // The next entry's batch may hold the offset too: it does when the batch is known to begin at or before it.
    match entries.get(after) {
        Some(next) if next.base().is_some_and(|base| base <= offset) => Some(*next),
        _ => last_believed(&entries[..after]),
    }
}

/// The last entry that was not found to be wrong.
pub fn last_believed(entries: &[IndexEntry]) -> Option<IndexEntry> {
    entries.iter().rfind(|e| e.is_believed()).copied()
}

/// The last entry with a position in `after + 1..=upto`.
pub fn last_within(entries: &[IndexEntry], after: u64, upto: u64) -> Option<IndexEntry> {
    let end = entries.partition_point(|e| u64::from(e.position) <= upto);
    last_believed(&entries[..end]).filter(|e| u64::from(e.position) > after)
}

/// Offset indexes that are in files, least recently used ones leaving first. One per shard.
#[derive(Debug)]
pub struct IndexCache {
    budget_bytes: usize,
    used_bytes: usize,
    clock: u64,
    slots: BTreeMap<FileId, Slot>,
    /// By a time of use. One that was used since goes to its place when it comes to the front, so that using one costs
    /// nothing here.
    order: BTreeMap<u64, FileId>,
}

#[derive(Debug)]
struct Slot {
    entries: Vec<IndexEntry>,
    touched: u64,
    /// Under what it stands in the order.
    ordered: u64,
}

const SLOT_OVERHEAD_BYTES: usize = 128;

fn cost(entries: &[IndexEntry]) -> usize {
    SLOT_OVERHEAD_BYTES + size_of_val(entries)
}

impl IndexCache {
    /// A cache that keeps at most about `budget_bytes`. An index larger than that is kept alone.
    pub fn new(budget_bytes: usize) -> IndexCache {
        IndexCache { budget_bytes, used_bytes: 0, clock: 0, slots: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// Memory in use, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    pub(crate) fn get(&mut self, file: FileId) -> Option<&[IndexEntry]> {
        let slot = self.slots.get_mut(&file)?;
        self.clock += 1;
        slot.touched = self.clock;
        Some(&slot.entries)
    }

    pub(crate) fn insert(&mut self, file: FileId, entries: Vec<IndexEntry>) {
        self.remove(file);
        self.clock += 1;
        self.used_bytes += cost(&entries);
        self.slots.insert(file, Slot { entries, touched: self.clock, ordered: self.clock });
        self.order.insert(self.clock, file);
        while self.used_bytes > self.budget_bytes && self.slots.len() > 1 {
            let Some(oldest) = self.oldest() else { break };
            self.remove(oldest);
        }
    }

    /// The one that was not used for longest.
    fn oldest(&mut self) -> Option<FileId> {
        loop {
            let (ordered, file) = self.order.first_key_value().map(|(ordered, file)| (*ordered, *file))?;
            let slot = self.slots.get_mut(&file)?;
            if slot.touched == ordered {
                return Some(file);
            }
            slot.ordered = slot.touched;
            self.order.remove(&ordered);
            self.order.insert(slot.touched, file);
        }
    }

    /// Adds entries that were written behind the `before` entries of the file; nothing when those are not here.
    pub(crate) fn extend(&mut self, file: FileId, before: usize, added: &[IndexEntry]) {
        let whole = match self.remove(file) {
            Some(mut entries) if entries.len() == before => {
                entries.extend_from_slice(added);
                entries
            }
            None if before == 0 => added.to_vec(),
            _ => return,
        };
        self.insert(file, whole);
    }

    /// Remembers that the batch at `position` begins at the relative offset `base`.
    pub(crate) fn learn(&mut self, file: FileId, position: u32, base: u32) {
        let Some(slot) = self.slots.get_mut(&file) else { return };
        if let Ok(i) = slot.entries.binary_search_by_key(&position, |e| e.position) {
            slot.entries[i].base = base;
        }
    }

    /// Remembers that no batch that could be meant begins at `position`, so that the entry is not used again. Its place in the index, if
    /// there is one that was believed.
    pub(crate) fn doubt(&mut self, file: FileId, position: u32) -> Option<usize> {
        let entries = &mut self.slots.get_mut(&file)?.entries;
        let at = entries.binary_search_by_key(&position, |e| e.position).ok()?;
        let believed = entries[at].is_believed();
        entries[at].base = WRONG;
        believed.then_some(at)
    }

    pub(crate) fn remove(&mut self, file: FileId) -> Option<Vec<IndexEntry>> {
        let slot = self.slots.remove(&file)?;
        self.order.remove(&slot.ordered);
        self.used_bytes -= cost(&slot.entries);
        Some(slot.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(last: u32, position: u32) -> IndexEntry {
        IndexEntry { last, position, base: UNKNOWN }
    }

    #[test]
    fn floor_is_at_or_before() {
        let entries = [entry(9, 100), entry(19, 200), IndexEntry::new(25, 29, 300)];
        assert_eq!(floor(&entries, 8), None);
        assert_eq!(floor(&entries, 9).map(|e| e.position), Some(100));
        assert_eq!(floor(&entries, 24).map(|e| e.position), Some(200));
        assert_eq!(
            floor(&entries, 25).map(|e| e.position),
            Some(300),
            "a known first offset finds its batch"
        );
        assert_eq!(last_within(&entries, 100, 299).map(|e| e.position), Some(200));
        assert_eq!(last_within(&entries, 200, 299), None);
    }

    #[test]
    fn what_was_found_to_be_wrong_is_passed_over() {
        let (file, mut cache) = (FileId(1), IndexCache::new(1 << 20));
        cache.insert(file, vec![entry(9, 100), entry(19, 200), entry(29, 300)]);
        assert_eq!(cache.doubt(file, 200), Some(1));
        assert_eq!(cache.doubt(file, 200), None, "it is known already");
        assert_eq!(cache.doubt(file, 201), None, "no entry names that place");
        let entries = cache.get(file).unwrap_or_default();
        assert_eq!(floor(entries, 25).map(|e| e.position), Some(100));
        assert_eq!(last_within(entries, 0, 299).map(|e| e.position), Some(100));
        assert_eq!(last_within(entries, 100, 299), None);
        assert_eq!(floor(entries, 29).map(|e| e.position), Some(300));
    }

    #[test]
    fn kafkas_zeros_and_a_torn_entry_are_left_out() {
        let mut bytes = encode_index(&[entry(9, 100)]).to_vec();
        bytes.extend_from_slice(&[0; 24]);
        bytes.extend_from_slice(&[0; 3]);
        assert_eq!(parse_index(&bytes, 200), Ok(vec![entry(9, 100)]));
        assert_eq!(parse_index(&bytes, 100), Err(BadIndex { entry: 0 }));
        let bytes = encode_index(&[entry(9, 100), entry(9, 120)]);
        assert_eq!(parse_index(&bytes, 200), Err(BadIndex { entry: 1 }));
    }

    #[test]
    fn the_cache_forgets_the_least_recently_used() {
        let mut cache = IndexCache::new(2 * cost(&[entry(1, 1)]));
        for id in 1..=2 {
            cache.insert(FileId(id), vec![entry(1, 1)]);
        }
        assert!(cache.get(FileId(1)).is_some());
        cache.insert(FileId(3), vec![entry(1, 1)]);
        assert!(cache.get(FileId(2)).is_none());
        cache.extend(FileId(1), 1, &[]);
        cache.extend(FileId(9), 4, &[entry(8, 8)]);
        assert!(cache.get(FileId(9)).is_none(), "a part of an index is not an index");
        cache.learn(FileId(1), 1, 0);
        assert_eq!(cache.get(FileId(1)), Some([IndexEntry::new(0, 1, 1)].as_slice()));
        cache.remove(FileId(1));
        cache.remove(FileId(3));
        assert_eq!(cache.used_bytes(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), size in 0..u64::MAX) {
            let _ = (parse_index(&bytes, size), parse_time_index(&bytes));
        }
    }
}
