//! Moves of replicas between log directories of this node (KIP-113), while clients go on.
//!
//! The log is copied batch by batch into a directory of the copy's own. When little is missing, what is produced waits, the rest is copied,
//! and the copy is made durable with its marks; then it is called whole, the log steps aside, and the copy takes its name ([`Log::call_whole`],
//! [`Log::step_aside`], [`Log::take_name`]) and its place. Nothing is appended to either from the last batch that is copied until then: what a
//! crash leaves is one of two equal logs. A move that cannot go on leaves the log where it is.

mod steps;

use std::collections::BTreeMap;

use bytes::Bytes;
use moldau_base::disk::{DirId, Fault};
use moldau_base::{Mono, TopicPartition, Uuid};
use moldau_storage::{Log, Read, State};
use moldau_wire::ErrorCode;

use super::{Slot, Token};
use crate::Shard;
use crate::timers::Timer;
use crate::waist::Trace;
use steps::{go_on, next_in_line, nobody, take};

/// How long what is produced may wait for the end of a move, in milliseconds. Then the disk is too slow for it.
const HOLD_MS: i64 = 10_000;

/// The moves of a shard.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// By the number of the copy, which is the owner of its operations.
    all: BTreeMap<u32, Move>,
    /// Where the log of a partition shall be that is not here yet.
    preferred: BTreeMap<TopicPartition, DirId>,
}

impl Moves {
    /// What waits to be appended for these is not wanted any more.
    pub(super) fn forget_appends(&mut self, of: impl Fn(&Token) -> bool) {
        for under_way in self.all.values_mut() {
            under_way.waiting.retain(|(token, _)| !of(token));
        }
    }
}

/// One move. Once it has ended it is what is left behind: the log as it was, or a copy that is not wanted.
#[derive(Debug)]
struct Move {
    /// The slot of the partition.
    slot: u32,
    id: TopicPartition,
    copy: Log,
    step: Step,
    /// A rename has ended.
    renamed: Option<Result<(), Fault>>,
    /// Since when what is produced waits.
    held: Option<Mono>,
    /// What the broker itself wants to append meanwhile.
    waiting: Vec<(Token, Bytes)>,
    /// Where it goes next, when it is too late to change this move.
    next: Option<DirId>,
}

/// What a move waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Its turn.
    Queued,
    /// The next piece of the log.
    Reading,
    /// That piece, which began at this offset, to be stored; whether it was the last one.
    Storing { from: i64, last: bool },
    /// This moment.
    Resting(Mono),
    /// All but little to be flushed, before anybody has to wait for the rest.
    Flushing,
    /// What was appended to the log to be stored, and copied. From here on nothing is appended.
    Draining,
    /// The copy to be flushed with its producers.
    Sealing,
    /// Its marks to be written down.
    Marking,
    /// It to be called whole.
    Calling,
    /// The log to step aside. From here on there is no way back.
    Clearing,
    /// The copy to have its name.
    Naming,
    /// This moment: who was given ranges of the log's files may not have sent them yet.
    Lingering(Mono),
    /// Files to be removed.
    Leaving,
}

impl Step {
    fn copies(self) -> bool {
        matches!(
            self,
            Step::Reading | Step::Storing { .. } | Step::Resting(_) | Step::Flushing | Step::Draining
        )
    }

    fn is_decided(self) -> bool {
        matches!(self, Step::Clearing | Step::Naming)
    }

    /// It is no move any more.
    fn has_ended(self) -> bool {
        matches!(self, Step::Lingering(_) | Step::Leaving)
    }
}

// ---- what is asked from outside

