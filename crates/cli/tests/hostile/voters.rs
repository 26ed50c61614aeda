//! The voters of the metadata quorum as operators see and change them: over processes, with disks that are lost.

use moldau_wire::{
    ErrorCode, add_raft_voter, create_topics, describe_cluster, describe_quorum, remove_raft_voter,
    unregister_broker,
};

use crate::client::Client;
use crate::cluster::{CLUSTER_ID, Cluster, NODES};
use crate::process::{Running, wait_for};

fn described(client: &mut Client) -> describe_quorum::Response {
    use describe_quorum::request::{Partition, Topic};
    let topic_name = "__cluster_metadata".into();
    let topics = vec![Topic { topic_name, partitions: vec![Partition { partition_index: 0 }] }];
    client.call(2, &describe_quorum::Request { topics })
}

fn quorum(client: &mut Client) -> describe_quorum::response::Partition {
    described(client).topics.remove(0).partitions.remove(0)
}

/// A client of the first node that runs.
fn any(cluster: &Cluster) -> Client {
    Client::to(cluster.nodes.iter().flatten().next().unwrap())
}

/// The place of the active controller once all voters have everything that it has, in directories that the log knows.
fn settled(cluster: &Cluster) -> usize {
    wait_for("all voters to have the log", || {
        let quorum = quorum(&mut any(cluster));
        let end = quorum.current_voters.iter().map(|voter| voter.log_end_offset).max()?;
        let whole = quorum
            .current_voters
            .iter()
            .all(|voter| voter.log_end_offset == end && !voter.replica_directory_id.is_zero());
        (whole && quorum.current_voters.len() == NODES).then_some(quorum.leader_id as usize - 1)
    })
}

fn at(port: u16) -> Client {
    Client::at(&format!("127.0.0.1:{port}"))
}

#[test]
fn every_node_tells_who_votes() {
    let cluster = Cluster::start();
    let leader = settled(&cluster);
    for node in cluster.nodes.iter().flatten() {
        let told = described(&mut Client::to(node));
        let ports: Vec<u16> = told.nodes.iter().map(|node| node.listeners[0].port).collect();
        assert_eq!(ports, cluster.ports.map(|[_, controller]| controller));
        let quorum = &told.topics[0].partitions[0];
        assert_eq!((quorum.error_code, quorum.leader_id), (ErrorCode::NONE, leader as i32 + 1));
        assert!(quorum.high_watermark > 0 && quorum.leader_epoch > 0);
        assert!(quorum.current_voters.iter().all(|voter| voter.last_caught_up_timestamp > 0));
    }
    // Who asks a node itself hears that node.
    for (at_node, [_, port]) in cluster.ports.iter().enumerate() {
        let code = quorum(&mut at(*port)).error_code;
        assert_eq!(code == ErrorCode::NONE, at_node == leader, "{code:?}");
        let controllers = describe_cluster::Request { endpoint_type: 2, ..Default::default() };
        let told = at(*port).call(1, &controllers);
        assert_eq!((told.controller_id, told.brokers.len()), (leader as i32 + 1, NODES));
        let brokers = describe_cluster::Request { endpoint_type: 1, ..Default::default() };
        assert_eq!(at(*port).call(1, &brokers).error_code, ErrorCode::MISMATCHED_ENDPOINT_TYPE);
    }
}

