//! Other voters while the quorum runs, and disks that were replaced: in the simulated network of [`crate::voters`].

use moldau_base::voter::{Voter, VoterChange, VoterRefusal};
use moldau_base::{NodeId, Rng, Uuid};
use moldau_quorum::{Event, Given, Pull, Wanted};

use crate::voters::{World, id};

const PATIENCE_MS: u64 = 3_000;

fn add(world: &World, at: usize) -> VoterChange {
    let voter = Voter::from(world.nodes[at].directory);
    VoterChange::Add { node: id(at), voter, patience_ms: PATIENCE_MS }
}

fn remove(world: &World, at: usize) -> VoterChange {
    VoterChange::Remove { node: id(at), directory: world.nodes[at].directory }
}

/// Has the leader make a change, and waits for its outcome.
fn changed(world: &mut World, change: impl FnOnce(&World) -> VoterChange) -> Result<(), VoterRefusal> {
    let leader = world.leader().expect("somebody leads");
    let change = change(world);
    let token = world.change(leader, change);
    for _ in 0..200 {
        world.run(100_000);
        if let Some(result) = world.changed.remove(&token) {
            return result;
        }
    }
    panic!("the change has no outcome");
}

fn voters(world: &World) -> Vec<i32> {
    let leader = world.leader().expect("somebody leads");
    world.nodes[leader].voters.voters.keys().map(|node| node.0).collect()
}

/// Proposals are committed, sooner or later: the network loses some of what is said.
fn goes_on(world: &mut World) {
    let before = world.acknowledged.len();
    for _ in 0..40 {
        if let Some(leader) = world.leader() {
            world.propose(leader);
        }
        world.run(300_000);
        if world.acknowledged.len() > before + 1 {
            return;
        }
    }
    panic!("nothing is committed");
}

#[test]
fn the_log_learns_where_each_voter_keeps_its_log() {
    let mut world = World::with_joiners(1, 3, 0);
    world.run(3_000_000);
    let known = &world.nodes[world.leader().expect("somebody leads")].voters.voters;
    for (at, node) in world.nodes.iter().enumerate() {
        assert_eq!(known[&id(at)].directory, node.directory);
    }
    world.finish();
}

#[test]
fn voters_come_and_go() {
    let mut world = World::with_joiners(2, 3, 2);
    world.run(2_000_000);
    goes_on(&mut world);
    assert_eq!(changed(&mut world, |world| add(world, 3)), Ok(()));
    assert_eq!(changed(&mut world, |world| add(world, 4)), Ok(()));
    assert_eq!(voters(&world), [1, 2, 3, 4, 5]);
    // Two of five may die.
    for _ in 0..2 {
        let leader = world.leader().expect("somebody leads");
        world.crash(leader);
        world.run(3_000_000);
    }
    goes_on(&mut world);
    world.heal();
    world.run(3_000_000);
    for gone in 0..3 {
        assert_eq!(changed(&mut world, |world| remove(world, gone)), Ok(()), "{gone}");
        world.run(3_000_000);
    }
    assert_eq!(voters(&world), [4, 5]);
    assert!(world.leader().is_some_and(|leader| leader >= 3), "one that votes leads");
    goes_on(&mut world);
    // Those that vote no more still get the log.
    world.finish();
    for at in 0..5 {
        world.crash(at);
        world.start(at);
    }
    world.run(3_000_000);
    assert_eq!(voters(&world), [4, 5], "the log says who votes, not the configuration");
    world.finish();
}

