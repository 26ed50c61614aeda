//! Fetch: read record batches. What is found is a range of a file and leaves as such; a fetch that finds too little is parked
//! until its partitions have more, or its time is over.
//!
//! The first pass asks every partition without waiting. Only a fetch that has to wait asks again with the wish to be woken, so
//! that a busy consumer leaves nothing behind to be cleaned up.

use std::collections::BTreeMap;

use moldau_base::disk::FileId;
use moldau_base::{BrokerEpoch, LeaderEpoch, Mono, NodeId, Rng};
use moldau_wire::fetch::{Request, Response, response};
use moldau_wire::{ErrorCode, Records, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Ask, Fetch, Fetched, Follower, Return};
use crate::sessions::{Entry, SessionRef, Sessions};
use crate::settings::Settings;
use crate::timers::Timer;
use crate::waist::ConnId;

/// The fetch sessions of a shard, and its fetches in work.
#[derive(Debug)]
pub(crate) struct Fetches {
    sessions: Sessions,
    in_work: BTreeMap<u64, InWork>,
    by_conn: BTreeMap<ConnId, u64>,
}

impl Fetches {
    pub(crate) fn new(settings: &Settings, rng: Rng) -> Fetches {
        let slots = settings.fetch_sessions / u32::from(settings.shards.max(1));
        Fetches {
            sessions: Sessions::new(slots.max(1) as usize, rng),
            in_work: BTreeMap::new(),
            by_conn: BTreeMap::new(),
        }
    }

    /// The files that answers name which are not given on yet.
    pub(crate) fn files(&self) -> impl Iterator<Item = FileId> {
        let items = self.in_work.values().flat_map(|fetch| &fetch.items);
        items.filter_map(|item| Some(FileId(item.fetched.as_ref()?.records.as_ref()?.file)))
    }
}

/// A fetch that is not answered yet.
#[derive(Debug)]
struct InWork {
    context: Context,
    session: SessionRef,
    items: Vec<Item>,
    /// Questions without an answer.
    missing: usize,
    min_bytes: u64,
    max_bytes: u64,
    read_committed: bool,
    /// The follower that fetches, with its broker's incarnation.
    follower: Option<(NodeId, BrokerEpoch)>,
    deadline: Mono,
    phase: Phase,
    /// It has asked to be woken.
    waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Looking at what is there.
    First,
    /// Waiting for more.
    Parked,
    /// Its time is over; answers that are still missing are waited for.
    Expired,
}

/// One partition of a fetch.
#[derive(Debug)]
struct Item {
    entry: Entry,
    fetched: Option<Fetched>,
}

/// Starts a fetch.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let replica = if context.version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    let follower =
        (replica >= 0).then_some((NodeId(replica), BrokerEpoch(request.replica_state.replica_epoch)));
    if let Some((node, _)) = follower {
        shard.connections.is_of(context.conn, node);
    }
    let now = shard.now.mono;
    let opened =
        shard.fetches.sessions.open(now, &request, context.version, &shard.cluster.image, follower.is_some());
    let (session, entries) = match opened {
        Ok(opened) => opened,
        Err(error_code) => {
            let response = Response { error_code, ..Response::default() };
            return shard.reply(context, AnyResponse::Fetch(response));
        }
    };
    let items = entries.into_iter().map(|entry| {
        let refused = entry.partition.as_ref().err().copied();
        Item { entry, fetched: refused.map(Fetched::error) }
    });
    let limit = request.max_bytes.min(shard.settings.fetch_max_bytes).max(0);
    let fetch = InWork {
        session,
        items: items.collect(),
        missing: 0,
        min_bytes: u64::from(request.min_bytes.clamp(0, limit).unsigned_abs()),
        max_bytes: u64::from(limit.unsigned_abs()),
        read_committed: request.isolation_level == 1 && follower.is_none(),
        follower,
        deadline: now.after_ms(i64::from(request.max_wait_ms)),
        phase: if request.max_wait_ms > 0 { Phase::First } else { Phase::Expired },
        waits: false,
        context,
    };
    let id = shard.gathers.next_id();
    shard.fetches.by_conn.insert(fetch.context.conn, id);
    shard.fetches.in_work.insert(id, fetch);
    ask_all(shard, id);
    settle(shard, id);
}

