//! A quorum of one on a disk that forgets.

use std::sync::Arc;

use crate::model::ModelDisk;
use bytes::Bytes;
use moldau_base::disk::Disk;
use moldau_base::{Mono, NodeId, Now, Rng, Uuid};
use moldau_quorum::{Config, Event, ProposeError, Quorum, StartError, Voter};
use proptest::prelude::{ProptestConfig, proptest};

const NODE: NodeId = NodeId(7);

fn config() -> Config {
    Config::alone(NODE, Uuid([9; 16]), 1)
}

fn at(ms: i64) -> Now {
    Now { wall_ms: 1_700_000_000_000 + ms, mono: Mono::default().after_ms(ms) }
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A host: it keeps what it was told is committed, with offsets.
struct Host {
    quorum: Quorum,
    image: Vec<String>,
    next_offset: i64,
    events: Vec<Event>,
}

impl Host {
    fn start(disk: &Arc<ModelDisk>) -> Result<Host, StartError> {
        Host::start_with(config(), disk)
    }

    fn start_with(config: Config, disk: &Arc<ModelDisk>) -> Result<Host, StartError> {
        let mut events = Vec::new();
        let disk: Arc<ModelDisk> = Arc::clone(disk);
        let quorum = Quorum::start(config, disk, at(0), &mut events)?;
        let mut host = Host { quorum, image: vec![], next_offset: 0, events: vec![] };
        host.take(events);
        Ok(host)
    }

    fn take(&mut self, events: Vec<Event>) {
        let text = |values: &[Bytes]| {
            values.iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect::<Vec<_>>()
        };
        for event in &events {
            match event {
                Event::Restored { next_offset, values } => {
                    self.image = text(values);
                    self.next_offset = *next_offset;
                }
                Event::Committed(committed) => {
                    assert_eq!(committed.base_offset, self.next_offset, "offsets have no gap");
                    self.next_offset = committed.next_offset;
                    self.image.extend(text(&committed.values));
                }
                _ => {}
            }
        }
        self.events.extend(events);
    }

    fn step(&mut self) {
        let mut events = Vec::new();
        self.quorum.step(at(1), &mut events);
        self.take(events);
    }

    /// Proposes and steps; true when the records are committed.
    fn propose(&mut self, values: &[&str]) -> bool {
        let id = self.quorum.propose(values.iter().map(|v| value(v)).collect());
        self.step();
        let offset = self.events.iter().find_map(|event| match event {
            Event::Proposed { id: of, result } if *of == id => result.as_ref().ok(),
            _ => None,
        });
        if let Some(offset) = offset {
            let at = |event: &&Event| matches!(event, Event::Committed(at) if at.base_offset == *offset);
            let Some(Event::Committed(committed)) = self.events.iter().find(at) else {
                panic!("no records at {offset}")
            };
            let told: Vec<&[u8]> = committed.values.iter().map(|value| &**value).collect();
            let proposed: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(told, proposed, "the answer is the offset at which it was committed");
        }
        offset.is_some()
    }

    fn snapshot(&mut self) {
        let values: Vec<Bytes> = self.image.iter().map(|v| value(v)).collect();
        self.quorum.snapshot(values.into_iter()).expect("snapshot");
        self.step();
    }

    fn epoch(&self) -> i32 {
        let leader = |event: &Event| match event {
            Event::Leader { epoch, leader: Some(NODE) } => Some(*epoch),
            _ => None,
        };
        self.events.iter().rev().find_map(leader).expect("it leads")
    }
}

#[test]
fn an_empty_directory_elects_at_once_and_keeps_what_it_acknowledged() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    let epoch = host.epoch();
    host.quorum.step(at(60_000), &mut vec![]);
    assert_eq!(host.quorum.deadline(), None, "a quorum of one needs no timer");
    assert!(host.propose(&["a", "b"]));
    assert!(host.propose(&["c"]));
    assert_eq!(host.image, ["a", "b", "c"]);
    drop(host);

    disk.crash(&mut Rng::seeded(1));
    let mut again = Host::start(&disk).expect("starts again");
    assert_eq!(again.image, ["a", "b", "c"], "all is committed when start returns");
    assert!(again.epoch() > epoch, "a new start is a new epoch");
    assert!(again.propose(&["d"]));
    assert_eq!(again.image, ["a", "b", "c", "d"]);
}

