//! The binary as a user has it: a node started with nothing but a folder, every command against it, a clean stop.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const MOLDAU: &str = env!("CARGO_BIN_EXE_moldau");

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("moldau-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running node.
struct Node {
    child: Child,
    address: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_command(data: &Path) -> Command {
    let mut command = Command::new(MOLDAU);
    command
        .args([
            "start",
            "--set",
            "listeners=PLAINTEXT://127.0.0.1:0",
            "--set",
            "group.initial.rebalance.delay.ms=0",
        ])
        .args(["--set", "moldau.shards=2", "--set", "offsets.topic.num.partitions=4"])
        .arg("--set")
        .arg(format!("log.dirs={}", data.display()))
        .stdin(Stdio::null());
    command
}

impl Node {
    fn start(data: &Path) -> Node {
        let mut child =
            start_command(data).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("cannot start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("`{line}`")).to_owned();
        Node { child, address }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(MOLDAU);
        command.args(["-b", &self.address]).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a command that succeeds.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that is refused.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn produce(&self, topic: &str, lines: &str) {
        let mut command = self.command(&["produce", topic, "-k", ":"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_command_works_against_a_node_and_its_data_survive_a_stop() {
    let folder = Folder::new("walkthrough");
    let data = folder.0.join("data");
    let node = Node::start(&data);

    assert_eq!(
        node.said(&["topics", "create", "hello", "-p", "3"]),
        "created topic hello with 3 partitions\n"
    );
    assert!(node.refused(&["topics", "create", "hello"]).contains("TOPIC_ALREADY_EXISTS"));
    assert!(node.said(&["topics", "create", "hello", "--if-not-exists"]).contains("is there already"));
    assert!(node.said(&["topics", "list"]).contains("hello"));
    let listed: serde_json::Value =
        serde_json::from_str(&node.said(&["topics", "list", "--output", "json"])).unwrap();
    assert_eq!(listed[0]["partitions"], 3);

    let records: String = (0..500).map(|n| format!("k{n}:v{n}\n")).collect();
    node.produce("hello", &records);
    let read = node.said(&["consume", "hello", "--from", "beginning", "-e", "-k", ":"]);
    assert_eq!(sorted(&read), sorted(&records));
    let first = node.said(&["consume", "hello", "--from", "beginning", "-n", "1", "--output", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&first).unwrap()["offset"], 0);

    let group = ["consume", "hello", "-g", "readers", "--from", "beginning", "-e"];
    assert_eq!(node.said(&group).lines().count(), 500);
    assert_eq!(node.said(&group), "");
    assert!(node.said(&["groups", "list"]).contains("readers"));
    node.said(&["groups", "reset", "readers", "--topic", "hello", "--to", "beginning"]);
    assert_eq!(node.said(&group).lines().count(), 500);

    node.said(&["topics", "alter", "hello", "-p", "4", "--set", "retention.ms=3600000"]);
    assert!(node.said(&["topics", "describe", "hello"]).contains("retention.ms"));
    let refused = node.refused(&["topics", "alter", "hello", "--set", "segment.bytes=5"]);
    assert!(refused.contains("Value must be at least 1048576"), "{refused}");
    assert!(node.refused(&["topics", "describe", "nope"]).contains("moldau topics create nope"));

    let second = start_command(&data).output().unwrap();
    assert_eq!((second.status.code(), second.stdout.len()), (Some(1), 0));

    node.stop();
    let node = Node::start(&data);
    assert_eq!(node.said(&["consume", "hello", "--from", "beginning", "-e"]).lines().count(), 500);
    assert_eq!(node.said(&group), "");
    node.said(&["groups", "delete", "readers"]);
    node.stop();

    let dumped = Command::new(MOLDAU).args(["log", "dump"]).arg(data.join("hello-0")).output().unwrap();
    assert!(String::from_utf8_lossy(&dumped.stdout).contains(", 0 problems"));
}

#[test]
fn a_mistake_is_refused_with_its_line_and_the_fix() {
    let folder = Folder::new("mistakes");
    let file = folder.0.join("server.properties");
    std::fs::write(&file, "# a file\nnum.partitons=3\n").unwrap();
    let output = Command::new(MOLDAU).args(["start", "--config"]).arg(&file).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("error: {}:2: there is no key num.partitons; did you mean num.partitions?\n", file.display());
    assert_eq!(said, expected);

    let alone = Command::new(MOLDAU).args(["-b", "127.0.0.1:1", "topics", "list"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("is a broker running there?"));

    let dumped = Command::new(MOLDAU).args(["log", "dump"]).arg(&file).output().unwrap();
    assert_eq!(dumped.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&dumped.stderr).contains("is no directory; name that of the partition"));
}

#[test]
fn the_committed_reference_is_what_the_binary_prints() {
    let printed = Command::new(MOLDAU).args(["config", "reference"]).output().unwrap();
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    let committed = std::fs::read_to_string(committed).unwrap();
    assert!(committed == String::from_utf8_lossy(&printed.stdout), "run `cargo xtask docs`");
}
