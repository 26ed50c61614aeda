//! The voters of the metadata quorum: one of three is real, and what the two others call and answer is in the input.
//!
//! An input is a row of moves. Afterwards the real one starts again, among voters that are honest and know nothing, or less than it does, and
//! has to bring everything that it said was committed. Inputs to begin with are what a voter heard among honest ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{Mono, NodeId, Now, Uuid};
use moldau_batch::Header;
use moldau_quorum::{CallId, Config, Event, Pace, Quorum};
use moldau_sim::disk::SimDisk;

use crate::directory::repair_all;
use crate::input::{Input, put_piece};
use crate::{Memory, Target};

/// Calls and answers between voters.
pub const VOTERS: Target = Target {
    name: "voters",
    proves: "whatever other voters call and answer, a voter stays up, answers every call, and keeps what it said was committed",
    run: voters,
    memory: Memory { base: 8 << 20, per_byte: 1024 },
    per_mille: 50,
};

/// Moves of an input that are made, and calls that may wait for an answer; the oldest goes.
const MOVES: usize = 400;
const CALLS: usize = 64;
const MILLISECOND: u64 = 1_000_000;
/// Within so many milliseconds a voter that hears of no leader has called the others.
const ELECTION_MS: u64 = 1_000;
const VOTERS_IN_ALL: i32 = 3;
/// The flags of a call: its batches get checksums that hold, and the size of a snapshot is that of what came.
const REPAIRED: u8 = 1;
const WHOLE: u8 = 2;
/// Bytes before the batches in a call to append, and before the piece in one with a snapshot: version, kind, vote and ids.
const APPEND: (u8, usize) = (2, 47);
const SNAPSHOT: (u8, usize) = (3, 55);
/// Of a call with a snapshot: its size and the position of the piece.
const SIZE: std::ops::Range<usize> = 39..47;
const POSITION: std::ops::Range<usize> = 47..55;
/// A voter whose epoch is the last one stands for no other. Nothing can be done about a majority that says so.
const EXHAUSTED: &str = "epochs are exhausted";

/// What happens to the voter.
#[derive(Debug)]
enum Move {
    Called {
        from: NodeId,
        request: Bytes,
    },
    /// By place among the calls that wait.
    Answered {
        place: usize,
        answer: Option<Bytes>,
    },
    Wait {
        ms: u8,
    },
    Propose(Bytes),
    Lost(NodeId),
    HandOver(NodeId),
    Restart,
}

impl Move {
    /// The next move, and whether the voter runs before the one after it.
    fn read(input: &mut Input<'_>) -> Option<(Move, bool)> {
        let (what, of) = (input.byte()?, input.byte()?);
        let node = NodeId(i32::from(of >> 2) % (VOTERS_IN_ALL + 1) + 1);
        let next = match what % 8 {
            0 => Move::Called { from: node, request: call(input.piece()?, of) },
            1 => Move::Answered { place: of.into(), answer: Some(Bytes::copy_from_slice(input.piece()?)) },
            2 => Move::Answered { place: of.into(), answer: None },
            3 => Move::Wait { ms: of },
            4 => Move::Propose(Bytes::copy_from_slice(input.piece()?)),
            5 => Move::Lost(node),
            6 => Move::HandOver(node),
            _ => Move::Restart,
        };
        Some((next, what < 0x80))
    }

    /// Writes what [`Move::read`] reads.
    fn put(&self, out: &mut Vec<u8>) {
        let node = |node: &NodeId| ((node.0 - 1) as u8) << 2;
        match self {
            Move::Called { from, request } => {
                let (flags, request) = without_lengths(request);
                out.extend_from_slice(&[0, node(from) | flags]);
                put_piece(out, &request);
            }
            Move::Answered { place, answer: Some(answer) } => {
                out.extend_from_slice(&[1, *place as u8]);
                put_piece(out, answer);
            }
            Move::Answered { place, answer: None } => out.extend_from_slice(&[2, *place as u8]),
            Move::Wait { ms } => out.extend_from_slice(&[3, *ms]),
            Move::Propose(value) => {
                out.extend_from_slice(&[4, 0]);
                put_piece(out, value);
            }
            Move::Lost(lost) => out.extend_from_slice(&[5, node(lost)]),
            Move::HandOver(to) => out.extend_from_slice(&[6, node(to)]),
            Move::Restart => out.extend_from_slice(&[7, 0]),
        }
    }
}

