//! How a broker that is no voter learns metadata: it reads the committed metadata log from the active controller by Fetch, as KRaft's
//! observers do, and a snapshot by FetchSnapshot when the log does not reach back far enough (KIP-595, KIP-630).
//!
//! It keeps nothing on disk. What it has read was committed, so there is nothing to cut; after a start it reads a snapshot and what
//! follows, which is little. A fetch waits at the controller and is answered with the commit. A voter that does not lead says who does;
//! while nobody does, the voters are asked in turn.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use moldau_base::{Mono, NodeId, Uuid};
use moldau_wire::{ErrorCode, Records, Request, Response, fetch, fetch_snapshot};

use crate::Shard;
use crate::control;
use crate::timers::Timer;
use crate::waist::{Address, Lane, NoAnswer, Purpose, Trace};

/// How long a fetch may wait for a commit, in milliseconds.
const WAIT_MS: i32 = 200;
/// How long the answer to one that waits may take, in milliseconds: a controller that stands still is not asked for longer.
const PATIENCE_MS: i64 = 600;
/// How long an answer may take while there is much to read, in milliseconds.
const LONG_PATIENCE_MS: i64 = 5_000;
/// Before the next voter is asked, in milliseconds: a part of what an election takes.
const RETRY_MS: i64 = 10;
/// Most bytes in one answer.
const FETCH_BYTES: i32 = 1 << 20;
/// The largest snapshot that is taken.
const MAX_SNAPSHOT_BYTES: usize = 1 << 30;
/// Most voters that are known at once.
const MAX_VOTERS: usize = 100;
/// The metadata log as a topic, where it has no id.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";

/// What the broker knows of the metadata log.
#[derive(Debug)]
pub(crate) struct Observer {
    /// Where the voters listen: those that are configured, and whoever was named as the leader since.
    voters: BTreeMap<NodeId, Address>,
    /// The voter that was asked last, or is to be asked.
    voter: Option<NodeId>,
    /// Who leads, in which epoch.
    leader: Option<NodeId>,
    epoch: i32,
    /// The next record.
    next_offset: i64,
    /// The epoch of the one before it.
    last_epoch: i32,
    /// When it was asked.
    asked: Mono,
    /// The last answer held something: there may be more.
    reading: bool,
    incoming: Option<Incoming>,
}

/// A snapshot of which not all pieces have come.
#[derive(Debug)]
struct Incoming {
    end_offset: i64,
    epoch: i32,
    bytes: BytesMut,
}

impl Observer {
    /// An observer that has read nothing.
    pub(crate) fn new(voters: BTreeMap<NodeId, Address>) -> Observer {
        Observer {
            voters,
            voter: None,
            leader: None,
            epoch: -1,
            next_offset: 0,
            last_epoch: -1,
            asked: Mono::default(),
            reading: true,
            incoming: None,
        }
    }

    /// Where this voter listens.
    pub(crate) fn address(&self, voter: NodeId) -> Option<&Address> {
        self.voters.get(&voter)
    }

    /// Remembers where the leader listens that a voter names: it may have become a voter long after this node was configured.
    fn learn(&mut self, leader: i32, endpoints: &[fetch::response::NodeEndpoint]) {
        let Some(known) = endpoints.iter().find(|known| known.node_id == leader) else { return };
        let Ok(port) = u16::try_from(known.port) else { return };
        if self.voters.len() < MAX_VOTERS {
            self.voters.insert(NodeId(leader), Address { host: (*known.host).into(), port });
        }
    }
}

/// Begins to ask, if this shard is to.
pub(crate) fn start(shard: &mut Shard) {
    if shard.observer.is_some() {
        shard.timers.set(Timer::Observer, Some(shard.now.mono));
    }
}

/// Asks for what comes next. One question is under way at a time.
pub(crate) fn ask(shard: &mut Shard) {
    let Some(observer) = shard.observer.as_mut() else { return };
    let first = observer.voters.keys().next().copied();
    let Some(voter) = observer.voter.or(first) else { return };
    observer.voter = Some(voter);
    observer.asked = shard.now.mono;
    let Some(address) = observer.voters.get(&voter).cloned() else { return elsewhere(shard) };
    let (node, cluster_id) = (shard.settings.node_id, crate::api::text(&shard.settings.cluster_id));
    let directory = shard.settings.log_dirs.first().map_or(Uuid::ZERO, |dir| dir.id);
    let request = match &observer.incoming {
        Some(incoming) => Request::FetchSnapshot(fetch_snapshot::Request {
            cluster_id: Some(cluster_id),
            replica_id: node.0,
            max_bytes: FETCH_BYTES,
            topics: vec![incoming.wanted(observer.epoch, directory)],
        }),
        None => Request::Fetch(fetch::Request {
            cluster_id: Some(cluster_id),
            replica_state: fetch::request::ReplicaState { replica_id: node.0, replica_epoch: -1 },
            max_wait_ms: WAIT_MS,
            max_bytes: FETCH_BYTES,
            topics: vec![observer.wanted(directory)],
            ..fetch::Request::default()
        }),
    };
    let patience = if observer.reading { LONG_PATIENCE_MS } else { PATIENCE_MS };
    let lane = Lane { node: voter, purpose: Purpose::Metadata };
    crate::peers::call(shard, lane, address, &request, patience, move |shard, result| {
        heard(shard, voter, result);
    });
}

