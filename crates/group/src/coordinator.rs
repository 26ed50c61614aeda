//! The coordinator of one partition of `__consumer_offsets`: its inputs and effects, and the way from one to the other.
//!
//! Ordering: the host appends in the order of [`Effect::Append`], each one as one batch, and reports each end once, in
//! log order for those that are appended. A coordinator is dropped when its partition's leadership is lost and built anew
//! by replaying the log; what a group does between two assignments is not in the log and starts over.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{Mono, Now, Rng, Uuid};
use moldau_wire::ErrorCode;

use crate::config::{Config, STRING_BYTES};
use crate::context::{Context, Then, UNWRITABLE, Write, Writes};
use crate::group::{Group, State};
use crate::offsets::{OffsetKey, Offsets};
use crate::records::{BadRecord, Entry, Record};
use crate::refusal::append_error;
use crate::request::{Join, LeaveReply, LeftMember, Reply, Request, SyncReply};
use crate::timers::{Timer, Timers};

/// What happens to a coordinator.
#[derive(Clone, Debug)]
pub enum Input {
    /// A request has come.
    Request {
        /// Names it; not used again while the coordinator lives.
        token: u64,
        /// What it asks.
        request: Box<Request>,
    },
    /// The records of an [`Effect::Append`] are in the leader's log.
    Appended {
        /// Of the effect.
        id: u64,
        /// Offset of the first record.
        first_offset: i64,
    },
    /// The records of an [`Effect::Append`] are below the high watermark.
    Committed {
        /// Of the effect.
        id: u64,
    },
    /// The records of an [`Effect::Append`] are in the log, and it is not known when, or whether, they will be below the high watermark:
    /// too few replicas are in sync.
    AppendInDoubt {
        /// Of the effect.
        id: u64,
        /// Why, as the partition says it.
        error: ErrorCode,
    },
    /// The records of an [`Effect::Append`] are not in the log and will not be.
    AppendFailed {
        /// Of the effect.
        id: u64,
        /// Why, as the partition says it.
        error: ErrorCode,
    },
    /// The moment of [`Coordinator::deadline`] has come.
    Tick,
    /// These topics are no more: their offsets go too.
    TopicsDeleted(Vec<DeletedTopic>),
    /// Nobody waits for the answer to this request any more. What it asked for is done all the same.
    Abandon {
        /// Of the request.
        token: u64,
    },
}

/// A topic that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name.
    pub name: ByteString,
    /// Its id. Offsets that were committed for another topic of this name stay.
    pub id: Uuid,
}

/// What a coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a request. Each is answered once, unless it is abandoned before.
    Reply {
        /// Of the request.
        token: u64,
        /// The answer.
        reply: Reply,
    },
    /// Append these records as one batch; report with [`Input::Appended`] and [`Input::Committed`], or
    /// [`Input::AppendFailed`]; before either, perhaps, with [`Input::AppendInDoubt`].
    Append {
        /// Names the append.
        id: u64,
        /// The records, in order.
        records: Vec<Record>,
    },
}

/// The coordinator of the groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Coordinator {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) groups: BTreeMap<ByteString, Group>,
    pub(crate) offsets: Offsets,
    pub(crate) timers: Timers,
    pub(crate) writes: Writes,
    pub(crate) parked: BTreeSet<u64>,
    loaded: bool,
}

impl Coordinator {
    /// A coordinator that has seen nothing of its log. Member ids are drawn from `rng`.
    pub fn new(config: Config, rng: Rng) -> Coordinator {
        Coordinator {
            config,
            rng,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            writes: Writes::default(),
            parked: BTreeSet::new(),
            loaded: false,
        }
    }

    /// Takes a record of the log, oldest first. A record of a kind that is not known, or a malformed one, is left out and
    /// named, so that the host can say so; loading goes on.
    pub fn replay(&mut self, _offset: i64, key: Bytes, value: Option<Bytes>) -> Result<(), BadRecord> {
        assert!(!self.loaded, "records are replayed before requests are taken");
        match Entry::decode(key, value)? {
            Entry::Offset { group, topic, partition, value } => {
                self.offsets.replay(OffsetKey { group, topic, partition }, value);
            }
            Entry::Group { group, value: Some(value) } => {
                self.groups.insert(group.clone(), Group::restore(group, value));
            }
            Entry::Group { group, value: None } => {
                self.groups.remove(&group);
            }
        }
        Ok(())
    }

