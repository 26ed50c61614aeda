//! JoinGroup: who may become a member, and what its coming means for the group.

use bytestring::ByteString;
use moldau_base::{Rng, Uuid};
use moldau_wire::ErrorCode;

use crate::config::{MEMBER_ID_SUFFIX_BYTES, NEW_MEMBER_JOIN_TIMEOUT_MS, PENDING_MEMBERS, STRING_BYTES};
use crate::context::{Context, Replaced, Then};
use crate::group::{Group, Member, State};
use crate::records::{own, own_bytes};
use crate::request::{Join, JoinReply, Protocol, Reply, SyncReply};

impl Join {
    /// What is wrong with the request whatever the group.
    pub(crate) fn fault(&self, min_session_ms: i32, max_session_ms: i32) -> Option<ErrorCode> {
        let strings = [&self.member_id, &self.protocol_type, &self.client_id, &self.client_host];
        let too_long = |text: &ByteString| text.len() > STRING_BYTES;
        if self.group.is_empty() || too_long(&self.group) {
            Some(ErrorCode::INVALID_GROUP_ID)
        } else if !(min_session_ms..=max_session_ms).contains(&self.session_timeout_ms) {
            Some(ErrorCode::INVALID_SESSION_TIMEOUT)
        } else if strings.into_iter().any(too_long)
            || self.group_instance_id.as_ref().is_some_and(too_long)
            || self.protocols.iter().any(|protocol| too_long(&protocol.name))
        {
            Some(ErrorCode::INVALID_REQUEST)
        } else {
            None
        }
    }

    /// The protocols, once each, in memory of their own.
    fn own_protocols(&self) -> Vec<Protocol> {
        let mut protocols: Vec<Protocol> = Vec::with_capacity(self.protocols.len());
        let mut names = std::collections::BTreeSet::new();
        for protocol in &self.protocols {
            if names.insert(&protocol.name) {
                protocols
                    .push(Protocol { name: own(&protocol.name), metadata: own_bytes(&protocol.metadata) });
            }
        }
        protocols
    }

    fn rebalance_timeout_ms(&self) -> i32 {
        if self.rebalance_timeout_ms < 0 { self.session_timeout_ms } else { self.rebalance_timeout_ms }
    }

    fn member(&self, id: ByteString, token: u64) -> Member {
        Member {
            id,
            instance: self.group_instance_id.as_ref().map(own),
            client_id: own(&self.client_id),
            client_host: own(&self.client_host),
            rebalance_timeout_ms: self.rebalance_timeout_ms(),
            session_timeout_ms: self.session_timeout_ms,
            protocols: self.own_protocols(),
            assignment: bytes::Bytes::new(),
            joining: Some(token),
            syncing: None,
            is_new: true,
        }
    }
}

