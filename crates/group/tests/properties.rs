//! Random clients, times, commits, failures and restarts. After every step a coordinator is compared with one that
//! replays its log (in `support::host`). Besides: generations never go back, a generation has one assignment, every
//! request is answered once and none waits for ever, and offsets are answered only when they are committed.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_group::request::*;
use moldau_group::{Config, DeletedTopic, Input};
use moldau_wire::ErrorCode;
use proptest::prelude::*;
use support::host::{Host, Log, Said};

const CLIENTS: usize = 6;
const GROUPS: usize = 2;

/// What one client does, or what happens to all.
#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, group: usize, fresh: bool, favourite: bool },
    Sync { client: usize },
    Heartbeat { client: usize },
    Leave { client: usize },
    Commit { client: usize, simple: bool, partition: i32 },
    Fetch { group: usize, stable: bool },
    DeleteOffset { group: usize, partition: i32 },
    DeleteGroup { group: usize },
    TopicDeleted,
    Gone { client: usize },
    Wait { ms: u64 },
    Mode { mode: u8 },
    CommitOne,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let group = 0..GROUPS;
    prop_oneof![
        8 => (client.clone(), group.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(client, group, fresh, favourite)| Step::Join { client, group, fresh, favourite }),
        8 => client.clone().prop_map(|client| Step::Sync { client }),
        4 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        4 => (client.clone(), any::<bool>(), 0..2i32)
            .prop_map(|(client, simple, partition)| Step::Commit { client, simple, partition }),
        2 => (group.clone(), any::<bool>()).prop_map(|(group, stable)| Step::Fetch { group, stable }),
        1 => (group.clone(), 0..2i32).prop_map(|(group, partition)| Step::DeleteOffset { group, partition }),
        1 => group.prop_map(|group| Step::DeleteGroup { group }),
        1 => Just(Step::TopicDeleted),
        1 => client.prop_map(|client| Step::Gone { client }),
        6 => (0..9_000u64).prop_map(|ms| Step::Wait { ms }),
        1 => (60_000..700_000u64).prop_map(|ms| Step::Wait { ms }),
        2 => (0..5u8).prop_map(|mode| Step::Mode { mode }),
        4 => Just(Step::CommitOne),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Default)]
struct Client {
    group: usize,
    member_id: ByteString,
    generation: i32,
    leads: Vec<ByteString>,
    last_token: Option<u64>,
}

/// The clients, and what is known of the world without looking into the coordinator.
struct World {
    host: Host,
    clients: Vec<Client>,
    /// Who waits for what: the client and its group.
    waiting: BTreeMap<u64, (usize, usize)>,
    next_token: u64,
    next_offset: i64,
    /// The highest generation that was told, by group; forgotten with the coordinator's memory.
    generations: BTreeMap<usize, i32>,
    /// What members of a generation were told to do.
    assignments: BTreeMap<(usize, i32, ByteString), Bytes>,
    /// Groups whose tombstones were written, which may begin with generation 1 again.
    deleted: BTreeSet<usize>,
    /// Offsets that may be answered: what was last acknowledged, and everything that is on its way since.
    allowed: BTreeMap<(usize, i32), BTreeSet<i64>>,
    commits: BTreeMap<u64, (usize, i32, i64)>,
}

fn group_name(group: usize) -> ByteString {
    ByteString::from(format!("g{group}"))
}

