//! A log that moves to another log directory: whatever a crash leaves of the renames, one log is found, and it is whole.

mod model;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{LeaderEpoch, Mono, Now, ProducerEntry, Rng, Uuid};
use moldau_batch::Batch;
use moldau_storage::names::{LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT};
use moldau_storage::{
    FileIds, FindingKind, Log, LogConfig, Read, ReadRequest, RecoveryPolicy, encode_offsets, mark_clean,
    recover, recover_moves,
};

use model::{Crash, Host, Pace, producer_batch};

/// The disk of the tests has one directory. Its names tell logs and copies apart, as those of several would.
const DIR: DirId = DirId(0);
const NAME: &str = "orders-3";
const TOPIC: Uuid = Uuid([7; 16]);

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Begun,
    HalfCopied,
    Sealed,
    Whole,
    Aside,
    Named,
    Gone,
}

const STAGES: [Stage; 7] =
    [Stage::Begun, Stage::HalfCopied, Stage::Sealed, Stage::Whole, Stage::Aside, Stage::Named, Stage::Gone];

struct World {
    host: Host,
    files: FileIds,
    log: Log,
    copy: Log,
    now: Now,
}

fn entry(last: i64) -> ProducerEntry {
    ProducerEntry {
        producer_id: 1,
        epoch: 0,
        last_sequence: Some(last as i32),
        last_offset: Some(last),
        offset_delta: 0,
        timestamp: 5,
        coordinator_epoch: None,
        txn_first_offset: None,
    }
}

fn nobody() -> Vec<ProducerEntry> {
    Vec::new()
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 6000, index_interval_bytes: 400, ..LogConfig::default() }
}

impl World {
    fn new() -> World {
        let mut files = FileIds::new(0);
        let log = Log::create(0, &mut files, DIR, NAME.into(), TOPIC, config());
        let tag = Uuid([9; 16]);
        let copy = Log::create_copy(1, &mut files, DIR, NAME.into(), tag, TOPIC, config(), 0);
        let now = Now { wall_ms: 1_000_000, mono: Mono(0) };
        let copy = copy.expect("the name is short");
        let mut world = World { host: Host::new(Pace::AtOnce), files, log, copy, now };
        for i in 0..40 {
            world.append(i);
        }
        world
    }

    fn append(&mut self, i: i32) {
        let batch = producer_batch(Some((1, 0, i)), 1, 60 + 15 * i as usize, self.now.wall_ms);
        let last = i64::from(i) - 1;
        self.log
            .append(self.now, LeaderEpoch(i / 25), None, &[batch], &mut || vec![entry(last)])
            .expect("an append");
        self.host.run(&mut self.log, self.now);
    }

    fn copy_to(&mut self, end: i64) {
        while self.copy.end_offset() < end {
            let offset = self.copy.end_offset();
            let request = ReadRequest { offset, max_bytes: 3000, min_one_batch: true, upto: end };
            let read = self.log.read_bytes(&mut self.host.cache, request);
            let (read, _) = self.host.wait(&mut self.log, self.now, read);
            let Read::Bytes(chunk) = read else { panic!("{read:?} at {offset}") };
            let mut rest = chunk.bytes;
            while !rest.is_empty() {
                let batch = Batch::verify(&rest).expect("a batch");
                rest = rest.slice(batch.bytes().len()..);
                self.copy.append_verbatim(self.now, &[batch], &mut nobody).expect("an append");
            }
            self.host.run(&mut self.copy, self.now);
        }
    }

    fn mark(&mut self, log: &str, flushed: i64) {
        for (file, offset) in [(RECOVERY_POINT_CHECKPOINT, flushed), (LOG_START_CHECKPOINT, 0)] {
            self.host.disk.replace(&Path::new(DIR, file), &encode_offsets([(log, offset)])).expect("room");
        }
    }

