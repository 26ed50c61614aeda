//! Partitions that move from node to node while clients write: everything acknowledged is there, and what was moved away is gone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::process::{refused, wait_for};

/// Lines that are written at a time.
const CHUNK: u32 = 50;

fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let said = cluster.said(&[&["--output", "json"], arguments].concat(), "");
    serde_json::from_str(&said).unwrap()
}

/// Replicas of each partition of a topic.
fn replicas(cluster: &Cluster, topic: &str) -> Vec<Vec<i64>> {
    let said = json(cluster, &["topics", "describe", topic]);
    let ids = |partition: &Value| {
        let ids = partition["replicas"].as_array().unwrap();
        ids.iter().map(|id| id.as_i64().unwrap()).collect::<Vec<i64>>()
    };
    said["partitions"].as_array().unwrap().iter().map(ids).collect()
}

/// What `nodes list` says of a node.
fn listed(cluster: &Cluster, node: i64) -> Value {
    let nodes = json(cluster, &["nodes", "list"]);
    nodes.as_array().unwrap().iter().find(|it| it["node"] == node).unwrap().clone()
}

/// Folders of the topic's partitions on a node's disk.
fn folders(cluster: &Cluster, node: i64, topic: &str) -> Vec<String> {
    let data: PathBuf = cluster.folder().path().join(format!("node-{node}"));
    let names =
        std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&format!("{topic}-")) && !name.ends_with("-delete")).collect()
}

/// Ends the load, also when an assertion fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_node_is_drained_under_load() {
    let cluster = Cluster::start();
    cluster.said(&["topics", "create", "moved", "-p", "1", "-r", "2"], "");
    cluster.produce("moved", 0..CHUNK);
    let (written, done) = (AtomicU32::new(CHUNK), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let next = written.load(Ordering::Relaxed);
                cluster.produce("moved", next..next + CHUNK);
                written.store(next + CHUNK, Ordering::Relaxed);
            }
        });
        let _end = End(&done);
        // Once around: every node is drained while it leads.
        for _ in 0..3 {
            let leader = replicas(&cluster, "moved")[0][0];
            let drained = json(&cluster, &["nodes", "drain", &leader.to_string()]);
            assert_eq!(drained["moved"], 1, "{drained}");
            let after = &replicas(&cluster, "moved")[0];
            assert!(after.len() == 2 && !after.contains(&leader), "{after:?} after {leader} was drained");
            wait_for("the log to be gone", || folders(&cluster, leader, "moved").is_empty().then_some(()));
        }
    });
    cluster.holds("moved", written.into_inner());
}

#[test]
fn leadership_alone_is_given_away() {
    let cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "6", "-r", "3"], "");
    assert!(listed(&cluster, 2)["leads"].as_i64().unwrap() > 0);
    let arguments = ["-b", &cluster.servers(), "nodes", "drain", "2"].map(str::to_owned);
    let errors = refused(&arguments);
    assert!(errors.contains("start another node") && errors.contains("--leaders-only"), "{errors}");
    cluster.said(&["nodes", "drain", "2", "--leaders-only"], "");
    let node = listed(&cluster, 2);
    assert_eq!((&node["leads"], &node["replicas"]), (&Value::from(0), &Value::from(6)), "{node}");
    assert!(replicas(&cluster, "kept").iter().all(|replicas| replicas.len() == 3 && replicas[0] != 2));
}

#[test]
fn what_cannot_be_moved_is_refused_with_the_way_out() {
    let cluster = Cluster::start();
    let refused = |arguments: &[&str]| {
        let all: Vec<String> =
            [&["-b", &cluster.servers()], arguments].concat().into_iter().map(str::to_owned).collect();
        refused(&all)
    };
    let errors = refused(&["nodes", "drain", "9"]);
    assert!(errors.contains("there is no node 9; the nodes are 1, 2, 3"), "{errors}");
    let errors = refused(&["topics", "create", "t", "-r", "2", "-s", "min.insync.replicas=3"]);
    assert!(errors.contains("set it to 2 at most, or give the topic 3 replicas first"), "{errors}");
    cluster.said(&["topics", "create", "t", "-r", "2"], "");
    let errors = refused(&["topics", "alter", "t", "-s", "min.insync.replicas=3"]);
    assert!(errors.contains("INVALID_CONFIG") && errors.contains("set it to 2 at most"), "{errors}");
}