impl World {
    fn new(seed: u64) -> World {
        let config = Config { max_size: 4, offsets_retention_ms: 1_800_000, ..Config::default() };
        World {
            host: Host::new(config, seed),
            clients: vec![Client::default(); CLIENTS],
            waiting: BTreeMap::new(),
            next_token: 0,
            next_offset: 1,
            generations: BTreeMap::new(),
            assignments: BTreeMap::new(),
            deleted: BTreeSet::new(),
            allowed: BTreeMap::new(),
            commits: BTreeMap::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Join { client, group, fresh, favourite } => self.join(*client, *group, *fresh, *favourite),
            Step::Sync { client } => self.sync(*client),
            Step::Heartbeat { client } => {
                let state = &self.clients[*client];
                let request = Heartbeat {
                    group: group_name(state.group),
                    generation: state.generation,
                    member_id: state.member_id.clone(),
                    group_instance_id: instance(*client),
                };
                self.request(*client, Request::Heartbeat(request));
            }
            Step::Leave { client } => {
                let state = &self.clients[*client];
                let leaving = LeavingMember {
                    member_id: state.member_id.clone(),
                    group_instance_id: instance(*client),
                };
                let group = group_name(state.group);
                self.request(*client, Request::Leave(Leave { group, members: vec![leaving] }));
            }
            Step::Commit { client, simple, partition } => self.commit(*client, *simple, *partition),
            Step::Fetch { group, stable } => {
                let groups = vec![FetchGroup { group: group_name(*group), topics: None }];
                let request = OffsetFetch { groups, require_stable: *stable };
                self.clients[0].group = *group;
                self.request(0, Request::OffsetFetch(request));
            }
            Step::DeleteOffset { group, partition } => {
                self.allow(*group, *partition, -1);
                let topics = vec![(ByteString::from_static("t"), vec![*partition])];
                let request = OffsetDelete { group: group_name(*group), topics };
                self.request(0, Request::OffsetDelete(request));
            }
            Step::DeleteGroup { group } => {
                (0..2).for_each(|partition| self.allow(*group, partition, -1));
                self.request(0, Request::DeleteGroups(DeleteGroups { groups: vec![group_name(*group)] }));
            }
            Step::TopicDeleted => {
                for group in 0..GROUPS {
                    (0..2).for_each(|partition| self.allow(group, partition, -1));
                }
                let topic = DeletedTopic { name: ByteString::from_static("t"), id: Uuid::ZERO };
                let said = self.host.step(Input::TopicsDeleted(vec![topic]));
                self.hear_all(said);
            }
            Step::Gone { client } => {
                if let Some(token) = self.clients[*client].last_token {
                    self.waiting.remove(&token);
                    let said = self.host.step(Input::Abandon { token });
                    self.hear_all(said);
                }
            }
            Step::Wait { ms } => self.wait(*ms),
            Step::Mode { mode } => {
                self.host.mode = match mode {
                    0 => Log::Hold,
                    1 => Log::Fail(ErrorCode::NOT_ENOUGH_REPLICAS),
                    2 => Log::Doubt(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
                    _ => Log::Commit,
                }
            }
            Step::CommitOne => {
                let said = self.host.commit_one();
                self.hear_all(said);
            }
            Step::Restart => {
                // What was appended and not committed is in the log, and counts from now on.
                let said = self.host.restart();
                self.hear_all(said);
                self.generations.clear();
                self.assignments.clear();
                assert!(self.waiting.is_empty(), "everyone is told that the coordinator has gone");
            }
        }
    }

    fn request(&mut self, client: usize, request: Request) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.clients[client].last_token = Some(token);
        self.waiting.insert(token, (client, self.clients[client].group));
        let said = self.host.request(token, request);
        self.hear_all(said);
        token
    }