impl Observer {
    fn wanted(&self, directory: Uuid) -> fetch::request::Topic {
        let partition = fetch::request::Partition {
            current_leader_epoch: self.epoch,
            fetch_offset: self.next_offset,
            last_fetched_epoch: self.last_epoch,
            partition_max_bytes: FETCH_BYTES,
            replica_directory_id: directory,
            ..fetch::request::Partition::default()
        };
        fetch::request::Topic {
            topic_id: Uuid::METADATA_TOPIC,
            partitions: vec![partition],
            ..fetch::request::Topic::default()
        }
    }
}

impl Incoming {
    fn wanted(&self, leader_epoch: i32, directory: Uuid) -> fetch_snapshot::request::Topic {
        use fetch_snapshot::request::{Partition, SnapshotId, Topic};
        let partition = Partition {
            current_leader_epoch: leader_epoch,
            snapshot_id: SnapshotId { end_offset: self.end_offset, epoch: self.epoch },
            position: self.bytes.len() as i64,
            replica_directory_id: directory,
            ..Partition::default()
        };
        Topic { name: crate::api::text(METADATA_TOPIC), partitions: vec![partition] }
    }
}

/// Asks the next voter, after a moment.
fn elsewhere(shard: &mut Shard) {
    let Some(observer) = shard.observer.as_mut() else { return };
    let mut behind =
        observer.voters.keys().skip_while(|next| observer.voter.is_some_and(|voter| **next <= voter));
    observer.voter = behind.next().or(observer.voters.keys().next()).copied();
    observer.incoming = None;
    shard.timers.set(Timer::Observer, Some(shard.now.mono.after_ms(RETRY_MS)));
}

fn heard(shard: &mut Shard, voter: NodeId, result: Result<Response, NoAnswer>) {
    match result {
        Ok(Response::Fetch(response)) => fetched(shard, voter, response),
        Ok(Response::FetchSnapshot(response)) => piece(shard, voter, response),
        Ok(_) => elsewhere(shard),
        Err(why) => {
            crate::lifecycle::no_answer(shard, voter, why);
            elsewhere(shard);
        }
    }
}

fn fetched(shard: &mut Shard, voter: NodeId, response: fetch::Response) {
    if response.error_code != ErrorCode::NONE {
        return refused(shard, voter, response.error_code);
    }
    let partition =
        response.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let Some(partition) = partition else { return elsewhere(shard) };
    let hint = (partition.current_leader.leader_id, partition.current_leader.leader_epoch);
    if let Some(observer) = shard.observer.as_mut() {
        observer.learn(hint.0, &response.node_endpoints);
    }
    if partition.error_code != ErrorCode::NONE {
        return not_given(shard, voter, partition.error_code, hint);
    }
    led_by(shard, hint);
    if partition.snapshot_id.end_offset >= 0 {
        let fetch::response::SnapshotId { end_offset, epoch } = partition.snapshot_id;
        return begin_snapshot(shard, end_offset, epoch);
    }
    let Records::Bytes(batches) = partition.records else { return more(shard, 0) };
    match take(shard, batches) {
        Ok(count) => more(shard, count),
        Err(why) => {
            shard.trace(Trace::Warning(format!("node {voter} gives metadata that cannot be read: {why}")));
            elsewhere(shard);
        }
    }
}

/// Applies committed batches; answers with how many they were.
fn take(shard: &mut Shard, batches: Bytes) -> Result<usize, String> {
    let Some(observer) = shard.observer.as_ref() else { return Ok(0) };
    let read = moldau_quorum::read_batches(batches, observer.next_offset)?;
    let count = read.len();
    for batch in read {
        if let Some(observer) = shard.observer.as_mut() {
            observer.next_offset = batch.next_offset;
            observer.last_epoch = batch.epoch;
        }
        control::committed(shard, batch.base_offset, batch.next_offset, batch.values);
    }
    Ok(count)
}

/// Goes on after `count` batches.
fn more(shard: &mut Shard, count: usize) {
    let Some(observer) = shard.observer.as_mut() else { return };
    observer.reading = count > 0;
    // A voter with too many observers lets none wait.
    let soonest = observer.asked.after_ms(RETRY_MS);
    if count == 0 && shard.now.mono < soonest {
        return shard.timers.set(Timer::Observer, Some(soonest));
    }
    ask(shard);
}

