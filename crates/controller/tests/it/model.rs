//! Elections and in-sync sets together, exhaustively: one partition on three brokers, the real controller, and of each broker only whether its process runs
//! and whether its replica has everything that was acknowledged. Two states that differ in nothing but epochs are the same, which makes their number
//! finite: stateright visits all, whatever the length of the history.

use std::hash::{Hash, Hasher};

use moldau_base::{BrokerEpoch, NodeId, Now, PartitionIndex, Rng, TopicPartition, Uuid};
use moldau_controller::{
    AlterPartition, AlterPartitions, Controller, CreateTopics, Evidence, Heartbeat, Image, Mode, NO_LEADER,
    NewTopic, Partition, Reply, Request, Settings, Wants,
};
use stateright::{Checker, Model, Property};

use crate::world::{CLUSTER, broker};

const BROKERS: usize = 3;

/// One thing that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// The process ends, or its machine.
    Die(usize),
    /// The controller hears of that.
    Tell(usize),
    /// It comes back, after a clean stop or with what was not flushed lost.
    Return { id: usize, clean: bool },
    /// It comes back with an empty disk.
    ReturnEmpty(usize),
    /// It says that it is there.
    Beat(usize),
    /// It is on its way to a clean stop.
    Stop(usize),
    /// The leader wants it in the in-sync set: it has everything.
    Join(usize),
    /// The leader wants it out.
    Leave(usize),
    /// The leader acknowledges a record.
    Acknowledge,
}

#[derive(Clone, Debug)]
struct World {
    controller: Controller,
    offset: i64,
    processes: u8,
    up: [bool; BROKERS],
    /// Whose replica has everything that was acknowledged.
    has: [bool; BROKERS],
    /// Who has nothing since its disk was replaced.
    empty: [bool; BROKERS],
    disks: u8,
    directories: [Vec<Uuid>; BROKERS],
    broken: Option<String>,
}

/// What of a world can make a difference to what follows.
#[derive(PartialEq, Eq, Hash)]
struct Essence {
    leader: NodeId,
    isr: Vec<NodeId>,
    eligible: Vec<NodeId>,
    last_known: Vec<NodeId>,
    recovering: bool,
    brokers: Vec<(bool, bool)>,
    up: [bool; BROKERS],
    has: [bool; BROKERS],
    empty: [bool; BROKERS],
    broken: bool,
}

impl World {
    fn new() -> World {
        let settings = Settings { min_insync_replicas: Some(2), ..Settings::default() };
        let mut controller = Controller::new(settings, Image::new(CLUSTER));
        controller.activate(Now::default());
        let mut world = World {
            controller,
            offset: 0,
            processes: 0,
            up: [true; BROKERS],
            has: [true; BROKERS],
            empty: [false; BROKERS],
            disks: 0,
            directories: std::array::from_fn(|id| broker(id as i32, 0, None).log_dirs),
            broken: None,
        };
        world.ask(&Request::Bootstrap(vec![("metadata.version".into(), 30)]));
        for id in 0..BROKERS {
            world.register(id, false);
            world.beat(id, Wants::Serve);
        }
        let topic = NewTopic { partitions: 1, replication_factor: 3, ..NewTopic::named("t") };
        world.ask(&Request::CreateTopics(CreateTopics { topics: vec![topic], mode: Mode::Apply }));
        world
    }

    fn essence(&self) -> Essence {
        let partition = self.partition().clone();
        let sorted = |mut ids: Vec<NodeId>| {
            ids.sort_unstable();
            ids
        };
        let state =
            |id| self.controller.image().broker(node(id)).map_or((true, true), |b| (b.fenced, b.stopping));
        Essence {
            leader: partition.leader,
            isr: sorted(partition.isr.into()),
            eligible: sorted(partition.eligible.into()),
            last_known: partition.last_known_eligible.into(),
            recovering: partition.recovering,
            brokers: (0..BROKERS).map(state).collect(),
            up: self.up,
            has: self.has,
            empty: self.empty,
            broken: self.broken.is_some(),
        }
    }

    fn at(&self) -> TopicPartition {
        let topic = self.controller.image().topics().values().next().expect("one topic").id;
        TopicPartition { topic, partition: PartitionIndex(0) }
    }

    fn partition(&self) -> &Partition {
        self.controller.image().partition(self.at()).expect("its only partition")
    }

    /// Lets the controller decide, and follows what that does to the partition.
    fn ask(&mut self, request: &Request) -> Option<Reply> {
        let decision = self.controller.decide(Now::default(), &mut Rng::seeded(1), request).ok()?;
        for record in &decision.records {
            self.controller.apply(self.offset, record).expect("what was decided fits");
            self.offset += 1;
        }
        Some(decision.reply)
    }

    fn epoch(&self, id: usize) -> BrokerEpoch {
        self.controller.image().broker(node(id)).map_or(BrokerEpoch(-1), |broker| broker.epoch)
    }

    fn is_active(&self, id: usize) -> bool {
        self.controller.image().broker(node(id)).is_some_and(|broker| broker.is_active())
    }

    fn register(&mut self, id: usize, clean: bool) -> bool {
        self.processes = self.processes.wrapping_add(1);
        let mut request = broker(id as i32, self.processes, None);
        request.fenced = true;
        request.log_dirs.clone_from(&self.directories[id]);
        request.stopped_at = clean.then(|| self.epoch(id));
        self.ask(&Request::RegisterBroker(request)).is_some()
    }

    fn beat(&mut self, id: usize, wants: Wants) {
        let (broker, epoch, offset) = (node(id), self.epoch(id), self.controller.image().offset());
        self.ask(&Request::Heartbeat(Heartbeat { broker, epoch, offset, wants, offline_dirs: vec![] }));
    }

