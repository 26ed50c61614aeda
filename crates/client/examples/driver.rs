//! This client as a program of `interop/README.md`'s kind, for `cargo xtask crash`: `driver BOOTSTRAP CASE [name=value ...]`.
//!
//! It waits for a broker that is away, as the other families do. It must never tell of an acknowledgement that it did not get.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moldau_client::wire::{create_topics, describe_quorum};
use moldau_client::{
    Client, ConfigChange, Delivery, Fetched, Fetcher, Member, MemberOptions, Message, NewTopic, Options,
    Position, Producer, ProducerOptions, Resource,
};
use tokio::time::Instant;

type Answer = Result<String, Box<dyn Error>>;

/// How long something may be tried again while the broker is away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a writer sends.
const TICK: Duration = Duration::from_millis(10);

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(bootstrap), Some(case)) = (words.next(), words.next()) else {
        eprintln!("usage: driver BOOTSTRAP CASE [name=value ...]");
        std::process::exit(2);
    };
    let args = Args(words.filter_map(|w| w.split_once('=').map(|(k, v)| (k.into(), v.into()))).collect());
    let answer = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&bootstrap, &case, &args)),
        Err(why) => Err(why.into()),
    };
    let (ok, detail) = match &answer {
        Ok(detail) => (true, detail.clone()),
        Err(why) => (false, why.to_string()),
    };
    let plain = |c: char| if c.is_ascii() && !c.is_control() { c } else { '?' };
    let detail: String = detail.chars().map(plain).collect();
    println!("{{\"case\":{case:?},\"ok\":{ok},\"detail\":{detail:?}}}");
    std::process::exit(i32::from(!ok));
}

/// The words `name=value`.
struct Args(HashMap<String, String>);

impl Args {
    fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("{name}= is missing"))
    }

    /// The words whose names have a dot: configs of a topic.
    fn configs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter().filter(|(name, _)| name.contains('.'))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        self.text(name)?.parse().map_err(|_| format!("{name}= is no such number"))
    }
}

async fn run(bootstrap: &str, case: &str, args: &Args) -> Answer {
    let options = Options {
        connect_timeout: Duration::from_secs(5),
        retry_for: args.number("patience").map_or(PATIENCE, Duration::from_secs),
        ..Options::default()
    };
    let client = connect(bootstrap, options).await?;
    match case {
        "create" => create(&client, args).await,
        "delete" => Ok(client.delete_topic(args.text("topic")?).await.map(|()| "deleted".to_owned())?),
        "alter" => alter(&client, args).await,
        "trim" => trim(&client, args).await,
        "load" if args.text("fresh").is_ok() => fresh(bootstrap, args).await,
        "load" => load(&client, args).await,
        "member" => member(&client, args).await,
        "assign" => assign(&client, args).await,
        "controller" => controller(&client).await,
        "replicas" => replicas(&client, args.text("topic")?).await,
        "bounds" => bounds(&client, args.text("topic")?).await.map(|(starts, ends)| joined(&starts, &ends)),
        "read" => read(&client, args).await,
        "committed" => committed(&client, args).await,
        other => Err(format!("no case {other}").into()),
    }
}

async fn connect(bootstrap: &str, options: Options) -> Result<Client, Box<dyn Error>> {
    let until = Instant::now() + options.retry_for;
    loop {
        match Client::connect(bootstrap, options.clone()).await {
            Ok(client) => return Ok(client),
            Err(why) if !why.is_retriable() || Instant::now() >= until => return Err(why.into()),
            Err(_) => tokio::time::sleep(options.retry_pause).await,
        }
    }
}

/// Set when standard input has ended, which asks to leave.
fn told_to_leave() -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut std::io::sink());
        tell.store(true, Ordering::Relaxed);
    });
    told
}

async fn create(client: &Client, args: &Args) -> Answer {
    let topic = NewTopic {
        name: args.text("topic")?.to_owned(),
        partitions: args.number("parts")?,
        replication_factor: args.number("replicas").unwrap_or(1),
        configs: args
            .configs()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
    };
    client.create_topic(&topic).await?;
    client.ready_topic(&topic.name, false).await?;
    Ok(format!("{} partitions", topic.partitions))
}