fn head_of(request: &[u8]) -> Option<usize> {
    let kind = request.get(1)?;
    [APPEND, SNAPSHOT].into_iter().find(|(known, _)| known == kind).map(|(_, len)| len)
}

/// A call as it is, or, if it is marked and carries batches, with the length, checksums and size that they need.
fn call(bytes: &[u8], flags: u8) -> Bytes {
    let Some((head, content)) = head_of(bytes).and_then(|len| bytes.split_at_checked(len)) else {
        return Bytes::copy_from_slice(bytes);
    };
    if flags & REPAIRED == 0 {
        return Bytes::copy_from_slice(bytes);
    }
    let (mut head, mut content) = (head.to_vec(), content.to_vec());
    repair_all(&mut content);
    if flags & WHOLE != 0 && head.len() == SNAPSHOT.1 {
        let position = head[POSITION].try_into().map_or(0, i64::from_be_bytes);
        let size = position.saturating_add(content.len() as i64);
        head[SIZE].copy_from_slice(&size.to_be_bytes());
    }
    let mut len = content.len() + 1;
    while len >= 0x80 {
        head.push(len as u8 | 0x80);
        len >>= 7;
    }
    head.push(len as u8);
    [head, content, vec![0]].concat().into()
}

/// The flags and the bytes that [`call`] makes this call of.
fn without_lengths(request: &[u8]) -> (u8, Vec<u8>) {
    let Some((head, rest)) = head_of(request).and_then(|len| request.split_at_checked(len)) else {
        return (0, request.to_vec());
    };
    let varint = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let tags = if directory_in(rest).is_some() { 3 + 16 } else { 1 };
    let content = rest.get(varint..rest.len().saturating_sub(tags)).unwrap_or_default();
    (REPAIRED, [head, content].concat())
}

/// The directory that the receiver of a call should have, which is the only tag behind it. Without it, the log of the caller names none.
fn directory_in(request: &[u8]) -> Option<Uuid> {
    let (_, directory) = request.split_last_chunk::<16>()?;
    let (_, tag) = request[..request.len() - 16].split_last_chunk::<3>()?;
    (*tag == [1, 0, 16]).then_some(Uuid(*directory))
}

/// The directory of the metadata log of an honest voter.
fn directory_of(id: NodeId) -> Uuid {
    Uuid([id.0 as u8; 16])
}

/// A disk with the same log on it, but for the last entry if there are some before it.
fn with_less(disk: &SimDisk) -> Arc<SimDisk> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    disk.files(|path, content| {
        files.insert(path.name.clone(), content.to_vec());
    });
    files.retain(|name, content| !(name.ends_with(".log") && content.is_empty()));
    let entries: usize =
        files.iter().filter(|(name, _)| name.ends_with(".log")).map(|(_, log)| entries_in(log).count()).sum();
    let snapshot = files.keys().any(|name| name.ends_with(".checkpoint"));
    // Behind the entry with which every log begins one has to stay, or it would be a log that was lost.
    if snapshot || entries > 2 {
        let last = files.iter_mut().rfind(|(name, _)| name.ends_with(".log"));
        // The whole of it: a part of an entry that holds what looks like a batch is damage, and not the end that a crash leaves.
        if let Some((_, log)) = last {
            let begin = entries_in(log).last().unwrap_or(0);
            log.truncate(begin);
        }
    }
    let copy = Arc::<SimDisk>::default();
    for (name, content) in files {
        copy.replace(&Path::new(DirId::default(), name), &content).expect("a disk in memory has room");
    }
    copy
}

/// Where the entries of a log begin.
fn entries_in(log: &[u8]) -> impl Iterator<Item = usize> {
    let mut end = 0;
    std::iter::from_fn(move || {
        let begin = end;
        let size = Header::parse(log.get(begin..)?).ok()?.size();
        end = begin.checked_add(size).filter(|end| *end <= log.len())?;
        Some(begin)
    })
}

