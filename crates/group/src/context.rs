//! What the rules of a group may touch besides the group: the time, the settings, deadlines, offsets, and the way out
//! for answers and records.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{Now, Rng};
use moldau_wire::ErrorCode;

use crate::config::Config;
use crate::coordinator::Effect;
use crate::group::Member;
use crate::offsets::{OffsetKey, Offsets};
use crate::records::{Entry, Record};
use crate::request::{JoinReply, OffsetFetch, Reply, SyncReply};
use crate::timers::{Timer, Timers};

/// What is to be done when an append is committed or has failed.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing.
    Nothing,
    /// Give the answer; if the append fails, the same answer with its error.
    Reply { token: u64, reply: Reply },
    /// Nothing; if the append fails, the record of the empty group is due again.
    Emptied { group: ByteString, generation: i32 },
    /// Hand out the leader's assignment.
    Assign { group: ByteString, generation: i32, assignments: BTreeMap<ByteString, Bytes> },
    /// Welcome a static member that came back under a new id, or restore the old one.
    Replaced(Box<Replaced>),
}

/// A static member that came back while its group was stable.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) group: ByteString,
    pub(crate) instance: ByteString,
    /// The member as it was.
    pub(crate) old: Member,
    pub(crate) new_id: ByteString,
    /// Who led before.
    pub(crate) old_leader: Option<ByteString>,
    pub(crate) knows_skip_assignment: bool,
}

/// An append that is neither committed nor failed.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) then: Then,
    /// The offsets that it changes.
    pub(crate) offsets: Vec<OffsetKey>,
    /// The groups whose tombstones it carries.
    pub(crate) removed: Vec<ByteString>,
    /// Requests that want to see its result.
    pub(crate) waiting: Vec<(u64, OffsetFetch)>,
    /// It is in the log, and nobody waits for it any more.
    pub(crate) in_doubt: bool,
}

/// All appends that are neither committed nor failed.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    next: u64,
    pub(crate) open: BTreeMap<u64, Write>,
    /// Appends that failed before they left the coordinator.
    pub(crate) stillborn: Vec<u64>,
}

/// The surroundings of a group during one step.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a Config,
    pub(crate) rng: &'a mut Rng,
    pub(crate) timers: &'a mut Timers,
    pub(crate) offsets: &'a mut Offsets,
    pub(crate) writes: &'a mut Writes,
    /// Requests that wait and whose sender is still there.
    pub(crate) parked: &'a mut BTreeSet<u64>,
    pub(crate) out: &'a mut Vec<Effect>,
}

impl Context<'_> {
    /// Answers a request at once.
    pub(crate) fn reply(&mut self, token: u64, reply: Reply) {
        self.out.push(Effect::Reply { token, reply });
    }

    /// Notes that a request waits for its answer.
    pub(crate) fn park(&mut self, token: u64) {
        self.parked.insert(token);
    }

    /// Answers a request that waits, unless its sender has gone.
    pub(crate) fn answer(&mut self, token: u64, reply: Reply) {
        if self.parked.remove(&token) {
            self.out.push(Effect::Reply { token, reply });
        }
    }

    /// Answers a member's JoinGroup if one waits.
    pub(crate) fn answer_join(&mut self, joining: Option<u64>, reply: JoinReply) {
        if let Some(token) = joining {
            self.answer(token, Reply::Join(reply));
        }
    }

    /// Answers a member's SyncGroup if one waits.
    pub(crate) fn answer_sync(&mut self, syncing: Option<u64>, reply: SyncReply) {
        if let Some(token) = syncing {
            self.answer(token, Reply::Sync(reply));
        }
    }

    /// Sets a deadline.
    pub(crate) fn after_ms(&mut self, timer: Timer, ms: i32) {
        self.timers.set(timer, self.now.mono.after_ms(i64::from(ms)));
    }

    /// The member must be heard of within `ms`.
    pub(crate) fn expect_member(&mut self, group: &ByteString, member: &ByteString, ms: i32) {
        self.after_ms(Timer::Session { group: group.clone(), member: member.clone() }, ms);
    }

    /// The member is not expected any more.
    pub(crate) fn forget_member(&mut self, group: &ByteString, member: &ByteString) {
        self.timers.cancel(&Timer::Session { group: group.clone(), member: member.clone() });
    }

    /// Asks the host to append records, as one atomic batch. Records that cannot be written count as an append that fails.
    pub(crate) fn append(&mut self, entries: Vec<Entry>, then: Then) {
        let id = self.writes.next;
        self.writes.next += 1;
        if let Then::Reply { token, .. } = &then {
            self.parked.insert(*token);
        }
        let mut write =
            Write { then, offsets: Vec::new(), removed: Vec::new(), waiting: Vec::new(), in_doubt: false };
        let records: Result<Vec<Record>, _> = entries.iter().map(Entry::encode).collect();
        if let Ok(records) = records {
            self.note(id, entries, &mut write);
            self.out.push(Effect::Append { id, records });
        } else {
            self.writes.stillborn.push(id);
        }
        self.writes.open.insert(id, write);
    }

    fn note(&mut self, id: u64, entries: Vec<Entry>, write: &mut Write) {
        for entry in entries {
            match entry {
                Entry::Offset { group, topic, partition, value } => {
                    let key = OffsetKey { group, topic, partition };
                    self.offsets.write(id, &key, value);
                    write.offsets.push(key);
                }
                Entry::Group { group, value: None } => write.removed.push(group),
                Entry::Group { .. } => {}
            }
        }
    }
}

/// The error of records that no schema can hold.
pub(crate) const UNWRITABLE: ErrorCode = ErrorCode::UNKNOWN_SERVER_ERROR;