/// Sets a config of a topic: `set=name=value`.
async fn alter(client: &Client, args: &Args) -> Answer {
    let (name, value) = args.text("set")?.split_once('=').ok_or("set= has no value")?;
    let change = ConfigChange::Set(name.to_owned(), value.to_owned());
    client.alter_configs(&Resource::Topic(args.text("topic")?.to_owned()), &[change]).await?;
    Ok(format!("{name}={value}"))
}

/// Deletes the records of every partition before `to` (comma-separated offsets); answers with the new starts.
async fn trim(client: &Client, args: &Args) -> Answer {
    let mut starts = Vec::new();
    for (partition, to) in args.text("to")?.split(',').enumerate() {
        let start = client.delete_records(args.text("topic")?, partition as i32, to.parse()?).await?;
        starts.push(start.to_string());
    }
    Ok(starts.join(","))
}

/// Writes records until told to leave; each acknowledgement goes to a file as `partition offset number time`, a failure as
/// `! partition number reason`.
async fn load(client: &Client, args: &Args) -> Answer {
    let (topic, id) = (args.text("topic")?, args.text("id")?);
    let (parts, rate): (i32, f64) = (args.number("parts")?, args.number("rate")?);
    let timeout = args.number("timeout").map_or(PATIENCE * 2, Duration::from_secs);
    let tick = args.number("tick").map_or(TICK, Duration::from_millis);
    let mut acks = Acks { file: BufWriter::new(File::create(args.text("acks")?)?), counts: [0; 2] };
    let left = told_to_leave();
    let options = ProducerOptions { delivery_timeout: timeout, ..ProducerOptions::default() };
    let mut producer = Producer::new(client.clone(), options).await?;
    let began = Instant::now();
    let mut sent = 0_u64;
    while !left.load(Ordering::Relaxed) {
        // It may stay behind the rate for ever, on a busy machine.
        while (sent as f64) < began.elapsed().as_secs_f64() * rate && !left.load(Ordering::Relaxed) {
            let partition = (sent % parts.unsigned_abs() as u64) as i32;
            let value = value(id, partition, sent / u64::from(parts.unsigned_abs()));
            let timestamp = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
            let message =
                Message { key: Some(id.as_bytes()), value: Some(value.as_bytes()), headers: &[], timestamp };
            producer.send(topic, partition, &message).await?;
            sent += 1;
            if sent.is_multiple_of(256) {
                acks.note(producer.deliveries())?;
            }
        }
        acks.note(producer.deliveries())?;
        tokio::time::sleep(tick).await;
    }
    producer.flush().await?;
    acks.note(producer.deliveries())?;
    Ok(format!("sent {sent} acknowledged {} failed {}", acks.counts[0], acks.counts[1]))
}

/// As [`load`], each record by a client of its own that begins just then and gives up soon: what somebody sees who comes at that moment. A client
/// begins for every partition each `fresh` milliseconds; where it asks first goes around.
async fn fresh(bootstrap: &str, args: &Args) -> Answer {
    let (topic, parts): (_, i32) = (args.text("topic")?.to_owned(), args.number("parts")?);
    let mut tick = tokio::time::interval(Duration::from_millis(args.number("fresh")?));
    let mut acks = Acks { file: BufWriter::new(File::create(args.text("acks")?)?), counts: [0; 2] };
    let mut addresses: Vec<&str> = bootstrap.split(',').collect();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let left = told_to_leave();
    while !left.load(Ordering::Relaxed) {
        tick.tick().await;
        addresses.rotate_left(1);
        for partition in 0..parts {
            let (topic, addresses, tell) = (topic.clone(), addresses.join(","), tell.clone());
            tokio::spawn(async move {
                if let Ok(deliveries) = once(&addresses, &topic, partition).await {
                    let _ = tell.send(deliveries);
                }
            });
        }
        while let Ok(deliveries) = told.try_recv() {
            acks.note(deliveries)?;
        }
    }
    Ok(format!("acknowledged {} failed {}", acks.counts[0], acks.counts[1]))
}

