//! What was sent, what was acknowledged and what is read, compared.
//!
//! A writer numbers its records of each partition from 0 and its value tells writer, partition and number, so that
//! every record that is read names what it must be. What must hold: offsets have no gap, every record is one that was sent,
//! of one writer and partition each number comes once and in order, and an acknowledged record is where the
//! acknowledgement says. A caller that expects
//! a loss says so by [`Ledger::forgiving`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::interop::rule::{take, take_field};

/// Most problems that are kept; the rest is counted.
const PROBLEMS: usize = 12;

/// An acknowledgement that a writer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The partition.
    pub partition: usize,
    /// The offset, where the writer was told.
    pub offset: Option<u64>,
    /// The record's number.
    pub number: u64,
    /// When it came, in microseconds of the time of day, where the writer tells; otherwise 0.
    pub at: u64,
}

/// A record as its value tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    writer: u16,
    number: u64,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    start: u64,
    records: Vec<Sent>,
    /// The number that comes next of each writer.
    next: BTreeMap<u16, u64>,
    /// Numbers that were passed over.
    gaps: BTreeSet<(u16, u64)>,
}

impl Partition {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    fn at(&self, offset: u64) -> Option<Sent> {
        let at = offset.checked_sub(self.start)?;
        self.records.get(usize::try_from(at).ok()?).copied()
    }

    fn has(&self, sent: Sent) -> bool {
        self.next.get(&sent.writer).is_some_and(|next| sent.number < *next)
            && !self.gaps.contains(&(sent.writer, sent.number))
    }
}

/// What is known of a topic.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    writers: Vec<String>,
    partitions: Vec<Partition>,
    /// Acknowledgements taken in.
    pub acked: u64,
    problems: Vec<String>,
    more: usize,
}

impl Ledger {
    /// Of a topic with so many partitions.
    pub fn new(partitions: usize) -> Self {
        Self { partitions: vec![Partition::default(); partitions], ..Self::default() }
    }

    /// Registers a writer, whose records have its name in their values.
    pub fn writer(&mut self, name: &str) -> u16 {
        self.writers.push(name.to_owned());
        u16::try_from(self.writers.len() - 1).unwrap_or(u16::MAX)
    }

    /// Records read so far.
    pub fn read(&self) -> u64 {
        self.partitions.iter().map(|p| p.records.len() as u64).sum()
    }

    /// Where each partition ends, as far as it was read.
    pub fn ends(&self) -> Vec<u64> {
        self.partitions.iter().map(Partition::end).collect()
    }

    /// What does not hold.
    pub fn problems(&self) -> Vec<String> {
        let mut all = self.problems.clone();
        if self.more > 0 {
            all.push(format!("and {} more", self.more));
        }
        all
    }

