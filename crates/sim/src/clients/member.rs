//! A member of a consumer group of the classic protocol: joins, assigns ranges when it leads, reads what it owns, heartbeats,
//! commits, rebalances, leaves in good order or vanishes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::Mono;
use moldau_check::{Commit, Event};
use moldau_wire::consumer_protocol::{AssignedPartition, Assignment, Subscription};
use moldau_wire::{
    ApiKey, ErrorCode, Message, find_coordinator, heartbeat, join_group, leave_group, offset_commit,
    offset_fetch, sync_group,
};

use super::admin::Topic;
use super::reader::Reader;
use crate::cx::{Cx, Gone};
use crate::kafka::Kafka;

/// What all members of a group share in a run.
#[derive(Debug)]
pub struct Group {
    /// Its id.
    pub id: Arc<str>,
    /// What it reads.
    pub topic: Rc<Topic>,
    /// `session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// Offsets whose commits were acknowledged or told, by partition.
    committed: RefCell<BTreeMap<i32, i64>>,
    /// Where the group is done, by partition; empty while nobody knows.
    target: RefCell<Vec<i64>>,
}

impl Group {
    /// A group that reads `topic`.
    pub fn new(id: &str, topic: Rc<Topic>, session_timeout_ms: i32) -> Rc<Group> {
        Rc::new(Group {
            id: id.into(),
            topic,
            session_timeout_ms,
            committed: RefCell::default(),
            target: RefCell::default(),
        })
    }

    /// The group is done once it has committed up to these offsets.
    pub fn aim(&self, ends: Vec<i64>) {
        *self.target.borrow_mut() = ends;
    }

    /// An offset is committed: somebody was told so.
    fn reached(&self, index: i32, offset: i64) {
        let mut committed = self.committed.borrow_mut();
        let highest = committed.entry(index).or_default();
        *highest = (*highest).max(offset);
    }

    fn is_done(&self) -> bool {
        let (target, committed) = (self.target.borrow(), self.committed.borrow());
        let reached =
            |(index, end): (usize, &i64)| committed.get(&(index as i32)).copied().unwrap_or(0) >= *end;
        !target.is_empty() && target.iter().enumerate().all(reached)
    }

    fn name(&self) -> ByteString {
        ByteString::from(&*self.id)
    }
}

/// Why a member stops what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The connection is gone.
    Gone,
    /// The group rebalances: join again.
    Rejoin,
    /// The coordinator does not know this member any more.
    Unknown,
    /// The coordinator is loading, or not here: try again.
    Later,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Stop {
        Stop::Gone
    }
}

/// The APIs that name a static member.
const STATIC: [ApiKey; 5] =
    [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::LeaveGroup, ApiKey::OffsetCommit];

struct Member {
    cx: Cx,
    group: Rc<Group>,
    /// `group.instance.id` of a static member (KIP-345): who it is through all its lives.
    instance: Option<ByteString>,
    id: ByteString,
    generation: i32,
    reader: Reader,
    committed: BTreeMap<i32, i64>,
    /// How often it commits: after one poll in so many.
    commit_one_in: u64,
}

/// A member until the group is done.
pub async fn member(cx: Cx, group: Rc<Group>) {
    let reader = Reader::new(&cx, group.topic.clone());
    let mut member = Member {
        cx: cx.clone(),
        group,
        instance: cx.one_in(2).then(|| ByteString::from(format!("instance-{}", cx.client()))),
        id: ByteString::new(),
        generation: -1,
        reader,
        committed: BTreeMap::new(),
        commit_one_in: cx.between(1, 5),
    };
    while !member.group.is_done() {
        cx.doing("connecting");
        let (Ok(coordinator), Ok(data)) = (Kafka::connect(&cx, 5).await, Kafka::connect(&cx, 5).await) else {
            continue;
        };
        match member.take_part(&coordinator, &data).await {
            Ok(()) => {}
            Err(Stop::Gone | Stop::Rejoin) => cx.pause_ms(0, 300).await,
            Err(Stop::Unknown) => member.id = ByteString::new(),
            Err(Stop::Later) => cx.pause_ms(50, 500).await,
        }
        if cx.one_in(8) && cx.in_trouble() {
            // Away for a while, as a process that is deployed anew.
            cx.doing("away");
            member.id = ByteString::new();
            coordinator.vanish();
            cx.pause_ms(100, 5_000).await;
        }
    }
    cx.doing("done");
}

