//! From one generation of a group to the next: who is waited for and how long, and when the members that came are told.
//!
//! A rebalance of a group that has members lasts until all of them have joined again or the longest of their rebalance
//! timeouts is over; members that have not come by then are dropped, static ones excepted (KIP-345). The first rebalance of
//! an empty group waits `group.initial.rebalance.delay.ms`, and again as long as members keep coming (KIP-134).

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::planted::{Bug, planted};
use moldau_wire::ErrorCode;

use crate::config::JOIN_RETRY_MS;
use crate::context::{Context, Then};
use crate::group::{Group, InitialDelay, State};
use crate::request::{JoinReply, SyncReply};
use crate::timers::Timer;

impl Group {
    /// Something has changed: begins a rebalance, or ends the one that is on if everybody is there.
    pub(crate) fn rebalance_or_complete(&mut self, cx: &mut Context) {
        match self.state {
            State::PreparingRebalance => self.maybe_complete_join(cx),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(cx),
        }
    }

    /// Begins a rebalance.
    pub(crate) fn prepare_rebalance(&mut self, cx: &mut Context) {
        if self.state == State::CompletingRebalance {
            self.reset_assignments(cx, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.pending_sync.clear();
        self.assigning = false;
        cx.timers.cancel(&Timer::Sync(self.id.clone()));
        let was_empty = self.state == State::Empty;
        self.state = State::PreparingRebalance;
        if was_empty {
            let delay_ms = cx.config.initial_rebalance_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
            self.new_member_added = false;
            self.initial = Some(InitialDelay { delay_ms, remaining_ms });
            cx.after_ms(Timer::Join(self.id.clone()), delay_ms);
        } else {
            self.initial = None;
            self.complete_join_or_wait(cx);
        }
    }

    fn complete_join_or_wait(&mut self, cx: &mut Context) {
        if self.all_joined() {
            self.complete_join(cx);
        } else {
            cx.after_ms(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
        }
    }

    /// Ends the wait for members if nobody is missing; the first rebalance of a group keeps its delay.
    pub(crate) fn maybe_complete_join(&mut self, cx: &mut Context) {
        if self.state == State::PreparingRebalance && self.initial.is_none() && self.all_joined() {
            self.complete_join(cx);
        }
    }

    /// The wait for members is over.
    pub(crate) fn join_timer_fired(&mut self, cx: &mut Context) {
        if self.state != State::PreparingRebalance {
            return;
        }
        match self.initial {
            Some(InitialDelay { delay_ms, remaining_ms }) if self.new_member_added && remaining_ms != 0 => {
                self.new_member_added = false;
                let next_ms = cx.config.initial_rebalance_delay_ms.min(remaining_ms);
                let remaining_ms = remaining_ms.saturating_sub(delay_ms).max(0);
                self.initial = Some(InitialDelay { delay_ms: next_ms, remaining_ms });
                cx.after_ms(Timer::Join(self.id.clone()), next_ms);
            }
            _ => self.complete_join(cx),
        }
    }

    /// Ends the wait for members: the next generation consists of those who have joined.
    pub(crate) fn complete_join(&mut self, cx: &mut Context) {
        cx.timers.cancel(&Timer::Join(self.id.clone()));
        self.drop_missing(cx);
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left and none of them has come: wait until their sessions end.
            cx.after_ms(Timer::Join(self.id.clone()), self.rebalance_timeout_ms().max(JOIN_RETRY_MS));
            return;
        }
        self.initial = None;
        self.next_generation(cx);
        if self.state == State::Empty {
            self.write_empty(cx);
        } else {
            self.welcome_members(cx);
        }
    }

    /// Writes down that the group has no members.
    pub(crate) fn write_empty(&mut self, cx: &mut Context) {
        let record = self.record(|member| member.assignment.clone());
        self.recorded = true;
        self.unwritten = false;
        let then = Then::Emptied { group: self.id.clone(), generation: self.generation };
        cx.append(vec![record], then);
    }

    fn drop_missing(&mut self, cx: &mut Context) {
        let missing = self.members.values().filter(|m| m.joining.is_none() && m.instance.is_none());
        let missing: Vec<ByteString> = missing.map(|member| member.id.clone()).collect();
        for id in missing {
            self.remove_member(cx, &id);
        }
    }

    fn next_generation(&mut self, cx: &mut Context) {
        let step = i32::from(!planted(Bug::SameGeneration));
        self.generation = self.generation.checked_add(step).unwrap_or(1);
        self.since_ms = cx.now.wall_ms;
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.state = State::Empty;
        } else {
            self.protocol = self.select_protocol();
            assert!(self.protocol.is_some(), "members that joined share a protocol");
            self.state = State::CompletingRebalance;
        }
        self.subscribed = self.compute_subscribed();
    }

    /// Tells everyone of the generation; from then on they must send heartbeats and ask for their assignment.
    fn welcome_members(&mut self, cx: &mut Context) {
        let ids: Vec<ByteString> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            let joining = member.joining.take();
            member.is_new = false;
            let session_timeout_ms = member.session_timeout_ms;
            self.joining -= usize::from(joining.is_some());
            cx.answer_join(joining, reply);
            cx.expect_member(&self.id, &id, session_timeout_ms);
            self.pending_sync.insert(id);
        }
        cx.after_ms(Timer::Sync(self.id.clone()), self.rebalance_timeout_ms());
    }

