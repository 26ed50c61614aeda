//! One client connection: cutting what arrives into frames, and sending responses without copying what lies in files.
//!
//! An idle connection owns its socket and a few hundred bytes; a buffer exists only while a frame is incomplete or a response
//! is unsent. A client that does not read its responses is not read from either.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use moldau_broker::ConnId;
use moldau_wire::frame::{FrameError, LENGTH_PREFIX};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::net::TcpStream;

use crate::files::Opened;
use crate::fs;

/// Requests of one connection that may be unanswered, or answered and unsent.
const IN_WORK: usize = 64;
/// A frame's buffer grows as the frame arrives, so that a length alone costs nothing: at first to a multiple of what came
/// with the length, within these bounds.
const FIRST_CAPACITY: std::ops::RangeInclusive<usize> = 4 * 1024..=256 * 1024;
/// Of a frame that misses so much the rest is read into the frame itself.
const LARGE: usize = 16 * 1024;
/// Frames from this length on are not copied out of the buffer that they were read into.
const SHARED: usize = 8 * 1024;
/// After so many answers, its versions and one more, a client takes the end of a connection for what it is.
const INTRODUCED: u32 = 2;
/// Of a file this much is looked for in memory, or brought there, at a time.
const WINDOW: u64 = 1024 * 1024;
/// Most slices handed to one `sendmsg`.
const SLICES_PER_SEND: usize = 64;

/// A connection.
pub struct Conn {
    /// Its name to the broker.
    pub id: ConnId,
    /// The socket.
    pub stream: TcpStream,
    /// The client's address.
    pub address: IpAddr,
    /// Cuts frames.
    pub reader: Reader,
    /// What is to be sent.
    pub out: Outgoing,
    /// Bytes of the requests that are not answered, in order.
    pub unanswered: VecDeque<usize>,
    /// Answers that it got, the first few.
    answers: u32,
    /// Close when everything is sent.
    pub closing: bool,
    /// Close at once: silent for too long.
    pub abandoned: bool,
    /// Not read from because too much of it is in work.
    pub held: bool,
    /// Not read from because too much of all connections is in memory.
    pub starved: bool,
    /// Bytes of the arriving frame that its shard has counted as being in memory.
    pub counted: usize,
    /// Wakes the connection's task.
    pub waker: Option<Waker>,
    /// Monotonic milliseconds of the last byte in either direction.
    pub active_ms: u64,
}

impl Conn {
    /// A connection that has just been accepted. If the process dies before the client has been answered, the connection is reset: a client
    /// whose first request finds a mere end takes it for a missing TLS or SASL and gives up what it would otherwise try again (franz-go does).
    pub fn new(id: ConnId, stream: TcpStream, address: IpAddr, limit: u32, now_ms: u64) -> Conn {
        linger(&stream, Some(Duration::ZERO));
        Conn {
            id,
            stream,
            address,
            reader: Reader::new(limit),
            out: Outgoing::default(),
            unanswered: VecDeque::new(),
            answers: 0,
            closing: false,
            abandoned: false,
            held: false,
            starved: false,
            counted: 0,
            waker: None,
            active_ms: now_ms,
        }
    }

    /// Whether another frame may be begun.
    pub fn may_begin(&self) -> bool {
        !self.closing && self.unanswered.len() + self.out.frames < IN_WORK
    }

    /// An answer is about to be sent. From the second on, a death of the process ends the connection as any other: the kernel repeats an
    /// end until it has arrived, and a reset never.
    pub fn answers(&mut self) {
        if self.answers < INTRODUCED {
            self.answers += 1;
            if self.answers == INTRODUCED {
                linger(&self.stream, None);
            }
        }
    }

    /// The connection ends, and not because the process does: what was sent arrives.
    pub fn part(&self) {
        if self.answers < INTRODUCED {
            linger(&self.stream, None);
        }
    }

    /// Wakes the connection's task, if it sleeps.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// How long the kernel goes on sending when the socket is closed: `None` until all has arrived, no time for a reset.
fn linger(stream: &TcpStream, time: Option<Duration>) {
    if let Err(error) = set_socket_linger(stream, time) {
        tracing::debug!(%error, "SO_LINGER");
    }
}

/// Cuts a byte stream into frames.
pub struct Reader {
    limit: u32,
    /// The first bytes of a length.
    prefix: [u8; LENGTH_PREFIX],
    prefix_len: usize,
    /// The frame that is arriving, and its length.
    partial: Option<(BytesMut, usize)>,
}

impl Reader {
    /// Refuses frames longer than `limit` bytes.
    pub fn new(limit: u32) -> Reader {
        Reader { limit, prefix: [0; LENGTH_PREFIX], prefix_len: 0, partial: None }
    }

    /// Whether a frame is arriving.
    pub fn in_frame(&self) -> bool {
        self.partial.is_some()
    }

    /// Memory that the arriving frame takes: for what has come of it, not for what its length promises.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |(buffer, _)| buffer.capacity())
    }

