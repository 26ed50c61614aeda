//! Records that no coordinator would write, and what members named in them then ask: nothing of it may panic or wait for
//! ever.

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{Mono, Now, Rng};
use proptest::prelude::*;

use crate::records::{Entry, GroupValue, MemberValue};
use crate::request::{Heartbeat, Join, Leave, LeavingMember, Protocol, Sync};
use crate::{Config, Coordinator, Effect, Input, Request};

fn name() -> impl Strategy<Value = ByteString> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("")].prop_map(ByteString::from_static)
}

fn member() -> impl Strategy<Value = MemberValue> {
    let timeout = || prop_oneof![Just(-1), Just(0), Just(5_000), Just(i32::MAX)];
    (name(), proptest::option::of(name()), timeout(), timeout()).prop_map(
        |(id, instance, rebalance_timeout_ms, session_timeout_ms)| MemberValue {
            id,
            instance,
            client_id: ByteString::new(),
            client_host: ByteString::new(),
            rebalance_timeout_ms,
            session_timeout_ms,
            subscription: Bytes::from_static(&[255, 255]),
            assignment: Bytes::new(),
        },
    )
}

fn group() -> impl Strategy<Value = GroupValue> {
    let generation = prop_oneof![Just(-1), Just(1), Just(i32::MAX)];
    let names = (name(), proptest::option::of(name()), proptest::option::of(name()));
    (names, generation, proptest::collection::vec(member(), 0..4)).prop_map(
        |((protocol_type, protocol, leader), generation, members)| GroupValue {
            protocol_type,
            generation,
            protocol,
            leader,
            since_ms: -1,
            members,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let generation = prop_oneof![Just(-1), Just(1), Just(2), Just(i32::MAX)];
    let parts = (name(), proptest::option::of(name()), generation, name(), name(), 0..4u8);
    parts.prop_map(|(member_id, instance, generation, protocol_type, protocol, kind)| {
        let group = ByteString::from_static("g");
        match kind {
            0 => Request::Join(Join {
                group,
                session_timeout_ms: 6_000,
                rebalance_timeout_ms: 0,
                member_id,
                group_instance_id: instance,
                protocol_type,
                protocols: vec![Protocol { name: protocol, metadata: Bytes::new() }],
                client_id: ByteString::new(),
                client_host: ByteString::new(),
                knows_member_id_required: false,
                knows_skip_assignment: true,
            }),
            1 => Request::Sync(Sync {
                group,
                generation,
                member_id: member_id.clone(),
                group_instance_id: instance,
                protocol_type: None,
                protocol: None,
                assignments: vec![(member_id, Bytes::new())],
            }),
            2 => Request::Heartbeat(Heartbeat { group, generation, member_id, group_instance_id: instance }),
            _ => Request::Leave(Leave {
                group,
                members: vec![LeavingMember { member_id, group_instance_id: instance }],
            }),
        }
    })
}

/// Gives the input, commits whatever is appended, and counts the answers.
fn step(coordinator: &mut Coordinator, now: Now, input: Input) -> usize {
    let (mut inputs, mut answers) = (vec![input], 0);
    while let Some(input) = inputs.pop() {
        let mut out = Vec::new();
        coordinator.step(now, input, &mut out);
        for effect in out {
            match effect {
                Effect::Reply { .. } => answers += 1,
                Effect::Append { id, .. } => inputs.push(Input::Committed { id }),
            }
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_record_can_be_lived_with(
        value in group(),
        requests in proptest::collection::vec((request(), 0..4_000i64), 0..30),
    ) {
        let mut now = Now { wall_ms: 0, mono: Mono(0) };
        let mut coordinator = Coordinator::new(Config::default(), Rng::seeded(1));
        let entry = Entry::Group { group: ByteString::from_static("g"), value: Some(value) };
        let record = entry.encode().expect("writable");
        coordinator.replay(0, record.key, record.value).expect("readable");
        coordinator.loaded(now, &mut Vec::new());
        let mut open = 0;
        for (token, (request, ms)) in requests.into_iter().enumerate() {
            let request = Box::new(request);
            open += 1;
            open -= step(&mut coordinator, now, Input::Request { token: token as u64, request });
            now = now.after_ms(ms);
            open -= step(&mut coordinator, now, Input::Tick);
        }
        for _ in 0..10 {
            // The longest timeout that a record or a client can name.
            now = now.after_ms(i64::from(i32::MAX));
            open -= step(&mut coordinator, now, Input::Tick);
        }
        prop_assert_eq!(open, 0, "every request is answered once");
    }
}
