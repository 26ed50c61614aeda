//! The event loop of one shard: its mailbox, its timer, and a task for each of its connections, all on one thread.
//!
//! Work comes in rounds: what one read of a socket brought, or what lay in the mailbox. All of a round is worked on before
//! the first answer of it leaves, so that a pipelining client costs one send for each read, and another shard one
//! wake-up for all it is told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moldau_broker::Input;
use tokio::io::AsyncReadExt;

use super::Host;
use crate::conn::{Conn, Sent};
use crate::mailbox::Mailbox;

/// Bytes read from a socket at a time into a buffer that all connections of the thread share.
const SCRATCH: usize = 128 * 1024;
/// Reads of one connection before the others have their turn.
const READS_PER_TURN: usize = 8;
/// How often metrics are published and idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Runs a host on this thread until the node has stopped.
pub fn run(host: Host) -> io::Result<()> {
    let mailbox = host.shared.mailbox(host.id).clone();
    let (falls_asleep, awakes) = (mailbox.clone(), mailbox.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || falls_asleep.before_sleep())
        .on_thread_unpark(move || awakes.after_sleep())
        .build()?;
    let thread = Thread { host: Rc::new(RefCell::new(host)), scratch: Rc::default(), mailbox };
    tokio::task::LocalSet::new().block_on(&runtime, thread.run());
    Ok(())
}

/// What the tasks of the thread share.
#[derive(Clone)]
struct Thread {
    host: Rc<RefCell<Host>>,
    scratch: Rc<RefCell<BytesMut>>,
    mailbox: Arc<Mailbox>,
}

impl Thread {
    async fn run(&self) {
        let clock = self.host.borrow().clock.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        self.host.borrow_mut().input(Input::Tick);
        loop {
            let deadline = {
                let mut host = self.host.borrow_mut();
                host.armed = host.shard.deadline();
                host.armed
            };
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep(at.since(clock.now().mono)).await,
                    None => std::future::pending().await,
                }
            };
            let woken = tokio::select! {
                () = self.mailbox.ready() => Woken::Mail,
                () = timer => Woken::Timer,
                _ = sweep.tick() => Woken::Sweep,
            };
            self.host.borrow_mut().begin_round();
            match woken {
                Woken::Mail => {}
                Woken::Timer => self.host.borrow_mut().input(Input::Tick),
                Woken::Sweep => self.host.borrow_mut().sweep(),
            }
            self.empty_mailbox();
            if self.host.borrow().shared.is_stopped() {
                return;
            }
        }
    }

    /// Works on what lies in the mailbox, and ends the round.
    fn empty_mailbox(&self) {
        let mut items = std::mem::take(&mut self.host.borrow_mut().taken);
        self.mailbox.take(&mut items);
        if !items.is_empty() {
            self.host.borrow_mut().begin_round();
        }
        for item in items.drain(..) {
            let accepted = self.host.borrow_mut().item(item);
            if let Some(conn) = accepted {
                tokio::task::spawn_local(self.clone().serve(conn));
            }
        }
        let mut host = self.host.borrow_mut();
        host.taken = items;
        host.end_round();
    }

    /// Serves one connection until it ends.
    async fn serve(self, conn: Rc<RefCell<Conn>>) {
        let mut frames = VecDeque::new();
        poll_fn(|context| {
            let ended = self.turn(&conn, &mut frames, context);
            self.empty_mailbox();
            ended
        })
        .await;
        let mut host = self.host.borrow_mut();
        host.begin_round();
        host.forget(&conn.borrow());
        host.end_round();
    }

    /// One turn of a connection: send what the socket takes, read what has come. Ready when the connection has ended.
    fn turn(
        &self,
        conn: &RefCell<Conn>,
        frames: &mut VecDeque<Bytes>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        {
            let mut conn = conn.borrow_mut();
            if conn.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                conn.waker = Some(context.waker().clone());
            }
            if conn.abandoned
                || self.send(&mut conn, context).is_err()
                || (conn.closing && conn.out.is_empty())
            {
                return Poll::Ready(());
            }
        }
        for _ in 0..READS_PER_TURN {
            match self.receive(conn, frames, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Received::Ended) => return Poll::Ready(()),
                Poll::Ready(Received::Some) => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn send(&self, conn: &mut Conn, context: &mut Context<'_>) -> io::Result<()> {
        while !conn.out.is_empty() && !conn.out.is_cold() {
            let Conn { id, out, stream, .. } = conn;
            match out.flush(stream)? {
                Sent::All => {}
                Sent::Cold(cold) => self.host.borrow().files.warm(*id, cold),
                Sent::Full if stream.poll_write_ready(context)?.is_pending() => return Ok(()),
                Sent::Full => {}
            }
        }
        Ok(())
    }

    fn receive(
        &self,
        conn: &RefCell<Conn>,
        frames: &mut VecDeque<Bytes>,
        context: &mut Context<'_>,
    ) -> Poll<Received> {
        let id = {
            let mut conn = conn.borrow_mut();
            let mut host = self.host.borrow_mut();
            if !conn.may_begin() || host.stopping {
                conn.held = true;
                return Poll::Pending;
            }
            conn.starved = false;
            if ready!(conn.stream.poll_read_ready(context)).is_err() {
                return Poll::Ready(Received::Ended);
            }
            if !host.admits(&mut conn, context.waker()) {
                return Poll::Pending;
            }
            let kept = match ready!(read(&mut conn, &mut self.scratch.borrow_mut(), frames, context)) {
                Ok(kept) => kept,
                Err(error) => {
                    if error.kind() == ErrorKind::Other {
                        tracing::warn!(address = %conn.address, %error, "connection closed");
                    }
                    return Poll::Ready(Received::Ended);
                }
            };
            host.begin_round();
            conn.active_ms = host.now_ms();
            host.count(&mut conn, frames, kept);
            conn.id
        };
        let mut host = self.host.borrow_mut();
        for bytes in frames.drain(..) {
            host.input(Input::Frame { conn: id, bytes });
        }
        host.end_round();
        Poll::Ready(Received::Some)
    }
}

/// Why the main loop goes on.
enum Woken {
    Mail,
    Timer,
    Sweep,
}

enum Received {
    Some,
    Ended,
}

/// Reads once, and cuts frames. A read that does not fill its buffer has emptied the socket: tokio then waits for the next
/// readiness without another call. Returns how much memory the frames keep beside their own bytes.
fn read(
    conn: &mut Conn,
    scratch: &mut BytesMut,
    frames: &mut VecDeque<Bytes>,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let Conn { reader, stream, .. } = conn;
    if reader.is_in_large_frame() {
        return pin!(reader.read_large(stream, frames)).poll(context).map_ok(|()| 0);
    }
    // The same memory as before, unless a frame that was read into it is still needed.
    scratch.clear();
    scratch.reserve(SCRATCH);
    Poll::Ready(match ready!(pin!(stream.read_buf(scratch)).poll(context))? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => reader.push(scratch, frames).map_err(io::Error::other),
    })
}
