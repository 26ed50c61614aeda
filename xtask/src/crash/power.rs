//! Power loss: the broker's disk is a file system that forgets what was not synced, torn at sectors, names included.
//!
//! The power goes before a change that the seed chooses: under load, right after a kill -9 or a clean stop and a
//! restart, or while the broker recovers from the loss before. With `flush.messages=1` nothing acknowledged may be lost, and idempotent writers go
//! on through all of it. What a start found after a kill must be certain when the broker is ready. Without, each partition must keep what was synced (the file system knows), what it had after
//! the loss before, and serve nothing that was not sent. A topic that was created, or deleted, stays so.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::broker::{Broker, Started};
use super::draw::Draw;
use super::ledger::Ledger;
use super::load::{self, Acks, Order, Waiting, Writer};
use super::powerfs::PowerFs;
use super::{Context, Tally};

const TOPIC: &str = "torn";
/// So many that recovery has more files to make durable than it syncs one by one.
const PARTITIONS: usize = 12;
/// Records a second of each writer.
const RATE: u64 = 300;
/// The longest wait for the change before which the power goes.
const LONGEST: Duration = Duration::from_secs(4);

/// Runs the case with `flush.messages=1`.
pub fn synced(context: &Context, rounds: u64) -> Result<Tally> {
    Case::new(context, "power-synced", true)?.run(rounds)
}

/// Runs the case with the default of a flush a second.
pub fn unsynced(context: &Context, rounds: u64) -> Result<Tally> {
    Case::new(context, "power", false)?.run(rounds)
}

struct Case<'a> {
    context: &'a Context,
    name: &'static str,
    synced: bool,
    // Before the disk: it has files open there when it is dropped.
    broker: Broker,
    power: PowerFs,
    ledger: Ledger,
    writers: Vec<Writer>,
    acks: Acks,
    /// Acknowledged and gone, where that is allowed.
    forgiven: u64,
}

impl<'a> Case<'a> {
    fn new(context: &'a Context, name: &'static str, synced: bool) -> Result<Self> {
        let folder = context.folder(name)?;
        let power = PowerFs::mount(&folder.join("disk"))?;
        let mut broker = Broker::new(&context.bin, &folder.join("disk/data"))?;
        broker.log_to(&folder.join("broker.log"));
        Ok(Self {
            context,
            name,
            synced,
            power,
            broker,
            ledger: Ledger::new(PARTITIONS),
            writers: Vec::new(),
            acks: Acks::new(),
            forgiven: 0,
        })
    }

    fn run(mut self, rounds: u64) -> Result<Tally> {
        self.broker.start()?;
        let mut configs = vec!["segment.bytes=1048576"];
        configs.extend(self.synced.then_some("flush.messages=1"));
        self.context.programs.create(&self.broker.address, TOPIC, PARTITIONS, &configs)?;
        for round in 0..rounds {
            let seed = self.context.seed + round;
            self.round(round, &mut Draw::new(seed)).with_context(|| format!("round of seed {seed}"))?;
            self.context.tell(self.name, round, rounds, &self.ledger);
            if !self.ledger.problems().is_empty() {
                return Ok(self.tally(round + 1));
            }
        }
        if self.synced {
            for writer in &mut self.writers {
                writer.finish()?;
            }
            self.read_back(&BTreeMap::new())?;
        }
        Ok(self.tally(rounds))
    }

    fn tally(&self, rounds: u64) -> Tally {
        let mut tally = Tally::of(rounds, &self.ledger);
        if self.forgiven > 0 {
            let text =
                format!("{} acknowledged records were not flushed yet and lost, as they may", self.forgiven);
            tally.notes.push(text);
        }
        tally
    }

