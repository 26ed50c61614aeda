//! A log against a list of batches, with crashes at any point: nothing flushed is lost, nothing is invented, offsets are
//! dense, and what is read is what was appended.

mod model;

use std::collections::BTreeMap;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{LeaderEpoch, Mono, Now, ProducerEntry, Rng, Uuid};
use moldau_batch::{Batch, Header};
use moldau_storage::names::RECOVERY_POINT_CHECKPOINT;
use moldau_storage::{
    Events, FileIds, Log, LogConfig, Read, ReadRequest, RecoveryPolicy, Refusal, encode_offsets, recover,
};
use proptest::prelude::*;

use model::{Crash, Host, Pace, producer_batch};

const NAME: &str = "orders-3";

/// What was appended: header fields that must come back.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    base: i64,
    last: i64,
    crc: u32,
    max_timestamp: i64,
    /// The producer, if it has one, and the first sequence.
    producer: Option<(i64, i32)>,
}

impl Kept {
    fn of(header: &Header) -> Kept {
        Kept {
            base: header.base_offset,
            last: header.last_offset(),
            crc: header.crc,
            max_timestamp: header.max_timestamp,
            producer: header.has_producer_id().then_some((header.producer_id, header.base_sequence)),
        }
    }

    fn entry(&self) -> Option<ProducerEntry> {
        let delta = (self.last - self.base) as i32;
        self.producer.map(|(producer_id, first)| ProducerEntry {
            producer_id,
            epoch: 0,
            last_sequence: Some(first + delta),
            last_offset: Some(self.last),
            offset_delta: delta,
            timestamp: self.max_timestamp,
            coordinator_epoch: None,
            txn_first_offset: None,
        })
    }
}

/// The last batch of each producer.
fn producers(kept: &[Kept]) -> Vec<ProducerEntry> {
    let last: BTreeMap<i64, ProducerEntry> =
        kept.iter().filter_map(Kept::entry).map(|e| (e.producer_id, e)).collect();
    last.into_values().collect()
}

struct World {
    host: Host,
    log: Log,
    files: FileIds,
    config: LogConfig,
    now: Now,
    rng: Rng,
    epoch: i32,
    kept: Vec<Kept>,
    /// The offsets that the world was told are stored, or flushed.
    stored: i64,
    flushed: i64,
    checkpointed: i64,
    /// The largest start offset there was.
    deleted: i64,
    /// Where the log ended when it was recovered last.
    recovered: i64,
}

impl World {
    fn new(seed: u64, config: LogConfig) -> World {
        let mut rng = Rng::seeded(seed);
        let mut files = FileIds::new(0);
        let log = Log::create(0, &mut files, DirId(0), NAME.into(), Uuid([7; 16]), config);
        World {
            host: Host::new(match rng.chance(1, 2) {
                true => Pace::Seeded(rng.fork()),
                false => Pace::Lines(rng.fork()),
            }),
            log,
            files,
            config,
            now: Now { wall_ms: 1_000_000, mono: Mono(0) },
            rng,
            epoch: 0,
            kept: Vec::new(),
            stored: 0,
            flushed: 0,
            checkpointed: 0,
            deleted: 0,
            recovered: 0,
        }
    }

    fn run(&mut self) {
        self.host.run(&mut self.log, self.now);
        let events = self.log.take_events();
        self.note(&events);
    }

    fn note(&mut self, events: &Events) {
        assert_eq!(events.damage, [], "no damage was done");
        assert_eq!(events.offline, None);
        if let Some(stored) = events.stored {
            assert!(stored >= self.stored);
            self.stored = stored;
        }
        if let Some(flushed) = events.flushed {
            assert!(flushed >= self.flushed);
            self.flushed = flushed;
        }
        if let Some(to) = events.rolled_back {
            assert!(to >= self.stored, "what was stored is never taken back");
            self.kept.retain(|k| k.base < to);
        }
    }