impl Group {
    /// Takes a JoinGroup that is in order by itself.
    pub(crate) fn join(&mut self, cx: &mut Context, token: u64, join: &Join) {
        if !self.has_room_for(&join.member_id, cx.config) {
            self.remove_member(cx, &join.member_id);
            let refused = JoinReply::refused(ByteString::new(), ErrorCode::GROUP_MAX_SIZE_REACHED);
            cx.reply(token, Reply::Join(refused));
            self.maybe_complete_join(cx);
        } else if !self.supports(&join.protocol_type, &join.protocols) {
            refuse(cx, token, join, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        } else if join.member_id.is_empty() {
            self.join_unknown(cx, token, join);
        } else if self.pending.contains(&join.member_id) && join.group_instance_id.is_none() {
            let id = own(&join.member_id);
            self.add_member(cx, token, join, id);
        } else {
            match self.validate_member(&join.member_id, join.group_instance_id.as_ref()) {
                Ok(()) => self.join_known(cx, token, join),
                Err(error) => refuse(cx, token, join, error),
            }
        }
    }

    /// A client without a member id: gets one, and if it may, is a member at once.
    fn join_unknown(&mut self, cx: &mut Context, token: u64, join: &Join) {
        let prefix = join.group_instance_id.as_ref().unwrap_or(&join.client_id);
        let id = member_id(prefix, cx.rng);
        if let Some(instance) = &join.group_instance_id {
            match self.statics.get(instance).cloned() {
                Some(old) => self.replace_static(cx, token, join, &old, id),
                None => self.add_member(cx, token, join, id),
            }
        } else if join.knows_member_id_required {
            self.give_id(cx, token, join, id);
        } else {
            self.add_member(cx, token, join, id);
        }
    }

    /// Hands out an id to come back with, so that a client that asks twice is not two members (KIP-394).
    fn give_id(&mut self, cx: &mut Context, token: u64, join: &Join, id: ByteString) {
        if self.pending.len() >= PENDING_MEMBERS {
            refuse(cx, token, join, ErrorCode::GROUP_MAX_SIZE_REACHED);
            return;
        }
        cx.expect_member(&self.id, &id, join.session_timeout_ms);
        cx.reply(token, Reply::Join(JoinReply::refused(id.clone(), ErrorCode::MEMBER_ID_REQUIRED)));
        self.pending.insert(id);
    }

    fn add_member(&mut self, cx: &mut Context, token: u64, join: &Join, id: ByteString) {
        if self.initial.is_some() {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(own(&join.protocol_type));
        }
        cx.park(token);
        cx.expect_member(&self.id, &id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.add(join.member(id, token));
        self.rebalance_or_complete(cx);
    }

    /// A member joins again.
    fn join_known(&mut self, cx: &mut Context, token: u64, join: &Join) {
        let id = &join.member_id;
        let protocols = join.own_protocols();
        let same = self.members.get(id).is_some_and(|member| member.protocols == protocols);
        match self.state {
            State::PreparingRebalance => self.rejoin(cx, token, join, protocols),
            // Its answer may have been lost.
            State::CompletingRebalance if same => cx.reply(token, Reply::Join(self.joined(id))),
            // The leader asks for a rebalance when what is shared out has changed.
            State::Stable if same && !self.is_leader(id) => cx.reply(token, Reply::Join(self.joined(id))),
            State::CompletingRebalance | State::Stable => self.rejoin(cx, token, join, protocols),
            State::Empty => refuse(cx, token, join, ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    fn rejoin(&mut self, cx: &mut Context, token: u64, join: &Join, protocols: Vec<Protocol>) {
        self.update(&join.member_id, protocols, join.rebalance_timeout_ms(), join.session_timeout_ms);
        self.wait_for_generation(cx, token, &join.member_id);
        self.rebalance_or_complete(cx);
    }

    /// The member's JoinGroup waits. A member has one; an older one of it is told to come again.
    fn wait_for_generation(&mut self, cx: &mut Context, token: u64, id: &ByteString) {
        let Some(member) = self.members.get_mut(id) else { return };
        cx.park(token);
        match member.joining.replace(token) {
            None => self.joining += 1,
            Some(older) => {
                let refused = JoinReply::refused(id.clone(), ErrorCode::REBALANCE_IN_PROGRESS);
                cx.answer_join(Some(older), refused);
            }
        }
    }

    /// A static member comes back without its member id: it gets another, and the old one is fenced (KIP-345).
    fn replace_static(
        &mut self,
        cx: &mut Context,
        token: u64,
        join: &Join,
        old: &ByteString,
        id: ByteString,
    ) {
        let old_leader = self.leader.clone();
        let Some(before) = self.rename(old, &id) else { return };
        cx.forget_member(&self.id, old);
        let fenced = ErrorCode::FENCED_INSTANCE_ID;
        cx.answer_join(before.joining, JoinReply::refused(old.clone(), fenced));
        cx.answer_sync(before.syncing, SyncReply::refused(fenced));
        self.update(&id, join.own_protocols(), join.rebalance_timeout_ms(), join.session_timeout_ms);
        cx.expect_member(&self.id, &id, join.session_timeout_ms);
        self.wait_for_generation(cx, token, &id);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                let replaced = Replaced {
                    group: self.id.clone(),
                    instance: join.group_instance_id.as_ref().map(own).unwrap_or_default(),
                    old: before,
                    new_id: id,
                    old_leader,
                    knows_skip_assignment: join.knows_skip_assignment,
                };
                let record = self.record(|member| member.assignment.clone());
                self.recorded = true;
                cx.append(vec![record], Then::Replaced(Box::new(replaced)));
            }
            // The leader may have seen the old id, which is nobody's any more.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(cx),
            State::PreparingRebalance => self.maybe_complete_join(cx),
            State::Empty => unreachable!("an empty group has no static members"),
        }
    }

    /// The new id of a static member is committed: it goes on with the assignment that it had. A leader is told to keep
    /// the stored assignment (KIP-814); one that does not know that is led to believe that it follows its former self.
    pub(crate) fn replacement_committed(&mut self, cx: &mut Context, replaced: &Replaced) {
        let Some(token) = self.end_replacement(cx, replaced) else { return };
        let mut reply = self.joined(&replaced.new_id);
        if replaced.knows_skip_assignment {
            reply.skip_assignment = self.is_leader(&replaced.new_id);
        } else {
            reply.members = Vec::new();
            reply.leader = replaced.old_leader.clone().unwrap_or_default();
        }
        cx.answer_join(Some(token), reply);
    }

    /// The new id of a static member could not be written: the old one stays.
    pub(crate) fn replacement_failed(&mut self, cx: &mut Context, replaced: &Replaced, error: ErrorCode) {
        let Some(token) = self.end_replacement(cx, replaced) else { return };
        let old = &replaced.old;
        self.rename(&replaced.new_id, &old.id);
        self.update(&old.id, old.protocols.clone(), old.rebalance_timeout_ms, old.session_timeout_ms);
        cx.forget_member(&self.id, &replaced.new_id);
        cx.expect_member(&self.id, &old.id, old.session_timeout_ms);
        cx.answer_join(Some(token), JoinReply::refused(ByteString::new(), error));
    }

    /// Takes the JoinGroup of a static member that came back; none if the group has moved on since.
    fn end_replacement(&mut self, cx: &mut Context, replaced: &Replaced) -> Option<u64> {
        if self.state != State::Stable || self.statics.get(&replaced.instance) != Some(&replaced.new_id) {
            return None;
        }
        let member = self.members.get_mut(&replaced.new_id)?;
        let token = member.joining.take()?;
        self.joining -= 1;
        cx.expect_member(&self.id, &member.id, member.session_timeout_ms);
        Some(token)
    }
}

fn refuse(cx: &mut Context, token: u64, join: &Join, error: ErrorCode) {
    cx.reply(token, Reply::Join(JoinReply::refused(join.member_id.clone(), error)));
}

/// A member id as Kafka makes them: the client id or instance id, a dash, a random UUID. A very long prefix is cut.
fn member_id(prefix: &ByteString, rng: &mut Rng) -> ByteString {
    let mut end = prefix.len().min(STRING_BYTES - MEMBER_ID_SUFFIX_BYTES);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let b = u128::from_be_bytes(Uuid::random(rng).0);
    let id = format!(
        "{}-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        &prefix[..end],
        b >> 96,
        b >> 80 & 0xffff,
        b >> 64 & 0xffff,
        b >> 48 & 0xffff,
        b & 0xffff_ffff_ffff,
    );
    ByteString::from(id)
}
