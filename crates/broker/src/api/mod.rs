//! One file per API, of the same shape: `handle` takes a decoded request, turns it into questions to the cores, and turns their
//! answers into the response. Only here wire types and domain types meet.

mod allocate_producer_ids;
mod alter_configs;
pub(crate) mod alter_partition;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod broker_heartbeat;
mod broker_registration;
mod change_voters;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod elsewhere;
pub(crate) mod fetch;
mod fetch_metadata;
mod fetch_snapshot;
mod find_coordinator;
mod forward;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
pub(crate) mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
pub(crate) mod produce;
mod sync_group;
mod unregister_broker;
mod update_features;
mod voters;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use moldau_base::{PartitionIndex, TopicPartition, Uuid};
use moldau_controller::{Image, Refusal, Topic};
use moldau_wire::frame::LENGTH_PREFIX;
use moldau_wire::{ApiKey, ErrorCode, Frame, Request, Segment, VersionRange};

use crate::Shard;
use crate::connections::{Carriage, Context, Envelope};
use crate::message::{Answer, Ask};
use crate::waist::{ConnId, ShardId};

/// Every API that a client may use, with the versions that work: those of Kafka 4.3.
pub const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::UnregisterBroker,
    ApiKey::DescribeTopicPartitions,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
];

/// What nodes of a cluster ask each other on the listeners that are for nodes, and what an operator may ask there, as of controllers of
/// Kafka (KIP-919). Anything else closes the connection, as it does with Kafka.
const SERVED_TO_NODES: &[ApiKey] = &[
    ApiKey::Fetch,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::CreatePartitions,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::FetchSnapshot,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::UnregisterBroker,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
    ApiKey::BrokerRegistration,
    ApiKey::AllocateProducerIds,
    ApiKey::AlterPartition,
    ApiKey::BrokerHeartbeat,
    ApiKey::Voters,
    ApiKey::Forward,
];

/// What only the active controller decides: a broker carries it there.
const FORWARDED: &[ApiKey] = &[
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeQuorum,
    ApiKey::UnregisterBroker,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
];

/// What a node calls itself when it asks another which versions it speaks.
pub(crate) const OF_NODES: &str = "moldau-node";

/// The versions of an API that are decoded and answered; `None` when the API is not served there.
fn served(shard: &Shard, key: ApiKey, to_nodes: bool) -> Option<VersionRange> {
    let served = if to_nodes { SERVED_TO_NODES } else { SERVED };
    served.contains(&key).then(|| spoken(shard, key))
}

/// The versions of an API that this node speaks.
pub(crate) fn spoken(shard: &Shard, key: ApiKey) -> VersionRange {
    let VersionRange { min, max } = key.versions();
    let newest = shard.settings.newest_versions.get(&key).copied().unwrap_or(max);
    VersionRange { min, max: max.min(newest).max(min) }
}

/// A frame whose turn it is: decode it and start its work.
pub(crate) fn dispatch(shard: &mut Shard, conn: ConnId, sequence: u64, frame: Bytes) {
    let Some(connection) = shard.connections.get(conn) else { return };
    let (address, listener) = (connection.address, connection.listener);
    let (api, header, body) = match moldau_wire::decode_header(frame.clone()) {
        Ok(parts) => parts,
        Err(error) => return shard.close(conn, format!("no request header: {error}")),
    };
    shard.metrics.request(api);
    let context = Context {
        conn,
        sequence,
        correlation: header.correlation_id,
        api,
        version: header.request_api_version,
        client_id: header.client_id,
        address,
        listener,
        envelope: None,
        carriage: None,
    };
    let to_nodes = shard.settings.is_for_nodes(listener);
    if !served(shard, api, to_nodes).is_some_and(|range| range.contains(context.version)) {
        return match api {
            ApiKey::ApiVersions => api_versions::refuse_version(shard, context),
            _ => shard.close(conn, format!("{api} version {} is not served", context.version)),
        };
    }
    match Request::decode(api, context.version, body) {
        // Who asks a controller how the quorum is wants its own answer.
        Ok(request) if to_nodes && api == ApiKey::DescribeQuorum => handle(shard, context, request),
        Ok(request) if FORWARDED.contains(&api) && !shard.settings.is_alone() => {
            let since = shard.now.mono;
            carry(shard, context, Carriage { frame, since, resigned: 0 }, request);
        }
        Ok(request) => handle(shard, context, request),
        Err(error) => shard.close(conn, format!("malformed {api} version {}: {error}", context.version)),
    }
}

