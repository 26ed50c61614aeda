//! Members between rebalances: SyncGroup, Heartbeat, LeaveGroup and the end of a session.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::planted::{Bug, planted};
use moldau_wire::ErrorCode;

use crate::context::{Context, Then};
use crate::group::{Group, State};
use crate::records::{own, own_bytes};
use crate::request::{Heartbeat, Leave, LeaveReply, LeavingMember, LeftMember, Reply, Sync, SyncReply};

impl Group {
    /// Takes a SyncGroup: answers it, or holds it until the leader's assignment is committed.
    pub(crate) fn sync(&mut self, cx: &mut Context, token: u64, sync: &Sync) {
        if let Err(error) = self.validate_sync(sync) {
            cx.reply(token, Reply::Sync(SyncReply::refused(error)));
            return;
        }
        match self.state {
            State::Empty => {
                cx.reply(token, Reply::Sync(SyncReply::refused(ErrorCode::UNKNOWN_MEMBER_ID)));
            }
            State::PreparingRebalance => {
                cx.reply(token, Reply::Sync(SyncReply::refused(ErrorCode::REBALANCE_IN_PROGRESS)));
            }
            State::CompletingRebalance => self.hold_sync(cx, token, sync),
            State::Stable => {
                self.has_synced(cx, &sync.member_id);
                let member = self.members.get(&sync.member_id);
                let reply = SyncReply {
                    error: ErrorCode::NONE,
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.map(|member| member.assignment.clone()).unwrap_or_default(),
                };
                cx.reply(token, Reply::Sync(reply));
            }
        }
    }

    fn validate_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        let differs = |asked: &Option<ByteString>, ours: &Option<ByteString>| {
            asked.is_some() && ours.is_some() && asked != ours
        };
        self.validate_member(&sync.member_id, sync.group_instance_id.as_ref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    /// The SyncGroup waits; a leader's also starts the write that all wait for. A generation has one assignment: what a
    /// leader sends while its first is being written changes nothing.
    fn hold_sync(&mut self, cx: &mut Context, token: u64, sync: &Sync) {
        self.has_synced(cx, &sync.member_id);
        let Some(member) = self.members.get_mut(&sync.member_id) else { return };
        cx.park(token);
        if let Some(older) = member.syncing.replace(token) {
            cx.answer_sync(Some(older), SyncReply::refused(ErrorCode::REBALANCE_IN_PROGRESS));
        }
        if self.assigning || !self.is_leader(&sync.member_id) {
            return;
        }
        let is_member = |(id, _): &&(ByteString, Bytes)| self.members.contains_key(id);
        let given = sync.assignments.iter().filter(is_member);
        let assignments: BTreeMap<ByteString, Bytes> =
            given.map(|(id, assignment)| (own(id), own_bytes(assignment))).collect();
        let record = self.record(|member| {
            let given = assignments.get(&member.id).filter(|_| !planted(Bug::AssignmentUnwritten));
            given.cloned().unwrap_or_default()
        });
        self.assigning = true;
        self.recorded = true;
        let then = Then::Assign { group: self.id.clone(), generation: self.generation, assignments };
        cx.append(vec![record], then);
    }

    /// Takes a Heartbeat.
    pub(crate) fn heartbeat(&mut self, cx: &mut Context, beat: &Heartbeat) -> ErrorCode {
        if let Err(error) = self.validate_member(&beat.member_id, beat.group_instance_id.as_ref()) {
            return error;
        }
        if beat.generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        self.heard_of(cx, &beat.member_id);
        match self.state {
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance | State::Stable => ErrorCode::NONE,
        }
    }

    /// A member is alive: its session begins anew.
    pub(crate) fn heard_of(&mut self, cx: &mut Context, id: &ByteString) {
        if let Some(member) = self.members.get(id) {
            cx.expect_member(&self.id, &member.id, member.session_timeout_ms);
        }
    }

    /// Takes a LeaveGroup. The answer does not wait for the log: were the departure lost with this coordinator, the next
    /// one would find the members silent and expel them.
    pub(crate) fn leave(&mut self, cx: &mut Context, leave: &Leave) -> LeaveReply {
        let mut members = Vec::with_capacity(leave.members.len());
        for leaving in &leave.members {
            let error = self.leave_one(cx, leaving).err().unwrap_or_default();
            members.push(LeftMember {
                member_id: leaving.member_id.clone(),
                group_instance_id: leaving.group_instance_id.clone(),
                error,
            });
        }
        if members.iter().any(|left| left.error.is_ok()) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(cx),
                State::PreparingRebalance => self.maybe_complete_join(cx),
                State::Empty => {}
            }
        }
        LeaveReply { error: ErrorCode::NONE, members }
    }

    fn leave_one(&mut self, cx: &mut Context, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let instance = leaving.group_instance_id.as_ref();
        let id = if leaving.member_id.is_empty() {
            let named = instance.and_then(|instance| self.statics.get(instance));
            named.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?.clone()
        } else {
            if !self.pending.contains(&leaving.member_id) {
                self.validate_member(&leaving.member_id, instance)?;
            }
            leaving.member_id.clone()
        };
        self.remove_member(cx, &id);
        Ok(())
    }

    /// A session has ended, or an id that was given out was not used.
    pub(crate) fn session_timer_fired(&mut self, cx: &mut Context, id: &ByteString) {
        if self.pending.remove(id) {
            if self.state == State::PreparingRebalance && self.all_joined() {
                self.complete_join(cx);
            }
            return;
        }
        // A member that waits for an answer is alive; it is expected again when it has the answer.
        if self.members.get(id).is_some_and(|member| !member.is_waiting()) {
            self.remove_member(cx, id);
            self.member_gone(cx);
        }
    }
}
