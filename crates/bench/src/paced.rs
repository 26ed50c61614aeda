//! Produce-to-consume latency at a fixed rate: an open loop, so that a broker that stalls is charged for everything that
//! was due meanwhile (coordinated omission).
//!
//! Batch `i` is due `i / rate` seconds after the beginning and goes to partition `i % partitions`; its latency runs from when it
//! was due until a consumer holds it. Batches are all alike and the topic is fresh, so their offsets say which is which. The
//! consumer has one fetch waiting at the broker at all times. How late the load generator itself sent is kept apart.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use moldau_batch::Header;
use moldau_wire::{Records, fetch, frame};

use crate::drain::FETCH_VERSION;
use crate::frames::{Frames, Shape};
use crate::link::{Link, ok};
use crate::pump::{ANSWER_LIMIT, Tally, connect, produced, read_some};

/// What comes before this is not counted: files are made, connections grow.
pub const WARM: Duration = Duration::from_secs(1);
/// How long the last batches may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that the consumer takes at a time.
const FETCH_BYTES: i32 = 8 << 20;
/// The longest that a fetch waits for something new.
const FETCH_WAIT_MS: i32 = 500;

/// A load of fixed rate.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The batches, one in each request.
    pub shape: Shape,
    /// How many are due in a second.
    pub per_second: u32,
    /// Partitions of the topic.
    pub partitions: i32,
    /// 1 or -1.
    pub acks: i16,
}

/// Whom the consumer asks.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The broker.
    pub address: SocketAddr,
    /// `client.rack`: with it a follower may be asked as well (KIP-392).
    pub rack: &'a str,
}

/// What came of it.
pub struct Paced {
    /// From when a batch was due until it was consumed.
    pub consumed: Tally,
    /// From when a batch was due until its acknowledgement, in nanoseconds.
    pub acknowledged: Histogram<u64>,
    /// From when a batch was due until it was sent, in nanoseconds: the load generator's own part.
    pub late: Histogram<u64>,
}

/// One time line for those who send and those who receive.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    gap: Duration,
    batches: u64,
    /// The first batch that counts.
    first: u64,
}

impl Schedule {
    fn new(pace: Pace, time: Duration) -> Schedule {
        let count = |time: Duration| (time.as_secs_f64() * f64::from(pace.per_second)) as u64;
        Schedule {
            // Everybody is ready by then.
            start: Instant::now() + Duration::from_millis(50),
            gap: Duration::from_secs(1) / pace.per_second,
            batches: count(time + WARM),
            first: count(WARM),
        }
    }

    fn due(&self, batch: u64) -> Instant {
        self.start + Duration::from_nanos(self.gap.as_nanos() as u64 * batch)
    }
}

/// Produces into the fresh topic `topic` and consumes it, for `time`. `watch` is shown each batch's place in time and latency.
pub fn run(
    address: SocketAddr,
    topic: &str,
    pace: Pace,
    time: Duration,
    watch: &mut dyn FnMut(Duration, u64),
) -> Result<Paced> {
    run_from(Source { address, rack: "" }, address, topic, pace, time, watch)
}

/// The same, and it is consumed elsewhere.
pub fn run_from(
    source: Source<'_>,
    address: SocketAddr,
    topic: &str,
    pace: Pace,
    time: Duration,
    watch: &mut dyn FnMut(Duration, u64),
) -> Result<Paced> {
    Link::open(address)?.topic(topic, pace.partitions)?;
    let frames = Frames::produce(topic, pace.partitions, pace.acks, pace.shape)?;
    let batch = pace.shape.build()?;
    let records = i64::from(Header::parse(&batch)?.count);
    let link = Link::open(source.address)?;
    let next = vec![0; frames.count()];
    let mut consumer = Consumer { link, topic, rack: source.rack, next, records, seen: 0 };
    consumer.is_served()?;
    let sending = connect(address)?;
    let answers = sending.try_clone()?;
    let schedule = Schedule::new(pace, time);
    let failed = AtomicBool::new(false);
    let guard = |done: Result<Histogram<u64>>| {
        failed.fetch_or(done.is_err(), Ordering::Relaxed);
        done
    };
    let (consumed, late, answered) = thread::scope(|scope| {
        let late = scope.spawn(|| guard(send(sending, &frames, schedule)));
        let answered = scope.spawn(|| guard(take_answers(answers, schedule)));
        let consumed = consumer.run(schedule, &failed, watch);
        (consumed, join(late), join(answered))
    });
    // Why the consumer saw too little is said by the producer, if it failed.
    let acknowledged = answered.context("answers to the producer")?;
    let (late, latency) = (late.context("the producer")?, consumed.context("the consumer")?);
    let requests = schedule.batches - schedule.first;
    let bytes = requests * batch.len() as u64;
    let consumed =
        Tally { requests, bytes, records: requests * records.unsigned_abs(), elapsed: time, latency };
    Ok(Paced { consumed, acknowledged, late })
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("a thread of the load generator panicked"))
}

