//! A member of a classic consumer group: joins, divides the topics' partitions among members by range if it leads,
//! keeps its place by heartbeats, reads what it was given, commits, leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_wire::consumer_protocol::{AssignedPartition, Assignment, Subscription};
use moldau_wire::{ErrorCode, Reader, Writer, heartbeat, join_group, leave_group, sync_group};
use tokio::time::Instant;

use crate::Result;
use crate::client::Client;
use crate::error::{ClientError, check};
use crate::fetcher::{Fetched, Fetcher, Position};
use crate::groups::{CommittedOffset, assigned, commit};

/// How a member behaves.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// The group.
    pub group: String,
    /// The topics it wants to read.
    pub topics: Vec<String>,
    /// Where reading begins for a partition without a committed offset.
    pub start: Position,
    /// Silence after which the group goes on without this member.
    pub session_timeout: Duration,
    /// How long the group waits for this member to come back in a rebalance.
    pub rebalance_timeout: Duration,
    /// Name of a static member (KIP-345).
    pub instance_id: Option<String>,
}

impl MemberOptions {
    /// A member of `group` that reads `topics` from the beginning where nothing is committed.
    pub fn new(group: &str, topics: &[String]) -> MemberOptions {
        MemberOptions {
            group: group.to_owned(),
            topics: topics.to_vec(),
            start: Position::Beginning,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            instance_id: None,
        }
    }
}

/// A member of a group, with the partitions it was given.
#[derive(Debug)]
pub struct Member {
    client: Client,
    options: MemberOptions,
    fetcher: Fetcher,
    member_id: ByteString,
    generation: i32,
    next_heartbeat: Instant,
}

const PROTOCOL_TYPE: ByteString = ByteString::from_static("consumer");
const RANGE: ByteString = ByteString::from_static("range");

impl Member {
    /// A member that joins at its first [`Member::poll`].
    pub fn new(client: Client, options: MemberOptions) -> Member {
        Member {
            fetcher: Fetcher::new(client.clone()),
            client,
            options,
            member_id: ByteString::new(),
            generation: -1,
            next_heartbeat: Instant::now(),
        }
    }

    /// The partitions it has, with the offset that is read next.
    pub fn positions(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.fetcher.positions()
    }

    /// Generation of the group; -1 outside.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The fetcher, to change its bounds.
    pub fn fetcher(&mut self) -> &mut Fetcher {
        &mut self.fetcher
    }

    /// Joins if it must, sends a heartbeat if one is due, and reads. Empty if there was nothing to read.
    pub async fn poll(&mut self) -> Result<Vec<Fetched>> {
        if self.generation < 0 {
            self.join().await?;
        }
        if Instant::now() >= self.next_heartbeat && !self.beat().await? {
            return Ok(Vec::new());
        }
        self.fetcher.poll().await
    }