/// A voter, with a clock of its own, and what it said.
struct Voter {
    id: NodeId,
    seed: u64,
    disk: Arc<SimDisk>,
    quorum: Option<Quorum>,
    now: u64,
    /// Values that are committed, and the offset behind them.
    image: Vec<Bytes>,
    next_offset: i64,
    calls: VecDeque<(CallId, NodeId, Bytes)>,
    /// Answers to calls of others, by token.
    answers: BTreeMap<u64, Bytes>,
    /// Calls of others, and how many of them were answered.
    tokens: u64,
    answered: u64,
    leader: Option<NodeId>,
    /// It has no epoch left.
    exhausted: bool,
    /// Its log names other voters, or these on other disks: the honest ones are none of them.
    strangers: bool,
}

impl Voter {
    fn new(id: NodeId, seed: u64) -> Voter {
        Voter::on(Arc::default(), id, seed)
    }

    fn on(disk: Arc<SimDisk>, id: NodeId, seed: u64) -> Voter {
        let mut voter = Voter {
            id,
            seed,
            disk,
            quorum: None,
            now: 0,
            image: Vec::new(),
            next_offset: 0,
            calls: VecDeque::new(),
            answers: BTreeMap::new(),
            tokens: 0,
            answered: 0,
            leader: None,
            exhausted: false,
            strangers: false,
        };
        voter.start();
        voter
    }

    fn time(&self) -> Now {
        Now { wall_ms: 1_000_000 + (self.now / MILLISECOND) as i64, mono: Mono(self.now) }
    }

    /// Starts, again if it runs: what it had committed is in its log.
    fn start(&mut self) {
        self.quorum = None;
        let voters = (1..=VOTERS_IN_ALL).map(|id| (NodeId(id), moldau_quorum::Voter::default())).collect();
        let config = Config {
            node: self.id,
            voters,
            pace: Pace::default(),
            dir: DirId::default(),
            directory: directory_of(self.id),
            seed: self.seed,
            segment_bytes: 600,
            snapshot_bytes: 1_500,
        };
        let had = std::mem::take(&mut self.next_offset);
        self.image.clear();
        self.calls.clear();
        self.answers.clear();
        (self.tokens, self.answered) = (0, 0);
        self.leader = None;
        let mut events = Vec::new();
        let disk: Arc<dyn Disk> = self.disk.clone();
        let quorum = Quorum::start(config, disk, self.time(), &mut events)
            .unwrap_or_else(|error| panic!("what a voter wrote opens again: {error}"));
        assert!(quorum.next_offset() >= had, "what was committed is in the log");
        self.quorum = Some(quorum);
        self.happened(events);
    }

    fn step(&mut self) {
        let (now, mut events) = (self.time(), Vec::new());
        if let Some(quorum) = &mut self.quorum {
            quorum.step(now, &mut events);
        }
        self.happened(events);
    }

