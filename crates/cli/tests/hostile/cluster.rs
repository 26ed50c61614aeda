//! Clusters of three nodes, each a process: a node that is killed or stands still costs nothing that was acknowledged, and what
//! would not be one cluster is refused.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Folder, Node, command, refused, wait_for};
use crate::starts::free_port;

const NODES: usize = 3;

/// A cluster whose nodes know each other's ports.
struct Cluster {
    folder: Folder,
    ports: [[u16; 2]; NODES],
    nodes: [Option<Node>; NODES],
}

impl Cluster {
    /// Starts it and waits until every node serves clients.
    fn start() -> Cluster {
        let ports = [(); NODES].map(|()| [free_port(), free_port()]);
        let mut cluster = Cluster { folder: Folder::new(), ports, nodes: [const { None }; NODES] };
        // None of them is ready before there is a majority.
        let starting = [0, 1, 2].map(|at| {
            let arguments = cluster.arguments(at, "MkU3OEVBNTcwNTJENDM2Qg");
            thread::spawn(move || Node::run(&arguments))
        });
        for (node, started) in cluster.nodes.iter_mut().zip(starting) {
            *node = Some(started.join().unwrap());
        }
        cluster
    }

    fn arguments(&self, at: usize, cluster_id: &str) -> Vec<String> {
        let data: PathBuf = self.folder.path().join(format!("node-{}", at + 1));
        let [port, controller] = self.ports[at];
        let voters: Vec<String> =
            self.ports.iter().zip(1..).map(|([_, port], id)| format!("{id}@127.0.0.1:{port}")).collect();
        let settings = [
            format!("node.id={}", at + 1),
            format!("broker.rack=zone-{}", at + 1),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            "moldau.http.listener=".to_owned(),
            "moldau.shards=2".to_owned(),
            "min.insync.replicas=2".to_owned(),
            format!("cluster.id={cluster_id}"),
            format!("log.dirs={}", data.display()),
        ];
        let set = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
        ["start".to_owned()].into_iter().chain(set).collect()
    }

    fn restart(&mut self, at: usize) {
        self.nodes[at] = Some(Node::run(&self.arguments(at, "MkU3OEVBNTcwNTJENDM2Qg")));
    }

    /// Standard output of a command that succeeds, with these lines as its input.
    fn said(&self, arguments: &[&str], input: &str) -> String {
        let servers: Vec<String> = self.ports.iter().map(|[port, _]| format!("127.0.0.1:{port}")).collect();
        command(&[&["-b", &servers.join(",")], arguments].concat(), input)
    }

    /// The leader of the topic's only partition, by its place, and how many are in sync.
    fn leader(&self, topic: &str) -> (usize, usize) {
        let said = self.said(&["--output", "json", "topics", "describe", topic], "");
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let partition = &said["partitions"][0];
        let leader = partition["leader"].as_i64().unwrap();
        (usize::try_from(leader - 1).unwrap_or(usize::MAX), partition["in_sync"].as_array().unwrap().len())
    }

    fn produce(&self, topic: &str, numbers: std::ops::Range<u32>) {
        let lines: String = numbers.map(|number| format!("{number}\n")).collect();
        self.said(&["produce", topic], &lines);
    }

    /// Everything in the topic, each line once and none missing.
    fn holds(&self, topic: &str, end: u32) {
        let said = self.said(&["consume", topic, "--from", "beginning", "--until-end"], "");
        let lines: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(lines.len(), lines.iter().collect::<BTreeSet<_>>().len(), "a record is there twice");
        assert_eq!(lines, (0..end).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_acknowledged_outlives_the_leader() {
    let mut cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    cluster.produce("kept", 0..200);
    for round in 1..=3u32 {
        let (leader, _) = cluster.leader("kept");
        cluster.nodes[leader].take().unwrap().kill();
        cluster.produce("kept", round * 200..(round + 1) * 200);
        cluster.holds("kept", (round + 1) * 200);
        assert_ne!(cluster.leader("kept").0, leader);
        cluster.restart(leader);
        wait_for("all replicas to be in sync", || (cluster.leader("kept").1 == NODES).then_some(()));
    }
    for node in &mut cluster.nodes {
        node.take().unwrap().stop();
    }
}

#[test]
fn a_node_that_stands_still_is_ended_by_its_parent() {
    let mut cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    cluster.produce("kept", 0..100);
    let (leader, _) = cluster.leader("kept");
    let node = cluster.nodes[leader].take().unwrap();
    kill_process(Pid::from_raw(node.child()).unwrap(), Signal::STOP).unwrap();
    node.has_failed();
    cluster.produce("kept", 100..200);
    cluster.holds("kept", 200);
    assert_ne!(cluster.leader("kept").0, leader);
}

#[test]
fn a_node_of_another_cluster_is_not_heard() {
    let mut cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    cluster.nodes[2].take().unwrap().kill();
    let mut stranger = cluster.arguments(2, "AAAAAAAAAAAAAAAAAAAAAQ");
    let other = format!("log.dirs={}", cluster.folder.path().join("other").display());
    stranger.extend(["--set".to_owned(), other]);
    let _stranger = crate::process::Running::start(&stranger);
    for node in cluster.nodes.iter().flatten() {
        node.logs(&["is of cluster AAAAAAAAAAAAAAAAAAAAAQ"]);
    }
    cluster.produce("kept", 0..100);
    cluster.holds("kept", 100);
}

#[test]
fn several_nodes_without_a_cluster_id() {
    let folder = Folder::new();
    let (port, controller) = (free_port(), free_port());
    let data = format!("log.dirs={}", folder.data().display());
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let voters = format!("controller.quorum.voters=1@127.0.0.1:{controller},2@127.0.0.1:1");
    let settings =
        [&data, &listeners, &voters, "controller.listener.names=CONTROLLER", "moldau.http.listener="];
    let set = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    let errors = refused(&["start".to_owned()].into_iter().chain(set).collect::<Vec<_>>());
    assert!(errors.contains("set cluster.id to the same on each of them"), "{errors}");
}