/// Moves a replica to another log directory of this node, or, to the one where it is, ends its move.
pub(crate) fn relocate(shard: &mut Shard, id: TopicPartition, to: DirId) -> ErrorCode {
    let image = &shard.cluster.image;
    let Some(topic) = image.topic(id.topic) else { return ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
    let name = moldau_storage::names::partition_dir(&topic.name, id.partition.0);
    if moldau_storage::names::copy_dir(&name, Uuid::ZERO).is_none() {
        return ErrorCode::INVALID_TOPIC_EXCEPTION;
    }
    if shard.partitions.is_offline(to) {
        return ErrorCode::KAFKA_STORAGE_ERROR;
    }
    let Some(slot) = shard.partitions.by_id(id) else {
        shard.partitions.moves.preferred.insert(id, to);
        return ErrorCode::REPLICA_NOT_AVAILABLE;
    };
    if matches!(slot.log.state(), State::Offline(_)) {
        return ErrorCode::KAFKA_STORAGE_ERROR;
    }
    let (number, from) = (slot.slot, slot.log.dir());
    if let Some(at) = slot.moves {
        let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return ErrorCode::NONE };
        if under_way.copy.dir() == to {
            under_way.next = None;
            return ErrorCode::NONE;
        }
        if under_way.step.is_decided() {
            under_way.next = Some(to);
            return ErrorCode::NONE;
        }
        leave(shard, at);
    }
    if from != to {
        begin(shard, number, to);
    }
    ErrorCode::NONE
}

/// Begins to move the log in this slot.
pub(super) fn begin(shard: &mut Shard, number: u32, to: DirId) {
    let wall_ms = shard.now.wall_ms;
    let partitions = &mut shard.partitions;
    if usize::from(to.0) >= usize::from(partitions.dirs) || partitions.is_offline(to) {
        return;
    }
    let Some(slot) = partitions.slots.get_mut(&number) else { return };
    if slot.log.folder() != slot.log.name() || slot.moves.is_some() {
        // Its last move could not give it its name: there was no room for it. The next start does.
        return;
    }
    let at = partitions.next_slot;
    partitions.next_slot += 1;
    // No other copy has had that tag, also not before a crash.
    let tag =
        u128::from_be_bytes(slot.id.topic.0) ^ ((u128::from(wall_ms.unsigned_abs()) << 32) | u128::from(at));
    let (name, topic, start) = (slot.log.name().to_owned(), slot.log.topic(), slot.log.start_offset());
    let tag = Uuid(tag.to_be_bytes());
    let config = *slot.log.config();
    let copy = Log::create_copy(at, &mut partitions.files, to, name, tag, topic, config, start);
    let Some(copy) = copy else { return };
    slot.moves = Some(at);
    let (id, slot) = (slot.id, number);
    let step = Step::Queued;
    let new = Move { slot, id, copy, step, renamed: None, held: None, waiting: Vec::new(), next: None };
    partitions.moves.all.insert(at, new);
    go_on(shard, at);
}

/// The log directory where the log of a partition shall be that comes here.
pub(super) fn preferred(shard: &mut Shard, id: TopicPartition) -> Option<DirId> {
    let dir = shard.partitions.moves.preferred.remove(&id)?;
    (!shard.partitions.is_offline(dir)).then_some(dir)
}

/// Copies with the slots that they are of, as clients are told about them.
pub(super) fn copies<'a>(
    partitions: &'a super::Partitions,
    wanted: impl Fn(&TopicPartition) -> bool + 'a,
) -> impl Iterator<Item = (&'a Slot, &'a Log)> {
    let under_way = partitions.moves.all.values().filter(move |m| !m.step.has_ended() && wanted(&m.id));
    under_way.filter_map(|m| Some((partitions.slot(m.slot)?, &m.copy)))
}

/// The copy of this number, and its partition.
pub(super) fn copy(partitions: &super::Partitions, at: u32) -> Option<(&Log, &Slot)> {
    let under_way = partitions.moves.all.get(&at)?;
    Some((&under_way.copy, partitions.slot(under_way.slot)?))
}

/// Whether nothing is to be appended to a partition for a moment.
pub(crate) fn is_held(shard: &Shard, id: TopicPartition) -> bool {
    if shard.partitions.moves.all.is_empty() {
        return false;
    }
    let at = shard.partitions.by_id(id).and_then(|slot| slot.moves);
    let held = at.and_then(|at| shard.partitions.moves.all.get(&at)).is_some_and(|m| m.held.is_some());
    held && shard.partitions.stopping.is_none()
}

