//! Fetches as fast as it is answered, and throws the payload away.
//!
//! Of each response the fields before the records are read and decoded; the records themselves are dropped by the kernel
//! (`MSG_TRUNC`), so that reading costs the load generator nearly nothing. Where the next fetch begins is counted from
//! the length of what came, which needs batches that are all alike: those of [`crate::frames`].

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use moldau_batch::Header;
use moldau_wire::{Records, Request, Response, decode_response, encode_request, encode_response, fetch};
use rustix::net::RecvFlags;

use crate::link::{CLIENT_ID, Link, ok};
use crate::pump::{Bounds, Tally, connect, in_threads};

/// The version of Fetch that is sent: the last one with names and fixed-size lengths, where records come last.
pub const FETCH_VERSION: i16 = 11;
const CORRELATION_ID: i32 = 1;

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct Drain {
    /// The topic.
    pub topic: String,
    /// Its partitions; each connection reads its share of them in turn.
    pub partitions: i32,
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// `max_bytes` of a request, for its one partition.
    pub fetch: i32,
    /// `client.rack`: with it a follower may be asked as well (KIP-392).
    pub rack: String,
}

/// A batch, to which all others are equal.
#[derive(Clone, Copy, Debug)]
struct Batch {
    bytes: usize,
    records: i64,
}

/// Reads from the beginning of each partition to its end and again, until a bound is met.
pub fn run(address: SocketAddr, drain: &Drain, bounds: Bounds) -> Result<Tally> {
    let batch = first_batch(&mut Link::open(address)?, drain)?;
    ensure!(batch.bytes <= usize::try_from(drain.fetch)?, "a batch is larger than a fetch");
    let connections = drain.connections.min(usize::try_from(drain.partitions)?).max(1);
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(address)?);
    }
    let share = bounds.bytes / connections as u64;
    let started = Instant::now();
    let deadline = started + bounds.time;
    let all: Vec<i32> = (0..drain.partitions).collect();
    let parts = in_threads(streams, |place, stream| {
        // Neighbours, so that each connection reads from all threads of a broker that deals partitions out in turn.
        let (from, to) = (place * all.len() / connections, (place + 1) * all.len() / connections);
        let partitions = all[from..to].iter().map(|index| (*index, 0)).collect();
        let lane =
            Lane { drain, batch, stream, partitions, sink: vec![0; usize::try_from(drain.fetch)? * 2] };
        lane.run(share, deadline)
    })?;
    let mut tally = Tally::new()?;
    for part in parts {
        tally.join(part)?;
    }
    tally.elapsed = started.elapsed();
    Ok(tally)
}

fn request(drain: &Drain, partition: i32, offset: i64) -> Request {
    let partition = fetch::request::Partition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: drain.fetch,
        ..Default::default()
    };
    let topic = fetch::request::Topic {
        topic: drain.topic.as_str().into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = fetch::Request {
        replica_id: -1,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: drain.fetch,
        session_id: 0,
        session_epoch: -1,
        topics: vec![topic],
        rack_id: drain.rack.as_str().into(),
        ..Default::default()
    };
    request.into()
}

fn first_batch(link: &mut Link, drain: &Drain) -> Result<Batch> {
    let Request::Fetch(request) = request(drain, 0, 0) else { bail!("not a fetch") };
    let response = link.call(FETCH_VERSION, request)?;
    let partition = partition_of(&response)?;
    let Records::Bytes(records) = &partition.records else { bail!("topic {} is empty", drain.topic) };
    let header = Header::parse(records).context("no whole batch at the beginning of the topic")?;
    Ok(Batch { bytes: header.size(), records: header.next_offset() - header.base_offset })
}

fn partition_of(response: &fetch::Response) -> Result<&fetch::response::Partition> {
    ok(response.error_code, "Fetch")?;
    let partition = response.responses.first().and_then(|topic| topic.partitions.first());
    let partition = partition.context("Fetch: an answer without the partition")?;
    ok(partition.error_code, "Fetch")?;
    Ok(partition)
}

