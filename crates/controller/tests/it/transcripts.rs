//! Plays `tests/transcripts/*.txt`; `README.md` beside them explains the commands.

use std::sync::Arc;

use moldau_base::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicPartition, Uuid};
use moldau_check::transcript::{Line, check_dir};
use moldau_controller::{
    AlterConfigs, AlterPartition, AlterPartitions, AlterReassignments, BrokerChange, ConfigOp,
    CreatePartitions, CreateTopics, ElectLeaders, ElectionKind, Evidence, FactorChange, Heartbeat,
    InternalTopic, Mode, MorePartitions, NewTopic, Reassignment, Record, Request, ResourceName, TopicRef,
    Wants,
};

use crate::say::{self, Names};
use crate::world::{World, broker};

#[test]
fn transcripts() {
    check_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"), || {
        let mut world = World::new(1);
        move |line: &Line| {
            let said = command(&mut world, line);
            assert_eq!(world.replayed(), *world.controller.image(), "replay of the log");
            assert_eq!(world.restored(), *world.controller.image(), "a snapshot");
            said
        }
    });
}

/// Words of the commands that are no config.
const OWN: &[&str] = &["partitions", "rf", "assign", "id", "rack", "process", "count", "epoch", "cluster"];

fn mode(line: &Line) -> Mode {
    if line.has("validate") { Mode::Validate } else { Mode::Apply }
}

fn pairs(line: &Line) -> impl Iterator<Item = (&str, &str)> {
    let pairs = line.text().split_whitespace().filter_map(|word| word.split_once('='));
    pairs.filter(|(name, _)| !OWN.contains(name))
}

/// `0:1,2;1:2,0` is partition 0 on brokers 1 and 2, partition 1 on 2 and 0.
fn assignments(line: &Line) -> Vec<(i32, Vec<NodeId>)> {
    let one = |text: &str| {
        let (index, brokers) = text.split_once(':').expect("partition:brokers");
        let brokers =
            brokers.split(',').filter(|id| !id.is_empty()).map(|id| NodeId(id.parse().expect("a broker")));
        (index.parse().expect("a partition"), brokers.collect())
    };
    line.get("assign").map(|text| text.split(';').map(one).collect()).unwrap_or_default()
}

fn command(world: &mut World, line: &Line) -> String {
    match line.verb() {
        "fence" => return fence(world, line),
        "wait" => {
            world.now = world.now.after_ms(line.word(0).parse().expect("milliseconds"));
            return String::new();
        }
        "show" => return show(world, line),
        _ => {}
    }
    let request = request(world, line);
    let before = world.controller.image().clone();
    match world.request(&request) {
        Err(refusal) => refusal.to_string(),
        Ok((decision, delta)) => Names([world.controller.image(), &before]).decision(&decision, &delta),
    }
}

fn request(world: &World, line: &Line) -> Request {
    match line.verb() {
        "bootstrap" => Request::Bootstrap(vec![(Arc::from("metadata.version"), 30)]),
        "broker" => {
            let id = line.word(0).parse().expect("an id");
            let mut request = broker(id, line.number("process").unwrap_or(1), line.get("rack"));
            request.fenced = line.has("fenced");
            request.stopped_at = line.number("stopped-at").map(BrokerEpoch);
            if let Some(dir) = line.number::<u8>("disk") {
                request.log_dirs = vec![Uuid([dir; 16])];
            }
            if let Some(cluster) = line.get("cluster") {
                request.cluster_id = cluster.into();
            }
            Request::RegisterBroker(request)
        }
        "unregister" => Request::UnregisterBroker(NodeId(line.word(0).parse().expect("an id"))),
        "create" => Request::CreateTopics(CreateTopics {
            topics: line.word(0).split(',').map(|name| new_topic(name, line)).collect(),
            mode: mode(line),
        }),
        "create-offsets-topic" => Request::CreateInternalTopic(InternalTopic::ConsumerOffsets),
        "delete" => {
            Request::DeleteTopics(line.word(0).split(',').map(|name| topic_ref(world, name)).collect())
        }
        "grow" => Request::CreatePartitions(CreatePartitions {
            topics: line.word(0).split(',').map(|name| more(name, line)).collect(),
            mode: mode(line),
        }),
        "alter" => Request::AlterConfigs(AlterConfigs {
            resources: vec![(
                resource(line),
                pairs(line).map(|(name, value)| (name.to_owned(), value_of(value))).collect(),
            )],
            mode: mode(line),
        }),
        "change" => Request::IncrementalAlterConfigs(AlterConfigs {
            resources: vec![(resource(line), ops(line))],
            mode: mode(line),
        }),
        "producer-ids" => {
            let id = NodeId(line.word(0).parse().expect("an id"));
            let known = world.controller.image().broker(id).map_or(BrokerEpoch(-1), |broker| broker.epoch);
            let epoch = line.number("epoch").map_or(known, BrokerEpoch);
            Request::AllocateProducerIds { broker: id, epoch }
        }
        other => cluster_request(world, line, other),
    }
}

