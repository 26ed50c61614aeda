//! The legs: topics whose leaders and followers are known, loads of `moldau-bench` on them, and what the nodes used meanwhile.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::NODES;
use crate::cluster::contender::Nodes;
use crate::crash::load::Programs;

/// Between two loads: deleted files go, and what was written is written back.
const REST: Duration = Duration::from_secs(2);
/// Most partitions of a topic.
const TOPIC_PARTITIONS: usize = 1000;

/// The programs that a leg needs.
pub struct Bench {
    /// `moldau-bench`.
    pub load: PathBuf,
    /// Our own client.
    pub programs: Programs,
}

/// How much is sent.
#[derive(Clone, Copy)]
pub struct Volume {
    /// Gigabytes of a load that is measured by its volume.
    gigabytes: f64,
    /// Seconds of a load of fixed rate, or of an idle cluster.
    seconds: u64,
    /// Partitions of an idle cluster.
    partitions: usize,
}

impl Volume {
    /// What figures are quoted from.
    pub const WHOLE: Volume = Volume { gigabytes: 1.0, seconds: 10, partitions: 10_000 };
    /// To see that everything works.
    pub const QUICK: Volume = Volume { gigabytes: 0.05, seconds: 2, partitions: 300 };
}

/// What is measured together.
pub struct Leg {
    /// Its name in PERFORMANCE's list of workloads.
    pub name: &'static str,
    /// Rounds that do not count.
    pub warm: usize,
    /// It takes long and is measured once.
    pub once: bool,
    work: fn(&Work<'_>) -> Result<Vec<Figure>>,
}

/// The legs, in the order in which they are measured.
pub const LEGS: [Leg; 6] = [
    Leg { name: "W5", warm: 2, once: false, work: produce },
    Leg { name: "W6", warm: 2, once: false, work: many_producers },
    Leg { name: "W7-1", warm: 1, once: false, work: |work| latency(work, &SLOW) },
    Leg { name: "W7-10", warm: 1, once: false, work: |work| latency(work, &FAST) },
    Leg { name: "W19", warm: 1, once: false, work: follower_fetch },
    Leg { name: "W12", warm: 0, once: true, work: idle },
];

/// One number: which row of the table, and its value.
pub type Figure = (&'static str, f64);

/// A leg on one side.
struct Work<'a> {
    bench: &'a Bench,
    nodes: &'a Nodes,
    volume: Volume,
    /// No other load has topics that begin so.
    prefix: String,
}

/// Measures a leg on one side.
pub fn measure(leg: &Leg, bench: &Bench, nodes: &Nodes, volume: Volume, round: usize) -> Result<Vec<Figure>> {
    let prefix = format!("{}-{round}", leg.name.to_lowercase());
    let figures = (leg.work)(&Work { bench, nodes, volume, prefix });
    sleep(REST);
    figures
}

/// A batch a millisecond.
struct Rate {
    batch_size: usize,
    names: [&'static str; 4],
}

const SLOW: Rate =
    Rate { batch_size: 0, names: ["W7 1MB/s p50", "W7 1MB/s p99", "W7 1MB/s p99.9", "W7 1MB/s late"] };
const FAST: Rate = Rate {
    batch_size: 10 * 1024 + 512,
    names: ["W7 10MB/s p50", "W7 10MB/s p99", "W7 10MB/s p99.9", "W7 10MB/s late"],
};

/// W5: three loads, each to the partitions that one node leads.
fn produce(work: &Work<'_>) -> Result<Vec<Figure>> {
    let (said, used) = work.on_each_node(4, &["--acks", "-1"])?;
    let sent: f64 = said.iter().map(|said| figure_before(said, "GB")).sum::<Result<f64>>()?;
    Ok(vec![("W5", used / sent)])
}

/// W6: 50 producers of small batches to 100 partitions, each with one request in flight.
fn many_producers(work: &Work<'_>) -> Result<Vec<Figure>> {
    let small = ["--acks", "-1", "--record-size", "100", "--batch-size", "1500"];
    let lone = ["--connections", "17", "--in-flight", "1"];
    let (said, used) = work.on_each_node(34, &[&small[..], &lone[..]].concat())?;
    let sent: f64 = said.iter().map(|said| figure_before(said, "records")).sum::<Result<f64>>()?;
    let slowest = said.iter().map(|said| figure_after(said, "p99")).collect::<Result<Vec<f64>>>()?;
    let slowest = slowest.into_iter().fold(0.0, f64::max);
    Ok(vec![("W6", used * 1e6 / sent), ("W6 p99", slowest)])
}

/// W7: from when a batch was due until it was consumed.
fn latency(work: &Work<'_>, rate: &Rate) -> Result<Vec<Figure>> {
    let topic = work.topic(0, 12)?;
    let batch = rate.batch_size.to_string();
    let mut paced = work.blast("paced", 0, &topic, 12);
    paced.args(["--acks", "-1", "--batch-size", &batch, "--seconds", &work.volume.seconds.to_string()]);
    let said = ended(started(paced)?)?;
    work.delete(&topic)?;
    let late = said.lines().find(|line| line.starts_with("late")).context("nothing is said of lateness")?;
    let counted = said.lines().last().unwrap_or_default();
    let [p50, p99, p999, lateness] = rate.names;
    Ok(vec![
        (p50, figure_after(counted, "p50")?),
        (p99, figure_after(counted, "p99")?),
        (p999, figure_after(counted, "p99.9")?),
        (lateness, figure_after(late, "p99")?),
    ])
}

/// W19: the same bytes read from the leader and from a follower, and how far behind a consumer at a follower is.
fn follower_fetch(work: &Work<'_>) -> Result<Vec<Figure>> {
    let topic = work.topic(0, 4)?;
    let mut fill = work.blast("produce", 0, &topic, 4);
    fill.args(["--acks", "-1", "--megabytes", &work.megabytes(1)]);
    ended(started(fill)?)?;
    sleep(REST);
    let read = |at: usize| -> Result<f64> {
        let before = work.nodes.cluster.processor_seconds()?;
        let mut fetch = work.blast("fetch", at, &topic, 4);
        fetch.args(["--rack", &zone(at), "--megabytes", &(2 * work.megabytes_of(1)).to_string()]);
        let said = ended(started(fetch)?)?;
        Ok((work.nodes.cluster.processor_seconds()? - before) / figure_before(&said, "GB")?)
    };
    let (leader, follower) = (read(0)?, read(1)?);
    work.delete(&topic)?;
    let topic = format!("{topic}-paced");
    work.assign(&topic, 0, 12)?;
    let mut paced = work.blast("paced", 0, &topic, 12);
    paced.args(["--acks", "1", "--seconds", &work.volume.seconds.to_string(), "--rack", &zone(1)]);
    paced.args(["--source", &work.nodes.cluster.ground.client_address(1)]);
    let said = ended(started(paced)?)?;
    work.delete(&topic)?;
    let behind = figure_after(said.lines().last().unwrap_or_default(), "p99")?;
    Ok(vec![("W19 leader", leader), ("W19 follower", follower), ("W19 p99", behind)])
}

/// W12: many partitions that nobody uses.
fn idle(work: &Work<'_>) -> Result<Vec<Figure>> {
    let cluster = &work.nodes.cluster;
    let mean = |bytes: Vec<u64>| bytes.iter().sum::<u64>() as f64 / bytes.len() as f64;
    let address = cluster.bootstrap();
    let empty = mean(cluster.resident_bytes()?);
    let began = Instant::now();
    let topics = work.volume.partitions.div_ceil(TOPIC_PARTITIONS);
    let each = work.volume.partitions / topics;
    for number in 0..topics {
        work.bench.programs.create(
            &address,
            &format!("{}-{number}", work.prefix),
            each,
            &["replicas=3", "file.delete.delay.ms=1000"],
        )?;
    }
    work.in_sync(&(0..topics).map(|number| format!("{}-{number}", work.prefix)).collect::<Vec<_>>())?;
    let created = began.elapsed().as_secs_f64();
    sleep(REST * 5);
    let grown = mean(cluster.resident_bytes()?) - empty;
    let before = cluster.processor_seconds()?;
    let watch = Duration::from_secs(3 * work.volume.seconds);
    sleep(watch);
    let used = cluster.processor_seconds()? - before;
    for number in 0..topics {
        work.delete(&format!("{}-{number}", work.prefix))?;
    }
    let count = (each * topics) as f64;
    Ok(vec![
        ("W12 created", created),
        ("W12 each", grown / count / 1024.0),
        ("W12 idle", used / watch.as_secs_f64() / NODES as f64 * 100.0),
    ])
}

/// The rack of a node, by its place.
fn zone(at: usize) -> String {
    format!("zone-{}", at + 1)
}

impl Work<'_> {
    /// A topic of which one node, by its place, leads all partitions.
    fn topic(&self, leader: usize, partitions: usize) -> Result<String> {
        let topic = format!("{}-{leader}", self.prefix);
        self.assign(&topic, leader, partitions)?;
        Ok(topic)
    }

