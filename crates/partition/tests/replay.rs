//! Properties over random histories of producers: the memory of producers is a function of the log, nothing is appended twice or
//! out of order, and every request is answered once.

use std::collections::BTreeMap;

use moldau_base::{LeaderEpoch, NodeId, Now, PartitionEpoch};
use moldau_batch::{Batch, Builder, Codec, Header, Marker, Outcome};
use moldau_partition::{Acks, Effect, Input, Leadership, LogState, Partition, Patience, Producers, Token};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    /// A batch of producer 0 to 2: epoch, sequence relative to what would follow, records, transactional.
    Produce {
        id: i64,
        epoch: i16,
        skew: i32,
        count: i32,
        transactional: bool,
        all: bool,
    },
    /// Sends a batch of the log once more, counted from its end.
    Repeat {
        back: usize,
        all: bool,
    },
    Plain {
        count: i32,
    },
    Commit {
        id: i64,
        epoch: i16,
    },
    Store {
        part: u8,
    },
    /// The log takes back some of what it has not stored.
    TakeBack {
        part: u8,
    },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0i64..3, prop_oneof![6 => Just(0i16), 1 => 1i16..3], prop_oneof![4 => Just(0), 1 => -3i32..2], 1i32..4, prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(id, epoch, skew, count, transactional, all)| Act::Produce { id, epoch, skew, count, transactional, all }),
        3 => (0usize..12, any::<bool>()).prop_map(|(back, all)| Act::Repeat { back, all }),
        1 => (1i32..4).prop_map(|count| Act::Plain { count }),
        1 => (0i64..3, 0i16..3).prop_map(|(id, epoch)| Act::Commit { id, epoch }),
        4 => any::<u8>().prop_map(|part| Act::Store { part }),
        1 => any::<u8>().prop_map(|part| Act::TakeBack { part }),
        1 => Just(Act::Restart),
    ]
}

struct World {
    partition: Partition,
    log: Vec<(Header, Option<Marker>)>,
    stored: i64,
    epoch: i32,
    /// By token: the offset it must be acknowledged with; none while it is not appended.
    waiting: BTreeMap<u64, Option<i64>>,
    /// Offset of the batch that is being repeated.
    repeated: Option<i64>,
    next: u64,
}

impl World {
    fn open(log: Vec<(Header, Option<Marker>)>, epoch: i32) -> World {
        let mut producers = Producers::default();
        for (header, marker) in &log {
            producers.apply(header, *marker, Now::default().mono);
        }
        let end = log.last().map_or(0, |(header, _)| header.next_offset());
        let state = LogState { start_offset: 0, end_offset: end, high_watermark: 0 };
        let partition = Partition::new(NodeId(1), state, producers);
        let mut world =
            World { partition, log, stored: end, epoch, waiting: BTreeMap::new(), repeated: None, next: 0 };
        let me: Box<[NodeId]> = Box::new([NodeId(1)]);
        let lead = Leadership {
            epoch: LeaderEpoch(epoch),
            partition_epoch: PartitionEpoch(0),
            replicas: me.clone(),
            isr: me,
            min_isr: 1,
            patience: Patience::default(),
        };
        world.step(Input::Lead(lead), None);
        world
    }

    fn step(&mut self, input: Input<'_>, batch: Option<&Batch>) {
        let mut out = Vec::new();
        self.partition.step(Now::default(), input, &mut out);
        for effect in out {
            match effect {
                Effect::Append { token, .. } => {
                    let base_offset = self.log.last().map_or(0, |(header, _)| header.next_offset());
                    let batch = batch.unwrap();
                    self.log.push((Header { base_offset, ..*batch.header() }, batch.marker()));
                    self.waiting.insert(token.0, Some(base_offset));
                    self.step(
                        Input::Appended { token, base_offset, batches: std::slice::from_ref(batch) },
                        None,
                    );
                }
                Effect::Acknowledge { token, base_offset, .. } => {
                    let appended = self.waiting.remove(&token.0).expect("answered once");
                    assert!(appended.is_none_or(|base| base == base_offset));
                    let (header, _) = self
                        .log
                        .iter()
                        .find(|(header, _)| header.base_offset == base_offset)
                        .expect("it is in the log");
                    assert!(header.next_offset() <= self.stored, "acknowledged before it is stored");
                }
                Effect::Refuse { token, .. } => {
                    let appended = self.waiting.remove(&token.0).expect("answered once");
                    let in_log = |base| self.log.iter().any(|(header, _)| header.base_offset == base);
                    assert!(!appended.is_some_and(in_log) || self.repeated.is_some(), "refused and appended");
                }
                Effect::HighWatermark { offset } => assert!(offset <= self.stored),
                Effect::StartEpoch { .. } | Effect::Wake { .. } => {}
                other => panic!("{other:?} of a leader without followers"),
            }
        }
    }

    fn produce(&mut self, builder: Builder, acks: Acks) {
        let batch = Batch::verify(&builder.build().unwrap()).unwrap();
        let token = Token(self.next);
        self.next += 1;
        self.waiting.insert(token.0, self.repeated);
        self.step(
            Input::Produce { token, acks, batches: std::slice::from_ref(&batch), append_time: None },
            Some(&batch),
        );
    }

