//! What a quorum gives to observers, who read its committed log and its snapshots.

use std::sync::Arc;

use crate::model::ModelDisk;
use bytes::{Bytes, BytesMut};
use moldau_base::{Mono, NodeId, Now, Uuid};
use moldau_quorum::{Config, Event, Given, Pull, Pulled, Quorum, Wanted, read_batches, read_snapshot};

const NODE: NodeId = NodeId(7);
const OBSERVER: NodeId = NodeId(11);

fn at(ms: i64) -> Now {
    Now { wall_ms: 1_700_000_000_000 + ms, mono: Mono::default().after_ms(ms) }
}

/// A voter that is alone, and what it has committed.
struct Voter {
    quorum: Quorum,
    events: Vec<Event>,
    values: Vec<Bytes>,
    ms: i64,
}

impl Voter {
    fn start() -> Voter {
        let config = Config { segment_bytes: 400, ..Config::alone(NODE, Uuid([9; 16]), 1) };
        let mut events = Vec::new();
        let quorum = Quorum::start(config, Arc::new(ModelDisk::default()), at(0), &mut events).unwrap();
        let mut voter = Voter { quorum, events: vec![], values: vec![], ms: 0 };
        voter.take(events);
        voter
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            if let Event::Committed(committed) = &event {
                self.values.extend(committed.values.iter().cloned());
            }
            self.events.push(event);
        }
    }

    fn step(&mut self, ms: i64) {
        self.ms += ms;
        let mut events = Vec::new();
        self.quorum.step(at(self.ms), &mut events);
        self.take(events);
    }

    fn commit(&mut self, text: &str) {
        self.quorum.propose(vec![Bytes::copy_from_slice(text.as_bytes())]);
        self.step(0);
    }

    fn snapshot(&mut self) {
        let values = self.values.clone();
        self.quorum.snapshot(values.into_iter()).unwrap();
        self.step(0);
    }

    fn pull(&mut self, token: u64, wanted: Wanted) {
        let pull = Pull { observer: Some(OBSERVER), directory: Uuid([3; 16]), wanted };
        self.quorum.pull(token, pull, at(self.ms));
        self.step(0);
    }

    /// The last answer to a question of this name.
    fn answer(&self, token: u64) -> Option<&Pulled> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Pulled { token: of, pulled } if *of == token => Some(pulled),
            _ => None,
        })
    }
}

/// An observer that reads a voter.
#[derive(Default)]
struct Reader {
    values: Vec<Bytes>,
    next_offset: i64,
    last_epoch: Option<i32>,
    asked: u64,
    snapshots: usize,
}

impl Reader {
    fn wanted(&self, max_bytes: usize, wait_ms: i64) -> Wanted {
        Wanted::Records { from: self.next_offset, last_epoch: self.last_epoch, max_bytes, wait_ms }
    }

    /// Reads everything that is committed.
    fn catch_up(&mut self, voter: &mut Voter, max_bytes: usize) {
        loop {
            self.asked += 1;
            voter.pull(self.asked, self.wanted(max_bytes, 0));
            let pulled = voter.answer(self.asked).expect("an answer at once").clone();
            assert_eq!(pulled.leader, Some(NODE));
            match pulled.given {
                Given::Records { batches, committed, .. } if batches.is_empty() => {
                    return assert_eq!(self.next_offset, committed, "there is nothing more");
                }
                Given::Records { batches, .. } => {
                    for batch in read_batches(batches, self.next_offset).unwrap() {
                        self.values.extend(batch.values);
                        self.next_offset = batch.next_offset;
                        self.last_epoch = Some(batch.epoch);
                    }
                }
                Given::Snapshot { end_offset, epoch } => self.load(voter, end_offset, epoch),
                other => panic!("{other:?}"),
            }
        }
    }

    fn load(&mut self, voter: &mut Voter, end_offset: i64, epoch: i32) {
        let mut file = BytesMut::new();
        loop {
            self.asked += 1;
            let position = file.len() as u64;
            voter.pull(self.asked, Wanted::Piece { end_offset, epoch, position, max_bytes: 100 });
            let given = voter.answer(self.asked).expect("an answer").given.clone();
            let Given::Piece { bytes, size } = given else { panic!("{given:?}") };
            assert!(!bytes.is_empty() && bytes.len() <= 100);
            file.extend_from_slice(&bytes);
            if file.len() as u64 == size {
                break;
            }
        }
        self.values = read_snapshot(file.freeze(), end_offset, epoch).unwrap();
        (self.next_offset, self.last_epoch) = (end_offset, Some(epoch));
        self.snapshots += 1;
    }
}

#[test]
fn an_observer_reads_the_log_in_parts_of_any_size() {
    let mut voter = Voter::start();
    (0..40).for_each(|number| voter.commit(&format!("record {number}")));
    for max_bytes in [0, 1, 150, 1_000, 1 << 20] {
        let mut reader = Reader::default();
        reader.catch_up(&mut voter, max_bytes);
        assert_eq!(reader.values, voter.values, "at most {max_bytes} bytes at a time");
        assert_eq!(reader.snapshots, 0);
    }
}

