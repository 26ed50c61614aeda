//! Reads batch after batch of a log file through a blocking disk, headers only or with their checksums. Memory is bounded
//! whatever the file claims. For recovery and offline tools.

use std::io;

use bytes::Bytes;
use moldau_base::disk::{Disk, Path};
use moldau_base::planted::{Bug, planted};
use moldau_batch::{BatchError, HEADER_BYTES, Header};

/// Bytes a read takes when everything is looked at.
const VERIFY_CHUNK: usize = 1 << 20;
/// Bytes a read takes when only headers are.
const HEADER_CHUNK: usize = 64 << 10;
/// How often the length of the file may have its checksum computed for places behind damage where no batch begins: bytes of a payload that
/// look like headers could otherwise have the same bytes checked again and again.
const RESYNC_PASSES: u64 = 16;
/// Where the checksummed part of a batch begins.
const CHECKED_AT: u64 = 21;

/// How much of a batch is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Its header.
    Headers,
    /// All of it: its checksum.
    Checksums,
}

/// Why the bytes at a position are not the next batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not a batch, not all of one, or not what was written.
    #[error("{0}")]
    Batch(#[from] BatchError),
    /// Its offsets do not follow what is before it.
    #[error("offsets {base} to {last} where {next} is next")]
    Offsets {
        /// First offset.
        base: i64,
        /// Last offset.
        last: i64,
        /// Smallest possible first offset.
        next: i64,
    },
}

/// What is at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A batch.
    Batch {
        /// Where it begins.
        position: u64,
        /// Its header.
        header: Header,
    },
    /// Something else.
    Flaw(Flaw),
    /// The file ends here.
    End,
}

/// A place in a log file.
pub struct Scanner<'a> {
    disk: &'a dyn Disk,
    path: Path,
    len: u64,
    position: u64,
    next: i64,
    buffer: Bytes,
    buffer_at: u64,
    /// Bytes that [`Scanner::resync`] may still check in vain.
    resync_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
}

impl<'a> Scanner<'a> {
    /// Begins at `position` of a file of `len` bytes; offsets there are `next` or above.
    pub fn new(disk: &'a dyn Disk, path: Path, len: u64, position: u64, next: i64) -> Scanner<'a> {
        let resync_bytes = len.saturating_mul(RESYNC_PASSES);
        Scanner {
            disk,
            path,
            len,
            position,
            next,
            buffer: Bytes::new(),
            buffer_at: 0,
            resync_bytes,
            read_bytes: 0,
        }
    }

    /// Where the next batch begins, or the flaw is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The smallest offset that may come next.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// Looks at the next batch and goes behind it. A flaw stays where it is.
    pub fn next(&mut self, depth: Depth) -> io::Result<Scanned> {
        if self.position >= self.len {
            return Ok(Scanned::End);
        }
        let position = self.position;
        match self.check(position, depth)? {
            Err(flaw) => Ok(Scanned::Flaw(flaw)),
            Ok(header) => {
                self.position += header.size() as u64;
                self.next = header.next_offset();
                Ok(Scanned::Batch { position, header })
            }
        }
    }

    /// Whether the checksum of a batch that was passed is right.
    pub fn holds(&mut self, position: u64, header: &Header) -> io::Result<bool> {
        Ok(self.checksum(position + CHECKED_AT, position + header.size() as u64)? == header.crc)
    }

    /// Goes back to a place that was passed, with the smallest offset that was possible there.
    pub fn go_back(&mut self, position: u64, next: i64) {
        self.position = position;
        self.next = next;
    }

    /// Looks for the next undamaged batch behind a flaw and goes there; false when there is none. An error also when too much looks like one:
    /// what lies behind is neither found nor given up then.
    pub fn resync(&mut self) -> io::Result<bool> {
        let mut at = self.position + 1;
        while at + HEADER_BYTES as u64 <= self.len {
            let bytes = self.bytes(at, HEADER_BYTES, VERIFY_CHUNK)?;
            if Header::parse(&bytes).is_ok() {
                match self.check(at, Depth::Checksums)? {
                    Ok(_) => {
                        self.position = at;
                        return Ok(true);
                    }
                    Err(Flaw::Batch(BatchError::BadChecksum { .. })) => self.pay(&bytes)?,
                    Err(_) => {}
                }
            }
            at += 1;
        }
        Ok(false)
    }

    /// Counts the bytes of a batch that was none.
    fn pay(&mut self, header: &[u8]) -> io::Result<()> {
        let size = Header::parse(header).map_or(0, |header| header.size() as u64);
        let too_much = || {
            let why = format!("{}, byte {}: too much behind it looks like batches", self.path, self.position);
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        self.resync_bytes = self.resync_bytes.checked_sub(size).ok_or_else(too_much)?;
        Ok(())
    }

    fn check(&mut self, at: u64, depth: Depth) -> io::Result<Result<Header, Flaw>> {
        let chunk = if depth == Depth::Headers { HEADER_CHUNK } else { VERIFY_CHUNK };
        let bytes = self.bytes(at, HEADER_BYTES, chunk)?;
        let header = match Header::parse(&bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.into())),
        };
        let left = self.len - at - u64::from(planted(Bug::RecoveryCutsOne));
        if header.size() as u64 > left {
            let have = usize::try_from(left).unwrap_or(usize::MAX);
            return Ok(Err(BatchError::Truncated { need: header.size(), have }.into()));
        }
        // No segment spans more offsets than that; without the limit, a payload that looks like headers in a damaged file would have its
        // checksum computed again and again.
        let far = header.base_offset.saturating_sub(self.next) > i64::from(i32::MAX);
        let backwards = header.base_offset < self.next || header.last_offset_delta < 0;
        if far || backwards || header.next_offset() == i64::MAX {
            let (base, last) = (header.base_offset, header.last_offset());
            return Ok(Err(Flaw::Offsets { base, last, next: self.next }));
        }
        if depth == Depth::Checksums {
            let computed = self.checksum(at + CHECKED_AT, at + header.size() as u64)?;
            if computed != header.crc && !planted(Bug::RecoveryTakesTorn) {
                return Ok(Err(BatchError::BadChecksum { stored: header.crc, computed }.into()));
            }
        }
        Ok(Ok(header))
    }

    /// CRC-32C of a part of the file, read in chunks.
    fn checksum(&mut self, mut at: u64, end: u64) -> io::Result<u32> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(VERIFY_CHUNK);
            let bytes = self.bytes(at, want, VERIFY_CHUNK)?;
            if bytes.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{} became shorter", self.path),
                ));
            }
            digest.update(&bytes);
            at += bytes.len() as u64;
        }
        Ok(digest.finalize() as u32)
    }

    /// `len` bytes at `at`, or fewer at the end of the file. What has to be read is read `chunk` bytes at a time.
    fn bytes(&mut self, at: u64, len: usize, chunk: usize) -> io::Result<Bytes> {
        let len = len.min(usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX));
        let inside = |buffer_at: u64, have: usize| {
            let skip = usize::try_from(at.checked_sub(buffer_at)?).ok()?;
            (skip.checked_add(len)? <= have).then_some(skip)
        };
        if inside(self.buffer_at, self.buffer.len()).is_none() {
            self.buffer = self.disk.read(&self.path, at, chunk.max(len))?;
            self.buffer_at = at;
            self.read_bytes += self.buffer.len() as u64;
        }
        match inside(self.buffer_at, self.buffer.len()) {
            Some(skip) => Ok(self.buffer.slice(skip..skip + len)),
            None => Ok(self.buffer.clone()),
        }
    }
}
