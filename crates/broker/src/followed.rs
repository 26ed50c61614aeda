//! Fetches of followers, on the leader's side. What one costs follows from what has changed, not from how many partitions the follower
//! has: its session sleeps in every partition that has nothing for it, and only those that woke up, or that the request names, are
//! looked at (KIP-227, and a step further: Kafka's incremental fetch still walks the whole session).
//!
//! A session lives as long as the connection it was opened on. A partition stays awake until the follower itself asks again and there is
//! nothing more to say: what was sent and not stored is sent the same once more, and only a request is taken for a sign of life.

use std::collections::{BTreeMap, BTreeSet};

use moldau_base::disk::FileId;
use moldau_base::planted::{Bug, planted};
use moldau_base::{BrokerEpoch, LeaderEpoch, Mono, NodeId, PartitionIndex, Rng, TopicPartition, Uuid};
use moldau_partition::takes_over;
use moldau_wire::fetch::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::api::fetch::{AHEAD_MS, LOOK_AGAIN_MS, partition_entry};
use crate::connections::Context;
use crate::message::{Ask, Fetch, Fetched, Follower, Return};
use crate::timers::Timer;
use crate::waist::ConnId;

/// The version from which on topics have ids; followers speak no other.
const BY_ID: i16 = 13;
/// Epochs of a fetch request with a meaning of their own: the first of a session, and none at all.
const FIRST: i32 = 0;
const NONE: i32 = -1;

/// The sessions of followers.
#[derive(Debug)]
pub(crate) struct Followers {
    rng: Rng,
    sessions: BTreeMap<ConnId, Session>,
    /// By the name that partitions know a session by.
    watches: BTreeMap<u64, ConnId>,
}

impl Followers {
    pub(crate) fn new(rng: Rng) -> Followers {
        Followers { rng, sessions: BTreeMap::new(), watches: BTreeMap::new() }
    }

    fn watching(&mut self, watch: u64) -> Option<(ConnId, &mut Session)> {
        let conn = *self.watches.get(&watch)?;
        Some((conn, self.sessions.get_mut(&conn)?))
    }

    /// The files that answers name which are not given on yet.
    pub(crate) fn files(&self) -> impl Iterator<Item = FileId> {
        let awake = self.sessions.values().flat_map(|session| {
            session.awake.iter().filter_map(|number| session.entries.get(number)?.fetched.as_ref())
        });
        awake.filter_map(|fetched| Some(FileId(fetched.records.as_ref()?.file)))
    }
}

/// What a follower fetches over one connection.
#[derive(Debug)]
struct Session {
    /// 0 for a fetch without a session, which ends with its answer.
    id: i32,
    /// Of the next fetch.
    epoch: i32,
    watch: u64,
    follower: (NodeId, BrokerEpoch),
    /// The incarnation of the follower that metadata lets be in sync, when it was looked at last.
    registered: Option<BrokerEpoch>,
    entries: BTreeMap<u32, Entry>,
    numbers: BTreeMap<TopicPartition, u32>,
    next_number: u32,
    /// Those that may have something to say; all others sleep in their partitions.
    awake: BTreeSet<u32>,
    /// Of these, those that have.
    ready: BTreeSet<u32>,
    /// Of these, those that wait for this node to hear of a leader epoch that the follower knows.
    ahead: BTreeSet<u32>,
    /// Where the last answer was full; the next one begins there.
    turn: u32,
    fetch: Option<Pending>,
}

/// A partition of a session.
#[derive(Debug)]
struct Entry {
    partition: TopicPartition,
    offset: i64,
    max_bytes: u32,
    current_epoch: i32,
    last_fetched_epoch: i32,
    /// High watermark and log start that the follower knows.
    told: (i64, i64),
    asking: Asking,
    fetched: Option<Fetched>,
}

/// Whether a partition has been asked and has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    No,
    /// Because the follower asks, which says that it has everything below its offset.
    Heard,
    /// Because the partition has more than before.
    Woken,
    /// It had more again before it has answered.
    Again,
}

impl Entry {
    /// Whether there is something that the follower does not know.
    fn has_news(&self) -> bool {
        self.fetched.as_ref().is_some_and(|fetched| {
            let reached = takes_over(fetched.high_watermark, self.offset);
            let knows = reached <= self.told.0 && fetched.log_start <= self.told.1;
            fetched.error.is_err() || fetched.bytes() > 0 || fetched.diverging.is_some() || !knows
        })
    }
}