/// The registration that a command means: as it is, unless it names another.
fn epoch(world: &World, id: NodeId, line: &Line) -> BrokerEpoch {
    let known = world.controller.image().broker(id).map_or(BrokerEpoch(-1), |broker| broker.epoch);
    line.number("epoch").map_or(known, BrokerEpoch)
}

fn cluster_request(world: &World, line: &Line, verb: &str) -> Request {
    let image = world.controller.image();
    let id = || NodeId(line.word(0).parse().expect("an id"));
    match verb {
        "heartbeat" => Request::Heartbeat(Heartbeat {
            broker: id(),
            epoch: epoch(world, id(), line),
            offset: line.number("offset").unwrap_or(image.offset()),
            wants: match (line.has("wants-fence"), line.has("wants-stop")) {
                (false, false) => Wants::Serve,
                (true, false) => Wants::Fence,
                (false, true) => Wants::Stop,
                (true, true) => Wants::FenceAndStop,
            },
            offline_dirs: match image.broker(id()) {
                Some(broker) if line.has("disk-failed") => broker.log_dirs.clone(),
                _ => vec![],
            },
        }),
        "gone" => {
            Request::BrokerGone { broker: id(), epoch: epoch(world, id(), line), evidence: Evidence::Refused }
        }
        "tick" => Request::Tick,
        "in-sync" => in_sync(world, line),
        "elect" => Request::ElectLeaders(ElectLeaders {
            kind: if line.has("unclean") { ElectionKind::Unclean } else { ElectionKind::Preferred },
            partitions: (line.word(0) != "all").then(|| vec![place(line.word(0))]),
        }),
        "move" | "cancel" => {
            let (topic, index) = place(line.word(0));
            let target = line.get("to").map(brokers);
            let factor = if line.has("same-factor") { FactorChange::Refused } else { FactorChange::Allowed };
            Request::AlterReassignments(AlterReassignments {
                partitions: vec![Reassignment { topic, index, target }],
                factor,
            })
        }
        other => panic!("`{other}`: no such command"),
    }
}

/// `orders-0`.
fn place(text: &str) -> (Arc<str>, PartitionIndex) {
    let (topic, index) = text.rsplit_once('-').expect("topic-partition");
    (Arc::from(topic), PartitionIndex(index.parse().expect("a partition")))
}

fn brokers(text: &str) -> Vec<NodeId> {
    text.split(',').filter(|id| !id.is_empty()).map(|id| NodeId(id.parse().expect("a broker"))).collect()
}

/// What the leader wants, unless the command says otherwise of a partition that is as metadata has it.
fn in_sync(world: &World, line: &Line) -> Request {
    let image = world.controller.image();
    let (topic, index) = place(line.word(0));
    let topic = image.topic_named(&topic).map_or(Uuid([8; 16]), |topic| topic.id);
    let at = TopicPartition { topic, partition: index };
    let known = image.partition(at);
    let leader = line.number("by").map(NodeId).or(known.map(|p| p.leader)).expect("who asks");
    let of = |id| image.broker(id).map_or(BrokerEpoch(-1), |broker| broker.epoch);
    let stale = line.number("stale").map(NodeId);
    let isr = brokers(line.get("want").expect("want"));
    let with_epoch = |id| (id, if stale == Some(id) { BrokerEpoch(0) } else { of(id) });
    let wish = AlterPartition {
        at,
        leader_epoch: line
            .number("leader-epoch")
            .map_or(known.map_or(LeaderEpoch(0), |p| p.leader_epoch), LeaderEpoch),
        partition_epoch: line
            .number("partition-epoch")
            .map_or(known.map_or(PartitionEpoch(0), |p| p.partition_epoch), PartitionEpoch),
        isr: isr.into_iter().map(with_epoch).collect(),
        recovering: line.has("recovering"),
    };
    let epoch = epoch(world, leader, line);
    Request::AlterPartitions(AlterPartitions { broker: leader, epoch, partitions: vec![wish] })
}

