//! A classic group: its members, its state, and the rules that need nothing else (which protocol wins, who leads, who
//! may join). What happens over time is in `join`, `rebalance` and `session`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use moldau_wire::consumer_protocol::Subscription;
use moldau_wire::{ErrorCode, Reader};

use crate::config::Config;
use crate::records::{Entry, GroupValue, MemberValue};
use crate::request::{JoinReply, JoinedMember, Protocol};

/// The protocol type of consumers; only its subscriptions are understood.
pub(crate) const CONSUMER: &str = "consumer";

/// Where a group stands. A group that is not there is what Kafka calls Dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No members; there may be offsets.
    Empty,
    /// Waiting for members to join the next generation.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Everyone has, or can ask for, an assignment.
    Stable,
}

impl State {
    /// Kafka's spelling.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: ByteString,
    pub(crate) instance: Option<ByteString>,
    pub(crate) client_id: ByteString,
    pub(crate) client_host: ByteString,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// The JoinGroup that waits for the next generation.
    pub(crate) joining: Option<u64>,
    /// The SyncGroup that waits for the assignment.
    pub(crate) syncing: Option<u64>,
    /// Has never been in a generation.
    pub(crate) is_new: bool,
}

impl Member {
    /// Waiting for an answer counts as being alive, except for a member that has not had its first answer.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// What the member said with `protocol`.
    pub(crate) fn metadata(&self, protocol: Option<&ByteString>) -> Bytes {
        let named = self.protocols.iter().find(|p| Some(&p.name) == protocol);
        named.map(|p| p.metadata.clone()).unwrap_or_default()
    }
}

/// How the first rebalance of a group is stretched while members keep coming.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InitialDelay {
    pub(crate) delay_ms: i32,
    pub(crate) remaining_ms: i32,
}

/// A group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: ByteString,
    pub(crate) state: State,
    /// Wall clock of the last change that was written down.
    pub(crate) since_ms: i64,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<ByteString>,
    pub(crate) protocol: Option<ByteString>,
    pub(crate) leader: Option<ByteString>,
    pub(crate) members: BTreeMap<ByteString, Member>,
    /// Member ids by instance id.
    pub(crate) statics: BTreeMap<ByteString, ByteString>,
    /// Ids that were given out and have not come back.
    pub(crate) pending: BTreeSet<ByteString>,
    /// Members of this generation that have not asked for their assignment.
    pub(crate) pending_sync: BTreeSet<ByteString>,
    /// How many members wait in JoinGroup.
    pub(crate) joining: usize,
    /// How many members support each protocol.
    supported: BTreeMap<ByteString, usize>,
    /// Topics of all members; `None` if they are not known.
    pub(crate) subscribed: Option<BTreeSet<ByteString>>,
    /// In the first rebalance after being empty: its delay.
    pub(crate) initial: Option<InitialDelay>,
    /// A member has joined since the initial delay was last set.
    pub(crate) new_member_added: bool,
    /// The leader's assignment of this generation is being written.
    pub(crate) assigning: bool,
    /// The log has a record of the group, or was asked to take one.
    pub(crate) recorded: bool,
    /// Tombstones of the group that are neither committed nor failed.
    pub(crate) burials: usize,
    /// The record of the empty group could not be written and is due.
    pub(crate) unwritten: bool,
}

impl Group {
    /// A group without members.
    pub(crate) fn empty(id: ByteString, now_ms: i64) -> Group {
        Group {
            id,
            state: State::Empty,
            since_ms: now_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            joining: 0,
            supported: BTreeMap::new(),
            subscribed: None,
            initial: None,
            new_member_added: false,
            assigning: false,
            recorded: false,
            burials: 0,
            unwritten: false,
        }
    }

    /// The group that a record describes. A member supports what it supported when the record was written.
    pub(crate) fn restore(id: ByteString, value: GroupValue) -> Group {
        let mut group = Group::empty(id, value.since_ms);
        group.recorded = true;
        group.generation = value.generation;
        group.protocol = value.protocol;
        group.leader = value.leader;
        for member in value.members {
            if group.members.contains_key(&member.id) {
                continue;
            }
            let name = group.protocol.clone().unwrap_or_default();
            group.add(Member {
                id: member.id,
                instance: member.instance,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: vec![Protocol { name, metadata: member.subscription }],
                assignment: member.assignment,
                joining: None,
                syncing: None,
                is_new: false,
            });
        }
        if group.leader.as_ref().is_none_or(|leader| !group.members.contains_key(leader)) {
            group.leader = group.members.keys().next().cloned();
        }
        group.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group.subscribed = group.compute_subscribed();
        group
    }