#[test]
fn the_same_inputs_give_the_same_events_and_bytes() {
    let run = || {
        let disk = Arc::new(ModelDisk::default());
        let mut host = Host::start(&disk).expect("starts");
        for i in 0..50 {
            host.quorum.propose(vec![value(&format!("r{i}"))]);
            if i % 7 == 0 {
                host.step();
            }
        }
        host.step();
        host.snapshot();
        let files: Vec<_> = disk.names();
        (host.events, files)
    };
    assert_eq!(run(), run());
}

#[test]
fn proposals_of_one_step_share_a_sync_and_keep_their_order() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    let before = disk.syncs();
    for i in 0..1000 {
        host.quorum.propose(vec![value(&i.to_string())]);
    }
    host.step();
    let expected: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    assert_eq!(host.image, expected);
    let syncs = disk.syncs() - before;
    assert!(syncs <= 20, "{syncs} syncs for 1000 proposals");
}

#[test]
fn a_snapshot_lets_the_log_go_and_is_where_the_next_start_begins() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    assert!(host.propose(&["a", "b"]));
    host.snapshot();
    assert!(host.propose(&["c"]));
    let segments: Vec<_> = disk.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
    drop(host);

    disk.crash(&mut Rng::seeded(3));
    let mut host = Host::start(&disk).expect("starts from the snapshot");
    assert!(matches!(host.events[0], Event::Restored { .. }));
    assert_eq!(host.image, ["a", "b", "c"]);
    assert!(host.propose(&["d"]));
    host.snapshot();
    drop(host);
    let host = Host::start(&disk).expect("starts from a snapshot with nothing after it");
    assert_eq!(host.image, ["a", "b", "c", "d"]);
    let snapshots = disk.names().into_iter().filter(|name| name.ends_with(".checkpoint")).count();
    assert_eq!(snapshots, 1, "older snapshots are gone");
}

#[test]
fn a_snapshot_is_due_when_the_log_has_grown() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start_with(Config { snapshot_bytes: 2000, ..config() }, &disk).expect("starts");
    for _ in 0..40 {
        host.propose(&["0123456789"]);
    }
    let due = |host: &Host| host.events.iter().filter(|event| **event == Event::SnapshotDue).count();
    assert_eq!(due(&host), 1, "asked for once");
    host.snapshot();
    for _ in 0..40 {
        host.propose(&["0123456789"]);
    }
    assert_eq!(due(&host), 2);
}

#[test]
fn a_torn_end_is_cut_and_damage_before_it_is_refused() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    for text in ["a", "b", "c", "d"] {
        assert!(host.propose(&[text]));
    }
    drop(host);
    let log = "__cluster_metadata-0/00000000000000000000.log";

    disk.damage(log, |bytes| bytes.extend_from_slice(&[0x55; 40]));
    let host = Host::start(&disk).expect("garbage at the end is a torn write");
    assert_eq!(host.quorum.cut_bytes(), 40);
    assert_eq!(host.image, ["a", "b", "c", "d"]);
    drop(host);

    disk.damage(log, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let error = Host::start(&disk).err().expect("damage is not a crash").to_string();
    assert!(error.contains("is damaged at byte") && error.contains("intact batches follow"), "{error}");
}

/// After a clean stop there is no torn end: the last entry was acknowledged, whatever is left of it.
#[test]
fn a_damaged_end_is_refused_after_a_clean_stop() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    assert!(host.propose(&["a"]) && host.propose(&["b"]));
    drop(host);
    let check = || moldau_quorum::check_end(&*disk, config().dir).map_err(|damage| damage.to_string());
    assert_eq!(check(), Ok(()));
    let log = "__cluster_metadata-0/00000000000000000000.log";
    disk.damage(log, |bytes| *bytes.last_mut().expect("entries") ^= 1);
    let refused = check().expect_err("the last entry is damaged");
    assert!(refused.contains("stopped cleanly") && refused.contains("00000000000000000000.log"), "{refused}");
}