/// Keeps what the broker itself wants to append, if it has to wait; gives it back otherwise.
pub(super) fn keep(shard: &mut Shard, id: TopicPartition, owner: Token, records: Bytes) -> Option<Bytes> {
    if !is_held(shard, id) {
        return Some(records);
    }
    let at = shard.partitions.by_id(id).and_then(|slot| slot.moves);
    let Some(under_way) = at.and_then(|at| shard.partitions.moves.all.get_mut(&at)) else {
        return Some(records);
    };
    under_way.waiting.push((owner, records));
    None
}

/// The partition in this slot goes from here, with its log.
pub(super) fn partition_leaves(shard: &mut Shard, number: u32) {
    if let Some(at) = shard.partitions.slot(number).and_then(|slot| slot.moves) {
        leave(shard, at);
    }
}

/// The log is to be cut: what was copied of it may not be in it any more.
pub(super) fn log_is_cut(shard: &mut Shard, number: u32) {
    if let Some(at) = shard.partitions.slot(number).and_then(|slot| slot.moves) {
        let step = shard.partitions.moves.all.get(&at).map(|m| m.step);
        assert!(!step.is_some_and(Step::is_decided), "a log is cut that gives its place to a copy");
        begin_again(shard, at);
    }
}

/// The log was cut: what it has now can be copied.
pub(super) fn log_was_cut(shard: &mut Shard, number: u32) {
    if let Some(at) = shard.partitions.slot(number).and_then(|slot| slot.moves) {
        go_on(shard, at);
    }
}

/// A log directory is out of service. A move from there or to there ends; where two directories have half of the switch, the partition
/// is out of service until the next start, which knows which of its logs counts.
pub(super) fn dir_offline(shard: &mut Shard, dir: DirId, fault: &Fault) {
    let all: Vec<u32> = shard.partitions.moves.all.keys().copied().collect();
    for at in all {
        let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { continue };
        let (number, step) = (under_way.slot, under_way.step);
        if step.has_ended() {
            continue;
        }
        let is_to = under_way.copy.dir() == dir;
        let is_from = shard.partitions.slot(number).is_some_and(|slot| slot.log.dir() == dir);
        match () {
            () if step.is_decided() && (is_to || is_from) => {
                let gone = forget(shard, at);
                log_is_lost(shard, number, fault);
                let_go(shard, gone);
            }
            () if is_to => {
                let gone = forget(shard, at);
                let_go(shard, gone);
            }
            () if is_from => leave(shard, at),
            () => {}
        }
    }
}

/// The log in this slot cannot be used, though its directory may.
fn log_is_lost(shard: &mut Shard, number: u32, fault: &Fault) {
    let Some(slot) = shard.partitions.slots.get_mut(&number) else { return };
    slot.log.go_offline(fault.clone());
    let events = moldau_storage::Events { offline: None, ..slot.log.take_events() };
    super::follow::stop(shard, number, moldau_partition::Refusal::Storage);
    super::happened(shard, number, events);
    crate::stop::flushed(shard, number);
}

// ---- what happens

/// An operation of a copy has ended.
pub(super) fn op_done(shard: &mut Shard, at: u32, seq: u32, done: moldau_base::disk::Done) {
    let now = shard.now;
    let partitions = &mut shard.partitions;
    let Some(under_way) = partitions.moves.all.get_mut(&at) else { return };
    under_way.copy.done(now, &mut partitions.cache, seq, done);
    go_on(shard, at);
}

/// Time has passed for a copy.
pub(super) fn tick(shard: &mut Shard, at: u32) {
    let now = shard.now;
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
    if under_way.step.copies() {
        under_way.copy.tick(now, &mut nobody);
    }
    let waits = under_way.held.is_some_and(|since| since.after_ms(HOLD_MS) <= now.mono);
    if waits && !under_way.step.is_decided() {
        return give_up(shard, at, &format!("its disk has not taken the last of it within {HOLD_MS} ms"));
    }
    go_on(shard, at);
}