    fn move_until(&mut self, stage: Stage) {
        let end = self.log.end_offset();
        let (now, reached) = (self.now, |at: Stage| stage >= at);
        if reached(Stage::HalfCopied) {
            self.copy_to(end / 2);
        }
        if reached(Stage::Sealed) {
            self.copy_to(end);
            self.copy.seal(now, &mut || vec![entry(end - 1)]);
            self.host.run(&mut self.copy, now);
            assert_eq!(self.copy.take_events().flushed, Some(end));
            self.mark(NAME, end);
        }
        if reached(Stage::Whole) {
            self.copy.call_whole();
            self.host.run(&mut self.copy, now);
            assert_eq!(self.copy.take_events().renamed, Some(Ok(())));
        }
        if reached(Stage::Aside) {
            self.log.step_aside();
            self.host.run(&mut self.log, now);
            assert_eq!(self.log.take_events().renamed, Some(Ok(())));
        }
        if reached(Stage::Named) {
            self.copy.take_name();
            self.host.run(&mut self.copy, now);
            assert_eq!(self.copy.take_events().renamed, Some(Ok(())));
            assert_eq!(self.copy.folder(), NAME);
        }
        if reached(Stage::Gone) {
            std::mem::swap(&mut self.log, &mut self.copy);
            self.log.replace(&mut self.copy);
            self.copy.delete();
            self.host.run(&mut self.copy, now);
            assert!(self.copy.take_events().deleted);
        }
    }

    /// Everything that a log has, from its start.
    fn content(&mut self, log: &mut Log) -> Vec<u8> {
        let (mut offset, mut content) = (log.start_offset(), Vec::new());
        while offset < log.stored_offset() {
            let request = ReadRequest { offset, max_bytes: 5000, min_one_batch: true, upto: i64::MAX };
            let (read, _) = self.host.read(log, self.now, request);
            let Read::Ready(range) = read else { panic!("{read:?} at {offset}") };
            content.extend_from_slice(&self.host.bytes(&range));
            offset = range.next_offset;
        }
        content
    }
}

