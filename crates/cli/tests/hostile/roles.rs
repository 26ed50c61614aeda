//! Clusters whose controllers and brokers are processes of their own, started with the files that start Kafka's: brokers learn
//! metadata as observers, controllers have nothing but metadata, and each may die.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;

use moldau_wire::{ErrorCode, describe_cluster, metadata};

use crate::client::{Client, frame};
use crate::ports::free_port;
use crate::process::{Folder, Node, Running, command, refused, wait_for};
use crate::starts::with_file;

const CONTROLLERS: usize = 3;
const BROKERS: usize = 3;
pub const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";
/// The largest that a controller may be, with the parent that watches it.
const CONTROLLER_BYTES: u64 = 40 << 20;

/// Controllers 1 to 3 and brokers 11 to 13.
pub struct Cluster {
    pub folder: Folder,
    pub controller_ports: [u16; CONTROLLERS],
    pub broker_ports: [u16; BROKERS],
    pub controllers: [Option<Node>; CONTROLLERS],
    pub brokers: [Option<Node>; BROKERS],
    more: &'static str,
}

impl Cluster {
    /// Starts it, with these lines more in each file, and waits until every node is ready.
    fn start_with(more: &'static str) -> Cluster {
        let mut cluster = Cluster {
            folder: Folder::new(),
            controller_ports: [(); CONTROLLERS].map(|()| free_port()),
            broker_ports: [(); BROKERS].map(|()| free_port()),
            controllers: [const { None }; CONTROLLERS],
            brokers: [const { None }; BROKERS],
            more,
        };
        cluster.start_all();
        cluster
    }

    pub fn start() -> Cluster {
        Cluster::start_with("")
    }

    /// Starts every node that does not run; none of them is ready before there is a majority of controllers.
    fn start_all(&mut self) {
        let run = |file: PathBuf| thread::spawn(move || Node::run(&with_file(&file)));
        let controllers =
            [0, 1, 2].map(|at| self.controllers[at].is_none().then(|| run(self.controller_file(at))));
        let brokers = [0, 1, 2].map(|at| self.brokers[at].is_none().then(|| run(self.broker_file(at))));
        for (node, started) in self.controllers.iter_mut().zip(controllers) {
            *node = started.map(|started| started.join().unwrap()).or(node.take());
        }
        for (node, started) in self.brokers.iter_mut().zip(brokers) {
            *node = started.map(|started| started.join().unwrap()).or(node.take());
        }
        self.all_serve();
    }

    /// Waits until the controllers take every broker for one that is there.
    fn all_serve(&self) {
        wait_for("all brokers to serve", || {
            let broker = self.brokers[0].as_ref().unwrap();
            let response = Client::to(broker).call(0, &describe_cluster::Request::default());
            (response.brokers.len() == BROKERS).then_some(())
        });
    }

