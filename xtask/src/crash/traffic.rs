//! Writers and readers of several families at work on one topic, and the ledger that watches them: what a test with real
//! processes begins and ends with, whether it has one broker or several.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::ledger::{Ledger, Seen};
use super::load::{self, Acks, Order, PATIENCE, Programs, Reader, Waiting, Writer};

/// The topic.
pub const TOPIC: &str = "watched";
/// Its partitions, unless a plan wants others.
pub const PARTITIONS: usize = 4;
const GROUP: &str = "readers";

/// What there is to be of it.
pub struct Plan<'a> {
    /// Configs of the topic besides the small segments, and other words of the case `create`.
    pub configs: &'a [&'a str],
    /// Partitions of the topic.
    pub partitions: usize,
    /// Records a second of each writer.
    pub rate: u64,
    /// Most families that write.
    pub families: usize,
    /// Members of a group that reads along, each of another family.
    pub readers: usize,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { configs: &[], partitions: PARTITIONS, rate: 400, families: 3, readers: 0 }
    }
}

/// The programs that write and read, and what is known of the topic.
pub struct Traffic<'a> {
    programs: &'a Programs,
    /// Where clients connect first.
    pub address: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// What was read and acknowledged.
    pub ledger: Ledger,
    /// The programs that write.
    pub writers: Vec<Writer>,
    readers: Vec<Reader>,
    acks: Acks,
}

impl<'a> Traffic<'a> {
    /// Creates the topic and starts the load; files go to `folder`.
    pub fn begin(programs: &'a Programs, address: &str, folder: PathBuf, plan: &Plan<'_>) -> Result<Self> {
        let mut configs = vec!["segment.bytes=1048576"];
        configs.extend(plan.configs);
        programs.create(address, TOPIC, plan.partitions, &configs)?;
        let mut ledger = Ledger::new(plan.partitions);
        let order = Order {
            address,
            topic: (TOPIC, plan.partitions),
            family: load::OWN,
            name: "w".into(),
            rate: plan.rate,
            // Longer than any trouble lasts: librdkafka gives an idempotent producer up when a record in its middle is too old.
            timeout: 600,
            folder: &folder,
            more: &[],
        };
        let families = programs.families();
        let writing = &families[..families.len().min(plan.families)];
        let writers = load::writers(programs, &order, writing, &mut ledger)?;
        let mut readers = Vec::new();
        for family in families.iter().take(plan.readers) {
            let out = folder.join(format!("{family}.read"));
            readers.push(Reader::join(programs, family, address, (TOPIC, GROUP), out)?);
        }
        let address = address.to_owned();
        Ok(Self { programs, address, folder, ledger, writers, readers, acks: Acks::new() })
    }

    /// Waits until every writer got an acknowledgement from now on.
    pub fn progress(&mut self) -> Result<()> {
        load::progress(&mut self.writers, &mut self.acks)
    }

    /// How many acknowledgements each writer has got.
    pub fn acknowledged(&mut self) -> Result<Vec<u64>> {
        self.collect()?;
        Ok(self.writers.iter().map(Writer::acked).collect())
    }

    /// Waits until every writer got an acknowledgement since it had got so many.
    pub fn progress_since(&mut self, acknowledged: &[u64]) -> Result<()> {
        load::progress_since(&mut self.writers, acknowledged, &mut self.acks)
    }

    /// An error if a program has ended.
    pub fn check(&mut self) -> Result<()> {
        self.readers.iter_mut().try_for_each(Reader::check)?;
        self.writers.iter_mut().try_for_each(Writer::check)
    }

    /// Asks the writers to send what they have and to end; does not wait.
    pub fn dismiss(&mut self) {
        self.writers.iter_mut().for_each(Writer::dismiss);
    }

    /// Whether all writers have ended.
    pub fn have_left(&mut self) -> bool {
        self.writers.iter_mut().all(Writer::has_left)
    }

    /// Reads back what came since the last time and compares it with what was acknowledged before.
    pub fn verify(&mut self) -> Result<()> {
        self.collect()?;
        let out = self.folder.join("back");
        self.programs.read_on(&self.address, TOPIC, &out, &mut self.ledger)?;
        load::settle(&mut self.acks, &mut self.ledger);
        self.readers.iter_mut().for_each(Reader::drain);
        Ok(())
    }