/// One record by a client of its own.
async fn once(
    bootstrap: &str,
    topic: &str,
    partition: i32,
) -> Result<Vec<Delivery>, moldau_client::ClientError> {
    let options = Options {
        connect_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_secs(1),
        retry_for: Duration::from_secs(1),
        retry_pause: Duration::from_millis(50),
        ..Options::default()
    };
    let client = Client::connect(bootstrap, options).await?;
    let options = ProducerOptions {
        linger: Duration::ZERO,
        idempotent: false,
        delivery_timeout: Duration::from_secs(1),
        ..ProducerOptions::default()
    };
    let mut producer = Producer::new(client, options).await?;
    producer.send(topic, partition, &Message { value: Some(b"fresh"), ..Message::default() }).await?;
    producer.flush().await?;
    Ok(producer.deliveries())
}

struct Acks {
    file: BufWriter<File>,
    counts: [u64; 2],
}

impl Acks {
    fn note(&mut self, deliveries: Vec<Delivery>) -> std::io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        for delivery in deliveries {
            let Delivery { partition, first, count, outcome, .. } = delivery;
            for at in 0..u64::from(count.unsigned_abs()) {
                let number = first + at;
                match &outcome {
                    Ok(-1) => writeln!(self.file, "{partition} -1 {number} {now}")?,
                    Ok(offset) => writeln!(self.file, "{partition} {} {number} {now}", offset + at as i64)?,
                    Err(why) => writeln!(self.file, "! {partition} {number} {why}")?,
                }
                self.counts[usize::from(outcome.is_err())] += 1;
            }
        }
        self.file.flush()
    }
}

/// Value of a writer's record `number` of a partition, as in every language.
fn value(id: &str, partition: i32, number: u64) -> String {
    let head = format!("{id} {partition} {number} ");
    let size = (24 + (number * 7919 + u64::from(partition.unsigned_abs()) * 104_729) % 600) as usize;
    head.chars().cycle().take(size.max(head.len())).collect()
}

/// Reads in a group until told to leave, keeps every record, then commits.
async fn member(client: &Client, args: &Args) -> Answer {
    let mut out = BufWriter::new(File::options().create(true).append(true).open(args.text("out")?)?);
    let left = told_to_leave();
    let mut options = MemberOptions::new(args.text("group")?, &[args.text("topic")?.to_owned()]);
    options.session_timeout = Duration::from_secs(6);
    let mut member = Member::new(client.clone(), options);
    member.fetcher().max_wait = Duration::from_millis(100);
    let mut count = 0;
    while !left.load(Ordering::Relaxed) {
        let fetched = match member.poll().await {
            Ok(fetched) => fetched,
            Err(why) if why.is_retriable() => continue,
            Err(why) => return Err(why.into()),
        };
        count += keep(&mut out, &fetched)?;
        match member.commit().await {
            Err(why) if !why.is_retriable() => return Err(why.into()),
            _ => {}
        }
    }
    member.leave().await?;
    Ok(format!("{count} records"))
}

/// Appends records to a file: partition, offset, key, value, as `interop/README.md` has it.
fn keep(out: &mut BufWriter<File>, fetched: &[Fetched]) -> std::io::Result<usize> {
    let mut count = 0;
    for Fetched { partition, records, .. } in fetched {
        for record in records {
            out.write_all(&partition.to_be_bytes())?;
            out.write_all(&record.offset.to_be_bytes())?;
            for field in [&record.key, &record.value] {
                let size = field.as_ref().map_or(-1, |f| i32::try_from(f.len()).unwrap_or(i32::MAX));
                out.write_all(&size.to_be_bytes())?;
                out.write_all(field.as_deref().unwrap_or_default())?;
            }
            count += 1;
        }
    }
    out.flush()?;
    Ok(count)
}

