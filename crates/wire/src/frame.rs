//! Frames: what goes over a connection, a length and that many bytes.
//!
//! This module owns the limits of a frame's length and the shape of a frame that goes out: segments of memory and of
//! files in order, so that a host never has to bring a file's bytes into memory to send them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::EncodeError;

/// Part of a file, to be sent from there. The number of the file means something to the log that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Which open file.
    pub file: u64,
    /// The first byte of the range.
    pub position: u64,
    /// How many bytes.
    pub len: u32,
}

/// A piece of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileRange),
}

impl Segment {
    /// How many bytes the segment has.
    pub fn len(&self) -> usize {
        match self {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::File(range) => range.len as usize,
        }
    }

    /// Whether the segment has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The records of a response: where the bytes are, not what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// No records, written as null.
    #[default]
    Null,
    /// Records in memory; the form in which decoded records come.
    Bytes(Bytes),
    /// Records in one range of a file.
    File(FileRange),
    /// Records in several places, in this order.
    Segments(Vec<Segment>),
}

impl Records {
    /// Records that are there and empty.
    pub const EMPTY: Records = Records::Bytes(Bytes::new());

    /// How many bytes the records have.
    pub fn len(&self) -> usize {
        match self {
            Records::Null => 0,
            Records::Bytes(bytes) => bytes.len(),
            Records::File(range) => range.len as usize,
            Records::Segments(segments) => segments.iter().map(Segment::len).sum(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Records::Bytes(bytes)
    }
}

impl From<FileRange> for Records {
    fn from(range: FileRange) -> Self {
        Records::File(range)
    }
}

/// A frame that is ready to be sent, its length prefix included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The bytes, in order.
    pub segments: Vec<Segment>,
    /// How many bytes the segments have together.
    pub len: usize,
}

impl Frame {
    /// The frame in one piece of memory. Copies unless it is in one piece already; refuses ranges of files.
    pub fn into_bytes(mut self) -> Result<Bytes, EncodeError> {
        if let [Segment::Bytes(only)] = &mut self.segments[..] {
            return Ok(std::mem::take(only));
        }
        let mut all = BytesMut::with_capacity(self.len);
        for segment in self.segments {
            match segment {
                Segment::Bytes(bytes) => all.put(bytes),
                Segment::File(_) => return Err(EncodeError::FileRange),
            }
        }
        Ok(all.freeze())
    }
}

/// The size of the length before a frame.
pub const LENGTH_PREFIX: usize = 4;

/// A length that no frame may have. The connection cannot be understood any further and is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length below zero.
    #[error("frame of negative length {length}")]
    Negative {
        /// The length found.
        length: i32,
    },
    /// A length above the limit of the listener (`socket.request.max.bytes`).
    #[error("frame of {length} bytes is longer than the limit of {limit} bytes")]
    TooLong {
        /// The length found.
        length: u32,
        /// The limit.
        limit: u32,
    },
    /// A length too small for any header.
    #[error("frame of {length} bytes is too short for a header")]
    TooShort {
        /// The length found.
        length: u32,
    },
}

/// The shortest frame: a response header. A request header is never shorter.
const SHORTEST: u32 = 4;

/// The length of the body that follows this prefix, checked before anything is allocated for it.
pub fn body_length(prefix: [u8; LENGTH_PREFIX], limit: u32) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    match u32::try_from(length) {
        Err(_) => Err(FrameError::Negative { length }),
        Ok(length) if length > limit => Err(FrameError::TooLong { length, limit }),
        Ok(length) if length < SHORTEST => Err(FrameError::TooShort { length }),
        Ok(length) => Ok(length as usize),
    }
}

/// Takes the next whole frame from the front of `buffer`, without its length; `None` until it is all there.
pub fn split(buffer: &mut BytesMut, limit: u32) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_PREFIX>() else { return Ok(None) };
    let length = body_length(*prefix, limit)?;
    if buffer.len() < LENGTH_PREFIX + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(LENGTH_PREFIX + length).freeze();
    Ok(Some(frame.split_off(LENGTH_PREFIX)))
}