// ---- snapshots

/// The log does not reach back far enough: a snapshot comes first.
fn begin_snapshot(shard: &mut Shard, end_offset: i64, epoch: i32) {
    let Some(observer) = shard.observer.as_mut() else { return };
    // What this broker has read never goes back.
    if end_offset <= observer.next_offset {
        return elsewhere(shard);
    }
    observer.incoming = Some(Incoming { end_offset, epoch, bytes: BytesMut::new() });
    more(shard, 1);
}

fn piece(shard: &mut Shard, voter: NodeId, response: fetch_snapshot::Response) {
    if response.error_code != ErrorCode::NONE {
        return refused(shard, voter, response.error_code);
    }
    let partition = response.topics.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let Some(partition) = partition else { return elsewhere(shard) };
    if partition.error_code != ErrorCode::NONE {
        let hint = (partition.current_leader.leader_id, partition.current_leader.leader_epoch);
        return not_given(shard, voter, partition.error_code, hint);
    }
    let Some(incoming) = shard.observer.as_mut().and_then(|observer| observer.incoming.as_mut()) else {
        return elsewhere(shard);
    };
    let bytes = partition.unaligned_records;
    let size = usize::try_from(partition.size).unwrap_or(usize::MAX);
    let have = incoming.bytes.len() + bytes.len();
    let follows = partition.position == incoming.bytes.len() as i64 && !bytes.is_empty();
    if !follows || have > size || size > MAX_SNAPSHOT_BYTES {
        shard.trace(Trace::Warning(format!("node {voter} gives a snapshot in pieces that do not fit")));
        return elsewhere(shard);
    }
    incoming.bytes.extend_from_slice(&bytes);
    if have < size {
        return ask(shard);
    }
    install(shard, voter);
}

/// Puts a whole snapshot in the place of everything before it.
fn install(shard: &mut Shard, voter: NodeId) {
    let incoming = shard.observer.as_mut().and_then(|observer| observer.incoming.take());
    let Some(Incoming { end_offset, epoch, bytes }) = incoming else { return elsewhere(shard) };
    match moldau_quorum::read_snapshot(bytes.freeze(), end_offset, epoch) {
        Ok(values) => {
            if let Some(observer) = shard.observer.as_mut() {
                observer.next_offset = end_offset;
                observer.last_epoch = epoch;
            }
            control::restored(shard, end_offset - 1, values);
            more(shard, 1);
        }
        Err(why) => {
            shard.trace(Trace::Warning(format!("node {voter} gives a snapshot that cannot be read: {why}")));
            elsewhere(shard);
        }
    }
}

// ---- who leads

/// What the voter says of the leader. True if it is news.
fn led_by(shard: &mut Shard, (leader, epoch): (i32, i32)) -> bool {
    let leader = NodeId(leader);
    let Some(observer) = shard.observer.as_mut() else { return false };
    let is_news = epoch > observer.epoch || (epoch == observer.epoch && observer.leader.is_none());
    if !is_news || !observer.voters.contains_key(&leader) {
        return false;
    }
    observer.leader = Some(leader);
    observer.epoch = epoch;
    observer.voter = Some(leader);
    control::leader(shard, Some(leader));
    true
}

/// A voter gives nothing of the log.
fn not_given(shard: &mut Shard, voter: NodeId, error: ErrorCode, hint: (i32, i32)) {
    let is_news = led_by(shard, hint);
    match error {
        ErrorCode::NOT_LEADER_OR_FOLLOWER if is_news => ask(shard),
        ErrorCode::NOT_LEADER_OR_FOLLOWER => elsewhere(shard),
        // A later one has taken its place.
        ErrorCode::SNAPSHOT_NOT_FOUND => {
            if let Some(observer) = shard.observer.as_mut() {
                observer.incoming = None;
            }
            ask(shard);
        }
        ErrorCode::OFFSET_OUT_OF_RANGE => {
            let why = "the metadata of the quorum does not go on where this broker has read it: the quorum was formed anew; \
                       start this node again, and look at what may be lost before";
            shard.trace(Trace::Failed { why: why.to_owned() });
        }
        error => {
            shard.warn_once(format!("node {voter} gives no metadata: {}", error.name()));
            elsewhere(shard);
        }
    }
}

/// A voter does not hear this broker at all.
fn refused(shard: &mut Shard, voter: NodeId, error: ErrorCode) {
    if error == ErrorCode::INCONSISTENT_CLUSTER_ID {
        let why = format!(
            "node {voter} is a voter of another cluster than {}: correct controller.quorum.voters, or give this node the log.dirs \
             and cluster.id of that cluster",
            shard.settings.cluster_id
        );
        return shard.trace(Trace::Failed { why });
    }
    shard.warn_once(format!("node {voter} gives no metadata: {}", error.name()));
    elsewhere(shard);
}
