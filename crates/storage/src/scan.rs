//! Reads batch after batch of a log file through a blocking disk, headers only or with their checksums. Memory is bounded
//! whatever the file claims. For recovery and offline tools.

use std::io;
use std::ops::Range;

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
/// How many whole batches behind a hole are asked about it, of those that can stand against it: the offsets of some of them may be damaged
/// as well.
const WITNESSES: usize = 8;
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
    /// Damage in what was flushed, with something whole behind it, and the scanner is there. Told by [`Scanner::next_in_place`] alone.
    Damaged {
        /// Where it begins.
        position: u64,
        /// What is wrong with it.
        flaw: Flaw,
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
    /// Batches from this offset on have their checksums verified at any depth.
    verified: i64,
    /// No batch whose header ends behind this is hidden by a damaged length in front.
    hidden_until: u64,
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
            verified: i64::MAX,
            hidden_until: len,
            buffer: Bytes::new(),
            buffer_at: 0,
            resync_bytes,
            read_bytes: 0,
        }
    }

    /// Has the checksums of batches from this offset on verified at any depth.
    pub fn verifying_from(self, verified: i64) -> Scanner<'a> {
        Scanner { verified, ..self }
    }

    /// For a scanner that begins at the last entry of an index with this distance of entries: a batch behind that distance would have an
    /// entry of its own. So what a batch hides is found in what is read anyway.
    pub fn behind_last_entry(self, interval: u32) -> Scanner<'a> {
        let distance = (u64::from(interval) + HEADER_BYTES as u64).max(HEADER_CHUNK as u64);
        let hidden_until = self.position.saturating_add(distance);
        Scanner { hidden_until, ..self }
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
        match self.check(position, self.next, depth)? {
            Err(flaw) => Ok(Scanned::Flaw(flaw)),
            Ok(header) => {
                self.go_to(position + header.size() as u64, header.next_offset());
                Ok(Scanned::Batch { position, header })
            }
        }
    }

    /// As [`Scanner::next`]; but what is under no checksum, or was only looked at by its header, is held against what is whole inside of the batch
    /// and behind it. Goes past what is damaged below the offset that checksums are verified from, if there is something whole behind.
    pub fn next_in_place(&mut self, depth: Depth) -> io::Result<Scanned> {
        let (start, before) = (self.position, self.next);
        let flaw = match self.next(depth)? {
            Scanned::Batch { position, header } => match self.doubt(position, &header, before, depth)? {
                None => return Ok(Scanned::Batch { position, header }),
                Some(flaw) => flaw,
            },
            Scanned::Flaw(flaw) if before < self.verified && self.resync()? => flaw,
            scanned => return Ok(scanned),
        };
        Ok(Scanned::Damaged { position: start, flaw })
    }

    /// What is wrong with the batch that was passed last, though it seemed to be in order; goes then to what is whole behind it.
    fn doubt(
        &mut self,
        position: u64,
        header: &Header,
        before: i64,
        depth: Depth,
    ) -> io::Result<Option<Flaw>> {
        let is_verified = depth == Depth::Checksums || header.base_offset >= self.verified;
        if !is_verified && let Some(flaw) = self.find_not_whole(position, header, before, depth)? {
            return Ok(Some(flaw));
        }
        self.find_misplaced(position, header, before)
    }

    /// Whether the batch that was passed by its header alone is not whole, and not what the log has there: what follows does not go on from it,
    /// and something whole begins behind where it begins. Goes there.
    fn find_not_whole(
        &mut self,
        position: u64,
        header: &Header,
        before: i64,
        depth: Depth,
    ) -> io::Result<Option<Flaw>> {
        let (end, next) = (self.position, self.next);
        let goes_on = match end < self.len {
            true => self.check(end, next, depth)?.is_ok_and(|follower| follower.base_offset == next),
            false => !self.may_hide(position, before)?,
        };
        if goes_on {
            return Ok(None);
        }
        let computed = self.computed(position, header)?;
        if computed == header.crc {
            return Ok(None);
        }
        self.go_to(position, before);
        if self.resync()? {
            return Ok(Some(BatchError::BadChecksum { stored: header.crc, computed }.into()));
        }
        self.go_to(end, next);
        Ok(None)
    }

    /// Whether something inside of the batch that was passed last looks like a batch, as far as batches can be hidden there. Where that is
    /// all of it, its checksum is less work.
    fn may_hide(&mut self, position: u64, next: i64) -> io::Result<bool> {
        if self.position <= self.hidden_until {
            return Ok(true);
        }
        let (first, window) = (position + 1, self.hidden_until.saturating_sub(position + 1));
        let bytes = self.bytes(first, usize::try_from(window).unwrap_or(usize::MAX), HEADER_CHUNK)?;
        for (at, bytes) in (first..).zip(bytes.windows(HEADER_BYTES)) {
            if Header::parse(bytes).is_ok() && self.check(at, next, Depth::Headers)?.is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the offset of the batch that was passed last, `before` or above, is damaged: it leaves a hole, and whole batches behind have
    /// their place in that. All of the hole is theirs: what is next must not depend on whether this one says that it was flushed, which may be
    /// otherwise at the next start. From the offset on that checksums are verified, holes are not looked into: what follows a batch that is
    /// not what it says is nothing there. A batch that is not whole must not move what is next past those whole ones either.
    fn find_misplaced(&mut self, position: u64, header: &Header, before: i64) -> io::Result<Option<Flaw>> {
        if header.base_offset == before || before >= self.verified || !self.is_contradicted(before)? {
            return Ok(None);
        }
        let end = self.position;
        self.go_to(position, before);
        if self.computed(position, header)? == header.crc {
            self.position = end;
        } else {
            // Its length is not to be trusted either.
            self.resync()?;
        }
        Ok(Some(Flaw::Offsets { base: header.base_offset, last: header.last_offset(), next: before }))
    }

    /// Whether a batch behind has its place, from `floor` on, before what would be next. Its own offset may be what is damaged: then the
    /// one that directly follows it does not go on from it. Only what recovery does not cut off counts, since it is to find the same the
    /// next time: whole batches, and of those that were not flushed the one directly behind.
    fn is_contradicted(&mut self, floor: i64) -> io::Result<bool> {
        let (mut against, mut asked): (Option<(u64, i64)>, usize) = (None, 0);
        let (position, next, verified) = (self.position, self.next, self.verified);
        let stands = self.ask_whole(position..self.len, floor, |at, found| {
            let is_odd = |&(end, follows): &(u64, i64)| end == at && follows != found.base_offset;
            if against.take().is_some_and(|last| !is_odd(&last)) {
                return Some(true);
            }
            let end = at + found.size() as u64;
            let stays = at == position || found.base_offset < verified;
            against = (stays && found.base_offset < next).then_some((end, found.next_offset()));
            asked += usize::from(stays);
            (asked == WITNESSES).then_some(against.is_some())
        })?;
        Ok(stands.unwrap_or(against.is_some()))
    }

    /// The checksum that a batch should have.
    fn computed(&mut self, position: u64, header: &Header) -> io::Result<u32> {
        self.checksum(position + CHECKED_AT, position + header.size() as u64)
    }

    /// Goes to a place, with the smallest offset that is possible there.
    pub fn go_to(&mut self, position: u64, next: i64) {
        self.position = position;
        self.next = next;
    }

    /// Looks for the next undamaged batch behind a flaw and goes there; false when there is none. An error also when too much looks like one:
    /// what lies behind is neither found nor given up then.
    pub fn resync(&mut self) -> io::Result<bool> {
        let found = self.ask_whole(self.position + 1..self.len, self.next, |at, _| Some(at))?;
        self.position = found.unwrap_or(self.position);
        Ok(found.is_some())
    }

    /// Asks the undamaged batches that begin in a range and whose offsets are `next` or above: the first answer.
    fn ask_whole<T>(
        &mut self,
        range: Range<u64>,
        next: i64,
        mut ask: impl FnMut(u64, &Header) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut at = range.start;
        while at < range.end && at + HEADER_BYTES as u64 <= self.len {
            let bytes = self.bytes(at, HEADER_BYTES, VERIFY_CHUNK)?;
            if Header::parse(&bytes).is_ok() {
                match self.check(at, next, Depth::Checksums)? {
                    Ok(header) => {
                        if let Some(answer) = ask(at, &header) {
                            return Ok(Some(answer));
                        }
                        if header.base_offset >= self.verified {
                            self.pay(&bytes)?;
                        }
                        at += header.size() as u64;
                        continue;
                    }
                    Err(Flaw::Batch(BatchError::BadChecksum { .. })) => self.pay(&bytes)?,
                    Err(_) => {}
                }
            }
            at += 1;
        }
        Ok(None)
    }

    /// Counts the bytes of a batch that was none, or that tells nothing.
    fn pay(&mut self, header: &[u8]) -> io::Result<()> {
        let size = Header::parse(header).map_or(0, |header| header.size() as u64);
        let too_much = || {
            let why = format!("{}, byte {}: too much behind it looks like batches", self.path, self.position);
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        self.resync_bytes = self.resync_bytes.checked_sub(size).ok_or_else(too_much)?;
        Ok(())
    }

    fn check(&mut self, at: u64, next: i64, depth: Depth) -> io::Result<Result<Header, Flaw>> {
        let depth = if next >= self.verified { Depth::Checksums } else { depth };
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
        let far = header.base_offset.saturating_sub(next) > i64::from(i32::MAX);
        let backwards = header.base_offset < next || header.last_offset_delta < 0;
        if far || backwards || header.next_offset() == i64::MAX {
            let (base, last) = (header.base_offset, header.last_offset());
            return Ok(Err(Flaw::Offsets { base, last, next }));
        }
        if depth == Depth::Checksums || header.base_offset >= self.verified {
            let computed = self.computed(at, &header)?;
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
