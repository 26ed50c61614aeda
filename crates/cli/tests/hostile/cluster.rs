//! Clusters of three nodes, each a process: a node that is killed or stands still costs nothing that was acknowledged, and what
//! would not be one cluster is refused.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;

use moldau_wire::{ErrorCode, Records, fetch};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, batch, fetch_request};
use crate::ports::free_port;
use crate::process::{Folder, Node, Running, command, wait_for};

pub const NODES: usize = 3;
pub const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A cluster whose nodes know each other's ports.
pub struct Cluster {
    pub folder: Folder,
    pub ports: [[u16; 2]; NODES],
    http: [u16; NODES],
    pub nodes: [Option<Node>; NODES],
}

impl Cluster {
    /// Starts it and waits until every node serves clients.
    pub fn start() -> Cluster {
        let ports = [(); NODES].map(|()| [free_port(), free_port()]);
        let http = [(); NODES].map(|()| free_port());
        let mut cluster = Cluster { folder: Folder::new(), ports, http, nodes: [const { None }; NODES] };
        // None of them is ready before there is a majority.
        let starting = [0, 1, 2].map(|at| {
            let arguments = cluster.arguments(at, CLUSTER_ID);
            thread::spawn(move || Node::run(&arguments))
        });
        for (node, started) in cluster.nodes.iter_mut().zip(starting) {
            *node = Some(started.join().unwrap());
        }
        cluster
    }

    pub fn arguments(&self, at: usize, cluster_id: &str) -> Vec<String> {
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
            format!("moldau.http.listener=127.0.0.1:{}", self.http[at]),
            "moldau.shards=2".to_owned(),
            "min.insync.replicas=2".to_owned(),
            "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector".to_owned(),
            format!("cluster.id={cluster_id}"),
            format!("log.dirs={}", data.display()),
        ];
        let set = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
        ["start".to_owned()].into_iter().chain(set).collect()
    }

    /// A folder for what belongs to the cluster.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The port of /readyz.
    pub fn http(&self, at: usize) -> u16 {
        self.http[at]
    }

    pub fn restart(&mut self, at: usize) {
        self.nodes[at] = Some(Node::run(&self.arguments(at, CLUSTER_ID)));
    }

    /// Standard output of a command that succeeds, with these lines as its input.
    pub fn said(&self, arguments: &[&str], input: &str) -> String {
        command(&[&["-b", &self.servers()], arguments].concat(), input)
    }

    /// The arguments that name its nodes.
    pub fn servers(&self) -> String {
        let servers: Vec<String> = self.ports.iter().map(|[port, _]| format!("127.0.0.1:{port}")).collect();
        servers.join(",")
    }

    /// The leader of the topic's only partition, by its place, and how many are in sync.
    pub fn leader(&self, topic: &str) -> (usize, usize) {
        let said = self.said(&["--output", "json", "topics", "describe", topic], "");
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let partition = &said["partitions"][0];
        let leader = partition["leader"].as_i64().unwrap();
        (usize::try_from(leader - 1).unwrap_or(usize::MAX), partition["in_sync"].as_array().unwrap().len())
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
fn a_node_that_is_stopped_gives_away_what_it_leads() {
    let mut cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    wait_for("all replicas to be in sync", || (cluster.leader("kept").1 == NODES).then_some(()));
    let (leader, _) = cluster.leader("kept");
    let node = cluster.nodes[leader].take().unwrap();
    let mut client = Client::to(&node);
    let stopping = thread::spawn(move || node.stop());
    let mut produced = 0;
    let next = loop {
        let answer = client.produce_as(10, "kept", batch(produced.to_string().as_bytes()));
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::NONE, "after {produced} records");
        assert_eq!(partition.base_offset, i64::from(produced));
        produced += 1;
        // The answer that says where to go instead is a good one, too.
        if let Some(next) = answer.node_endpoints.first() {
            assert_eq!(partition.current_leader.leader_id, next.node_id);
            break format!("{}:{}", next.host, next.port);
        }
    };
    let answer = Client::at(&next).produce_as(10, "kept", batch(produced.to_string().as_bytes()));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    stopping.join().unwrap();
    cluster.holds("kept", produced + 1);
    assert_ne!(cluster.leader("kept").0, leader);
    cluster.restart(leader);
    wait_for("all replicas to be in sync", || (cluster.leader("kept").1 == NODES).then_some(()));
    for node in &mut cluster.nodes {
        node.take().unwrap().stop();
    }
}

#[test]
fn whoever_stopped_cleanly_may_lead_again() {
    let mut cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "2"], "");
    cluster.produce("kept", 0..100);
    wait_for("both replicas to be in sync", || (cluster.leader("kept").1 == 2).then_some(()));
    let (first, _) = cluster.leader("kept");
    cluster.nodes[first].take().unwrap().stop();
    // The other one leads, and min.insync.replicas lets it acknowledge nothing: both have everything.
    let (second, _) = cluster.leader("kept");
    assert_ne!(first, second);
    cluster.nodes[second].take().unwrap().kill();
    cluster.restart(first);
    wait_for("the first to lead again", || (cluster.leader("kept").0 == first).then_some(()));
    cluster.holds("kept", 100);
}