impl Member {
    /// One stay in the group, over as many generations as the connections last.
    async fn take_part(&mut self, coordinator: &Kafka, data: &Kafka) -> Result<(), Stop> {
        if self.instance.is_some() {
            // Old versions do not know static members.
            STATIC.into_iter().for_each(|key| coordinator.use_newest(key));
        }
        self.check("FindCoordinator", find(coordinator, &self.group.name()).await?)?;
        loop {
            self.cx.doing("joining");
            self.join(coordinator).await?;
            self.begin(coordinator).await?;
            match self.consume(coordinator, data).await {
                Err(Stop::Rejoin) => self.cx.count("rebalances", 1),
                other => return other,
            }
        }
    }

    /// Turns an error into what to do about it; one that no client may see fails the run.
    fn check(&self, what: &str, code: ErrorCode) -> Result<(), Stop> {
        match code {
            ErrorCode::NONE => Ok(()),
            ErrorCode::REBALANCE_IN_PROGRESS => Err(Stop::Rejoin),
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::FENCED_INSTANCE_ID => {
                Err(Stop::Unknown)
            }
            code if code.is_retriable() => Err(Stop::Later),
            code => {
                self.cx.problem(format!("{what} of group {} was refused: {code:?}", self.group.id));
                Err(Stop::Unknown)
            }
        }
    }

    async fn join(&mut self, kafka: &Kafka) -> Result<(), Stop> {
        let mut response = kafka.call(self.join_request()).await?;
        if response.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            self.id = response.member_id;
            response = kafka.call(self.join_request()).await?;
        }
        self.check("JoinGroup", response.error_code)?;
        self.id = response.member_id.clone();
        self.generation = response.generation_id;
        let leads = response.leader == self.id && !response.skip_assignment;
        let assignments = if leads { self.assign(&response.members) } else { vec![] };
        let request = sync_group::Request {
            group_id: self.group.name(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(ByteString::from_static("consumer")),
            protocol_name: Some(ByteString::from_static("range")),
            assignments,
            group_instance_id: self.instance.clone(),
        };
        let response = kafka.call(request).await?;
        self.check("SyncGroup", response.error_code)?;
        let owned = self.owned(response.assignment);
        self.cx.note(Event::Owns {
            group: self.group.id.clone(),
            generation: self.generation,
            member: Arc::from(&**self.instance.as_ref().unwrap_or(&self.id)),
            partitions: owned.iter().map(|index| self.group.topic.partition(*index)).collect(),
        });
        let positions = owned.into_iter().map(|index| (index, 0)).collect();
        self.committed = positions;
        Ok(())
    }

    fn join_request(&self) -> join_group::Request {
        let subscription = Subscription { topics: vec![self.group.topic.name.clone()], ..Default::default() };
        let protocol = join_group::request::Protocol {
            name: ByteString::from_static("range"),
            metadata: blob(&subscription, 0),
        };
        join_group::Request {
            group_id: self.group.name(),
            session_timeout_ms: self.group.session_timeout_ms,
            rebalance_timeout_ms: self.group.session_timeout_ms,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: ByteString::from_static("consumer"),
            protocols: vec![protocol],
            ..Default::default()
        }
    }

    /// The leader's work: a range of partitions for each member.
    fn assign(&self, members: &[join_group::response::Member]) -> Vec<sync_group::request::Assignment> {
        let mut ids: Vec<&ByteString> = members.iter().map(|member| &member.member_id).collect();
        ids.sort();
        let partitions = self.group.topic.partitions as usize;
        let share = |place: usize| partitions * place / ids.len().max(1);
        let assignment = |(place, id): (usize, &&ByteString)| {
            let range = share(place) as i32..share(place + 1) as i32;
            let assigned =
                AssignedPartition { topic: self.group.topic.name.clone(), partitions: range.collect() };
            let assignment = Assignment { assigned_partitions: vec![assigned], user_data: None };
            sync_group::request::Assignment { member_id: (*id).clone(), assignment: blob(&assignment, 0) }
        };
        ids.iter().enumerate().map(assignment).collect()
    }

    fn owned(&self, assignment: Bytes) -> Vec<i32> {
        let Some(bytes) = assignment.get(2..).map(|_| assignment.slice(2..)) else { return Vec::new() };
        match Assignment::from_bytes(bytes, 0) {
            Ok(assignment) => {
                assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
            }
            Err(error) => {
                self.cx.problem(format!("an assignment came back changed: {error}"));
                Vec::new()
            }
        }
    }