fn value_of(value: &str) -> Option<String> {
    (value != "null").then(|| value.to_owned())
}

fn new_topic(name: &str, line: &Line) -> NewTopic {
    let name = name.replace("{long}", &"x".repeat(250)).replace("{empty}", "");
    NewTopic {
        name: Arc::from(name),
        partitions: line.number("partitions").unwrap_or(-1),
        replication_factor: line.number("rf").unwrap_or(-1),
        assignments: assignments(line),
        configs: pairs(line).map(|(name, value)| (name.to_owned(), value_of(value))).collect(),
    }
}

/// A name, `@name` for the id of the topic with this name, `@0` for neither, `@?` for an id that nobody has.
fn topic_ref(world: &World, text: &str) -> TopicRef {
    match text.strip_prefix('@') {
        None => TopicRef { name: Some(Arc::from(text)), id: Uuid::ZERO },
        Some("0") => TopicRef::default(),
        Some("?") => TopicRef { name: None, id: Uuid([8; 16]) },
        Some(name) => {
            let id = world.controller.image().topic_named(name).expect("the topic").id;
            TopicRef { name: None, id }
        }
    }
}

fn more(name: &str, line: &Line) -> MorePartitions {
    let assignments =
        line.get("assign").map(|_| assignments(line).into_iter().map(|(_, brokers)| brokers).collect());
    MorePartitions { name: Arc::from(name), count: line.number("count").expect("count"), assignments }
}

fn resource(line: &Line) -> ResourceName {
    let kind = match line.word(0) {
        "topic" => 2,
        "broker" | "brokers" => 4,
        "group" => 32,
        other => other.parse().expect("a type"),
    };
    let name = if line.word(0) == "brokers" { "" } else { line.word(1) };
    ResourceName { kind, name: Arc::from(name) }
}

/// `k=v` sets, `+k=v` appends, `-k=v` subtracts, `-k` deletes.
fn ops(line: &Line) -> Vec<ConfigOp> {
    let set = pairs(line).map(|(name, value)| {
        let (op, name) = match name.split_at(1) {
            ("+", name) => (2, name),
            ("-", name) => (3, name),
            _ => (0, name),
        };
        ConfigOp { name: name.to_owned(), op, value: value_of(value) }
    });
    let words = line.text().split_whitespace().filter(|word| !word.contains('='));
    let delete = words.filter_map(|word| word.strip_prefix('-')).map(|name| ConfigOp {
        name: name.to_owned(),
        op: 1,
        value: None,
    });
    set.chain(delete).collect()
}

fn fence(world: &mut World, line: &Line) -> String {
    let id = NodeId(line.word(0).parse().expect("an id"));
    let epoch = world.controller.image().broker(id).expect("registered").epoch;
    let change = BrokerChange { id, epoch, fenced: Some(true), stopping: false, log_dirs: vec![] };
    let record = Record::BrokerChange(change);
    world.controller.apply(world.log.len() as i64, &record).expect("fits");
    world.log.push(record.encode().expect("encodes"));
    String::new()
}

fn show(world: &World, line: &Line) -> String {
    let image = world.controller.image();
    match line.word(0) {
        "topics" => image
            .topics_by_name()
            .flat_map(|topic| {
                topic.partitions.iter().map(|(i, p)| format!("{}-{i} {}\n", topic.name, say::partition(p)))
            })
            .collect(),
        "configs" => image
            .all_configs()
            .iter()
            .flat_map(|(resource, configs)| {
                let resource = say::resource(&resource.into());
                configs.iter().map(move |(name, value)| format!("{resource} {name}={value}\n"))
            })
            .collect(),
        other => panic!("show `{other}`: no such thing"),
    }
}
