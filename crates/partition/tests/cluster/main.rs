//! Properties of several replicas together, over random histories: what is acknowledged stays, what is committed does not change,
//! everyone in the in-sync set has it, and when everything works again the replicas come together. With the feature `planted`,
//! bugs that are planted on purpose have to be found by the same histories.

mod controller;
mod hosts;
mod log;
mod messages;
mod model;
mod promises;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use world::{Action, Bounds, Broken, World};

const BOUNDS: Bounds = Bounds {
    nodes: 3,
    min_isr: 2,
    records: 40,
    messages: 8,
    changes: 40,
    deaths: 8,
    evidence: 6,
    everything: true,
};

/// How likely an action is beside the others.
fn weight(action: &Action) -> u32 {
    match action {
        Action::Learn { .. } | Action::Store { .. } | Action::Deliver { .. } => 12,
        Action::Ask { .. } | Action::FinishCut { .. } => 8,
        Action::Produce { .. } | Action::Unfence { .. } | Action::Restart { .. } => 6,
        Action::Repeat { .. } | Action::Drop { .. } | Action::GiveUp { .. } | Action::Gone { .. } => 2,
        Action::Pass { .. } => 2,
        Action::Fence { .. }
        | Action::DeliverLate { .. }
        | Action::Elect { .. }
        | Action::Die { .. }
        | Action::LoseTail { .. }
        | Action::DeleteRecords { .. } => 1,
    }
}

fn choose(actions: Vec<Action>, choice: u32) -> Option<Action> {
    let sum: u32 = actions.iter().map(weight).sum();
    let mut left = choice % sum.max(1);
    actions.into_iter().find(|action| {
        let (here, weight) = (left, weight(action));
        left = left.saturating_sub(weight);
        here < weight
    })
}

/// What random histories hardly ever meet: a follower's fetch comes when its leader leads again, two epochs later, and the follower
/// has cut its log in between.
fn a_fetch_comes_two_epochs_late() -> Result<(), Broken> {
    let mut world = World::new(BOUNDS);
    let deliver = |world: &mut World| {
        while !world.messages.is_empty() {
            world.act(&Action::Deliver { message: 0 });
        }
    };
    let fetch = |world: &mut World, node: usize| {
        world.act(&Action::Ask { node });
        deliver(world);
    };
    world.act(&Action::Produce { node: 0, all: false });
    world.act(&Action::Store { node: 0 });
    fetch(&mut world, 1);
    world.act(&Action::Store { node: 1 });
    world.act(&Action::Ask { node: 1 });
    world.act(&Action::Repeat { message: 0 });
    world.act(&Action::Drop { message: 0 });
    world.act(&Action::Elect { node: 2 });
    world.act(&Action::Learn { node: 2 });
    world.act(&Action::Learn { node: 1 });
    fetch(&mut world, 1);
    world.act(&Action::FinishCut { node: 1 });
    world.act(&Action::Elect { node: 0 });
    for node in [0, 0, 2] {
        world.act(&Action::Learn { node });
    }
    fetch(&mut world, 2);
    world.act(&Action::Store { node: 2 });
    fetch(&mut world, 2);
    world.act(&Action::DeliverLate { message: 0 });
    let cut = world.nodes[1].log.end() == 0 && world.nodes[2].log.end() == 1;
    if !cut {
        world.broken.get_or_insert_with(|| "the history is not what it should be".into());
    }
    world.broken.map_or(Ok(()), Err)
}

#[test]
fn a_fetch_of_an_earlier_epoch_tells_nothing() {
    assert_eq!(a_fetch_comes_two_epochs_late(), Ok(()));
}

/// Lets happen what the choices say, then heals; the first broken promise.
fn play(bounds: Bounds, choices: &[u32]) -> Result<(), Broken> {
    let mut world = World::new(bounds);
    let mut trace = Vec::new();
    for &choice in choices {
        let Some(action) = choose(world.actions(), choice) else { break };
        trace.push(format!("{action:?}"));
        world.act(&action);
        if let Some(broken) = world.broken {
            return Err(format!("{broken}\n  {}", trace.join("\n  ")));
        }
    }
    world.heal();
    match world.broken {
        Some(broken) => Err(format!("when healed: {broken}\n  {}", trace.join("\n  "))),
        None => Ok(()),
    }
}

proptest! {
    // More with PROPTEST_CASES.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        max_shrink_iters: 1_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn replicas_keep_their_promises(choices in vec(any::<u32>(), 0..400), min_isr in 1usize..4) {
        let held = play(Bounds { min_isr, ..BOUNDS }, &choices);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }
}

#[cfg(feature = "planted")]
mod planted {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use moldau_base::Rng;
    use moldau_base::planted::{Bug, plant};

    use super::*;

    /// The first of so many histories that finds what is planted.
    fn seeds_to_find(seeds: u64) -> Option<u64> {
        (0..seeds).find(|&seed| {
            let mut rng = Rng::seeded(seed);
            let choices: Vec<u32> = (0..500).map(|_| rng.below(u64::from(u32::MAX)) as u32).collect();
            let bounds = Bounds { min_isr: 1 + (seed % 2) as usize, ..BOUNDS };
            // An assert of the core finds a bug as well.
            !catch_unwind(AssertUnwindSafe(|| play(bounds, &choices))).is_ok_and(|held| held.is_ok())
        })
    }

    #[test]
    fn planted_bugs_are_found() {
        let mut missed = Vec::new();
        for &bug in Bug::OF_REPLICAS {
            plant(Some(bug));
            let found = match bug {
                Bug::AnyEpochCounts => a_fetch_comes_two_epochs_late().err(),
                _ => seeds_to_find(1_000).map(|seed| format!("seed {seed}")),
            };
            plant(None);
            println!("{:<26} {}", bug.name(), found.as_deref().unwrap_or("NOT FOUND"));
            if found.is_none() {
                missed.push(bug.name());
            }
        }
        assert_eq!(seeds_to_find(50), None, "nothing is planted");
        assert!(missed.is_empty(), "not found: {missed:?}");
    }
}