/// A fetch that is not answered.
#[derive(Debug)]
struct Pending {
    context: Context,
    /// Questions without an answer.
    missing: usize,
    max_bytes: u64,
    deadline: Mono,
    /// Until then an epoch that is not known here yet is waited for.
    ahead_until: Mono,
    /// It is answered with whatever there is.
    expired: bool,
    /// It was counted as one that waits.
    parked: bool,
    /// Partitions that this node knows nothing of.
    unknown: Vec<TopicPartition>,
}

/// Starts a fetch of a follower.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request, follower: (NodeId, BrokerEpoch)) {
    let conn = context.conn;
    shard.connections.is_of(conn, follower.0);
    if let Err(error_code) = open(shard, &context, &request, follower) {
        let response = Response { error_code, ..Response::default() };
        return shard.reply(context, AnyResponse::Fetch(response));
    }
    let now = shard.now.mono;
    let image = &shard.cluster.image;
    let Some(session) = shard.followers.sessions.get_mut(&conn) else { return };
    let mut unknown = Vec::new();
    let mut gone = Vec::new();
    for topic in &request.forgotten_topics_data {
        gone.extend(
            topic.partitions.iter().filter_map(|index| session.forget(id_of(topic.topic_id, *index))),
        );
    }
    for topic in &request.topics {
        for partition in &topic.partitions {
            let id = id_of(topic.topic_id, partition.partition);
            match image.partition(id) {
                Some(_) => session.put(id, partition),
                None => {
                    gone.extend(session.forget(id));
                    unknown.push(id);
                }
            }
        }
    }
    let limit = request.max_bytes.min(shard.settings.fetch_max_bytes).max(0);
    let wait_ms = i64::from(request.max_wait_ms);
    session.fetch = Some(Pending {
        missing: 0,
        max_bytes: u64::from(limit.unsigned_abs()),
        deadline: now.after_ms(wait_ms),
        ahead_until: now.after_ms(wait_ms.min(AHEAD_MS)),
        expired: wait_ms <= 0,
        parked: false,
        unknown,
        context,
    });
    let (watch, awake): (_, Vec<u32>) = (session.watch, session.awake.iter().copied().collect());
    gone.into_iter().for_each(|(number, partition)| unwait(shard, watch, number, partition));
    awake.into_iter().for_each(|number| ask(shard, conn, number, Asking::Heard));
    settle(shard, conn);
}

fn id_of(topic: Uuid, index: i32) -> TopicPartition {
    TopicPartition { topic, partition: PartitionIndex(index) }
}

fn unwait(shard: &mut Shard, watch: u64, number: u32, partition: TopicPartition) {
    let back = Return { shard: shard.id, gather: watch, index: number };
    let owner = shard.owner_of(partition);
    shard.unwait(owner, back, partition);
}

