//! Where replicas of new partitions go.
//!
//! The goals are those of Kafka's striped placement (KIP-36, KIP-631): never two replicas of a partition on
//! one broker; a leader that is active; replicas of a partition spread over racks; leaders and replicas
//! spread evenly over brokers, so that losing one broker spreads its load over the others. Racks are taken in
//! turn, and within a rack brokers in turn, active ones before fenced ones; the starting points are random,
//! and everything is shuffled anew when the pattern would begin to repeat.

use std::collections::BTreeMap;

use moldau_base::{NodeId, Rng};

use crate::image::Image;

/// Why partitions cannot be placed; the sentences are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplaceable {
    /// No broker can lead.
    #[error("All brokers are currently fenced.")]
    AllFenced,
    /// More replicas than brokers.
    #[error(
        "The target replication factor of {wanted} cannot be reached because only {brokers} broker(s) are registered."
    )]
    TooFewBrokers {
        /// Replicas asked for.
        wanted: usize,
        /// Brokers there are.
        brokers: usize,
    },
}

/// Brokers taken in turn, for leading and for following on their own, or the stripes of racks and brokers
/// would always let the same ones lead.
#[derive(Default)]
struct Ring {
    brokers: Vec<NodeId>,
    leads: usize,
    follows: usize,
}

impl Ring {
    fn leader(&mut self) -> Option<NodeId> {
        let leader = *self.brokers.get(self.leads)?;
        self.leads = (self.leads + 1) % self.brokers.len();
        Some(leader)
    }

    /// The next broker that does not hold the partition yet.
    fn follower(&mut self, holds: &[NodeId]) -> Option<NodeId> {
        let len = self.brokers.len();
        let mut places = (0..len).map(|i| (self.follows + i) % len);
        let at = places.find(|at| !holds.contains(&self.brokers[*at]))?;
        self.follows = (at + 1) % len;
        Some(self.brokers[at])
    }
}

#[derive(Default)]
struct Rack {
    active: Ring,
    fenced: Ring,
}

impl Rack {
    fn follower(&mut self, holds: &[NodeId]) -> Option<NodeId> {
        self.active.follower(holds).or_else(|| self.fenced.follower(holds))
    }
}

/// Places one partition after the other.
struct Placer {
    racks: Vec<Rack>,
    /// Where the next partition's leader is looked for.
    next: usize,
    /// How many brokers can lead.
    active: usize,
    placed: usize,
}

impl Placer {
    fn new(image: &Image, rng: &mut Rng) -> Placer {
        let mut by_rack: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        for broker in image.brokers().values() {
            let rack = by_rack.entry(broker.rack.as_deref()).or_default();
            let ring = if broker.is_active() { &mut rack.active } else { &mut rack.fenced };
            ring.brokers.push(broker.id);
        }
        let racks: Vec<Rack> = by_rack.into_values().collect();
        let active = racks.iter().map(|rack| rack.active.brokers.len()).sum();
        let mut placer = Placer { racks, next: 0, active, placed: 0 };
        placer.turn(rng);
        placer
    }

    /// A random order of the racks and of the brokers within them.
    fn turn(&mut self, rng: &mut Rng) {
        shuffle(&mut self.racks, rng);
        for rack in &mut self.racks {
            shuffle(&mut rack.active.brokers, rng);
            shuffle(&mut rack.fenced.brokers, rng);
        }
    }

    fn place(&mut self, replicas: usize, rng: &mut Rng) -> Vec<NodeId> {
        if self.placed > 0 && self.active > 1 && self.placed.is_multiple_of(self.active) {
            self.turn(rng);
        }
        self.placed += 1;
        let racks = self.racks.len();
        let lead = (0..racks).map(|i| (self.next + i) % racks);
        let found = lead.map(|at| (at, self.racks[at].active.leader())).find(|(_, leader)| leader.is_some());
        let Some((leads, Some(leader))) = found else { return vec![] };
        self.next = (leads + 1) % racks;

        let mut holds = vec![leader];
        let mut at = leads;
        let mut misses = 0;
        while holds.len() < replicas && misses < racks {
            at = (at + 1) % racks;
            match self.racks[at].follower(&holds) {
                Some(broker) => {
                    holds.push(broker);
                    misses = 0;
                }
                None => misses += 1,
            }
        }
        holds
    }
}

