//! The records of `__consumer_offsets`: what a coordinator makes of any of them, and of requests that follow.

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{Mono, Now, Rng};
use moldau_group::request::{
    DeleteGroups, DescribeGroups, FetchGroup, Heartbeat, Join, Leave, LeavingMember, ListGroups, OffsetFetch,
    Protocol, Sync,
};
use moldau_group::{Config, Coordinator, Effect, Input as Told, Record, Request};

use crate::input::{Input, put_piece};
use crate::{Memory, Target};

/// A coordinator that replays any records.
pub const GROUPS: Target = Target {
    name: "groups",
    proves: "a coordinator replays any records, answers every request that follows once, and replays what it wrote itself",
    run: groups,
    memory: Memory { base: 1 << 20, per_byte: 2048 },
    per_mille: 500,
};

/// Requests that one input may ask; time that passes with each is part of it.
const REQUESTS: usize = 40;

/// Pairs of pieces are records; an empty key ends them. What follows are requests.
fn groups(input: &[u8]) {
    let mut input = Input(input);
    let mut coordinator = Coordinator::new(Config::default(), Rng::seeded(1));
    let mut names = Vec::new();
    let mut offset = 0;
    while let Some(key) = input.piece().filter(|key| !key.is_empty()) {
        let value = input.optional().flatten();
        if let Some(name) = text_of(key) {
            names.push(name);
        }
        // A record that is not understood is named and left out.
        let _ = coordinator.replay(offset, Bytes::copy_from_slice(key), value);
        offset += 1;
    }
    let mut played =
        Played { coordinator, now: Now { wall_ms: 1_000_000, mono: Mono(0) }, open: 0, written: Vec::new() };
    played.loaded();
    for token in 0..REQUESTS {
        let Some((request, wait_ms)) = request(&mut input, &names) else { break };
        played.open += 1;
        played.tell(Told::Request { token: token as u64, request: Box::new(request) });
        played.now = played.now.after_ms(wait_ms);
        played.tell(Told::Tick);
    }
    for _ in 0..10 {
        // The longest timeout that a record or a client can name.
        played.now = played.now.after_ms(i64::from(i32::MAX));
        played.tell(Told::Tick);
    }
    assert_eq!(played.open, 0, "every request is answered once");
    let mut again = Coordinator::new(Config::default(), Rng::seeded(2));
    for (offset, record) in (0..).zip(played.written) {
        again.replay(offset, record.key, record.value).expect("what a coordinator wrote is read");
    }
}

/// A name that a key may hold: behind its version, a length and text.
fn text_of(key: &[u8]) -> Option<ByteString> {
    let name = Input(key.get(2..)?).piece()?;
    ByteString::try_from(Bytes::copy_from_slice(name)).ok()
}

struct Played {
    coordinator: Coordinator,
    now: Now,
    open: usize,
    written: Vec<Record>,
}

impl Played {
    fn loaded(&mut self) {
        let mut out = Vec::new();
        self.coordinator.loaded(self.now, &mut out);
        self.carry_out(out);
    }

    fn tell(&mut self, told: Told) {
        let mut out = Vec::new();
        self.coordinator.step(self.now, told, &mut out);
        self.carry_out(out);
    }

    /// Commits whatever is appended, and counts the answers.
    fn carry_out(&mut self, mut effects: Vec<Effect>) {
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Reply { .. } => {
                    self.open = self.open.checked_sub(1).expect("a request is answered once")
                }
                Effect::Append { id, records } => {
                    self.written.extend(records);
                    self.coordinator.step(self.now, Told::Committed { id }, &mut effects);
                }
            }
        }
    }
}

/// A request of a few bytes, and the milliseconds that pass behind it.
fn request(input: &mut Input<'_>, names: &[ByteString]) -> Option<(Request, i64)> {
    let (kind, name, member, generation, wait) =
        (input.byte()?, input.byte()?, input.byte()?, input.byte()?, input.byte()?);
    let group = match names.get(usize::from(name)) {
        Some(name) => name.clone(),
        None => ByteString::from_static("g"),
    };
    let member_id = match member {
        0 => ByteString::new(),
        member if member < 200 => ByteString::from(format!("m{}", member % 4)),
        _ => ByteString::try_from(Bytes::copy_from_slice(input.piece()?)).unwrap_or_default(),
    };
    let generation = match generation {
        255 => i32::MAX,
        254 => -1,
        generation => i32::from(generation),
    };
    let instance = (kind & 0x80 != 0).then(|| ByteString::from_static("i"));
    let request = match kind & 0x7f {
        0..20 => Request::Join(join(group, member_id, instance, wait)),
        20..40 => Request::Sync(Sync {
            group,
            generation,
            member_id: member_id.clone(),
            group_instance_id: instance,
            protocol_type: None,
            protocol: None,
            assignments: vec![(member_id, Bytes::from_static(b"assigned"))],
        }),
        40..60 => Request::Heartbeat(Heartbeat { group, generation, member_id, group_instance_id: instance }),
        60..80 => {
            let members = vec![LeavingMember { member_id, group_instance_id: instance }];
            Request::Leave(Leave { group, members })
        }
        80..90 => Request::OffsetFetch(OffsetFetch {
            groups: vec![FetchGroup { group, topics: None }],
            require_stable: instance.is_some(),
        }),
        90..100 => {
            Request::DescribeGroups(DescribeGroups { groups: vec![group], knows_group_id_not_found: true })
        }
        100..110 => Request::DeleteGroups(DeleteGroups { groups: vec![group] }),
        _ => Request::ListGroups(ListGroups::default()),
    };
    Some((request, i64::from(wait) * i64::from(wait) * 8))
}

fn join(group: ByteString, member_id: ByteString, instance: Option<ByteString>, wait: u8) -> Join {
    Join {
        group,
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: i32::from(wait) * 100,
        member_id,
        group_instance_id: instance,
        protocol_type: ByteString::from_static("consumer"),
        protocols: vec![Protocol { name: ByteString::from_static("range"), metadata: Bytes::new() }],
        client_id: ByteString::from_static("c"),
        client_host: ByteString::from_static("/10.0.0.1"),
        knows_member_id_required: wait.is_multiple_of(2),
        knows_skip_assignment: wait.is_multiple_of(3),
    }
}

/// The input that holds these records and asks a few things of each group.
pub(crate) fn describe(records: &[(Bytes, Option<Bytes>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        put_piece(&mut out, key);
        match value {
            Some(value) => put_piece(&mut out, value),
            None => out.extend_from_slice(&u16::MAX.to_be_bytes()),
        }
    }
    put_piece(&mut out, &[]);
    for kind in [110, 90, 80, 0, 40, 20, 60, 100] {
        out.extend_from_slice(&[kind, 0, 1, 1, 10]);
    }
    out
}
