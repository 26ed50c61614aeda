//! Groups seen from outside: listing, description, deletion, committed offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytestring::ByteString;
use moldau_wire::consumer_protocol::Assignment;
use moldau_wire::{
    ApiKey, ErrorCode, Reader, delete_groups, describe_groups, list_groups, offset_commit, offset_fetch,
};

use crate::Result;
use crate::client::Client;
use crate::connection::Connection;
use crate::error::{ClientError, check};

/// A group in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// `consumer`, `connect`, or what its members say.
    pub protocol_type: String,
    /// Kafka's name of its state; empty if the broker does not tell.
    pub state: String,
}

/// A group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// Kafka's name of its state.
    pub state: String,
    /// `consumer`, `connect`, or what its members say.
    pub protocol_type: String,
    /// The assignor that its members agreed on.
    pub assignor: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its own name, for a static member.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Address it connected from.
    pub host: String,
    /// Its partitions, by topic; empty where the assignment is not a consumer's.
    pub partitions: Vec<(String, i32)>,
}

/// An offset that a group committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Offset of the next record to read.
    pub offset: i64,
}

impl Client {
    /// The groups of all brokers, by id.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let mut groups = BTreeMap::new();
        for broker in self.brokers().await? {
            let response = self.to(broker.id).await?.call(list_groups::Request::default()).await?;
            check(|| "listing groups".to_owned(), response.error_code, None)?;
            for group in response.groups {
                let listing = GroupListing {
                    id: group.group_id.to_string(),
                    protocol_type: group.protocol_type.to_string(),
                    state: group.group_state.to_string(),
                };
                groups.insert(listing.id.clone(), listing);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// A group in full. One that does not exist has the state `Dead`, or is refused by newer brokers.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        let request =
            describe_groups::Request { groups: vec![ByteString::from(group)], ..Default::default() };
        let response = self.coordinator(group).await?.call(request).await?;
        let missing = || ClientError::Missing { api: ApiKey::DescribeGroups, what: group.to_owned() };
        let found = response.groups.into_iter().next().ok_or_else(missing)?;
        check(|| format!("group {group}"), found.error_code, found.error_message.as_ref())?;
        let is_consumer = found.protocol_type == "consumer";
        let member = |member: describe_groups::response::Member| GroupMember {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: if is_consumer { assigned(member.member_assignment) } else { Vec::new() },
        };
        Ok(GroupDescription {
            id: group.to_owned(),
            state: found.group_state.to_string(),
            protocol_type: found.protocol_type.to_string(),
            assignor: found.protocol_data.to_string(),
            members: found.members.into_iter().map(member).collect(),
        })
    }

    /// Deletes a group without members, and its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let request = delete_groups::Request { groups_names: vec![ByteString::from(group)] };
        let response = self.coordinator(group).await?.call(request).await?;
        let code = response.results.first().map_or(ErrorCode::NONE, |result| result.error_code);
        check(|| format!("deleting group {group}"), code, None)
    }

    /// The offsets that a group committed.
    pub async fn committed(&self, group: &str) -> Result<Vec<CommittedOffset>> {
        let connection = self.coordinator(group).await?;
        let version = connection.version::<offset_fetch::Request>(9)?;
        let id = ByteString::from(group);
        let request = match version {
            8.. => offset_fetch::Request {
                groups: vec![offset_fetch::request::Group {
                    group_id: id,
                    member_epoch: -1,
                    topics: None,
                    ..Default::default()
                }],
                ..Default::default()
            },
            _ => offset_fetch::Request { group_id: id, topics: None, ..Default::default() },
        };
        let response = connection.call_as(version, &request, Duration::ZERO).await?;
        offsets_of(group, response)
    }

    /// Commits offsets of a group that has no members.
    pub async fn reset_offsets(&self, group: &str, offsets: &[CommittedOffset]) -> Result<()> {
        let connection = self.coordinator(group).await?;
        commit(&connection, group, (-1, &ByteString::new(), None), offsets).await
    }
}

/// Commits offsets as a member (generation, member id, instance id), or from outside with generation -1.
pub(crate) async fn commit(
    connection: &Connection,
    group: &str,
    (generation, member_id, instance_id): (i32, &ByteString, Option<&ByteString>),
    offsets: &[CommittedOffset],
) -> Result<()> {
    let mut topics: BTreeMap<&str, Vec<offset_commit::request::Partition>> = BTreeMap::new();
    for committed in offsets {
        topics.entry(&committed.topic).or_default().push(offset_commit::request::Partition {
            partition_index: committed.partition,
            committed_offset: committed.offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        });
    }
    let topic = |(name, partitions): (&str, _)| offset_commit::request::Topic {
        name: ByteString::from(name),
        partitions,
        ..Default::default()
    };
    let version = connection.version::<offset_commit::Request>(9)?;
    let request = offset_commit::Request {
        group_id: ByteString::from(group),
        generation_id_or_member_epoch: generation,
        member_id: member_id.clone(),
        group_instance_id: instance_id.cloned(),
        retention_time_ms: -1,
        topics: topics.into_iter().map(topic).collect(),
    };
    let response = connection.call_as(version, &request, Duration::ZERO).await?;
    for topic in &response.topics {
        for partition in &topic.partitions {
            let what = || format!("committing {}-{} of group {group}", topic.name, partition.partition_index);
            check(what, partition.error_code, None)?;
        }
    }
    Ok(())
}

fn offsets_of(group: &str, response: offset_fetch::Response) -> Result<Vec<CommittedOffset>> {
    let what = || format!("offsets of group {group}");
    check(what, response.error_code, None)?;
    let mut found = Vec::new();
    let mut take = |topic: &ByteString, partition: i32, offset: i64, code: ErrorCode| {
        check(what, code, None)?;
        if offset >= 0 {
            found.push(CommittedOffset { topic: topic.to_string(), partition, offset });
        }
        Ok::<(), ClientError>(())
    };
    for topic in &response.topics {
        for p in &topic.partitions {
            take(&topic.name, p.partition_index, p.committed_offset, p.error_code)?;
        }
    }
    for answered in &response.groups {
        check(what, answered.error_code, None)?;
        for topic in &answered.topics {
            for p in &topic.partitions {
                take(&topic.name, p.partition_index, p.committed_offset, p.error_code)?;
            }
        }
    }
    found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(found)
}

/// The partitions in an assignment of the consumer protocol; none where it cannot be read.
pub(crate) fn assigned(blob: bytes::Bytes) -> Vec<(String, i32)> {
    let mut reader = Reader::new(blob);
    let decoded = reader.i16().and_then(|version| Assignment::decode(&mut reader, version.clamp(0, 3)));
    let topics = decoded.map(|assignment| assignment.assigned_partitions).unwrap_or_default();
    let pairs = |topic: &moldau_wire::consumer_protocol::AssignedPartition| {
        let name = topic.topic.to_string();
        topic.partitions.iter().map(move |partition| (name.clone(), *partition)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(pairs).collect()
}
