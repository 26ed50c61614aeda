//! Calls of other voters, and what this one answers.
//!
//! openraft takes for granted that a peer follows the protocol, and ends the process where it sees that one
//! does not. Whatever can be checked of a call without knowing the cluster's history is therefore checked
//! before it is told: who speaks for whom, that entries follow each other, that a snapshot is whole.

use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use moldau_base::{NodeId, Uuid};
use moldau_batch::Batch;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Raft};

use crate::codec;
use crate::message::{Answer, Append, Ballot, Call, Outcome, Piece};
use crate::snapshot::{self, SnapshotFile};
use crate::store::{Shared, Store};
use crate::types::{Entry, LogId, Types, Vote, term};

/// The largest snapshot that is taken from a leader.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// A snapshot of which not all pieces have come.
#[derive(Debug)]
pub(crate) struct Incoming {
    vote: Vote,
    id: LogId,
    bytes: BytesMut,
}

/// Answers a call of `from`.
pub(crate) async fn answer(
    raft: Raft<Types, Store>,
    shared: Rc<RefCell<Shared>>,
    from: NodeId,
    request: Bytes,
) -> Answer {
    let (call, directory) = match Call::decode(request) {
        Ok(call) => call,
        Err(error) => return failed(error),
    };
    if let Err(refused) = shared.borrow().check_caller(from) {
        return failed(refused);
    }
    if let Err(refused) = check_directory(&mut shared.borrow_mut(), &call, directory) {
        return failed(refused);
    }
    if *call.vote().leader_id().node_id() != from {
        return failed(format_args!("node {from} speaks for node {}", call.vote().leader_id().node_id()));
    }
    if call.vote().leader_id().term() == 0 {
        return failed("nobody stands in epoch 0");
    }
    if let Err(refused) = check_leader(shared.borrow().vote.as_ref(), call.vote()) {
        return failed(refused);
    }
    let served = match call {
        Call::PreVote(ballot) => raft.pre_vote(request_of(ballot)).await.map(voted).map_err(failed),
        Call::Vote(ballot) => raft.vote(request_of(ballot)).await.map(voted).map_err(failed),
        Call::Append(append) => appended(&raft, &shared, append).await,
        Call::Snapshot(piece) => received(&raft, &shared, piece).await,
        Call::Transfer { vote, to, last } => {
            let request = TransferLeaderRequest::new(vote, to, last);
            match raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => Ok(Answer::Standing),
                Ok(Err(refused)) => Err(failed(refused)),
                Err(fatal) => Err(failed(fatal)),
            }
        }
    };
    served.unwrap_or_else(|answer| answer)
}

/// Refuses a second leader of an epoch. openraft would take it from one that led this epoch itself and has started again: it goes on
/// as if nobody had been elected, and only the disk knows better.
fn check_leader(promised: Option<&Vote>, vote: &Vote) -> Result<(), String> {
    let elected = promised.filter(|promised| promised.is_committed() && vote.is_committed());
    let (epoch, node) = (vote.leader_id().term(), vote.leader_id().node_id());
    match elected.map(Vote::leader_id) {
        Some(leader) if leader.term() == epoch && leader.node_id() != node => {
            Err(format!("node {node} does not lead epoch {epoch}: node {} does", leader.node_id()))
        }
        _ => Ok(()),
    }
}

/// Refuses what is meant for another disk than this one, and a vote for somebody who knows that there was a log here: what was promised
/// and acknowledged on it is not known any more, and must not count twice.
fn check_directory(shared: &mut Shared, call: &Call, meant: Uuid) -> Result<(), String> {
    let has = shared.directory;
    if !meant.is_zero() && meant != has {
        let node = shared.node;
        let why = format!(
            "the metadata log says that voter {node} has the directory {meant}, and this one is {has}: its disk was replaced. \
             kafka-metadata-quorum remove-controller --controller-id {node} --controller-directory-id {meant}, then \
             add-controller with this node's configuration, makes it a voter again"
        );
        shared.warn(&why);
        return Err(why);
    }
    let is_ballot = matches!(call, Call::PreVote(_) | Call::Vote(_));
    if is_ballot && !meant.is_zero() && shared.is_fresh() {
        return Err("the metadata log of this voter is gone, and with it what it promised: it votes when a leader has given it one".to_owned());
    }
    Ok(())
}

