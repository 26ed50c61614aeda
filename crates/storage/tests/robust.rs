//! Damaged files: whatever is in them, recovery and reading end, with an answer or a named refusal. And what a log costs
//! when nothing happens.

mod model;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{LeaderEpoch, Mono, Now, ProducerEntry, Rng, Uuid};
use moldau_batch::Header;
use moldau_storage::names::{
    BOOT_CHECKPOINT, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, TOPIC_ID_CHECKPOINT,
};
use moldau_storage::{
    Depth, FileIds, FindingKind, Flaw, Log, LogConfig, Read, ReadRequest, RecoveryPolicy, Scanned, Scanner,
    common_boot_epoch, dump, encode_boot, encode_offsets, encode_topic_ids, mark_clean, recover,
};
use proptest::prelude::*;

use model::{Crash, Host, Pace, producer_batch};

const DIR: DirId = DirId(0);
const NAME: &str = "orders-3";

/// A log of several segments, flushed up to its last batches.
fn filled() -> (Host, Log, Now) {
    let mut host = Host::new(Pace::AtOnce);
    let config = LogConfig { segment_bytes: 6000, index_interval_bytes: 400, ..LogConfig::default() };
    let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), Uuid([7; 16]), config);
    let mut now = Now { wall_ms: 1_000_000, mono: Mono(0) };
    let entry = ProducerEntry {
        producer_id: 1,
        epoch: 0,
        last_sequence: Some(0),
        last_offset: Some(0),
        offset_delta: 0,
        timestamp: 5,
        coordinator_epoch: None,
        txn_first_offset: None,
    };
    for i in 0..60 {
        let batch = producer_batch(Some((1, 0, i)), 1 + i % 3, 60 + 5 * i as usize, now.wall_ms);
        log.append(now, LeaderEpoch(i / 25), None, &[batch], &mut || vec![entry]).expect("an append");
        host.run(&mut log, now);
        now = now.after_ms(90);
        log.tick(now, &mut || vec![entry]);
        host.run(&mut log, now);
    }
    let marks = [(RECOVERY_POINT_CHECKPOINT, log.flushed_offset()), (LOG_START_CHECKPOINT, 2)];
    for (file, offset) in marks {
        host.disk.replace(&Path::new(DIR, file), &encode_offsets([(NAME, offset)])).expect("a checkpoint");
    }
    (host, log, now)
}

#[test]
fn the_index_of_a_segment_that_is_gone_costs_nothing() {
    let (mut host, mut log, now) = filled();
    let held = host.cache.used_bytes();
    assert!(held > 0, "indexes that were written stay in memory");
    log.delete_records(now, log.stored_offset());
    host.run(&mut log, now);
    assert_eq!(host.cache.used_bytes(), 0, "of {held} bytes");
}

#[derive(Clone, Debug)]
enum Harm {
    Set(u64, u64, Vec<u8>),
    Cut(u64, u64),
    Grow(u64, Vec<u8>),
    Remove(u64),
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        4 => (any::<u64>(), any::<u64>(), bytes()).prop_map(|(f, at, b)| Harm::Set(f, at, b)),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(f, at)| Harm::Cut(f, at)),
        2 => (any::<u64>(), bytes()).prop_map(|(f, b)| Harm::Grow(f, b)),
        1 => any::<u64>().prop_map(Harm::Remove),
    ]
}

fn apply(disk: &model::ModelDisk, harm: Harm) {
    let files = disk.files();
    let pick = |f: u64| files[(f % files.len() as u64) as usize].clone();
    let path = |name: &str| Path::new(DIR, name);
    match harm {
        Harm::Set(f, at, bytes) => {
            let (name, len) = pick(f);
            disk.write(&path(&name), at % (len + 1), &[bytes.into()]).expect("a write");
        }
        Harm::Cut(f, at) => {
            let (name, len) = pick(f);
            disk.truncate(&path(&name), at % (len + 1)).expect("a cut");
        }
        Harm::Grow(f, bytes) => {
            let (name, len) = pick(f);
            disk.write(&path(&name), len, &[bytes.into()]).expect("a write");
        }
        Harm::Remove(f) => disk.remove(&path(&pick(f).0)).expect("a removal"),
    }
}