    fn join(&mut self, client: usize, group: usize, fresh: bool, favourite: bool) {
        let state = &mut self.clients[client];
        if fresh || state.group != group {
            *state = Client { group, generation: -1, ..Client::default() };
        }
        let names = if favourite { ["sticky", "range"] } else { ["range", "sticky"] };
        let metadata = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]);
        let protocols = names.map(|name| Protocol { name: name.into(), metadata: metadata.clone() });
        let request = Join {
            group: group_name(group),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: [20_000, 0, 500, 60_000][client % 4],
            member_id: state.member_id.clone(),
            group_instance_id: instance(client),
            protocol_type: ByteString::from_static("consumer"),
            protocols: protocols.to_vec(),
            client_id: ByteString::from(format!("client{client}")),
            client_host: ByteString::from_static("/127.0.0.1"),
            knows_member_id_required: client.is_multiple_of(2),
            knows_skip_assignment: client.is_multiple_of(3),
        };
        self.request(client, Request::Join(request));
    }

    fn sync(&mut self, client: usize) {
        let state = &self.clients[client];
        let unique = self.next_token;
        let assign = |id: &ByteString| (id.clone(), Bytes::from(format!("{unique} for {id}")));
        let request = Sync {
            group: group_name(state.group),
            generation: state.generation,
            member_id: state.member_id.clone(),
            group_instance_id: instance(client),
            protocol_type: None,
            protocol: None,
            assignments: state.leads.iter().map(assign).collect(),
        };
        self.request(client, Request::Sync(request));
    }

    fn commit(&mut self, client: usize, simple: bool, partition: i32) {
        let state = &self.clients[client];
        let offset = self.next_offset;
        self.next_offset += 1;
        let group = state.group;
        let partitions =
            vec![CommitPartition { partition, offset, leader_epoch: -1, metadata: ByteString::new() }];
        let topic = CommitTopic { name: ByteString::from_static("t"), topic_id: Uuid::ZERO, partitions };
        let request = OffsetCommit {
            group: group_name(group),
            generation: if simple { -1 } else { state.generation },
            member_id: if simple { ByteString::new() } else { state.member_id.clone() },
            group_instance_id: instance(client).filter(|_| !simple),
            retention_ms: -1,
            knows_group_id_not_found: true,
            topics: vec![topic],
        };
        self.commits.insert(self.next_token, (group, partition, offset));
        self.allow(group, partition, offset);
        self.request(client, Request::OffsetCommit(request));
    }

    fn allow(&mut self, group: usize, partition: i32, offset: i64) {
        self.allowed.entry((group, partition)).or_insert_with(|| BTreeSet::from([-1])).insert(offset);
    }

    fn wait(&mut self, ms: u64) {
        let mut said = Vec::new();
        self.host.wait(ms, |_, one| said.push(one));
        if self.host.now.wall_ms > 1_800_000 {
            for group in 0..GROUPS {
                (0..2).for_each(|partition| self.allow(group, partition, -1));
            }
        }
        self.hear_all(said);
    }

    fn hear_all(&mut self, said: Vec<Said>) {
        for one in said {
            match one {
                Said::Reply(token, reply) => {
                    let sender = self.waiting.remove(&token);
                    let sender = sender.expect("a request is answered once, and not after it was abandoned");
                    self.hear(token, sender.0, sender.1, reply);
                }
                Said::Written(record) => {
                    let is_tombstone =
                        |group: &usize| record.to_string() == format!("group g{group}: deleted");
                    self.deleted.extend((0..GROUPS).find(is_tombstone));
                }
                Said::Refused(_) => {}
            }
        }
    }

    fn hear(&mut self, token: u64, client: usize, group: usize, reply: Reply) {
        match reply {
            Reply::Join(join) => self.hear_join(client, group, join),
            Reply::Sync(sync) if sync.error.is_ok() => {
                let state = &self.clients[client];
                if state.group != group {
                    return;
                }
                let key = (group, state.generation, state.member_id.clone());
                let told = self.assignments.entry(key.clone()).or_insert_with(|| sync.assignment.clone());
                assert_eq!(*told, sync.assignment, "{key:?} has one assignment");
            }
            Reply::OffsetCommit(topics) => {
                let error = topics[0].partitions[0].1;
                let (group, partition, offset) = self.commits[&token];
                let allowed = self.allowed.get_mut(&(group, partition)).expect("noted");
                let in_doubt = error == ErrorCode::NOT_COORDINATOR || matches!(self.host.mode, Log::Doubt(_));
                if error.is_err() && !in_doubt {
                    allowed.remove(&offset);
                }
            }
            Reply::OffsetFetch(groups) => {
                for partition in groups.iter().flat_map(|g| &g.topics).flat_map(|t| &t.partitions) {
                    let allowed = self.allowed.get(&(group, partition.partition));
                    let allowed = allowed.is_some_and(|allowed| allowed.contains(&partition.offset));
                    assert!(allowed, "offset {} was committed", partition.offset);
                }
            }
            _ => {}
        }
    }

    fn hear_join(&mut self, client: usize, group: usize, join: JoinReply) {
        let state = &mut self.clients[client];
        if state.group != group || join.error == ErrorCode::REBALANCE_IN_PROGRESS {
            return;
        }
        state.generation = join.generation;
        state.leads = join.members.iter().map(|member| member.member_id.clone()).collect();
        state.member_id = match join.error {
            ErrorCode::NONE | ErrorCode::MEMBER_ID_REQUIRED => join.member_id,
            _ => ByteString::new(),
        };
        if join.error.is_ok() {
            let highest = self.generations.entry(group).or_insert(0);
            if join.generation < *highest {
                assert!(self.deleted.remove(&group), "generation {} after {highest}", join.generation);
                self.assignments.retain(|(of, _, _), _| *of != group);
            }
            *highest = join.generation;
        }
    }

    /// Nobody asks for anything any more: whatever waits is answered within the longest timeout.
    fn come_to_rest(&mut self) {
        self.host.mode = Log::Commit;
        while !self.host.held.is_empty() {
            let said = self.host.commit_one();
            self.hear_all(said);
        }
        self.wait(5 * 60_000 + 3 * 60_000);
        assert!(self.waiting.is_empty(), "{:?} wait for ever", self.waiting);
        self.wait(2 * 1_800_000);
        assert_eq!(self.host.coordinator.group_count(), 0, "what nobody uses is forgotten");
    }
}

/// Half of the clients are static members.
fn instance(client: usize) -> Option<ByteString> {
    (client >= CLIENTS / 2).then(|| ByteString::from(format!("i{client}")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_keep_their_promises(steps in proptest::collection::vec(step(), 1..150), seed in any::<u64>()) {
        let mut world = World::new(seed);
        for step in &steps {
            world.run(step);
        }
        world.come_to_rest();
    }
}