fn failed(why: impl Display) -> Answer {
    Answer::Failed { why: why.to_string() }
}

fn request_of(ballot: Ballot) -> VoteRequest<Types> {
    let Ballot { vote, last, in_place_of_leader } = ballot;
    VoteRequest { leadership_transfer: in_place_of_leader, ..VoteRequest::new(vote, last) }
}

fn voted(response: VoteResponse<Types>) -> Answer {
    Answer::Voted { vote: response.vote, granted: response.vote_granted, last: response.last_log_id }
}

async fn appended(
    raft: &Raft<Types, Store>,
    shared: &Rc<RefCell<Shared>>,
    append: Append,
) -> Result<Answer, Answer> {
    let Append { vote, previous, committed, batches } = append;
    if !vote.is_committed() {
        return Err(failed("entries of a node that was not elected"));
    }
    let received = read_entries(batches, previous, &vote).map_err(failed)?;
    check_entries(&shared.borrow(), previous, &received).map_err(failed)?;
    let bytes = received.iter().map(|(_, batch)| batch.bytes().len() as u64).sum();
    if let Some(why) = shared.borrow_mut().no_room(bytes) {
        return Err(failed(format_args!("no room in the metadata log: {why}")));
    }
    let mut entries = Vec::with_capacity(received.len());
    for (entry, batch) in received {
        shared.borrow_mut().received.insert(entry.log_id.index, batch);
        entries.push(entry);
    }
    let indexes: Vec<u64> = entries.iter().map(|entry| entry.log_id.index).collect();
    let request = AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: committed };
    let answer = raft.append_entries(request).await;
    // Those that were refused, or were there already.
    for index in indexes {
        shared.borrow_mut().received.remove(&index);
    }
    let outcome = match answer.map_err(failed)? {
        AppendEntriesResponse::Success => Outcome::All,
        AppendEntriesResponse::PartialSuccess(id) => Outcome::UpTo(id),
        AppendEntriesResponse::Conflict => Outcome::Conflict,
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(vote),
    };
    Ok(Answer::Appended(outcome))
}

/// The entries of `batches`, each with its batch, if they can follow `previous` in a log of this leader.
fn read_entries(
    mut batches: Bytes,
    previous: Option<LogId>,
    vote: &Vote,
) -> Result<Vec<(Entry, Batch)>, String> {
    let mut entries = Vec::new();
    let (mut last_term, mut next) = previous.map_or((0, 0), |id| (term(&id), id.index.saturating_add(1)));
    while !batches.is_empty() {
        let batch = Batch::verify(&batches).map_err(|error| error.to_string())?;
        let entry = codec::decode(&batch)?;
        let id = entry.log_id;
        if id.index != next || term(&id) < last_term || term(&id) > vote.leader_id().term() {
            return Err(format!("entry {id} cannot follow entry {next} of term {last_term}"));
        }
        (last_term, next) = (term(&id), id.index + 1);
        batches = batches.slice(batch.bytes().len()..);
        entries.push((entry, batch));
    }
    Ok(entries)
}