/// Finds the session of a fetch, or begins one.
fn open(
    shard: &mut Shard,
    context: &Context,
    request: &Request,
    follower: (NodeId, BrokerEpoch),
) -> Result<(), ErrorCode> {
    if context.version < BY_ID {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let registered = registered(shard, follower.0);
    if request.session_epoch == FIRST || request.session_epoch == NONE {
        close(shard, context.conn);
        let watch = shard.gathers.next_id();
        let id = (shard.followers.rng.below(i32::MAX as u64 - 1) + 1) as i32;
        let session = Session {
            id: if request.session_epoch == FIRST { id } else { 0 },
            epoch: 1,
            watch,
            follower,
            registered,
            entries: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_number: 0,
            awake: BTreeSet::new(),
            ready: BTreeSet::new(),
            ahead: BTreeSet::new(),
            turn: 0,
            fetch: None,
        };
        shard.followers.sessions.insert(context.conn, session);
        shard.followers.watches.insert(watch, context.conn);
        return Ok(());
    }
    let session = shard.followers.sessions.get_mut(&context.conn);
    let session = session.filter(|session| session.id == request.session_id && session.id != 0);
    let session = session.ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
    if session.epoch != request.session_epoch {
        return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    }
    session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
    if session.registered != registered || session.follower != follower {
        // Whether it may be in sync is asked of every partition anew.
        session.awake.extend(session.entries.keys());
    }
    session.registered = registered;
    session.follower = follower;
    Ok(())
}

/// The incarnation of a broker that may be in sync.
fn registered(shard: &Shard, node: NodeId) -> Option<BrokerEpoch> {
    let broker = shard.cluster.image.broker(node).filter(|broker| broker.is_active());
    broker.map(|broker| broker.epoch)
}

/// The session of this connection is over.
pub(crate) fn close(shard: &mut Shard, conn: ConnId) {
    let Some(session) = shard.followers.sessions.remove(&conn) else { return };
    shard.followers.watches.remove(&session.watch);
    shard.timers.set(Timer::Followed(conn), None);
    for (number, entry) in session.entries {
        unwait(shard, session.watch, number, entry.partition);
    }
}

impl Session {
    fn put(&mut self, id: TopicPartition, asked: &request::Partition) {
        let number = *self.numbers.entry(id).or_insert_with(|| {
            self.next_number += 1;
            self.next_number
        });
        let entry = Entry {
            partition: id,
            offset: asked.fetch_offset,
            max_bytes: u32::try_from(asked.partition_max_bytes).unwrap_or(0),
            current_epoch: asked.current_leader_epoch,
            last_fetched_epoch: asked.last_fetched_epoch,
            told: (asked.high_watermark, asked.log_start_offset),
            asking: Asking::No,
            fetched: None,
        };
        self.entries.insert(number, entry);
        self.awake.insert(number);
    }

    /// A partition that is not fetched any more; its number, to end its sleep by.
    fn forget(&mut self, id: TopicPartition) -> Option<(u32, TopicPartition)> {
        let number = self.numbers.remove(&id)?;
        self.entries.remove(&number);
        self.awake.remove(&number);
        Some((number, id))
    }

    /// What a partition has answered. True when it is to be asked again.
    fn take(&mut self, number: u32, fetched: Fetched) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else { return false };
        let asking = std::mem::replace(&mut entry.asking, Asking::No);
        let throttled = fetched.throttled;
        let is_ahead = fetched.error == ErrorCode::UNKNOWN_LEADER_EPOCH;
        entry.fetched = Some(fetched);
        if is_ahead {
            self.ahead.insert(number);
        } else if entry.has_news() {
            self.ready.insert(number);
        } else {
            entry.fetched = None;
            // One that is held back is looked at with every fetch: nothing wakes it when it may have more.
            if asking == Asking::Heard && !throttled {
                self.awake.remove(&number);
            }
            return asking == Asking::Again;
        }
        false
    }
}

/// Asks a partition for what it has, or to wake the session when it has something.
fn ask(shard: &mut Shard, conn: ConnId, number: u32, asking: Asking) {
    let me = shard.id;
    let Some(session) = shard.followers.sessions.get_mut(&conn) else { return };
    let (Some(fetch), Some(entry)) = (&mut session.fetch, session.entries.get_mut(&number)) else { return };
    let known = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
    let (node, broker_epoch) = session.follower;
    let heard = asking == Asking::Heard;
    let question = Fetch {
        partition: entry.partition,
        offset: entry.offset,
        max_bytes: entry.max_bytes.min(u32::try_from(fetch.max_bytes).unwrap_or(u32::MAX)),
        read_committed: false,
        current_epoch: known(entry.current_epoch),
        last_fetched_epoch: known(entry.last_fetched_epoch),
        wait: true,
        follower: Some(Follower { node, broker_epoch, told: entry.told.0, heard }),
        rack: None,
    };
    entry.fetched = None;
    entry.asking = asking;
    session.ready.remove(&number);
    session.ahead.remove(&number);
    fetch.missing += 1;
    let back = Return { shard: me, gather: session.watch, index: number };
    let owner = shard.owner_of(question.partition);
    shard.ask(owner, back, Ask::Fetch(question));
}

/// A partition has answered; the answer comes back when it is not for a follower.
pub(crate) fn answered(shard: &mut Shard, to: Return, fetched: Fetched) -> Option<Fetched> {
    let Some((conn, session)) = shard.followers.watching(to.gather) else { return Some(fetched) };
    let again = session.take(to.index, fetched);
    if let Some(fetch) = &mut session.fetch {
        fetch.missing -= 1;
    }
    if again {
        ask(shard, conn, to.index, Asking::Woken);
    }
    settle(shard, conn);
    None
}

/// A partition has something for a session that sleeps there. False when it is not for a follower.
pub(crate) fn woken(shard: &mut Shard, to: Return) -> bool {
    let Some((conn, session)) = shard.followers.watching(to.gather) else { return false };
    let Some(entry) = session.entries.get_mut(&to.index).filter(|_| !planted(Bug::FollowersSleepOn)) else {
        return true;
    };
    session.awake.insert(to.index);
    match entry.asking {
        Asking::No if session.fetch.is_some() && entry.fetched.is_none() => {
            ask(shard, conn, to.index, Asking::Woken);
        }
        // What it has is asked for with the next fetch.
        Asking::No => {}
        _ => entry.asking = Asking::Again,
    }
    true
}