/// Reads from the start on until nothing more comes. Damage is skipped.
fn read_through(host: &mut Host, log: &mut Log, now: Now) {
    let mut offset = log.start_offset();
    let upto = log.stored_offset();
    while offset < upto {
        let request = ReadRequest { offset, max_bytes: 700, min_one_batch: true, upto };
        let (read, _) = host.read(log, now, request);
        offset = match read {
            Read::Ready(range) => {
                assert!(range.next_offset > offset && range.next_offset <= upto && range.len > 0);
                assert_eq!(host.bytes(&range).len(), range.len as usize);
                range.next_offset
            }
            Read::Empty | Read::Refused(_) => offset + 1,
            other => panic!("{other:?}"),
        };
        for timestamp in [0, 1_001_000, i64::MAX] {
            let read = log.find_timestamp(&mut host.cache, timestamp, upto);
            host.wait(log, now, read);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn harmed_files_are_read_or_refused(harms in prop::collection::vec(harm(), 1..6), clean: bool) {
        let (mut host, log, now) = filled();
        drop(log);
        if clean {
            moldau_storage::mark_clean(&host.disk, DIR, 1).expect("a marker");
        }
        harms.into_iter().for_each(|h| apply(&host.disk, h));
        host.restart();
        dump::dump(&host.disk, DIR, NAME, Depth::Checksums, &mut |_| {}).expect("the disk works");
        for _ in 0..2 {
            let mut recovered =
                recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
            let Some(found) = recovered.logs.pop() else { continue };
            prop_assert!(found.start_offset() <= found.end_offset());
            let mut log =
                found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
            read_through(&mut host, &mut log, now);
            let batch = producer_batch(None, 2, 50, now.wall_ms);
            let end = log.end_offset();
            let appended = log.append(now, LeaderEpoch(i32::MAX), None, &[batch], &mut Vec::new);
            prop_assert_eq!(appended.expect("a recovered log takes appends").base_offset, end);
            host.drain(&mut log, now);
            let request = ReadRequest { offset: end, max_bytes: 1, min_one_batch: true, upto: i64::MAX };
            prop_assert!(matches!(host.read(&mut log, now, request).0, Read::Ready(_)));
            host.restart();
        }
    }
}

/// An index whose last entry names a place where no batch begins costs a scan and no record.
#[test]
fn a_wrong_place_in_an_index_loses_nothing() {
    let (mut host, log, now) = filled();
    let (start, end) = (log.start_offset(), log.end_offset());
    drop(log);
    let files = host.disk.files();
    for (name, len) in files.into_iter().filter(|(name, len)| name.ends_with(".index") && *len > 0) {
        host.disk.write(&Path::new(DIR, name), len - 1, &[vec![1].into()]).expect("a write");
    }
    moldau_storage::mark_clean(&host.disk, DIR, 1).expect("a marker");
    host.restart();
    let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works").logs.remove(0);
    assert_eq!((found.start_offset().min(start), found.end_offset()), (start, end));
    let mut log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
    read_through(&mut host, &mut log, now);
}

/// Every place of the indexes is another batch's or none's, in order: no read passes anything over or gives what lies at its limit.
#[test]
fn indexes_that_name_wrong_places_lose_nothing() {
    let (mut host, log, now) = filled();
    let (start, end) = (log.start_offset(), log.stored_offset());
    drop(log);
    for shift in [1i64, 70, 400, -400] {
        host.restart();
        for (name, len) in host.disk.files().into_iter().filter(|(name, _)| name.ends_with(".index")) {
            let path = Path::new(DIR, name);
            let mut bytes = host.disk.read(&path, 0, len as usize).expect("it is there").to_vec();
            for entry in bytes.chunks_exact_mut(8) {
                let position =
                    i64::from(u32::from_be_bytes([entry[4], entry[5], entry[6], entry[7]])) + shift;
                entry[4..].copy_from_slice(&(position as u32).to_be_bytes());
            }
            host.disk.replace(&path, &bytes).expect("a write");
        }
        let found =
            recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works").logs.remove(0);
        let mut log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
        for (offset, upto) in (start.max(2)..end).flat_map(|at| [(at, end), (at, at + 1)]) {
            let request = ReadRequest { offset, max_bytes: 1500, min_one_batch: true, upto };
            let (read, _) = host.read(&mut log, now, request);
            let Read::Ready(range) = read else { panic!("{read:?} at {offset}, shifted by {shift}") };
            let header = Header::verify(&host.bytes(&range)).expect("a range begins with a whole batch");
            assert!((header.base_offset..header.next_offset()).contains(&offset), "{offset}: {header:?}");
            assert!(range.next_offset <= upto.max(header.next_offset()), "{offset}: {range:?}");
        }
    }
}

/// Entries of a time index that claim to be behind newer batches are not followed.
#[test]
fn a_time_index_that_skips_batches_is_not_followed() {
    let (mut host, log, now) = filled();
    let upto = log.stored_offset();
    drop(log);
    let batches: Vec<Header> = all_batches(&host.disk);
    for (name, len) in host.disk.files().into_iter().filter(|(name, _)| name.ends_with(".timeindex")) {
        let path = Path::new(DIR, name);
        let mut bytes = host.disk.read(&path, 0, len as usize).expect("it is there").to_vec();
        for entry in bytes.chunks_exact_mut(12) {
            let last = u32::from_be_bytes([entry[8], entry[9], entry[10], entry[11]]);
            entry[8..].copy_from_slice(&(last + 2).to_be_bytes());
        }
        // The last one says what the segment's greatest timestamp is.
        let keep = bytes.len().saturating_sub(12);
        host.disk.write(&path, 0, &[bytes[..keep].to_vec().into()]).expect("a write");
    }
    host.restart();
    let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works").logs.remove(0);
    let mut log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
    for wanted in batches.iter().map(|header| header.max_timestamp) {
        let read = log.find_timestamp(&mut host.cache, wanted, upto);
        let (read, _) = host.wait(&mut log, now, read);
        let first = batches.iter().find(|header| header.max_timestamp >= wanted && header.next_offset() > 2);
        let Read::Bytes(chunk) = read else { panic!("{read:?} for {wanted}") };
        let found = Header::verify(&chunk.bytes).map(|header| header.base_offset).ok();
        assert_eq!(found, first.map(|header| header.base_offset), "for {wanted}");
    }
}

/// The batches of all segments.
fn all_batches(disk: &model::ModelDisk) -> Vec<Header> {
    let mut found = Vec::new();
    for (name, len) in disk.files().into_iter().filter(|(name, _)| name.ends_with(".log")) {
        let mut scanner = Scanner::new(disk, Path::new(DIR, name), len, 0, 0);
        while let Scanned::Batch { header, .. } = scanner.next(Depth::Headers).expect("the disk works") {
            found.push(header);
        }
    }
    found.sort_by_key(|header| header.base_offset);
    found
}

/// Bytes of a payload that look like a header of offsets which no segment can hold are no batch, before any checksum is computed.
#[test]
fn headers_far_away_are_none() {
    let disk = model::ModelDisk::default();
    let path = Path::new(DIR, "orders-3/00000000000000000000.log");
    let bytes = vec![2; 1 << 26];
    let len = bytes.len() as u64;
    disk.write(&path, 0, &[bytes.into()]).expect("a write");
    let mut scanner = Scanner::new(&disk, path, len, 0, 0);
    let found = scanner.next(Depth::Checksums).expect("the disk works");
    assert!(matches!(found, Scanned::Flaw(Flaw::Offsets { .. })), "{found:?}");
}

/// A reader that follows its ranges looks at no file while the entries are in memory, also behind flushes and in sealed segments.
#[test]
fn sequential_readers_cost_no_disk_read() {
    let (mut host, mut log, now) = filled();
    host.reads = 0;
    let mut offset = 0;
    while offset < log.stored_offset() {
        let request = ReadRequest { offset, max_bytes: 1500, min_one_batch: true, upto: i64::MAX };
        let (Read::Ready(range), _) = host.read(&mut log, now, request) else { panic!("at {offset}") };
        offset = range.next_offset;
    }
    assert_eq!(host.reads, 0);
}

/// After a restart, a reader reads each index once and a header per range; a second reader reads nothing.
#[test]
fn cold_readers_pay_once() {
    let (mut host, log, now) = filled();
    drop(log);
    host.disk.crash(Crash::Kill, &mut moldau_base::Rng::seeded(1));
    host.restart();
    let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works").logs.remove(0);
    let mut log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
    let mut counts = Vec::new();
    for _ in 0..2 {
        host.reads = 0;
        let (mut offset, mut ranges) = (log.start_offset(), 0);
        while offset < log.stored_offset() {
            let request = ReadRequest { offset, max_bytes: 1500, min_one_batch: true, upto: i64::MAX };
            let (Read::Ready(range), _) = host.read(&mut log, now, request) else { panic!("at {offset}") };
            offset = range.next_offset;
            ranges += 1;
        }
        counts.push((host.reads, ranges));
    }
    let segments = log.segment_count() as u64;
    let (cold, ranges) = counts[0];
    assert!(cold <= ranges + segments + 1, "{cold} reads for {ranges} ranges of {segments} segments");
    assert!(counts[1].0 <= 1, "{} reads by the second reader", counts[1].0);
}

#[test]
fn an_idle_log_is_small() {
    assert!(size_of::<Log>() <= 768, "{} bytes", size_of::<Log>());
    let (_, log, _) = filled();
    assert_eq!(log.deadline().is_some(), log.flushed_offset() < log.end_offset());
}

/// A log of this topic with one batch of three records, flushed or not.
fn short(host: &mut Host, topic: Uuid, flushed: bool) {
    let config = LogConfig::default();
    let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), topic, config);
    let now = Now { wall_ms: 1_000_000, mono: Mono(0) };
    let batch = producer_batch(Some((1, 0, 0)), 3, 60, now.wall_ms);
    log.append(now, LeaderEpoch(0), None, &[batch], &mut Vec::new).expect("an append");
    host.run(&mut log, now);
    if flushed {
        log.flush(now, &mut Vec::new);
        host.run(&mut log, now);
        assert_eq!(log.flushed_offset(), 3);
    }
}

