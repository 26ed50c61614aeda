//! Nodes that come to a cluster which runs, and find it by `controller.quorum.bootstrap.servers` (KIP-853): a controller that no file of the others
//! names takes over from all of them, and brokers follow it.

use moldau_base::Uuid;
use moldau_wire::{ErrorCode, add_raft_voter, describe_cluster, describe_quorum, remove_raft_voter};

use crate::client::Client;
use crate::ports::free_port;
use crate::process::{Node, Running, wait_for};
use crate::roles::{CLUSTER, Cluster};
use crate::starts::with_file;

/// The file of a controller that is to join, on these ports.
fn file(cluster: &Cluster, id: i32, port: u16, http: u16, servers: &str) -> Vec<String> {
    let data = cluster.folder.path().join(format!("joining-{id}"));
    let text = format!(
        "process.roles=controller\nnode.id={id}\ncontroller.quorum.bootstrap.servers={servers}\nlisteners=CONTROLLER://127.0.0.1:{port}\n\
         advertised.listeners=CONTROLLER://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n\
         moldau.http.listener=127.0.0.1:{http}\n",
        data.display()
    );
    with_file(&cluster.folder.write(&format!("joining-{id}.properties"), &text))
}

/// The id of its directory, once it has one.
fn directory(cluster: &Cluster, name: &str) -> Uuid {
    let file = cluster.folder.path().join(name).join("meta.properties");
    wait_for("the directory to have an id", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("directory.id=")?.parse().ok())
    })
}

fn add(client: &mut Client, voter_id: i32, voter_directory_id: Uuid, port: u16) {
    let listener =
        add_raft_voter::request::Listener { name: "CONTROLLER".into(), host: "127.0.0.1".into(), port };
    let request = add_raft_voter::Request {
        cluster_id: Some(CLUSTER.into()),
        timeout_ms: 10_000,
        voter_id,
        voter_directory_id,
        listeners: vec![listener],
        ack_when_committed: true,
    };
    let added = client.call(1, &request);
    assert_eq!(added.error_code, ErrorCode::NONE, "{:?}", added.error_message);
}

/// Removes a voter; again when the active controller has just changed.
fn remove(client: &mut Client, voter_id: i32, voter_directory_id: Uuid) {
    wait_for("the voter to be removed", || {
        let cluster_id = Some(CLUSTER.into());
        let request = remove_raft_voter::Request { cluster_id, voter_id, voter_directory_id };
        let removed = client.call(0, &request);
        let gone = [ErrorCode::NONE, ErrorCode::VOTER_NOT_FOUND].contains(&removed.error_code);
        gone.then_some(())
    });
}

fn voters(client: &mut Client) -> Option<Vec<i32>> {
    use describe_quorum::request::{Partition, Topic};
    let topic_name = "__cluster_metadata".into();
    let topics = vec![Topic { topic_name, partitions: vec![Partition { partition_index: 0 }] }];
    let told = client.call(2, &describe_quorum::Request { topics }).topics.pop()?.partitions.pop()?;
    (told.error_code == ErrorCode::NONE)
        .then(|| told.current_voters.iter().map(|voter| voter.replica_id).collect())
}

#[test]
fn a_controller_that_nobody_names_takes_over() {
    let mut cluster = Cluster::start();
    cluster.create("kept");
    cluster.produce("kept", 0..100);
    cluster.in_sync("kept");
    let servers: Vec<String> =
        cluster.controller_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let (port, http) = (free_port(), free_port());
    let arguments = file(&cluster, 4, port, http, &servers.join(","));
    let joining = Running::start(&arguments);
    joining.logs(&["this node is no voter of the cluster yet", "add-controller"]);
    wait_for("its port of probes", || std::net::TcpStream::connect(("127.0.0.1", http)).ok());
    let told = crate::voters::probe(http, "/readyz");
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("add-controller"), "{told}");

    let mut client = Client::to(cluster.brokers[0].as_ref().unwrap());
    add(&mut client, 4, directory(&cluster, "joining-4"), port);
    for id in 1..=3 {
        let old = directory(&cluster, &format!("controller-{id}"));
        remove(&mut client, id, old);
    }
    // It is the last voter, and the files of the brokers name three others.
    wait_for("the new controller to be alone", || (voters(&mut client)? == [4]).then_some(()));
    cluster.create("by-the-new-one");
    cluster.produce("by-the-new-one", 0..100);
    for controller in &mut cluster.controllers {
        controller.take().unwrap().kill();
    }
    cluster.create("without-the-old-ones");
    assert!(crate::voters::probe(http, "/readyz").starts_with("HTTP/1.1 200"));

    // A start reads from its log who votes: nobody is left whom it could ask.
    drop(joining);
    wait_for("its port to be free", || {
        std::net::TcpStream::connect(("127.0.0.1", http)).is_err().then_some(())
    });
    let back = Node::run(&arguments);
    cluster.create("after-a-start");
    let request = describe_cluster::Request { endpoint_type: 2, ..Default::default() };
    let told = Client::to(&back).call(1, &request);
    assert_eq!((told.controller_id, told.brokers.len()), (4, 1));

    // A broker that knows the address only.
    cluster.brokers[2].take().unwrap().kill();
    let text = std::fs::read_to_string(cluster.broker_file(2)).unwrap();
    let named = text.lines().find(|line| line.starts_with("controller.quorum.voters")).unwrap();
    let found = text.replace(named, &format!("controller.quorum.bootstrap.servers=127.0.0.1:{port}"));
    let found = cluster.folder.write("found.properties", &found);
    cluster.brokers[2] = Some(Node::run(&with_file(&found)));
    cluster.in_sync("kept");
    cluster.holds("kept", 100);
    cluster.holds("by-the-new-one", 100);
}

#[test]
fn where_nobody_knows_a_cluster_a_node_says_so() {
    let folder = crate::process::Folder::new();
    let text = format!(
        "process.roles=broker\nnode.id=7\ncontroller.quorum.bootstrap.servers=127.0.0.1:{}\nlisteners=PLAINTEXT://127.0.0.1:{}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\nmoldau.http.listener=\n",
        free_port(),
        free_port(),
        folder.data().display()
    );
    let node = Running::start(&with_file(&folder.write("server.properties", &text)));
    node.logs(&[
        "no server in controller.quorum.bootstrap.servers knows a cluster",
        "controller.quorum.voters=ID@HOST:PORT",
    ]);
}