    /// Notes that something does not hold.
    pub fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(text);
        } else {
            self.more += 1;
        }
    }

    /// Records that were deleted on purpose: the partitions begin at these offsets now.
    pub fn trim(&mut self, starts: &[u64]) {
        for (partition, start) in self.partitions.iter_mut().zip(starts) {
            let gone = start.saturating_sub(partition.start).min(partition.records.len() as u64);
            partition.records.drain(..gone as usize);
            partition.start = *start;
        }
    }

    /// Takes in a record file of what was read behind what is known.
    pub fn records(&mut self, file: &Path) -> Result<()> {
        self.each(file, |ledger, partition, offset, sent| ledger.append(partition, offset, sent)).map(drop)
    }

    /// Compares a record file of what was read again, or by a group, with what is known; marks what it holds.
    pub fn seen(&mut self, file: &Path, seen: &mut Seen) -> Result<()> {
        let from = seen.read.get(file).copied().unwrap_or(0);
        let took = self.each_from(file, from, |ledger, partition, offset, sent| {
            match ledger.partitions.get(partition).and_then(|p| p.at(offset)) {
                Some(known) if known == sent => seen.mark(partition, offset),
                Some(known) => {
                    let (is, was) = (ledger.name(sent), ledger.name(known));
                    ledger.problem(format!("{partition}@{offset} was served as {is}, and is {was}"));
                }
                None => ledger.problem(format!("{partition}@{offset} was served and is not there")),
            }
        })?;
        seen.read.insert(file.to_owned(), took);
        Ok(())
    }

    /// Takes in acknowledgements; what they are about must have been read by now.
    pub fn acks(&mut self, writer: u16, acks: &[Ack]) {
        for Ack { partition, offset, number, .. } in acks {
            self.acked += 1;
            let sent = Sent { writer, number: *number };
            let Some(known) = self.partitions.get(*partition) else { continue };
            let start = known.start;
            let held = match offset {
                Some(offset) if *offset < start => true,
                Some(offset) => known.at(*offset) == Some(sent),
                None => known.has(sent),
            };
            if !held {
                let found = offset.and_then(|at| known.at(at)).map(|sent| self.name(sent));
                let end = known.end();
                self.problem(format!(
                    "LOST: {} was acknowledged at {partition}@{offset:?}, where is {found:?}; the partition ends at {end}",
                    self.name(sent)
                ));
            }
        }
    }

    /// As [`Ledger::acks`] where a loss is allowed: how many are not there.
    pub fn forgiving(&mut self, writer: u16, acks: &[Ack]) -> u64 {
        self.acked += acks.len() as u64;
        let lost = acks.iter().filter(|ack| {
            let sent = Sent { writer, number: ack.number };
            !self.partitions.get(ack.partition).is_some_and(|p| p.has(sent))
        });
        lost.count() as u64
    }

    fn name(&self, sent: Sent) -> String {
        let writer = self.writers.get(usize::from(sent.writer)).map_or("?", String::as_str);
        format!("{writer}#{}", sent.number)
    }

    fn append(&mut self, partition: usize, offset: u64, sent: Sent) {
        let name = self.name(sent);
        let Some(log) = self.partitions.get_mut(partition) else { return };
        if offset != log.end() {
            let end = log.end();
            return self.problem(format!("{partition}: offset {offset} was read where {end} was due"));
        }
        log.records.push(sent);
        let next = log.next.entry(sent.writer).or_insert(0);
        if sent.number < *next {
            let what = if log.gaps.remove(&(sent.writer, sent.number)) { "out of order" } else { "twice" };
            return self.problem(format!("{partition}@{offset}: {name} is there {what}"));
        }
        log.gaps.extend((*next..sent.number).map(|number| (sent.writer, number)));
        *next = sent.number + 1;
    }

    fn each(&mut self, file: &Path, take: impl FnMut(&mut Self, usize, u64, Sent)) -> Result<u64> {
        self.each_from(file, 0, take)
    }

    /// Calls `each` for every whole record from byte `from` on; returns where the last one ends.
    fn each_from(
        &mut self,
        file: &Path,
        from: u64,
        mut each: impl FnMut(&mut Self, usize, u64, Sent),
    ) -> Result<u64> {
        let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut rest = data.get(usize::try_from(from)?..).unwrap_or_default();
        let mut end = from;
        while let Some((partition, offset, value)) = next_record(&mut rest) {
            end = (data.len() - rest.len()) as u64;
            let (partition, offset) = (usize::try_from(partition)?, u64::try_from(offset)?);
            ensure!(partition < self.partitions.len(), "{}: partition {partition}", file.display());
            match self.identify(partition, value) {
                Some(sent) => each(self, partition, offset, sent),
                None => {
                    let text = String::from_utf8_lossy(&value[..value.len().min(60)]).into_owned();
                    self.problem(format!("{partition}@{offset}: nobody sent `{text}`"));
                }
            }
        }
        Ok(end)
    }

    /// What a value says that it is, if it is exactly that.
    fn identify(&self, partition: usize, value: &[u8]) -> Option<Sent> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let (name, at, number) = (words.next()?, words.next()?, words.next()?);
        let writer = self.writers.iter().position(|w| w == name)?;
        let (at, number): (usize, u64) = (at.parse().ok()?, number.parse().ok()?);
        let sent = Sent { writer: u16::try_from(writer).ok()?, number };
        (at == partition && value == content(name, partition, number)).then_some(sent)
    }
}

/// Value of a writer's record, as in every language of `interop/`.
fn content(name: &str, partition: usize, number: u64) -> Vec<u8> {
    let head = format!("{name} {partition} {number} ");
    let size = 24 + (number * 7919 + partition as u64 * 104_729) % 600;
    head.bytes().cycle().take((size as usize).max(head.len())).collect()
}

fn next_record<'a>(rest: &mut &'a [u8]) -> Option<(u32, i64, &'a [u8])> {
    let mut at = *rest;
    let partition = u32::from_be_bytes(take(&mut at)?);
    let offset = i64::from_be_bytes(take(&mut at)?);
    take_field(&mut at)?;
    let value = take_field(&mut at)?.unwrap_or_default();
    *rest = at;
    Some((partition, offset, value))
}

