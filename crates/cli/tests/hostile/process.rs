//! The binary as a process: started in a folder of its own, watched through its two outputs, ended by its id.
//! Every wait here is bounded; none says how fast something must be.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// The longest that any test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
fn moldau() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moldau"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("moldau-hostile-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The data directory of the node in this folder.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Arguments of a node on a free port whose data lie in `folder`, then those of the test.
pub fn arguments(folder: &Folder, more: &[&str]) -> Vec<String> {
    let data = format!("log.dirs={}", folder.data().display());
    let mut all = vec!["start".to_owned()];
    for set in [
        "listeners=PLAINTEXT://127.0.0.1:0",
        "moldau.http.listener=",
        "moldau.shards=2",
        "offsets.topic.num.partitions=2",
        &data,
    ]
    .iter()
    .chain(more)
    {
        all.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    all
}

/// A running node.
pub struct Node {
    child: Child,
    address: String,
    log: Log,
}

impl Node {
    /// Starts a node on a free port and waits until clients can be served.
    pub fn start(folder: &Folder) -> Node {
        Node::start_with(folder, &[])
    }

    /// The same with more settings.
    pub fn start_with(folder: &Folder, settings: &[&str]) -> Node {
        Node::run(&arguments(folder, settings))
    }

    /// Starts the binary with these arguments and waits until clients can be served.
    pub fn run(arguments: &[String]) -> Node {
        let mut child = moldau().args(arguments).spawn().unwrap();
        let said = Log::of(child.stdout.take().unwrap());
        let log = Log::of(child.stderr.take().unwrap());
        let mut node = Node { child, address: String::new(), log };
        let ready = wait_for("the ready line", || {
            let ended = node.child.try_wait().unwrap();
            assert!(ended.is_none(), "the node has ended with {ended:?}: {}", node.log.text());
            said.line_with("ready ")
        });
        node.address = ready.strip_prefix("ready ").unwrap().to_owned();
        node
    }

    /// Where clients connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits for a line of the log that has all of these in it.
    pub fn logs(&self, parts: &[&str]) -> String {
        wait_for(&format!("a log line with {parts:?} in\n{}", self.log.text()), || {
            self.log.line_with_all(parts)
        })
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        kilobytes(self.child.id(), "status", "VmRSS:") * 1024
    }

    /// Resident memory of the process that is watched and the one that watches it, in bytes; the program they share is counted once.
    pub fn memory_of_both(&self) -> u64 {
        let watched = kilobytes(self.child().cast_unsigned(), "status", "VmRSS:");
        (watched + kilobytes(self.child.id(), "status", "RssAnon:")) * 1024
    }

    /// Asks it to stop, and expects a clean end.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = ended(&mut self.child);
        assert_eq!(status.code(), Some(0), "{}", self.log.text());
    }

    /// Ends it as a power switch does, but for what the kernel still holds.
    pub fn kill(mut self) {
        assert!(!end(&mut self.child).success());
    }

    /// Expects that it ends by itself, and not well.
    pub fn has_failed(mut self) {
        assert!(!ended(&mut self.child).success());
    }

    /// Stands still, and with it the process that would end it for that; its connections stay.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        kill_process(watched(&self.child).unwrap(), Signal::STOP).unwrap();
    }

    /// The process that this one watches.
    pub fn child(&self) -> i32 {
        watched(&self.child).unwrap().as_raw_nonzero().get()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        end(&mut self.child);
        if thread::panicking() {
            eprintln!("the node's log:\n{}", self.log.text());
        }
    }
}

fn kilobytes(process: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// A node that may never be ready.
pub struct Running {
    child: Child,
    log: Log,
}

impl Running {
    pub fn start(arguments: &[String]) -> Running {
        let mut child = moldau().args(arguments).stdout(Stdio::null()).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Running { child, log }
    }

    /// Waits for a line of the log that has all of these in it.
    pub fn logs(&self, parts: &[&str]) {
        wait_for(&format!("a log line with {parts:?}"), || self.log.line_with_all(parts));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Standard output of a command that succeeds, with this as its input.
pub fn command(arguments: &[&str], input: &str) -> String {
    let mut child = moldau().args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let (said, errors) = (Log::of(child.stdout.take().unwrap()), Log::of(child.stderr.take().unwrap()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let status = ended(&mut child);
    wait_for("the end of the outputs", || (said.has_ended() && errors.has_ended()).then_some(()));
    assert!(status.success(), "{arguments:?}: {}", errors.text());
    said.text()
}

/// Starts the binary, which must refuse: what it says on standard error.
pub fn refused(arguments: &[String]) -> String {
    let mut child = moldau().args(arguments).spawn().unwrap();
    let (said, errors) = (Log::of(child.stdout.take().unwrap()), Log::of(child.stderr.take().unwrap()));
    let status = ended(&mut child);
    wait_for("the end of the outputs", || (said.has_ended() && errors.has_ended()).then_some(()));
    assert_eq!(status.code(), Some(1), "{}", errors.text());
    assert_eq!(said.text(), "", "standard output belongs to the ready line");
    errors.text()
}

/// The process that this one watches, if there is one.
fn watched(parent: &Child) -> Option<Pid> {
    let id = parent.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

/// Kills a process, and waits until what it watches is gone as well: that dies with it, but a moment later, and has ports and the
/// lock of a directory until then.
fn end(parent: &mut Child) -> ExitStatus {
    // From before its parent's death, so that the number cannot be another process's.
    let watched = watched(parent).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let _ = parent.kill();
    let status = ended(parent);
    if let Some(watched) = watched {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let gone = poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&patience));
        assert!(gone.is_ok_and(|gone| gone == 1) || thread::panicking(), "a node outlives its parent");
    }
    status
}

fn ended(child: &mut Child) -> ExitStatus {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the process did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a process says, line by line, read as it comes so that the process never waits for us.
#[derive(Clone)]
struct Log(Arc<Mutex<(Vec<String>, bool)>>);

impl Log {
    fn of(output: impl std::io::Read + Send + 'static) -> Log {
        let log = Log(Arc::default());
        let ours = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                ours.0.lock().unwrap().0.push(line);
            }
            ours.0.lock().unwrap().1 = true;
        });
        log
    }

    fn line_with(&self, start: &str) -> Option<String> {
        self.0.lock().unwrap().0.iter().find(|line| line.starts_with(start)).cloned()
    }

    fn line_with_all(&self, parts: &[&str]) -> Option<String> {
        let lines = self.0.lock().unwrap();
        lines.0.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned()
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().0.join("\n")
    }

    fn has_ended(&self) -> bool {
        self.0.lock().unwrap().1
    }
}
