//! Starts that are refused: what is wrong is named with its place and the fix, and nothing has been touched. And one
//! that must not be: the file that starts a real Kafka.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use moldau_batch::{BatchError, Header};

use crate::client::Witness;
use crate::ports::free_port;
use crate::process::{Folder, Node, arguments, refused};

pub fn with_file(file: &Path) -> Vec<String> {
    vec!["start".to_owned(), "--config".to_owned(), file.display().to_string()]
}

/// A file of these lines is refused with this error at this line; no data directory is made.
fn file_refused(lines: &str, at: usize, said: &[&str]) {
    let folder = Folder::new();
    let text = format!("log.dirs={}\n{lines}\n", folder.data().display());
    let file = folder.write("server.properties", &text);
    let errors = refused(&with_file(&file));
    let place = format!("error: {}:{at}: ", file.display());
    let line = errors.lines().find(|line| line.starts_with(&place));
    let line = line.unwrap_or_else(|| panic!("nothing about line {at}: {errors}"));
    for part in said {
        assert!(line.contains(part), "`{line}` does not say `{part}`");
    }
    assert!(!folder.data().exists());
}

#[test]
fn a_key_with_a_typo() {
    file_refused(
        "\n# a comment\nlog.retention.hour=3",
        4,
        &["log.retention.hour;", "did you mean log.retention.hours?"],
    );
}

#[test]
fn a_value_out_of_bounds() {
    file_refused("num.partitions=0", 2, &["num.partitions", "at least 1"]);
    file_refused("log.segment.bytes=many", 2, &["log.segment.bytes", "many"]);
}

#[test]
fn a_promise_that_would_not_be_kept() {
    let lines = "listeners=SAFE://127.0.0.1:0\nlistener.security.protocol.map=SAFE:SASL_SSL";
    file_refused(lines, 3, &["SAFE asks for SASL_SSL", "no listener encrypts or authenticates yet"]);
    file_refused(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        2,
        &["authorizer.class.name"],
    );
}

#[test]
fn two_listeners_on_one_port() {
    let lines = "listeners=A://127.0.0.1:19092,B://127.0.0.1:19092\n\
                 listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT";
    file_refused(
        lines,
        2,
        &["A://127.0.0.1:19092 and B://127.0.0.1:19092 are on one port", "give B a port of its own"],
    );
}

#[test]
fn a_file_that_is_not_there() {
    let folder = Folder::new();
    let errors = refused(&with_file(&folder.path().join("nowhere.properties")));
    assert!(errors.contains("nowhere.properties: cannot be read"), "{errors}");
}

#[test]
fn a_port_that_another_process_has() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = format!("listeners=PLAINTEXT://{}", taken.local_addr().unwrap());
    let errors = refused(&arguments(&folder, &[&listeners]));
    assert!(
        errors.contains(&format!("cannot listen on PLAINTEXT://{}", taken.local_addr().unwrap())),
        "{errors}"
    );
    assert!(errors.contains("Name another port in listeners"), "{errors}");
}

// ---- data directories

/// Every file of a data directory but its lock.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if entry.file_name() != ".lock" {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// A data directory that has served, then changed, is refused in these words and left as it is; once put back it serves again.
fn directory_refused(change: impl FnOnce(String) -> String, settings: &[&str], said: &[&str]) {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    witness.is_served();
    node.stop();
    let meta = folder.data().join("meta.properties");
    let right = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, change(right.clone())).unwrap();
    let before = contents(&folder.data());
    let errors = refused(&arguments(&folder, settings));
    assert!(errors.lines().any(|line| line.starts_with("error: ")), "{errors}");
    for part in said.iter().copied().chain(["meta.properties", &folder.data().display().to_string()]) {
        assert!(errors.contains(part), "`{part}` is not in: {errors}");
    }
    assert!(before == contents(&folder.data()), "a directory of somebody else was changed");

    std::fs::write(&meta, right).unwrap();
    let node = Node::start(&folder);
    let mut witness = witness.again(&node);
    witness.finds_everything();
    witness.is_served();
    node.stop();
}

#[test]
fn the_data_of_another_cluster() {
    let other = "cluster.id=AAAAAAAAAAAAAAAAAAAAAQ";
    directory_refused(
        |meta| meta,
        &[other],
        &["this directory belongs to cluster", "not to AAAAAAAAAAAAAAAAAAAAAQ"],
    );
}

#[test]
fn the_data_of_another_node() {
    directory_refused(|meta| meta, &["node.id=7"], &["this directory belongs to node 1, but node.id is 7"]);
}

#[test]
fn the_data_of_a_later_release() {
    let later = |meta: String| meta.replace("version=1", "version=2");
    directory_refused(later, &[], &["version 2 was written by a later release; this one reads version 1"]);
}

#[test]
fn a_damaged_identity() {
    directory_refused(|meta| meta.replace("node.id=1", "node.id=one"), &[], &["node.id is no number"]);
    directory_refused(|meta| meta.replace("cluster.id", "clutter.id"), &[], &["no cluster.id"]);
    directory_refused(|_| String::new(), &[], &["no version"]);
}

