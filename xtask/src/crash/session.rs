//! A broker under load and the ledger that watches it: what every case begins and ends with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::broker::Broker;
use super::ledger::{Ledger, Seen};
use super::load::{self, Acks, Order, PATIENCE, Reader, Waiting, Writer};
use super::{Context, Tally};

/// The topic of a session.
pub const TOPIC: &str = "watched";
/// Its partitions, unless a plan wants others.
pub const PARTITIONS: usize = 4;
const GROUP: &str = "readers";

/// What a session begins with.
pub struct Plan<'a> {
    /// Configs of the topic besides the small segments.
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

/// A broker, its writers and readers, and what is known of its topic.
pub struct Session<'a> {
    context: &'a Context,
    /// Where its files are.
    pub folder: PathBuf,
    /// The broker.
    pub broker: Broker,
    /// What was read and acknowledged.
    pub ledger: Ledger,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    acks: Acks,
}

impl<'a> Session<'a> {
    /// Starts the broker and the load.
    pub fn begin(context: &'a Context, folder: PathBuf, mut broker: Broker, plan: &Plan<'_>) -> Result<Self> {
        broker.start()?;
        let programs = &context.programs;
        let mut configs = vec!["segment.bytes=1048576"];
        configs.extend(plan.configs);
        programs.create(&broker.address, TOPIC, plan.partitions, &configs)?;
        let mut ledger = Ledger::new(plan.partitions);
        let families = programs.families();
        let order = Order {
            address: &broker.address,
            topic: (TOPIC, plan.partitions),
            family: load::OWN,
            name: "w".into(),
            rate: plan.rate,
            // Longer than any trouble lasts: librdkafka gives an idempotent producer up when a record in its middle is too old.
            timeout: 600,
            folder: &folder,
        };
        let writing = &families[..families.len().min(plan.families)];
        let writers = load::writers(programs, &order, writing, &mut ledger)?;
        let mut readers = Vec::new();
        for family in families.iter().take(plan.readers) {
            let out = folder.join(format!("{family}.read"));
            readers.push(Reader::join(programs, family, &broker.address, (TOPIC, GROUP), out)?);
        }
        Ok(Self { context, folder, broker, ledger, writers, readers, acks: Acks::new() })
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
        self.verify_at(&self.broker.address.clone())
    }

    fn verify_at(&mut self, address: &str) -> Result<()> {
        self.collect()?;
        let out = self.folder.join("back");
        self.context.programs.read_on(address, TOPIC, &out, &mut self.ledger)?;
        load::settle(&mut self.acks, &mut self.ledger);
        self.readers.iter_mut().for_each(Reader::drain);
        Ok(())
    }

    /// Takes the acknowledgements that came. How many since they were last compared.
    pub fn collect(&mut self) -> Result<usize> {
        load::collect(&mut self.writers, &mut self.acks)?;
        Ok(self.acks.values().map(Vec::len).sum())
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

    /// Lets the writers send what they have, the group read to the end, and everything be read once more.
    pub fn finish(&mut self) -> Result<()> {
        for writer in &mut self.writers {
            writer.finish()?;
        }
        self.verify()?;
        for writer in self.writers.iter().filter(|writer| writer.failed.0 > 0) {
            let text = format!("{} records were given up: {}", writer.failed.0, writer.failed.1);
            self.ledger.problem(text);
        }
        if !self.readers.is_empty() {
            self.read_to_the_end()?;
        }
        self.broker.stop()?;
        self.broker.start()?;
        self.read_again()?;
        self.broker.stop()
    }

    /// Lets the writers send what they have and everything be read, and the group go.
    pub fn rest(&mut self) -> Result<()> {
        for writer in &mut self.writers {
            writer.finish()?;
        }
        self.verify()?;
        self.readers.drain(..).try_for_each(|mut reader| reader.leave())
    }

    fn read_again(&mut self) -> Result<()> {
        let (mut again, out) = (Seen::default(), self.folder.join("back"));
        self.context.programs.read(&self.broker.address, TOPIC, &out, "start")?;
        self.ledger.seen(&out, &mut again)?;
        let (read, all) = (again.count(), self.ledger.read());
        ensure!(read == all, "{read} of {all} records are there after a clean stop");
        Ok(())
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
        let programs = &self.context.programs;
        let committed = programs.ask(&self.broker.address, "committed", &[format!("group={GROUP}")])?;
        let ends = self.ledger.ends();
        let ends: Vec<String> = ends.iter().enumerate().map(|(p, end)| format!("{p}={end}")).collect();
        let mut offsets: Vec<&str> = committed.split(',').collect();
        offsets.sort_unstable();
        ensure!(offsets == ends, "the group committed {offsets:?}, not {ends:?}");
        Ok(())
    }
}

/// Runs `round` so often, with its seed, verifies after each, and finishes; ends early when something does not hold.
pub fn rounds(
    name: &str,
    rounds: u64,
    mut session: Session<'_>,
    mut round: impl FnMut(&mut Session<'_>, &mut super::draw::Draw) -> Result<()>,
) -> Result<Tally> {
    let context = session.context;
    for number in 0..rounds {
        let seed = context.seed + number;
        let mut once = || {
            round(&mut session, &mut super::draw::Draw::new(seed))?;
            session.verify()
        };
        once().map_err(|why| why.context(format!("round of seed {seed}")))?;
        context.tell(name, number, rounds, &session.ledger);
        if !session.ledger.problems().is_empty() {
            return Ok(Tally::of(number + 1, &session.ledger));
        }
    }
    session.finish()?;
    Ok(Tally::of(rounds, &session.ledger))
}
