//! The nodes, what goes on at them, and what the machine lets be done to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::faults::{self, Kind, Needs};
use crate::cluster::gaps;
use crate::cluster::ground::{Filter, Ground};
use crate::cluster::{Cluster, NODES, Program};
use crate::crash::full::{self, Loop};
use crate::crash::ledger::Ledger;
use crate::crash::load::{self, Acks, Order, PATIENCE, Programs, Waiting, Writer};
use crate::crash::traffic::{Plan, TOPIC, Traffic};
use crate::crash::{clock, syncs};

/// Partitions of the topic: each node leads two of them, mostly.
pub const PARTITIONS: usize = 6;
/// What clients that begin at every moment write to.
const FRESH: &str = "fresh";
/// Each node leads one of them, mostly.
const FRESH_PARTITIONS: usize = 3;
/// Acknowledgements of those clients that are kept from one fault to the next: of some seconds.
const FRESH_KEPT: usize = 100;
/// Records a second of each writer.
const RATE: u64 = 200;
/// Bytes of a node's own disk, most of it never written.
const DISK: u64 = 8 << 30;
/// How long replicas may take to be in sync again.
const IN_SYNC: Duration = Duration::from_secs(150);

/// Everything that faults are done to.
pub struct World<'a> {
    /// The nodes.
    pub cluster: Cluster,
    /// Writers, readers, and the ledger.
    pub traffic: Traffic<'a>,
    /// What sets rules, where nodes have networks of their own.
    pub filter: Option<Filter>,
    /// Clients that begin at every moment, and what they were acknowledged.
    pub fresh: (Writer, Acks),
    /// A disk for each node, where there are any.
    pub disks: Vec<Loop>,
    /// What each node's clock is off by, where clocks can be set.
    pub clocks: Vec<PathBuf>,
    /// Kinds of faults that the machine does not allow, with the reason.
    pub skipped: Vec<(&'static str, String)>,
    /// What was seen and is no failure.
    pub notes: Vec<String>,
    programs: &'a Programs,
    committed: BTreeMap<usize, u64>,
}

/// What the machine lets be done, found out before there is a node.
struct Means {
    filter: Option<Filter>,
    disks: Vec<Loop>,
    clocks: Vec<PathBuf>,
    skipped: Vec<(&'static str, String)>,
}

impl Means {
    fn find(ground: &Ground, folder: &Path, wanted: &[&Kind]) -> Self {
        let mut means = Self { filter: None, disks: Vec::new(), clocks: Vec::new(), skipped: Vec::new() };
        for needs in [Needs::Rules, Needs::Delay, Needs::Disks, Needs::Strace, Needs::Clock] {
            let kinds: Vec<&'static str> =
                wanted.iter().filter(|kind| kind.needs == needs).map(|kind| kind.name).collect();
            // A delay is a rule, too.
            let also = needs == Needs::Rules && wanted.iter().any(|kind| kind.needs == Needs::Delay);
            if kinds.is_empty() && !also {
                continue;
            }
            if let Err(why) = means.obtain(needs, ground, folder) {
                let why = format!("{why:#}");
                means.skipped.extend(kinds.into_iter().map(|kind| (kind, why.clone())));
            }
        }
        means
    }

    fn obtain(&mut self, needs: Needs, ground: &Ground, folder: &Path) -> Result<()> {
        match needs {
            Needs::Nothing => Ok(()),
            Needs::Rules => {
                ensure!(matches!(ground, Ground::Namespaces(_)), "the nodes have no networks of their own");
                let filter = Filter::obtain()?;
                filter.try_out(ground)?;
                self.filter = Some(filter);
                Ok(())
            }
            Needs::Delay => {
                ensure!(self.filter.is_some(), "there are no rules");
                faults::can_delay(ground)
            }
            Needs::Disks => {
                ensure!(super::is_contained(), "mounts would outlive a run that is interrupted");
                full::needs()?;
                for at in 0..NODES {
                    let place = folder.join(format!("disk-{}", at + 1));
                    std::fs::create_dir_all(&place)?;
                    self.disks.push(Loop::mount(&place, DISK)?);
                }
                Ok(())
            }
            Needs::Strace => syncs::needs(),
            Needs::Clock => {
                clock::needs()?;
                for at in 0..NODES {
                    let offset = folder.join(format!("clock-{}", at + 1));
                    std::fs::write(&offset, "+0\n")?;
                    self.clocks.push(offset);
                }
                Ok(())
            }
        }
    }
}

/// Starts the clients that begin at every moment. What they write is not read.
fn fresh(programs: &Programs, address: &str, folder: &Path) -> Result<Writer> {
    programs.create(address, FRESH, FRESH_PARTITIONS, &["replicas=3"])?;
    let order = Order {
        address,
        topic: (FRESH, FRESH_PARTITIONS),
        family: load::OWN,
        name: "w-fresh".into(),
        rate: 0,
        timeout: 1,
        folder,
        more: &["fresh=100"],
    };
    Writer::start(programs, &order, &mut Ledger::new(FRESH_PARTITIONS))
}

impl<'a> World<'a> {
    /// Starts nodes and load.
    pub fn begin(
        bin: &Path,
        programs: &'a Programs,
        folder: &Path,
        ground: Ground,
        wanted: &[&Kind],
    ) -> Result<Self> {
        let Means { filter, disks, clocks, skipped } = Means::find(&ground, folder, wanted);
        let settings =
            ["moldau.shards=2", "offsets.topic.num.partitions=3", "group.initial.rebalance.delay.ms=0"];
        let mut cluster = Cluster::new(Program::Moldau(bin.to_owned()), folder, ground, &settings);
        for (at, disk) in disks.iter().enumerate() {
            cluster.nodes[at].data = disk.0.join("data");
        }
        for (at, offset) in clocks.iter().enumerate() {
            for (name, value) in clock::variables(offset)? {
                cluster.set_variable(at, name, &value);
            }
            cluster.set_variable(at, "FAKETIME_CACHE_DURATION", "1");
        }
        cluster.start_all()?;
        // A record from an hour ahead is refused otherwise, as Kafka does.
        let configs = ["replicas=3", "message.timestamp.after.max.ms=86400000"];
        let families = programs.families().len();
        let plan = Plan { configs: &configs, partitions: PARTITIONS, rate: RATE, families, readers: 2 };
        let traffic = Traffic::begin(programs, &cluster.bootstrap(), folder.to_owned(), &plan)?;
        let fresh = (fresh(programs, &cluster.bootstrap(), folder)?, Acks::new());
        let (notes, committed) = (Vec::new(), BTreeMap::new());
        Ok(Self { cluster, traffic, filter, fresh, disks, clocks, skipped, notes, programs, committed })
    }