/// Refuses what can be known to be wrong here: another entry where one is committed, other voters, other offsets.
fn check_entries(shared: &Shared, previous: Option<LogId>, entries: &[(Entry, Batch)]) -> Result<(), String> {
    let ids = previous.iter().chain(entries.iter().map(|(entry, _)| &entry.log_id));
    if let Some(id) = ids.into_iter().find(|id| !shared.may_hold(id)) {
        return Err(format!("entry {id} contradicts what is committed here"));
    }
    // What came with an earlier call may still be on its way into the log.
    let on_its_way =
        |id: &LogId| shared.received.get(&id.index).filter(|batch| codec::is(batch.header(), id));
    let known = previous.as_ref().and_then(on_its_way).map(|batch| batch.header().next_offset());
    let mut expected = known.or_else(|| shared.log.offset_after(previous));
    for (entry, batch) in entries {
        if let EntryPayload::Membership(membership) = &entry.payload {
            shared.check_voters(membership).map_err(|why| format!("entry {}: {why}", entry.log_id))?;
        }
        if shared.received.get(&entry.log_id.index).is_some_and(|other| other.bytes() != batch.bytes()) {
            return Err(format!("entry {} came before and is another now", entry.log_id));
        }
        let header = batch.header();
        let offset = expected.unwrap_or(header.base_offset);
        let next_offset = offset.checked_add(codec::offsets(entry)).ok_or("offsets are exhausted")?;
        if (header.base_offset, header.next_offset()) != (offset, next_offset) {
            let (from, to) = (header.base_offset, header.next_offset());
            return Err(format!(
                "entry {} has the offsets {from}..{to}, not {offset}..{next_offset}",
                entry.log_id
            ));
        }
        expected = Some(next_offset);
    }
    Ok(())
}

async fn received(
    raft: &Raft<Types, Store>,
    shared: &Rc<RefCell<Shared>>,
    piece: Piece,
) -> Result<Answer, Answer> {
    let Piece { vote, id, end_offset, size, position, bytes } = piece;
    if !vote.is_committed() || term(&id) > vote.leader_id().term() {
        return Err(failed("a snapshot of a node that was not elected"));
    }
    let Some(file) = collect(shared, (vote, id), size, position, &bytes).map_err(failed)? else {
        // Whether this leader is still followed is answered with the last piece.
        return Ok(Answer::Received { vote });
    };
    let (meta, _) = snapshot::read(file.clone(), end_offset).map_err(failed)?;
    if meta.id.id != id {
        return Err(failed(format_args!("a snapshot of entry {} in place of {id}", meta.id.id)));
    }
    shared.borrow().check_voters(meta.membership.membership()).map_err(failed)?;
    let contradicts = shared.borrow().applied.id.is_some_and(|known| id > known && id.index <= known.index);
    if contradicts {
        return Err(failed(format_args!("snapshot {id} contradicts what is committed here")));
    }
    let meta = SnapshotMetaOf::<Types> { last_log_id: Some(meta.id.id), last_membership: meta.membership };
    let snapshot = SnapshotFile::Received { bytes: file, end_offset };
    let snapshot = SnapshotOf::<Types, SnapshotFile> { meta, snapshot };
    let response = raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?;
    Ok(Answer::Received { vote: response.vote })
}

/// Adds a piece; the whole file when it was the last. Pieces come in order; the first one begins anew.
fn collect(
    shared: &Rc<RefCell<Shared>>,
    (vote, id): (Vote, LogId),
    size: u64,
    position: u64,
    piece: &Bytes,
) -> Result<Option<Bytes>, String> {
    let incoming = &mut shared.borrow_mut().incoming;
    if size > MAX_SNAPSHOT_BYTES {
        return Err(format!("a snapshot of {size} bytes is too large"));
    }
    if position == 0 {
        *incoming = Some(Incoming { vote, id, bytes: BytesMut::new() });
    }
    let Some(parts) = incoming
        .as_mut()
        .filter(|parts| parts.vote == vote && parts.id == id && parts.bytes.len() as u64 == position)
    else {
        *incoming = None;
        return Err(format!("a piece of a snapshot at {position} that does not follow the last"));
    };
    parts.bytes.extend_from_slice(piece);
    let have = parts.bytes.len() as u64;
    if have < size && !piece.is_empty() {
        return Ok(None);
    }
    let whole = incoming.take().map(|parts| parts.bytes.freeze());
    if have == size { Ok(whole) } else { Err(format!("{have} bytes of a snapshot of {size}")) }
}