    fn assign(&self, topic: &str, leader: usize, partitions: usize) -> Result<()> {
        let on: Vec<String> = (0..NODES).map(|next| ((leader + next) % NODES + 1).to_string()).collect();
        let words = [
            format!("topic={topic}"),
            format!("on={}", on.join(",")),
            format!("parts={partitions}"),
            "file.delete.delay.ms=1000".into(),
        ];
        self.bench.programs.ask(&self.nodes.cluster.bootstrap(), "assign", &words)?;
        self.in_sync(&[topic.to_owned()])
    }

    /// Waits until all replicas of these topics are in sync.
    fn in_sync(&self, topics: &[String]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let address = self.nodes.cluster.bootstrap();
        for topic in topics {
            loop {
                let replicas = crate::chaos::world::replicas(&self.bench.programs, &address, topic)?;
                let settled = |(leader, in_sync, all): &(i32, usize, usize)| *leader > 0 && in_sync == all;
                if replicas.iter().all(settled) {
                    break;
                }
                ensure!(Instant::now() < deadline, "the replicas of {topic} are not all in sync");
                sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    fn delete(&self, topic: &str) -> Result<()> {
        let address = self.nodes.cluster.bootstrap();
        self.bench.programs.ask(&address, "delete", &[format!("topic={topic}")]).map(drop)
    }

    fn megabytes_of(&self, loads: usize) -> u64 {
        (self.volume.gigabytes * 1000.0 / loads as f64).ceil() as u64
    }

    fn megabytes(&self, loads: usize) -> String {
        self.megabytes_of(loads).to_string()
    }

    fn blast(&self, what: &str, at: usize, topic: &str, partitions: usize) -> Command {
        let mut load = Command::new(&self.bench.load);
        load.args(["blast", what, "--address", &self.nodes.cluster.ground.client_address(at)]);
        load.args(["--topic", topic, "--partitions", &partitions.to_string()]);
        load
    }

    /// A produce load on each node at once; what they said, and the processor time of all nodes meanwhile.
    fn on_each_node(&self, partitions: usize, more: &[&str]) -> Result<(Vec<String>, f64)> {
        let topics = (0..NODES).map(|at| self.topic(at, partitions)).collect::<Result<Vec<_>>>()?;
        let before = self.nodes.cluster.processor_seconds()?;
        let mut loads = Vec::new();
        for (at, topic) in topics.iter().enumerate() {
            let mut load = self.blast("produce", at, topic, partitions);
            load.args(["--megabytes", &self.megabytes(NODES), "--seconds", "20"]).args(more);
            loads.push(started(load)?);
        }
        // All of them are waited for, whatever became of the first.
        let said: Vec<Result<String>> = loads.into_iter().map(ended).collect();
        let used = self.nodes.cluster.processor_seconds()? - before;
        topics.iter().try_for_each(|topic| self.delete(topic))?;
        Ok((said.into_iter().collect::<Result<_>>()?, used))
    }
}

fn started(mut load: Command) -> Result<Child> {
    load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let load = load.spawn().context("cannot run moldau-bench")?;
    crate::warden::hold(&load)?;
    Ok(load)
}

fn ended(load: Child) -> Result<String> {
    let out = load.wait_with_output()?;
    ensure!(out.status.success(), "moldau-bench failed: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The number in front of a word.
fn figure_before(said: &str, word: &str) -> Result<f64> {
    let words: Vec<&str> = said.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let pair = words.windows(2).find(|pair| pair[1] == word);
    pair.and_then(|pair| pair[0].parse().ok())
        .with_context(|| format!("moldau-bench tells no {word}: {said}"))
}

/// The number behind a word.
fn figure_after(said: &str, word: &str) -> Result<f64> {
    let words: Vec<&str> = said.split_whitespace().collect();
    let pair = words.windows(2).find(|pair| pair[0] == word);
    pair.and_then(|pair| pair[1].parse().ok())
        .with_context(|| format!("moldau-bench tells no {word}: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_words() {
        let said = "7 requests, 98 records, 0.167 GB in 1.00 s: 167 MB/s; latency µs p50 4 p99 5 p99.9 61\n";
        assert_eq!(figure_before(said, "GB").unwrap(), 0.167);
        assert_eq!(figure_before(said, "records").unwrap(), 98.0);
        assert_eq!(figure_after(said, "p99").unwrap(), 5.0);
        assert_eq!(figure_after(said, "p99.9").unwrap(), 61.0);
        assert!(figure_after(said, "p90").is_err());
    }
}