    fn take_back(&mut self, part: u8) {
        let unstored: Vec<i64> = self
            .log
            .iter()
            .map(|(header, _)| header.base_offset)
            .filter(|&base| base >= self.stored)
            .collect();
        let Some(&end_offset) = unstored.get(usize::from(part) * unstored.len() / 256) else { return };
        self.log.retain(|(header, _)| header.base_offset < end_offset);
        self.step(Input::TakenBack { end_offset }, None);
        let live: Vec<_> = self.partition.producers().entries().collect();
        let replayed: Vec<_> = self.replay().entries().collect();
        assert_eq!(live, replayed, "after a batch was taken back");
        assert!(
            self.waiting.values().all(|base| base.is_none_or(|base| base < end_offset)),
            "all of them are refused"
        );
    }

    fn replay(&self) -> Producers {
        let mut replayed = Producers::default();
        for (header, marker) in &self.log {
            replayed.apply(header, *marker, Now::default().mono);
        }
        replayed
    }

    /// What a well-behaved producer would send next in this epoch.
    fn next_sequence(&self, id: i64, epoch: i16) -> i32 {
        let mine = |header: &&Header| {
            header.producer_id == id && header.producer_epoch == epoch && !header.attributes.is_control()
        };
        let last = self.log.iter().map(|(header, _)| header).rfind(mine);
        last.map_or(0, |header| header.last_sequence().wrapping_add(1) & i32::MAX)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Produce { id, epoch, skew, count, transactional, all } => {
                let next = self.next_sequence(id, epoch);
                let sequence = next.wrapping_add(skew) & i32::MAX;
                let mut builder = Builder::new(Codec::None).producer(id, epoch, sequence);
                if transactional {
                    builder = builder.transactional();
                }
                (0..count).for_each(|_| builder.push(5, None, None, &[]));
                self.produce(builder, if all { Acks::All } else { Acks::Leader });
            }
            Act::Repeat { back, all } => {
                let again = self.log.iter().map(|(header, _)| *header).rev().nth(back);
                if let Some(header) = again.filter(|h| h.has_producer_id() && !h.attributes.is_control()) {
                    let mut builder = Builder::new(Codec::None).producer(
                        header.producer_id,
                        header.producer_epoch,
                        header.base_sequence,
                    );
                    if header.attributes.is_transactional() {
                        builder = builder.transactional();
                    }
                    (0..header.count).for_each(|_| builder.push(5, None, None, &[]));
                    let appended = self.log.len();
                    self.repeated = Some(header.base_offset);
                    self.produce(builder, if all { Acks::All } else { Acks::Leader });
                    self.repeated = None;
                    assert_eq!(self.log.len(), appended, "a repeat was appended");
                }
            }
            Act::Plain { count } => {
                let mut builder = Builder::new(Codec::None);
                (0..count).for_each(|_| builder.push(5, None, None, &[]));
                self.produce(builder, Acks::All);
            }
            Act::Commit { id, epoch } => {
                let marker = Marker { outcome: Outcome::Commit, coordinator_epoch: 0 };
                self.produce(Builder::marker(id, epoch, marker, 5), Acks::All);
            }
            Act::Store { part } => {
                let end = self.partition.log_end_offset();
                self.stored += (end - self.stored) * i64::from(part) / 255;
                self.step(Input::Stored { end_offset: self.stored }, None);
            }
            Act::TakeBack { part } => self.take_back(part),
            Act::Restart => *self = World::open(std::mem::take(&mut self.log), self.epoch + 1),
        }
    }
}

/// No producer's sequence appears twice, goes back within an epoch, or comes from an older epoch.
fn check_log(log: &[(Header, Option<Marker>)]) {
    let mut last: BTreeMap<i64, (i16, Option<i32>)> = BTreeMap::new();
    for (header, _) in log.iter().filter(|(header, _)| header.has_producer_id()) {
        let before = last.get(&header.producer_id).copied();
        let (epoch, sequence) = before.unwrap_or((header.producer_epoch, None));
        assert!(header.producer_epoch >= epoch, "an epoch went back");
        let same = header.producer_epoch == epoch;
        if header.attributes.is_control() {
            last.insert(header.producer_id, (header.producer_epoch, if same { sequence } else { None }));
            continue;
        }
        if before.is_some() {
            let next = sequence.filter(|_| same).map_or(0, |last| last.wrapping_add(1) & i32::MAX);
            assert_eq!(header.base_sequence, next, "a gap or a repeat");
        }
        last.insert(header.producer_id, (header.producer_epoch, Some(header.last_sequence())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn replay_is_live(acts in vec(act(), 1..80)) {
        let mut world = World::open(Vec::new(), 0);
        for act in acts {
            world.act(act);
        }
        let end = world.partition.log_end_offset();
        world.stored = end;
        world.step(Input::Stored { end_offset: end }, None);
        prop_assert!(world.waiting.is_empty(), "every request is answered: {:?}", world.waiting);
        prop_assert_eq!(world.partition.high_watermark(), end);
        check_log(&world.log);

        let mut replayed = world.replay();
        replayed.replicated(end);
        let live = world.partition.producers();
        prop_assert!(live.entries().eq(replayed.entries()));
        // A producer whose batches were all taken back is known to live alone.
        if live.len() == replayed.len() {
            prop_assert_eq!(live, &replayed);
        }

        // A snapshot carries the last batch of each producer: enough to go on, and equal from there on.
        let restored = Producers::restore(replayed.snapshot(), Now::default(), i64::MAX);
        prop_assert!(restored.entries().eq(replayed.entries()));
        prop_assert!(restored.snapshot().eq(replayed.snapshot()), "every remembered batch comes back");
        prop_assert_eq!(restored.first_unstable(), replayed.first_unstable());
    }
}

#[test]
fn an_idle_partition_is_small() {
    assert!(size_of::<Partition>() <= 296, "{}", size_of::<Partition>());
}