/// The metadata log of a node that was stopped, changed: it is refused in these words however often one tries, and serves once put back.
fn metadata_refused(change: impl FnOnce(&mut Vec<u8>), said: &str) {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    witness.is_served();
    node.stop();
    let log = folder.data().join("__cluster_metadata-0/00000000000000000000.log");
    let right = std::fs::read(&log).unwrap();
    let mut bytes = right.clone();
    change(&mut bytes);
    std::fs::write(&log, bytes).unwrap();
    for _ in 0..2 {
        let errors = refused(&arguments(&folder, &[]));
        assert!(errors.contains(said), "`{said}` is not in: {errors}");
    }
    std::fs::write(&log, right).unwrap();
    let node = Node::start(&folder);
    let mut witness = witness.again(&node);
    witness.finds_everything();
    witness.is_served();
    node.stop();
}

/// The last entry of the metadata log was acknowledged: after a clean stop it is not taken for the torn end of a crash.
#[test]
fn a_metadata_log_whose_end_is_damaged() {
    metadata_refused(|bytes| *bytes.last_mut().unwrap() ^= 1, "the node had stopped cleanly");
}

/// A record that is whole and makes no sense is known before anybody is served.
#[test]
fn a_metadata_log_that_is_not_understood() {
    let forge = |bytes: &mut Vec<u8>| {
        let (mut at, mut forged) = (0, false);
        while let Ok(header) = Header::verify(&bytes[at..]) {
            let batch = &mut bytes[at..at + header.size()];
            if let Some(name) = batch.windows(7).position(|text| text == b"watched") {
                batch[name] = 0xff;
                let Err(BatchError::BadChecksum { computed, .. }) = Header::verify(batch) else { panic!() };
                batch[17..21].copy_from_slice(&computed.to_be_bytes());
                forged = true;
            }
            at += header.size();
        }
        assert!(forged, "the topic is in the log");
    };
    metadata_refused(forge, "is not understood");
}

#[test]
fn a_directory_that_was_copied() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    node.stop();
    let copy = folder.path().join("copy");
    let meta = std::fs::read_to_string(folder.data().join("meta.properties")).unwrap();
    folder.write("copy/meta.properties", &meta);
    let both = format!("log.dirs={},{}", folder.data().display(), copy.display());
    let errors = refused(&arguments(&folder, &[&both]));
    assert!(errors.contains("is another directory's too; was it copied?"), "{errors}");
}

#[test]
fn a_second_process_on_one_data_directory() {
    let folder = Folder::new();
    let node = Node::start(&folder);
    let mut witness = Witness::of(&node, "watched");
    let errors = refused(&arguments(&folder, &[]));
    let said = format!("log directory {} is in use by another process", folder.data().display());
    assert!(errors.contains(&said), "{errors}");
    witness.is_served();
    witness.finds_everything();
    node.stop();
}

// ---- the file of a real Kafka

/// The keys and values of the file that Kafka 4.3 ships for a single node, on other ports and another directory.
fn kafka_file(port: u16, controller: u16, data: &Path) -> String {
    let settings = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", "1".to_owned()),
        ("controller.quorum.bootstrap.servers", format!("localhost:{controller}")),
        ("listeners", format!("PLAINTEXT://:{port},CONTROLLER://:{controller}")),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        ("advertised.listeners", format!("PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        (
            "listener.security.protocol.map",
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL".to_owned(),
        ),
        ("num.network.threads", "3".to_owned()),
        ("num.io.threads", "8".to_owned()),
        ("socket.send.buffer.bytes", "102400".to_owned()),
        ("socket.receive.buffer.bytes", "102400".to_owned()),
        ("socket.request.max.bytes", "104857600".to_owned()),
        ("log.dirs", data.display().to_string()),
        ("num.partitions", "1".to_owned()),
        ("num.recovery.threads.per.data.dir", "1".to_owned()),
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
        ("share.coordinator.state.topic.min.isr", "1".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("log.retention.hours", "168".to_owned()),
        ("log.segment.bytes", "1073741824".to_owned()),
        ("log.retention.check.interval.ms", "300000".to_owned()),
    ];
    settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

#[test]
fn the_file_of_a_real_kafka_starts_a_node() {
    let folder = Folder::new();
    let file = kafka_file(free_port(), free_port(), &folder.data());
    let file = folder.write("server.properties", &file);
    let node = Node::run(&with_file(&file));
    node.logs(&["num.network.threads has no effect"]);
    let mut witness = Witness::of(&node, "watched");
    witness.is_served();
    node.stop();
}

#[test]
fn the_file_of_an_older_kafka_starts_a_node() {
    let folder = Folder::new();
    let (port, controller) = (free_port(), free_port());
    let file = kafka_file(port, controller, &folder.data());
    let voters = format!("controller.quorum.voters=1@localhost:{controller}\n");
    let file: String = file
        .lines()
        .map(|line| match line.starts_with("controller.quorum.bootstrap.servers") {
            true => voters.clone(),
            false => format!("{line}\n"),
        })
        .collect();
    let file = folder.write("server.properties", &file);
    let node = Node::run(&with_file(&file));
    Witness::of(&node, "watched").is_served();
    node.stop();
}
