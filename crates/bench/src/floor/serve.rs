//! The serving side of the floor program.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use anyhow::{Result, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags};

use super::{CACHED, Kind};

/// Bytes with which a range is asked for.
pub(super) const ASK: usize = 64;
/// An answer to a frame or a ping: a length and that many bytes, like a small Produce response.
const ANSWER: [u8; 4 + 52] = {
    let mut answer = [0; 56];
    answer[3] = 52;
    answer
};
/// Bytes received at a time while it is not known how long the frame is.
const READ: usize = 64 * 1024;
/// Connections that `ping` looks at in one turn.
const EVENTS: usize = 64;

/// Serves until the process is killed.
pub fn serve(kind: Kind, bytes: usize, dir: &Path) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // BBR would pace what is sent, with a timer; the loopback interface needs none. Where reno is refused, the floor is higher.
    let _ = rustix::net::sockopt::set_tcp_congestion(&listener, "reno");
    let cached = match kind {
        Kind::Send => Some(cached_file(dir)?),
        Kind::Append | Kind::Ping => None,
    };
    println!("ready {}", listener.local_addr()?);
    if kind == Kind::Ping {
        return ping(&listener);
    }
    for number in 0u32.. {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        match &cached {
            Some(file) => {
                let file = file.try_clone()?;
                thread::spawn(move || report(send(stream, &file, bytes)));
            }
            None => {
                // Without a name it is gone with the process.
                let path = dir.join(format!("appended-{number}"));
                let file = File::options().create(true).truncate(true).write(true).open(&path)?;
                std::fs::remove_file(path)?;
                thread::spawn(move || report(append(stream, &file, bytes)));
            }
        }
    }
    Ok(())
}

fn report(ended: Result<()>) {
    if let Err(why) = ended {
        eprintln!("{why:#}");
    }
}

fn cached_file(dir: &Path) -> Result<File> {
    let path = dir.join("cached");
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
    std::fs::remove_file(path)?;
    let chunk = vec![5; 1024 * 1024];
    for place in 0..CACHED / chunk.len() as u64 {
        file.write_all_at(&chunk, place * chunk.len() as u64)?;
    }
    Ok(file)
}

/// Receives frames, checks each, appends each, answers.
fn append(mut stream: TcpStream, file: &File, bytes: usize) -> Result<()> {
    let mut buffer = vec![0; 2 * (bytes + 4 + READ)];
    let (mut begin, mut end) = (0, 0);
    let mut position = 0;
    let mut answers = Vec::new();
    loop {
        answers.clear();
        while let Some(len) = frame_len(&buffer[begin..end]).filter(|len| begin + 4 + len <= end) {
            let frame = &buffer[begin + 4..begin + 4 + len];
            std::hint::black_box(moldau_batch::checksum(frame));
            file.write_all_at(frame, position)?;
            position += len as u64;
            begin += 4 + len;
            answers.extend_from_slice(&ANSWER);
        }
        if !answers.is_empty() {
            stream.write_all(&answers)?;
        }
        if begin == end {
            (begin, end) = (0, 0);
        }
        // A long frame is received up to its end, so that nothing has to be moved for the next.
        let frame_end = frame_len(&buffer[begin..end]).map_or(0, |len| begin + 4 + len);
        let mut upto = frame_end.max(end + READ);
        if upto > buffer.len() {
            ensure!(frame_end - begin.min(frame_end) <= 4 + bytes, "a frame longer than announced");
            buffer.copy_within(begin..end, 0);
            (begin, end, upto) = (0, end - begin, upto - begin);
        }
        match stream.read(&mut buffer[end..upto])? {
            0 => return Ok(()),
            n => end += n,
        }
    }
}

fn frame_len(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk::<4>().map(|prefix| u32::from_be_bytes(*prefix) as usize)
}

/// Answers each request with a length and that many bytes of the file.
fn send(mut stream: TcpStream, file: &File, bytes: usize) -> Result<()> {
    let mut ask = [0; ASK];
    let prefix = u32::try_from(bytes)?.to_be_bytes();
    let mut offset = 0;
    loop {
        match stream.read_exact(&mut ask) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        rustix::net::send(&stream, &prefix, SendFlags::MORE | SendFlags::NOSIGNAL)?;
        if offset + bytes as u64 > CACHED {
            offset = 0;
        }
        let end = offset + bytes as u64;
        while offset < end {
            let missing = usize::try_from(end - offset)?;
            let sent = rustix::fs::sendfile(&stream, file, Some(&mut offset), missing)?;
            ensure!(sent > 0, "the cached file is too short");
        }
    }
}

/// Answers whole small frames, on as many connections as come, in one thread.
fn ping(listener: &TcpListener) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, EventData::new_u64(u64::MAX), EventFlags::IN)?;
    let mut streams: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let Ok(place) = usize::try_from(event.data.u64()) else { continue };
            if event.data.u64() == u64::MAX {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                epoll::add(&poll, &stream, EventData::new_u64(streams.len() as u64), EventFlags::IN)?;
                streams.push(Some((stream, Vec::new())));
            } else if let Some(slot) = streams.get_mut(place) {
                let open =
                    slot.as_mut().is_some_and(|(stream, unread)| answer(stream, unread).unwrap_or(false));
                if !open {
                    *slot = None;
                }
            }
        }
    }
}

/// Reads what is there and answers the frames that are whole; false at the end.
fn answer(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Result<bool> {
    let mut chunk = [0; 4096];
    let (read, _) = rustix::net::recv(&*stream, &mut chunk[..], RecvFlags::empty())?;
    unread.extend_from_slice(&chunk[..read]);
    let (mut begin, mut frames) = (0, 0);
    while let Some(len) = frame_len(&unread[begin..]).filter(|len| begin + 4 + len <= unread.len()) {
        begin += 4 + len;
        frames += 1;
    }
    unread.drain(..begin);
    match frames {
        0 => {}
        1 => stream.write_all(&ANSWER)?,
        more => stream.write_all(&ANSWER.repeat(more))?,
    }
    Ok(read > 0)
}