/// Has the active controller answer, unless it is this node.
fn carry(shard: &mut Shard, mut context: Context, carriage: Carriage, request: Request) {
    let question = vec![(ShardId(0), Ask::Forward(carriage.clone()))];
    shard.gather(question, None, move |shard, answers| match answers.into_iter().next().flatten() {
        Some(Answer::Forwarded(Some(answer))) => {
            let mut length = BytesMut::with_capacity(LENGTH_PREFIX);
            length.put_u32(answer.len() as u32);
            let len = LENGTH_PREFIX + answer.len();
            let segments = vec![Segment::Bytes(length.freeze()), Segment::Bytes(answer)];
            shard.reply_frame(context, Some(Frame { segments, len }));
        }
        _ => {
            context.carriage = Some(carriage);
            handle(shard, context, request);
        }
    });
}

/// Has the controller decide what a client asks. Where this node's resigns before it has, the next one is asked: by this node, or by
/// the one that has carried the request here.
pub(crate) fn decide(
    shard: &mut Shard,
    context: Context,
    question: moldau_controller::Request,
    patience: Option<i64>,
    finish: impl FnOnce(&mut Shard, Context, Vec<Option<Answer>>) + 'static,
) {
    shard.gather(to_controller(question), patience, move |shard, answers| {
        if !matches!(answers.as_slice(), [Some(Answer::Resigned)]) {
            return finish(shard, context, answers);
        }
        match (context.envelope, context.carriage.clone()) {
            (Some(envelope), _) => crate::forward::resigned(shard, context, envelope),
            (None, Some(carriage)) if crate::forward::may_wait(shard, &carriage) => {
                carry_again(shard, context, carriage);
            }
            (None, _) => finish(shard, context, answers),
        }
    });
}

fn carry_again(shard: &mut Shard, context: Context, mut carriage: Carriage) {
    carriage.resigned += 1;
    match moldau_wire::decode_request(carriage.frame.clone()) {
        Ok((_, request)) => carry(shard, context, carriage, request),
        Err(error) => shard.close(context.conn, format!("malformed {}: {error}", context.api)),
    }
}

/// A request that another node has carried here, as if its client had come.
fn carried(shard: &mut Shard, mut context: Context, frame: Bytes) {
    let conn = context.conn;
    let (api, header, body) = match moldau_wire::decode_header(frame) {
        Ok(parts) => parts,
        Err(error) => return shard.close(conn, format!("no request header was carried here: {error}")),
    };
    context.envelope = Some(Envelope { correlation: context.correlation, version: context.version });
    context.correlation = header.correlation_id;
    context.version = header.request_api_version;
    context.client_id = header.client_id;
    context.api = api;
    if !FORWARDED.contains(&api) || !api.versions().contains(context.version) {
        return shard.close(conn, format!("{api} version {} is not carried here", context.version));
    }
    match Request::decode(api, context.version, body) {
        Ok(request) => handle(shard, context, request),
        Err(error) => shard.close(conn, format!("malformed {api} version {}: {error}", context.version)),
    }
}