    fn voters(&self) -> String {
        let voters = self.controller_ports.iter().zip(1..);
        voters.map(|(port, id)| format!("{id}@127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// A data directory as `kafka-storage format` leaves it.
    fn formatted(&self, name: &str, node: usize) -> PathBuf {
        let text = format!("#\nversion=1\ncluster.id={CLUSTER}\nnode.id={node}\n");
        let first = name.chars().next().unwrap();
        let directory = format!("directory.id={first}AAAAAAAAAAAAAAAAAA{node:02}A\n");
        let data = self.folder.path().join(name);
        if !data.exists() {
            self.folder.write(&format!("{name}/meta.properties"), &(text + &directory));
        }
        data
    }

    /// What Kafka's `controller.properties` says, on this machine.
    pub fn controller_file(&self, at: usize) -> PathBuf {
        let (id, port) = (at + 1, self.controller_ports[at]);
        let text = format!(
            "process.roles=controller\nnode.id={id}\ncontroller.quorum.voters={}\nlisteners=CONTROLLER://127.0.0.1:{port}\n\
             advertised.listeners=CONTROLLER://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\nnum.io.threads=8\n\
             log.dirs={}\nmoldau.http.listener=\n{}",
            self.voters(),
            self.formatted(&format!("controller-{id}"), id).display(),
            self.more,
        );
        self.folder.write(&format!("controller-{id}.properties"), &text)
    }

    /// What Kafka's `broker.properties` says, on this machine.
    pub fn broker_file(&self, at: usize) -> PathBuf {
        let (id, port) = (at + 11, self.broker_ports[at]);
        let text = format!(
            "process.roles=broker\nnode.id={id}\nbroker.rack=zone-{id}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://127.0.0.1:{port}\ninter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\nmin.insync.replicas=2\n\
             log.dirs={}\nmoldau.http.listener=\nmoldau.shards=2\n{}",
            self.voters(),
            self.formatted(&format!("broker-{id}"), id).display(),
            self.more,
        );
        self.folder.write(&format!("broker-{id}.properties"), &text)
    }

    pub fn said(&self, arguments: &[&str], input: &str) -> String {
        let servers: Vec<String> = self.broker_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        command(&[&["-b", &servers.join(",")], arguments].concat(), input)
    }

    pub fn create(&self, topic: &str) {
        self.said(&["topics", "create", topic, "-p", "1", "-r", "3"], "");
    }

    /// The leader of the topic's only partition, by its place, and how many are in sync.
    fn leader(&self, topic: &str) -> (usize, usize) {
        let said = self.said(&["--output", "json", "topics", "describe", topic], "");
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let partition = &said["partitions"][0];
        let leader = partition["leader"].as_i64().unwrap();
        (usize::try_from(leader - 11).unwrap_or(usize::MAX), partition["in_sync"].as_array().unwrap().len())
    }

    pub fn in_sync(&self, topic: &str) {
        wait_for("all replicas to be in sync", || (self.leader(topic).1 == BROKERS).then_some(()));
    }

    pub fn produce(&self, topic: &str, numbers: std::ops::Range<u32>) {
        let lines: String = numbers.map(|number| format!("{number}\n")).collect();
        self.said(&["produce", topic], &lines);
    }

    /// Everything in the topic, each line once and none missing.
    pub fn holds(&self, topic: &str, end: u32) {
        let said = self.said(&["consume", topic, "--from", "beginning", "--until-end"], "");
        let lines: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(lines.len(), lines.iter().collect::<BTreeSet<_>>().len(), "a record is there twice");
        assert_eq!(lines, (0..end).collect::<Vec<_>>());
    }

    /// The active controller by its place, as a controller says.
    pub fn active(&self) -> usize {
        wait_for("an active controller", || {
            let controller = self.controllers.iter().flatten().next()?;
            let request = describe_cluster::Request { endpoint_type: 2, ..Default::default() };
            let response = Client::to(controller).call(1, &request);
            assert_eq!(response.error_code, ErrorCode::NONE);
            assert_eq!((&*response.cluster_id, response.brokers.len()), (CLUSTER, CONTROLLERS));
            usize::try_from(response.controller_id - 1).ok()
        })
    }
}

#[test]
fn each_node_may_die() {
    let mut cluster = Cluster::start();
    cluster.create("kept");
    cluster.produce("kept", 0..100);
    for round in 1..=2u32 {
        let active = cluster.active();
        cluster.controllers[active].take().unwrap().kill();
        cluster.create(&format!("without-{round}"));
        cluster.produce("kept", round * 100..(round + 1) * 100);
        assert_ne!(cluster.active(), active);
        cluster.start_all();
    }
    let (leader, _) = cluster.leader("kept");
    cluster.brokers[leader].take().unwrap().kill();
    cluster.produce("kept", 300..400);
    cluster.holds("kept", 400);
    assert_ne!(cluster.leader("kept").0, leader);
    cluster.start_all();
    cluster.in_sync("kept");
    for node in cluster.brokers.iter_mut().chain(&mut cluster.controllers) {
        node.take().unwrap().stop();
    }
    cluster.start_all();
    cluster.holds("kept", 400);
    cluster.in_sync("kept");
    cluster.produce("kept", 400..500);
    cluster.holds("kept", 500);
}

#[test]
fn a_controller_and_a_broker_that_die_together() {
    let mut cluster = Cluster::start();
    cluster.create("kept");
    cluster.produce("kept", 0..100);
    let ((leader, _), active) = (cluster.leader("kept"), cluster.active());
    cluster.controllers[active].take().unwrap().kill();
    cluster.brokers[leader].take().unwrap().kill();
    cluster.produce("kept", 100..200);
    cluster.holds("kept", 200);
}

/// Nothing but its silence tells that a broker is gone, and a controller that is no broker has no heartbeats of its own to be woken by.
#[test]
fn a_broker_that_falls_silent_is_fenced() {
    let cluster = Cluster::start();
    cluster.create("kept");
    cluster.produce("kept", 0..100);
    let (leader, _) = cluster.leader("kept");
    let active = cluster.controllers[cluster.active()].as_ref().unwrap();
    cluster.brokers[leader].as_ref().unwrap().freeze();
    active.logs(&[&format!("broker {} is fenced", leader + 11)]);
    cluster.produce("kept", 100..200);
    cluster.holds("kept", 200);
}

/// The metadata log has been cut off behind snapshots meanwhile, so the broker begins with one.
#[test]
fn a_broker_that_was_away_learns_what_changed() {
    let mut cluster = Cluster::start_with("metadata.log.max.record.bytes.between.snapshots=2000\n");
    cluster.create("kept");
    cluster.create("goes");
    cluster.brokers[2].take().unwrap().kill();
    cluster.produce("kept", 0..100);
    cluster.said(&["topics", "delete", "goes"], "");
    for number in 0..20 {
        cluster.said(&["topics", "create", &format!("new-{number}"), "-p", "3", "-r", "2"], "");
    }
    cluster.controllers[cluster.active()].as_ref().unwrap().logs(&["metadata snapshot written"]);
    cluster.start_all();
    cluster.in_sync("kept");
    let back = cluster.brokers[2].as_ref().unwrap();
    let request = metadata::Request { topics: None, ..Default::default() };
    let topics = wait_for("all topics to be known", || {
        let topics = Client::to(back).call(12, &request).topics;
        (topics.len() == 21).then_some(topics)
    });
    assert!(topics.iter().all(|topic| topic.name.as_deref() != Some("goes")));
}

#[test]
fn a_controller_has_no_clients_and_is_small() {
    let cluster = Cluster::start();
    (0..20).for_each(|number| cluster.create(&format!("topic-{number}")));
    for controller in cluster.controllers.iter().flatten() {
        let mut client = Client::to(controller);
        client.say(&frame(1, 12, &metadata::Request::default()));
        client.expect_closed();
        let request = describe_cluster::Request { endpoint_type: 1, ..Default::default() };
        let response = Client::to(controller).call(1, &request);
        assert_eq!(response.error_code, ErrorCode::MISMATCHED_ENDPOINT_TYPE);
        let bytes = controller.memory_of_both();
        assert!(bytes < CONTROLLER_BYTES, "{bytes} bytes are resident");
    }
}

#[test]
fn two_brokers_with_one_id() {
    let cluster = Cluster::start();
    let text = std::fs::read_to_string(cluster.broker_file(0)).unwrap();
    let text = text
        .replace(&cluster.broker_ports[0].to_string(), &free_port().to_string())
        .replace("broker-11", "twin")
        .replace("node.id=11", "node.id=12");
    let data = cluster.formatted("twin", 12);
    assert!(data.exists());
    let errors = refused(&with_file(&cluster.folder.write("twin.properties", &text)));
    assert!(errors.contains("another process is broker 12"), "{errors}");
    assert!(errors.contains("give each node a node.id of its own"), "{errors}");
    cluster.create("kept");
    cluster.produce("kept", 0..100);
    cluster.holds("kept", 100);
}

#[test]
fn the_disk_of_another_node() {
    let cluster = Cluster::start();
    let text = std::fs::read_to_string(cluster.broker_file(0)).unwrap();
    cluster.formatted("swapped", 12);
    let text = text.replace("broker-11", "swapped");
    let errors = refused(&with_file(&cluster.folder.write("swapped.properties", &text)));
    assert!(errors.contains("belongs to node 12, but node.id is 11"), "{errors}");
    assert!(errors.contains("correct node.id, or give this node the directory of node 11"), "{errors}");
}

#[test]
fn a_broker_of_another_cluster() {
    let cluster = Cluster::start();
    let text = std::fs::read_to_string(cluster.broker_file(0)).unwrap();
    let text = text
        .replace(&cluster.broker_ports[0].to_string(), &free_port().to_string())
        .replace("broker-11", "stranger")
        .replace("node.id=11", "cluster.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=14");
    let errors = refused(&with_file(&cluster.folder.write("stranger.properties", &text)));
    assert!(errors.contains("is a voter of another cluster than AAAAAAAAAAAAAAAAAAAAAQ"), "{errors}");
    assert!(errors.contains("correct controller.quorum.voters"), "{errors}");
}

/// A controller whose file names other voters than its disk does, and one that the others do not name.
#[test]
fn voters_that_disagree() {
    let mut cluster = Cluster::start();
    cluster.controllers[2].take().unwrap().kill();
    let text = std::fs::read_to_string(cluster.controller_file(2)).unwrap();
    let changed = cluster.folder.write("changed.properties", &text.replace("=1@", "=4@"));
    let errors = refused(&with_file(&changed));
    assert!(
        errors.contains("names the voters") && errors.contains("correct controller.quorum.voters"),
        "{errors}"
    );

    cluster.formatted("other", 4);
    let text = text.replace("=1@", "=4@").replace("node.id=3", "node.id=4").replace("controller-3", "other");
    let _other = Running::start(&with_file(&cluster.folder.write("other.properties", &text)));
    cluster.controllers[1]
        .as_ref()
        .unwrap()
        .logs(&["node 4 is not among the voters", "controller.quorum.voters"]);
    cluster.create("kept");
}
