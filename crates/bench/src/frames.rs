//! Frames that are made once and sent for ever.
//!
//! The base offset and the leader epoch of a batch lie outside of its checksum, and a producer without an id has no
//! sequence: the same bytes are a valid new request each time. They lie in a file in memory, so that `sendfile` hands
//! its pages to the socket and the load generator never touches them.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use moldau_base::Rng;
use moldau_batch::{Builder, Codec, Header};
use moldau_wire::{encode_request, produce};
use rustix::fs::MemfdFlags;

use crate::link::CLIENT_ID;

/// The version of Produce that is sent: the last one with fixed-size lengths and names.
pub const PRODUCE_VERSION: i16 = 8;
/// Frames shorter than this are written from memory: a page reference costs more than a short copy.
const SENDFILE_FROM: usize = 4096;

/// Room that a record needs beside its value, at the most: lengths, times and numbers of a record without a key.
const RECORD_OVERHEAD: usize = 24;
/// Of a value that is to be compressed, one part in this many is random and the rest is alike.
const COMPRESSIBLE: usize = 4;

/// The batches of a workload: all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a record's value.
    pub record: usize,
    /// The most bytes of a batch before compression, its header included; one record always fits.
    pub batch: usize,
    /// How the batch is compressed.
    pub codec: Codec,
}

impl Shape {
    /// Not compressed.
    pub const fn plain(record: usize, batch: usize) -> Shape {
        Shape { record, batch, codec: Codec::None }
    }

    /// One batch, of the time that it is: older records would fall to retention. Its bytes are random, or compress about
    /// 4 to 1 where there is a codec.
    pub fn build(&self) -> Result<Bytes> {
        let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let mut rng = Rng::seeded(1);
        let mut value = vec![0; self.record];
        let random = match self.codec {
            Codec::None => self.record,
            _ => self.record / COMPRESSIBLE,
        };
        let mut builder = Builder::new(self.codec);
        loop {
            rng.fill(&mut value[..random]);
            builder.push(now_ms, None, Some(&value), &[]);
            if builder.size() + self.record + RECORD_OVERHEAD > self.batch {
                return Ok(builder.build()?);
            }
        }
    }
}

/// Frames in a row, sent round and round.
pub struct Frames {
    file: File,
    memory: Vec<u8>,
    /// Where each frame begins, and the end of the last.
    bounds: Vec<usize>,
    /// Bytes of payload in each.
    payload: usize,
    /// Records in each.
    records: usize,
}

impl Frames {
    /// Produce requests of one batch each, to the partitions in turn.
    pub fn produce(topic: &str, partitions: i32, acks: i16, shape: Shape) -> Result<Frames> {
        let batch = shape.build()?;
        let records = usize::try_from(Header::parse(&batch)?.count)?;
        let mut frames = Vec::new();
        for index in 0..partitions {
            let partition = produce::request::Partition { index, records: Some(batch.clone()) };
            let topic_data = produce::request::Topic {
                name: topic.into(),
                partition_data: vec![partition],
                ..Default::default()
            };
            let request = produce::Request {
                transactional_id: None,
                acks,
                timeout_ms: 30_000,
                topic_data: vec![topic_data],
            };
            let frame = encode_request(index, Some(CLIENT_ID.into()), PRODUCE_VERSION, &request.into())?;
            frames.push(frame.into_bytes()?);
        }
        Frames::new(&frames, batch.len(), records)
    }

    /// One frame of a length and this many bytes that look like a batch.
    pub fn plain(len: usize) -> Result<Frames> {
        let mut frame = vec![0; 4 + len];
        Rng::seeded(1).fill(&mut frame);
        frame[..4].copy_from_slice(&u32::try_from(len)?.to_be_bytes());
        Frames::new(&[frame.into()], len, 1)
    }

    fn new(frames: &[Bytes], payload: usize, records: usize) -> Result<Frames> {
        ensure!(!frames.is_empty(), "no frames to send");
        let memory = frames.concat();
        let mut bounds = vec![0];
        bounds.extend(frames.iter().scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        }));
        let fd = rustix::fs::memfd_create("frames", MemfdFlags::CLOEXEC).context("no file in memory")?;
        let mut file = File::from(fd);
        file.write_all(&memory)?;
        Ok(Frames { file, memory, bounds, payload, records })
    }

    /// How many frames there are.
    pub fn count(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Bytes of payload in each frame.
    pub fn payload(&self) -> usize {
        self.payload
    }

    /// Records in each frame.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Sends these frames, all of them.
    pub fn send(&self, stream: &mut TcpStream, frames: Range<usize>) -> Result<()> {
        let (begin, end) = (self.bounds[frames.start], self.bounds[frames.end]);
        if (end - begin) / frames.len().max(1) < SENDFILE_FROM {
            return Ok(stream.write_all(&self.memory[begin..end])?);
        }
        let mut offset = begin as u64;
        while offset < end as u64 {
            let missing = end - usize::try_from(offset)?;
            let sent = rustix::io::retry_on_intr(|| {
                rustix::fs::sendfile(&*stream, &self.file, Some(&mut offset), missing)
            })?;
            ensure!(sent > 0, "the socket takes nothing more");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_filled_to_its_limit_and_not_further() {
        let batch = Shape::plain(1024, 16 * 1024).build().unwrap();
        assert!(batch.len() <= 16 * 1024 && batch.len() > 15 * 1024);
        assert_eq!(Header::verify(&batch).unwrap().count, 15);
        let one = Shape::plain(100, 0).build().unwrap();
        assert_eq!(Header::verify(&one).unwrap().count, 1);
        let packed = Shape { codec: Codec::Lz4, ..Shape::plain(1024, 256 * 1024) }.build().unwrap();
        assert!((60_000..80_000).contains(&packed.len()), "{}", packed.len());
    }

    #[test]
    fn frames_are_whole_requests() {
        let frames = Frames::produce("t", 3, 1, Shape::plain(10, 200)).unwrap();
        assert_eq!(frames.count(), 3);
        for index in 0..3 {
            let frame = &frames.memory[frames.bounds[index] + 4..frames.bounds[index + 1]];
            let (header, request) = moldau_wire::decode_request(Bytes::copy_from_slice(frame)).unwrap();
            assert_eq!(header.correlation_id, i32::try_from(index).unwrap());
            let moldau_wire::Request::Produce(request) = request else { panic!("{request:?}") };
            assert_eq!(request.topic_data[0].partition_data[0].index, header.correlation_id);
        }
    }
}
