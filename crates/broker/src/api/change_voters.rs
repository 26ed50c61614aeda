//! AddRaftVoter and RemoveRaftVoter: who votes in the metadata quorum (KIP-853).

use bytestring::ByteString;
use moldau_base::NodeId;
use moldau_base::voter::{Voter, VoterChange, VoterEndpoint, VoterRefusal};
use moldau_wire::{ErrorCode, Response as AnyResponse, add_raft_voter, remove_raft_voter};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};
use crate::waist::ShardId;

/// How long the voters may take to agree, in milliseconds, beside what an added one may take to get the log.
const AGREE_MS: i64 = 12_000;
/// The longest that an added voter may take to get the log, in milliseconds: whoever carries the request waits for half a minute.
const MOST_PATIENCE_MS: i32 = 15_000;

/// A node becomes a voter. It is always answered when that is committed.
pub(crate) fn add(shard: &mut Shard, context: Context, request: add_raft_voter::Request) {
    let patience_ms = request.timeout_ms.clamp(1_000, MOST_PATIENCE_MS);
    let checked = check(shard, request.cluster_id.as_ref(), request.voter_id).and_then(|node| {
        match request.voter_directory_id.is_zero() || request.listeners.is_empty() {
            true => Err((
                ErrorCode::INVALID_REQUEST,
                format!("voter {node} needs a directory id and an endpoint where the others reach it"),
            )),
            false => Ok(node),
        }
    });
    let endpoint = |listener: &add_raft_voter::request::Listener| VoterEndpoint {
        listener: (*listener.name).into(),
        host: (*listener.host).into(),
        port: listener.port,
    };
    let endpoints = request.listeners.iter().map(endpoint).collect();
    let voter = Voter { directory: request.voter_directory_id, endpoints };
    let change = checked.map(|node| VoterChange::Add {
        node,
        voter,
        patience_ms: u64::from(patience_ms.unsigned_abs()),
    });
    change_voters(
        shard,
        change,
        AGREE_MS + i64::from(patience_ms),
        move |shard, error_code, error_message| {
            let response = add_raft_voter::Response { error_code, error_message, ..Default::default() };
            shard.reply(context, AnyResponse::AddRaftVoter(response));
        },
    );
}

/// A voter votes no more.
pub(crate) fn remove(shard: &mut Shard, context: Context, request: remove_raft_voter::Request) {
    let directory = request.voter_directory_id;
    let change = check(shard, request.cluster_id.as_ref(), request.voter_id)
        .map(|node| VoterChange::Remove { node, directory });
    change_voters(shard, change, AGREE_MS, move |shard, error_code, error_message| {
        let response = remove_raft_voter::Response { error_code, error_message, ..Default::default() };
        shard.reply(context, AnyResponse::RemoveRaftVoter(response));
    });
}

type Refused = (ErrorCode, String);

fn check(shard: &Shard, cluster: Option<&ByteString>, node: i32) -> Result<NodeId, Refused> {
    let settings = &shard.settings;
    if let Some(cluster) = cluster.filter(|cluster| ***cluster != *settings.cluster_id) {
        let why = format!("this is cluster {}, not {cluster}", settings.cluster_id);
        return Err((ErrorCode::INCONSISTENT_CLUSTER_ID, why));
    }
    // Such a voter watches nobody and is watched by nobody.
    if settings.voters.len() <= 1 && !settings.bootstrapped {
        let why = "one node is the whole quorum: a quorum that can grow begins with controller.quorum.voters on several nodes";
        return Err((ErrorCode::UNSUPPORTED_VERSION, why.to_owned()));
    }
    match node >= 0 {
        true => Ok(NodeId(node)),
        false => Err((ErrorCode::INVALID_REQUEST, format!("{node} is no node id"))),
    }
}

fn change_voters(
    shard: &mut Shard,
    change: Result<VoterChange, Refused>,
    patience_ms: i64,
    reply: impl FnOnce(&mut Shard, ErrorCode, Option<ByteString>) + 'static,
) {
    let change = match change {
        Ok(change) => change,
        Err((code, why)) => return reply(shard, code, Some(why.into())),
    };
    shard.gather(vec![(ShardId(0), Ask::ChangeVoters(change))], Some(patience_ms), move |shard, answers| {
        match answers.into_iter().next().flatten() {
            Some(Answer::VotersChanged(Ok(()))) => reply(shard, ErrorCode::NONE, None),
            Some(Answer::VotersChanged(Err(refusal))) => {
                reply(shard, code(&refusal), Some(refusal.to_string().into()));
            }
            _ => reply(shard, ErrorCode::REQUEST_TIMED_OUT, None),
        }
    });
}

fn code(refusal: &VoterRefusal) -> ErrorCode {
    match refusal {
        VoterRefusal::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        VoterRefusal::Duplicate(_) => ErrorCode::DUPLICATE_VOTER,
        VoterRefusal::NotFound(..) => ErrorCode::VOTER_NOT_FOUND,
        VoterRefusal::Last(_) => ErrorCode::INVALID_REQUEST,
        VoterRefusal::UnderWay | VoterRefusal::Lagging(_) | VoterRefusal::Unknown(_) => {
            ErrorCode::REQUEST_TIMED_OUT
        }
    }
}
