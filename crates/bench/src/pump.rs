//! Sends frames as fast as they are answered, with a bound on what is unanswered.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use moldau_wire::{ApiKey, Response, decode_response, frame};

use crate::frames::{Frames, PRODUCE_VERSION};
use crate::link::ok;

/// Longest answer to a frame.
pub const ANSWER_LIMIT: u32 = 1024 * 1024;
/// Latencies beyond this count as this.
const LONGEST_NS: u64 = 60_000_000_000;
/// Bytes of answers read at a time.
const CHUNK: usize = 16 * 1024;
/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// When to stop: at whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of payload.
    pub bytes: u64,
    /// Time.
    pub time: Duration,
}

/// How to send.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections, each with a thread of its own.
    pub connections: usize,
    /// Frames unanswered on each connection.
    pub in_flight: usize,
}

/// What was done.
pub struct Tally {
    /// Requests answered.
    pub requests: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
    /// Records in them; 0 where nobody counts.
    pub records: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// From the sending of a request to its answer, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Result<Tally> {
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, 3)?;
        Ok(Tally { requests: 0, bytes: 0, records: 0, elapsed: Duration::ZERO, latency })
    }

    /// Adds what another thread did at the same time.
    pub fn join(&mut self, other: Tally) -> Result<()> {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.records += other.records;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency.add(other.latency)?;
        Ok(())
    }

    /// Latency at a quantile, in microseconds.
    pub fn micros(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Looks at one answer, without its length.
pub type Check = fn(Bytes) -> Result<()>;

/// Sends `frames` over and over to `address` until a bound is met.
pub fn run(address: SocketAddr, load: Load, frames: &Frames, bounds: Bounds, check: Check) -> Result<Tally> {
    let share = (bounds.bytes / load.connections.max(1) as u64 / frames.payload().max(1) as u64).max(1);
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        streams.push(connect(address)?);
    }
    let started = Instant::now();
    let deadline = started + bounds.time;
    let parts = in_threads(streams, |place, stream| {
        let next = place * frames.count() / load.connections;
        let lane = Lane {
            stream,
            frames,
            next,
            unanswered: VecDeque::new(),
            chunk: vec![0; CHUNK],
            buffer: BytesMut::new(),
            check,
        };
        lane.run(load.in_flight, share, deadline)
    })?;
    let mut tally = Tally::new()?;
    for part in parts {
        tally.join(part)?;
    }
    tally.elapsed = started.elapsed();
    Ok(tally)
}

/// Connects for load.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    Ok(stream)
}

/// Runs `work` for each item in a thread of its own; its place and the item are given.
pub fn in_threads<I: Send, T: Send>(
    items: Vec<I>,
    work: impl Fn(usize, I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .enumerate()
            .map(|(place, item)| scope.spawn(move || work(place, item)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<T>>| match thread.join() {
            Ok(done) => done,
            Err(_) => bail!("a thread of the load generator panicked"),
        };
        threads.into_iter().map(join).collect()
    })
}

/// One connection.
struct Lane<'a> {
    stream: TcpStream,
    frames: &'a Frames,
    /// The frame that comes next.
    next: usize,
    /// When each unanswered frame was sent.
    unanswered: VecDeque<Instant>,
    /// Where bytes arrive.
    chunk: Vec<u8>,
    /// What of them is not a whole answer yet.
    buffer: BytesMut,
    check: Check,
}

impl Lane<'_> {
    fn run(mut self, in_flight: usize, share: u64, deadline: Instant) -> Result<Tally> {
        let mut tally = Tally::new()?;
        let mut left = share;
        loop {
            if Instant::now() >= deadline {
                left = 0;
            }
            left -= self.fill(in_flight, left)?;
            if self.unanswered.is_empty() {
                break;
            }
            self.read()?;
            self.answers(&mut tally)?;
        }
        tally.bytes = tally.requests * self.frames.payload() as u64;
        tally.records = tally.requests * self.frames.records() as u64;
        Ok(tally)
    }

    /// Sends as many frames as may be unanswered, in one call where they lie in a row.
    fn fill(&mut self, in_flight: usize, left: u64) -> Result<u64> {
        let mut sent = 0;
        while self.unanswered.len() < in_flight && sent < left {
            let room = in_flight - self.unanswered.len();
            let most = usize::try_from(left - sent).unwrap_or(usize::MAX);
            let count = room.min(self.frames.count() - self.next).min(most);
            let now = Instant::now();
            self.frames.send(&mut self.stream, self.next..self.next + count)?;
            self.next = (self.next + count) % self.frames.count();
            self.unanswered.extend(std::iter::repeat_n(now, count));
            sent += count as u64;
        }
        Ok(sent)
    }

    fn read(&mut self) -> Result<()> {
        match read_some(&mut self.stream, &mut self.chunk).context("no answer")? {
            0 => bail!("the connection was closed with {} requests unanswered", self.unanswered.len()),
            n => self.buffer.extend_from_slice(&self.chunk[..n]),
        }
        Ok(())
    }

    fn answers(&mut self, tally: &mut Tally) -> Result<()> {
        let now = Instant::now();
        while let Some(answer) = frame::split(&mut self.buffer, ANSWER_LIMIT)? {
            let Some(sent) = self.unanswered.pop_front() else { bail!("an answer that nobody asked for") };
            (self.check)(answer)?;
            tally.requests += 1;
            tally.latency.saturating_record(u64::try_from(now.duration_since(sent).as_nanos())?);
        }
        Ok(())
    }
}

/// Reads what is there. A process that is stopped and goes on, as under a debugger or a frozen control group, is
/// interrupted in calls that have a time limit; that is not the end of anything.
pub fn read_some(stream: &mut TcpStream, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Each partition of a Produce response must have taken its batch.
pub fn produced(answer: Bytes) -> Result<()> {
    let (_, response) = decode_response(ApiKey::Produce, PRODUCE_VERSION, answer)?;
    let Response::Produce(response) = response else { bail!("not an answer to Produce") };
    for partition in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
        ok(partition.error_code, "Produce")?;
    }
    Ok(())
}

/// An answer that says nothing.
pub fn any(_: Bytes) -> Result<()> {
    Ok(())
}
