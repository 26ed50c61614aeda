//! What a simulated client can do: know the time, wait, connect, send and receive bytes, and tell the checkers what it did and
//! saw. Clients are `async` functions over a [`Cx`]; they share nothing with the broker but bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use moldau_base::{Mono, Rng};
use moldau_check::{Client, Event, Record, Violation, Watch};

use crate::clients::admin::Topic;
use crate::exec::{Either, first};
use crate::failure::{self, Failure};
use crate::net::{Arrival, Assembler, Link};

/// What clients ask of the world.
pub(crate) enum Wish {
    /// Wake a task.
    Wake(Mono, Waker),
    /// Make a connection to a node, by its place.
    Connect(Link, usize),
    /// Send bytes.
    Send(Link, Bytes),
    /// Close.
    Close(Link),
    /// Vanish: the broker learns nothing for a long while.
    Vanish(Link),
    /// Read nothing for so many milliseconds.
    Stall(Link, u64),
    /// Run another task.
    Spawn(Pin<Box<dyn Future<Output = ()>>>),
}

/// The part of a run that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Faults happen; clients make load.
    Trouble,
    /// Faults are over; clients finish what they began, and must be able to.
    Healed,
}

/// The connection is gone, was never made, or the client has closed it because an answer took too long. Whatever was asked and
/// not answered may or may not have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

#[derive(Debug, Default)]
struct End {
    open: bool,
    closed: bool,
    assembler: Assembler,
    frames: VecDeque<Bytes>,
    wakers: Vec<Waker>,
}

/// Names a batch by its checksum and its size.
pub type BatchKey = (u32, usize);

/// What all clients of a run share with the world.
pub(crate) struct Shared {
    pub(crate) now: Mono,
    pub(crate) phase: Phase,
    pub(crate) wishes: Vec<Wish>,
    pub(crate) watch: Watch,
    pub(crate) violation: Option<Violation>,
    pub(crate) problem: Option<Failure>,
    pub(crate) doing: BTreeMap<Client, String>,
    pub(crate) notes: Vec<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Milliseconds since the Unix epoch at virtual time zero, for the clients' own clocks.
    pub(crate) wall_zero_ms: i64,
    /// A fault took what nobody promised to keep, at least once.
    pub(crate) lossy: bool,
    /// How many nodes there are that serve clients.
    pub(crate) nodes: usize,
    /// The topics that there are, newest lives only.
    pub(crate) topics: Vec<Rc<Topic>>,
    /// The groups that there are.
    pub(crate) groups: Vec<Arc<str>>,
    producer_ids: BTreeSet<i64>,
    batches: BTreeMap<BatchKey, Rc<[(i64, Record)]>>,
    next_client: u32,
    phase_wakers: Vec<Waker>,
    ends: BTreeMap<Link, End>,
    next_link: u64,
}

impl Shared {
    pub(crate) fn new(watch: Watch, nodes: usize) -> Shared {
        Shared {
            nodes,
            now: Mono(0),
            phase: Phase::Trouble,
            wishes: Vec::new(),
            watch,
            violation: None,
            problem: None,
            doing: BTreeMap::new(),
            notes: Vec::new(),
            counts: BTreeMap::new(),
            wall_zero_ms: 1_750_000_000_000,
            lossy: false,
            topics: Vec::new(),
            groups: Vec::new(),
            producer_ids: BTreeSet::new(),
            batches: BTreeMap::new(),
            next_client: 0,
            phase_wakers: Vec::new(),
            ends: BTreeMap::new(),
            next_link: 1,
        }
    }

    /// Something has arrived at the client's end of a connection.
    pub(crate) fn arrived(&mut self, link: Link, arrival: Arrival) {
        let Some(end) = self.ends.get_mut(&link) else { return };
        match arrival {
            Arrival::Open => end.open = true,
            Arrival::Closed | Arrival::Refused => end.closed = true,
            Arrival::Late(_) | Arrival::Short => {}
            Arrival::Bytes(piece) => match end.assembler.take(&piece) {
                Ok(frames) => end.frames.extend(frames),
                Err(error) => {
                    let what = format!("the broker sent a bad frame: {error}");
                    self.problem = Some(Failure::new(failure::BAD_ANSWER, what));
                }
            },
        }
        end.wakers.drain(..).for_each(Waker::wake);
    }

    /// A number for a connection.
    pub(crate) fn next_link(&mut self) -> Link {
        let link = Link(self.next_link);
        self.next_link += 1;
        link
    }

    /// A number for a client.
    pub(crate) fn next_client(&mut self) -> Client {
        self.next_client += 1;
        Client(self.next_client)
    }

    /// Moves to another phase.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_wakers.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn observe(&mut self, event: Event) {
        if self.violation.is_none() {
            self.violation = self.watch.observe(self.now, event).err();
        }
    }
}