/// A topic is deleted and made again at once, and then the process dies: what the checkpoints say is of the log before, whatever
/// became of the next one since.
#[test]
fn the_marks_of_a_deleted_log_are_not_those_of_the_next() {
    for flushed in [false, true] {
        let mut host = Host::new(Pace::AtOnce);
        short(&mut host, Uuid([8; 16]), flushed);
        let put = |file: &str, text: &[u8]| {
            host.disk.replace(&Path::new(DIR, file), text).expect("a checkpoint");
        };
        put(RECOVERY_POINT_CHECKPOINT, &encode_offsets([(NAME, 50)]));
        put(LOG_START_CHECKPOINT, &encode_offsets([(NAME, 50)]));
        put(TOPIC_ID_CHECKPOINT, &encode_topic_ids([(NAME, Some(Uuid([7; 16])))]));
        let recovered = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
        let log = &recovered.logs[0];
        assert_eq!((log.start_offset(), log.end_offset()), (0, 3));
        assert_eq!(log.replay.len(), 1, "its producer is known from its batch");
    }
}

/// In a directory that Kafka has written nothing says whose the marks are: they are taken for those of the log that has the name
/// now, and for nobody's who gets it later.
#[test]
fn marks_without_topic_ids_belong_to_who_has_the_name() {
    let mut host = Host::new(Pace::AtOnce);
    short(&mut host, Uuid([8; 16]), true);
    host.disk.replace(&Path::new(DIR, LOG_START_CHECKPOINT), &encode_offsets([(NAME, 2)])).expect("room");
    let start = |host: &Host| {
        let recovered = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
        recovered.logs[0].start_offset()
    };
    assert_eq!(start(&host), 2);
    assert_eq!(start(&host), 2);
    host.disk.remove(&Path::new(DIR, NAME)).expect("a removal");
    short(&mut host, Uuid([9; 16]), true);
    assert_eq!(start(&host), 0);
}

