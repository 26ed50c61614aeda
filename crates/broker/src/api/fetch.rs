//! Fetch: read record batches. What is found is a range of a file and leaves as such; a fetch that finds too little is parked
//! until its partitions have more, or its time is over.
//!
//! The first pass asks every partition without waiting. Only a fetch that has to wait asks again with the wish to be woken, so
//! that a busy consumer leaves nothing behind to be cleaned up.

use std::collections::BTreeMap;

use bytestring::ByteString;
use moldau_base::disk::FileId;
use moldau_base::{BrokerEpoch, LeaderEpoch, Mono, NodeId, Rng, TopicPartition};
use moldau_wire::fetch::{Request, Response, response};
use moldau_wire::{ErrorCode, Records, Response as AnyResponse};

use super::elsewhere;
use crate::Shard;
use crate::connections::Context;
use crate::message::{Ask, Fetch, Fetched, Return};
use crate::sessions::{Entry, SessionRef, Sessions};
use crate::settings::Settings;
use crate::timers::Timer;
use crate::waist::ConnId;

/// The first version whose answers say where else to go (KIP-951).
pub(super) const TELLS_LEADERS: i16 = 16;

/// How long a fetch waits for a leader epoch that is not known here yet, in milliseconds, and between two looks.
pub(crate) const AHEAD_MS: i64 = 100;
pub(crate) const LOOK_AGAIN_MS: i64 = 3;

/// Leaders that are other nodes.
type Leaders = BTreeMap<TopicPartition, (NodeId, LeaderEpoch)>;

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
    /// Where the consumer is.
    rack: Option<ByteString>,
    deadline: Mono,
    /// Until then an epoch that is not known here yet is waited for.
    ahead_until: Mono,
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

impl Item {
    /// The client knows of a later leader epoch than this node did when it was asked.
    fn is_ahead(&self) -> bool {
        self.fetched.as_ref().is_some_and(|fetched| fetched.error == ErrorCode::UNKNOWN_LEADER_EPOCH)
    }
}

/// Starts a fetch.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let replica = if context.version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    if replica >= 0 {
        let follower = (NodeId(replica), BrokerEpoch(request.replica_state.replica_epoch));
        return crate::followed::handle(shard, context, request, follower);
    }
    let now = shard.now.mono;
    let opened = shard.fetches.sessions.open(now, &request, context.version, &shard.cluster.image);
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
        read_committed: request.isolation_level == 1,
        rack: Some(request.rack_id).filter(|rack| !rack.is_empty()),
        deadline: now.after_ms(i64::from(request.max_wait_ms)),
        ahead_until: now.after_ms(i64::from(request.max_wait_ms).min(AHEAD_MS)),
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
        follower: None,
        rack: fetch.rack.clone(),
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

/// A fetch has waited long enough, or for what metadata says.
pub(crate) fn timed_out(shard: &mut Shard, id: u64) {
    match shard.fetches.in_work.get(&id) {
        Some(fetch) if fetch.phase == Phase::First => ask_those_ahead(shard, id),
        Some(_) => expire(shard, id),
        None => {}
    }
}

fn expire(shard: &mut Shard, id: u64) {
    if let Some(fetch) = shard.fetches.in_work.get_mut(&id) {
        fetch.phase = Phase::Expired;
        settle(shard, id);
    }
}

/// Asks again about partitions whose client knows of a later leader epoch than their owner did.
fn ask_those_ahead(shard: &mut Shard, id: u64) {
    let Some(fetch) = shard.fetches.in_work.get_mut(&id) else { return };
    let mut again = Vec::new();
    for (index, item) in fetch.items.iter_mut().enumerate() {
        if item.is_ahead() {
            item.fetched = None;
            again.push(index);
        }
    }
    again.into_iter().for_each(|index| ask(shard, id, index));
    settle(shard, id);
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
    let now = shard.now.mono;
    // Who has just heard of another leader may be here before this leader has heard of it.
    if fetch.phase == Phase::First && now < fetch.ahead_until && fetch.items.iter().any(Item::is_ahead) {
        return shard.timers.set(Timer::Fetch(id), Some(now.after_ms(LOOK_AGAIN_MS)));
    }
    let found: u64 = fetch
        .items
        .iter()
        .filter_map(|item| item.fetched.as_ref())
        .map(|found| u64::from(found.bytes()))
        .sum();
    let urgent =
        fetch.items.iter().filter_map(|item| item.fetched.as_ref()).any(|fetched| {
            fetched.error.is_err() || fetched.diverging.is_some() || fetched.preferred.is_some()
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
    let mut response = Response { session_id, ..Response::default() };
    let leaders = match context.version >= TELLS_LEADERS {
        true => tell_leaders(shard, &context, &results, &mut response),
        false => Leaders::new(),
    };
    response.responses = by_topic(results, &leaders, context.version, read_committed);
    shard.reply(context, AnyResponse::Fetch(response));
}

/// Who leads what is not led here (KIP-951); where they are goes into the response.
fn tell_leaders(
    shard: &Shard,
    context: &Context,
    results: &[(Entry, Fetched)],
    response: &mut Response,
) -> Leaders {
    let mut leaders = Leaders::new();
    for (entry, fetched) in results {
        let moved =
            [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH].contains(&fetched.error);
        let Ok(id) = entry.partition else { continue };
        let Some((leader, epoch)) = moved.then(|| elsewhere::leader(shard, id, context.listener)).flatten()
        else {
            continue;
        };
        let told = response.node_endpoints.iter().any(|known| known.node_id == leader.0);
        leaders.insert(id, (leader, epoch));
        let endpoint = elsewhere::endpoint(shard, leader, context.listener).filter(|_| !told);
        if let Some(elsewhere::Endpoint { host, port, rack }) = endpoint {
            response.node_endpoints.push(response::NodeEndpoint { node_id: leader.0, host, port, rack });
        }
    }
    leaders
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
fn by_topic(
    results: Vec<(Entry, Fetched)>,
    leaders: &Leaders,
    version: i16,
    read_committed: bool,
) -> Vec<response::Topic> {
    let mut topics: Vec<response::Topic> = Vec::new();
    for (entry, fetched) in results {
        let same = |topic: &&mut response::Topic| match version {
            13.. => topic.topic_id == entry.topic_id,
            _ => topic.topic == entry.topic,
        };
        let mut partition = partition_entry(entry.index, fetched, read_committed);
        if let Some((leader, epoch)) = entry.partition.ok().and_then(|id| leaders.get(&id)) {
            partition.current_leader = response::CurrentLeader { leader_id: leader.0, leader_epoch: epoch.0 };
        }
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

/// What is answered for one partition.
pub(crate) fn partition_entry(index: i32, fetched: Fetched, read_committed: bool) -> response::Partition {
    let mut partition = response::Partition {
        partition_index: index,
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
    partition.preferred_read_replica = fetched.preferred.map_or(-1, |node| node.0);
    partition
}