/// Bytes of a response before its records, its length included, and the place of the records' length.
fn prefix_len(topic: &str) -> Result<usize> {
    let partition = fetch::response::Partition { records: Records::EMPTY, ..Default::default() };
    let topic =
        fetch::response::Topic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    let response = fetch::Response { responses: vec![topic], ..Default::default() };
    Ok(encode_response(CORRELATION_ID, FETCH_VERSION, &response.into())?.len)
}

/// One connection.
struct Lane<'a> {
    drain: &'a Drain,
    batch: Batch,
    stream: TcpStream,
    /// The partitions of this connection and where to read on.
    partitions: Vec<(i32, i64)>,
    /// Where thrown away bytes would go; never touched, so it takes no memory.
    sink: Vec<u8>,
}

impl Lane<'_> {
    fn run(mut self, share: u64, deadline: Instant) -> Result<Tally> {
        let prefix_len = prefix_len(&self.drain.topic)?;
        let mut prefix = vec![0; prefix_len];
        let mut tally = Tally::new()?;
        let mut place = 0;
        while tally.bytes < share {
            let started = Instant::now();
            if started >= deadline {
                break;
            }
            let (partition, offset) = self.partitions[place];
            let request = encode_request(
                CORRELATION_ID,
                Some(CLIENT_ID.into()),
                FETCH_VERSION,
                &request(self.drain, partition, offset),
            )?;
            self.stream.write_all(&request.into_bytes()?)?;
            let (records, end) = self.response(&mut prefix)?;
            // A broker may cut the last batch off in its middle, and sends it once more with the next fetch.
            let whole = records / self.batch.bytes;
            tally.requests += 1;
            tally.bytes += (whole * self.batch.bytes) as u64;
            tally.records += whole as u64 * self.batch.records.unsigned_abs();
            tally.latency.saturating_record(u64::try_from(started.elapsed().as_nanos())?);
            let next = offset + whole as i64 * self.batch.records;
            ensure!(next > offset, "partition {partition} has no batches of this size at offset {offset}");
            self.partitions[place].1 = if next >= end { 0 } else { next };
            place = (place + 1) % self.partitions.len();
        }
        Ok(tally)
    }

    /// Takes one response; returns the bytes of its records and the end of the partition.
    fn response(&mut self, prefix: &mut [u8]) -> Result<(usize, i64)> {
        self.fill(&mut prefix[..4])?;
        let len = u32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let head = len.min(prefix.len() - 4);
        self.fill(&mut prefix[4..4 + head])?;
        let records = len - head;
        let mut head = prefix[4..4 + head].to_vec();
        if records > 0 {
            // The records' length is the last field before them: without it what came is a whole response.
            let at = head.len() - 4;
            head[at..].fill(0);
        }
        let (_, response) = decode_response(moldau_wire::ApiKey::Fetch, FETCH_VERSION, Bytes::from(head))?;
        let Response::Fetch(response) = response else { bail!("not an answer to Fetch") };
        let end = partition_of(&response)?.high_watermark;
        self.discard(records)?;
        Ok((records, end))
    }

    fn fill(&self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let stream = &self.stream;
            let (received, _) =
                rustix::io::retry_on_intr(|| rustix::net::recv(stream, &mut *buffer, RecvFlags::WAITALL))?;
            ensure!(received > 0, "the broker closed the connection");
            buffer = &mut buffer[received..];
        }
        Ok(())
    }

    fn discard(&mut self, bytes: usize) -> Result<()> {
        discard(&self.stream, &mut self.sink, bytes)
    }
}

/// Takes this many bytes from the socket without copying them; `sink` only says how many may go at a time.
pub fn discard(stream: &TcpStream, sink: &mut [u8], mut bytes: usize) -> Result<()> {
    while bytes > 0 {
        let most = bytes.min(sink.len());
        let (_, dropped) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(stream, &mut sink[..most], RecvFlags::TRUNC | RecvFlags::WAITALL)
        })?;
        ensure!(dropped > 0, "the connection was closed");
        bytes -= dropped;
    }
    Ok(())
}