    /// Takes in everything that was read, and adds the frames that are complete to `frames`. Long frames that came whole are not
    /// copied: they are slices of the buffer. Returns how much memory they keep beside their own bytes.
    pub fn push(&mut self, bytes: &mut BytesMut, frames: &mut VecDeque<Bytes>) -> Result<usize, FrameError> {
        let (room, mut shared) = (bytes.capacity(), 0);
        while !bytes.is_empty() {
            match &mut self.partial {
                Some((buffer, len)) => {
                    let take = bytes.len().min(*len - buffer.len());
                    grow(buffer, *len, take);
                    buffer.put_slice(&bytes[..take]);
                    bytes.advance(take);
                    self.finish(frames);
                }
                None => {
                    let Some(len) = self.length(bytes)? else { break };
                    if bytes.len() < len {
                        let first = (bytes.len() * 8).clamp(*FIRST_CAPACITY.start(), *FIRST_CAPACITY.end());
                        self.partial = Some((BytesMut::with_capacity(len.min(first)), len));
                    } else if len < SHARED {
                        frames.push_back(Bytes::copy_from_slice(&bytes[..len]));
                        bytes.advance(len);
                    } else {
                        frames.push_back(bytes.split_to(len).freeze());
                        shared += len;
                    }
                }
            }
        }
        Ok(if shared == 0 { 0 } else { room - shared })
    }

    /// Takes the length that stands before a frame; `None` while a part of it is missing.
    fn length(&mut self, bytes: &mut BytesMut) -> Result<Option<usize>, FrameError> {
        let take = bytes.len().min(LENGTH_PREFIX - self.prefix_len);
        self.prefix[self.prefix_len..self.prefix_len + take].copy_from_slice(&bytes[..take]);
        self.prefix_len += take;
        bytes.advance(take);
        if self.prefix_len < LENGTH_PREFIX {
            return Ok(None);
        }
        self.prefix_len = 0;
        moldau_wire::frame::body_length(self.prefix, self.limit).map(Some)
    }

    /// Whether a frame is arriving of which so much is missing that it is read without a scratch buffer.
    pub fn is_in_large_frame(&self) -> bool {
        self.partial.as_ref().is_some_and(|(buffer, len)| len - buffer.len() >= LARGE)
    }

    /// Reads once from the socket straight into the frame that is arriving.
    pub async fn read_large(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        frames: &mut VecDeque<Bytes>,
    ) -> io::Result<()> {
        let Some((buffer, len)) = &mut self.partial else { return Ok(()) };
        let missing = *len - buffer.len();
        grow(buffer, *len, 1);
        if stream.read_buf(&mut buffer.limit(missing)).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.finish(frames);
        Ok(())
    }

    fn finish(&mut self, frames: &mut VecDeque<Bytes>) {
        if let Some((buffer, _)) = self.partial.take_if(|(buffer, len)| buffer.len() == *len) {
            frames.push_back(buffer.freeze());
        }
    }
}

/// Makes room for `more` bytes: to four times as much, so that little is copied on the way, at most to the frame's length.
fn grow(buffer: &mut BytesMut, len: usize, more: usize) {
    if buffer.capacity() - buffer.len() < more {
        let target = (buffer.capacity() * 4).max(buffer.len() + more).min(len);
        buffer.reserve(target - buffer.len());
    }
}

/// A piece of a response.
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file, which stays readable as long as this piece holds it.
    File {
        /// The file.
        opened: Opened,
        /// First byte.
        position: u64,
        /// How many bytes.
        len: u64,
        /// How many of them, from the first on, are known to be in memory.
        warm: u64,
    },
    /// The end of a response.
    End,
}

/// How far sending came.
pub enum Sent {
    /// Everything is sent.
    All,
    /// The socket is full.
    Full,
    /// This is to be sent next and has to be read from a disk, for which the shard's thread does not wait.
    Cold(Cold),
}

/// A part of a file that is not in memory.
pub struct Cold {
    /// The file.
    pub opened: Opened,
    /// First byte.
    pub position: u64,
    /// How many bytes.
    pub len: u64,
}

/// What is to be sent on a connection.
#[derive(Default)]
pub struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Responses not wholly sent.
    pub frames: usize,
    /// The first piece is being read from a disk.
    cold: bool,
}