/// A piece of a log has been read, for its copy.
pub(super) fn read(shard: &mut Shard, at: u32, read: Read) {
    let Some(under_way) = shard.partitions.moves.all.get(&at) else { return };
    if under_way.step != Step::Reading {
        return;
    }
    let offset = under_way.copy.end_offset();
    match read {
        Read::Bytes(chunk) => match take(shard, at, &chunk) {
            Ok(()) => go_on(shard, at),
            Err(why) => give_up(shard, at, &why),
        },
        Read::Refused(moldau_storage::Refusal::OutOfRange) => begin_again(shard, at),
        Read::Refused(refusal) => give_up(shard, at, &format!("at offset {offset}, {refusal}")),
        Read::Empty | Read::Ready(_) | Read::Pending(_) => {
            give_up(shard, at, &format!("there is nothing at offset {offset}"));
        }
    }
}

/// The log in this slot was stored further, or has stepped aside, or could not.
pub(super) fn log_changed(shard: &mut Shard, number: u32, renamed: Option<Result<(), Fault>>) {
    let Some(at) = shard.partitions.slot(number).and_then(|slot| slot.moves) else { return };
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
    if renamed.is_some() {
        under_way.renamed = renamed;
    }
    if under_way.held.is_some() {
        go_on(shard, at);
    }
}

/// The marks of a copy are written down.
pub(crate) fn marked(shard: &mut Shard, at: u32) {
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
    if under_way.step == Step::Marking {
        under_way.step = Step::Calling;
        under_way.copy.call_whole();
        go_on(shard, at);
    }
}

// ---- moves that end

/// What has waited for the end of a move goes on.
fn release(shard: &mut Shard, at: u32, id: TopicPartition) {
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
    under_way.held = None;
    let waiting = std::mem::take(&mut under_way.waiting);
    for (owner, records) in waiting {
        super::append_own(shard, id, owner, records);
    }
    crate::handover::look(shard, id);
}

/// The log stays where it is; an operator is told why.
fn give_up(shard: &mut Shard, at: u32, why: &str) {
    let Some(under_way) = shard.partitions.moves.all.get(&at) else { return };
    if under_way.step.has_ended() {
        return;
    }
    let (name, to) = (under_way.copy.name(), usize::from(under_way.copy.dir().0));
    let path = shard.settings.log_dirs.get(to).map_or("", |dir| &*dir.path);
    let what = format!(
        "{name} stays in its log directory, its copy in {path} is removed: {why}. When that is mended, ask for the move again"
    );
    shard.trace(Trace::Warning(what));
    leave(shard, at);
}

/// The copy is not what the log is: another one is made.
fn begin_again(shard: &mut Shard, at: u32) {
    let Some(under_way) = shard.partitions.moves.all.get(&at) else { return };
    let (number, to) = (under_way.slot, under_way.copy.dir());
    leave(shard, at);
    begin(shard, number, to);
}

/// The copy goes, and nobody waits for it.
fn leave(shard: &mut Shard, at: u32) {
    let Some(under_way) = shard.partitions.moves.all.get_mut(&at) else { return };
    let (number, id) = (under_way.slot, under_way.id);
    let before = std::mem::replace(&mut under_way.step, Step::Leaving);
    let mark = (under_way.copy.dir(), under_way.copy.name().to_owned());
    under_way.copy.delete();
    if matches!(before, Step::Marking | Step::Calling | Step::Clearing | Step::Naming) {
        crate::checkpoints::left(shard, mark.0, mark.1);
    }
    if let Some(slot) = shard.partitions.slots.get_mut(&number) {
        slot.moves = None;
    }
    release(shard, at, id);
    go_on(shard, at);
    next_in_line(shard);
}

/// The move is not known any more; what is on disk of it is for the next start.
fn forget(shard: &mut Shard, at: u32) -> Option<Move> {
    let gone = shard.partitions.moves.all.remove(&at)?;
    shard.timers.set(Timer::Log(at), None);
    if let Some(slot) = shard.partitions.slots.get_mut(&gone.slot) {
        slot.moves = None;
    }
    Some(gone)
}

/// What has waited for a move that is forgotten goes on.
fn let_go(shard: &mut Shard, gone: Option<Move>) {
    let Some(gone) = gone else { return };
    for (owner, records) in gone.waiting {
        super::append_own(shard, gone.id, owner, records);
    }
    crate::handover::look(shard, gone.id);
    next_in_line(shard);
}