/// A log that does not know its topic, in a directory that Kafka has written, keeps what is behind damage at the first start and at the
/// next one; also when it has got its id meanwhile, and the host has not come to write down whose the marks are.
#[test]
fn marks_of_a_log_without_an_id_stay_its_own() {
    let (mut host, log, now) = filled();
    let end = log.flushed_offset();
    drop(log);
    host.disk.damage(&format!("{NAME}/partition.metadata"), 0);
    // The length of the first batch.
    host.disk.damage(&format!("{NAME}/00000000000000000000.log"), 11);
    for life in 0..3 {
        host.restart();
        let mut recovered = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
        assert!(recovered.logs[0].end_offset() >= end, "life {life}: {:?}", recovered.findings);
        if life == 1 {
            let found = recovered.logs.remove(0);
            let mut log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
            host.drain(&mut log, now);
        }
    }
    let id = host.disk.content(&format!("{NAME}/partition.metadata"));
    assert!(id.is_some_and(|text| text.starts_with(b"version: 0")), "it has its id");
}

/// The process dies because a sync failed. The system takes for clean what it did not write: the next life reads it, and a sync
/// alone would not make it durable.
#[test]
fn what_a_failed_sync_did_not_write_is_written_again() {
    for seed in 0..20 {
        let mut host = Host::new(Pace::AtOnce);
        short(&mut host, Uuid([8; 16]), false);
        host.disk.forget_unsynced();
        let end = |host: &Host| {
            let recovered = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
            (recovered.logs[0].end_offset(), recovered.logs[0].topic_id)
        };
        assert_eq!(end(&host), (3, Some(Uuid([8; 16]))));
        host.disk.crash(Crash::Power, &mut Rng::seeded(seed));
        assert_eq!(end(&host), (3, Some(Uuid([8; 16]))), "seed {seed}");
    }
}

