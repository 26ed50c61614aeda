//! Room on the disk for what is going to be written. openraft takes an append that fails for the end of the log, and the node stops; so
//! entries are let in only when the file system has promised them their place, and what finds none is refused before anybody has heard of it.
//!
//! A start has to write too, its promise first: a file that holds nothing but room is given up for that, and made again behind it.

use std::io;

use moldau_base::disk::{DirId, Disk, Fault, Path};

use crate::log::path;

/// Bytes that are asked for beyond what is wanted, so that not every entry asks.
const AHEAD_BYTES: u64 = 64 << 10;

/// Bytes of the entries of a start: a leader and its voters, and the registration that follows.
pub(crate) const START_BYTES: u64 = 16 << 10;

/// The file that keeps room for the next start.
const KEPT: &str = "room-for-the-next-start";

/// Its sizes; the first that there is room for.
const KEPT_BYTES: [u64; 3] = [64 << 10, 32 << 10, 16 << 10];

/// What of a segment's file has its place.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Base offset of the segment.
    segment: i64,
    /// Position in its file up to which there is room.
    upto: u64,
    /// Bytes of entries that were let in and are not appended yet.
    promised: u64,
}

impl Room {
    /// Lets in entries of `bytes`, to be appended to the file at `path` of the segment with this base offset and size.
    pub(crate) fn let_in(
        &mut self,
        disk: &dyn Disk,
        path: &Path,
        (segment, size): (i64, u64),
        bytes: u64,
    ) -> io::Result<()> {
        if self.segment != segment {
            (self.segment, self.upto) = (segment, 0);
        }
        let wanted = self.promised.saturating_add(bytes);
        let end = size.saturating_add(wanted);
        if end > self.upto {
            let full = |error: &io::Error| Fault::from(error) == Fault::Full;
            self.upto = match disk.reserve(path, size, wanted.saturating_add(AHEAD_BYTES)) {
                Err(error) if full(&error) => disk.reserve(path, size, wanted).map(|()| end)?,
                reserved => reserved.map(|()| end.saturating_add(AHEAD_BYTES))?,
            };
        }
        self.promised = wanted;
        Ok(())
    }

    /// What was let in is appended, or will not be.
    pub(crate) fn settle(&mut self) {
        self.promised = 0;
    }

    /// The file was cut: what lay behind may be gone.
    pub(crate) fn forget(&mut self) {
        self.upto = 0;
    }
}

/// Gives up the room that was kept for a start. A disk that does not do even that says so at the first write.
pub(crate) fn give_up(disk: &dyn Disk, dir: DirId) {
    let _ = disk.remove(&path(dir, KEPT));
}

/// Keeps room for the next start. On a full disk there is none, and the next start may be refused for it.
pub(crate) fn keep(disk: &dyn Disk, dir: DirId) {
    let _ = KEPT_BYTES.iter().any(|bytes| disk.reserve(&path(dir, KEPT), 0, *bytes).is_ok());
}