    fn append(&mut self, batches: &[(i32, usize)], back_ms: i64) {
        let at = self.now.wall_ms - back_ms;
        let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
        for entry in producers(&self.kept) {
            sequences.insert(entry.producer_id, entry.last_sequence.expect("a batch") + 1);
        }
        let make = |&(count, size): &(i32, usize)| {
            let producer = i64::from(count % 3);
            let sequence = sequences.entry(producer).or_default();
            let first = *sequence;
            *sequence += count;
            producer_batch((producer > 0).then_some((producer, 0, first)), count, size, at)
        };
        let batches: Vec<Batch> = batches.iter().map(make).collect();
        let end = self.log.end_offset();
        let kept = self.kept.clone();
        let epoch = LeaderEpoch(self.epoch);
        let Ok(appended) = self.log.append(self.now, epoch, None, &batches, &mut || producers(&kept)) else {
            self.run();
            return;
        };
        assert_eq!(appended.base_offset, end, "offsets are dense");
        let mut next = end;
        for batch in &batches {
            let header = Header { base_offset: next, ..*batch.header() };
            next = header.next_offset();
            self.kept.push(Kept::of(&header));
        }
        assert_eq!((appended.last_offset + 1, self.log.end_offset()), (next, next));
        self.run();
    }

    fn pass(&mut self, ms: i64) {
        self.now = self.now.after_ms(ms);
        let kept = self.kept.clone();
        self.log.retention_pass(self.now, self.stored, &mut || producers(&kept));
        self.run();
        if self.rng.chance(1, 2) {
            self.checkpoint(self.log.flushed_offset());
        }
    }

    fn checkpoint(&mut self, offset: i64) {
        let text = encode_offsets([(NAME, offset)]);
        self.host.disk.replace(&Path::new(DirId(0), RECOVERY_POINT_CHECKPOINT), &text).expect("a checkpoint");
        self.checkpointed = offset;
    }

    /// Reads from `from` to the stored end, checking every batch.
    fn read_all(&mut self, from: i64, max_bytes: u32) {
        self.host.drain(&mut self.log, self.now);
        let events = self.log.take_events();
        self.note(&events);
        let mut offset = from.max(self.log.start_offset());
        let upto = self.log.stored_offset();
        let (start, kept) = (offset, self.kept.clone());
        let mut expected = kept.iter().skip_while(|k| k.last < start);
        while offset < upto {
            let request = ReadRequest { offset, max_bytes, min_one_batch: true, upto };
            let (read, events) = self.host.read(&mut self.log, self.now, request);
            self.note(&events);
            let Read::Ready(range) = read else { panic!("{read:?} at {offset} of {upto}") };
            let bytes = self.host.bytes(&range);
            assert_eq!(bytes.len(), range.len as usize);
            let mut at = 0;
            let mut count = 0;
            while at < bytes.len() {
                let header = Header::verify(&bytes[at..]).unwrap_or_else(|e| {
                    let trace = &self.host.trace[self.host.trace.len().saturating_sub(40)..];
                    panic!("{e} {at} in {range:?}\n{}\n{:?}", trace.join("\n"), self.log)
                });
                assert_eq!(Some(&Kept::of(&header)), expected.next(), "what was appended, in order");
                at += header.size();
                count += 1;
                offset = header.next_offset();
            }
            assert_eq!(offset, range.next_offset);
            assert!(range.len <= max_bytes || count == 1);
        }
        let outside = ReadRequest { offset: self.log.end_offset() + 1, max_bytes, min_one_batch: true, upto };
        let (read, _) = self.host.read(&mut self.log, self.now, outside);
        assert_eq!(read, Read::Refused(Refusal::OutOfRange));
    }

    fn find(&mut self, timestamp: i64) {
        self.host.drain(&mut self.log, self.now);
        let upto = self.log.stored_offset();
        let start = self.log.start_offset();
        let read = self.log.find_timestamp(&mut self.host.cache, timestamp, upto);
        let (read, events) = self.host.wait(&mut self.log, self.now, read);
        self.note(&events);
        let expected =
            self.kept.iter().find(|k| k.max_timestamp >= timestamp && k.last >= start && k.base < upto);
        match (read, expected) {
            (Read::Bytes(chunk), Some(kept)) => {
                let found = Header::verify(&chunk.bytes).map(|header| header.base_offset);
                assert_eq!(found, Ok(kept.base), "{kept:?} for {timestamp}")
            }
            (Read::Empty, None) => {}
            (read, expected) => panic!("{read:?} where {expected:?} is expected"),
        }
    }