    /// How long nobody who came in was acknowledged, since then, in some partition; waits until somebody is in each.
    pub fn fresh_gap(&mut self, since: u64) -> Result<f64> {
        let healed = gaps::now();
        let (writer, acks) = &mut self.fresh;
        let mut patience = Waiting::at_most(PATIENCE);
        loop {
            writer.check()?;
            load::collect(std::slice::from_mut(writer), acks)?;
            if gaps::waiting(acks, &[writer.id()], FRESH_PARTITIONS, healed).is_empty() {
                break;
            }
            ensure!(patience.step(Duration::from_millis(20)), "nobody who comes in is acknowledged");
        }
        let gap = gaps::largest(acks, since, |_| true).into_values().fold(0.0, f64::max);
        // Where the next gap may begin stays.
        for acks in acks.values_mut() {
            acks.drain(..acks.len().saturating_sub(FRESH_KEPT));
        }
        Ok(gap)
    }

    /// Starts nodes again that have ended. Their parents may have ended them on a machine that is too busy; nothing else may.
    pub fn revive(&mut self) -> Result<()> {
        for at in 0..NODES {
            let Some(said) = self.cluster.fallen(at) else { continue };
            ensure!(said.contains("stood still"), "node {} has ended by itself, {said}", at + 1);
            self.notes
                .push(format!("node {} was ended by its parent without being told to stand still", at + 1));
        }
        self.cluster.start_all()
    }

    /// Waits until every writer has been acknowledged in every partition since then.
    pub fn await_progress(&mut self, since: u64) -> Result<()> {
        let writers: Vec<u16> = self.traffic.writers.iter().map(|writer| writer.id()).collect();
        let mut patience = Waiting::at_most(PATIENCE);
        loop {
            self.traffic.check()?;
            self.traffic.collect()?;
            let waiting = gaps::waiting(self.traffic.pending(), &writers, PARTITIONS, since);
            if waiting.is_empty() {
                return Ok(());
            }
            if !patience.step(Duration::from_millis(20)) {
                bail!(
                    "no acknowledgement within {} s of {}; replicas are {}",
                    PATIENCE.as_secs(),
                    self.named(&waiting),
                    self.replicas().map_or_else(|why| why.to_string(), |all| format!("{all:?}"))
                );
            }
        }
    }

    fn named(&self, waiting: &[(u16, usize)]) -> String {
        let of = |id: u16| self.traffic.writers.iter().find(|writer| writer.id() == id);
        let name = |id| of(id).map_or("?", |writer| writer.name());
        let all: Vec<String> =
            waiting.iter().map(|(id, partition)| format!("{} in partition {partition}", name(*id))).collect();
        all.join(", ")
    }

    /// Leader, number of replicas in sync and of replicas, of each partition.
    pub fn replicas(&self) -> Result<Vec<(i32, usize, usize)>> {
        replicas(self.programs, &self.traffic.address, TOPIC)
    }

    /// Waits until every replica is in sync.
    pub fn await_in_sync(&self) -> Result<()> {
        let mut patience = Waiting::at_most(IN_SYNC);
        loop {
            let replicas = self.replicas()?;
            if replicas.iter().all(|(_, in_sync, all)| in_sync == all) {
                return Ok(());
            }
            if !patience.step(Duration::from_millis(100)) {
                bail!("after {} s not all replicas are in sync: {replicas:?}", IN_SYNC.as_secs());
            }
        }
    }

    /// Reads back what came, and looks whether a group's commits have gone back.
    pub fn verify(&mut self) -> Result<()> {
        self.traffic.verify()?;
        for (partition, offset) in self.traffic.committed()? {
            let before = self.committed.entry(partition).or_insert(0);
            if offset < *before {
                let text = format!(
                    "the group's commit of partition {partition} went back from {before} to {offset}"
                );
                self.traffic.ledger.problem(text);
            }
            *before = offset.max(*before);
        }
        Ok(())
    }
}

/// Leader, number of replicas in sync and of replicas, of each partition of a topic.
pub fn replicas(programs: &Programs, address: &str, topic: &str) -> Result<Vec<(i32, usize, usize)>> {
    let said = programs.ask(address, "replicas", &[format!("topic={topic}")])?;
    let of = |partition: &str| {
        let mut words = partition.split(':');
        let mut word = || words.next().with_context(|| format!("`{partition}` tells no replicas"));
        Ok((word()?.parse()?, word()?.parse()?, word()?.parse()?))
    };
    said.split(',').map(of).collect()
}
