//! A full disk: a change that has no place is refused and nothing else happens; a start goes on.

use std::sync::Arc;

use crate::model::ModelDisk;
use moldau_base::{NodeId, Now, Uuid};
use moldau_quorum::{Config, Event, ProposeError, Quorum};

fn start(disk: &Arc<ModelDisk>) -> Quorum {
    let config = Config { segment_bytes: 4_000, ..Config::alone(NodeId(7), Uuid([9; 16]), 1) };
    Quorum::start(config, disk.clone(), Now::default(), &mut vec![]).expect("it starts")
}

/// Proposes records of so many bytes; what became of them.
fn propose(quorum: &mut Quorum, bytes: usize) -> Result<i64, ProposeError> {
    let (mut events, id) = (Vec::new(), quorum.propose(vec![vec![5; bytes].into()]));
    quorum.step(Now::default(), &mut events);
    let failed = events.iter().any(|event| matches!(event, Event::Failed(_)));
    assert!(!failed, "a full disk is no failure: {events:?}");
    let ends = events.into_iter().filter_map(|event| match event {
        Event::Proposed { id: other, result } if other == id => Some(result),
        _ => None,
    });
    ends.last().expect("a proposal has an end")
}

#[test]
fn a_change_without_room_is_refused_and_the_next_goes_on() {
    let disk = Arc::new(ModelDisk::default());
    let mut quorum = start(&disk);
    propose(&mut quorum, 100).expect("there is room");
    disk.limit_space(Some(0));
    let mut refused = 0;
    for _ in 0..200 {
        match propose(&mut quorum, 1_000) {
            Ok(_) => assert_eq!(refused, 0, "there is no room any more"),
            Err(ProposeError::NoRoom(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 100, "{refused}");
    let end = quorum.next_offset();
    // Less than what is asked for ahead.
    disk.limit_space(Some(3_000));
    assert_eq!(propose(&mut quorum, 1_000), Ok(end));
    disk.limit_space(None);
    assert_eq!(propose(&mut quorum, 1_000), Ok(end + 1));
    drop(quorum);
    assert_eq!(start(&disk).next_offset(), end + 3, "and the start of another leader");
}

#[test]
fn a_node_starts_on_a_full_disk() {
    let disk = Arc::new(ModelDisk::default());
    let mut quorum = start(&disk);
    propose(&mut quorum, 100).expect("there is room");
    drop(quorum);
    disk.limit_space(Some(0));
    for life in 0..10 {
        let mut quorum = start(&disk);
        propose(&mut quorum, 100).unwrap_or_else(|error| panic!("its registration, life {life}: {error}"));
    }
}

#[test]
fn a_snapshot_without_room_leaves_nothing_behind() {
    let disk = Arc::new(ModelDisk::default());
    let mut quorum = start(&disk);
    propose(&mut quorum, 100).expect("there is room");
    disk.limit_space(Some(500));
    let files = disk.names();
    quorum.snapshot(std::iter::once(vec![1; 1_000].into())).expect_err("there is no room");
    assert_eq!(disk.names(), files);
    propose(&mut quorum, 100).expect("it goes on");
}
