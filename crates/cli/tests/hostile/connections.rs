//! Clients that take and do not give: requests that never end, answers that are never read.

use std::io::{ErrorKind, Write};

use bytes::{BufMut, Bytes, BytesMut};
use moldau_wire::metadata;

use crate::client::{Client, Witness, batch, fetch_request, frame};
use crate::process::{Folder, Node, wait_for};

const MIB: u64 = 1 << 20;

/// Descriptors that this process keeps for everything else.
const RESERVED: u64 = 500;

/// How many connections this process may open, at most `wanted`: each side of a connection is a process of its own.
fn allowed(wanted: usize) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let most = limit.maximum.map_or(wanted as u64, |most| most.saturating_sub(RESERVED));
    wanted.min(usize::try_from(most).unwrap())
}

#[test]
fn ten_thousand_half_requests_cost_little_and_stop_nobody() {
    let folder = Folder::new();
    let node = Node::start_with(&folder, &["socket.listen.backlog.size=4096"]);
    let mut witness = Witness::of(&node, "watched");
    let before = node.memory();
    let whole = frame(1, 9, &metadata::Request::default());
    let count = allowed(10_000);
    let mut open = Vec::with_capacity(count);
    for at in 0..count {
        let mut client = Client::to(&node);
        client.say(&whole[..whole.len() / 2]);
        open.push(client);
        if at % 1_000 == 0 {
            witness.is_served();
        }
    }
    witness.is_served();
    let each = node.memory().saturating_sub(before) / count as u64;
    assert!(each < 8 * 1024, "{each} bytes for an idle connection");

    // Each is still as good as any other.
    for client in open.iter_mut().step_by(997) {
        client.say(&whole[whole.len() / 2..]);
        assert_eq!(client.answer()[..4], [0, 0, 0, 1]);
    }
    drop(open);
    witness.is_served();
    node.stop();
}

#[test]
fn large_requests_that_never_come_keep_nobody_waiting() {
    let folder = Folder::new();
    let node = Node::start_with(&folder, &["queued.max.request.bytes=134217728"]);
    let mut witness = Witness::of(&node, "watched");
    let before = node.memory();
    let mut begun = BytesMut::new();
    begun.put_u32(100 * MIB as u32);
    begun.put_bytes(0, 20);
    let open: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::to(&node);
            client.say(&begun);
            client
        })
        .collect();
    for _ in 0..20 {
        witness.is_served();
    }
    Witness::of(&node, "made-meanwhile");
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes for lengths alone");
    drop(open);
    witness.is_served();
    node.stop();
}

#[test]
fn requests_that_stop_half_way_give_their_memory_back() {
    let folder = Folder::new();
    let settings = ["socket.request.max.bytes=1048576", "queued.max.request.bytes=2097152"];
    let node = Node::start_with(&folder, &settings);
    let mut witness = Witness::of(&node, "watched");
    let mut most = BytesMut::new();
    most.put_u32(MIB as u32);
    most.put_bytes(0, 900_000);
    let open: Vec<Client> = (0..4)
        .map(|_| {
            let client = Client::to(&node);
            // What the node does not take stays with this side.
            client.stream.set_nonblocking(true).unwrap();
            let mut rest = &most[..];
            while let Ok(n) = (&client.stream).write(rest) {
                rest = &rest[n..];
                if rest.is_empty() {
                    break;
                }
            }
            client
        })
        .collect();
    for _ in 0..20 {
        witness.is_served();
    }
    node.logs(&["half a request while memory is short (queued.max.request.bytes)"]);
    drop(open);
    witness.is_served();
    witness.finds_everything();
    node.stop();
}

/// Sends `request` until the node takes no more.
fn send_without_reading(client: &mut Client, request: &Bytes, witness: &mut Witness) -> u64 {
    const ENOUGH: u64 = 256 * MIB;
    client.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut at, mut full) = (0, 0, 0);
    while full < 20 {
        match client.stream.write(&request[at..]) {
            Ok(n) => (sent, at, full) = (sent + n as u64, (at + n) % request.len(), 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                full += 1;
                witness.is_served();
            }
        }
        assert!(sent < ENOUGH, "the node reads from a client that does not read from it");
    }
    sent
}

#[test]
fn a_client_that_never_reads_is_not_read_from() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    let mut client = Client::to(&node);
    client.create("large");
    for _ in 0..16 {
        assert_eq!(client.produce("large", batch(&vec![7; 1_000_000])).error_code.0, 0);
    }
    let before = node.memory();
    let fetch = frame(1, 11, &fetch_request("large", 0, 16 << 20));
    let mut wordy = metadata::Request { topics: Some(Vec::new()), ..Default::default() };
    let unknown = |at: usize| metadata::request::Topic {
        name: Some(format!("unknown-{at:04}-{}", "x".repeat(200)).into()),
        ..Default::default()
    };
    wordy.topics = Some((0..200).map(unknown).collect());
    let wordy = frame(1, 9, &wordy);
    for request in [&fetch, &wordy] {
        let mut silent: Vec<Client> = (0..4).map(|_| Client::to(&node)).collect();
        for silent in &mut silent {
            send_without_reading(silent, request, &mut witness);
        }
        witness.is_served();
        let grown = node.memory().saturating_sub(before);
        assert!(grown < 96 * MIB, "{grown} bytes");
    }
    witness.finds_everything();
    node.stop();
}

#[test]
fn connections_beyond_the_limit_are_refused_and_counted() {
    let folder = Folder::new();
    let node = Node::start_with(&folder, &["max.connections=4"]);
    let mut witness = Witness::of(&node, "watched");
    let open: Vec<Client> = (0..3).map(|_| Client::to(&node)).collect();
    Client::to(&node).expect_closed();
    node.logs(&["connection refused: too many (max.connections"]);
    witness.is_served();
    drop(open);
    wait_for("a free place", || {
        let mut client = Client::to(&node);
        client.say(&frame(1, 9, &metadata::Request::default()));
        client.stream.peek(&mut [0; 4]).is_ok_and(|n| n > 0).then_some(())
    });
    node.stop();
}