#[test]
fn a_voter_that_lost_its_disk_is_removed_and_added() {
    let mut cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    cluster.produce("kept", 0..100);
    let leader = settled(&cluster);
    let lost = (leader + 1) % NODES;
    let voter = |cluster: &Cluster| {
        let voters = quorum(&mut any(cluster)).current_voters;
        voters.into_iter().find(|voter| voter.replica_id == lost as i32 + 1)
    };
    let old = voter(&cluster).unwrap().replica_directory_id;
    cluster.nodes[lost].take().unwrap().kill();
    let data = cluster.folder.path().join(format!("node-{}", lost + 1));
    std::fs::remove_dir_all(&data).unwrap();
    let node = Running::start(&cluster.arguments(lost, CLUSTER_ID));
    let file = data.join("meta.properties");
    let new = wait_for("the new disk to have an id", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("directory.id=")?.parse().ok())
    });
    assert_ne!(old, new);
    let remove = |client: &mut Client, voter_directory_id| {
        let cluster_id = Some(CLUSTER_ID.into());
        let voter_id = lost as i32 + 1;
        client.call(0, &remove_raft_voter::Request { cluster_id, voter_id, voter_directory_id })
    };
    let add = |client: &mut Client| {
        let listener = add_raft_voter::request::Listener {
            name: "CONTROLLER".into(),
            host: "127.0.0.1".into(),
            port: cluster.ports[lost][1],
        };
        let request = add_raft_voter::Request {
            cluster_id: Some(CLUSTER_ID.into()),
            timeout_ms: 10_000,
            voter_id: lost as i32 + 1,
            voter_directory_id: new,
            listeners: vec![listener],
            ack_when_committed: true,
        };
        client.call(1, &request)
    };
    let mut client = any(&cluster);
    assert_eq!(add(&mut client).error_code, ErrorCode::DUPLICATE_VOTER);
    assert_eq!(remove(&mut client, new).error_code, ErrorCode::VOTER_NOT_FOUND);
    assert_eq!(voter(&cluster).unwrap().replica_directory_id, old, "it is not taken for the old one");
    let removed = remove(&mut client, old);
    assert_eq!(removed.error_code, ErrorCode::NONE, "{:?}", removed.error_message);
    assert!(voter(&cluster).is_none());
    let added = add(&mut client);
    assert_eq!(added.error_code, ErrorCode::NONE, "{:?}", added.error_message);
    assert_eq!(voter(&cluster).unwrap().replica_directory_id, new);
    // Its vote counts: without it there would be no majority.
    settled(&cluster);
    wait_for("all replicas to be in sync", || (cluster.leader("kept").1 == NODES).then_some(()));
    cluster.nodes[(leader + 2) % NODES].take().unwrap().kill();
    cluster.said(&["topics", "create", "later", "-p", "1", "-r", "1"], "");
    cluster.produce("kept", 100..200);
    cluster.holds("kept", 200);
    drop(node);
}

#[test]
fn a_broker_that_is_gone_is_forgotten() {
    let mut cluster = Cluster::start();
    let leader = settled(&cluster);
    let gone = (leader + 1) % NODES;
    cluster.nodes[gone].take().unwrap().kill();
    let mut client = any(&cluster);
    let request = unregister_broker::Request { broker_id: gone as i32 + 1 };
    assert_eq!(client.call(0, &request).error_code, ErrorCode::NONE);
    let all =
        describe_cluster::Request { endpoint_type: 1, include_fenced_brokers: true, ..Default::default() };
    assert_eq!(client.call(2, &all).brokers.len(), NODES - 1);
    assert_eq!(client.call(0, &request).error_code, ErrorCode::BROKER_ID_NOT_REGISTERED);
}

/// What the node's HTTP port answers.
pub fn probe(port: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn without_a_majority_what_is_committed_is_read_and_who_is_missing_is_said() {
    let mut cluster = Cluster::start();
    cluster.said(&["topics", "create", "kept", "-p", "1", "-r", "3"], "");
    cluster.produce("kept", 0..100);
    settled(&cluster);
    wait_for("all replicas to be in sync", || (cluster.leader("kept").1 == NODES).then_some(()));
    // The one that is left leads the topic.
    let (left, _) = cluster.leader("kept");
    let gone = [(left + 1) % NODES, (left + 2) % NODES];
    for at in gone {
        cluster.nodes[at].take().unwrap().kill();
    }
    let http = cluster.http(left);
    let missing = |at: usize| format!("{} (127.0.0.1:{})", at + 1, cluster.ports[at][1]);
    let told = wait_for("/readyz to miss the majority", || {
        Some(probe(http, "/readyz")).filter(|told| told.contains("no majority"))
    });
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(gone.iter().all(|at| told.contains(&missing(*at))), "{told}");
    assert!(probe(http, "/healthz").starts_with("HTTP/1.1 200"));
    let mut client = any(&cluster);
    assert_eq!(client.fetch("kept", 0).error_code, ErrorCode::NONE);
    cluster.holds("kept", 100);
    let topic = create_topics::request::Topic {
        name: "new".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let create = create_topics::Request { topics: vec![topic], timeout_ms: 20_000, validate_only: false };
    let refused = client.call(7, &create).topics.remove(0);
    assert_eq!(refused.error_code, ErrorCode::NOT_CONTROLLER);
    let why = refused.error_message.unwrap();
    assert!(why.contains("of its 3 voters these do not answer"), "{why}");
    for at in gone {
        cluster.restart(at);
    }
    wait_for("the majority to be back", || probe(http, "/readyz").ends_with("ready\n").then_some(()));
    cluster.produce("kept", 100..200);
    cluster.holds("kept", 200);
}