/// Asks every partition that is not refused, in order.
fn ask_all(shard: &mut Shard, id: u64) {
    let count = shard.fetches.in_work.get(&id).map_or(0, |fetch| fetch.items.len());
    (0..count).for_each(|index| ask(shard, id, index));
}

fn ask(shard: &mut Shard, id: u64, index: usize) {
    let Some(fetch) = shard.fetches.in_work.get_mut(&id) else { return };
    let Some(item) = fetch.items.get(index) else { return };
    let Ok(partition) = item.entry.partition else { return };
    if item.fetched.as_ref().is_some_and(|fetched| fetched.error.is_err()) {
        return;
    }
    let entry = &item.entry;
    let known = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
    let question = Fetch {
        partition,
        offset: entry.offset,
        max_bytes: entry.max_bytes.min(u32::try_from(fetch.max_bytes).unwrap_or(u32::MAX)),
        read_committed: fetch.read_committed,
        current_epoch: known(entry.current_epoch),
        last_fetched_epoch: known(entry.last_fetched_epoch),
        wait: fetch.phase == Phase::Parked,
        follower: fetch.follower.map(|(node, broker_epoch)| Follower {
            node,
            broker_epoch,
            told: entry.told,
        }),
    };
    fetch.missing += 1;
    let owner = shard.owner_of(partition);
    let back = Return { shard: shard.id, gather: id, index: index as u32 };
    shard.ask(owner, back, Ask::Fetch(question));
}

/// A partition has answered.
pub(crate) fn answered(shard: &mut Shard, to: Return, fetched: Fetched) {
    let Some(fetch) = shard.fetches.in_work.get_mut(&to.gather) else { return };
    let Some(item) = fetch.items.get_mut(to.index as usize) else { return };
    item.fetched = Some(fetched);
    fetch.missing -= 1;
    settle(shard, to.gather);
}

/// A partition has more than when it was asked.
pub(crate) fn woken(shard: &mut Shard, to: Return) {
    if shard.fetches.in_work.get(&to.gather).is_some_and(|fetch| fetch.phase == Phase::Parked) {
        ask(shard, to.gather, to.index as usize);
    }
}

/// A fetch has waited long enough.
pub(crate) fn timed_out(shard: &mut Shard, id: u64) {
    if let Some(fetch) = shard.fetches.in_work.get_mut(&id) {
        fetch.phase = Phase::Expired;
        settle(shard, id);
    }
}

/// A follower asks for more while its fetch waits: it is answered with what there is.
pub(crate) fn hurry(shard: &mut Shard, conn: ConnId) {
    if let Some(id) = shard.fetches.by_conn.get(&conn).copied() {
        timed_out(shard, id);
    }
}

/// The client of a fetch has gone.
pub(crate) fn connection_closed(shard: &mut Shard, conn: ConnId) {
    if let Some(id) = shard.fetches.by_conn.remove(&conn)
        && let Some(fetch) = shard.fetches.in_work.remove(&id)
    {
        end_waits(shard, id, &fetch);
    }
}

/// Answers a fetch that has enough, or whose time is over; parks one that has looked everywhere and has not enough.
fn settle(shard: &mut Shard, id: u64) {
    let Some(fetch) = shard.fetches.in_work.get_mut(&id) else { return };
    if fetch.missing > 0 {
        return;
    }
    let found: u64 = fetch
        .items
        .iter()
        .filter_map(|item| item.fetched.as_ref())
        .map(|found| u64::from(found.bytes()))
        .sum();
    let urgent = fetch.items.iter().any(|item| {
        let tells = |fetched: &Fetched| {
            let is_higher = fetch.follower.is_some() && fetched.high_watermark > item.entry.told;
            fetched.error.is_err() || fetched.diverging.is_some() || is_higher
        };
        item.fetched.as_ref().is_some_and(tells)
    });
    if found >= fetch.min_bytes || urgent || fetch.phase == Phase::Expired {
        return complete(shard, id);
    }
    if fetch.phase == Phase::First {
        fetch.phase = Phase::Parked;
        fetch.waits = true;
        let deadline = fetch.deadline;
        shard.metrics.fetches_parked += 1;
        shard.timers.set(Timer::Fetch(id), Some(deadline));
        ask_all(shard, id);
    }
}