    fn truncate(&mut self, to: i64) {
        self.host.drain(&mut self.log, self.now);
        let events = self.log.take_events();
        self.note(&events);
        self.deleted = self.deleted.max(self.log.start_offset());
        let to = to.clamp(self.log.start_offset(), self.log.end_offset());
        self.log.truncate(self.now, &mut self.host.cache, to);
        self.host.drain(&mut self.log, self.now);
        let events = self.log.take_events();
        let end = events.truncated.expect("a truncation ends");
        let inside = self.kept.iter().find(|k| k.base < to && to <= k.last);
        let expected = inside.map_or(to, |k| k.base).max(self.log.start_offset());
        assert_eq!(end, expected, "the batch that holds the offset goes");
        assert_eq!(self.log.end_offset(), end);
        if self.checkpointed > self.log.flushed_offset() {
            self.checkpoint(self.log.flushed_offset());
        }
        self.kept.retain(|k| k.last < end);
        self.stored = self.stored.min(end);
        self.flushed = self.log.flushed_offset();
        self.epoch += 1;
    }

    fn crash(&mut self, crash: Crash) {
        self.host.disk.crash(crash, &mut self.rng);
        self.host.restart();
        let start = self.log.start_offset();
        self.deleted = self.deleted.max(start);
        let policy = RecoveryPolicy { now_ms: self.now.wall_ms, ..RecoveryPolicy::default() };
        let mut recovered = recover(&self.host.disk, DirId(0), &policy).expect("the disk works");
        assert!(!recovered.clean);
        self.epoch += 1;
        let Some(found) = recovered.logs.pop() else {
            assert_eq!(self.flushed.max(start), start, "a log with flushed records is there");
            assert!(crash == Crash::Power || self.stored == 0);
            self.log =
                Log::create_at(0, &mut self.files, DirId(0), NAME.into(), Uuid([7; 16]), self.config, 0);
            (self.kept, self.stored, self.flushed, self.recovered) = (Vec::new(), 0, 0, 0);
            return;
        };
        let end = found.end_offset();
        assert!(end >= self.flushed, "{end} and {} was flushed: {:?}", self.flushed, recovered.findings);
        if crash == Crash::Kill || self.config.syncs_every_append() {
            assert!(end >= self.stored, "{end} and {} was stored: {:?}", self.stored, recovered.findings);
        }
        self.kept.retain(|k| k.last < end);
        assert!(end == found.start_offset() || self.kept.last().is_some_and(|k| k.last + 1 == end));
        let mut state: BTreeMap<i64, ProducerEntry> =
            found.producers.iter().map(|e| (e.producer_id, *e)).collect();
        for header in &found.replay {
            assert!(header.last_offset() >= found.producers_offset);
            state.extend(Kept::of(header).entry().map(|e| (e.producer_id, e)));
        }
        // A truncation may take the only snapshot; then producers whose batches were deleted at the front go with it.
        let there = |e: &ProducerEntry| e.last_offset.is_some_and(|last| last >= self.deleted);
        let state: Vec<_> = state.into_values().filter(there).collect();
        let expected: Vec<_> = producers(&self.kept).into_iter().filter(there).collect();
        let trace = &self.host.trace[self.host.trace.len().saturating_sub(60)..];
        assert_eq!(
            state,
            expected,
            "producers survive: {found:?}, checkpoint {}, {}",
            self.checkpointed,
            trace.join("\n")
        );
        let acknowledged =
            self.stored > self.recovered && (crash == Crash::Kill || self.config.syncs_every_append());
        assert!(!acknowledged || found.topic_id.is_some(), "acknowledged batches know their topic");
        self.log = found.into_log(0, &mut self.files, Uuid([7; 16]), self.config);
        (self.stored, self.flushed) = (end, self.log.flushed_offset());
        self.recovered = end;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(i32, usize)>, i64),
    Pass(i64),
    Settle,
    Read(u64, u32),
    Find(i64),
    Truncate(u64),
    DeleteRecords(u64),
    Full(u64),
    Crash(Crash),
}