/// Replicas for `partitions` new partitions, the leader first in each.
pub fn place(
    image: &Image,
    partitions: usize,
    replicas: usize,
    rng: &mut Rng,
) -> Result<Vec<Vec<NodeId>>, Unplaceable> {
    let mut placer = Placer::new(image, rng);
    if placer.active == 0 {
        return Err(Unplaceable::AllFenced);
    }
    let brokers = image.brokers().len();
    if replicas > brokers {
        return Err(Unplaceable::TooFewBrokers { wanted: replicas, brokers });
    }
    Ok((0..partitions).map(|_| placer.place(replicas, rng)).collect())
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.below(i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use moldau_base::{BrokerEpoch, Rng};
    use proptest::prelude::*;

    use super::*;
    use crate::image::Broker;
    use crate::record::Record;

    /// Brokers numbered from 0, each with its rack and whether it is fenced.
    fn image(brokers: &[(Option<&str>, bool)]) -> Image {
        let mut image = Image::new("test");
        for (id, (rack, fenced)) in (0..).zip(brokers) {
            let broker = Broker {
                id: NodeId(id),
                epoch: BrokerEpoch(i64::from(id)),
                incarnation: moldau_base::Uuid::ZERO,
                listeners: vec![],
                rack: rack.map(Arc::from),
                features: vec![],
                log_dirs: vec![],
                fenced: *fenced,
                stopping: false,
            };
            image.apply(i64::from(id), &Record::RegisterBroker(broker)).expect("fits");
        }
        image
    }

    fn leaders(placed: &[Vec<NodeId>], brokers: usize) -> Vec<usize> {
        let mut count = vec![0; brokers];
        for replicas in placed {
            count[replicas[0].0 as usize] += 1;
        }
        count
    }

    #[test]
    fn too_many_replicas_and_nobody_awake() {
        let mut rng = Rng::seeded(1);
        let wanted = Unplaceable::TooFewBrokers { wanted: 2, brokers: 1 };
        assert_eq!(place(&image(&[(None, false)]), 1, 2, &mut rng), Err(wanted));
        assert_eq!(place(&image(&[(None, true)]), 1, 1, &mut rng), Err(Unplaceable::AllFenced));
        assert_eq!(place(&image(&[]), 1, 1, &mut rng), Err(Unplaceable::AllFenced));
    }

    proptest! {
        #[test]
        fn goals(racks in 1usize..5, per_rack in 1usize..4, replicas in 1usize..6, partitions in 1usize..60, seed: u64) {
            let names = ["a", "b", "c", "d"];
            let brokers: Vec<_> = (0..racks * per_rack).map(|i| (Some(names[i % racks]), false)).collect();
            let image = image(&brokers);
            let replicas = replicas.min(brokers.len());
            let placed = place(&image, partitions, replicas, &mut Rng::seeded(seed)).expect("enough brokers");
            prop_assert_eq!(placed.len(), partitions);
            for chosen in &placed {
                let mut unique = chosen.clone();
                unique.sort();
                unique.dedup();
                prop_assert_eq!(unique.len(), replicas, "a broker at most once");
                let mut zones: Vec<_> = chosen.iter().map(|id| id.0 as usize % racks).collect();
                zones.sort();
                zones.dedup();
                prop_assert_eq!(zones.len(), replicas.min(racks), "as many racks as can be");
            }
            let lead = leaders(&placed, brokers.len());
            let (low, high) = (lead.iter().min().copied().unwrap_or(0), lead.iter().max().copied().unwrap_or(0));
            prop_assert!(high - low <= 2 + partitions / brokers.len(), "leaders spread: {lead:?}");
        }

        #[test]
        fn fenced_brokers_never_lead(fenced in proptest::collection::vec(any::<bool>(), 1..8), seed: u64) {
            let brokers: Vec<_> = fenced.iter().map(|f| (None, *f)).collect();
            let result = place(&image(&brokers), 20, brokers.len(), &mut Rng::seeded(seed));
            match result {
                Err(e) => prop_assert!(e == Unplaceable::AllFenced && fenced.iter().all(|f| *f)),
                Ok(placed) => prop_assert!(placed.iter().all(|r| !fenced[r[0].0 as usize] && r.len() == fenced.len())),
            }
        }

        #[test]
        fn one_rack_spreads_leaders_evenly(brokers in 1usize..8, rounds in 1usize..5, seed: u64) {
            let brokers = vec![(None, false); brokers];
            let placed = place(&image(&brokers), brokers.len() * rounds, 1, &mut Rng::seeded(seed)).expect("placed");
            prop_assert_eq!(leaders(&placed, brokers.len()), vec![rounds; brokers.len()]);
        }
    }
}