    /// Members that have not asked for their assignment in time are dropped.
    pub(crate) fn sync_timer_fired(&mut self, cx: &mut Context) {
        let waits = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !waits || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.remove_member(cx, &id);
        }
        self.prepare_rebalance(cx);
    }

    /// A member has asked for its assignment.
    pub(crate) fn has_synced(&mut self, cx: &mut Context, member: &ByteString) {
        self.pending_sync.remove(member);
        if self.pending_sync.is_empty() {
            cx.timers.cancel(&Timer::Sync(self.id.clone()));
        }
    }

    /// The leader's assignment is committed: the group is stable.
    pub(crate) fn assign(
        &mut self,
        cx: &mut Context,
        mut assignments: std::collections::BTreeMap<ByteString, Bytes>,
    ) {
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        self.assigning = false;
        self.state = State::Stable;
        self.answer_syncs(cx, ErrorCode::NONE);
    }

    /// Nobody has an assignment; those who wait for one are told why.
    pub(crate) fn reset_assignments(&mut self, cx: &mut Context, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_syncs(cx, error);
    }

    fn answer_syncs(&mut self, cx: &mut Context, error: ErrorCode) {
        for member in self.members.values_mut() {
            let Some(token) = member.syncing.take() else { continue };
            let reply = if error.is_ok() {
                SyncReply {
                    error,
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                }
            } else {
                SyncReply::refused(error)
            };
            cx.answer_sync(Some(token), reply);
            // A session that ended while the member waited was not held against it.
            cx.expect_member(&self.id, &member.id, member.session_timeout_ms);
        }
    }

    /// Removes a member with its deadline; what it waits for is answered UNKNOWN_MEMBER_ID, so that it joins anew.
    pub(crate) fn remove_member(&mut self, cx: &mut Context, id: &ByteString) {
        cx.forget_member(&self.id, id);
        let Some(member) = self.remove(id) else { return };
        let error = ErrorCode::UNKNOWN_MEMBER_ID;
        cx.answer_join(member.joining, JoinReply::refused(ByteString::new(), error));
        cx.answer_sync(member.syncing, SyncReply::refused(error));
    }

    /// After a removal: a settled group rebalances, one that rebalances may have nobody left to wait for.
    pub(crate) fn member_gone(&mut self, cx: &mut Context) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(cx),
            State::PreparingRebalance if self.all_joined() => self.complete_join(cx),
            State::PreparingRebalance | State::Empty => {}
        }
    }
}
