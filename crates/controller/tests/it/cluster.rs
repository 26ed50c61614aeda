//! Random lives of a cluster of several brokers: they come, fall silent, stop, come back clean or not, lead, and want
//! other in-sync sets. Whatever happens, what no image may show is not there; and bugs planted on purpose are found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use moldau_base::{
    BrokerEpoch, LeaderEpoch, NodeId, Now, PartitionEpoch, PartitionIndex, Rng, TopicPartition, Uuid,
};
use moldau_controller::{
    AlterConfigs, AlterPartition, AlterPartitions, AlterReassignments, Controller, CreateTopics,
    ElectLeaders, ElectionKind, Evidence, FactorChange, Heartbeat, Image, Mode, NO_LEADER, NewTopic,
    Partition, Reassignment, Record, Reply, Request, ResourceName, Settings, Wants, snapshot,
};
use proptest::prelude::{ProptestConfig, proptest};

use crate::world::{CLUSTER, broker};

const BROKERS: i32 = 4;

/// What must hold from one image to the next.
#[derive(Default)]
struct Watch {
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), NodeId>,
    epochs: BTreeMap<TopicPartition, (LeaderEpoch, PartitionEpoch)>,
    /// What nobody may break, broken.
    found: Vec<String>,
}

impl Watch {
    fn look(&mut self, image: &Image) {
        for topic in image.topics().values() {
            for (index, partition) in &topic.partitions {
                let at = TopicPartition { topic: topic.id, partition: *index };
                let mut problems = sets(image, partition);
                self.epochs_grow(at, partition, &mut problems);
                if partition.leader != NO_LEADER {
                    let leader =
                        *self.leaders.entry((at, partition.leader_epoch)).or_insert(partition.leader);
                    if leader != partition.leader {
                        let _ = writeln!(problems, "two leaders in epoch {}", partition.leader_epoch);
                    }
                }
                if !problems.is_empty() {
                    self.found.push(format!("{}-{index}: {problems}{partition:?}", topic.name));
                }
            }
        }
    }

    fn epochs_grow(&mut self, at: TopicPartition, partition: &Partition, problems: &mut String) {
        let now = (partition.leader_epoch, partition.partition_epoch);
        let before = self.epochs.insert(at, now).unwrap_or(now);
        if now.0 < before.0 || now.1 < before.1 {
            let _ = writeln!(problems, "epochs went back from {before:?} to {now:?}");
        }
    }
}

/// What must hold of one partition.
fn sets(image: &Image, p: &Partition) -> String {
    let mut problems = String::new();
    let mut require = |holds: bool, what: &str| {
        if !holds {
            let _ = writeln!(problems, "{what}");
        }
    };
    let active = |id: &NodeId| image.broker(*id).is_some_and(|broker| broker.is_active());
    let led = p.leader != NO_LEADER;
    require(p.isr.iter().all(|id| p.replicas.contains(id)), "in sync, and no replica");
    require(p.isr.iter().all(active), "in sync, and not active");
    require(p.eligible.iter().all(|id| p.replicas.contains(id) && !p.isr.contains(id)), "wrongly eligible");
    require(!led || active(&p.leader), "the leader is not active");
    require(!led || p.isr.contains(&p.leader), "the leader is not in sync");
    require(led || p.isr.is_empty(), "in sync, and nobody leads");
    require(p.directories.len() == p.replicas.len(), "directories");
    require(!p.adding.iter().any(|id| p.removing.contains(id)), "added and removed");
    problems
}

