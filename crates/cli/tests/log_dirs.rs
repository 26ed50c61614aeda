//! The binary with two log directories: replicas move between them while clients write and read, and while the process is killed. What
//! was sent is there, once and in order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moldau_client::wire::{ErrorCode, alter_replica_log_dirs, describe_log_dirs};
use moldau_client::{
    Client, ConfigChange, Fetcher, Message, NewTopic, Options, Position, Producer, ProducerOptions, Resource,
};

const MOLDAU: &str = env!("CARGO_BIN_EXE_moldau");
const TOPIC: &str = "moving";
const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A node with two log directories, which go when the test ends.
struct Node {
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Node {
    fn start(name: &str) -> Node {
        let folder = std::env::temp_dir().join(format!("moldau-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Node::spawn(&folder, port);
        Node { folder, port, child }
    }

    fn spawn(folder: &std::path::Path, port: u16) -> Child {
        let dirs = format!("log.dirs={},{}", folder.join("a").display(), folder.join("b").display());
        let listener = format!("listeners=PLAINTEXT://127.0.0.1:{port}");
        let mut child = Command::new(MOLDAU)
            .args(["start", "--set", &dirs, "--set", &listener, "--set", "moldau.shards=2"])
            .args(["--set", "log.segment.delete.delay.ms=500"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "`{line}`");
        child
    }

    fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Node::spawn(&self.folder, self.port);
    }

    fn dir(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    async fn client(&self) -> Client {
        Client::connect(&format!("127.0.0.1:{}", self.port), Options::default()).await.unwrap()
    }
}

/// In which directory each partition is, and those that have a copy on its way.
async fn places(client: &Client) -> (BTreeMap<i32, String>, Vec<i32>) {
    let response = client.call(describe_log_dirs::Request { topics: None }).await.unwrap();
    let (mut places, mut copies) = (BTreeMap::new(), Vec::new());
    for dir in response.results {
        assert_eq!(dir.error_code, ErrorCode::NONE);
        for partition in dir.topics.iter().filter(|topic| topic.name == TOPIC).flat_map(|t| &t.partitions) {
            match partition.is_future_key {
                true => copies.push(partition.partition_index),
                false => {
                    let twice = places.insert(partition.partition_index, dir.log_dir.to_string());
                    assert_eq!(twice, None, "one partition in two directories");
                }
            }
        }
    }
    (places, copies)
}

async fn relocate(client: &Client, topic: &str, partitions: Vec<i32>, to: &str) -> Vec<ErrorCode> {
    use alter_replica_log_dirs::{Request, request};
    let topic = request::Topic { name: topic.into(), partitions };
    let request = Request { dirs: vec![request::Dir { path: to.into(), topics: vec![topic] }] };
    let response = client.call(request).await.unwrap();
    response.results.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code).collect()
}

/// Waits until all partitions are in `dir`; asks again for those that a kill has taken the move from.
async fn until_all_in(client: &Client, dir: &str) {
    let began = Instant::now();
    loop {
        let (places, copies) = places(client).await;
        let missing: Vec<i32> = places.iter().filter(|(_, at)| *at != dir).map(|(index, _)| *index).collect();
        if missing.is_empty() && copies.is_empty() && places.len() == PARTITIONS as usize {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{missing:?} are not in {dir}, copies of {copies:?}");
        let idle: Vec<i32> = missing.into_iter().filter(|index| !copies.contains(index)).collect();
        if !idle.is_empty() {
            relocate(client, TOPIC, idle, dir).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes numbers to every partition until it is told to end; how many there are in each.
async fn produce(client: Client, ends: Arc<AtomicBool>) -> u64 {
    let mut producer = Producer::new(client, ProducerOptions::default()).await.unwrap();
    let padding = "x".repeat(300);
    let mut sent = 0;
    while !ends.load(Ordering::Relaxed) {
        for _ in 0..50 {
            for partition in 0..PARTITIONS {
                let value = format!("{sent} {padding}");
                let message = Message { value: Some(value.as_bytes()), timestamp: 1, ..Message::default() };
                assert_eq!(producer.send(TOPIC, partition, &message).await.unwrap(), sent);
            }
            sent += 1;
        }
        producer.flush().await.unwrap();
        for delivery in producer.deliveries() {
            assert!(delivery.outcome.is_ok(), "{delivery:?}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    sent
}

/// Reads every partition from its beginning: the numbers, each once and in order.
async fn read_back(client: Client, count: u64) {
    let mut fetcher = Fetcher::new(client);
    for partition in 0..PARTITIONS {
        fetcher.seek(TOPIC, partition, Position::Beginning).await.unwrap();
    }
    let mut next: BTreeMap<i32, u64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let began = Instant::now();
    while next.values().any(|next| *next < count) {
        assert!(began.elapsed() < PATIENCE, "{next:?} of {count}");
        for fetched in fetcher.poll().await.unwrap() {
            let next = next.get_mut(&fetched.partition).unwrap();
            for record in fetched.records {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                let number: u64 = value.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(
                    (number, record.offset),
                    (*next, *next as i64),
                    "of partition {}",
                    fetched.partition
                );
                *next += 1;
            }
        }
    }
    assert!(next.values().all(|next| *next == count), "{next:?} of {count}");
}

async fn create(client: &Client) {
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        partitions: PARTITIONS,
        replication_factor: 1,
        configs: [("segment.bytes".to_owned(), "1048576".to_owned())].into(),
    };
    client.create_topic(&topic).await.unwrap();
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn partitions_move_under_load_and_nothing_is_lost() {
    on_a_runtime(async {
        let mut node = Node::start("log-dirs");
        let client = node.client().await;
        create(&client).await;
        let ends = Arc::new(AtomicBool::new(false));
        let load = {
            let (client, ends) = (node.client().await, ends.clone());
            // Its own thread: what it sends is on its way while this one asks.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(produce(client, ends))
            })
        };
        for round in 0..4 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let to = node.dir(if round % 2 == 0 { "b" } else { "a" });
            let codes = relocate(&client, TOPIC, (0..PARTITIONS).collect(), &to).await;
            assert_eq!(codes, vec![ErrorCode::NONE; PARTITIONS as usize]);
            until_all_in(&client, &to).await;
        }
        for round in 0..6_u64 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let to = node.dir(if round % 2 == 0 { "b" } else { "a" });
            let client = node.client().await;
            relocate(&client, TOPIC, (0..PARTITIONS).collect(), &to).await;
            tokio::time::sleep(Duration::from_millis(7 * round * round)).await;
            node.kill_and_start();
            until_all_in(&node.client().await, &to).await;
        }
        ends.store(true, Ordering::Relaxed);
        let count = load.join().unwrap();
        assert!(count > 100, "{count}");
        read_back(node.client().await, count).await;
        node.kill_and_start();
        read_back(node.client().await, count).await;
        let left = std::fs::read_dir(node.folder.join("a"))
            .unwrap()
            .chain(std::fs::read_dir(node.folder.join("b")).unwrap());
        let names: Vec<String> =
            left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(
            names.iter().all(|name| !name.ends_with("-future") && !name.ends_with("-moved")),
            "{names:?}"
        );
    });
}

#[test]
fn requests_are_answered_as_kafka_does() {
    on_a_runtime(async {
        let node = Node::start("log-dirs-answers");
        let client = node.client().await;
        create(&client).await;
        let (a, b) = (node.dir("a"), node.dir("b"));
        assert_eq!(relocate(&client, TOPIC, vec![0], "/no/such/place").await, [ErrorCode::LOG_DIR_NOT_FOUND]);
        assert_eq!(relocate(&client, "none", vec![0], &a).await, [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
        assert_eq!(relocate(&client, TOPIC, vec![9], &a).await, [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
        let long = "x".repeat(220);
        let topic =
            NewTopic { name: long.clone(), partitions: 1, replication_factor: 1, ..NewTopic::default() };
        client.create_topic(&topic).await.unwrap();
        assert_eq!(relocate(&client, &long, vec![0], &a).await, [ErrorCode::INVALID_TOPIC_EXCEPTION]);
        // Nothing is in it yet.
        assert_eq!(relocate(&client, TOPIC, vec![0, 1, 2, 3], &b).await, [ErrorCode::NONE; 4]);
        until_all_in(&client, &b).await;
        let mut producer = Producer::new(node.client().await, ProducerOptions::default()).await.unwrap();
        let value = vec![b'x'; 20_000];
        for _ in 0..200 {
            let message = Message { value: Some(&value), timestamp: 1, ..Message::default() };
            producer.send(TOPIC, 0, &message).await.unwrap();
        }
        producer.flush().await.unwrap();
        // So slow that it is seen on its way, and can be ended.
        let rate = |rate: &str| {
            ConfigChange::Set("replica.alter.log.dirs.io.max.bytes.per.second".to_owned(), rate.to_owned())
        };
        client.alter_configs(&Resource::Broker(None), &[rate("100000")]).await.unwrap();
        assert_eq!(relocate(&client, TOPIC, vec![0], &a).await, [ErrorCode::NONE]);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (at, copies) = places(&client).await;
        assert_eq!((at[&0].as_str(), copies), (b.as_str(), vec![0]));
        assert_eq!(relocate(&client, TOPIC, vec![0], &b).await, [ErrorCode::NONE]);
        assert_eq!(places(&client).await.1, Vec::<i32>::new());
        client.alter_configs(&Resource::Broker(None), &[rate("1000000000")]).await.unwrap();
        relocate(&client, TOPIC, vec![0, 1, 2, 3], &a).await;
        until_all_in(&client, &a).await;
    });
}