/// What is not synced may be lost, the removal of a mark included: a node that has started was not stopped cleanly.
#[test]
fn the_mark_of_a_clean_stop_does_not_come_back() {
    for seed in 0..20 {
        let host = Host::new(Pace::AtOnce);
        mark_clean(&host.disk, DIR, 0).expect("there is room");
        let start = || recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
        assert!(start().clean);
        host.disk.crash(Crash::Power, &mut Rng::seeded(seed));
        assert!(!start().clean, "seed {seed}");
    }
}

/// Behind damage, a payload that is one header after another, each of a batch that goes on to the end of the file: the search for what follows
/// ends after a few passes over the file, and says that it did not find out.
#[test]
fn bytes_that_look_like_batches_are_not_checked_for_ever() {
    let disk = model::ModelDisk::default();
    let path = Path::new(DIR, "orders-3/00000000000000000000.log");
    let (len, each) = (3 << 20, 1024);
    let mut bytes = vec![0; len];
    let header = producer_batch(None, 3, 60, 5).bytes().slice(..61);
    for at in (each..len).step_by(each) {
        let piece = &mut bytes[at..at + header.len()];
        piece.copy_from_slice(&header);
        piece[8..12].copy_from_slice(&((len - at - 12) as i32).to_be_bytes());
    }
    disk.write(&path, 0, &[bytes.into()]).expect("a write");
    let mut scanner = Scanner::new(&disk, path, len as u64, 0, 0);
    assert!(matches!(scanner.next(Depth::Checksums).expect("the disk works"), Scanned::Flaw(_)));
    let refused = scanner.resync().expect_err("nobody knows what is there");
    assert!(refused.to_string().contains("looks like batches"), "{refused}");
    assert!(scanner.read_bytes < 40 * len as u64, "{} bytes were read", scanner.read_bytes);
}