fn complete(shard: &mut Shard, id: u64) {
    let Some(mut fetch) = shard.fetches.in_work.remove(&id) else { return };
    shard.fetches.by_conn.remove(&fetch.context.conn);
    end_waits(shard, id, &fetch);
    cut_to_size(&mut fetch);
    let bytes: u64 = fetch
        .items
        .iter()
        .filter_map(|item| item.fetched.as_ref())
        .map(|found| u64::from(found.bytes()))
        .sum();
    shard.metrics.bytes_out += bytes;
    let InWork { context, session, items, read_committed, .. } = fetch;
    let results: Vec<(Entry, Fetched)> = items
        .into_iter()
        .map(|Item { entry, fetched }| {
            (entry, fetched.unwrap_or_else(|| Fetched::error(ErrorCode::REQUEST_TIMED_OUT)))
        })
        .collect();
    let (session_id, results) = shard.fetches.sessions.close(shard.now.mono, session, results);
    let responses = by_topic(results, context.version, read_committed);
    let response = Response { session_id, responses, ..Response::default() };
    shard.reply(context, AnyResponse::Fetch(response));
}

fn end_waits(shard: &mut Shard, id: u64, fetch: &InWork) {
    shard.timers.set(Timer::Fetch(id), None);
    if !fetch.waits {
        return;
    }
    for (index, item) in fetch.items.iter().enumerate() {
        if let Ok(partition) = item.entry.partition {
            let back = Return { shard: shard.id, gather: id, index: index as u32 };
            let owner = shard.owner_of(partition);
            shard.unwait(owner, back, partition);
        }
    }
}

/// Keeps the response within its limit: the first records are always sent, later ones only if they fit.
fn cut_to_size(fetch: &mut InWork) {
    let mut used = 0u64;
    for item in &mut fetch.items {
        if let Some(fetched) = &mut item.fetched {
            let bytes = u64::from(fetched.bytes());
            if used > 0 && used + bytes > fetch.max_bytes {
                fetched.records = None;
            } else {
                used += bytes;
            }
        }
    }
}

/// The results in the order of the session, neighbours of one topic together.
fn by_topic(results: Vec<(Entry, Fetched)>, version: i16, read_committed: bool) -> Vec<response::Topic> {
    let mut topics: Vec<response::Topic> = Vec::new();
    for (entry, fetched) in results {
        let same = |topic: &&mut response::Topic| match version {
            13.. => topic.topic_id == entry.topic_id,
            _ => topic.topic == entry.topic,
        };
        let partition = partition_entry(&entry, fetched, read_committed);
        match topics.last_mut().filter(same) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(response::Topic {
                topic: entry.topic,
                topic_id: entry.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn partition_entry(entry: &Entry, fetched: Fetched, read_committed: bool) -> response::Partition {
    let mut partition = response::Partition {
        partition_index: entry.index,
        error_code: fetched.error,
        high_watermark: fetched.high_watermark,
        last_stable_offset: fetched.last_stable,
        log_start_offset: fetched.log_start,
        aborted_transactions: read_committed.then(Vec::new),
        records: fetched.records.map_or(Records::EMPTY, Records::File),
        ..response::Partition::default()
    };
    if let Some((epoch, end_offset)) = fetched.diverging {
        partition.diverging_epoch = response::EpochEndOffset { epoch, end_offset };
    }
    partition
}