    fn happened(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Restored { next_offset, values } => {
                    assert!(next_offset >= self.next_offset, "a snapshot takes nothing back");
                    (self.image, self.next_offset) = (values, next_offset);
                }
                Event::Committed(committed) => {
                    assert_eq!(committed.base_offset, self.next_offset, "nothing is left out");
                    assert!(committed.next_offset > committed.base_offset, "an entry has a record");
                    self.next_offset = committed.next_offset;
                    self.image.extend(committed.values);
                }
                Event::Leader { leader, .. } => self.leader = leader,
                Event::Call { id, to, request } => {
                    self.calls.push_back((id, to, request));
                    if self.calls.len() > CALLS {
                        self.calls.pop_front();
                    }
                }
                Event::Answer { token, answer } => {
                    assert!(!answer.is_empty(), "an answer says something");
                    self.answered += 1;
                    self.answers.insert(token, answer);
                }
                Event::SnapshotDue => {
                    let image = self.image.clone();
                    let quorum = self.quorum.as_mut().expect("it runs");
                    quorum.snapshot(image.into_iter()).expect("a disk in memory has room");
                }
                Event::Voters(voters) => {
                    let mut nodes = voters.voters.iter().chain(&voters.observers);
                    self.strangers = nodes.any(|(id, voter)| {
                        let has = voter.directory;
                        id.0 > VOTERS_IN_ALL || !(has.is_zero() || has == directory_of(*id))
                    }) || voters.voters.len() < VOTERS_IN_ALL as usize;
                }
                Event::Proposed { .. }
                | Event::Pulled { .. }
                | Event::Changed { .. }
                | Event::Silent(_)
                | Event::Warning(_) => {}
                Event::Failed(why) if why.contains(EXHAUSTED) => self.exhausted = true,
                Event::Failed(why) => panic!("a voter failed: {why}"),
            }
        }
    }

    fn make(&mut self, next: Move) {
        let Some(quorum) = &mut self.quorum else { return };
        match next {
            Move::Called { from, request } => {
                self.tokens += 1;
                quorum.called(self.tokens, from, request);
            }
            Move::Answered { place, answer } => {
                if let Some((id, ..)) = self.calls.remove(place % self.calls.len().max(1)) {
                    quorum.answered(id, answer);
                }
            }
            Move::Wait { ms } => self.wait(ms.into()),
            Move::Propose(value) => drop(quorum.propose(vec![value])),
            Move::Lost(node) => quorum.lost(node),
            Move::HandOver(to) => quorum.hand_over(to),
            Move::Restart => self.start(),
        }
    }

    /// The answer to a call; `None` if it has to wait for something.
    fn called(&mut self, from: NodeId, request: Bytes) -> Option<Bytes> {
        self.tokens += 1;
        let token = self.tokens;
        self.quorum.as_mut()?.called(token, from, request);
        self.step();
        self.answers.remove(&token)
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now + ms * MILLISECOND;
        while let Some(due) = self.quorum.as_ref().and_then(Quorum::deadline).filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            self.step();
        }
        self.now = end;
    }

    /// The directories of the others that its log names, as its calls for an election say. It starts again afterwards.
    fn names(&mut self) -> BTreeMap<NodeId, Uuid> {
        self.wait(ELECTION_MS);
        let named = |(_, to, request): &(CallId, NodeId, Bytes)| Some((*to, directory_in(request)?));
        let names = self.calls.iter().filter_map(named).collect();
        self.start();
        names
    }
}

fn voters(input: &[u8]) {
    let mut input = Input(input);
    let mut voter = Voter::new(NodeId(1), 1);
    for _ in 0..MOVES {
        let Some((next, runs)) = Move::read(&mut input) else { break };
        voter.make(next);
        if runs {
            voter.step();
        }
        if voter.exhausted {
            return;
        }
    }
    voter.step();
    voter.wait(1);
    if voter.exhausted {
        return;
    }
    let others = voter.strangers;
    assert_eq!(voter.answered, voter.tokens, "every call is answered");
    let (image, next_offset) = (voter.image.clone(), voter.next_offset);
    voter.start();
    if others || voter.strangers {
        return;
    }
    let names = voter.names();
    if voter.exhausted || names.iter().any(|(id, directory)| *directory != directory_of(*id)) {
        return;
    }
    // A leader writes the directory of a voter down when that one has acknowledged something: an honest one has it still. If it had not, it would
    // not vote before a leader has fed it, and nobody leads without it. It lacks the last entry, so that the real one has to bring it.
    let other = |id, seed| match names.contains_key(&id) {
        true => Voter::on(with_less(&voter.disk), id, seed),
        false => Voter::new(id, seed),
    };
    let (second, third) = (other(NodeId(2), 2), other(NodeId(3), 3));
    let mut honest = Honest::new([voter, second, third]);
    // These two begin with nothing, or with less than the first has, so that together they would agree on less.
    honest.cut = true;
    for _ in 0..20_000 {
        honest.tick();
        let voter = &honest.voters[0];
        if voter.exhausted {
            return;
        }
        if voter.leader.is_some() && voter.next_offset >= next_offset.max(1) {
            assert!(voter.image.starts_with(&image), "what was committed is another");
            return;
        }
    }
    panic!("among honest voters it comes to a leader and to what was committed");
}

/// Three voters that carry out what they are asked, with a millisecond for each way.
struct Honest {
    voters: [Voter; 3],
    post: Vec<(usize, Move, Option<CallId>)>,
    /// The second and the third do not hear each other.
    cut: bool,
    /// What the first one heard since it started, and the milliseconds since the last of it.
    heard: Vec<u8>,
    quiet: u8,
}

impl Honest {
    fn new(voters: [Voter; 3]) -> Honest {
        Honest { voters, post: Vec::new(), cut: false, heard: Vec::new(), quiet: 0 }
    }