/// Where a batch has its leader epoch, which its checksum does not cover.
const EPOCH_AT: u64 = 12;

/// A log of two segments that was stopped cleanly, and its batches: four of epoch 0, four of epoch 1, and four of epoch 2, three of them in the second
/// segment.
fn stopped() -> (Host, Vec<Header>) {
    let mut host = Host::new(Pace::AtOnce);
    let config = LogConfig { segment_bytes: 2400, ..LogConfig::default() };
    let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), Uuid([7; 16]), config);
    let now = Now { wall_ms: 1_000_000, mono: Mono(0) };
    for i in 0..12 {
        let batch = producer_batch(None, 3, 60, now.wall_ms + i64::from(i));
        log.append(now, LeaderEpoch(i / 4), None, &[batch], &mut Vec::new).expect("an append");
        host.run(&mut log, now);
    }
    log.flush(now, &mut Vec::new);
    host.run(&mut log, now);
    mark_clean(&host.disk, DIR, 0).expect("there is room");
    let batches = all_batches(&host.disk);
    assert_eq!((log.segment_count(), batches.len()), (2, 12));
    (host, batches)
}

/// A leader epoch that a flipped bit has made does not come into the history: neither where the checkpoint says which one it was, nor, when
/// that is gone, where the next batch goes back from it.
#[test]
fn a_damaged_leader_epoch_is_left_out() {
    for (without, harmed) in [(false, 11), (false, 9), (true, 9)] {
        let (host, batches) = stopped();
        let (active, len) =
            host.disk.files().into_iter().rfind(|(n, _)| n.ends_with(".log")).expect("it is there");
        let behind: u64 = batches[harmed..].iter().map(|batch| batch.size() as u64).sum();
        host.disk.damage(&active, len - behind + EPOCH_AT);
        if without {
            host.disk.remove(&Path::new(DIR, format!("{NAME}/leader-epoch-checkpoint"))).expect("a removal");
        }
        let recovered = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
        assert_eq!(recovered.logs[0].end_offset(), 36);
        assert!(recovered.findings.iter().any(|f| matches!(f.what, FindingKind::Epoch { .. })));
        let log = recovered.logs.into_iter().next().expect("it is there");
        let log = log.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
        // Without the checkpoint, nothing says what is in the sealed segment.
        let last = if without { batches[harmed + 1].base_offset } else { 24 };
        assert_eq!(log.epochs().entries().last(), Some(&(2, last)), "batch {harmed}");
    }
}

/// What only the batches say of leader epochs is said by them again after a second crash, until a flush has written it down.
#[test]
fn epochs_of_unflushed_batches_outlive_two_crashes() {
    let mut host = Host::new(Pace::AtOnce);
    let config = LogConfig { segment_bytes: 500, ..LogConfig::default() };
    let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), Uuid([7; 16]), config);
    let now = Now { wall_ms: 1_000_000, mono: Mono(0) };
    host.pace = Pace::AtOnce;
    for epoch in 0..3 {
        let batch = producer_batch(None, 3, 60, now.wall_ms);
        log.append(now, LeaderEpoch(epoch), None, &[batch], &mut Vec::new).expect("an append");
        host.run(&mut log, now);
    }
    let epochs = log.epochs().clone();
    host.disk.remove(&Path::new(DIR, format!("{NAME}/leader-epoch-checkpoint"))).expect("a removal");
    for _ in 0..3 {
        host.restart();
        let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers").logs.remove(0);
        // As the host does a second later.
        let point = encode_offsets([(NAME, found.flushed_offset())]);
        host.disk.replace(&Path::new(DIR, RECOVERY_POINT_CHECKPOINT), &point).expect("there is room");
        let log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), config);
        assert_eq!(*log.epochs(), epochs);
        assert!(log.deadline().is_some(), "a flush will write them down");
    }
}