    /// The leader, if its process runs.
    fn leader(&self) -> Option<usize> {
        let leader = self.partition().leader;
        (leader != NO_LEADER).then_some(leader.0 as usize).filter(|&id| self.up[id])
    }

    fn want(&mut self, leader: usize, members: &[usize]) -> bool {
        let partition = self.partition();
        let wish = AlterPartition {
            at: self.at(),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: members.iter().map(|&id| (node(id), self.epoch(id))).collect(),
            recovering: false,
        };
        let (broker, epoch) = (node(leader), self.epoch(leader));
        let request = Request::AlterPartitions(AlterPartitions { broker, epoch, partitions: vec![wish] });
        match self.ask(&request) {
            Some(Reply::PartitionsAltered(answers)) => answers.iter().all(|(_, answer)| answer.is_ok()),
            _ => false,
        }
    }

    fn act(&mut self, action: Action) {
        let before = self.partition().clone();
        let in_sync: Vec<usize> = before.isr.iter().map(|id| id.0 as usize).collect();
        match action {
            Action::Die(id) => self.up[id] = false,
            Action::Tell(id) => {
                let (broker, epoch) = (node(id), self.epoch(id));
                self.ask(&Request::BrokerGone { broker, epoch, evidence: Evidence::Refused });
            }
            Action::Return { id, clean } => {
                if self.register(id, clean) {
                    self.up[id] = true;
                    self.has[id] &= clean;
                }
            }
            Action::ReturnEmpty(id) => {
                let before = self.directories[id].clone();
                self.disks = self.disks.wrapping_add(1);
                self.directories[id] = vec![Uuid([100 + self.disks % 100; 16])];
                match self.register(id, false) {
                    true => (self.up[id], self.has[id], self.empty[id]) = (true, false, true),
                    false => self.directories[id] = before,
                }
            }
            Action::Beat(id) => self.beat(id, Wants::Serve),
            Action::Stop(id) => self.beat(id, Wants::Stop),
            Action::Join(id) => {
                let members: Vec<usize> = in_sync.iter().copied().chain([id]).collect();
                if self.leader().is_some_and(|leader| self.want(leader, &members)) {
                    (self.has[id], self.empty[id]) = (true, false);
                }
            }
            Action::Leave(id) => {
                let members: Vec<usize> = in_sync.iter().copied().filter(|&member| member != id).collect();
                _ = self.leader().is_some_and(|leader| self.want(leader, &members));
            }
            Action::Acknowledge => {
                (0..BROKERS).filter(|id| !in_sync.contains(id)).for_each(|id| self.has[id] = false);
            }
        }
        self.look(&before);
    }

    /// Whoever leads, is in sync or eligible has everything; only an election that says that it recovers may give it up.
    fn look(&mut self, before: &Partition) {
        let now = self.partition().clone();
        if now.recovering && now.leader != before.leader && now.leader != NO_LEADER {
            if self.empty[now.leader.0 as usize] {
                self.broken =
                    Some(format!("{} leads, and its disk is empty: {before:?}, {now:?}", now.leader));
            }
            // What it has is what there is, from now on.
            self.has = [false; BROKERS];
            self.has[now.leader.0 as usize] = true;
        }
        let lacks = |id: &&NodeId| !self.has[id.0 as usize];
        let told = [("in sync", &now.isr), ("eligible", &now.eligible)];
        for (what, members) in told {
            if let Some(member) = members.iter().find(lacks) {
                self.broken = Some(format!("{member} is {what} without everything: {now:?}"));
            }
        }
        if now.leader_epoch == before.leader_epoch && now.leader != before.leader {
            self.broken = Some(format!("two leaders in one epoch: {before:?}, {now:?}"));
        }
    }
}

fn node(id: usize) -> NodeId {
    NodeId(id as i32)
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        self.essence() == other.essence()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

struct Elections;

impl Model for Elections {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        let leader = world.leader();
        let in_sync = |id: usize| world.partition().isr.contains(&node(id));
        for id in 0..BROKERS {
            if world.up[id] {
                actions.extend([Action::Die(id), Action::Beat(id), Action::Stop(id)]);
            } else {
                actions.extend([
                    Action::Tell(id),
                    Action::Return { id, clean: false },
                    Action::ReturnEmpty(id),
                ]);
                // A stop is clean only with everything that the replica had.
                actions.extend(world.has[id].then_some(Action::Return { id, clean: true }));
            }
            let Some(leader) = leader.filter(|&leader| leader != id) else { continue };
            match in_sync(id) {
                false if world.up[id] && world.is_active(id) => actions.push(Action::Join(id)),
                true if leader != id => actions.push(Action::Leave(id)),
                _ => {}
            }
        }
        let members = &world.partition().isr;
        let all_there = members.iter().all(|member| world.up[member.0 as usize]);
        if leader.is_some() && all_there && members.len() >= 2 {
            actions.push(Action::Acknowledge);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("promises are kept", |_, world: &World| world.broken.is_none()),
            Property::sometimes("nobody leads", |_, world: &World| world.partition().leader == NO_LEADER),
            Property::sometimes("an eligible replica waits", |_, world: &World| {
                !world.partition().eligible.is_empty()
            }),
            Property::sometimes("the last leader recovers", |_, world: &World| world.partition().recovering),
        ]
    }
}

#[test]
fn elections_exhaustively() {
    let checker = Elections.checker().spawn_dfs().join();
    println!("{} states", checker.unique_state_count());
    if let Some(path) = checker.discovery("promises are kept") {
        let world = path.last_state().broken.clone();
        panic!("{world:?} after {:?}", path.into_actions());
    }
    checker.assert_properties();
}