#[test]
fn whenever_a_crash_comes_one_whole_log_is_found() {
    for (stage, crash, clean) in STAGES.into_iter().flat_map(|stage| {
        [(stage, Crash::Kill, true), (stage, Crash::Kill, false), (stage, Crash::Power, false)]
    }) {
        for seed in 0..20 {
            let mut world = World::new();
            let mut log = std::mem::replace(
                &mut world.log,
                Log::create(9, &mut FileIds::new(1), DIR, "x-0".into(), TOPIC, config()),
            );
            log.flush(world.now, &mut || vec![entry(39)]);
            world.host.run(&mut log, world.now);
            let content = world.content(&mut log);
            world.log = log;
            world.mark(NAME, 40);
            world.move_until(stage);
            if clean {
                mark_clean(&world.host.disk, DIR, 1).expect("a mark");
            }
            world.host.disk.crash(crash, &mut Rng::seeded(seed));
            world.host.restart();
            let moves = recover_moves(&world.host.disk, [DIR]).expect("the disk works");
            let mut found =
                recover(&world.host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
            assert_eq!(found.logs.len(), 1, "{stage:?} {crash:?} {:?}", world.host.disk.files());
            let adopted = moves.findings.iter().any(|(_, f)| matches!(f.what, FindingKind::Moved(_)));
            assert_eq!(adopted, stage == Stage::Aside, "{stage:?}: {:?}", moves.findings);
            let found = found.logs.remove(0);
            assert_eq!((found.name(), found.end_offset(), found.topic_id), (NAME, 40, Some(TOPIC)));
            let known = found.producers.first().map(|entry| entry.last_offset);
            assert_eq!(known, Some(Some(39)), "{stage:?} {crash:?}");
            let mut log = found.into_log(0, &mut FileIds::new(2), TOPIC, config());
            assert_eq!(log.epochs().entries(), &[(0, 0), (1, 25)]);
            assert!(world.content(&mut log) == content, "{stage:?} {crash:?}");
            let names = world.host.disk.files();
            assert!(names.iter().all(|(name, _)| !name.contains("-future") && !name.contains("-moved")));
        }
    }
}

#[test]
fn a_move_that_was_cut_short_is_told_to_the_log() {
    let mut world = World::new();
    world.move_until(Stage::HalfCopied);
    world.host.restart();
    let moves = recover_moves(&world.host.disk, [DIR]).expect("the disk works");
    let mut found = recover(&world.host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
    moves.resume(&mut found.logs);
    // It is where it was going to.
    assert_eq!(found.logs[0].moves_to, None);
    let copies = moves.findings.iter().filter(|(_, f)| matches!(f.what, FindingKind::PartCopy(_)));
    assert_eq!(copies.count(), 1);
}

#[test]
fn two_whole_copies_of_nothing_are_an_error() {
    let mut world = World::new();
    world.move_until(Stage::Aside);
    let tag = Uuid([8; 16]);
    let copy = Log::create_copy(2, &mut world.files, DIR, NAME.into(), tag, TOPIC, config(), 0);
    let mut copy = copy.expect("the name is short");
    let batch = producer_batch(None, 1, 60, 5);
    copy.append_verbatim(world.now, &[batch], &mut nobody).expect("an append");
    world.host.run(&mut copy, world.now);
    copy.call_whole();
    world.host.run(&mut copy, world.now);
    let refused = recover_moves(&world.host.disk, [DIR]).expect_err("which one counts is not known");
    assert!(refused.to_string().contains("orders-3 is whole"), "{refused}");
}

#[test]
fn reads_wait_for_a_rename_and_then_find_what_they_ask_for() {
    let mut world = World::new();
    let end = world.log.end_offset();
    world.host.pace = Pace::Held;
    let request = ReadRequest { offset: 3, max_bytes: 700, min_one_batch: true, upto: end };
    let first = world.log.read_bytes(&mut world.host.cache, request);
    let Read::Pending(first) = first else { panic!("{first:?}") };
    world.log.step_aside();
    let second = world.log.read(&mut world.host.cache, ReadRequest { offset: end - 1, ..request });
    let Read::Pending(second) = second else { panic!("{second:?} while the folder has no name") };
    world.host.drain(&mut world.log, world.now);
    let events = world.log.take_events();
    assert_eq!(events.renamed, Some(Ok(())));
    let order: Vec<_> = events
        .reads
        .iter()
        .map(|(id, read)| (*id, matches!(read, Read::Bytes(_) | Read::Ready(_))))
        .collect();
    assert_eq!(order, [(first, true), (second, true)]);
    assert!(world.log.folder().ends_with("-delete"));
}

#[test]
fn a_full_disk_leaves_the_folder_its_name() {
    let mut world = World::new();
    world.host.disk.refuse_renames(1);
    world.log.step_aside();
    world.host.run(&mut world.log, world.now);
    assert!(matches!(world.log.take_events().renamed, Some(Err(_))));
    assert_eq!(world.log.folder(), NAME);
    world.append(40);
    assert_eq!(world.log.take_events().stored, Some(41));
}

#[test]
fn a_log_that_is_deleted_while_it_is_renamed_goes() {
    for refused in [0, 1] {
        let mut world = World::new();
        world.host.pace = Pace::Held;
        world.host.disk.refuse_renames(refused);
        world.log.step_aside();
        world.host.drain(&mut world.log, world.now);
        world.log.delete();
        world.host.drain(&mut world.log, world.now);
        assert!(world.log.take_events().deleted);
        let left = world.host.disk.files();
        assert!(left.iter().all(|(name, _)| !name.starts_with("orders-3/")), "{left:?}");
        let mut world = World::new();
        world.host.pace = Pace::Held;
        world.host.disk.refuse_renames(refused);
        world.log.step_aside();
        world.log.delete();
        world.host.drain(&mut world.log, world.now);
        assert!(world.log.take_events().deleted);
        let left = world.host.disk.files();
        assert!(left.iter().all(|(name, _)| !name.starts_with("orders-3/")), "{left:?}");
    }
}
