//! Damaged headers of flushed batches: whatever they claim, what is whole behind them stays and is found, at every start.

mod model;

use std::collections::BTreeSet;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::limits::BATCHES_PER_PRODUCER;
use moldau_base::{LeaderEpoch, Mono, Now, Rng, Uuid};
use moldau_batch::Header;
use moldau_storage::names::RECOVERY_POINT_CHECKPOINT;
use moldau_storage::{
    Depth, FileIds, FindingKind, Log, LogConfig, Read, ReadRequest, RecoveryPolicy, Scanned, Scanner, dump,
    encode_offsets, encode_snapshot, mark_clean, recover,
};

use model::{Crash, Host, Pace, producer_batch};

const DIR: DirId = DirId(0);
const NAME: &str = "orders-3";
const FILE: &str = "orders-3/00000000000000000000.log";
const BATCHES: usize = 10;
const PER_BATCH: usize = 3;
const END: i64 = (BATCHES * PER_BATCH) as i64;

/// Bytes of a header and what is flipped in them: the offset, far up, up and down within the log; the length; the leader epoch; the magic; the
/// checksum; the number of offsets.
const HARMS: [(usize, u8); 12] = [
    (0, 0x80),
    (4, 0x10),
    (5, 0x5a),
    (7, 0x40),
    (7, 0x08),
    (8, 0x5a),
    (10, 0x02),
    (11, 0x5a),
    (16, 0x5a),
    (17, 0x5a),
    (23, 0x5a),
    (7, 0x01),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Clean,
    Killed,
}

/// A flushed log, its file and where its batches begin.
fn flushed() -> (Host, Vec<u8>, Vec<usize>) {
    let (mut host, now) = (Host::new(Pace::AtOnce), Now { wall_ms: 1_000_000, mono: Mono(0) });
    let ids = &mut FileIds::new(0);
    let mut log = Log::create(0, ids, DIR, NAME.into(), Uuid([7; 16]), LogConfig::default());
    for i in 0..BATCHES {
        let sequence = (i * PER_BATCH) as i32;
        let batch = producer_batch(Some((1, 0, sequence)), PER_BATCH as i32, 60, now.wall_ms);
        log.append(now, LeaderEpoch(0), None, &[batch], &mut Vec::new).expect("an append");
        host.run(&mut log, now);
    }
    log.flush(now, &mut Vec::new);
    host.run(&mut log, now);
    let content = host.disk.content(FILE).expect("the log's file");
    let mut scanner = Scanner::new(&host.disk, Path::new(DIR, FILE), content.len() as u64, 0, 0);
    let mut places = Vec::new();
    while let Ok(Scanned::Batch { position, .. }) = scanner.next(Depth::Headers) {
        places.push(position as usize);
    }
    assert_eq!(places.len(), BATCHES);
    // Nothing but the batches tells of their producer.
    let snapshot = Path::new(DIR, FILE.replace(".log", ".snapshot"));
    host.disk.replace(&snapshot, &encode_snapshot(&[])).expect("there is room");
    (host, content, places)
}

fn stop(host: &Host, how: Stop) {
    match how {
        Stop::Clean => mark_clean(&host.disk, DIR, 0).expect("there is room"),
        Stop::Killed => {
            let point = encode_offsets([(NAME, END)]);
            host.disk.replace(&Path::new(DIR, RECOVERY_POINT_CHECKPOINT), &point).expect("there is room");
        }
    }
}

/// Recovers twice: nothing of the file is gone, and of the log neither. Which batches a dump finds in their places.
fn recovered(host: &mut Host, harmed: &[u8], how: Stop) -> Result<BTreeSet<usize>, String> {
    host.disk.replace(&Path::new(DIR, FILE), harmed).expect("there is room");
    for start in ["first", "second"] {
        let _ = host.disk.remove(&Path::new(DIR, FILE.replace(".log", ".index")));
        stop(host, how);
        let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
        let log = &found.logs[0];
        if (log.start_offset(), log.end_offset()) != (0, END) {
            return Err(format!("{start} start: ends at {}, {:?}", log.end_offset(), found.findings));
        }
        if log.replay.last().map(Header::next_offset) != Some(END) {
            return Err(format!("{start} start: producers of {:?}", log.replay));
        }
        if host.disk.content(FILE).as_deref() != Some(harmed) {
            return Err(format!("{start} start: the file changed, {:?}", found.findings));
        }
    }
    let mut places = BTreeSet::new();
    let mut note = |found| {
        if let dump::Found::Batch { position, .. } = found {
            places.insert(position as usize);
        }
    };
    dump::dump(&host.disk, DIR, NAME, Depth::Checksums, &mut note).expect("the disk works");
    Ok(places)
}

