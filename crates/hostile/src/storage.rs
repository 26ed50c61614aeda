//! Files of a log directory: recovery of whatever is there, and the small files one by one.

use std::fmt::Display;

use bytes::Bytes;
use moldau_base::disk::{Disk, Path};
use moldau_base::{LeaderEpoch, Mono, NodeId, Now, ProducerEntry, Rng, Uuid};
use moldau_batch::{Batch, Builder, Codec, Header};
use moldau_quorum::meta;
use moldau_sim::disk::SimDisk;
use moldau_storage::names::{LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, TOPIC_ID_CHECKPOINT};
use moldau_storage::{
    AppendError, Depth, EpochHistory, FileIds, Log, LogConfig, Read, ReadRequest, RecoveredLog,
    RecoveryPolicy, State, dump, encode_epochs, encode_metadata, encode_offsets, encode_snapshot,
    encode_topic_ids, mark_clean, parse_epochs, parse_metadata, parse_offsets, parse_snapshot,
    parse_topic_ids, recover, recover_moves,
};

use crate::directory::{DIR, fill};
use crate::host::Host;
use crate::input::Input;
use crate::{Memory, Target};

/// A log directory with any files.
pub const RECOVERY: Target = Target {
    name: "recovery",
    proves: "a log directory with any files is recovered or refused; what is recovered stays so, can be read, appended to and cut",
    run: recovery,
    memory: Memory { base: 2 << 20, per_byte: 512 },
    per_mille: 200,
};

/// The indexes of a log that is whole.
pub const INDEXES: Target = Target {
    name: "indexes",
    proves: "with any bytes as its indexes a whole log loses nothing, and a read gives whole batches or names the damage",
    run: indexes,
    memory: Memory { base: 2 << 20, per_byte: 512 },
    per_mille: 200,
};

/// Checkpoints, snapshots and marks.
pub const SMALL_FILES: Target = Target {
    name: "small_files",
    proves: "checkpoints, producer snapshots, partition.metadata and meta.properties are read or refused, and read back equal",
    run: small_files,
    memory: Memory { base: 64 << 10, per_byte: 256 },
    per_mille: 1000,
};

/// A log of this program is never asked for more in a run.
const READS: usize = 64;
const TOPIC: Uuid = Uuid([7; 16]);

fn now() -> Now {
    Now { wall_ms: 1_000_000, mono: Mono(0) }
}

fn recovered(disk: &SimDisk) -> Vec<RecoveredLog> {
    recover(disk, DIR, &RecoveryPolicy::default()).expect("the disk works").logs
}

fn extents(logs: &[RecoveredLog]) -> Vec<(String, i64, i64)> {
    logs.iter().map(|log| (log.name().to_owned(), log.start_offset(), log.end_offset())).collect()
}

/// The one reason to refuse what a disk holds that works.
fn is_named(refused: &dyn Display) -> bool {
    refused.to_string().contains("too much behind it looks like batches")
}

fn recovery(input: &[u8]) {
    let disk = SimDisk::default();
    fill(&disk, &mut Input(input));
    for partition in dump::partitions(&disk, DIR).expect("the disk works") {
        let dumped = dump::dump(&disk, DIR, &partition, Depth::Checksums, &mut |_| {});
        assert!(dumped.is_ok() || dumped.is_err_and(|refused| is_named(&refused)));
    }
    if let Err(refused) = recover_moves(&disk, [DIR]) {
        return assert!(refused.to_string().contains("one of the two directories must be taken away"));
    }
    let found = match recover(&disk, DIR, &RecoveryPolicy::default()) {
        Ok(found) => found,
        Err(refused) => return assert!(is_named(&refused), "{refused}"),
    };
    if found.clean {
        // It says that everything was flushed, whatever the checkpoints say; without it they would have to say so.
        mark_clean(&disk, DIR, 1).expect("a disk in memory has room");
    }
    let mut first = extents(&found.logs);
    let logs = recovered(&disk);
    let second = extents(&logs);
    // On this disk a directory without files is none.
    first.retain(|(name, start, end)| start < end || second.iter().any(|(other, ..)| other == name));
    assert_eq!(second, first, "a second recovery finds what the first one left");
    for log in logs {
        assert!(log.start_offset() <= log.end_offset());
        assert!((log.start_offset()..=log.end_offset()).contains(&log.high_watermark));
        use_log(&alone(&disk, log.name()), log);
    }
}

/// The files of this log and those of all logs: what happens to it must not be a restart of the others, whose host has not yet begun.
fn alone(disk: &SimDisk, name: &str) -> SimDisk {
    let copy = SimDisk::default();
    disk.files(|path, content| {
        if path.name.split_once('/').is_none_or(|(dir, _)| dir == name) {
            copy.replace(path, content).expect("a disk in memory has room");
        }
    });
    copy
}

