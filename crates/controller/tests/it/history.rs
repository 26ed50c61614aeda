//! Random histories: whatever is asked, a replay of the log gives the live image, and the deltas lead from
//! one image to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use moldau_base::{NodeId, Rng, TopicPartition, Uuid};
use moldau_controller::{
    AlterConfigs, ConfigOp, CreatePartitions, CreateTopics, Delta, Image, InternalTopic, Mode,
    MorePartitions, NewTopic, Partition, Request, ResourceName, TopicRef,
};
use proptest::prelude::{ProptestConfig, proptest};

use crate::world::{World, broker};

/// What a broker that knows only deltas knows.
#[derive(Default, PartialEq, Debug)]
struct Follower(BTreeMap<TopicPartition, Arc<Partition>>);

impl Follower {
    fn react(&mut self, delta: &Delta) {
        for change in &delta.partitions {
            let at = TopicPartition { topic: change.topic.id, partition: change.index };
            assert_eq!(self.0.get(&at), change.before.as_ref(), "what it was");
            match &change.after {
                Some(after) => self.0.insert(at, Arc::clone(after)),
                None => self.0.remove(&at),
            };
        }
    }

    fn of(image: &Image) -> Follower {
        let all = image.topics().values().flat_map(|topic| {
            topic.partitions.iter().map(|(partition, p)| {
                (TopicPartition { topic: topic.id, partition: *partition }, Arc::clone(p))
            })
        });
        Follower(all.collect())
    }
}

fn name(rng: &mut Rng) -> Arc<str> {
    let names = ["a", "b", "a.b", "a_b", "orders", "", "..", "__consumer_offsets", "c"];
    Arc::from(*rng.pick(&names).expect("some"))
}

fn mode(rng: &mut Rng) -> Mode {
    if rng.chance(1, 5) { Mode::Validate } else { Mode::Apply }
}

fn assignments(rng: &mut Rng) -> Vec<(i32, Vec<NodeId>)> {
    (0..rng.below(3))
        .map(|i| (i as i32, (0..1 + rng.below(2)).map(|_| NodeId(rng.below(4) as i32)).collect()))
        .collect()
}

fn config(rng: &mut Rng) -> (String, Option<String>) {
    let names = ["retention.ms", "segment.bytes", "cleanup.policy", "nonsense", "min.insync.replicas"];
    let values = ["1", "1048576", "delete", "compact", "-1"];
    let value = rng.chance(9, 10).then(|| (*rng.pick(&values).expect("some")).to_owned());
    ((*rng.pick(&names).expect("some")).to_owned(), value)
}

fn resource(rng: &mut Rng) -> ResourceName {
    match rng.below(4) {
        0 => ResourceName { kind: 4, name: Arc::from("") },
        1 => ResourceName { kind: 4, name: Arc::from(rng.below(4).to_string()) },
        2 => ResourceName { kind: rng.below(40) as i8, name: name(rng) },
        _ => ResourceName { kind: 2, name: name(rng) },
    }
}

fn random(rng: &mut Rng, image: &Image) -> Request {
    match rng.below(10) {
        0 => {
            let id = rng.below(4) as i32;
            let mut request = broker(id, rng.below(3) as u8, Some(["x", "y"][id as usize % 2]));
            request.fenced = rng.chance(1, 4);
            Request::RegisterBroker(request)
        }
        1 => Request::CreateInternalTopic(InternalTopic::ConsumerOffsets),
        2..5 => Request::CreateTopics(CreateTopics {
            topics: (0..1 + rng.below(3))
                .map(|_| NewTopic {
                    name: name(rng),
                    partitions: rng.below(6) as i32 - 1,
                    replication_factor: rng.below(4) as i16 - 1,
                    assignments: if rng.chance(1, 4) { assignments(rng) } else { vec![] },
                    configs: (0..rng.below(2)).map(|_| config(rng)).collect(),
                })
                .collect(),
            mode: mode(rng),
        }),
        5 => {
            let ids: Vec<Uuid> = image.topics().keys().copied().collect();
            let id = rng.pick(&ids).copied().unwrap_or(Uuid::ZERO);
            let by_name = |rng: &mut Rng| TopicRef { name: Some(name(rng)), id: Uuid::ZERO };
            Request::DeleteTopics(vec![TopicRef { name: None, id }, by_name(rng), by_name(rng)])
        }
        6 => Request::CreatePartitions(CreatePartitions {
            topics: vec![MorePartitions {
                name: name(rng),
                count: rng.below(9) as i32,
                assignments: rng
                    .chance(1, 3)
                    .then(|| assignments(rng).into_iter().map(|(_, ids)| ids).collect()),
            }],
            mode: mode(rng),
        }),
        7 => Request::AlterConfigs(AlterConfigs {
            resources: vec![(resource(rng), (0..rng.below(3)).map(|_| config(rng)).collect())],
            mode: mode(rng),
        }),
        8 => {
            let op = |rng: &mut Rng| {
                let (name, value) = config(rng);
                ConfigOp { name, op: rng.below(5) as i8, value }
            };
            Request::IncrementalAlterConfigs(AlterConfigs {
                resources: vec![(resource(rng), (0..rng.below(3)).map(|_| op(rng)).collect())],
                mode: mode(rng),
            })
        }
        _ => {
            let id = NodeId(rng.below(4) as i32);
            let epoch = image.broker(id).map_or(moldau_base::BrokerEpoch(0), |broker| broker.epoch);
            Request::AllocateProducerIds { broker: id, epoch }
        }
    }
}

fn check(image: &Image) {
    for topic in image.topics().values() {
        assert!(topic.partitions.keys().map(|index| index.0).eq(0..topic.partition_count()), "no gap");
        for partition in topic.partitions.values() {
            assert!(partition.isr.iter().all(|id| partition.replicas.contains(id)));
            let led = partition.leader != moldau_controller::NO_LEADER;
            assert_eq!(led, partition.isr.contains(&partition.leader), "whoever leads is in sync");
            assert_eq!(partition.directories.len(), partition.replicas.len());
        }
        assert_eq!(image.topic_named(&topic.name).map(|other| other.id), Some(topic.id));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn replay_is_live(seed: u64) {
        let mut rng = Rng::seeded(seed);
        let mut world = World::new(seed);
        let mut follower = Follower::default();
        for _ in 0..60 {
            let request = random(&mut rng, world.controller.image());
            if let Ok((_, delta)) = world.request(&request) {
                follower.react(&delta);
            }
        }
        check(world.controller.image());
        assert_eq!(world.replayed(), *world.controller.image(), "replay");
        assert_eq!(world.restored(), *world.controller.image(), "snapshot");
        assert_eq!(follower, Follower::of(world.controller.image()), "deltas");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = moldau_controller::Record::decode(bytes.into());
    }
}
