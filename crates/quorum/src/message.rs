//! What voters say to each other, as bytes: calls and their answers (Raft's AppendEntries, RequestVote and
//! InstallSnapshot, with pre-vote and leader transfer). A call says which directory its receiver should have, an answer which one it has: a
//! disk that was replaced does not pass for the one before it.
//!
//! Entries travel as the batches that lie in the log of the leader, verbatim; a snapshot travels as pieces of
//! its file. Whatever the bytes are, reading them costs no more than their length, and what openraft takes for
//! granted of a peer is checked here or in [`crate::serve`] before it is told.

use bytes::Bytes;
use moldau_base::{NodeId, Uuid};
use moldau_wire::{DecodeError, EncodeError, Form, Reader, Writer};
use openraft::vote::RaftLeaderId;

use crate::types::{LogId, Vote, log_id, term};

/// The version of these messages; a later one is refused by name.
const VERSION: i8 = 0;
const FORM: Form = Form::Compact;
/// The tag of the receiver's directory in a call, of the sender's in an answer; without it, it is not known.
const DIRECTORY: u32 = 0;

/// What a voter asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Would you vote for me? Nothing is promised.
    PreVote(Ballot),
    /// Vote for me.
    Vote(Ballot),
    /// Append what the leader has.
    Append(Append),
    /// A piece of the leader's snapshot.
    Snapshot(Piece),
    /// Stand for election: the leader gives its place to you.
    Transfer { vote: Vote, to: NodeId, last: Option<LogId> },
}

/// A candidate and its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ballot {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    /// The old leader agrees, or is known to be dead: its lease does not stand in the way.
    pub(crate) in_place_of_leader: bool,
}

/// Entries of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Append {
    pub(crate) vote: Vote,
    /// The entry before the first.
    pub(crate) previous: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    /// Record batches, one per entry.
    pub(crate) batches: Bytes,
}

/// A piece of a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) vote: Vote,
    /// The last entry in the snapshot.
    pub(crate) id: LogId,
    /// The offset after its last record.
    pub(crate) end_offset: i64,
    /// Size of the whole file.
    pub(crate) size: u64,
    pub(crate) position: u64,
    pub(crate) bytes: Bytes,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Voted {
        vote: Vote,
        granted: bool,
        last: Option<LogId>,
    },
    Appended(Outcome),
    /// The vote of the one that answers; another than the caller's means that it does not follow.
    Received {
        vote: Vote,
    },
    /// The call to take the leader's place was heard.
    Standing,
    /// It could not be done.
    Failed {
        why: String,
    },
}