    /// Takes the acknowledgements that came. How many since they were last compared.
    pub fn collect(&mut self) -> Result<usize> {
        load::collect(&mut self.writers, &mut self.acks)?;
        Ok(self.acks.values().map(Vec::len).sum())
    }

    /// The acknowledgements since they were last compared, by writer.
    pub fn pending(&self) -> &Acks {
        &self.acks
    }

    /// A ledger that must hold of a copy of the data made from now on: with all acknowledgements up to now.
    pub fn promised(&mut self) -> Result<(Ledger, Acks)> {
        self.collect()?;
        Ok((self.ledger.clone(), self.acks.clone()))
    }

    /// Whether acknowledgements stop coming within the patience of a case.
    pub fn falls_silent(&mut self, quiet: Duration, patience: Duration) -> Result<bool> {
        let (mut patience, mut calm) = (Waiting::at_most(patience), Duration::ZERO);
        let (mut last, step) = (self.collect()?, Duration::from_millis(50));
        while calm < quiet {
            if !patience.step(step) {
                return Ok(false);
            }
            let count = self.collect()?;
            calm = if count > last { Duration::ZERO } else { calm + step };
            last = count;
        }
        Ok(true)
    }

    /// Lets the writers send what they have and everything be read.
    pub fn stop_writing(&mut self) -> Result<()> {
        for writer in &mut self.writers {
            writer.finish()?;
        }
        self.verify()
    }

    /// Lets the writers send what they have, and the group read to the end. A record that was given up is a problem.
    pub fn finish(&mut self) -> Result<()> {
        self.stop_writing()?;
        for writer in self.writers.iter().filter(|writer| writer.failed.0 > 0) {
            let text = format!("{} records were given up: {}", writer.failed.0, writer.failed.1);
            self.ledger.problem(text);
        }
        if self.readers.is_empty() { Ok(()) } else { self.read_to_the_end() }
    }

    /// Lets the writers send what they have and everything be read, and the group go.
    pub fn rest(&mut self) -> Result<()> {
        self.stop_writing()?;
        self.readers.drain(..).try_for_each(|mut reader| reader.leave())
    }

    /// Reads everything once more: it must be what is known.
    pub fn read_again(&mut self) -> Result<()> {
        let (mut again, out) = (Seen::default(), self.folder.join("back"));
        self.programs.read(&self.address, TOPIC, &out, "start")?;
        self.ledger.seen(&out, &mut again)?;
        let (read, all) = (again.count(), self.ledger.read());
        ensure!(read == all, "{read} of {all} records are there after a clean stop");
        Ok(())
    }

    /// What the group has committed, by partition.
    pub fn committed(&self) -> Result<Vec<(usize, u64)>> {
        let said = self.programs.ask(&self.address, "committed", &[format!("group={GROUP}")])?;
        let places = said.split(',').filter_map(|place| place.split_once('='));
        let mut all = places
            .map(|(partition, offset)| Ok((partition.parse()?, offset.parse()?)))
            .collect::<Result<Vec<(usize, u64)>>>()?;
        all.sort_unstable();
        Ok(all)
    }

    fn read_to_the_end(&mut self) -> Result<()> {
        let mut seen = Seen::default();
        let (mut last, mut patience) = (0, Waiting::at_most(PATIENCE));
        while seen.count() < self.ledger.read() {
            for reader in &mut self.readers {
                reader.take_in(&mut self.ledger, &mut seen)?;
            }
            if seen.count() > last {
                (last, patience) = (seen.count(), Waiting::at_most(PATIENCE));
            }
            if !patience.step(Duration::from_millis(200)) {
                bail!("the group read {} of {} records, and no more comes", seen.count(), self.ledger.read());
            }
        }
        for reader in &mut self.readers {
            reader.leave()?;
        }
        let (committed, ends) = (self.committed()?, self.ledger.ends());
        let ends: Vec<(usize, u64)> = ends.into_iter().enumerate().collect();
        ensure!(committed == ends, "the group committed {committed:?}, not {ends:?}");
        Ok(())
    }
}