/// The batches in front of a damaged one can be read. There are no index entries to begin anew from behind it.
fn read_up_to(host: &mut Host, damaged: usize) {
    let now = Now { wall_ms: 1_000_000, mono: Mono(0) };
    host.restart();
    let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works").logs.remove(0);
    let mut log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), LogConfig::default());
    for batch in 0..damaged {
        let offset = (batch * PER_BATCH) as i64;
        let request = ReadRequest { offset, max_bytes: 1, min_one_batch: true, upto: END };
        let (read, _) = host.read(&mut log, now, request);
        assert!(matches!(read, Read::Ready(_)), "{read:?} at {offset} in front of batch {damaged}");
    }
}

#[test]
fn one_damaged_header_takes_nothing_else_with_it() {
    let (mut host, content, places) = flushed();
    for (batch, (byte, mask), how) in (0..BATCHES - 1)
        .flat_map(|batch| HARMS.map(|harm| (batch, harm)))
        .flat_map(|(batch, harm)| [Stop::Clean, Stop::Killed].map(|how| (batch, harm, how)))
    {
        let mut harmed = content.clone();
        harmed[places[batch] + byte] ^= mask;
        let found = recovered(&mut host, &harmed, how)
            .unwrap_or_else(|why| panic!("byte {byte} ^ {mask:#x} of batch {batch}, {how:?}: {why}"));
        let others: BTreeSet<usize> = places.iter().copied().filter(|at| *at != places[batch]).collect();
        read_up_to(&mut host, batch);
        assert_eq!(found, others, "byte {byte} ^ {mask:#x} of batch {batch}, {how:?}");
    }
}

#[test]
fn two_damaged_headers_take_nothing_else_with_them() {
    let (mut host, content, places) = flushed();
    // Beside another damaged one, a batch that overlaps its neighbour by an offset is believed, and the neighbour is not found.
    let harms = &HARMS[..HARMS.len() - 1];
    let pairs = [(0, 1), (0, 2), (3, 4), (3, 6)].map(|pair| (pair, Stop::Killed));
    for (((one, other), how), (first, second)) in pairs
        .into_iter()
        .chain([((0, 1), Stop::Clean), ((3, 5), Stop::Clean)])
        .flat_map(|case| harms.iter().map(move |first| (case, *first)))
        .flat_map(|(case, first)| harms.iter().map(move |second| (case, (first, *second))))
    {
        let mut harmed = content.clone();
        for (batch, (byte, mask)) in [(one, first), (other, second)] {
            harmed[places[batch] + byte] ^= mask;
        }
        let case = || format!("{first:x?} of batch {one} and {second:x?} of batch {other}, {how:?}");
        let found = recovered(&mut host, &harmed, how).unwrap_or_else(|why| panic!("{}: {why}", case()));
        let mut others = places.iter().filter(|at| ![places[one], places[other]].contains(at));
        assert!(others.all(|at| found.contains(at)), "{}: {found:?}", case());
    }
}