/// Creates a topic whose partitions all have these replicas (`on=1,2,3`), the first of them the leader.
async fn assign(client: &Client, args: &Args) -> Answer {
    let (topic, parts) = (args.text("topic")?, args.number::<i32>("parts")?);
    let on: Vec<i32> = args.text("on")?.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let assignment =
        |partition_index| create_topics::request::Assignment { partition_index, broker_ids: on.clone() };
    let config = |name: &String, value: &String| create_topics::request::Config {
        name: name.as_str().into(),
        value: Some(value.as_str().into()),
    };
    let request = create_topics::Request {
        topics: vec![create_topics::request::Topic {
            name: topic.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..parts).map(assignment).collect(),
            configs: args.configs().map(|(name, value)| config(name, value)).collect(),
        }],
        timeout_ms: 30_000,
        validate_only: false,
    };
    for topic in client.call(request).await?.topics {
        if !topic.error_code.is_ok() {
            return Err(topic.error_code.name().into());
        }
    }
    client.ready_topic(topic, false).await?;
    Ok(format!("{parts} partitions on {on:?}"))
}

/// The active controller, by its node id; -1 where nobody knows.
async fn controller(client: &Client) -> Answer {
    let partition = describe_quorum::request::Partition { partition_index: 0 };
    let topic = describe_quorum::request::Topic {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![partition],
    };
    let answer = client.call(describe_quorum::Request { topics: vec![topic] }).await?;
    let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
    Ok(found.map_or(-1, |partition| partition.leader_id).to_string())
}

/// Of every partition, `leader:in sync:replicas`, a number each.
async fn replicas(client: &Client, topic: &str) -> Answer {
    let found = client.ready_topic(topic, false).await?;
    let of = |p: &moldau_client::Partition| format!("{}:{}:{}", p.leader, p.in_sync.len(), p.replicas.len());
    Ok(found.partitions.iter().map(of).collect::<Vec<_>>().join(","))
}

/// Where every partition begins and ends.
async fn bounds(client: &Client, topic: &str) -> Result<(Vec<i64>, Vec<i64>), Box<dyn Error>> {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for partition in client.ready_topic(topic, false).await?.partitions {
        starts.push(client.offset_at(topic, partition.index, -2).await?.0);
        ends.push(client.offset_at(topic, partition.index, -1).await?.0);
    }
    Ok((starts, ends))
}

fn joined(starts: &[i64], ends: &[i64]) -> String {
    let list = |offsets: &[i64]| offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    format!("{} {}", list(starts), list(ends))
}

/// Reads every partition from `from` (comma-separated offsets, or `start`) to where it ends now; answers with where each
/// began and ended.
async fn read(client: &Client, args: &Args) -> Answer {
    let topic = args.text("topic")?;
    let mut out = BufWriter::new(File::create(args.text("out")?)?);
    let (starts, ends) = bounds(client, topic).await?;
    let wanted: Vec<&str> = args.text("from")?.split(',').collect();
    let mut failed = Vec::new();
    for (partition, (start, end)) in starts.iter().zip(&ends).enumerate() {
        let index = i32::try_from(partition)?;
        let from = wanted.get(partition).and_then(|at| at.parse().ok()).unwrap_or(*start);
        if let Err(why) = read_partition(client, (topic, index), (from, *end), &mut out).await {
            failed.push(why.to_string());
        }
    }
    match failed.is_empty() {
        true => Ok(joined(&starts, &ends)),
        false => Err(failed.join("; ").into()),
    }
}

async fn read_partition(
    client: &Client,
    (topic, partition): (&str, i32),
    (from, end): (i64, i64),
    out: &mut BufWriter<File>,
) -> Result<(), Box<dyn Error>> {
    let mut fetcher = Fetcher::new(client.clone());
    fetcher.seek(topic, partition, Position::Offset(from)).await?;
    let (mut at, until) = (from, Instant::now() + PATIENCE);
    while at < end {
        let fetched = fetcher.poll().await?;
        keep(out, &fetched)?;
        at = fetched.iter().map(|f| f.next_offset).max().unwrap_or(at);
        if Instant::now() > until {
            return Err(format!("{topic}-{partition}: nothing at offset {at}, before its end {end}").into());
        }
    }
    Ok(())
}

/// The committed offsets of a group, a line `partition=offset` each.
async fn committed(client: &Client, args: &Args) -> Answer {
    let offsets = client.committed(args.text("group")?).await?;
    let places: Vec<String> = offsets.iter().map(|c| format!("{}={}", c.partition, c.offset)).collect();
    Ok(places.join(","))
}