/// A client's hold on the world.
#[derive(Clone)]
pub struct Cx {
    client: Client,
    shared: Rc<RefCell<Shared>>,
    rng: Rc<RefCell<Rng>>,
}

impl Cx {
    pub(crate) fn new(client: Client, shared: Rc<RefCell<Shared>>, rng: Rng) -> Cx {
        Cx { client, shared, rng: Rc::new(RefCell::new(rng)) }
    }

    /// Who this is.
    pub fn client(&self) -> Client {
        self.client
    }

    /// Virtual time.
    pub fn now(&self) -> Mono {
        self.shared.borrow().now
    }

    /// Whether faults still happen and load is wanted.
    pub fn in_trouble(&self) -> bool {
        self.shared.borrow().phase == Phase::Trouble
    }

    /// Draws from this client's randomness.
    pub fn draw<T>(&self, from: impl FnOnce(&mut Rng) -> T) -> T {
        from(&mut self.rng.borrow_mut())
    }

    /// A number in `low..=high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.draw(|rng| low + rng.below(high.saturating_sub(low) + 1))
    }

    /// True once in `whole` times.
    pub fn one_in(&self, whole: u64) -> bool {
        self.draw(|rng| rng.chance(1, whole))
    }

    /// Tells the checkers.
    pub fn note(&self, event: Event) {
        self.shared.borrow_mut().observe(event);
    }

    /// Fails the run: the broker answered what no fault excuses.
    pub fn problem(&self, what: impl AsRef<str>) {
        self.broken(failure::BAD_ANSWER, what);
    }

    /// Fails the run: a promise of this name was broken.
    pub fn broken(&self, promise: &'static str, what: impl AsRef<str>) {
        let what = format!("{}: {}", self.client, what.as_ref());
        self.shared.borrow_mut().problem.get_or_insert_with(|| Failure::new(promise, what));
    }

    /// As [`Cx::broken`], unless a fault has taken what nobody promised to keep.
    pub fn excuse(&self, promise: &'static str, what: impl AsRef<str>) {
        if !self.shared.borrow().lossy {
            self.broken(promise, what);
        }
    }

    /// Another name in the history for this client.
    pub fn another(&self) -> Client {
        self.shared.borrow_mut().next_client()
    }

    /// The client's own wall clock, in milliseconds since the Unix epoch.
    pub fn wall_ms(&self) -> i64 {
        let shared = self.shared.borrow();
        shared.wall_zero_ms + (shared.now.0 / 1_000_000) as i64
    }

    /// The virtual time at which the client's clock shows, or showed, this.
    pub fn at_wall_ms(&self, wall_ms: i64) -> Mono {
        let since_zero = wall_ms - self.shared.borrow().wall_zero_ms;
        Mono(u64::try_from(since_zero).unwrap_or(0) * 1_000_000)
    }

    /// A producer id was handed out; none may be handed out twice.
    pub fn take_producer_id(&self, id: i64) {
        let fresh = self.shared.borrow_mut().producer_ids.insert(id);
        if !fresh {
            self.broken(failure::PRODUCER_ID_TWICE, format!("producer id {id} was handed out twice"));
        }
    }

    /// The records of a batch that somebody has taken apart, with their offsets from its first.
    pub fn known_batch(&self, key: BatchKey) -> Option<Rc<[(i64, Record)]>> {
        self.shared.borrow().batches.get(&key).cloned()
    }

    /// Remembers the records of a batch.
    pub fn know_batch(&self, key: BatchKey, records: Vec<(i64, Record)>) -> Rc<[(i64, Record)]> {
        let records: Rc<[(i64, Record)]> = records.into();
        self.shared.borrow_mut().batches.insert(key, records.clone());
        records
    }

    /// There is a topic now; one of the same name before it is no more.
    pub fn has_topic(&self, topic: Rc<Topic>) {
        let topics = &mut self.shared.borrow_mut().topics;
        topics.retain(|other| other.name != topic.name);
        topics.push(topic);
    }

    /// A topic is no more.
    pub fn has_no_topic(&self, topic: &Topic) {
        self.shared.borrow_mut().topics.retain(|other| other.id != topic.id);
    }

    /// There is a group now.
    pub fn has_group(&self, group: Arc<str>) {
        self.shared.borrow_mut().groups.push(group);
    }

    /// Says what this client is at, for the report when it does not get on.
    pub fn doing(&self, what: impl Into<String>) {
        self.shared.borrow_mut().doing.insert(self.client, what.into());
    }

    /// A line for the trace.
    pub fn say(&self, what: impl FnOnce() -> String) {
        let line = format!("{}: {}", self.client, what());
        self.shared.borrow_mut().notes.push(line);
    }

    /// Counts something for the summary of the run.
    pub fn count(&self, what: &'static str, by: u64) {
        *self.shared.borrow_mut().counts.entry(what).or_default() += by;
    }

    /// Runs another task beside this one.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.shared.borrow_mut().wishes.push(Wish::Spawn(Box::pin(task)));
    }

    /// Waits.
    pub async fn sleep_ms(&self, ms: u64) {
        self.sleep_until(self.now().after_ms(i64::try_from(ms).unwrap_or(i64::MAX))).await;
    }

    /// Waits for a random time.
    pub async fn pause_ms(&self, low: u64, high: u64) {
        self.sleep_ms(self.between(low, high)).await;
    }

    /// Waits for a moment.
    pub async fn sleep_until(&self, until: Mono) {
        let mut asked = false;
        poll_fn(|context| {
            let mut shared = self.shared.borrow_mut();
            if shared.now >= until {
                return Poll::Ready(());
            }
            if !asked {
                asked = true;
                shared.wishes.push(Wish::Wake(until, context.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits until faults are over.
    pub async fn healed(&self) {
        poll_fn(|context| {
            let mut shared = self.shared.borrow_mut();
            if shared.phase == Phase::Healed {
                return Poll::Ready(());
            }
            shared.phase_wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The output of `future`, or nothing if it takes longer than `ms`.
    pub async fn within_ms<T>(&self, ms: u64, future: impl Future<Output = T>) -> Option<T> {
        match first(future, self.sleep_ms(ms)).await {
            Either::First(output) => Some(output),
            Either::Second(()) => None,
        }
    }

    /// How many nodes there are that serve clients.
    pub fn nodes(&self) -> usize {
        self.shared.borrow().nodes
    }

    /// Connects to a node, whichever.
    pub async fn connect(&self) -> Result<Conn, Gone> {
        let nodes = self.nodes() as u64;
        let node = if nodes > 1 { self.between(0, nodes - 1) as usize } else { 0 };
        self.connect_to(node).await
    }

    /// Connects to a node, by its place.
    pub async fn connect_to(&self, node: usize) -> Result<Conn, Gone> {
        let link = {
            let mut shared = self.shared.borrow_mut();
            let link = shared.next_link();
            shared.ends.insert(link, End::default());
            shared.wishes.push(Wish::Connect(link, node));
            link
        };
        let conn = Conn { link, cx: self.clone() };
        conn.wait(|end| end.open.then_some(())).await?;
        Ok(conn)
    }
}

/// A connection to the broker; closed when dropped.
pub struct Conn {
    link: Link,
    cx: Cx,
}

impl Conn {
    /// Sends bytes.
    pub fn send(&self, bytes: Bytes) {
        self.cx.shared.borrow_mut().wishes.push(Wish::Send(self.link, bytes));
    }

    /// The next frame that the broker sends, without its length.
    pub async fn receive(&self) -> Result<Bytes, Gone> {
        self.wait(|end| end.frames.pop_front()).await
    }

    /// What `sort` finds among the frames that have come, now or later.
    pub(crate) async fn sorted<T>(
        &self,
        mut sort: impl FnMut(&mut VecDeque<Bytes>) -> Option<T>,
    ) -> Result<T, Gone> {
        self.wait(|end| sort(&mut end.frames)).await
    }

    /// Whether nothing more will come.
    pub fn is_closed(&self) -> bool {
        self.cx.shared.borrow().ends.get(&self.link).is_none_or(|end| end.closed)
    }

    /// Closes.
    pub fn close(&self) {
        self.end(Wish::Close(self.link));
    }

    /// Vanishes without a word: the broker keeps the connection for a while.
    pub fn vanish(&self) {
        self.end(Wish::Vanish(self.link));
    }

    /// Reads nothing for a while: what the broker sends waits for this end.
    pub fn stall_ms(&self, ms: u64) {
        self.cx.shared.borrow_mut().wishes.push(Wish::Stall(self.link, ms));
    }

    fn end(&self, wish: Wish) {
        let mut shared = self.cx.shared.borrow_mut();
        if let Some(end) = shared.ends.get_mut(&self.link).filter(|end| !end.closed) {
            end.closed = true;
            end.frames.clear();
            end.wakers.drain(..).for_each(Waker::wake);
            shared.wishes.push(wish);
        }
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&mut End) -> Option<T>) -> Result<T, Gone> {
        poll_fn(|context| {
            let mut shared = self.cx.shared.borrow_mut();
            let Some(end) = shared.ends.get_mut(&self.link) else { return Poll::Ready(Err(Gone)) };
            if let Some(output) = ready(end) {
                return Poll::Ready(Ok(output));
            }
            if end.closed {
                return Poll::Ready(Err(Gone));
            }
            end.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.close();
        self.cx.shared.borrow_mut().ends.remove(&self.link);
    }
}
