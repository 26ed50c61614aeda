//! Where the replicas of a node go that is to be emptied: a plan, computed from what the cluster says and nothing else.
//!
//! A replica goes to the node that keeps the partition in as many zones as can be, and of those to the one that holds the least.
//! It takes the place of the one it replaces, so that leaders stay as evenly spread as they are.

use std::collections::BTreeMap;

use moldau_client::{Move, Moving, Node, Topic};

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Moves to begin.
    pub moves: Vec<Move>,
    /// Partitions that leave the node already, by a move that is under way.
    pub leaving: Vec<(String, i32)>,
    /// Partitions whose leader is to be elected anew.
    pub elect: Vec<(String, i32)>,
    /// Partitions that no other node can take.
    pub stuck: Vec<(String, i32)>,
}

/// What is left of a partition's replicas when the move that is under way is complete.
fn settled(replicas: &[i32], moving: Option<&Moving>) -> Vec<i32> {
    let goes = |id: &i32| moving.is_some_and(|moving| moving.removing.contains(id));
    replicas.iter().copied().filter(|id| !goes(id)).collect()
}

/// The plan that takes every replica away from `drained`.
pub fn replicas(nodes: &[Node], topics: &[Topic], moving: &[Moving], drained: i32) -> Plan {
    let mut plan = Plan::default();
    let mut held: BTreeMap<i32, usize> = BTreeMap::new();
    let partitions = || topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
    for id in partitions().flat_map(|(_, partition)| &partition.replicas) {
        *held.entry(*id).or_default() += 1;
    }
    for (topic, partition) in partitions().filter(|(_, partition)| partition.replicas.contains(&drained)) {
        let at = (topic.name.clone(), partition.index);
        let moving = moving.iter().find(|moving| moving.topic == at.0 && moving.partition == at.1);
        let stays = settled(&partition.replicas, moving);
        let Some(place) = stays.iter().position(|id| *id == drained) else {
            plan.leaving.push(at);
            continue;
        };
        let Some(taker) = taker(nodes, &stays, &held, drained) else {
            plan.stuck.push(at);
            continue;
        };
        *held.entry(taker).or_default() += 1;
        let mut target = stays;
        target[place] = taker;
        plan.moves.push(Move { topic: at.0, partition: at.1, replicas: Some(target) });
    }
    plan
}

/// Who takes the replica of `drained` in a partition that these nodes hold.
fn taker(nodes: &[Node], stays: &[i32], held: &BTreeMap<i32, usize>, drained: i32) -> Option<i32> {
    let zone = |id: i32| nodes.iter().find(|node| node.broker.id == id).map(|node| &node.broker.rack);
    let cost = |node: &&Node| {
        let id = node.broker.id;
        let same_zone = |other: &&i32| **other != drained && zone(**other) == Some(&node.broker.rack);
        (stays.iter().filter(same_zone).count(), held.get(&id).copied().unwrap_or(0), id)
    };
    let fit = nodes.iter().filter(|node| !node.fenced && !stays.contains(&node.broker.id));
    fit.min_by_key(cost).map(|node| node.broker.id)
}

