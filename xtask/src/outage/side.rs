//! One cluster with one topic and the clients that write to it, and a trial of each fault.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::CLIENTS;
use super::faults::{AFTER, Deed, Fault, REST, Target};
use super::page::{Outages, Row};
use crate::chaos::world::replicas;
use crate::cluster::contender::{Nodes, Which};
use crate::cluster::{NODES, gaps};
use crate::crash::ledger::Ledger;
use crate::crash::load::{self, Acks, Order, Programs, Waiting, Writer};

/// Partitions that are written to; each node leads one of them at first.
const WRITTEN: usize = 3;
/// Records a second of each client, over all partitions that are written to.
const RATE: u64 = 450;
/// How long anything may take: the client of a frozen Kafka waits for a minute and more.
const PATIENCE: Duration = Duration::from_secs(200);

/// How many partitions the topic has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Those that are written to, one led by each node.
    One,
    /// A thousand led by each node.
    Many,
}

impl Size {
    fn partitions(self) -> usize {
        match self {
            Self::One => WRITTEN,
            Self::Many => 1000 * NODES,
        }
    }

    /// As the page says it: led by each node.
    pub fn said(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Many => "1,000",
        }
    }
}

/// A cluster, a topic, and what is known of it.
pub struct Side<'a> {
    nodes: Rc<RefCell<Nodes>>,
    which: Which,
    programs: &'a Programs,
    topic: String,
    size: Size,
    folder: PathBuf,
    ledger: Ledger,
    writers: Vec<Writer>,
    acks: Acks,
}

impl<'a> Side<'a> {
    /// Before its first round.
    pub fn new(nodes: Rc<RefCell<Nodes>>, programs: &'a Programs, size: Size, folder: &Path) -> Self {
        let which = nodes.borrow().which;
        let topic = format!("paced-{}", size.partitions());
        let folder = folder.join(which.name());
        let (ledger, writers, acks) = (Ledger::new(size.partitions()), Vec::new(), Acks::new());
        Self { nodes, which, programs, topic, size, folder, ledger, writers, acks }
    }

    /// What does not hold of what was read back.
    pub fn problems(&self) -> Vec<String> {
        self.ledger.problems().iter().map(|problem| format!("{}: {problem}", self.which.name())).collect()
    }

    /// How far it is.
    pub fn summary(&self, rounds: usize) -> String {
        let (name, size, acked) = (self.which.name(), self.size.said(), self.ledger.acked);
        format!("{name}, {size} partitions: round {rounds} done, {acked} acknowledged and read back")
    }

    /// Clients start, and before the first round the topic is created; every fault has a trial, clients end; everything acknowledged is read back.
    pub fn round(
        &mut self,
        faults: &[&Fault],
        number: usize,
        last: Instant,
        outages: &mut Outages,
    ) -> Result<()> {
        let address = self.nodes.borrow().cluster.bootstrap();
        if number == 0 {
            self.programs.create(&address, &self.topic, self.size.partitions(), &["replicas=3"])?;
        }
        for (family, _) in CLIENTS {
            let order = Order {
                address: &address,
                topic: (&self.topic, WRITTEN),
                family,
                name: format!("{}-{}-{number}-{family}", self.which.name(), self.size.partitions()),
                rate: RATE,
                timeout: 0,
                folder: &self.folder,
                more: &["defaults=1", "tick=2"],
            };
            self.writers.push(Writer::start(self.programs, &order, &mut self.ledger)?);
        }
        self.await_progress(gaps::now())?;
        for fault in faults {
            let is_due = self.which == Which::Moldau || number.is_multiple_of(fault.kafka_every);
            if is_due && Instant::now() < last {
                let row = self.trial(fault).with_context(|| {
                    format!(
                        "{}, {} partitions, round {number}: {}",
                        self.which.name(),
                        self.size.said(),
                        fault.what
                    )
                })?;
                self.note(row, fault, outages);
            }
        }
        self.settle(outages)
    }

    fn note(&self, gaps: Option<BTreeMap<u16, f64>>, fault: &Fault, outages: &mut Outages) {
        for (at, (_, client)) in CLIENTS.iter().enumerate() {
            let row = Row { side: self.which, size: self.size, fault: fault.name, client };
            match gaps.as_ref().and_then(|gaps| gaps.get(&self.writers[at].id())) {
                Some(gap) => outages.add(&row, *gap),
                None => outages.left_out(&row),
            }
        }
    }

