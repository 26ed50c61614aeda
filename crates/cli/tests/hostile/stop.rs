//! Ends of all kinds, and what the next start finds: a clean stop, a kill, files that were lost or damaged in between.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use moldau_wire::{ErrorCode, api_versions, fetch};

use crate::client::{Client, Witness, fetch_request, frame};
use crate::process::{Folder, Node, wait_for};

/// A node with a topic of some records, stopped.
fn stopped(folder: &Folder) -> Witness {
    let node = Node::start(folder);
    let mut witness = Witness::of(&node, "watched");
    (0..50).for_each(|_| witness.is_served());
    node.stop();
    witness
}

/// The next start finds everything and serves.
fn serves_again(folder: &Folder, witness: Witness) -> (Node, Witness) {
    let node = Node::start(folder);
    let mut witness = witness.again(&node);
    witness.finds_everything();
    witness.is_served();
    (node, witness)
}

/// Files of the data directory whose name ends like this.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_stop_is_clean_and_the_next_start_knows_it() {
    let folder = Folder::new();
    let witness = stopped(&folder);
    let (node, witness) = serves_again(&folder, witness);
    node.logs(&["recovered", "\"clean\":true"]);
    node.stop();
    let (node, _) = serves_again(&folder, witness);
    node.logs(&["recovered", "\"clean\":true"]);
    node.stop();
}

#[test]
fn a_kill_keeps_what_was_acknowledged() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    (0..50).for_each(|_| witness.is_served());
    node.kill();
    for _ in 0..3 {
        let (node, again) = serves_again(&folder, witness);
        node.logs(&["recovered", "\"clean\":false"]);
        node.kill();
        witness = again;
    }
    let (node, _) = serves_again(&folder, witness);
    node.stop();
}

/// Has asked for something that takes its time; `introduced` when something was answered before.
fn waiting(node: &Node, introduced: bool) -> Client {
    let mut client = Client::to(node);
    client.call(3, &api_versions::Request::default());
    if introduced {
        client.call(3, &api_versions::Request::default());
    }
    let request =
        fetch::Request { max_wait_ms: 60_000, min_bytes: 1, ..fetch_request("watched", 0, 1 << 20) };
    client.say(&frame(7, 11, &request));
    client
}

/// Whether the node has read all that it was sent, as the kernel tells in /proc/net/tcp: the queues of both ends are empty.
fn is_read(stream: &TcpStream) -> bool {
    let ports =
        [stream.local_addr(), stream.peer_addr()].map(|address| format!(":{:04X}", address.unwrap().port()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_both = table.lines().filter(|line| ports.iter().all(|port| line.contains(port)));
    let queues: Vec<&str> = of_both.filter_map(|line| line.split_whitespace().nth(4)).collect();
    queues == ["00000000:00000000"; 2]
}

/// A client that was never answered takes the end of a connection for a missing TLS or SASL, and gives up.
#[test]
fn a_killed_node_resets_who_was_not_answered_yet_and_takes_leave_of_the_others() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut created = Client::to(&node);
    assert_eq!(created.create("watched").error_code, ErrorCode::NONE);
    let mut clients = [false, true].map(|introduced| waiting(&node, introduced));
    // What has not been read would make it a reset in any case.
    wait_for("the node to read", || clients.iter().all(|client| is_read(&client.stream)).then_some(()));
    node.kill();
    let ends =
        clients.each_mut().map(|client| client.stream.read(&mut [0; 64]).map_err(|error| error.kind()));
    assert_eq!(ends, [Err(ErrorKind::ConnectionReset), Ok(0)]);
}

/// What is refused is told by an orderly end, however early.
#[test]
fn a_stranger_that_is_refused_is_not_reset() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut stranger = Client::to(&node);
    stranger.say(&[0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(stranger.stream.read(&mut [0; 64]).map_err(|error| error.kind()), Ok(0));
    node.stop();
}

#[test]
fn a_lost_index_is_made_again() {
    let folder = Folder::new();
    let witness = stopped(&folder);
    for end in ["watched-0/00000000000000000000.index", "watched-0/00000000000000000000.timeindex"] {
        for file in files(&folder.data(), end) {
            std::fs::remove_file(file).unwrap();
        }
    }
    let (node, _) = serves_again(&folder, witness);
    node.stop();
}

/// Changes a byte in the middle of every file with such a name; the next start serves all the same.
fn with_a_flipped_byte(end: &str) {
    let folder = Folder::new();
    let witness = stopped(&folder);
    let found = files(&folder.data(), end);
    assert!(!found.is_empty(), "no file ends in {end}");
    for file in found {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x55;
        }
        std::fs::write(&file, bytes).unwrap();
    }
    let (node, _) = serves_again(&folder, witness);
    node.stop();
}

#[test]
fn a_damaged_recovery_point_checkpoint_costs_time_only() {
    with_a_flipped_byte("/recovery-point-offset-checkpoint");
}

#[test]
fn a_damaged_log_start_checkpoint_costs_nothing() {
    with_a_flipped_byte("/log-start-offset-checkpoint");
}

#[test]
fn a_damaged_epoch_checkpoint_is_made_again() {
    with_a_flipped_byte("watched-0/leader-epoch-checkpoint");
}