/// Sends each batch when it is due, whatever was answered.
fn send(mut stream: TcpStream, frames: &Frames, schedule: Schedule) -> Result<Histogram<u64>> {
    // Sleeping would otherwise end up to 50 µs late.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut late = Tally::new()?.latency;
    for batch in 0..schedule.batches {
        let due = schedule.due(batch);
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        if batch >= schedule.first {
            late.saturating_record(u64::try_from(due.elapsed().as_nanos())?);
        }
        let frame = usize::try_from(batch)? % frames.count();
        frames.send(&mut stream, frame..frame + 1)?;
    }
    stream.flush()?;
    Ok(late)
}

/// Each answer must say that the batch was taken.
fn take_answers(mut stream: TcpStream, schedule: Schedule) -> Result<Histogram<u64>> {
    let mut latency = Tally::new()?.latency;
    let (mut buffer, mut chunk) = (BytesMut::new(), vec![0; 16 * 1024]);
    let mut batch = 0;
    while batch < schedule.batches {
        match read_some(&mut stream, &mut chunk).context("no answer")? {
            0 => bail!("the connection was closed"),
            n => buffer.extend_from_slice(&chunk[..n]),
        }
        while let Some(answer) = frame::split(&mut buffer, ANSWER_LIMIT)? {
            produced(answer)?;
            if batch >= schedule.first {
                latency.saturating_record(u64::try_from(schedule.due(batch).elapsed().as_nanos())?);
            }
            batch += 1;
        }
    }
    Ok(latency)
}

/// Reads all partitions with one request at a time.
struct Consumer<'a> {
    link: Link,
    topic: &'a str,
    rack: &'a str,
    /// The next offset of each partition.
    next: Vec<i64>,
    /// Records of a batch.
    records: i64,
    /// Batches that have come.
    seen: u64,
}

impl Consumer<'_> {
    /// Waits until the broker that is asked has all partitions: a follower hears of them after the leader.
    fn is_served(&mut self) -> Result<()> {
        let last = Instant::now() + PATIENCE;
        loop {
            let request = fetch::Request { max_wait_ms: 0, ..self.request() };
            let answer = self.link.call(FETCH_VERSION, request)?;
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let refused = partitions.map(|partition| partition.error_code).find(|error| !error.is_ok());
            let Some(error) = refused else { return ok(answer.error_code, "Fetch") };
            if Instant::now() >= last {
                return ok(error, "Fetch");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(
        &mut self,
        schedule: Schedule,
        failed: &AtomicBool,
        watch: &mut dyn FnMut(Duration, u64),
    ) -> Result<Histogram<u64>> {
        let mut latency = Tally::new()?.latency;
        let last = schedule.due(schedule.batches) + PATIENCE;
        while self.seen < schedule.batches {
            ensure!(!failed.load(Ordering::Relaxed), "the producer failed");
            let seen = self.seen;
            ensure!(Instant::now() < last, "{seen} of {} batches have come", schedule.batches);
            let answer = self.link.call(FETCH_VERSION, self.request())?;
            let now = Instant::now();
            ok(answer.error_code, "Fetch")?;
            for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
                ok(partition.error_code, "Fetch")?;
                let Records::Bytes(records) = partition.records else { continue };
                for batch in self.take(partition.partition_index, &records)? {
                    let took = now.saturating_duration_since(schedule.due(batch));
                    if batch >= schedule.first {
                        let nanos = u64::try_from(took.as_nanos())?;
                        latency.saturating_record(nanos);
                        watch(schedule.due(batch) - schedule.start, nanos);
                    }
                }
            }
        }
        Ok(latency)
    }

    fn request(&self) -> fetch::Request {
        let partition = |(index, offset): (usize, &i64)| fetch::request::Partition {
            partition: index as i32,
            fetch_offset: *offset,
            partition_max_bytes: FETCH_BYTES,
            ..Default::default()
        };
        let topic = fetch::request::Topic {
            topic: self.topic.into(),
            partitions: self.next.iter().enumerate().map(partition).collect(),
            ..Default::default()
        };
        fetch::Request {
            replica_id: -1,
            max_wait_ms: FETCH_WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            session_id: 0,
            session_epoch: -1,
            topics: vec![topic],
            rack_id: self.rack.into(),
            ..Default::default()
        }
    }

    /// The places in time of the whole batches in `records`.
    fn take(&mut self, partition: i32, records: &Bytes) -> Result<Vec<u64>> {
        let place = usize::try_from(partition)?;
        let count = self.next.len() as u64;
        let next = self.next.get_mut(place).context("a partition that nobody asked for")?;
        let (mut rest, mut batches) = (&records[..], Vec::new());
        while let Ok(header) = Header::parse(rest) {
            if header.size() > rest.len() {
                break;
            }
            ensure!(
                header.base_offset == *next,
                "partition {partition}: {} follows {next}",
                header.base_offset
            );
            batches.push(u64::try_from(*next / self.records)? * count + place as u64);
            *next += self.records;
            rest = &rest[header.size()..];
        }
        self.seen += batches.len() as u64;
        Ok(batches)
    }
}