#[test]
fn an_observer_that_was_away_reads_a_snapshot_and_what_follows() {
    let mut voter = Voter::start();
    let mut reader = Reader::default();
    voter.commit("before");
    reader.catch_up(&mut voter, 1 << 20);
    (0..20).for_each(|number| voter.commit(&format!("missed {number}")));
    voter.snapshot();
    (0..3).for_each(|number| voter.commit(&format!("behind {number}")));
    reader.catch_up(&mut voter, 1 << 20);
    assert_eq!((reader.snapshots, &reader.values), (1, &voter.values));
    let mut late = Reader::default();
    late.catch_up(&mut voter, 1 << 20);
    assert_eq!((late.snapshots, &late.values), (1, &voter.values));
}

#[test]
fn an_observer_that_has_everything_is_answered_with_the_next_commit() {
    let mut voter = Voter::start();
    let mut reader = Reader::default();
    reader.catch_up(&mut voter, 1 << 20);
    voter.pull(900, reader.wanted(1 << 20, 500));
    voter.step(499);
    assert_eq!(voter.answer(900), None, "there is nothing yet");
    assert_eq!(voter.quorum.deadline(), Some(at(500).mono));
    voter.commit("news");
    let Some(Given::Records { batches, .. }) = voter.answer(900).map(|pulled| pulled.given.clone()) else {
        panic!("the commit is told")
    };
    let read = read_batches(batches, reader.next_offset).unwrap();
    assert_eq!(read[0].values, [Bytes::from_static(b"news")]);

    reader.catch_up(&mut voter, 1 << 20);
    voter.pull(901, reader.wanted(1 << 20, 500));
    voter.step(500);
    let nothing = voter.answer(901).map(|pulled| pulled.given.clone());
    assert!(matches!(nothing, Some(Given::Records { batches, .. }) if batches.is_empty()));
}

#[test]
fn the_leader_knows_how_far_an_observer_is() {
    let mut voter = Voter::start();
    let mut reader = Reader::default();
    reader.catch_up(&mut voter, 1 << 20);
    let wall_ms = at(voter.ms).wall_ms;
    let known: Vec<_> = voter.quorum.observers(wall_ms).collect();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].id, known[0].directory), (OBSERVER, Uuid([3; 16])));
    assert_eq!((known[0].end_offset, known[0].caught_up_ms), (reader.next_offset, wall_ms));

    (0..5).for_each(|number| voter.commit(&format!("record {number}")));
    voter.step(1_000);
    voter.pull(900, reader.wanted(1, 0));
    let later = voter.quorum.observers(wall_ms + 1_000).next().unwrap();
    assert_eq!((later.end_offset, later.fetched_ms), (reader.next_offset, wall_ms + 1_000));
    assert_eq!(later.caught_up_ms, wall_ms, "it had everything when it asked before");
    assert_eq!(voter.quorum.observers(wall_ms + 302_000).count(), 0, "it has not asked for five minutes");
}

#[test]
fn what_is_not_of_this_log_is_refused() {
    let mut voter = Voter::start();
    voter.commit("a");
    let end = voter.quorum.next_offset();
    let records = |from, last_epoch| Wanted::Records { from, last_epoch, max_bytes: 100, wait_ms: 0 };
    voter.pull(1, records(end + 1, None));
    voter.pull(2, records(end, Some(99)));
    voter.pull(3, Wanted::Piece { end_offset: 1, epoch: 1, position: 0, max_bytes: 100 });
    voter.snapshot();
    voter.commit("b");
    voter.pull(4, Wanted::Piece { end_offset: end, epoch: 1, position: u64::MAX, max_bytes: 100 });
    let given = |token| &voter.answer(token).unwrap().given;
    assert_eq!(*given(1), Given::Diverged);
    assert_eq!(*given(2), Given::Diverged);
    assert_eq!(*given(3), Given::NoSnapshot);
    assert!(matches!(given(4), Given::Piece { bytes, .. } if bytes.is_empty()), "{:?}", given(4));
}

#[test]
fn bytes_that_are_no_log_are_refused() {
    let mut voter = Voter::start();
    voter.commit("a");
    voter.pull(1, Wanted::Records { from: 0, last_epoch: None, max_bytes: 1 << 20, wait_ms: 0 });
    let Given::Records { batches, .. } = voter.answer(1).unwrap().given.clone() else { panic!("records") };
    assert!(read_batches(batches.clone(), 0).is_ok());
    assert!(read_batches(batches.clone(), 1).is_err(), "they begin elsewhere");
    assert!(read_batches(batches.slice(..batches.len() - 1), 0).is_err());
    assert!(read_batches(batches.slice(1..), 0).is_err());
    for place in 0..batches.len() {
        let mut damaged = BytesMut::from(&batches[..]);
        damaged[place] ^= 0x40;
        // The base offset and the epoch are not covered by the checksum; what they may be is checked by who reads.
        let _ = read_batches(damaged.freeze(), 0);
    }
    assert!(read_snapshot(batches, 3, 1).is_err());
    assert!(read_snapshot(Bytes::new(), 3, 1).is_err());
}