/// The plan that takes leadership away from `drained`: where it is preferred or leads, another replica in sync is preferred.
pub fn leaders(topics: &[Topic], moving: &[Moving], drained: i32) -> Plan {
    let mut plan = Plan::default();
    for topic in topics {
        for partition in topic.partitions.iter().filter(|partition| partition.replicas.contains(&drained)) {
            let at = (topic.name.clone(), partition.index);
            let moving = moving.iter().find(|moving| moving.topic == at.0 && moving.partition == at.1);
            let stays = settled(&partition.replicas, moving);
            if stays.first() != Some(&drained) && partition.leader != drained {
                continue;
            }
            let next = stays.iter().copied().find(|id| *id != drained && partition.in_sync.contains(id));
            match next {
                // The end of a move elects a leader by itself.
                Some(_) if moving.is_some() => plan.leaving.push(at),
                Some(next) => {
                    let rest = stays.iter().copied().filter(|id| *id != next && *id != drained);
                    let target: Vec<i32> = [next].into_iter().chain(rest).chain([drained]).collect();
                    if target != stays {
                        let replicas = Some(target);
                        plan.moves.push(Move { topic: at.0.clone(), partition: at.1, replicas });
                    }
                    plan.elect.push(at);
                }
                None => plan.stuck.push(at),
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use moldau_client::{Broker, Partition};

    fn node(id: i32, zone: &str) -> Node {
        let broker = Broker { id, host: "h".into(), port: 1, rack: Some(zone.into()) };
        Node { broker, fenced: false }
    }

    fn topic(name: &str, replicas: &[&[i32]]) -> Topic {
        let partition = |(index, replicas): (i32, &&[i32])| Partition {
            index,
            leader: replicas[0],
            leader_epoch: 0,
            replicas: replicas.to_vec(),
            in_sync: replicas.to_vec(),
            offline: vec![],
        };
        Topic {
            name: name.into(),
            id: Default::default(),
            internal: false,
            partitions: (0..).zip(replicas).map(partition).collect(),
        }
    }

    fn targets(plan: &Plan) -> Vec<Vec<i32>> {
        plan.moves.iter().map(|wish| wish.replicas.clone().unwrap()).collect()
    }

    #[test]
    fn a_replica_goes_to_its_zone_and_to_who_holds_least() {
        let nodes = [node(1, "a"), node(2, "b"), node(3, "c"), node(4, "c"), node(5, "a")];
        let topics = [topic("t", &[&[3, 1, 2], &[1, 3, 2], &[1, 2]])];
        let plan = replicas(&nodes, &topics, &[], 3);
        assert_eq!(targets(&plan), [[4, 1, 2], [1, 4, 2]]);
        // In one zone, the load decides.
        let nodes = [node(1, "a"), node(2, "a"), node(3, "a"), node(4, "a")];
        let topics = [topic("t", &[&[3], &[3], &[1], &[1], &[2]])];
        assert_eq!(targets(&replicas(&nodes, &topics, &[], 3)), [[4], [2]]);
    }

    #[test]
    fn what_nobody_can_take_is_stuck() {
        let mut nodes = [node(1, "a"), node(2, "b"), node(3, "c"), node(4, "c")];
        nodes[3].fenced = true;
        let plan = replicas(&nodes, &[topic("t", &[&[3, 1, 2], &[3, 1]])], &[], 3);
        assert_eq!(plan.stuck, [("t".to_owned(), 0)]);
        assert_eq!(targets(&plan), [[2, 1]]);
    }

    #[test]
    fn a_move_that_is_under_way_is_taken_for_done() {
        let nodes = [node(1, "a"), node(2, "b"), node(3, "c"), node(4, "c")];
        let moving = |adding: i32, removing: i32| Moving {
            topic: "t".into(),
            partition: 0,
            replicas: vec![1, adding, removing],
            adding: vec![adding],
            removing: vec![removing],
        };
        let topics = [topic("t", &[&[1, 4, 3]])];
        assert_eq!(replicas(&nodes, &topics, &[moving(4, 3)], 3).leaving, [("t".to_owned(), 0)]);
        let topics = [topic("t", &[&[1, 3, 2]])];
        assert_eq!(targets(&replicas(&nodes, &topics, &[moving(3, 2)], 3)), [[1, 4]]);
    }

    #[test]
    fn leadership_goes_to_a_replica_in_sync() {
        let mut topics = [topic("t", &[&[3, 1, 2], &[1, 3], &[3], &[1, 2]])];
        topics[0].partitions[0].in_sync = vec![3, 2];
        topics[0].partitions[1].leader = 3;
        let plan = leaders(&topics, &[], 3);
        assert_eq!(targets(&plan), [[2, 1, 3]]);
        assert_eq!(plan.elect, [("t".to_owned(), 0), ("t".to_owned(), 1)]);
        assert_eq!(plan.stuck, [("t".to_owned(), 2)]);
    }
}