/// A batch of which the offset is damaged and something else as well must not move what is next behind whole batches that follow: the
/// damaged offset of its neighbour would then be believed.
#[test]
fn a_batch_that_is_not_whole_does_not_hide_that_the_next_one_is_misplaced() {
    let (mut host, content, places) = flushed();
    // Whatever lies in front of where it was leaves no hole.
    let is_above =
        |batch: usize, (byte, mask): (usize, u8)| byte != 7 || (batch * PER_BATCH) as u8 & mask == 0;
    let offsets = || HARMS.into_iter().filter(|(byte, _)| *byte < 8);
    for (batch, how) in (0..BATCHES - 2).flat_map(|batch| [Stop::Clean, Stop::Killed].map(|how| (batch, how)))
    {
        for first in offsets().filter(|harm| is_above(batch, *harm)) {
            for second in offsets().filter(|harm| is_above(batch + 1, *harm)) {
                let mut harmed = content.clone();
                let crc = (17, 0x5a);
                for (batch, (byte, mask)) in [(batch, first), (batch, crc), (batch + 1, second)] {
                    harmed[places[batch] + byte] ^= mask;
                }
                let case = || format!("{first:x?} of batch {batch} and {second:x?} of the next, {how:?}");
                let found =
                    recovered(&mut host, &harmed, how).unwrap_or_else(|why| panic!("{}: {why}", case()));
                let mut others = places.iter().filter(|at| ![places[batch], places[batch + 1]].contains(at));
                assert!(others.all(|at| found.contains(at)), "{}: {found:?}", case());
            }
        }
    }
}

/// What says that it was not flushed does not stand against a damaged offset, and does not use up the number of batches that are asked.
#[test]
fn one_flushed_batch_in_its_place_stands_against_all_others() {
    let (host, content, places) = flushed();
    let mut harmed = content;
    places[..BATCHES - 1].iter().for_each(|at| harmed[at + 4] ^= 0x10);
    host.disk.replace(&Path::new(DIR, FILE), &harmed).expect("there is room");
    for start in ["first", "second"] {
        stop(&host, Stop::Killed);
        let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
        assert_eq!(found.logs[0].end_offset(), END, "{start} start: {:?}", found.findings);
    }
    assert_eq!(host.disk.content(FILE).as_deref(), Some(&harmed[..]));
}

/// So much is damaged that what is cut off had spoken for a batch in front: the second start must not come to doubt it alone.
#[test]
fn what_spoke_for_a_batch_and_was_cut_off_is_not_missed_at_the_next_start() {
    let (host, content, places) = flushed();
    // The third last batch seems to go on to the last one, which was not flushed and has no place behind its epoch.
    let (hides, last) = (places[BATCHES - 3], places[BATCHES - 1]);
    let mut harmed = leading(&content, hides, last);
    harmed[hides + 26] = 18;
    harmed[last + 7] = 21 + 19;
    harmed[last + 12] ^= 0x80;
    host.disk.replace(&Path::new(DIR, FILE), &harmed).expect("there is room");
    let start = || {
        let point = encode_offsets([(NAME, END - PER_BATCH as i64)]);
        host.disk.replace(&Path::new(DIR, RECOVERY_POINT_CHECKPOINT), &point).expect("there is room");
        let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
        (found.logs[0].end_offset(), host.disk.content(FILE).map_or(0, |content| content.len()))
    };
    let first = start();
    assert_eq!(first, (END - PER_BATCH as i64, last), "what is hidden says where the log ends");
    assert_eq!(start(), first);
}

/// A length is under no checksum. Where it leads to the end of the file or to a later batch, everything seems to be in order.
#[test]
fn a_length_that_leads_to_the_end_or_to_a_later_batch_hides_nothing() {
    let (mut host, content, places) = flushed();
    let ends = [&places[1..], &[content.len()]].concat();
    for (batch, end, how) in (0..BATCHES)
        .flat_map(|batch| ends[batch + 1..].iter().map(move |end| (batch, *end)))
        .flat_map(|(batch, end)| [Stop::Clean, Stop::Killed].map(|how| (batch, end, how)))
    {
        let harmed = leading(&content, places[batch], end);
        let found = recovered(&mut host, &harmed, how)
            .unwrap_or_else(|why| panic!("batch {batch} seems to end at {end}, {how:?}: {why}"));
        let others: BTreeSet<usize> = places.iter().copied().filter(|at| *at != places[batch]).collect();
        assert_eq!(found, others, "batch {batch} seems to end at {end}, {how:?}");
        stop(&host, how);
        let mut again = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
        let place = places[batch] as u64;
        let is_named = again
            .findings
            .iter()
            .any(|found| matches!(found.what, FindingKind::Damaged { position, .. } if position == place));
        assert!(is_named, "batch {batch} seems to end at {end}, {how:?}: {:?}", again.findings);
        let replayed = again.logs.remove(0).replay.into_iter().map(|header| header.base_offset as usize);
        let last = (0..BATCHES).rev().filter(|other| *other != batch).take(BATCHES_PER_PRODUCER);
        let last: Vec<usize> = last.map(|batch| batch * PER_BATCH).collect();
        assert!(replayed.rev().eq(last), "batch {batch} seems to end at {end}, {how:?}");
    }
}