fn handle(shard: &mut Shard, context: Context, request: Request) {
    match request {
        Request::Produce(request) => produce::handle(shard, context, request),
        Request::Fetch(request) if shard.settings.is_for_nodes(context.listener) => {
            fetch_metadata::handle(shard, context, request);
        }
        Request::Fetch(request) => fetch::handle(shard, context, request),
        Request::FetchSnapshot(request) => fetch_snapshot::handle(shard, context, request),
        Request::ListOffsets(request) => list_offsets::handle(shard, context, request),
        Request::Metadata(request) => metadata::handle(shard, context, request),
        Request::OffsetCommit(request) => offset_commit::handle(shard, context, request),
        Request::OffsetFetch(request) => offset_fetch::handle(shard, context, request),
        Request::FindCoordinator(request) => find_coordinator::handle(shard, context, request),
        Request::JoinGroup(request) => join_group::handle(shard, context, request),
        Request::Heartbeat(request) => heartbeat::handle(shard, context, request),
        Request::LeaveGroup(request) => leave_group::handle(shard, context, request),
        Request::SyncGroup(request) => sync_group::handle(shard, context, request),
        Request::DescribeGroups(request) => describe_groups::handle(shard, context, request),
        Request::ListGroups(request) => list_groups::handle(shard, context, request),
        Request::ApiVersions(request) => api_versions::handle(shard, context, request),
        Request::CreateTopics(request) => create_topics::handle(shard, context, request),
        Request::DeleteTopics(request) => delete_topics::handle(shard, context, request),
        Request::DeleteRecords(request) => delete_records::handle(shard, context, request),
        Request::InitProducerId(request) => init_producer_id::handle(shard, context, request),
        Request::OffsetForLeaderEpoch(request) => offset_for_leader_epoch::handle(shard, context, request),
        Request::DescribeConfigs(request) => describe_configs::handle(shard, context, request),
        Request::AlterConfigs(request) => alter_configs::handle(shard, context, request),
        Request::AlterReplicaLogDirs(request) => alter_replica_log_dirs::handle(shard, context, request),
        Request::DescribeLogDirs(request) => describe_log_dirs::handle(shard, context, request),
        Request::CreatePartitions(request) => create_partitions::handle(shard, context, request),
        Request::DeleteGroups(request) => delete_groups::handle(shard, context, request),
        Request::IncrementalAlterConfigs(request) => {
            incremental_alter_configs::handle(shard, context, request);
        }
        Request::ElectLeaders(request) => elect_leaders::handle(shard, context, request),
        Request::AlterPartitionReassignments(request) => {
            alter_partition_reassignments::handle(shard, context, request);
        }
        Request::ListPartitionReassignments(request) => {
            list_partition_reassignments::handle(shard, context, request);
        }
        Request::OffsetDelete(request) => offset_delete::handle(shard, context, request),
        Request::DescribeCluster(request) => describe_cluster::handle(shard, context, request),
        Request::DescribeQuorum(request) => describe_quorum::handle(shard, context, request),
        Request::UpdateFeatures(request) => update_features::handle(shard, context, request),
        Request::AddRaftVoter(request) => change_voters::add(shard, context, request),
        Request::RemoveRaftVoter(request) => change_voters::remove(shard, context, request),
        Request::UnregisterBroker(request) => unregister_broker::handle(shard, context, request),
        Request::DescribeProducers(request) => describe_producers::handle(shard, context, request),
        Request::DescribeTopicPartitions(request) => {
            describe_topic_partitions::handle(shard, context, request);
        }
        Request::BrokerRegistration(request) => broker_registration::handle(shard, context, request),
        Request::AlterPartition(request) => alter_partition::handle(shard, context, request),
        Request::BrokerHeartbeat(request) => broker_heartbeat::handle(shard, context, request),
        Request::AllocateProducerIds(request) => allocate_producer_ids::handle(shard, context, request),
        Request::Voters(request) => voters::handle(shard, context, request),
        Request::Forward(request) => forward::handle(shard, context, request),
        // Decoded for other uses of the codec; what is served does not hold them and `dispatch` lets none through.
        _ => shard.close(context.conn, format!("{} is not served", context.api)),
    }
}

// ---- what several APIs need

/// A topic named by id where the protocol version has ids, else by name.
pub(crate) fn find_topic<'a>(image: &'a Image, name: &str, id: Uuid) -> Result<&'a Arc<Topic>, ErrorCode> {
    if id.is_zero() {
        image.topic_named(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    } else {
        image.topic(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    }
}

/// A partition of a topic that exists.
pub(crate) fn find_partition(topic: &Topic, index: i32) -> Result<TopicPartition, ErrorCode> {
    let index = PartitionIndex(index);
    match topic.partition(index) {
        Some(_) => Ok(TopicPartition { topic: topic.id, partition: index }),
        None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

/// Both at once.
pub(crate) fn resolve(image: &Image, name: &str, id: Uuid, index: i32) -> Result<TopicPartition, ErrorCode> {
    find_partition(find_topic(image, name, id)?, index)
}

pub(crate) use describe_configs::layers;

/// A string of the metadata as the wire has it.
pub(crate) fn text(text: &str) -> ByteString {
    ByteString::from(text)
}

/// A question to the controller.
pub(crate) fn to_controller(request: moldau_controller::Request) -> Vec<(ShardId, Ask)> {
    vec![(ShardId(0), Ask::Controller(Box::new(request)))]
}

/// The controller's answer to the only question of a gather.
pub(crate) fn from_controller(answers: Vec<Option<Answer>>) -> Result<moldau_controller::Reply, Refusal> {
    match answers.into_iter().next().flatten() {
        Some(Answer::Controller(answer)) => answer,
        Some(Answer::Unavailable(code)) => Err(Refusal::plain(code)),
        Some(Answer::Resigned) => Err(Refusal::plain(ErrorCode::NOT_CONTROLLER)),
        _ => Err(Refusal::plain(ErrorCode::REQUEST_TIMED_OUT)),
    }
}

/// A refusal's sentence as the wire has it.
pub(crate) fn message(refusal: &Refusal) -> Option<ByteString> {
    Some(ByteString::from(&*refusal.message))
}

/// How long an administrative request may take: what the client asks for, within reason, in milliseconds.
pub(crate) fn patience(asked_ms: i32) -> Option<i64> {
    Some(i64::from(asked_ms).clamp(1_000, 120_000))
}