/// Reads, appends and cuts, as a broker would; what was appended is there after a restart.
fn use_log(disk: &SimDisk, found: RecoveredLog) {
    let (mut host, now, name) = (Host::new(disk), now(), found.name().to_owned());
    let topic = found.topic_id.unwrap_or(TOPIC);
    let mut log = found.into_log(0, &mut FileIds::new(0), TOPIC, LogConfig::default());
    host.drain(&mut log, now);
    read_through(&mut host, &mut log);
    let end = log.end_offset();
    match log.append(now, LeaderEpoch(i32::MAX), None, &[batch()], &mut Vec::new) {
        Ok(appended) => assert_eq!(appended.base_offset, end),
        Err(AppendError::OffsetsExhausted) => return,
        Err(error) => panic!("a recovered log takes appends: {error}"),
    }
    host.drain(&mut log, now);
    let request = ReadRequest { offset: end, max_bytes: 1, min_one_batch: true, upto: i64::MAX };
    let read = log.read(&mut host.cache, request);
    let Read::Ready(range) = host.wait(&mut log, now, read) else { panic!("what was appended is there") };
    let bytes = host.bytes(&range);
    assert_eq!(Header::verify(&bytes).map(|header| header.base_offset), Ok(end));
    log.flush(now, &mut Vec::new);
    host.drain(&mut log, now);
    checkpoint(disk, &name, topic, &log);
    let appended = log.end_offset();
    let middle = log.start_offset() + (end - log.start_offset()) / 2;
    drop(log);
    let mut again = recovered(disk);
    again.retain(|log| log.name() == name);
    let found = again.pop().expect("the log is still there");
    assert_eq!(found.end_offset(), appended, "what was appended stays");
    let mut host = Host::new(disk);
    let mut log = found.into_log(0, &mut FileIds::new(0), TOPIC, LogConfig::default());
    log.truncate(now, &mut host.cache, middle);
    host.drain(&mut log, now);
    // In front of damage no place to cut is found: the log says so and is of no use any more.
    let is_cut = log.end_offset() <= middle.max(log.start_offset());
    assert!(
        is_cut || matches!(log.state(), State::Offline(_)),
        "{} after a cut at {middle}",
        log.end_offset()
    );
}

/// Writes the log's recovery point and start down and whose they are, as its host does after a flush.
fn checkpoint(disk: &SimDisk, name: &str, topic: Uuid, log: &Log) {
    let stored = |file: &str| {
        let path = Path::new(DIR, file);
        let read = disk.len(&path).expect("the disk works").map(|len| disk.read(&path, 0, len as usize));
        (path, read.transpose().expect("the disk works").unwrap_or_default())
    };
    let marks =
        [(RECOVERY_POINT_CHECKPOINT, log.flushed_offset()), (LOG_START_CHECKPOINT, log.start_offset())];
    for (file, mark) in marks {
        let (path, content) = stored(file);
        let mut points = parse_offsets(&content).unwrap_or_default();
        points.retain(|(other, _)| other != name);
        points.push((name.to_owned(), mark));
        let content = encode_offsets(points.iter().map(|(name, offset)| (name.as_str(), *offset)));
        disk.replace(&path, &content).expect("a disk in memory has room");
    }
    let (path, content) = stored(TOPIC_ID_CHECKPOINT);
    let mut topics = parse_topic_ids(&content).unwrap_or_default();
    topics.retain(|(other, _)| other != name);
    topics.push((name.to_owned(), topic));
    let content = encode_topic_ids(topics.iter().map(|(name, topic)| (name.as_str(), Some(*topic))));
    disk.replace(&path, &content).expect("a disk in memory has room");
}

fn batch() -> Batch {
    let mut builder = Builder::new(Codec::None);
    builder.push(1_000_000, Some(b"key"), Some(b"value"), &[]);
    Batch::verify(&builder.build().expect("a small batch")).expect("it was just built")
}

/// Reads from the start on; damage is skipped.
fn read_through(host: &mut Host, log: &mut Log) {
    let (now, upto) = (now(), log.stored_offset());
    let mut offset = log.start_offset();
    for _ in 0..READS {
        let request = ReadRequest { offset, max_bytes: 700, min_one_batch: true, upto };
        let read = log.read(&mut host.cache, request);
        offset = match host.wait(log, now, read) {
            Read::Ready(range) => {
                assert!(range.next_offset > offset && range.next_offset <= upto && range.len > 0);
                let bytes = host.bytes(&range);
                assert_eq!(bytes.len(), range.len as usize, "a range lies in its file");
                range.next_offset
            }
            Read::Empty | Read::Refused(_) => offset.saturating_add(1),
            other => panic!("{other:?}"),
        };
        if offset >= upto {
            break;
        }
    }
    for timestamp in [i64::MIN, 0, 1_000_003, i64::MAX] {
        let read = log.find_timestamp(&mut host.cache, timestamp, upto);
        host.wait(log, now, read);
    }
    let read = log.max_timestamp(&mut host.cache, upto);
    host.wait(log, now, read);
}

/// Batches of a log that is whole, and the offset behind each.
const BATCHES: i64 = 40;
const PER_BATCH: i64 = 3;