/// Nobody is left who could follow it, and nobody who could lead in its place.
#[test]
fn the_last_voter_is_heard_by_observers() {
    let mut world = World::with_joiners(5, 2, 0);
    world.run(3_000_000);
    let last = world.leader().expect("somebody leads");
    assert_eq!(changed(&mut world, |world| remove(world, 1 - last)), Ok(()));
    world.crash(1 - last);
    world.run(10_000_000);
    let now = world.time();
    let quorum = world.nodes[last].quorum.as_mut().expect("it runs");
    let wanted = Wanted::Records { from: 0, last_epoch: None, max_bytes: 1 << 20, wait_ms: 0 };
    quorum.pull(1, Pull { observer: Some(NodeId(9)), directory: Uuid::ZERO, wanted }, now);
    let mut events = Vec::new();
    quorum.step(now, &mut events);
    let told = events.into_iter().find_map(|event| match event {
        Event::Pulled { token: 1, pulled } => Some(pulled),
        _ => None,
    });
    let told = told.expect("an answer at once");
    assert_eq!(told.leader, Some(id(last)));
    assert!(matches!(told.given, Given::Records { batches, .. } if !batches.is_empty()));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = World::with_joiners(3, 3, 1);
    world.run(3_000_000);
    let leader = world.leader().expect("somebody leads");
    let follower = (leader + 1) % 3;
    let token = world.change(follower, add(&world, 3));
    world.run(1_000);
    assert_eq!(world.changed[&token], Err(VoterRefusal::NotLeader));
    assert_eq!(changed(&mut world, |world| add(world, 1)), Err(VoterRefusal::Duplicate(NodeId(2))));
    let other = Uuid([77; 16]);
    let of_another_disk = VoterChange::Remove { node: NodeId(2), directory: other };
    assert_eq!(changed(&mut world, |_| of_another_disk), Err(VoterRefusal::NotFound(NodeId(2), other)));
    assert!(matches!(changed(&mut world, |world| remove(world, 3)), Err(VoterRefusal::NotFound(..))));
    // It is not there.
    world.crash(3);
    assert_eq!(changed(&mut world, |world| add(world, 3)), Err(VoterRefusal::Lagging(NodeId(4))));
    // Somebody else is not there either, while it is waited for.
    let slow = world.change(leader, add(&world, 3));
    let second = world.change(leader, remove(&world, follower));
    world.run(1_000);
    assert_eq!(world.changed[&second], Err(VoterRefusal::UnderWay));
    world.start(3);
    world.run(2_000_000);
    assert_eq!(world.changed[&slow], Ok(()), "it came in time");
    for _ in 0..3 {
        let leader = world.leader().expect("somebody leads");
        let other = (0..4).find(|at| *at != leader && voters(&world).contains(&id(*at).0));
        assert_eq!(changed(&mut world, |world| remove(world, other.expect("another voter"))), Ok(()));
    }
    let last = world.leader().expect("somebody leads");
    assert_eq!(changed(&mut world, |world| remove(world, last)), Err(VoterRefusal::Last(id(last))));
    goes_on(&mut world);
    world.finish();
}

#[test]
fn a_replaced_disk_votes_only_after_it_was_added() {
    for seed in 10..14 {
        let mut world = World::with_joiners(seed, 3, 0);
        world.run(3_000_000);
        goes_on(&mut world);
        let leader = world.leader().expect("somebody leads");
        let (lost, other) = ((leader + 1) % 3, (leader + 2) % 3);
        // What is committed now is on the leader and on the disk that will be lost.
        world.crash(other);
        goes_on(&mut world);
        let replaced = remove(&world, lost);
        for at in [leader, lost] {
            world.crash(at);
        }
        world.nodes[lost].disk = Default::default();
        world.nodes[lost].directory = Uuid([100; 16]);
        world.start(lost);
        world.start(other);
        world.run(10_000_000);
        assert_eq!(world.leader(), None, "seed {seed}: two of three, and one of them knows nothing");
        world.start(leader);
        world.run(5_000_000);
        goes_on(&mut world);
        assert!(world.nodes[lost].warnings.iter().any(|said| said.contains("its disk was replaced")));
        assert_eq!(world.nodes[lost].next_offset, 0, "it is not fed as if it were the old one");
        assert_eq!(changed(&mut world, |world| add(world, lost)), Err(VoterRefusal::Duplicate(id(lost))));
        assert_eq!(changed(&mut world, |_| replaced), Ok(()));
        assert_eq!(changed(&mut world, |world| add(world, lost)), Ok(()));
        // Its vote counts again.
        let leader = world.leader().expect("somebody leads");
        world.crash((0..3).find(|at| *at != leader && *at != lost).expect("the third"));
        world.run(3_000_000);
        goes_on(&mut world);
        world.finish();
    }
}

/// Adds and removes at random among faults; what it comes to is checked by the world.
#[test]
fn voters_change_among_faults() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..6 {
        let mut world = World::with_joiners(200 + seed, 3, 2);
        let mut rng = Rng::seeded(seed);
        world.run(2_000_000);
        for _ in 0..250 {
            world.act();
            if let Some(leader) = world.leader().filter(|_| rng.chance(1, 10)) {
                let at = rng.below(5) as usize;
                let votes = world.nodes[leader].voters.voters.contains_key(&id(at));
                let enough = world.nodes[leader].voters.voters.len() > 3;
                let change = if votes { remove(&world, at) } else { add(&world, at) };
                if !votes || enough {
                    world.change(leader, change);
                }
            }
            world.run(rng.below(80_000));
        }
        world.finish();
        done += world.changed.values().filter(|result| result.is_ok()).count();
        refused += world.changed.values().filter(|result| result.is_err()).count();
    }
    assert!(done > 10 && refused > 0, "{done} changes, {refused} refused");
}

#[test]
fn who_does_not_answer_is_told_and_then_not_any_more() {
    let mut world = World::with_joiners(4, 3, 0);
    world.run(3_000_000);
    let left = world.leader().expect("somebody leads");
    let gone = [(left + 1) % 3, (left + 2) % 3];
    gone.iter().for_each(|at| world.crash(*at));
    world.run(3_000_000);
    let mut silent: Vec<NodeId> = gone.iter().map(|at| id(*at)).collect();
    silent.sort_unstable();
    assert_eq!(world.nodes[left].silent, silent);
    world.finish();
    assert_eq!(world.nodes[left].silent, []);
}