/// A fetch has waited long enough, or for what metadata says.
pub(crate) fn timed_out(shard: &mut Shard, conn: ConnId) {
    let now = shard.now.mono;
    let Some(session) = shard.followers.sessions.get_mut(&conn) else { return };
    if session.fetch.as_ref().is_some_and(|fetch| fetch.deadline <= now) {
        return hurry(shard, conn);
    }
    let ahead: Vec<u32> = session.ahead.iter().copied().collect();
    ahead.into_iter().for_each(|number| ask(shard, conn, number, Asking::Heard));
    settle(shard, conn);
}

/// A follower asks for more while its fetch waits: it is answered with what there is.
pub(crate) fn hurry(shard: &mut Shard, conn: ConnId) {
    let fetch = shard.followers.sessions.get_mut(&conn).and_then(|session| session.fetch.as_mut());
    if let Some(fetch) = fetch {
        fetch.expired = true;
        settle(shard, conn);
    }
}

/// Answers a fetch that has found something, or whose time is over.
fn settle(shard: &mut Shard, conn: ConnId) {
    let now = shard.now.mono;
    let Some(session) = shard.followers.sessions.get_mut(&conn) else { return };
    let Some(fetch) = session.fetch.as_mut().filter(|fetch| fetch.missing == 0) else { return };
    // Who has just heard of another leader may be here before this leader has heard of it.
    let waits_for_epoch = !session.ahead.is_empty() && now < fetch.ahead_until;
    let refuses = !session.ahead.is_empty() && !waits_for_epoch;
    if session.ready.is_empty() && fetch.unknown.is_empty() && !refuses && !fetch.expired {
        let look = waits_for_epoch.then(|| now.after_ms(LOOK_AGAIN_MS));
        let until = look.map_or(fetch.deadline, |look| look.min(fetch.deadline));
        shard.metrics.fetches_parked += u64::from(!std::mem::replace(&mut fetch.parked, true));
        return shard.timers.set(Timer::Followed(conn), Some(until));
    }
    let Some(fetch) = session.fetch.take() else { return };
    let mut response = Response { session_id: session.id, ..Response::default() };
    if !refuses {
        // It asks for them again by asking for anything.
        session.ahead.clear();
    }
    let (bytes, throttled) = session.fill(fetch.max_bytes, &mut response.responses);
    for id in fetch.unknown {
        push(&mut response.responses, id, Fetched::error(ErrorCode::UNKNOWN_TOPIC_ID));
    }
    let is_over = session.id == 0;
    shard.metrics.bytes_out += bytes;
    shard.settings.throttles.sent.take(throttled, now);
    shard.timers.set(Timer::Followed(conn), None);
    if is_over {
        close(shard, conn);
    }
    shard.reply(fetch.context, AnyResponse::Fetch(response));
}

impl Session {
    /// Takes what partitions have into an answer of at most so many bytes, whole batches of one partition at least; how many they are,
    /// and how many of them are throttled.
    fn fill(&mut self, max_bytes: u64, topics: &mut Vec<response::Topic>) -> (u64, u64) {
        let found = std::mem::take(&mut self.ready);
        let ahead = std::mem::take(&mut self.ahead);
        let turn = self.turn;
        let (mut used, mut throttled, mut is_full) = (0, 0, false);
        for number in found.range(turn..).chain(found.range(..turn)).chain(&ahead).copied() {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            let Some(fetched) = entry.fetched.take() else { continue };
            let bytes = u64::from(fetched.bytes());
            if used > 0 && used + bytes > max_bytes {
                if !std::mem::replace(&mut is_full, true) {
                    self.turn = number;
                }
                continue;
            }
            used += bytes;
            throttled += if fetched.throttled { bytes } else { 0 };
            if fetched.error.is_ok() {
                entry.told = (fetched.high_watermark, fetched.log_start);
            }
            push(topics, entry.partition, fetched);
        }
        (used, throttled)
    }
}

fn push(topics: &mut Vec<response::Topic>, id: TopicPartition, fetched: Fetched) {
    let partition = partition_entry(id.partition.0, fetched, false);
    match topics.last_mut().filter(|topic| topic.topic_id == id.topic) {
        Some(topic) => topic.partitions.push(partition),
        None => topics.push(response::Topic {
            topic_id: id.topic,
            partitions: vec![partition],
            ..response::Topic::default()
        }),
    }
}