    fn round(&mut self, round: u64, draw: &mut Draw) -> Result<()> {
        self.ensure_writers(round)?;
        load::progress(&mut self.writers, &mut self.acks)?;
        if draw.one_in(2) {
            std::thread::sleep(draw.millis(0, 1500));
            match draw.one_in(2) {
                true => self.broker.kill(),
                false => self.broker.stop()?,
            }
            let left = self.left()?;
            self.broker.start()?;
            self.check_recovered(&left);
        }
        let topics = self.churn(round)?;
        std::thread::sleep(draw.millis(0, 1200));
        self.power.freeze_after(draw.below(200));
        let mut patience = Waiting::at_most(LONGEST);
        while !self.power.is_frozen() && patience.step(Duration::from_millis(5)) {}
        self.broker.kill();
        let mut certain = self.certain();
        self.power.power_loss(draw)?;
        while draw.one_in(3) {
            // It goes again while the broker recovers.
            self.power.freeze_after(draw.below(40));
            if let Ok(Started::Refused(said)) = self.broker.try_start()
                && !self.power.is_frozen()
            {
                bail!("the broker refuses to start:\n{said}");
            }
            self.broker.kill();
            for (partition, end) in self.certain() {
                let known = certain.entry(partition).or_default();
                *known = end.max(*known);
            }
            self.power.power_loss(draw)?;
        }
        if !self.synced {
            self.writers.iter_mut().for_each(Writer::kill);
        }
        self.broker.start()?;
        self.read_back(&certain)?;
        self.check_topics(&topics)
    }

    fn ensure_writers(&mut self, round: u64) -> Result<()> {
        if self.synced && round > 0 {
            return Ok(());
        }
        let families = self.context.programs.families();
        let order = Order {
            address: &self.broker.address,
            topic: (TOPIC, PARTITIONS),
            family: load::OWN,
            name: format!("r{round}"),
            rate: RATE,
            timeout: 120,
            folder: &self.context.folder(self.name)?,
            more: &[],
        };
        let families = if self.synced { &families[..] } else { &families[..families.len().min(2)] };
        self.writers = load::writers(&self.context.programs, &order, families, &mut self.ledger)?;
        Ok(())
    }

    /// Creates a topic and deletes the one of two rounds before: which must be there, and which must not.
    fn churn(&self, round: u64) -> Result<[Option<String>; 2]> {
        let (programs, address) = (&self.context.programs, &self.broker.address);
        let born = format!("born-{round}");
        programs.create(address, &born, 2, &[])?;
        let dead = round.checked_sub(2).map(|round| format!("born-{round}"));
        if let Some(dead) = &dead {
            programs.ask(address, "delete", &[format!("topic={dead}")])?;
        }
        Ok([Some(born), dead])
    }

    fn check_topics(&mut self, [born, dead]: &[Option<String>; 2]) -> Result<()> {
        let out = self.context.folder(self.name)?.join("empty");
        if let Some(born) = born {
            self.context
                .programs
                .read(&self.broker.address, born, &out, "start")
                .with_context(|| format!("the topic {born} was created before the power went"))?;
        }
        let Some(dead) = dead else { return Ok(()) };
        let words = [format!("topic={dead}"), "patience=0".into()];
        match self.context.programs.ask(&self.broker.address, "delete", &words) {
            Err(why) if why.to_string().contains("UNKNOWN_TOPIC") => {}
            answer => self.ledger.problem(format!("the deleted topic {dead} is back: {answer:?}")),
        }
        Ok(())
    }

    /// Reads what is there and compares it with what must be.
    fn read_back(&mut self, certain: &BTreeMap<usize, u64>) -> Result<()> {
        load::collect(&mut self.writers, &mut self.acks)?;
        let before = self.ledger.ends();
        let out = self.context.folder(self.name)?.join("back");
        let (_, ends) = self.context.programs.read_on(&self.broker.address, TOPIC, &out, &mut self.ledger)?;
        for (partition, end) in ends.iter().enumerate() {
            let must = before[partition].max(certain.get(&partition).copied().unwrap_or(0));
            if *end < must {
                self.ledger.problem(format!(
                    "LOST: partition {partition} ends at {end}; it was served up to {} before, and synced up to {certain:?}",
                    before[partition]
                ));
            }
        }
        if self.synced {
            load::settle(&mut self.acks, &mut self.ledger);
            return Ok(());
        }
        for (writer, acks) in std::mem::take(&mut self.acks) {
            self.forgiven += self.ledger.forgiving(writer, &acks);
        }
        Ok(())
    }

    /// Where each partition of the topic ends in what a power loss cannot take.
    fn certain(&self) -> BTreeMap<usize, u64> {
        let mut segments: BTreeMap<usize, BTreeMap<u64, u64>> = BTreeMap::new();
        self.power.certain(|path, content| {
            if let Some((partition, base)) = segment_of(path) {
                segments.entry(partition).or_default().insert(base, end_of(base, content));
            }
        });
        contiguous(segments)
    }