/// A controller, its log, and what a leader could know of its partitions at any time before.
struct Cluster {
    rng: Rng,
    now: Now,
    controller: Controller,
    log: Vec<bytes::Bytes>,
    watch: Watch,
    /// Partitions as some leader knew them once.
    known: Vec<(TopicPartition, Arc<Partition>)>,
    processes: u8,
    /// An unclean election was asked for.
    unclean: bool,
    /// Whom a leader wants in sync with the request that is decided.
    vouched: Vec<NodeId>,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let settings = Settings { session_timeout: Some(Duration::from_millis(500)), ..Settings::default() };
        let settings = Settings { rebalance_interval: Some(Duration::from_secs(3)), ..settings };
        let mut cluster = Cluster {
            rng: Rng::seeded(seed),
            now: Now::default(),
            controller: Controller::new(settings, Image::new(CLUSTER)),
            log: vec![],
            watch: Watch::default(),
            known: vec![],
            processes: 0,
            unclean: false,
            vouched: vec![],
        };
        cluster.controller.activate(cluster.now);
        cluster.ask(&Request::Bootstrap(vec![(Arc::from("metadata.version"), 30)]));
        for id in 0..BROKERS {
            cluster.register(id);
            cluster.beat(id, Wants::Serve);
        }
        for name in ["a", "b"] {
            let topic = NewTopic { partitions: 3, replication_factor: 3, ..NewTopic::named(name) };
            cluster.ask(&Request::CreateTopics(CreateTopics { topics: vec![topic], mode: Mode::Apply }));
        }
        cluster
    }

    fn ask(&mut self, request: &Request) -> Option<Reply> {
        let before = self.controller.image().clone();
        let decision = self.controller.decide(self.now, &mut self.rng, request).ok();
        assert_eq!(*self.controller.image(), before, "deciding changes no metadata");
        let decision = decision?;
        for record in &decision.records {
            let before = self.controller.image().clone();
            self.controller.apply(self.log.len() as i64, record).expect("what was decided fits");
            self.log.push(record.encode().expect("encodes"));
            self.watch.look(self.controller.image());
            self.elected_safely(&before, record);
        }
        Some(decision.reply)
    }

    /// Whoever begins to lead was in sync or eligible before, or had all until it may have lost something and the partition says that it recovers.
    fn elected_safely(&mut self, before: &Image, record: &Record) {
        let after = self.controller.image();
        for topic in after.topics().values() {
            for (index, now) in &topic.partitions {
                let at = TopicPartition { topic: topic.id, partition: *index };
                let Some(was) = before.partition(at) else { continue };
                let safe = was.isr.contains(&now.leader)
                    || was.eligible.contains(&now.leader)
                    || self.vouched.contains(&now.leader)
                    || (now.recovering && (self.unclean || was.last_known_eligible.contains(&now.leader)));
                if now.leader != NO_LEADER && now.leader != was.leader && !safe {
                    self.watch
                        .found
                        .push(format!("{at} by {record:?}: {} was not safe: {was:?}", now.leader));
                }
            }
        }
    }

    fn epoch(&self, id: i32) -> BrokerEpoch {
        self.controller.image().broker(NodeId(id)).map_or(BrokerEpoch(-1), |broker| broker.epoch)
    }

    fn register(&mut self, id: i32) {
        self.processes = self.processes.wrapping_add(1);
        let mut request = broker(id, self.processes, Some(["x", "y"][id as usize % 2]));
        request.incarnation = Uuid::random(&mut self.rng);
        request.fenced = true;
        request.stopped_at = self.rng.chance(1, 2).then(|| self.epoch(id));
        if self.rng.chance(1, 6) {
            request.log_dirs = vec![Uuid::random(&mut self.rng)];
        }
        self.ask(&Request::RegisterBroker(request));
    }

    fn beat(&mut self, id: i32, wants: Wants) {
        let offset = self.controller.image().offset() - self.rng.below(2) as i64;
        let mut offline_dirs = vec![];
        if self.rng.chance(1, 30) {
            let broker = self.controller.image().broker(NodeId(id));
            offline_dirs = broker.map(|broker| broker.log_dirs.clone()).unwrap_or_default();
        }
        let epoch = self.epoch(id);
        let beat = Heartbeat { broker: NodeId(id), epoch, offset, wants, offline_dirs };
        self.ask(&Request::Heartbeat(beat));
    }

    fn partitions(&self) -> Vec<(TopicPartition, Arc<Partition>)> {
        let image = self.controller.image();
        let all = image.topics().values().flat_map(|topic| {
            let of = move |index: &PartitionIndex| TopicPartition { topic: topic.id, partition: *index };
            topic.partitions.iter().map(move |(index, p)| (of(index), p.clone()))
        });
        all.collect()
    }

    /// A leader that knows its partition as it is, or as it was, wants some in-sync set.
    fn want_in_sync(&mut self) {
        let all = self.partitions();
        let pool = if self.rng.chance(1, 3) { &self.known } else { &all };
        let Some((at, p)) = self.rng.pick(pool).cloned() else { return };
        self.known.push((at, p.clone()));
        let leader = if p.leader == NO_LEADER { NodeId(0) } else { p.leader };
        let mut isr = vec![(leader, self.epoch(leader.0))];
        for id in p.replicas.iter().filter(|id| **id != leader) {
            if self.rng.chance(2, 3) {
                let epoch = if self.rng.chance(1, 8) { BrokerEpoch(3) } else { self.epoch(id.0) };
                isr.push((*id, epoch));
            }
        }
        let wanted: Vec<NodeId> = isr.iter().map(|(id, _)| *id).collect();
        let recovering = p.recovering && self.rng.chance(1, 2);
        let wish = AlterPartition {
            at,
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            isr,
            recovering,
        };
        let now = self.controller.image().partition(at).cloned();
        let epoch = self.epoch(leader.0);
        let request = AlterPartitions { broker: leader, epoch, partitions: vec![wish] };
        self.vouched = p.replicas.iter().copied().filter(|id| wanted.contains(id)).collect();
        let answer = self.ask(&Request::AlterPartitions(request));
        self.vouched.clear();
        let Some(Reply::PartitionsAltered(replies)) = answer else {
            return;
        };
        let granted = replies.iter().any(|(_, result)| result.is_ok());
        if granted && now.is_some_and(|now| now.partition_epoch != p.partition_epoch) {
            self.watch.found.push(format!("{at}: a leader that did not know of the last change was heeded"));
        }
    }

    fn move_some(&mut self) {
        let topic = *self.rng.pick(&["a", "b"]).expect("some");
        let first = self.rng.below(BROKERS as u64) as i32;
        let count = 1 + self.rng.below(3) as i32;
        let target = (0..count).map(|i| NodeId((first + i) % BROKERS)).collect();
        let target = self.rng.chance(3, 4).then_some(target);
        let index = PartitionIndex(self.rng.below(3) as i32);
        let wish = Reassignment { topic: topic.into(), index, target };
        let factor = FactorChange::Allowed;
        self.ask(&Request::AlterReassignments(AlterReassignments { partitions: vec![wish], factor }));
    }

    fn elect(&mut self) {
        let kind = if self.rng.chance(1, 8) { ElectionKind::Unclean } else { ElectionKind::Preferred };
        self.unclean |= kind == ElectionKind::Unclean;
        self.ask(&Request::ElectLeaders(ElectLeaders { kind, partitions: None }));
    }

    fn set_min_insync(&mut self) {
        let value = (1 + self.rng.below(3)).to_string();
        let resource = match self.rng.below(2) {
            0 => ResourceName { kind: 4, name: Arc::from("") },
            _ => ResourceName { kind: 2, name: Arc::from("a") },
        };
        let configs = vec![("min.insync.replicas".to_owned(), Some(value))];
        let resources = vec![(resource, configs)];
        self.ask(&Request::AlterConfigs(AlterConfigs { resources, mode: Mode::Apply }));
    }

    fn step(&mut self) {
        let id = self.rng.below(BROKERS as u64) as i32;
        match self.rng.below(24) {
            0..7 => self.beat(id, Wants::Serve),
            7 => self.beat(id, Wants::Stop),
            8 => {
                let wants = *self.rng.pick(&[Wants::Fence, Wants::FenceAndStop]).expect("some");
                self.beat(id, wants);
            }
            9 => self.register(id),
            10 => {
                let epoch = self.epoch(id);
                let evidence = Evidence::Refused;
                self.ask(&Request::BrokerGone { broker: NodeId(id), epoch, evidence });
            }
            11 => {
                self.now = self.now.after_ms(self.rng.below(400) as i64);
                let due = self.controller.deadline().is_some_and(|at| at <= self.now.mono);
                if due {
                    self.ask(&Request::Tick);
                }
            }
            12 => self.move_some(),
            13 => self.elect(),
            14 => self.set_min_insync(),
            15 if self.rng.chance(1, 4) => {
                self.ask(&Request::UnregisterBroker(NodeId(id)));
            }
            _ => self.want_in_sync(),
        }
    }

    /// The image of the log from the beginning, and of a snapshot at `cut` with the log behind it.
    fn replayed(&self, cut: usize) -> [Image; 2] {
        let mut whole = Image::new(CLUSTER);
        let mut resumed = whole.clone();
        for (offset, bytes) in self.log.iter().enumerate() {
            if offset == cut {
                resumed = restored(&whole);
            }
            let record = Record::decode(bytes.clone()).expect("decodes");
            whole.apply(offset as i64, &record).expect("fits");
            resumed.apply(offset as i64, &record).expect("fits");
        }
        [whole, resumed]
    }
}