    /// The record that describes the group, with these assignments.
    pub(crate) fn record(&self, assignment: impl Fn(&Member) -> Bytes) -> Entry {
        let members = self.members.values().map(|member| MemberValue {
            id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_ref()),
            assignment: assignment(member),
        });
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: members.collect(),
        };
        Entry::Group { group: self.id.clone(), value: Some(value) }
    }

    pub(crate) fn is_leader(&self, member: &ByteString) -> bool {
        self.leader.as_ref() == Some(member)
    }

    pub(crate) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref().is_some_and(|name| name == CONSUMER)
    }

    /// Nobody is a member, waits to be one or was given an id to become one.
    pub(crate) fn is_deserted(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// Nobody is there, and the log says nothing of the group.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.is_deserted() && !self.recorded && self.burials == 0
    }

    /// All members wait in JoinGroup and nobody is expected.
    pub(crate) fn all_joined(&self) -> bool {
        self.members.len() == self.joining && self.pending.is_empty()
    }

    /// The longest time that a member wants to be waited for.
    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Adds a member; its JoinGroup, if it has one, counts as waiting.
    pub(crate) fn add(&mut self, member: Member) {
        self.pending.remove(&member.id);
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.count(&member.protocols);
        self.joining += usize::from(member.joining.is_some());
        let before = self.members.insert(member.id.clone(), member);
        assert!(before.is_none(), "a member is added once");
    }

    /// Removes a member and returns it, so that the caller answers what it waits for. Somebody else leads if it led.
    pub(crate) fn remove(&mut self, id: &ByteString) -> Option<Member> {
        self.pending.remove(id);
        self.pending_sync.remove(id);
        let member = self.members.remove(id)?;
        self.uncount(&member.protocols);
        self.joining -= usize::from(member.joining.is_some());
        if let Some(instance) = &member.instance
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member a new id; returns it as it was, so that the caller fences the old one.
    pub(crate) fn rename(&mut self, old: &ByteString, new: &ByteString) -> Option<Member> {
        let before = self.members.remove(old)?;
        self.joining -= usize::from(before.joining.is_some());
        let mut member = before.clone();
        member.id = new.clone();
        member.joining = None;
        member.syncing = None;
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), new.clone());
        }
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        self.members.insert(new.clone(), member);
        Some(before)
    }

    /// Takes over what a member says about itself in a JoinGroup.
    pub(crate) fn update(
        &mut self,
        id: &ByteString,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let before = std::mem::replace(&mut member.protocols, protocols);
        self.uncount(&before);
        let after = self.members.get(id).map(|member| member.protocols.clone()).unwrap_or_default();
        self.count(&after);
    }

    fn count(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.supported.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn uncount(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supported.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
    }

    /// Whether a member with these protocols shares one with everybody else.
    pub(crate) fn supports(&self, protocol_type: &ByteString, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let all = self.members.len();
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols.iter().any(|p| self.supported.get(&p.name).copied().unwrap_or(0) == all)
    }

    /// The protocol with the most votes: each member votes for the first of its protocols that all support. Of several
    /// the leader's favourite wins.
    pub(crate) fn select_protocol(&self) -> Option<ByteString> {
        let all = self.members.len();
        let is_candidate = |p: &&Protocol| self.supported.get(&p.name) == Some(&all);
        let mut votes: BTreeMap<&ByteString, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(protocol) = member.protocols.iter().find(is_candidate) {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let won = |name: &ByteString| votes.get(name) == Some(&most);
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let favourite = leader.and_then(|leader| leader.protocols.iter().find(|p| won(&p.name)));
        match favourite {
            Some(protocol) => Some(protocol.name.clone()),
            None => votes.iter().find(|(_, count)| **count == most).map(|(name, _)| (*name).clone()),
        }
    }

    /// Makes sure that the leader has joined; false if nobody has.
    pub(crate) fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_ref().and_then(|id| self.members.get(id)) else { return false };
        if leader.joining.is_some() {
            return true;
        }
        let joined = self.members.values().find(|member| member.joining.is_some());
        match joined {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// Whether `member_id` may join: an existing member mostly, a further one if there is room.
    pub(crate) fn has_room_for(&self, member_id: &ByteString, config: &Config) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.joining.is_some()) || self.joining < config.max_size
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < config.max_size
            }
        }
    }

    /// Checks the ids that a member calls itself by.
    pub(crate) fn validate_member(
        &self,
        member_id: &ByteString,
        instance: Option<&ByteString>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(known) if known != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// The answer that tells a member of the current generation.
    pub(crate) fn joined(&self, member_id: &ByteString) -> JoinReply {
        let members = if self.is_leader(member_id) { self.joined_members() } else { Vec::new() };
        JoinReply {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let members = self.members.values().map(|member| JoinedMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
        });
        members.collect()
    }

    /// Whether offsets of the topic are in use. A group of consumers whose subscriptions are not known uses all.
    pub(crate) fn is_subscribed(&self, topic: &ByteString) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    /// The topics that the members of a consumer group subscribe to, if all of them can be read.
    pub(crate) fn compute_subscribed(&self) -> Option<BTreeSet<ByteString>> {
        if !self.is_consumer() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(member.metadata(self.protocol.as_ref()))?);
        }
        Some(topics)
    }
}

/// The topics of a `ConsumerProtocolSubscription`; what follows them in later versions is not looked at.
fn subscribed_topics(metadata: Bytes) -> Option<Vec<ByteString>> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16().ok()?;
    if version < 0 {
        return None;
    }
    Some(Subscription::decode(&mut reader, 0).ok()?.topics)
}
