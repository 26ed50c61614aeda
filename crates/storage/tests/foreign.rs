//! Directories below a log directory that no topic can have: they are nobody's partition, whatever is in them, and are left alone.

mod model;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{LeaderEpoch, Mono, Now, Rng, Uuid};
use moldau_storage::names::{RECOVERY_POINT_CHECKPOINT, TOPIC_ID_CHECKPOINT};
use moldau_storage::{
    FileIds, FindingKind, Log, LogConfig, RecoveryPolicy, encode_offsets, parse_topic_ids, recover,
};

use model::{Crash, Host, Pace, producer_batch};

const DIR: DirId = DirId(0);
const NAME: &str = "orders-3";
const FOREIGN: [&str; 3] = ["my notes-0", "..-7", "gr\u{f6}\u{df}e-1"];

/// A flushed log of three batches, in a directory that Kafka has written.
fn flushed() -> (Host, u64) {
    let (mut host, now) = (Host::new(Pace::AtOnce), Now { wall_ms: 1_000_000, mono: Mono(0) });
    let mut log = Log::create(0, &mut FileIds::new(0), DIR, NAME.into(), Uuid([7; 16]), LogConfig::default());
    let batch = producer_batch(None, 3, 60, now.wall_ms);
    for _ in 0..3 {
        log.append(now, LeaderEpoch(0), None, std::slice::from_ref(&batch), &mut Vec::new)
            .expect("an append");
        host.run(&mut log, now);
    }
    log.flush(now, &mut Vec::new);
    host.run(&mut log, now);
    let point = encode_offsets([(NAME, 9)]);
    host.disk.replace(&Path::new(DIR, RECOVERY_POINT_CHECKPOINT), &point).expect("there is room");
    (host, batch.bytes().len() as u64)
}

/// What is written down of whose the checkpoints are has a line for each partition: one that cannot be read makes all of them say nothing, and
/// what is behind damage would count as never flushed.
#[test]
fn a_directory_that_no_topic_can_have_takes_nothing_from_the_others() {
    let (host, batch) = flushed();
    for name in FOREIGN {
        let file = Path::new(DIR, format!("{name}/00000000000000000000.log"));
        host.disk.replace(&file, b"whatever").expect("there is room");
    }
    // The length of the second batch.
    host.disk.damage(&format!("{NAME}/00000000000000000000.log"), batch + 11);
    for start in ["first", "second"] {
        let found = recover(&host.disk, DIR, &RecoveryPolicy::default()).expect("the disk works");
        let logs: Vec<_> = found.logs.iter().map(|log| (log.name(), log.end_offset())).collect();
        assert_eq!(logs, [(NAME, 9)], "{start} start: {:?}", found.findings);
        for name in FOREIGN {
            let is_named = found.findings.iter().any(|f| f.log == name && f.what == FindingKind::Foreign);
            assert!(is_named, "{start} start: {name} is not in {:?}", found.findings);
            let content = host.disk.content(&format!("{name}/00000000000000000000.log"));
            assert_eq!(content.as_deref(), Some(&b"whatever"[..]), "{start} start");
        }
        let topics = host.disk.content(TOPIC_ID_CHECKPOINT).expect("it is there");
        assert_eq!(parse_topic_ids(&topics), Ok(vec![(NAME.to_owned(), Uuid([7; 16]))]), "{start} start");
        host.disk.crash(Crash::Power, &mut Rng::seeded(1));
    }
}