    /// The log is at its end: groups with offsets and no record are groups of simple consumers, members that the log
    /// tells of must be heard of within their sessions, and requests are taken.
    pub fn loaded(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.loaded = true;
        for group in self.offsets.groups() {
            if !self.groups.contains_key(group) {
                self.groups.insert(group.clone(), Group::empty(group.clone(), now.wall_ms));
            }
        }
        self.timers.set(Timer::Retention, now.mono.after_ms(self.config.retention_check_ms));
        let (groups, mut cx) = self.split(now, out);
        for group in groups.values_mut() {
            for member in group.members.values() {
                cx.expect_member(&group.id, &member.id, member.session_timeout_ms);
            }
            if group.members.len() > cx.config.max_size {
                group.prepare_rebalance(&mut cx);
            }
        }
    }

    /// Takes an input and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Request { token, request } if !self.loaded => {
                let reply = request.refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
                out.push(Effect::Reply { token, reply });
            }
            Input::Request { token, request } => self.request(now, token, *request, out),
            // What was appended was applied when it was decided; what matters is whether it stays.
            Input::Appended { .. } => {}
            Input::Committed { id } => self.committed(now, id, out),
            Input::AppendInDoubt { id, error } => self.in_doubt(now, id, append_error(error), out),
            Input::AppendFailed { id, error } => self.append_failed(now, id, append_error(error), out),
            Input::Tick => self.tick(now, out),
            Input::TopicsDeleted(topics) => self.topics_deleted(now, &topics, out),
            Input::Abandon { token } => {
                self.parked.remove(&token);
            }
        }
        while let Some(id) = self.writes.stillborn.pop() {
            self.append_failed(now, id, UNWRITABLE, out);
        }
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        self.timers.next()
    }

    /// How many groups there are, empty ones included.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The leadership is lost: every request that waits is answered with `error`. The coordinator is of no use afterwards.
    pub fn resign(mut self, error: ErrorCode, out: &mut Vec<Effect>) {
        let parked = std::mem::take(&mut self.parked);
        let mut give = |token: u64, reply: Reply| {
            if parked.contains(&token) {
                out.push(Effect::Reply { token, reply });
            }
        };
        for member in self.groups.values().flat_map(|group| group.members.values()) {
            if let Some(token) = member.joining {
                give(token, Reply::Join(crate::request::JoinReply::refused(member.id.clone(), error)));
            }
            if let Some(token) = member.syncing {
                give(token, Reply::Sync(SyncReply::refused(error)));
            }
        }
        for write in self.writes.open.into_values() {
            for (token, fetch) in write.waiting {
                give(token, Request::OffsetFetch(fetch).refuse(error));
            }
            if let Then::Reply { token, reply } = write.then {
                give(token, reply.into_failure(error));
            }
        }
    }

    /// The groups, and everything else as the surroundings of a group.
    pub(crate) fn split<'a>(
        &'a mut self,
        now: Now,
        out: &'a mut Vec<Effect>,
    ) -> (&'a mut BTreeMap<ByteString, Group>, Context<'a>) {
        let context = Context {
            now,
            config: &self.config,
            rng: &mut self.rng,
            timers: &mut self.timers,
            offsets: &mut self.offsets,
            writes: &mut self.writes,
            parked: &mut self.parked,
            out,
        };
        (&mut self.groups, context)
    }

    /// Runs `act` on a group that is there, and forgets the group if nothing is left of it.
    pub(crate) fn with_group<T>(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        id: &ByteString,
        act: impl FnOnce(&mut Group, &mut Context) -> T,
    ) -> Option<T> {
        let (groups, mut cx) = self.split(now, out);
        let result = groups.get_mut(id).map(|group| act(group, &mut cx));
        self.forget_if_idle(id);
        result
    }

    /// A group that nobody is in, that has no offsets and that the log does not know is no group.
    pub(crate) fn forget_if_idle(&mut self, id: &ByteString) {
        let idle = self.groups.get(id).is_some_and(Group::is_forgettable);
        if idle && !self.offsets.has_group(id) {
            self.groups.remove(id);
        }
    }

    fn request(&mut self, now: Now, token: u64, request: Request, out: &mut Vec<Effect>) {
        if let Some(error) = fault(&request, &self.config) {
            out.push(Effect::Reply { token, reply: request.refuse(error) });
            return;
        }
        match request {
            Request::Join(join) => self.join(now, token, &join, out),
            Request::Sync(sync) => {
                let found = self.with_group(now, out, &sync.group, |group, cx| group.sync(cx, token, &sync));
                if found.is_none() {
                    let reply = Reply::Sync(SyncReply::refused(ErrorCode::UNKNOWN_MEMBER_ID));
                    out.push(Effect::Reply { token, reply });
                }
            }
            Request::Heartbeat(beat) => {
                let answer = self.with_group(now, out, &beat.group, |group, cx| group.heartbeat(cx, &beat));
                let error = answer.unwrap_or(ErrorCode::UNKNOWN_MEMBER_ID);
                out.push(Effect::Reply { token, reply: Reply::Heartbeat(error) });
            }
            Request::Leave(leave) => {
                let answer = self.with_group(now, out, &leave.group, |group, cx| group.leave(cx, &leave));
                let reply = Reply::Leave(answer.unwrap_or_else(|| unknown_members(&leave)));
                out.push(Effect::Reply { token, reply });
            }
            Request::OffsetCommit(commit) => self.offset_commit(now, token, &commit, out),
            Request::OffsetFetch(fetch) => self.offset_fetch(token, fetch, out),
            Request::OffsetDelete(delete) => self.offset_delete(now, token, &delete, out),
            Request::ListGroups(list) => {
                out.push(Effect::Reply { token, reply: Reply::ListGroups(self.list(&list)) });
            }
            Request::DescribeGroups(describe) => {
                out.push(Effect::Reply { token, reply: Reply::DescribeGroups(self.describe(&describe)) });
            }
            Request::DeleteGroups(delete) => self.delete_groups(now, token, &delete, out),
        }
    }

    fn join(&mut self, now: Now, token: u64, join: &Join, out: &mut Vec<Effect>) {
        if !self.groups.contains_key(&join.group) {
            let refusal = match join.member_id.is_empty() {
                false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                true => self.create_group(&join.group, now.wall_ms),
            };
            if let Err(error) = refusal {
                out.push(Effect::Reply { token, reply: Request::Join(join.clone()).refuse(error) });
                return;
            }
        }
        self.with_group(now, out, &join.group, |group, cx| group.join(cx, token, join));
    }

    /// Adds an empty group if there is room.
    pub(crate) fn create_group(&mut self, id: &ByteString, now_ms: i64) -> Result<(), ErrorCode> {
        if self.groups.len() >= self.config.max_groups {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let id = crate::records::own(id);
        self.groups.insert(id.clone(), Group::empty(id, now_ms));
        Ok(())
    }

    fn committed(&mut self, now: Now, id: u64, out: &mut Vec<Effect>) {
        let Some(write) = self.writes.open.remove(&id) else { return };
        let Write { then, offsets, removed, waiting, in_doubt: _ } = write;
        for key in &offsets {
            self.offsets.commit(id, key);
        }
        for group in &removed {
            if let Some(group) = self.groups.get_mut(group) {
                group.burials -= 1;
                if group.is_forgettable() {
                    // Offsets that were committed since are those of simple consumers.
                    *group = Group::empty(group.id.clone(), now.wall_ms);
                }
            }
        }
        self.finish(now, then, Ok(()), out);
        for group in offsets.iter().map(|key| &key.group).chain(&removed) {
            self.forget_if_idle(group);
        }
        self.fetch_again(waiting, out);
    }

    /// The append is in the log, and nobody knows when it will be committed: who asked for it is told so. What it says counts once it is.
    /// What a group's next step depends on waits for that.
    fn in_doubt(&mut self, now: Now, id: u64, error: ErrorCode, out: &mut Vec<Effect>) {
        let Some(write) = self.writes.open.get_mut(&id) else { return };
        write.in_doubt = true;
        if matches!(write.then, Then::Reply { .. }) {
            let then = std::mem::replace(&mut write.then, Then::Nothing);
            self.finish(now, then, Err(error), out);
        }
        let waiting = self.writes.open.get_mut(&id).map(|write| std::mem::take(&mut write.waiting));
        self.fetch_again(waiting.unwrap_or_default(), out);
    }

    fn append_failed(&mut self, now: Now, id: u64, error: ErrorCode, out: &mut Vec<Effect>) {
        let Some(write) = self.writes.open.remove(&id) else { return };
        let Write { then, offsets, removed, waiting, in_doubt: _ } = write;
        for key in &offsets {
            self.offsets.take_back(id, key);
        }
        for group in &removed {
            if let Some(group) = self.groups.get_mut(group) {
                group.burials -= 1;
                group.recorded = true;
            }
        }
        self.finish(now, then, Err(error), out);
        for key in &offsets {
            self.forget_if_idle(&key.group);
        }
        self.fetch_again(waiting, out);
    }

    fn finish(&mut self, now: Now, then: Then, result: Result<(), ErrorCode>, out: &mut Vec<Effect>) {
        let (groups, mut cx) = self.split(now, out);
        match then {
            Then::Nothing => {}
            Then::Reply { token, reply } => match result {
                Ok(()) => cx.answer(token, reply),
                Err(error) => cx.answer(token, reply.into_failure(error)),
            },
            Then::Emptied { group, generation } => {
                if let Some(group) = groups.get_mut(&group)
                    && group.state == State::Empty
                    && group.generation == generation
                {
                    group.unwritten = result.is_err();
                }
            }
            Then::Assign { group, generation, assignments } => {
                let Some(group) = groups.get_mut(&group) else { return };
                if !group.assigning || group.generation != generation {
                    return;
                }
                match result {
                    Ok(()) => group.assign(&mut cx, assignments),
                    Err(error) => {
                        group.reset_assignments(&mut cx, error);
                        group.prepare_rebalance(&mut cx);
                    }
                }
            }
            Then::Replaced(replaced) => {
                let Some(group) = groups.get_mut(&replaced.group) else { return };
                match result {
                    Ok(()) => group.replacement_committed(&mut cx, &replaced),
                    Err(error) => group.replacement_failed(&mut cx, &replaced, error),
                }
            }
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(timer) = self.timers.pop(now.mono) {
            match timer {
                Timer::Session { group, member } => {
                    self.with_group(now, out, &group, |group, cx| group.session_timer_fired(cx, &member));
                }
                Timer::Join(group) => {
                    self.with_group(now, out, &group, |group, cx| group.join_timer_fired(cx));
                }
                Timer::Sync(group) => {
                    self.with_group(now, out, &group, |group, cx| group.sync_timer_fired(cx));
                }
                Timer::Retention => {
                    self.expire_offsets(now, out);
                    let next = now.mono.after_ms(self.config.retention_check_ms.max(1));
                    self.timers.set(Timer::Retention, next);
                }
            }
        }
    }
}

/// What is wrong with a request whatever the state.
fn fault(request: &Request, config: &Config) -> Option<ErrorCode> {
    let too_long = |text: &ByteString| text.len() > STRING_BYTES;
    let named =
        |group: &ByteString| (group.is_empty() || too_long(group)).then_some(ErrorCode::INVALID_GROUP_ID);
    match request {
        Request::Join(join) => join.fault(config.min_session_timeout_ms, config.max_session_timeout_ms),
        Request::Sync(sync) => named(&sync.group),
        Request::Heartbeat(beat) => named(&beat.group),
        Request::Leave(leave) => named(&leave.group),
        Request::OffsetDelete(delete) => named(&delete.group),
        // Clients without a group have always committed offsets under an empty id.
        Request::OffsetCommit(commit) => too_long(&commit.group).then_some(ErrorCode::INVALID_GROUP_ID),
        Request::OffsetFetch(_)
        | Request::ListGroups(_)
        | Request::DescribeGroups(_)
        | Request::DeleteGroups(_) => None,
    }
}

fn unknown_members(leave: &crate::request::Leave) -> LeaveReply {
    let members = leave.members.iter().map(|member| LeftMember {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        error: ErrorCode::UNKNOWN_MEMBER_ID,
    });
    LeaveReply { error: ErrorCode::NONE, members: members.collect() }
}