/// The content with another length of the batch at `at`: it seems to end at `end`.
fn leading(content: &[u8], at: usize, end: usize) -> Vec<u8> {
    let mut harmed = content.to_vec();
    harmed[at + 8..at + 12].copy_from_slice(&((end - at - 12) as i32).to_be_bytes());
    harmed
}

/// The last flushed batch is not whole, and nothing whole follows: its header says where the log ends, whatever a torn append has left behind it.
#[test]
fn a_torn_append_takes_no_flushed_batch_with_it() {
    let (host, content, places) = flushed();
    let last = places[BATCHES - 1];
    let mut append = content[last..].to_vec();
    append[..8].copy_from_slice(&END.to_be_bytes());
    let mut harmed = content;
    harmed[last + 100] ^= 0x5a;
    for left in [0, 1, 20, 61, append.len() - 1] {
        let torn = [&harmed[..], &append[..left]].concat();
        host.disk.replace(&Path::new(DIR, FILE), &torn).expect("there is room");
        for start in ["first", "second"] {
            stop(&host, Stop::Killed);
            let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
            let end = found.logs[0].end_offset();
            assert_eq!(end, END, "{start} start with {left} bytes of an append: {:?}", found.findings);
            assert_eq!(host.disk.content(FILE).as_deref(), Some(&harmed[..]), "{start} start, {left} bytes");
        }
    }
    let whole = [&harmed[..], &append].concat();
    host.disk.replace(&Path::new(DIR, FILE), &whole).expect("there is room");
    stop(&host, Stop::Killed);
    let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
    assert_eq!(found.logs[0].end_offset(), END + PER_BATCH as i64, "{:?}", found.findings);
}

/// A damaged length that leads to a later batch, and a number of offsets that says the same: the headers are in order, and what is hidden is found.
#[test]
fn a_length_and_a_number_of_offsets_that_fit_each_other_hide_nothing() {
    let (mut host, content, places) = flushed();
    let ends = [&places[1..], &[content.len()]].concat();
    for (batch, end, how) in (0..BATCHES)
        .flat_map(|batch| (batch + 1..BATCHES).map(move |end| (batch, end)))
        .flat_map(|(batch, end)| [Stop::Clean, Stop::Killed].map(|how| (batch, end, how)))
    {
        let mut harmed = leading(&content, places[batch], ends[end]);
        let last = ((end - batch + 1) * PER_BATCH) as i32 - 1;
        harmed[places[batch] + 23..places[batch] + 27].copy_from_slice(&last.to_be_bytes());
        let case = || format!("batch {batch} seems to be all up to {end}, {how:?}");
        let found = recovered(&mut host, &harmed, how).unwrap_or_else(|why| panic!("{}: {why}", case()));
        let others: BTreeSet<usize> = places.iter().copied().filter(|at| *at != places[batch]).collect();
        assert_eq!(found, others, "{}", case());
    }
}