    /// Commits the positions: everything that [`Member::poll`] has returned counts as read. False if the group
    /// has moved on without this member; it joins again at the next poll.
    pub async fn commit(&mut self) -> Result<bool> {
        let offsets: Vec<CommittedOffset> = self
            .fetcher
            .positions()
            .map(|(topic, partition, offset)| CommittedOffset { topic: topic.to_owned(), partition, offset })
            .collect();
        if self.generation < 0 || offsets.is_empty() {
            return Ok(self.generation >= 0);
        }
        let connection = self.client.coordinator(&self.options.group).await?;
        let instance = self.options.instance_id.as_deref().map(ByteString::from);
        let who = (self.generation, &self.member_id, instance.as_ref());
        match commit(&connection, &self.options.group, who, &offsets).await {
            Err(error) if self.fell_out(&error) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Leaves the group, so that its partitions go to others at once.
    pub async fn leave(&mut self) -> Result<()> {
        if self.generation < 0 {
            return Ok(());
        }
        self.generation = -1;
        let connection = self.client.coordinator(&self.options.group).await?;
        let version = connection.version::<leave_group::Request>(5)?;
        let group_id = ByteString::from(self.options.group.as_str());
        let request = match version {
            3.. => leave_group::Request {
                group_id,
                members: vec![leave_group::request::Member {
                    member_id: self.member_id.clone(),
                    group_instance_id: self.options.instance_id.as_deref().map(ByteString::from),
                    ..Default::default()
                }],
                ..Default::default()
            },
            _ => leave_group::Request { group_id, member_id: self.member_id.clone(), ..Default::default() },
        };
        let response = connection.call_as(version, &request, Duration::ZERO).await?;
        check(|| format!("leaving group {}", self.options.group), response.error_code, None)
    }

    /// True while the member is in its generation.
    async fn beat(&mut self) -> Result<bool> {
        self.next_heartbeat = Instant::now() + self.options.session_timeout / 15;
        let request = heartbeat::Request {
            group_id: ByteString::from(self.options.group.as_str()),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.options.instance_id.as_deref().map(ByteString::from),
        };
        let connection = self.client.coordinator(&self.options.group).await?;
        let answer = connection.call(request).await.and_then(|response| {
            check(|| format!("heartbeat in group {}", self.options.group), response.error_code, None)
        });
        match answer {
            Err(error) if self.fell_out(&error) => Ok(false),
            Err(error) if error.is_retriable() => Ok(true),
            done => done.map(|()| true),
        }
    }

    /// Whether this error says that the group goes on in another generation; then the member is outside.
    fn fell_out(&mut self, error: &ClientError) -> bool {
        let code = error.code();
        let out =
            [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::REBALANCE_IN_PROGRESS]
                .iter()
                .any(|c| code == Some(*c));
        if code == Some(ErrorCode::UNKNOWN_MEMBER_ID) {
            self.member_id = ByteString::new();
        }
        if out {
            self.generation = -1;
        }
        out
    }

    async fn join(&mut self) -> Result<()> {
        let client = self.client.clone();
        let until = Instant::now() + client.options().retry_for + self.options.rebalance_timeout;
        loop {
            let error = match self.try_join().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = self.fell_out(&error) || error.is_retriable();
            if !again || Instant::now() >= until {
                return Err(error);
            }
            tokio::time::sleep(client.options().retry_pause).await;
        }
    }

    async fn try_join(&mut self) -> Result<()> {
        let joined = self.enter().await?;
        self.member_id = joined.member_id.clone();
        let assignments = match joined.leader == joined.member_id {
            true => self.divide(&joined.members).await?,
            false => Vec::new(),
        };
        let partitions = self.sync(&joined, assignments).await?;
        self.generation = joined.generation_id;
        self.next_heartbeat = Instant::now() + self.options.session_timeout / 15;
        self.start(&partitions).await
    }

    /// A first JoinGroup without a member id is answered with one (KIP-394); the second one enters.
    async fn enter(&mut self) -> Result<join_group::Response> {
        let connection = self.client.coordinator(&self.options.group).await?;
        let version = connection.version::<join_group::Request>(9)?;
        for _ in 0..2 {
            let request = self.join_request()?;
            let response = connection.call_as(version, &request, self.options.rebalance_timeout).await?;
            if response.error_code == ErrorCode::MEMBER_ID_REQUIRED {
                self.member_id = response.member_id;
                continue;
            }
            check(|| format!("joining group {}", self.options.group), response.error_code, None)?;
            return Ok(response);
        }
        let what = format!("joining group {}", self.options.group);
        Err(ClientError::Refused { what, code: ErrorCode::MEMBER_ID_REQUIRED, message: None })
    }

    fn join_request(&self) -> Result<join_group::Request> {
        let mut topics: Vec<ByteString> =
            self.options.topics.iter().map(|topic| ByteString::from(topic.as_str())).collect();
        topics.sort();
        let subscription = Subscription { topics, ..Default::default() };
        let mut metadata = Writer::bare();
        metadata.i16(1);
        subscription.encode(&mut metadata, 1);
        let protocol = join_group::request::Protocol { name: RANGE, metadata: metadata.into_bytes()? };
        Ok(join_group::Request {
            group_id: ByteString::from(self.options.group.as_str()),
            session_timeout_ms: millis(self.options.session_timeout),
            rebalance_timeout_ms: millis(self.options.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: self.options.instance_id.as_deref().map(ByteString::from),
            protocol_type: PROTOCOL_TYPE,
            protocols: vec![protocol],
            reason: None,
        })
    }

    /// Range: of each topic, each of its members, by id, gets a run of neighbouring partitions.
    async fn divide(
        &self,
        members: &[join_group::response::Member],
    ) -> Result<Vec<sync_group::request::Assignment>> {
        let mut wanted: BTreeMap<ByteString, Vec<&ByteString>> = BTreeMap::new();
        for member in members {
            for topic in subscribed(member.metadata.clone()) {
                wanted.entry(topic).or_default().push(&member.member_id);
            }
        }
        let mut given: BTreeMap<&ByteString, Vec<AssignedPartition>> = BTreeMap::new();
        for (topic, mut readers) in wanted {
            readers.sort();
            readers.dedup();
            let partitions = self.client.topic(&topic, false).await?.partitions;
            let indexes: Vec<i32> = partitions.iter().map(|partition| partition.index).collect();
            for (reader, run) in readers.iter().zip(runs(&indexes, readers.len())) {
                if !run.is_empty() {
                    let part = AssignedPartition { topic: topic.clone(), partitions: run.to_vec() };
                    given.entry(reader).or_default().push(part);
                }
            }
        }
        members
            .iter()
            .map(|member| {
                let assigned_partitions = given.remove(&member.member_id).unwrap_or_default();
                let mut blob = Writer::bare();
                blob.i16(1);
                Assignment { assigned_partitions, user_data: None }.encode(&mut blob, 1);
                let assignment = blob.into_bytes()?;
                Ok(sync_group::request::Assignment { member_id: member.member_id.clone(), assignment })
            })
            .collect()
    }

    async fn sync(
        &self,
        joined: &join_group::Response,
        assignments: Vec<sync_group::request::Assignment>,
    ) -> Result<Vec<(String, i32)>> {
        let request = sync_group::Request {
            group_id: ByteString::from(self.options.group.as_str()),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: self.options.instance_id.as_deref().map(ByteString::from),
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(RANGE),
            assignments,
        };
        let connection = self.client.coordinator(&self.options.group).await?;
        let version = connection.version::<sync_group::Request>(i16::MAX)?;
        let response = connection.call_as(version, &request, self.options.rebalance_timeout).await?;
        check(|| format!("assignment in group {}", self.options.group), response.error_code, None)?;
        Ok(assigned(response.assignment))
    }

    async fn start(&mut self, partitions: &[(String, i32)]) -> Result<()> {
        let committed = self.client.committed(&self.options.group).await?;
        self.fetcher.clear();
        for (topic, partition) in partitions {
            let found = committed.iter().find(|c| c.topic == *topic && c.partition == *partition);
            let position = found.map_or(self.options.start, |c| Position::Offset(c.offset));
            self.fetcher.seek(topic, *partition, position).await?;
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The topics in a subscription of the consumer protocol; none where it cannot be read.
fn subscribed(blob: Bytes) -> Vec<ByteString> {
    let mut reader = Reader::new(blob);
    let decoded = reader.i16().and_then(|version| Subscription::decode(&mut reader, version.clamp(0, 3)));
    decoded.map(|subscription| subscription.topics).unwrap_or_default()
}

/// `items` cut into `count` runs whose lengths differ by one at most, the longer ones first.
fn runs(items: &[i32], count: usize) -> impl Iterator<Item = &[i32]> {
    let (short, longer) = (items.len() / count.max(1), items.len() % count.max(1));
    (0..count).map(move |at| {
        let from = at * short + at.min(longer);
        &items[from..from + short + usize::from(at < longer)]
    })
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn runs_cover_everything_once() {
        for items in 0..12 {
            for count in 1..6 {
                let all: Vec<i32> = (0..items).collect();
                let cut: Vec<&[i32]> = runs(&all, count).collect();
                assert_eq!(cut.concat(), all);
                assert!(cut.iter().all(|run| run.len().abs_diff(cut[0].len()) <= 1));
            }
        }
    }
}