/// Behind the damage nearly every place looks like the header of a long batch; the search for whole ones ends all the same.
#[test]
fn a_forged_end_does_not_take_for_ever() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    assert!(host.propose(&["a"]));
    drop(host);
    let mut builder =
        moldau_batch::Builder::new(moldau_batch::Codec::None).leader_epoch(1).producer(1 << 20, -1, 0);
    builder.push(0, None, Some(b"x"), &[]);
    let header = builder.build().expect("a small batch").slice(..moldau_batch::HEADER_BYTES);
    let len: usize = 16 << 20;
    disk.damage("__cluster_metadata-0/00000000000000000000.log", |bytes| {
        bytes.push(0);
        for at in (0..len).step_by(header.len()) {
            let rest = (len - at) as u32;
            bytes.extend_from_slice(&header[..8]);
            bytes.extend_from_slice(&rest.to_be_bytes());
            bytes.extend_from_slice(&header[12..]);
        }
    });
    let refused = Host::start(&disk).err().expect("no crash leaves that").to_string();
    assert!(refused.contains("looks like batches"), "{refused}");
}

#[test]
fn a_missing_piece_and_a_damaged_snapshot_are_refused() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    host.propose(&["a"]);
    host.snapshot();
    host.propose(&["b"]);
    drop(host);
    let snapshot = disk.names().into_iter().find(|name| name.ends_with(".checkpoint")).expect("a snapshot");
    disk.damage(&snapshot, |bytes| bytes.truncate(bytes.len() - 1));
    let error = Host::start(&disk).err().expect("refused").to_string();
    assert!(error.contains(".checkpoint"), "{error}");
}

/// Whatever bit of a snapshot flips, wherever it is cut, and whichever of its batches is missing: the start refuses it by its name.
#[test]
fn a_snapshot_is_whole_or_refused() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    host.propose(&["a", "b"]);
    host.snapshot();
    host.propose(&["c"]);
    drop(host);
    let name = disk.names().into_iter().find(|name| name.ends_with(".checkpoint")).expect("a snapshot");
    let path = moldau_base::disk::Path::new(config().dir, name.clone());
    let len = disk.len(&path).expect("the disk works").expect("a snapshot");
    let whole = disk.read(&path, 0, len as usize).expect("the disk works");
    let refused = |harmed: &[u8], what: &str| {
        disk.damage(&name, |bytes| *bytes = harmed.to_vec());
        let error = Host::start(&disk).err().unwrap_or_else(|| panic!("{what} is not seen")).to_string();
        assert!(error.contains(".checkpoint"), "{what}: {error}");
    };
    // No checksum covers the epochs of its batches, and those behind the first say nothing.
    let batches: Vec<usize> = std::iter::successors(Some(0), |at| {
        let next = at + moldau_batch::Header::verify(&whole[*at..]).expect("a batch").size();
        (next < whole.len()).then_some(next)
    })
    .collect();
    let is_epoch = |at: usize| batches[1..].iter().any(|batch| (12..16).contains(&at.wrapping_sub(*batch)));
    for at in 0..whole.len() {
        refused(&whole[..at], &format!("a cut at {at}"));
        for bit in [1, 0x80].into_iter().filter(|_| !is_epoch(at)) {
            let mut harmed = whole.to_vec();
            harmed[at] ^= bit;
            refused(&harmed, &format!("a flip of {bit} in byte {at}"));
        }
    }
    for (i, at) in batches.iter().copied().enumerate() {
        let end = batches.get(i + 1).copied().unwrap_or(whole.len());
        refused(&[&whole[..at], &whole[end..]].concat(), &format!("that the batch at {at} is missing"));
    }
    disk.damage(&name, |bytes| *bytes = whole.to_vec());
    assert_eq!(Host::start(&disk).expect("it is whole again").image, ["a", "b", "c"]);
}

