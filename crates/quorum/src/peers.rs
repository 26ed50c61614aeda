//! The other voters, as openraft reaches them: a call becomes [`Event::Call`] for the host, which carries it,
//! and the answer comes back through [`crate::Quorum::answered`].
//!
//! Nothing is remembered of a peer here: openraft knows what each has, asks again, and waits longer for one
//! that does not answer.

use std::cell::RefCell;
use std::fmt::Display;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{Stream, StreamExt, unfold};
use moldau_base::NodeId;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, AsyncRuntime, RaftNetworkFactory, RaftNetworkV2};

use crate::message::{Answer, Append, Ballot, Call, Outcome, Piece};
use crate::runtime::Runtime;
use crate::snapshot::SnapshotFile;
use crate::store::Shared;
use crate::types::{Entry, LogId, Types, Vote, Voter};

/// What a voter answers to a stream of entries.
type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// Bytes of entries in one call, if they are more than one.
const APPEND_BYTES: usize = 1 << 20;
/// Bytes of a snapshot in one call.
const PIECE_BYTES: usize = 1 << 20;
/// A call that has no answer after this was lost, and is made again: far more than a round trip and a sync take.
const CALL_TIME: Duration = Duration::from_secs(1);
/// The same for the last piece of a snapshot, which is answered when the whole is installed.
const INSTALL_TIME: Duration = Duration::from_secs(10);
/// Between attempts to reach a voter that does not answer.
const RETRY: Duration = Duration::from_millis(100);

/// Makes the ways to the other voters.
#[derive(Clone)]
pub(crate) struct Peers(pub(crate) Rc<RefCell<Shared>>);

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, _node: &Voter) -> Peer {
        Peer { target, shared: Rc::clone(&self.0) }
    }
}

/// The way to one of them.
pub(crate) struct Peer {
    target: NodeId,
    shared: Rc<RefCell<Shared>>,
}

fn unreachable(why: impl Display) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(why))
}

impl Peer {
    async fn call(&self, call: Call, time: Duration) -> Result<Answer, RPCError<Types>> {
        let directory = self.shared.borrow().directory_of(self.target);
        let request = call.encode(directory).map_err(unreachable)?;
        let answer = self.shared.borrow_mut().calls.call(self.target, request);
        let answer = Runtime::timeout(time, answer).await;
        let answer = answer.map(|answer| answer.ok().flatten());
        let is_there = matches!(answer, Ok(Some(_)));
        self.shared.borrow_mut().progress.reached(self.target, is_there);
        let answer = answer.map_err(|elapsed| NetworkError::new(&elapsed))?;
        let answer = answer.ok_or_else(|| unreachable("the call was not answered"))?;
        match Answer::decode(answer) {
            Ok((Answer::Failed { why }, _)) => Err(RPCError::Unreachable(unreachable(why))),
            Ok((Answer::Appended(outcome), has)) => {
                self.shared.borrow_mut().progress.has_directory(self.target, has);
                Ok(Answer::Appended(outcome))
            }
            Ok((answer, _)) => Ok(answer),
            Err(error) => Err(RPCError::Unreachable(unreachable(error))),
        }
    }

    async fn ballot(
        &self,
        request: VoteRequest<Types>,
        kind: fn(Ballot) -> Call,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let in_place_of_leader = request.leadership_transfer || self.shared.borrow().leader_lost;
        let ballot = Ballot { vote: request.vote, last: request.last_log_id, in_place_of_leader };
        match self.call(kind(ballot), CALL_TIME).await? {
            Answer::Voted { vote, granted, last } => Ok(VoteResponse::new(vote, last, granted)),
            other => Err(misfit(&other)),
        }
    }

    /// Remembers how far the voter is, for operators.
    fn note(&self, outcome: &Outcome, last: Option<LogId>, leader_end: i64, sent_ms: i64) {
        let shared = &mut *self.shared.borrow_mut();
        let upto = match outcome {
            Outcome::All => last,
            Outcome::UpTo(id) => *id,
            Outcome::Conflict => return shared.progress.lacks(self.target, sent_ms),
            Outcome::HigherVote(_) => return,
        };
        let end_offset = shared.log.offset_after(upto);
        shared.progress.appended(self.target, end_offset, leader_end, sent_ms);
    }