/// Which records a group has read.
#[derive(Debug, Default)]
pub struct Seen {
    read: BTreeMap<std::path::PathBuf, u64>,
    offsets: BTreeMap<usize, BTreeSet<u64>>,
    /// How many came again.
    pub again: u64,
}

impl Seen {
    fn mark(&mut self, partition: usize, offset: u64) {
        if !self.offsets.entry(partition).or_default().insert(offset) {
            self.again += 1;
        }
    }

    /// How many different ones of a partition.
    pub fn count_of(&self, partition: usize) -> u64 {
        self.offsets.get(&partition).map_or(0, |offsets| offsets.len() as u64)
    }

    /// How many different ones.
    pub fn count(&self) -> u64 {
        self.offsets.values().map(|offsets| offsets.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::rule::put_field;

    fn file(name: &str, records: &[(u32, i64, Vec<u8>)]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("moldau-ledger-{name}-{}", std::process::id()));
        let mut bytes = Vec::new();
        for (partition, offset, value) in records {
            bytes.extend(partition.to_be_bytes());
            bytes.extend(offset.to_be_bytes());
            put_field(&mut bytes, Some(b"key"));
            put_field(&mut bytes, Some(value));
        }
        fs::write(&path, bytes).expect("the temporary folder can be written");
        path
    }

    fn read(name: &str, records: &[(u32, i64, Vec<u8>)]) -> Ledger {
        let mut ledger = Ledger::new(2);
        ledger.writer("w");
        let path = file(name, records);
        ledger.records(&path).expect("it is whole");
        let _ = fs::remove_file(path);
        ledger
    }

    fn ack(partition: usize, offset: u64, number: u64) -> Ack {
        Ack { partition, offset: Some(offset), number, at: 0 }
    }

    #[test]
    fn what_was_sent_once_and_in_order_holds() {
        let mut ledger = read("good", &[(0, 0, content("w", 0, 0)), (0, 1, content("w", 0, 1))]);
        ledger.acks(0, &[ack(0, 0, 0), ack(0, 1, 1), Ack { partition: 0, offset: None, number: 1, at: 0 }]);
        assert_eq!(ledger.problems(), Vec::<String>::new());
        assert_eq!((ledger.acked, ledger.read(), ledger.ends()), (3, 2, vec![2, 0]));
    }

    #[test]
    fn a_lost_a_double_a_disordered_and_a_foreign_record_are_found() {
        let one = |records: &[(u32, i64, Vec<u8>)], name| read(name, records).problems();
        let value = |number| content("w", 0, number);
        assert!(one(&[(0, 0, value(0)), (0, 1, value(0))], "double")[0].contains("twice"));
        assert!(one(&[(0, 0, value(1)), (0, 1, value(0))], "order")[0].contains("out of order"));
        assert!(one(&[(0, 1, value(0))], "gap")[0].contains("where 0 was due"));
        assert!(one(&[(0, 0, b"w 0 0 no".to_vec())], "foreign")[0].contains("nobody sent"));
        assert!(one(&[(1, 0, value(0))], "elsewhere")[0].contains("nobody sent"));
        let mut ledger = read("lost", &[(0, 0, value(1))]);
        ledger.acks(0, &[ack(0, 0, 0), ack(0, 7, 7), Ack { partition: 0, offset: None, number: 0, at: 0 }]);
        assert_eq!(ledger.problems().len(), 3);
    }

    #[test]
    fn what_a_group_saw_must_be_what_is_there() {
        let mut ledger = read("seen", &[(0, 0, content("w", 0, 0))]);
        let mut seen = Seen::default();
        let path = file("group", &[(0, 0, content("w", 0, 0)), (0, 0, content("w", 0, 0))]);
        ledger.seen(&path, &mut seen).expect("it is whole");
        assert_eq!((seen.count(), seen.again, ledger.problems().len()), (1, 1, 0));
        fs::write(&path, fs::read(file("wrong", &[(0, 0, content("w", 0, 3))])).expect("it is there"))
            .expect("ok");
        ledger.seen(&path, &mut Seen::default()).expect("it is whole");
        assert!(ledger.problems()[0].contains("was served as w#3, and is w#0"));
    }
}