#[test]
fn a_failed_sync_ends_it_and_leaves_the_outcome_open() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    assert!(host.propose(&["a"]));
    disk.fail_after(1);
    assert!(!host.propose(&["b"]));
    let unknown =
        |event: &Event| matches!(event, Event::Proposed { result: Err(ProposeError::Unknown(_)), .. });
    assert!(host.events.iter().any(unknown), "{:?}", host.events.last());
    assert!(
        host.events
            .iter()
            .any(|event| matches!(event, Event::Failed(why) if why.contains("the disk is gone")))
    );
    assert!(!host.propose(&["c"]), "nothing is committed after that");
}

#[test]
fn what_cannot_be_proposed_is_refused() {
    let disk = Arc::new(ModelDisk::default());
    let mut host = Host::start(&disk).expect("starts");
    assert!(!host.propose(&[]));
    assert!(matches!(
        host.events.last(),
        Some(Event::Proposed { result: Err(ProposeError::Refused("no records")), .. })
    ));
}

#[test]
fn other_voters_are_refused() {
    let disk = Arc::new(ModelDisk::default());
    let voters = |ids: &[i32]| ids.iter().map(|id| (NodeId(*id), Voter::default())).collect();
    let without_us = Config { voters: voters(&[1, 2, 8]), ..config() };
    assert!(matches!(Host::start_with(without_us, &disk), Err(StartError::NotVoter { .. })));
    drop(Host::start(&disk).expect("starts"));
    for other in
        [Config::alone(NodeId(8), Uuid([9; 16]), 1), Config { voters: voters(&[1, 2, 7]), ..config() }]
    {
        assert!(matches!(Host::start_with(other, &disk), Err(StartError::OtherVoters { .. })));
    }
}

/// One life after the other: proposals, snapshots, a crash at any disk operation.
fn lives(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let disk = Arc::new(ModelDisk::default());
    let mut acknowledged: Vec<String> = Vec::new();
    let mut attempted: Vec<String> = Vec::new();
    let mut epoch = -1;
    let segment_bytes = 200 + rng.below(2000);
    for life in 0..8 {
        if rng.chance(1, 4) {
            disk.fail_after(rng.below(6));
        }
        let config = Config { segment_bytes, seed: rng.next_u64(), ..config() };
        let Ok(mut host) = Host::start_with(config, &disk) else {
            disk.crash(&mut rng);
            continue;
        };
        let leads = host.events.iter().any(|event| matches!(event, Event::Leader { leader: Some(NODE), .. }));
        if leads {
            assert!(host.epoch() > epoch);
            epoch = host.epoch();
            assert!(host.image.len() >= acknowledged.len(), "lost: {:?} of {acknowledged:?}", host.image);
            assert_eq!(host.image[..acknowledged.len()], acknowledged, "kept, in order");
            let unknown = &host.image[acknowledged.len()..];
            assert!(unknown.iter().all(|text| attempted.contains(text)), "nothing appears from nowhere");
            acknowledged = host.image.clone();
        }
        if rng.chance(2, 3) {
            disk.fail_after(rng.below(60));
        }
        for i in 0..rng.below(40) {
            if rng.chance(1, 12) {
                let values: Vec<Bytes> = host.image.iter().map(|v| value(v)).collect();
                let _ = host.quorum.snapshot(values.into_iter());
                host.step();
                continue;
            }
            for j in 0..1 + rng.below(3) {
                let text = format!("{life}.{i}.{j}");
                attempted.push(text.clone());
                host.quorum.propose(vec![value(&text), value(&format!("{text}+"))]);
                attempted.push(format!("{text}+"));
            }
            host.step();
            if host.events.iter().any(|event| matches!(event, Event::Failed(_))) {
                break;
            }
            acknowledged = host.image.clone();
        }
        drop(host);
        disk.crash(&mut rng);
    }
    let host = Host::start(&disk).expect("the last start");
    assert_eq!(host.image[..acknowledged.len()], acknowledged);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn nothing_acknowledged_is_lost_in_a_crash(seed: u64) {
        lives(seed);
    }
}