    /// Asks where the group is in each partition that is owned, and begins there.
    async fn begin(&mut self, kafka: &Kafka) -> Result<(), Stop> {
        let owned: Vec<i32> = self.committed.keys().copied().collect();
        let mut positions = BTreeMap::new();
        if !owned.is_empty() {
            for (index, code, offset, asked) in self.fetch_committed(kafka, owned).await? {
                self.check("OffsetFetch", code)?;
                let offset = (offset >= 0).then_some(offset);
                let (group, partition) = (self.group.id.clone(), self.group.topic.partition(index));
                self.cx.note(Event::CommittedRead { group, partition, asked, offset });
                // It may be that of a commit whose answer was lost.
                self.group.reached(index, offset.unwrap_or(0));
                positions.insert(index, offset.unwrap_or(0));
            }
        }
        self.committed = positions.clone();
        self.reader.assign(positions);
        Ok(())
    }

    async fn fetch_committed(
        &self,
        kafka: &Kafka,
        owned: Vec<i32>,
    ) -> Result<Vec<(i32, ErrorCode, i64, Mono)>, Stop> {
        let topic = &self.group.topic;
        let mut request = offset_fetch::Request::default();
        if kafka.version(ApiKey::OffsetFetch).is_some_and(|version| version >= 8) {
            let of_topic = offset_fetch::request::GroupTopic {
                name: topic.name.clone(),
                topic_id: topic.id,
                partition_indexes: owned,
            };
            let of_group = offset_fetch::request::Group {
                group_id: self.group.name(),
                topics: Some(vec![of_topic]),
                ..Default::default()
            };
            request.groups = vec![of_group];
            let (asked, response) = kafka.call_at(request).await?;
            let group = response.groups.first();
            self.check("OffsetFetch", group.map_or(ErrorCode::NONE, |group| group.error_code))?;
            let partitions =
                group.into_iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
            return Ok(partitions
                .map(|p| (p.partition_index, p.error_code, p.committed_offset, asked))
                .collect());
        }
        request.group_id = self.group.name();
        let of_topic = offset_fetch::request::Topic { name: topic.name.clone(), partition_indexes: owned };
        request.topics = Some(vec![of_topic]);
        let (asked, response) = kafka.call_at(request).await?;
        self.check("OffsetFetch", response.error_code)?;
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(partitions.map(|p| (p.partition_index, p.error_code, p.committed_offset, asked)).collect())
    }

    /// Reads, heartbeats and commits until the generation ends.
    async fn consume(&mut self, coordinator: &Kafka, data: &Kafka) -> Result<(), Stop> {
        let beat_ms = self.group.session_timeout_ms as u64 / 3;
        let mut last_beat = self.cx.now();
        loop {
            self.cx.doing(format!(
                "consuming {:?} in generation {}",
                self.reader.positions(),
                self.generation
            ));
            if self.reader.positions().is_empty() {
                self.cx.pause_ms(50, 300).await;
            } else {
                self.reader.poll(data).await?;
            }
            let late = self.cx.one_in(200);
            if late {
                // What came takes long to work off, or a garbage collection does: the group may have gone on without us.
                self.cx.pause_ms(100, 2 * self.group.session_timeout_ms as u64).await;
            }
            if late || self.cx.one_in(self.commit_one_in) || !self.cx.in_trouble() {
                self.commit(coordinator).await?;
            }
            if self.cx.now().since(last_beat).as_millis() as u64 >= beat_ms / 2 {
                last_beat = self.cx.now();
                self.beat(coordinator).await?;
            }
            // Static members only go away; they do not leave.
            if self.group.is_done() || self.instance.is_none() && self.cx.one_in(400) {
                return self.leave(coordinator).await;
            }
        }
    }

