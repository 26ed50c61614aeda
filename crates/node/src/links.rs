//! Connections of a shard to other nodes: one for each lane, opened when there is something to send, its answers in the order of
//! its calls.
//!
//! A link never repeats anything: when its connection ends, every call on it that is not answered ends too, and the broker decides
//! what to do about it. The next call opens the connection anew.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moldau_broker::{Address, FromPeer, Input, Lane, NoAnswer};
use moldau_wire::{Frame, Segment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::conn::Reader;
use crate::mailbox::{Item, Mailbox};

/// How long a connection may take to open: with less than that a lost packet would end it.
const CONNECT: Duration = Duration::from_millis(1_500);
/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;
/// Longest answer: what a fetch may bring, and more.
const ANSWER_BYTES: u32 = 1 << 30;

/// A call on its way.
struct Call {
    id: u64,
    frame: Frame,
}

/// The links of a shard. What is sent on them is bounded by the broker, which waits for answers.
pub struct Links {
    mailbox: Arc<Mailbox>,
    open: BTreeMap<Lane, (Address, UnboundedSender<Call>)>,
}

impl Links {
    /// Answers go into `mailbox`.
    pub fn new(mailbox: Arc<Mailbox>) -> Links {
        Links { mailbox, open: BTreeMap::new() }
    }

    /// Sends a call on its lane. To be called on the event loop.
    pub fn call(&mut self, id: u64, lane: Lane, address: Address, frame: Frame) {
        let call = Call { id, frame };
        let moved = self.open.get(&lane).is_some_and(|(known, _)| *known != address);
        if moved {
            self.open.remove(&lane);
        }
        let (_, calls) = self.open.entry(lane).or_insert_with(|| {
            let (send, calls) = unbounded_channel();
            let link = Link { address: address.clone(), mailbox: self.mailbox.clone() };
            tokio::task::spawn_local(link.run(calls));
            (address, send)
        });
        if let Err(unsent) = calls.send(call) {
            tell(&self.mailbox, [unsent.0.id], NoAnswer::Broken);
        }
    }

    /// Closes the connection of a lane, if it has one.
    pub fn hang_up(&mut self, lane: Lane) {
        self.open.remove(&lane);
    }
}

fn tell(mailbox: &Mailbox, calls: impl IntoIterator<Item = u64>, why: NoAnswer) {
    let news = calls.into_iter().map(|call| FromPeer::NoAnswer { call, why });
    mailbox.send_all(news.map(|news| Item::Input(Input::Peer(news))));
}

/// One of them.
struct Link {
    address: Address,
    mailbox: Arc<Mailbox>,
}

impl Link {
    /// Runs until nobody can call any more.
    async fn run(self, mut calls: UnboundedReceiver<Call>) {
        while let Some(first) = calls.recv().await {
            match self.connect(&mut calls).await {
                None => return,
                Some(Ok(stream)) => {
                    let (read, write) = stream.into_split();
                    let waiting = RefCell::new(VecDeque::new());
                    let hung_up = tokio::select! {
                        hung_up = send(write, first, &mut calls, &waiting) => hung_up,
                        () = self.receive(read, &waiting) => false,
                    };
                    if hung_up {
                        return;
                    }
                    tell(&self.mailbox, waiting.take(), NoAnswer::Broken);
                }
                Some(Err(why)) => {
                    let mut unsent = vec![first.id];
                    while let Ok(call) = calls.try_recv() {
                        unsent.push(call.id);
                    }
                    tell(&self.mailbox, unsent, why);
                }
            }
        }
    }

    /// Opens the connection; `None` when it is not wanted any more.
    async fn connect(&self, calls: &mut UnboundedReceiver<Call>) -> Option<Result<TcpStream, NoAnswer>> {
        let Address { host, port } = &self.address;
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect((&**host, *port)));
        tokio::pin!(connecting);
        let connected = loop {
            tokio::select! {
                connected = &mut connecting => break connected,
                () = tokio::time::sleep(CONNECT / 16), if calls.is_closed() => return None,
                () = tokio::time::sleep(CONNECT / 16) => {}
            }
        };
        Some(match connected {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Err(NoAnswer::Refused),
            Ok(Err(_)) | Err(_) => Err(NoAnswer::Unreachable),
        })
    }

    /// Reads answers until the connection ends.
    async fn receive(&self, mut stream: OwnedReadHalf, waiting: &RefCell<VecDeque<u64>>) {
        let mut reader = Reader::new(ANSWER_BYTES);
        let mut scratch = BytesMut::new();
        let mut frames = VecDeque::new();
        loop {
            let read = async {
                if reader.is_in_large_frame() {
                    return reader.read_large(&mut stream, &mut frames).await;
                }
                scratch.clear();
                scratch.reserve(READ_BYTES);
                if stream.read_buf(&mut scratch).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                reader.push(&mut scratch, &mut frames).map(drop).map_err(io::Error::other)
            };
            if read.await.is_err() {
                return;
            }
            let answers = frames.drain(..).map_while(|frame| {
                let call = waiting.borrow_mut().pop_front()?;
                Some(Item::Input(Input::Peer(FromPeer::Answer { call, frame })))
            });
            self.mailbox.send_all(answers);
        }
    }
}

/// Sends calls until the connection ends, or nobody can call any more, which is true.
async fn send(
    mut stream: OwnedWriteHalf,
    first: Call,
    calls: &mut UnboundedReceiver<Call>,
    waiting: &RefCell<VecDeque<u64>>,
) -> bool {
    let mut next = Some(first);
    while let Some(call) = next {
        waiting.borrow_mut().push_back(call.id);
        for bytes in call.frame.segments.into_iter().filter_map(in_memory) {
            if stream.write_all(&bytes).await.is_err() {
                return false;
            }
        }
        next = calls.recv().await;
    }
    true
}

/// Requests never name files.
fn in_memory(segment: Segment) -> Option<Bytes> {
    match segment {
        Segment::Bytes(bytes) => Some(bytes),
        Segment::File(_) => None,
    }
}