fn step() -> impl Strategy<Value = Step> {
    let batches = prop::collection::vec((1..20i32, 0..600usize), 1..4);
    prop_oneof![
        12 => (batches, 0..3000i64).prop_map(|(b, back)| Step::Append(b, back)),
        4 => (0..1500i64).prop_map(Step::Pass),
        2 => Just(Step::Settle),
        3 => (any::<u64>(), 1..20_000u32).prop_map(|(a, b)| Step::Read(a, b)),
        2 => (-5000..5000i64).prop_map(Step::Find),
        1 => any::<u64>().prop_map(Step::Truncate),
        1 => any::<u64>().prop_map(Step::DeleteRecords),
        1 => (0..4000u64).prop_map(Step::Full),
        1 => prop_oneof![Just(Step::Crash(Crash::Kill)), Just(Step::Crash(Crash::Power))],
    ]
}

fn config() -> impl Strategy<Value = LogConfig> {
    (8_000..60_000u64, prop_oneof![Just(1i64), Just(5), Just(i64::MAX)], 0..3000u32, 200..2000u32).prop_map(
        |(segment_bytes, flush_messages, index_interval_bytes, index_max_bytes)| LogConfig {
            segment_bytes: segment_bytes + 40_000,
            flush_messages,
            index_interval_bytes,
            index_max_bytes,
            segment_ms: 20_000,
            retention_ms: 60_000,
            retention_bytes: 400_000,
            file_delete_delay_ms: 500,
            ..LogConfig::default()
        },
    )
}

fn play(seed: u64, config: LogConfig, steps: Vec<Step>) {
    let mut world = World::new(seed, config);
    for step in steps {
        match step {
            Step::Append(batches, back) => world.append(&batches, back),
            Step::Pass(ms) => world.pass(ms),
            Step::Settle => {
                world.host.drain(&mut world.log, world.now);
                world.run();
            }
            Step::Read(at, max) => {
                let span = (world.log.end_offset() - world.log.start_offset() + 1) as u64;
                let from = world.log.start_offset() + (at % span) as i64;
                world.read_all(from, max);
            }
            Step::Find(offset) => world.find(world.now.wall_ms + offset),
            Step::Truncate(at) => {
                let span = (world.log.end_offset() - world.log.start_offset() + 1) as u64;
                world.truncate(world.log.start_offset() + (at % span) as i64);
            }
            Step::DeleteRecords(at) => {
                let span = (world.log.stored_offset() - world.log.start_offset() + 1).max(1) as u64;
                let before = world.log.start_offset() + (at % span) as i64;
                world.log.delete_records(world.now, before);
                world.run();
            }
            Step::Full(space) => {
                world.host.disk.limit_space(Some(space));
                world.append(&[(5, 900)], 0);
                world.append(&[(5, 900)], 0);
                world.host.drain(&mut world.log, world.now);
                world.run();
                world.host.disk.limit_space(None);
                world.pass(1100);
            }
            Step::Crash(crash) => world.crash(crash),
        }
    }
    world.read_all(0, 5000);
    world.crash(Crash::Power);
    world.append(&[(3, 100)], 0);
    world.read_all(0, 1 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_is_a_list_of_batches(seed: u64, config in config(), steps in prop::collection::vec(step(), 1..60)) {
        play(seed, config, steps);
    }
}

/// A kill came between the write of the topic's id and the first batch; recovery must make the id durable, since the log takes it for so.
#[test]
fn an_id_without_batches_survives_a_kill_and_a_power_loss() {
    let config = LogConfig { flush_messages: 1, ..LogConfig::default() };
    let append = || Step::Append(vec![(1, 0)], 0);
    for seed in 0..300 {
        play(seed, config, vec![append(), Step::Crash(Crash::Kill), append()]);
    }
}

/// The id was refused by a full disk and written again; the end of the first one's sync is not that of the second's.
#[test]
fn an_id_that_a_full_disk_refused_is_made_durable() {
    let config = LogConfig { flush_messages: 1, ..LogConfig::default() };
    for seed in 0..300 {
        play(seed, config, vec![Step::Full(1), Step::Append(vec![(1, 0)], 0)]);
    }
}