    /// Where each partition of the topic ends in the files as the running system sees them.
    fn left(&self) -> Result<BTreeMap<usize, u64>> {
        let data = self.context.folder(self.name)?.join("disk/data");
        let mut segments: BTreeMap<usize, BTreeMap<u64, u64>> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let Ok(entries) = std::fs::read_dir(data.join(format!("{TOPIC}-{partition}"))) else { continue };
            for entry in entries {
                let path = entry?.path();
                if let Some((partition, base)) = segment_of(&path) {
                    let end = end_of(base, &std::fs::read(&path)?);
                    segments.entry(partition).or_default().insert(base, end);
                }
            }
        }
        Ok(contiguous(segments))
    }

    /// What was in the files before a start is served after it, so the start must have made it durable.
    fn check_recovered(&mut self, left: &BTreeMap<usize, u64>) {
        let certain = self.certain();
        for (partition, end) in left {
            let certain = certain.get(partition).copied().unwrap_or(0);
            if certain < *end {
                self.ledger.problem(format!(
                    "partition {partition} ended at {end} before a start, of which a power loss would leave {certain}"
                ));
            }
        }
    }
}

/// Where partitions end whose segments begin and end so.
fn contiguous(partitions: BTreeMap<usize, BTreeMap<u64, u64>>) -> BTreeMap<usize, u64> {
    let end = |segments: BTreeMap<u64, u64>| {
        segments.into_iter().fold(0, |end, (base, to)| if base == end { to } else { end })
    };
    partitions.into_iter().map(|(partition, segments)| (partition, end(segments))).collect()
}

/// Partition and base offset of a segment of the topic.
fn segment_of(path: &Path) -> Option<(usize, u64)> {
    let directory = path.parent()?.file_name()?.to_str()?;
    let partition = directory.strip_prefix(TOPIC)?.strip_prefix('-')?.parse().ok()?;
    let base = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    Some((partition, base))
}

/// CRC-32C, as record batches have it.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// The offset behind the last whole batch.
fn end_of(base: u64, mut content: &[u8]) -> u64 {
    let number = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let mut end = base;
    // Base offset (8 bytes), length of what follows (4), ... checksum (at 17) of what is behind it, delta of the last offset (at 23).
    while let (Some(high), Some(low), Some(size)) =
        (number(content, 0), number(content, 4), number(content, 8))
    {
        let offset = u64::from(high) << 32 | u64::from(low);
        let Some(batch) = content.get(..12 + size as usize).filter(|batch| batch.len() >= 61) else { break };
        let (Some(sum), Some(last)) = (number(batch, 17), number(batch, 23)) else { break };
        if offset != end || sum != checksum(&batch[21..]) {
            break;
        }
        end = offset + u64::from(last) + 1;
        content = &content[batch.len()..];
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ends_behind_its_last_whole_batch() {
        let batch = |offset: u64, count: u32| {
            let mut bytes = offset.to_be_bytes().to_vec();
            bytes.extend(60_u32.to_be_bytes());
            bytes.resize(23, 0);
            bytes.extend((count - 1).to_be_bytes());
            bytes.resize(72, 7);
            let sum = checksum(&bytes[21..]);
            bytes[17..21].copy_from_slice(&sum.to_be_bytes());
            bytes
        };
        let whole = [batch(5, 3), batch(8, 1)].concat();
        assert_eq!(end_of(5, &whole), 9);
        assert_eq!(end_of(5, &whole[..whole.len() - 1]), 8);
        assert_eq!(end_of(5, &[]), 5);
        let mut torn = whole.clone();
        torn[40] ^= 1;
        assert_eq!((checksum(b"123456789"), end_of(5, &torn)), (0xE306_9283, 5));
        assert_eq!(end_of(5, &[&whole[..], &[0; 200]].concat()), 9);
        assert_eq!(segment_of(Path::new("data/torn-2/00000000000000000005.log")), Some((2, 5)));
        assert_eq!(segment_of(Path::new("data/born-2/00000000000000000005.log")), None);
    }
}