/// Whether the last batch hides others costs its checksum; after a clean stop that is asked of what is read anyway.
#[test]
fn a_clean_start_does_not_read_a_large_last_batch() {
    const LARGE: usize = 400_000;
    let (mut host, now) = (Host::new(Pace::AtOnce), Now { wall_ms: 1_000_000, mono: Mono(0) });
    let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), Uuid([7; 16]), LogConfig::default());
    // The third one has an index entry.
    for (i, bytes) in [3000, 3000, 60, 60, LARGE].into_iter().enumerate() {
        let batch = producer_batch(Some((1, 0, i as i32)), 1, bytes, now.wall_ms);
        log.append(now, LeaderEpoch(0), None, &[batch], &mut Vec::new).expect("an append");
        host.run(&mut log, now);
    }
    log.flush(now, &mut Vec::new);
    host.run(&mut log, now);
    let content = host.disk.content(FILE).expect("the log's file");
    let start = |content: &[u8], how| {
        host.disk.replace(&Path::new(DIR, FILE), content).expect("there is room");
        match how {
            Stop::Clean => mark_clean(&host.disk, DIR, 0).expect("there is room"),
            Stop::Killed => {
                let point = encode_offsets([(NAME, 5)]);
                host.disk.replace(&Path::new(DIR, RECOVERY_POINT_CHECKPOINT), &point).expect("there is room");
            }
        }
        let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
        assert_eq!(
            (found.clean, found.logs[0].end_offset()),
            (how == Stop::Clean, 5),
            "{:?}",
            found.findings
        );
        (found.scanned_bytes, found.findings.len())
    };
    let (bytes, findings) = start(&content, Stop::Clean);
    assert!(bytes <= 64 << 10 && findings == 0, "{bytes} bytes, {findings} findings");
    let (bytes, findings) = start(&content, Stop::Killed);
    assert!(bytes > LARGE as u64 && findings == 0, "{bytes} bytes, {findings} findings");
    // The small one in front of it seems to hold it.
    let at = content.len() - LARGE;
    let small = (0..at).rev().find(|at| Header::verify(&content[*at..]).is_ok_and(|h| h.base_offset == 3));
    let harmed = leading(&content, small.expect("a small batch"), content.len());
    for how in [Stop::Clean, Stop::Killed, Stop::Clean] {
        assert_eq!(start(&harmed, how).1, 1, "{how:?}");
    }
}

/// What is behind damage was flushed and stays, at every start, also in a log that ends before its recovery point; and its producers stay
/// known, though nothing but the batches tells of them.
#[test]
fn damage_in_a_log_that_ends_early_takes_nothing_else_with_it() {
    // The length of the first batch, and a byte of its record.
    for (harmed, full) in [(11, false), (90, false), (90, true)] {
        let (mut host, now) = (Host::new(Pace::AtOnce), Now { wall_ms: 1_000_000, mono: Mono(0) });
        let config = LogConfig::default();
        let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), Uuid([7; 16]), config);
        for i in 0..5 {
            let batch = producer_batch(Some((1, 0, 3 * i)), 3, 60, now.wall_ms);
            log.append(now, LeaderEpoch(0), None, &[batch], &mut Vec::new).expect("an append");
            host.run(&mut log, now);
        }
        log.flush(now, &mut Vec::new);
        host.run(&mut log, now);
        drop(log);
        let point = |offset| encode_offsets([(NAME, offset)]);
        let path = Path::new(DIR, RECOVERY_POINT_CHECKPOINT);
        host.disk.replace(&path, &point(15)).expect("there is room");
        let file = format!("{NAME}/00000000000000000000.log");
        let len = host.disk.content(&file).expect("it is there").len() as u64;
        host.disk.truncate(&Path::new(DIR, file.clone()), len - 1).expect("a cut");
        host.disk.damage(&file, harmed);
        for life in 0..3 {
            host.restart();
            host.disk.limit_space((full && life == 0).then_some(0));
            let recovered = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("it recovers");
            host.disk.limit_space(None);
            let found = recovered.logs.into_iter().next().expect("it is there");
            assert_eq!(found.end_offset(), 12, "life {life}: {:?}", recovered.findings);
            let known = found.replay.iter().map(|header| header.last_offset()).next_back();
            assert_eq!((known, found.producers_offset), (Some(11), 0), "life {life}");
            // On a full disk nothing could be written down: the point on disk is what it was.
            if !full || life > 0 {
                assert_eq!(found.flushed_offset(), 12, "life {life}");
                assert_eq!(host.disk.content(RECOVERY_POINT_CHECKPOINT), Some(point(12)), "life {life}");
            }
            let log = found.into_log(0, &mut FileIds::new(0), Uuid([7; 16]), config);
            assert!(log.deadline().is_some(), "a flush will write the producers down");
            drop(log);
            host.disk.crash(Crash::Power, &mut Rng::seeded(life));
        }
    }
}