    /// Sends a piece and answers with the vote of the receiver.
    async fn piece(&self, piece: Piece) -> Result<Vote, RPCError<Types>> {
        let last = piece.position + piece.bytes.len() as u64 == piece.size;
        let time = if last { INSTALL_TIME } else { CALL_TIME };
        match self.call(Call::Snapshot(piece), time).await? {
            Answer::Received { vote } => Ok(vote),
            other => Err(misfit(&other)),
        }
    }
}

fn misfit(answer: &Answer) -> RPCError<Types> {
    RPCError::Unreachable(unreachable(format!("it answers what was not asked: {answer:?}")))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
        let (batches, sent) =
            self.shared.borrow().log.batches(&entries, APPEND_BYTES).map_err(unreachable)?;
        let (sent_ms, leader_end) = {
            let shared = self.shared.borrow();
            (shared.wall_ms, shared.log.next_offset())
        };
        let append = Append { vote, previous: prev_log_id, committed: leader_commit, batches };
        let outcome = match self.call(Call::Append(append), CALL_TIME).await? {
            Answer::Appended(outcome) => outcome,
            other => return Err(misfit(&other)),
        };
        let last = last_sent(&entries, sent).or(prev_log_id);
        let fits = match &outcome {
            Outcome::All => true,
            Outcome::UpTo(id) => (prev_log_id..=last).contains(id),
            Outcome::Conflict => prev_log_id.is_some(),
            Outcome::HigherVote(theirs) => *theirs > vote,
        };
        if !fits {
            return Err(misfit(&Answer::Appended(outcome)));
        }
        self.note(&outcome, last, leader_end, sent_ms);
        Ok(match outcome {
            Outcome::All if sent == entries.len() => AppendEntriesResponse::Success,
            Outcome::All => AppendEntriesResponse::PartialSuccess(last),
            Outcome::UpTo(id) => AppendEntriesResponse::PartialSuccess(id),
            Outcome::Conflict => AppendEntriesResponse::Conflict,
            Outcome::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    /// One request after the other. A stream whose next entries are purged has nothing to bring any more, though openraft would go on
    /// with it for ever: it ends, and openraft looks what it has decided to send since.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Unpin + 'static,
    {
        let shared = self.shared.clone();
        let until_purged = unfold(Some((input, shared)), |state| async move {
            let (mut input, shared) = state?;
            let request = input.next().await?;
            let is_purged = request.entries.is_empty() && request.prev_log_id < shared.borrow().log.purged();
            Some((request, (!is_purged).then_some((input, shared))))
        });
        stream_append_sequential(self, Box::pin(until_purged), option)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ballot(request, Call::Vote).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ballot(request, Call::PreVote).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        _snapshot: SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let file = self.shared.borrow().read_snapshot();
        let (id, file) = file.map_err(|error| StreamingError::Unreachable(unreachable(error)))?;
        let mut cancel = Box::pin(cancel);
        let mut position = 0;
        loop {
            let bytes = file.slice(position..file.len().min(position + PIECE_BYTES));
            let next = position + bytes.len();
            let (size, at) = (file.len() as u64, position as u64);
            let piece = Piece { vote, id: id.id, end_offset: id.end_offset, size, position: at, bytes };
            let sent = select(Box::pin(self.piece(piece)), &mut cancel).await;
            let theirs = match sent {
                Either::Left((Ok(theirs), _)) => theirs,
                Either::Left((Err(error), _)) => return Err(streaming(error)),
                Either::Right((closed, _)) => return Err(StreamingError::Closed(closed)),
            };
            if theirs < vote {
                return Err(streaming(misfit(&Answer::Received { vote: theirs })));
            }
            if theirs != vote || next == file.len() {
                return Ok(SnapshotResponse::new(theirs));
            }
            position = next;
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let call = Call::Transfer {
            vote: *request.from_leader(),
            to: *request.to_node_id(),
            last: request.last_log_id().copied(),
        };
        match self.call(call, CALL_TIME).await? {
            Answer::Standing => Ok(Ok(())),
            other => Err(misfit(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY)))
    }
}

fn last_sent(entries: &[Entry], sent: usize) -> Option<LogId> {
    entries.get(sent.checked_sub(1)?).map(|entry| entry.log_id)
}

fn streaming(error: RPCError<Types>) -> StreamingError<Types> {
    match error {
        RPCError::Unreachable(error) => StreamingError::Unreachable(error),
        RPCError::Timeout(error) => StreamingError::Timeout(error),
        RPCError::Network(error) => StreamingError::Network(error),
        RPCError::RemoteError(error) => StreamingError::Unreachable(unreachable(error)),
    }
}