/// What was wrong with the life of this seed.
fn live(seed: u64) -> Vec<String> {
    let mut cluster = Cluster::new(seed);
    for _ in 0..120 {
        cluster.step();
        if !cluster.watch.found.is_empty() {
            break;
        }
    }
    let cut = cluster.rng.below(cluster.log.len() as u64) as usize;
    for replayed in cluster.replayed(cut) {
        assert_eq!(replayed, *cluster.controller.image(), "a replay, a snapshot at {cut}");
    }
    cluster.watch.found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whatever_brokers_do(seed: u64) {
        assert_eq!(live(seed), Vec::<String>::new());
    }
}

/// A snapshot's image, read into an empty one.
fn restored(image: &Image) -> Image {
    let mut again = Image::new(CLUSTER);
    for record in snapshot::records(image) {
        again.apply(image.offset(), &record).expect("fits");
    }
    again.advance(image.offset());
    again
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn records_in_any_order(seed: u64) {
        let mut cluster = Cluster::new(seed);
        (0..120).for_each(|_| cluster.step());
        let mut image = Image::new(CLUSTER);
        for offset in 0..300 {
            let some = cluster.rng.below(cluster.log.len() as u64) as usize;
            let some = if offset < cluster.log.len().min(30) { offset } else { some };
            let record = Record::decode(cluster.log[some].clone()).expect("decodes");
            let before = image.clone();
            if image.apply(offset as i64, &record).is_err() {
                assert_eq!(image, before, "a record that does not fit changes nothing");
            }
        }
        assert_eq!(restored(&image), image, "a snapshot holds everything");
    }
}

/// Each bug that is planted is found within few lives; without one there is nothing to find.
#[cfg(feature = "planted")]
#[test]
fn planted_bugs_are_found() {
    use moldau_base::planted::{Bug, plant};

    assert_eq!((1..=200).find(|seed| !live(*seed).is_empty()), None, "without a bug");
    for bug in Bug::OF_CONTROLLER {
        plant(Some(*bug));
        let found = (1..=200).find(|seed| !live(*seed).is_empty());
        plant(None);
        println!("{}: found with seed {found:?}", bug.name());
        assert!(found.is_some(), "{} was not found: {}", bug.name(), bug.about());
    }
}