    async fn beat(&mut self, kafka: &Kafka) -> Result<(), Stop> {
        let request = heartbeat::Request {
            group_id: self.group.name(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
        };
        let response = kafka.call(request).await?;
        let checked = self.check("Heartbeat", response.error_code);
        if checked == Err(Stop::Rejoin) {
            // As consumers do before they give partitions back.
            self.commit(kafka).await?;
        }
        checked
    }

    async fn commit(&mut self, kafka: &Kafka) -> Result<(), Stop> {
        let news: Vec<(i32, i64)> = self
            .reader
            .positions()
            .iter()
            .filter(|(index, at)| self.committed.get(index) != Some(at))
            .map(|(index, at)| (*index, *at))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let group = self.group.clone();
        let commit = |(index, offset): (i32, i64)| Commit {
            group: group.id.clone(),
            partition: group.topic.partition(index),
            offset,
        };
        news.iter().for_each(|news| self.cx.note(Event::Committing(commit(*news))));
        let response = kafka.call(self.commit_request(&news)).await?;
        let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        let answers: BTreeMap<i32, ErrorCode> = answers.map(|p| (p.partition_index, p.error_code)).collect();
        let mut result = Ok(());
        for (index, offset) in news {
            let Some(code) = answers.get(&index).copied() else {
                self.cx.problem(format!("OffsetCommit says nothing of partition {index}"));
                continue;
            };
            match code {
                ErrorCode::NONE => self.committed(index, offset, commit((index, offset))),
                ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::NOT_COORDINATOR => {}
                _ => self.cx.note(Event::CommitRefused(commit((index, offset)))),
            }
            result = result.and(self.check("OffsetCommit", code));
        }
        result
    }

    fn committed(&mut self, index: i32, offset: i64, commit: Commit) {
        self.cx.note(Event::Committed(commit));
        self.cx.count("commits", 1);
        self.committed.insert(index, offset);
        self.group.reached(index, offset);
    }

    fn commit_request(&self, news: &[(i32, i64)]) -> offset_commit::Request {
        let partition = |(index, offset): &(i32, i64)| offset_commit::request::Partition {
            partition_index: *index,
            committed_offset: *offset,
            ..Default::default()
        };
        let topic = offset_commit::request::Topic {
            name: self.group.topic.name.clone(),
            topic_id: self.group.topic.id,
            partitions: news.iter().map(partition).collect(),
        };
        offset_commit::Request {
            group_id: self.group.name(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            topics: vec![topic],
            ..Default::default()
        }
    }

    /// Leaves in good order.
    async fn leave(&mut self, kafka: &Kafka) -> Result<(), Stop> {
        let mut request = leave_group::Request { group_id: self.group.name(), ..Default::default() };
        if kafka.version(ApiKey::LeaveGroup).is_some_and(|version| version >= 3) {
            let member_id = self.id.clone();
            let group_instance_id = self.instance.clone();
            let member = leave_group::request::Member { member_id, group_instance_id, reason: None };
            request.members = vec![member];
        } else {
            request.member_id = self.id.clone();
        }
        self.id = ByteString::new();
        let response = kafka.call(request).await?;
        self.check("LeaveGroup", response.error_code)
    }
}

/// Asks who coordinates a group; the broker makes its topic if there is none.
pub(super) async fn find(kafka: &Kafka, group: &ByteString) -> Result<ErrorCode, Gone> {
    Ok(coordinator(kafka, group).await?.err().unwrap_or(ErrorCode::NONE))
}

/// The id of the node that coordinates a group.
pub(super) async fn coordinator(kafka: &Kafka, group: &ByteString) -> Result<Result<i32, ErrorCode>, Gone> {
    let mut request = find_coordinator::Request::default();
    match kafka.version(ApiKey::FindCoordinator) {
        Some(version) if version >= 4 => request.coordinator_keys = vec![group.clone()],
        _ => request.key = group.clone(),
    }
    let response = kafka.call(request).await?;
    let found = response.coordinators.first();
    let (code, node) = found.map_or((response.error_code, response.node_id), |c| (c.error_code, c.node_id));
    Ok(if code.is_ok() { Ok(node) } else { Err(code) })
}

/// A message of the consumer protocol, its version before it.
fn blob<M: Message>(message: &M, version: i16) -> Bytes {
    let mut bytes = version.to_be_bytes().to_vec();
    bytes.extend_from_slice(&message.to_bytes(version).unwrap_or_default());
    Bytes::from(bytes)
}

/// Waits until the producers of a topic are done, then tells the group where it must get to.
pub async fn aim(cx: Cx, group: Rc<Group>, producers_done: Rc<RefCell<usize>>) {
    cx.healed().await;
    while *producers_done.borrow() > 0 {
        cx.doing("waiting for producers");
        cx.sleep_ms(100).await;
    }
    let ends = super::admin::ends(&cx, &group.topic).await;
    cx.say(|| format!("{} must reach {ends:?}", group.id));
    group.aim(ends);
    cx.doing("done");
}