/// The last time index entry of a sealed segment tells its greatest timestamp: one that contradicts the entry before it, or the first batch, is
/// not believed.
#[test]
fn a_damaged_last_time_entry_is_made_again() {
    for interval in [200, 4096] {
        let mut host = Host::new(Pace::AtOnce);
        let config =
            LogConfig { segment_bytes: 1500, index_interval_bytes: interval, ..LogConfig::default() };
        let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), Uuid([7; 16]), config);
        let now = Now { wall_ms: 1_000_000, mono: Mono(0) };
        for i in 0..12 {
            let batch = producer_batch(None, 3, 60, now.wall_ms + i);
            log.append(now, LeaderEpoch(0), None, &[batch], &mut Vec::new).expect("an append");
            host.run(&mut log, now);
        }
        log.flush(now, &mut Vec::new);
        host.run(&mut log, now);
        mark_clean(&host.disk, DIR, 0).expect("there is room");
        let first = format!("{NAME}/00000000000000000000.timeindex");
        let whole = host.disk.content(&first).expect("a sealed segment has one");
        assert_eq!(whole.len() > 12, interval == 200);
        // The last byte but one of its timestamp, which becomes smaller.
        host.disk.damage(&first, whole.len() as u64 - 6);
        assert!(host.disk.content(&first).expect("it is there") < whole);
        let policy = RecoveryPolicy { index_interval_bytes: interval, ..RecoveryPolicy::default() };
        recover(&host.disk, DIR, &policy).expect("it recovers");
        assert_eq!(host.disk.content(&first), Some(whole), "interval {interval}");
    }
}

/// A process that dies just after it has cut its log leaves a recovery point above the end. What is appended from there on is not durable
/// before it is flushed, so the next recovery must look at it.
#[test]
fn the_recovery_point_of_a_log_that_ends_early_comes_down() {
    let mut host = Host::new(Pace::AtOnce);
    short(&mut host, Uuid([7; 16]), true);
    let point = |offset| encode_offsets([("other-0", 7), (NAME, offset)]);
    let path = Path::new(DIR, RECOVERY_POINT_CHECKPOINT);
    host.disk.replace(&path, &point(50)).expect("there is room");
    // The cut has taken the snapshot away.
    host.disk.remove(&Path::new(DIR, format!("{NAME}/00000000000000000003.snapshot"))).expect("a removal");
    let recovered = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
    assert!(recovered.findings.iter().any(|f| matches!(f.what, FindingKind::EndsEarly { end: 3, .. })));
    assert_eq!(recovered.logs[0].replay.len(), 1, "the producer is known from its batch");
    let lines = |text: &[u8]| -> std::collections::BTreeSet<String> {
        String::from_utf8_lossy(text).lines().map(str::to_owned).collect()
    };
    let left = host.disk.content(RECOVERY_POINT_CHECKPOINT).expect("it is there");
    assert_eq!(lines(&left), lines(&point(3)), "to the end and no further");
    host.disk.crash(Crash::Power, &mut Rng::seeded(1));
    let again = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
    assert_eq!(again.logs[0].replay.len(), 1, "also by the next recovery");
}

/// A mark of this boot is believed, and no other one.
#[test]
fn a_directory_tells_which_incarnation_used_it_in_this_boot() {
    let (host, log, _) = filled();
    drop(log);
    let (boot, other) = (Uuid([3; 16]), Uuid([4; 16]));
    let path = Path::new(DIR, BOOT_CHECKPOINT);
    let mark = |text: &[u8]| host.disk.replace(&path, text).expect("there is room");
    let told = |boot| common_boot_epoch(&host.disk, [DIR], boot).expect("the disk works");
    assert_eq!(told(boot), None);
    mark(&encode_boot(boot, 17));
    assert_eq!(told(boot), Some(17));
    assert_eq!(told(other), None, "the machine was down since");
    mark(b"17");
    assert_eq!(told(boot), None, "a damaged mark says nothing");
}