pub(crate) fn whole_log() -> Bytes {
    let mut log = Vec::new();
    for i in 0..BATCHES {
        let mut builder = Builder::new(Codec::None).base_offset(i * PER_BATCH).leader_epoch((i / 10) as i32);
        for record in 0..PER_BATCH {
            builder.push(1_000_000 + i * 10 + record, None, Some(&vec![b'v'; (i as usize * 7) % 60]), &[]);
        }
        log.extend_from_slice(&builder.build().expect("a small batch"));
    }
    log.into()
}

/// The first byte says how the node stopped, a piece is the offset index, the rest the time index.
fn indexes(input: &[u8]) {
    let mut input = Input(input);
    let Some((how, index)) = input.byte().zip(input.piece()) else { return };
    let disk = SimDisk::default();
    let put = |name: &str, content: &[u8]| {
        disk.replace(&Path::new(DIR, name), content).expect("a disk in memory has room");
    };
    put("orders-0/00000000000000000000.log", &whole_log());
    put("orders-0/00000000000000000000.index", index);
    put("orders-0/00000000000000000000.timeindex", input.0);
    let end = BATCHES * PER_BATCH;
    match how % 3 {
        0 => mark_clean(&disk, DIR, 1).expect("a disk in memory has room"),
        1 => put("recovery-point-offset-checkpoint", &encode_offsets([("orders-0", end)])),
        _ => {}
    }
    let found = recovered(&disk).pop().expect("there is a log");
    assert_eq!(
        (found.start_offset(), found.end_offset()),
        (0, end),
        "indexes say nothing about the log's extent"
    );
    let mut host = Host::new(&disk);
    let mut log = found.into_log(0, &mut FileIds::new(0), TOPIC, LogConfig::default());
    host.drain(&mut log, now());
    read_through(&mut host, &mut log);
    for offset in 0..end {
        let request = ReadRequest { offset, max_bytes: 1, min_one_batch: true, upto: end };
        let read = log.read(&mut host.cache, request);
        if let Read::Ready(range) = host.wait(&mut log, now(), read) {
            let header = Header::verify(&host.bytes(&range)).expect("a range begins with a whole batch");
            assert!(
                (header.base_offset..header.next_offset()).contains(&offset),
                "offset {offset} is not in {header:?}"
            );
        }
    }
}

/// The first byte chooses the file.
fn small_files(input: &[u8]) {
    let Some((kind, data)) = input.split_first() else { return };
    match kind % 5 {
        0 => {
            if let Ok(offsets) = parse_offsets(data) {
                let again = encode_offsets(offsets.iter().map(|(name, offset)| (name.as_str(), *offset)));
                let named = parse_offsets(&again).expect("what was written is read");
                assert!(named.len() <= offsets.len());
            }
            if let Ok(topics) = parse_topic_ids(data) {
                let again =
                    encode_topic_ids(topics.iter().map(|(name, topic)| (name.as_str(), Some(*topic))));
                let named = parse_topic_ids(&again).expect("what was written is read");
                assert!(named.len() <= topics.len());
            }
        }
        1 => {
            if let Ok(epochs) = parse_epochs(data) {
                assert_eq!(parse_epochs(&encode_epochs(&epochs)).as_ref(), Ok(&epochs));
                epoch_history(epochs);
            }
        }
        2 => {
            if let Ok(topic) = parse_metadata(data) {
                assert_eq!(parse_metadata(&encode_metadata(topic)), Ok(topic));
            }
        }
        3 => snapshot(data),
        _ => {
            let disk = SimDisk::default();
            disk.replace(&Path::new(DIR, "meta.properties"), data).expect("a disk in memory has room");
            let claimed = meta::claim(&disk, &[DIR], NodeId(1), None, &mut Rng::seeded(1));
            let read = meta::read(&disk, DIR);
            assert_eq!(
                claimed.ok().and_then(|metas| metas.into_iter().next()),
                read.ok().flatten().filter(|m| m.node == NodeId(1))
            );
        }
    }
}

/// A history only grows, whatever a checkpoint says, and its answers lie in it.
fn epoch_history(epochs: Vec<(i32, i64)>) {
    let mut history = EpochHistory::from_entries(epochs);
    assert!(history.entries().windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
    let probes: Vec<i32> = history.entries().iter().map(|(epoch, _)| *epoch).take(50).collect();
    for epoch in probes {
        let (found, end) = history.end_of(epoch, i64::MAX).expect("an epoch that is there has an end");
        assert_eq!(found, epoch);
        assert!(history.entries().iter().all(|(later, start)| *later <= epoch || *start >= end));
    }
    if let Some((_, middle)) = history.entries().get(history.entries().len() / 2).copied() {
        history.truncate_start(middle);
        assert!(history.entries().first().is_some_and(|(_, start)| *start >= middle));
        history.truncate_end(middle);
        assert!(history.entries().is_empty());
    }
}

/// The bytes as they are, and with the checksum that they need.
fn snapshot(data: &[u8]) {
    let _ = parse_snapshot(data);
    let mut forged = data.to_vec();
    crate::directory::repair_snapshot(&mut forged);
    if let Ok(entries) = parse_snapshot(&forged) {
        let entries: Vec<ProducerEntry> = entries;
        assert_eq!(parse_snapshot(&encode_snapshot(&entries)), Ok(entries));
    }
}
