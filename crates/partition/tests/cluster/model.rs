//! The same replicas, exhaustively: every history within small bounds, found by stateright.

use stateright::{Checker, Model, Property};

use crate::world::{Action, Bounds, World};

/// Every history within bounds.
struct Small(Bounds);

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_none() {
            actions.extend(world.actions());
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(&action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("promises are kept", |_, world: &World| world.broken.is_none()),
            Property::sometimes("a record is committed", |_, world: &World| !world.committed.is_empty()),
            Property::sometimes("another leader commits", |_, world: &World| {
                world.committed.iter().any(|&(epoch, _)| epoch > 0)
            }),
            Property::sometimes("the in-sync set has shrunk and grown", |_, world: &World| {
                let sizes: Vec<usize> = world.metadata.iter().map(|change| change.isr.len()).collect();
                sizes.windows(2).any(|pair| pair[0] < pair[1])
            }),
        ]
    }
}

fn exhaust(bounds: Bounds) {
    let checker = Small(bounds).checker().spawn_dfs().join();
    println!("{} states of {bounds:?}", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn two_replicas_exhaustively() {
    exhaust(Bounds {
        nodes: 2,
        min_isr: 1,
        records: 1,
        messages: 1,
        changes: 3,
        deaths: 1,
        evidence: 1,
        everything: false,
    });
}