    /// Ends the clients, and compares what they were told with what is there.
    fn settle(&mut self, outages: &mut Outages) -> Result<()> {
        for writer in &mut self.writers {
            writer.finish()?;
        }
        load::collect(&mut self.writers, &mut self.acks)?;
        for (writer, (_, client)) in self.writers.iter().zip(CLIENTS) {
            outages.errors(self.which, client, writer.failed.0, &writer.failed.1);
        }
        let address = self.nodes.borrow().cluster.bootstrap();
        self.programs.read_on(&address, &self.topic, &self.folder.join("back"), &mut self.ledger)?;
        load::settle(&mut self.acks, &mut self.ledger);
        self.writers.clear();
        Ok(())
    }

    /// One fault; the largest gap of each client, or nothing where no partition is as the fault wants it.
    fn trial(&mut self, fault: &Fault) -> Result<Option<BTreeMap<u16, f64>>> {
        self.await_in_sync()?;
        let Some((at, partitions)) = self.choose(fault.target)? else { return Ok(None) };
        sleep(REST);
        let since = gaps::now();
        if fault.deed == Deed::Roll {
            for at in 0..NODES {
                self.await_in_sync()?;
                let mut nodes = self.nodes.borrow_mut();
                nodes.cluster.stop(at)?;
                nodes.cluster.start(at)?;
            }
        } else {
            let mut nodes = self.nodes.borrow_mut();
            match fault.deed {
                Deed::Kill => nodes.cluster.kill(at)?,
                Deed::Freeze => nodes.cluster.freeze(at)?,
                Deed::Terminate | Deed::Roll => nodes.cluster.stop(at)?,
            }
        }
        sleep(AFTER);
        self.await_progress(gaps::now())?;
        let found = gaps::largest(&self.acks, since, |partition| partitions.contains(&partition));
        let mut nodes = self.nodes.borrow_mut();
        if fault.deed == Deed::Freeze {
            nodes.cluster.kill(at)?;
        }
        nodes.cluster.start_all()?;
        Ok(Some(found))
    }

    /// The node for a target, by its place, and the partitions that count.
    fn choose(&self, target: Target) -> Result<Option<(usize, Vec<usize>)>> {
        let leaders: Vec<usize> = self
            .replicas()?
            .iter()
            .take(WRITTEN)
            .map(|(leader, ..)| usize::try_from(leader - 1).context("a partition has no leader"))
            .collect::<Result<_>>()?;
        let led = |at: usize, led: bool| -> Vec<usize> {
            (0..WRITTEN).filter(|partition| (leaders[*partition] == at) == led).collect()
        };
        let controller = self.controller();
        let most = |of: &dyn Fn(usize) -> usize| (0..NODES).max_by_key(|at| of(*at)).unwrap_or(0);
        let (at, partitions) = match target {
            Target::Everybody => (0, (0..WRITTEN).collect()),
            Target::Leader => {
                let at = most(&|at| led(at, true).len());
                (at, led(at, true))
            }
            Target::Follower => {
                let at = most(&|at| if Some(at) == controller { 0 } else { led(at, false).len() });
                (at, led(at, false))
            }
            Target::Controller => match controller {
                Some(at) => (at, led(at, false)),
                None => return Ok(None),
            },
        };
        Ok((!partitions.is_empty()).then_some((at, partitions)))
    }

    /// The place of the active controller, where the cluster tells.
    fn controller(&self) -> Option<usize> {
        let address = self.nodes.borrow().cluster.bootstrap();
        let id: usize = self.programs.ask(&address, "controller", &[]).ok()?.parse().ok()?;
        id.checked_sub(1)
    }

    fn replicas(&self) -> Result<Vec<(i32, usize, usize)>> {
        replicas(self.programs, &self.nodes.borrow().cluster.bootstrap(), &self.topic)
    }

    fn await_in_sync(&self) -> Result<()> {
        let mut patience = Waiting::at_most(PATIENCE);
        loop {
            let replicas = self.replicas()?;
            if replicas.iter().all(|(leader, in_sync, all)| *leader > 0 && in_sync == all) {
                return Ok(());
            }
            ensure!(
                patience.step(Duration::from_millis(100)),
                "not all replicas are in sync after {PATIENCE:?}"
            );
        }
    }

    /// Waits until every client was acknowledged in every partition since then.
    fn await_progress(&mut self, since: u64) -> Result<()> {
        let ids: Vec<u16> = self.writers.iter().map(Writer::id).collect();
        let mut patience = Waiting::at_most(PATIENCE);
        loop {
            self.writers.iter_mut().try_for_each(Writer::check)?;
            load::collect(&mut self.writers, &mut self.acks)?;
            let waiting = gaps::waiting(&self.acks, &ids, WRITTEN, since);
            if waiting.is_empty() {
                return Ok(());
            }
            if !patience.step(Duration::from_millis(20)) {
                bail!("no acknowledgement within {PATIENCE:?} of {waiting:?}");
            }
        }
    }
}
