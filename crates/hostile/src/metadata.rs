//! Cluster metadata: the files of the quorum, and the records that they hold.

use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::Disk;
use moldau_base::{Mono, NodeId, Now, Uuid};
use moldau_controller::{Delta, Image, Record, snapshot};
use moldau_quorum::{Config, Event, Quorum};
use moldau_sim::disk::SimDisk;

use crate::directory::fill;
use crate::input::Input;
use crate::{Memory, Target};

/// The directory of the metadata quorum with any files.
pub const QUORUM: Target = Target {
    name: "quorum",
    proves: "a metadata log with any files is refused by name, or opens, takes a proposal and opens again with it",
    run: quorum,
    memory: Memory { base: 4 << 20, per_byte: 512 },
    per_mille: 100,
};

/// Records of the metadata log.
pub const IMAGE: Target = Target {
    name: "image",
    proves: "metadata records in any order are applied or refused, and the snapshot of what they make is the same image",
    run: image,
    memory: Memory { base: 1 << 20, per_byte: 2048 },
    per_mille: 500,
};

/// What a quorum says in answer to a start or a step.
fn committed(events: &[Event]) -> Vec<Bytes> {
    let mut values = Vec::new();
    for event in events {
        match event {
            Event::Restored { values: all, .. } => values.clone_from(all),
            Event::Committed(committed) => values.extend(committed.values.iter().cloned()),
            _ => {}
        }
    }
    values
}

fn start(disk: &Arc<SimDisk>) -> Option<(Quorum, Vec<Event>)> {
    let mut events = Vec::new();
    let disk: Arc<dyn Disk> = disk.clone();
    let config = Config::alone(NodeId(1), Uuid([9; 16]), 1);
    let quorum = Quorum::start(config, disk, Now { wall_ms: 1_000_000, mono: Mono(0) }, &mut events);
    match quorum {
        Ok(quorum) => Some((quorum, events)),
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal has a reason");
            None
        }
    }
}

fn quorum(input: &[u8]) {
    let disk = Arc::new(SimDisk::default());
    fill(&disk, &mut Input(input));
    let Some((mut quorum, events)) = start(&disk) else { return };
    let before = committed(&events);
    let value = Bytes::from_static(b"a value");
    let id = quorum.propose(vec![value.clone()]);
    let mut events = Vec::new();
    quorum.step(Now { wall_ms: 1_000_100, mono: Mono(100_000_000) }, &mut events);
    let accepted = events
        .iter()
        .any(|event| matches!(event, Event::Proposed { id: done, result: Ok(_) } if *done == id));
    drop(quorum);
    let Some((_, events)) = start(&disk) else { panic!("a log that opened opens again") };
    let after = committed(&events);
    if accepted {
        assert_eq!(after.split_last(), Some((&value, before.as_slice())), "what was committed is there");
    }
}

/// Records, one piece each.
fn image(input: &[u8]) {
    let mut input = Input(input);
    let empty = Image::new("cluster");
    let mut image = empty.clone();
    // The epochs of brokers are offsets of earlier records.
    let mut offset = 1 << 32;
    while let Some(piece) = input.piece() {
        let Ok(record) = Record::decode(Bytes::copy_from_slice(piece)) else { continue };
        let bytes = record.encode().expect("what was read can be written");
        assert_eq!(Record::decode(bytes), Ok(record.clone()));
        let before = image.clone();
        match image.apply(offset, &record) {
            Ok(()) => drop(Delta::between(&before, &image)),
            Err(_) => assert_eq!(image, before, "a record that does not fit changes nothing"),
        }
        offset += 1;
    }
    let mut again = empty.clone();
    for record in snapshot::records(&image) {
        let bytes = record.encode().expect("a snapshot can be written");
        let read = Record::decode(bytes).expect("a snapshot can be read");
        again.apply(image.offset(), &read).expect("a snapshot fits");
    }
    again.advance(image.offset());
    assert_eq!(again, image, "a snapshot holds everything");
    assert!(Delta::between(&again, &image).is_empty());
    drop(Delta::between(&image, &empty));
}