    /// A millisecond.
    fn tick(&mut self) {
        self.quiet += 1;
        if self.quiet == u8::MAX {
            self.note(None);
        }
        self.voters.iter_mut().for_each(|voter| voter.wait(1));
        for (to, letter, id) in std::mem::take(&mut self.post) {
            self.deliver(to, letter, id);
        }
        for from in 0..self.voters.len() {
            let calls: Vec<(CallId, NodeId, Bytes)> = self.voters[from].calls.iter().cloned().collect();
            for (id, to, request) in calls {
                let posted = self.post.iter().any(|(of, _, known)| *of == from && *known == Some(id));
                if !posted {
                    self.carry(from, id, to, request);
                }
            }
        }
    }

    /// Brings a call, and posts its answer.
    fn carry(&mut self, from: usize, id: CallId, to: NodeId, request: Bytes) {
        let to = to.0 as usize - 1;
        let answer = if self.cut && from != 0 && to != 0 {
            None
        } else {
            let from = self.voters[from].id;
            if to == 0 {
                self.note(Some(&Move::Called { from, request: request.clone() }));
            }
            self.voters[to].called(from, request)
        };
        self.post.push((from, Move::Answered { place: 0, answer }, Some(id)));
    }

    fn deliver(&mut self, to: usize, letter: Move, id: Option<CallId>) {
        let letter = match letter {
            Move::Answered { answer, .. } => {
                let place = self.voters[to].calls.iter().position(|(known, ..)| Some(*known) == id);
                let Some(place) = place else { return };
                Move::Answered { place, answer }
            }
            other => other,
        };
        if to == 0 {
            self.note(Some(&letter));
        }
        self.voters[to].make(letter);
        self.voters[to].step();
    }

    /// Writes down what the first one hears, and the time before it.
    fn note(&mut self, next: Option<&Move>) {
        let ms = std::mem::take(&mut self.quiet);
        if ms > 0 {
            Move::Wait { ms }.put(&mut self.heard);
        }
        if let Some(next) = next {
            next.put(&mut self.heard);
        }
    }

    fn run(&mut self, ms: u64, proposals: bool) {
        for at in 0..ms {
            self.tick();
            if proposals && at % 40 == 0 {
                for to in 0..self.voters.len() {
                    self.post.push((to, Move::Propose(vec![b'v'; 200].into()), None));
                }
            }
        }
    }
}

/// What the first of three honest voters hears: as a follower or as the leader, and as one that comes late and gets a snapshot.
pub(crate) fn conversations() -> Vec<Vec<u8>> {
    let all =
        |seed: u64| [Voter::new(NodeId(1), 1), Voter::new(NodeId(2), seed), Voter::new(NodeId(3), seed + 1)];
    let mut heard: Vec<Vec<u8>> = (0..6)
        .map(|seed| {
            let mut honest = Honest::new(all(10 * seed));
            honest.run(900, true);
            honest.heard
        })
        .collect();
    let mut late = Honest::new(all(1));
    late.voters[0].quorum = None;
    late.run(1_500, true);
    late.voters[0] = Voter::new(NodeId(1), 1);
    (late.heard, late.quiet) = (Vec::new(), 0);
    late.run(600, true);
    heard.push(late.heard);
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replays a conversation.
    fn replayed(input: &[u8]) -> Voter {
        let mut input = Input(input);
        let mut voter = Voter::new(NodeId(1), 1);
        while let Some((next, _)) = Move::read(&mut input) {
            voter.make(next);
            voter.step();
        }
        voter
    }

    #[test]
    fn what_was_heard_among_honest_voters_is_understood_again() {
        let voters: Vec<Voter> = conversations().iter().map(|heard| replayed(heard)).collect();
        for voter in &voters {
            assert!(
                voter.leader.is_some() && voter.next_offset > 4,
                "{} of {:?}",
                voter.next_offset,
                voter.id
            );
        }
        let leads = |voter: &Voter| voter.leader == Some(voter.id);
        assert!(voters.iter().any(leads), "one leads");
        assert!(!voters.iter().all(leads), "one follows");
        let late = voters.last().expect("the late one");
        assert!(late.image.len() > 10, "it got a snapshot");
    }
}