#[test]
fn a_consumer_reads_in_its_own_rack() {
    let cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    wait_for("all replicas to be in sync", || (cluster.leader("kept").1 == NODES).then_some(()));
    let (leader, _) = cluster.leader("kept");
    let near = (leader + 1) % NODES;
    let mut at_leader = Client::to(cluster.nodes[leader].as_ref().unwrap());
    let mut at_near = Client::to(cluster.nodes[near].as_ref().unwrap());
    assert_eq!(at_leader.produce("kept", batch(b"first")).error_code, ErrorCode::NONE);
    let fetch = |client: &mut Client, rack: String, offset| {
        let request = fetch::Request {
            rack_id: rack.into(),
            max_wait_ms: 30_000,
            min_bytes: 1,
            ..fetch_request("kept", offset, 1 << 20)
        };
        let mut response = client.call(11, &request);
        response.responses.remove(0).partitions.remove(0)
    };
    let (here, there) = (format!("zone-{}", leader + 1), format!("zone-{}", near + 1));
    let holds_one = |records: Records| matches!(records, Records::Bytes(bytes) if moldau_batch::split(&bytes).unwrap().len() == 1);

    // The leader sends on whoever is nearer to a follower, and serves everybody else.
    let sent_on = fetch(&mut at_leader, there.clone(), 0);
    assert_eq!(sent_on.error_code, ErrorCode::NONE);
    assert_eq!(sent_on.preferred_read_replica, near as i32 + 1);
    for rack in [here, "elsewhere".to_owned(), String::new()] {
        let served = fetch(&mut at_leader, rack, 0);
        assert_eq!(served.preferred_read_replica, -1);
        assert!(holds_one(served.records));
    }
    // The follower serves those who know about racks.
    let served = fetch(&mut at_near, there.clone(), 0);
    assert_eq!((served.error_code, served.high_watermark), (ErrorCode::NONE, 1));
    assert!(holds_one(served.records));
    assert_eq!(fetch(&mut at_near, String::new(), 0).error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    // What it does not have yet is waited for.
    let waiting = thread::spawn(move || fetch(&mut at_near, there, 1));
    assert_eq!(at_leader.produce("kept", batch(b"second")).error_code, ErrorCode::NONE);
    let served = waiting.join().unwrap();
    assert_eq!((served.error_code, served.high_watermark), (ErrorCode::NONE, 2));
    assert!(holds_one(served.records));
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
    let _stranger = Running::start(&stranger);
    for node in cluster.nodes.iter().flatten() {
        node.logs(&["is of cluster AAAAAAAAAAAAAAAAAAAAAQ"]);
    }
    cluster.produce("kept", 0..100);
    cluster.holds("kept", 100);
}

/// Each of them has to be there before the cluster gets its id, and keeps it.
#[test]
fn new_nodes_without_a_cluster_id_agree_on_one() {
    let ports = [(); NODES].map(|()| [free_port(), free_port()]);
    let http = [(); NODES].map(|()| free_port());
    let mut cluster = Cluster { folder: Folder::new(), ports, http, nodes: [const { None }; NODES] };
    let without = |at: usize| {
        let all = cluster.arguments(at, "MkU3OEVBNTcwNTJENDM2Qg");
        all.into_iter().filter(|argument| !argument.starts_with("cluster.id")).collect::<Vec<_>>()
    };
    let without = [0, 1, 2].map(|at| {
        let mut arguments = without(at);
        let place = arguments.windows(2).position(|pair| pair[0] == "--set" && pair[1] == "--set");
        arguments.remove(place.unwrap());
        arguments
    });
    let starting = without.each_ref().map(|arguments| {
        let arguments = arguments.clone();
        thread::spawn(move || Node::run(&arguments))
    });
    for (node, started) in cluster.nodes.iter_mut().zip(starting) {
        *node = Some(started.join().unwrap());
    }
    let id = |at: usize| {
        let file = cluster.folder.path().join(format!("node-{}/meta.properties", at + 1));
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().find_map(|line| line.strip_prefix("cluster.id=").map(str::to_owned)).unwrap()
    };
    let ids = [0, 1, 2].map(id);
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 22), "{ids:?}");
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    cluster.produce("kept", 0..100);

    // One that lost its disk belongs to the same cluster again; that it may vote is for its operator to say.
    cluster.nodes[0].take().unwrap().kill();
    let folder = cluster.folder.path().join("node-1");
    std::fs::remove_dir_all(&folder).unwrap();
    let _again = Running::start(&without[0]);
    let again = wait_for("the new disk to be claimed", || {
        std::fs::read_to_string(folder.join("meta.properties")).ok().filter(|text| !text.is_empty())
    });
    assert!(again.contains(&ids[0]), "{again}");
    cluster.holds("kept", 100);
}

#[test]
fn a_new_node_waits_for_the_voters_that_are_silent() {
    let folder = Folder::new();
    let (port, controller) = (free_port(), free_port());
    let data = format!("log.dirs={}", folder.data().display());
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let voters = format!("controller.quorum.voters=1@127.0.0.1:{controller},2@127.0.0.1:{}", free_port());
    let settings =
        [&data, &listeners, &voters, "controller.listener.names=CONTROLLER", "moldau.http.listener="];
    let set = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    let node = Running::start(&["start".to_owned()].into_iter().chain(set).collect::<Vec<_>>());
    node.logs(&["silent", "waiting for the id of the cluster", "or set cluster.id"]);
    assert!(!folder.data().join("meta.properties").exists());
}