/// What became of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    All,
    UpTo(Option<LogId>),
    /// The entry before the first is not there.
    Conflict,
    HigherVote(Vote),
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a message between voters is damaged: {0}")]
    Bytes(#[from] DecodeError),
    #[error("version {0} of the messages between voters is not known; this node speaks version {VERSION}")]
    Version(i8),
    #[error("{0} is no kind of message between voters")]
    Kind(i8),
    #[error("a message between voters says {0}")]
    Value(&'static str),
}

impl Call {
    /// For the node whose metadata log should lie in this directory.
    pub(crate) fn encode(&self, directory: Uuid) -> Result<Bytes, EncodeError> {
        let mut w = Writer::bare();
        w.i8(VERSION);
        match self {
            Call::PreVote(ballot) => write_ballot(&mut w, 0, ballot),
            Call::Vote(ballot) => write_ballot(&mut w, 1, ballot),
            Call::Append(append) => {
                w.i8(2);
                write_vote(&mut w, &append.vote);
                write_id(&mut w, append.previous);
                write_id(&mut w, append.committed);
                w.bytes(FORM, &append.batches);
            }
            Call::Snapshot(piece) => {
                w.i8(3);
                write_vote(&mut w, &piece.vote);
                write_id(&mut w, Some(piece.id));
                w.i64(piece.end_offset);
                w.i64(piece.size.cast_signed());
                w.i64(piece.position.cast_signed());
                w.bytes(FORM, &piece.bytes);
            }
            Call::Transfer { vote, to, last } => {
                w.i8(4);
                write_vote(&mut w, vote);
                w.i32(to.0);
                write_id(&mut w, *last);
            }
        }
        write_directory(&mut w, directory);
        w.into_bytes()
    }

    /// The call, and the directory that it is for.
    pub(crate) fn decode(bytes: Bytes) -> Result<(Call, Uuid), Malformed> {
        let mut r = begin(bytes)?;
        let call = match r.i8()? {
            0 => Call::PreVote(read_ballot(&mut r)?),
            1 => Call::Vote(read_ballot(&mut r)?),
            2 => Call::Append(Append {
                vote: read_vote(&mut r)?,
                previous: read_id(&mut r)?,
                committed: read_id(&mut r)?,
                batches: r.bytes(FORM)?,
            }),
            3 => Call::Snapshot(Piece {
                vote: read_vote(&mut r)?,
                id: read_id(&mut r)?.ok_or(Malformed::Value("a snapshot of nothing"))?,
                end_offset: r.i64()?,
                size: read_size(&mut r)?,
                position: read_size(&mut r)?,
                bytes: r.bytes(FORM)?,
            }),
            4 => Call::Transfer { vote: read_vote(&mut r)?, to: NodeId(r.i32()?), last: read_id(&mut r)? },
            other => return Err(Malformed::Kind(other)),
        };
        let directory = read_directory(&mut r)?;
        r.finish()?;
        Ok((call, directory))
    }

    /// The vote that the caller stands for.
    pub(crate) fn vote(&self) -> &Vote {
        match self {
            Call::PreVote(ballot) | Call::Vote(ballot) => &ballot.vote,
            Call::Append(append) => &append.vote,
            Call::Snapshot(piece) => &piece.vote,
            Call::Transfer { vote, .. } => vote,
        }
    }
}

impl Answer {
    /// Of the node whose metadata log lies in this directory.
    pub(crate) fn encode(&self, directory: Uuid) -> Result<Bytes, EncodeError> {
        let mut w = Writer::bare();
        w.i8(VERSION);
        match self {
            Answer::Voted { vote, granted, last } => {
                w.i8(0);
                write_vote(&mut w, vote);
                w.bool(*granted);
                write_id(&mut w, *last);
            }
            Answer::Appended(outcome) => {
                w.i8(1);
                write_outcome(&mut w, outcome);
            }
            Answer::Received { vote } => {
                w.i8(2);
                write_vote(&mut w, vote);
            }
            Answer::Standing => w.i8(3),
            Answer::Failed { why } => {
                w.i8(4);
                w.string(FORM, why);
            }
        }
        write_directory(&mut w, directory);
        w.into_bytes()
    }

    /// The answer, and the directory of the one that answers.
    pub(crate) fn decode(bytes: Bytes) -> Result<(Answer, Uuid), Malformed> {
        let mut r = begin(bytes)?;
        let answer = match r.i8()? {
            0 => Answer::Voted { vote: read_vote(&mut r)?, granted: r.bool()?, last: read_id(&mut r)? },
            1 => Answer::Appended(read_outcome(&mut r)?),
            2 => Answer::Received { vote: read_vote(&mut r)? },
            3 => Answer::Standing,
            4 => Answer::Failed { why: r.string(FORM)?.to_string() },
            other => return Err(Malformed::Kind(other)),
        };
        let directory = read_directory(&mut r)?;
        r.finish()?;
        Ok((answer, directory))
    }
}

fn begin(bytes: Bytes) -> Result<Reader, Malformed> {
    let mut r = Reader::new(bytes);
    match r.i8()? {
        VERSION => Ok(r),
        other => Err(Malformed::Version(other)),
    }
}

fn write_directory(w: &mut Writer, directory: Uuid) {
    if directory.is_zero() {
        return w.no_tags();
    }
    w.uvarint(1);
    w.tagged(DIRECTORY, |w| w.uuid(directory));
}

fn read_directory(r: &mut Reader) -> Result<Uuid, Malformed> {
    let mut directory = Uuid::ZERO;
    for _ in 0..r.tag_count()? {
        match r.tag()? {
            (DIRECTORY, size) => directory = r.tagged(size, Reader::uuid)?,
            (_, size) => r.skip(size)?,
        }
    }
    Ok(directory)
}

fn write_ballot(w: &mut Writer, kind: i8, ballot: &Ballot) {
    w.i8(kind);
    write_vote(w, &ballot.vote);
    write_id(w, ballot.last);
    w.bool(ballot.in_place_of_leader);
}

fn read_ballot(r: &mut Reader) -> Result<Ballot, Malformed> {
    Ok(Ballot { vote: read_vote(r)?, last: read_id(r)?, in_place_of_leader: r.bool()? })
}

fn write_outcome(w: &mut Writer, outcome: &Outcome) {
    match outcome {
        Outcome::All => w.i8(0),
        Outcome::UpTo(id) => {
            w.i8(1);
            write_id(w, *id);
        }
        Outcome::Conflict => w.i8(2),
        Outcome::HigherVote(vote) => {
            w.i8(3);
            write_vote(w, vote);
        }
    }
}

fn read_outcome(r: &mut Reader) -> Result<Outcome, Malformed> {
    Ok(match r.i8()? {
        0 => Outcome::All,
        1 => Outcome::UpTo(read_id(r)?),
        2 => Outcome::Conflict,
        3 => Outcome::HigherVote(read_vote(r)?),
        other => return Err(Malformed::Kind(other)),
    })
}

fn write_vote(w: &mut Writer, vote: &Vote) {
    w.i64(vote.leader_id().term().cast_signed());
    w.i32(vote.leader_id().node_id().0);
    w.bool(vote.is_committed());
}

fn read_vote(r: &mut Reader) -> Result<Vote, Malformed> {
    let term = read_term(r)?;
    let node = NodeId(r.i32()?);
    if node.0 < 0 {
        // It could be promised, and the promise could not be read again.
        return Err(Malformed::Value("a node id below zero"));
    }
    Ok(if r.bool()? { Vote::new_committed(term, node) } else { Vote::new(term, node) })
}

/// An index below zero stands for no entry.
fn write_id(w: &mut Writer, id: Option<LogId>) {
    w.i64(id.map_or(0, |id| term(&id).cast_signed()));
    w.i64(id.map_or(-1, |id| id.index.cast_signed()));
}

fn read_id(r: &mut Reader) -> Result<Option<LogId>, Malformed> {
    let term = read_term(r)?;
    Ok(u64::try_from(r.i64()?).ok().map(|index| log_id(term, index)))
}

/// Terms are leader epochs, which have 31 bits.
fn read_term(r: &mut Reader) -> Result<u64, Malformed> {
    let term = i32::try_from(r.i64()?).map_err(|_| Malformed::Value("an epoch of more than 31 bits"))?;
    u64::try_from(term).map_err(|_| Malformed::Value("an epoch below zero"))
}

fn read_size(r: &mut Reader) -> Result<u64, Malformed> {
    u64::try_from(r.i64()?).map_err(|_| Malformed::Value("a size below zero"))
}