impl Outgoing {
    /// Adds a piece.
    pub fn push(&mut self, piece: Piece) {
        if matches!(piece, Piece::End) {
            self.frames += 1;
        }
        self.pieces.push_back(piece);
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Sends what the socket takes and memory holds.
    pub fn flush(&mut self, stream: &TcpStream) -> io::Result<Sent> {
        if self.cold {
            return Ok(Sent::Full);
        }
        while let Some(piece) = self.pieces.front_mut() {
            let sent = match piece {
                Piece::End => {
                    self.frames -= 1;
                    self.pieces.pop_front();
                    continue;
                }
                Piece::File { opened, position, len, warm } => {
                    if *warm == 0 {
                        let window = (*len).min(WINDOW);
                        if !fs::is_in_memory(&opened.file, *position, window) {
                            self.cold = true;
                            let (opened, position) = (opened.clone(), *position);
                            return Ok(Sent::Cold(Cold { opened, position, len: window }));
                        }
                        *warm = window;
                    }
                    let (file, position, warm) = (&opened.file, *position, *warm);
                    stream.try_io(Interest::WRITABLE, || send_file(stream, file, position, warm))
                }
                Piece::Bytes(_) => stream.try_io(Interest::WRITABLE, || send_bytes(stream, &self.pieces)),
            };
            match sent {
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Sent::Full),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Sent::All)
    }

    /// What was [`Sent::Cold`] is in memory now, or cannot be read, which sending it will show.
    pub fn warmed(&mut self) {
        self.cold = false;
        if let Some(Piece::File { len, warm, .. }) = self.pieces.front_mut() {
            *warm = (*len).min(WINDOW);
        }
    }

    /// Waits for a disk; there is no use in trying to send.
    pub fn is_cold(&self) -> bool {
        self.cold
    }

    fn advance(&mut self, mut sent: u64) {
        while sent > 0 {
            match self.pieces.front_mut() {
                Some(Piece::Bytes(bytes)) => {
                    let take = sent.min(bytes.len() as u64);
                    sent -= take;
                    if take == bytes.len() as u64 {
                        self.pieces.pop_front();
                    } else {
                        *bytes = bytes.slice(take as usize..);
                    }
                }
                Some(Piece::File { position, len, warm, .. }) => {
                    let take = sent.min(*len);
                    sent -= take;
                    *position += take;
                    *len -= take;
                    *warm = warm.saturating_sub(take);
                    if *len == 0 {
                        self.pieces.pop_front();
                    }
                }
                Some(Piece::End) => {
                    self.frames -= 1;
                    self.pieces.pop_front();
                }
                None => return,
            }
        }
    }
}

/// Sends bytes from memory up to the next file; tells the kernel when a file follows, so that both share a packet.
fn send_bytes(stream: &TcpStream, pieces: &VecDeque<Piece>) -> io::Result<u64> {
    let mut slices = Vec::with_capacity(pieces.len().min(SLICES_PER_SEND));
    let mut flags = SendFlags::NOSIGNAL;
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) if slices.len() < SLICES_PER_SEND => slices.push(IoSlice::new(bytes)),
            Piece::End => {}
            Piece::Bytes(_) | Piece::File { .. } => {
                flags |= SendFlags::MORE;
                break;
            }
        }
    }
    let sent = rustix::net::sendmsg(stream, &slices, &mut SendAncillaryBuffer::default(), flags)?;
    Ok(sent as u64)
}

fn send_file(stream: &TcpStream, file: &File, position: u64, len: u64) -> io::Result<u64> {
    let mut offset = position;
    let count = usize::try_from(len).unwrap_or(usize::MAX);
    let sent = rustix::fs::sendfile(stream, file, Some(&mut offset), count)?;
    if sent == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file is shorter than the response"));
    }
    Ok(sent as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut reader = Reader::new(100_000);
        let mut frames = VecDeque::new();
        for chunk in chunks {
            reader.push(&mut BytesMut::from(*chunk), &mut frames)?;
        }
        Ok(frames.into_iter().map(|frame| frame.to_vec()).collect())
    }

    #[test]
    fn frames_are_cut_wherever_the_chunks_end() {
        let mut stream = Vec::new();
        let mut bodies: Vec<Vec<u8>> = (8..40u8).map(|n| vec![n; usize::from(n)]).collect();
        bodies.insert(20, vec![7; 3 * SHARED]);
        for body in &bodies {
            stream.extend((body.len() as u32).to_be_bytes());
            stream.extend(body);
        }
        for size in (1..50).chain([SHARED, 3 * SHARED + 1, 1 << 20]) {
            let chunks: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(cut(&chunks), Ok(bodies.clone()));
        }
    }

    #[test]
    fn long_frames_are_not_copied_and_what_they_keep_is_told() {
        let mut buffer = BytesMut::with_capacity(100_000);
        for (len, byte) in [(10, 1), (SHARED, 2), (SHARED + 1, 3), (40, 4)] {
            buffer.put_u32(len as u32);
            buffer.put_bytes(byte, len);
        }
        buffer.put_u32(500);
        buffer.put_bytes(5, 100);
        let room = buffer.capacity();
        let (begin, end) = (buffer.as_ptr(), buffer[room.min(buffer.len())..].as_ptr());
        let mut frames = VecDeque::new();
        let mut reader = Reader::new(100_000);
        assert_eq!(reader.push(&mut buffer, &mut frames), Ok(room - 2 * SHARED - 1));
        assert!(buffer.is_empty() && reader.in_frame());
        let shared: Vec<bool> = frames.iter().map(|frame| (begin..end).contains(&frame.as_ptr())).collect();
        assert_eq!(shared, [false, true, true, false]);
        assert!(frames.iter().zip(1..).all(|(frame, byte)| frame.iter().all(|have| *have == byte)));
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), [10, SHARED, SHARED + 1, 40]);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert!(matches!(cut(&[&[0xff, 0xff, 0xff, 0xff]]), Err(FrameError::Negative { .. })));
        assert!(matches!(cut(&[&[0x7f, 0xff, 0xff, 0xff]]), Err(FrameError::TooLong { .. })));
    }
}
