//! Each checker finds the violation it is for when one is planted, and is silent about a sound history.

use moldau_base::Mono;

use crate::history::*;
use crate::watch::Watch;

fn at(index: i32) -> Partition {
    Partition::new("orders", index)
}

fn record(number: u64) -> Record {
    Record { producer: Client(1), number }
}

fn sent(number: u64) -> Event {
    Event::Sent { record: record(number), partition: at(0), delivery: Delivery::Once }
}

fn acknowledged(number: u64, offset: i64) -> Event {
    Event::Acknowledged { record: record(number), partition: at(0), offset }
}

fn assigned(reader: u32, position: i64) -> Event {
    Event::Assigned { reader: Client(reader), partition: at(0), position }
}

/// A fetch of everything from `from` to the last of `records`.
fn read(reader: u32, from: i64, records: &[(i64, u64)]) -> Event {
    let records: Vec<(i64, Record)> =
        records.iter().map(|(offset, number)| (*offset, record(*number))).collect();
    let next = records.last().map_or(from, |(offset, _)| offset + 1);
    let read = Read {
        reader: Client(reader),
        partition: at(0),
        asked: Mono(u64::MAX),
        from,
        records,
        next,
        high_watermark: i64::MAX,
        epoch: None,
    };
    Event::Read(read)
}

fn watermark(asked: u64, high_watermark: i64) -> Event {
    let Event::Read(read) = read(9, 0, &[]) else { unreachable!("read() makes reads") };
    Event::Read(Read { asked: Mono(asked), high_watermark, ..read })
}

fn commit(offset: i64) -> Commit {
    Commit { group: "g".into(), partition: at(0), offset }
}

fn committed_read(asked: u64, offset: Option<i64>) -> Event {
    Event::CommittedRead { group: "g".into(), partition: at(0), asked: Mono(asked), offset }
}

fn owns(member: &str, generation: i32, index: i32) -> Event {
    Event::Owns { group: "g".into(), generation, member: member.into(), partitions: vec![at(index)] }
}

/// The checker that objects, if one does. Event `i` happens at `i * 10`.
fn verdict(events: Vec<Event>) -> Option<&'static str> {
    let mut watch = Watch::all(100);
    for (i, event) in events.into_iter().enumerate() {
        if let Err(violation) = watch.observe(Mono(i as u64 * 10), event) {
            assert!(violation.to_string().starts_with(violation.checker));
            return Some(violation.checker);
        }
    }
    watch.finish().err().map(|violation| violation.checker)
}

#[test]
fn a_sound_history_passes() {
    let events = vec![
        sent(1),
        sent(2),
        acknowledged(1, 0),
        acknowledged(2, 1),
        assigned(2, 0),
        read(2, 0, &[(0, 1), (1, 2)]),
        Event::Committing(commit(2)),
        Event::Committed(commit(2)),
        committed_read(75, Some(2)),
        owns("a", 1, 0),
        owns("b", 1, 1),
        owns("b", 2, 0),
    ];
    assert_eq!(verdict(events), None);
}

#[test]
fn lost_write() {
    let missing = vec![sent(1), sent(2), acknowledged(1, 0), acknowledged(2, 1), read(2, 0, &[(1, 2)])];
    assert_eq!(verdict(missing), Some("LostWrite"));
    let late = vec![sent(1), sent(2), read(2, 0, &[(1, 2)]), acknowledged(1, 0)];
    assert_eq!(verdict(late), Some("LostWrite"));
    let deleted = vec![
        sent(1),
        sent(2),
        acknowledged(1, 0),
        acknowledged(2, 1),
        Event::Trimmable { partition: at(0), before: 1 },
        read(2, 0, &[(1, 2)]),
    ];
    assert_eq!(verdict(deleted), None);
}

#[test]
fn what_may_be_lost_may_be_lost() {
    let lost = Event::MayBeLost { partition: at(0), from: 1 };
    let events = vec![
        sent(1),
        sent(2),
        sent(3),
        acknowledged(1, 0),
        acknowledged(2, 1),
        read(2, 0, &[(0, 1), (1, 2)]),
        lost,
        acknowledged(3, 1),
        read(2, 1, &[(1, 3)]),
        read(3, 0, &[(0, 1), (1, 3)]),
    ];
    assert_eq!(verdict(events), None);
    let lost = Event::MayBeLost { partition: at(0), from: 1 };
    let too_much = vec![sent(1), sent(3), acknowledged(1, 0), lost, read(3, 0, &[(1, 3)])];
    assert_eq!(verdict(too_much), Some("LostWrite"));
}

#[test]
fn duplicate() {
    let twice = vec![sent(1), read(2, 0, &[(0, 1), (1, 1)])];
    assert_eq!(verdict(twice), Some("Duplicate"));
    let plain = Event::Sent { record: record(1), partition: at(0), delivery: Delivery::AtLeastOnce };
    assert_eq!(verdict(vec![plain, read(2, 0, &[(0, 1), (1, 1)])]), None);
}

#[test]
fn inconsistent_offset() {
    let changed = vec![sent(1), sent(2), read(2, 0, &[(0, 1)]), read(3, 0, &[(0, 2)])];
    assert_eq!(verdict(changed), Some("InconsistentOffset"));
}

#[test]
fn unseen_acknowledged() {
    assert_eq!(verdict(vec![sent(1), acknowledged(1, 0)]), Some("UnseenAcknowledged"));
    assert_eq!(verdict(vec![sent(1), read(2, 0, &[(0, 1)]), acknowledged(1, 0)]), None);
}

#[test]
fn what_was_trimmed_need_not_be_seen() {
    let trimmed = Event::Trimmable { partition: at(0), before: 1 };
    assert_eq!(verdict(vec![sent(1), acknowledged(1, 0), trimmed.clone()]), None);
    assert_eq!(verdict(vec![sent(1), trimmed.clone(), acknowledged(1, 0)]), None, "the answer came late");
    assert_eq!(verdict(vec![sent(1), trimmed, acknowledged(1, 1)]), Some("UnseenAcknowledged"));
}

#[test]
fn refused_read() {
    let refused = Event::Refused { record: record(1), partition: at(0) };
    assert_eq!(verdict(vec![sent(1), refused, read(2, 0, &[(0, 1)])]), Some("RefusedRead"));
}

#[test]
fn garbled_read() {
    let garbled = Event::Garbled { reader: Client(2), partition: at(0), offset: 3, what: "short".into() };
    assert_eq!(verdict(vec![garbled]), Some("GarbledRead"));
}

#[test]
fn invented_record() {
    assert_eq!(verdict(vec![sent(1), read(2, 0, &[(0, 1), (1, 7)])]), Some("InventedRecord"));
    let elsewhere = Event::Sent { record: record(1), partition: at(1), delivery: Delivery::Once };
    assert_eq!(verdict(vec![elsewhere, read(2, 0, &[(0, 1)])]), Some("InventedRecord"));
}

#[test]
fn reordered() {
    let swapped = vec![sent(1), sent(2), read(2, 0, &[(0, 2), (1, 1)])];
    assert_eq!(verdict(swapped), Some("Reordered"));
    let by_acknowledgement = vec![sent(1), sent(2), acknowledged(2, 4), acknowledged(1, 5)];
    assert_eq!(verdict(by_acknowledgement), Some("Reordered"));
}

#[test]
fn poll_skip() {
    let start = vec![sent(1), sent(2), sent(3), read(2, 0, &[(0, 1), (1, 2), (2, 3)])];
    let jump = [assigned(3, 0), read(3, 0, &[(0, 1)]), read(3, 2, &[(2, 3)])];
    assert_eq!(verdict(start.iter().cloned().chain(jump).collect()), Some("PollSkip"));
    let hole = [assigned(3, 0), read(3, 0, &[(0, 1), (2, 3)])];
    assert_eq!(verdict(start.iter().cloned().chain(hole).collect()), Some("PollSkip"));
    let elsewhere = [assigned(3, 0), read(3, 0, &[(0, 1)]), assigned(3, 2), read(3, 2, &[(2, 3)])];
    assert_eq!(verdict(start.into_iter().chain(elsewhere).collect()), None);
}

#[test]
fn non_monotonic_poll() {
    let start = vec![sent(1), sent(2), assigned(2, 0), read(2, 0, &[(0, 1), (1, 2)])];
    let again = [read(2, 1, &[(1, 2)])];
    assert_eq!(verdict(start.iter().cloned().chain(again.clone()).collect()), Some("NonMonotonicPoll"));
    let seek = [assigned(2, 1)].into_iter().chain(again);
    assert_eq!(verdict(start.into_iter().chain(seek).collect()), None);
}

#[test]
fn high_watermark_back() {
    assert_eq!(verdict(vec![watermark(0, 5), watermark(5, 4)]), Some("HighWatermarkBack"));
    assert_eq!(verdict(vec![watermark(0, 5), watermark(0, 4)]), None, "both were under way at once");
    let lost = Event::MayBeLost { partition: at(0), from: 3 };
    assert_eq!(verdict(vec![watermark(0, 5), lost, watermark(15, 4)]), None);
    // Told before the loss, received after it.
    let lost = Event::MayBeLost { partition: at(0), from: 3 };
    assert_eq!(verdict(vec![watermark(0, 3), lost.clone(), watermark(5, 5), watermark(25, 3)]), None);
    let told_again = vec![lost, watermark(5, 5), watermark(15, 4), watermark(45, 3)];
    assert_eq!(verdict(told_again), Some("HighWatermarkBack"));
}

#[test]
fn high_watermark_back_in_an_epoch() {
    let fetch = |epoch, high_watermark| {
        let Event::Read(read) = watermark(0, high_watermark) else { unreachable!("watermark() makes reads") };
        Event::Read(Read { asked: Mono(u64::MAX), epoch: Some(epoch), ..read })
    };
    let end = |epoch, offset| {
        let asked = Mono(u64::MAX);
        Event::LogEnd { partition: at(0), asked, epoch: Some(epoch), offset }
    };
    assert_eq!(verdict(vec![fetch(1, 5), fetch(1, 4)]), Some("HighWatermarkBack"));
    assert_eq!(verdict(vec![fetch(1, 5), end(1, 4)]), Some("HighWatermarkBack"));
    assert_eq!(verdict(vec![fetch(1, 5), fetch(2, 4), end(2, 5)]), None, "a new leader learns it late");
    assert_eq!(verdict(vec![fetch(1, 5), end(2, 4)]), Some("HighWatermarkBack"), "and is silent until then");
    assert_eq!(verdict(vec![end(2, 5), fetch(1, 4), end(1, 5)]), None, "the former one does not know");
}

#[test]
fn read_above_high_watermark() {
    let Event::Read(seen) = read(2, 0, &[(0, 1)]) else { unreachable!("read() makes reads") };
    let early = Event::Read(Read { high_watermark: 0, ..seen });
    assert_eq!(verdict(vec![sent(1), early]), Some("ReadAboveHighWatermark"));
}

#[test]
fn committed_offset_back() {
    let start = vec![Event::Committing(commit(3)), Event::Committing(commit(5)), Event::Committed(commit(5))];
    let with = |event: Event| start.iter().cloned().chain([event]).collect();
    assert_eq!(verdict(with(committed_read(25, None))), Some("CommittedOffsetBack"));
    assert_eq!(verdict(with(committed_read(25, Some(3)))), None, "the commit of 3 has no answer yet");
    let refused = vec![Event::CommitRefused(commit(3)), committed_read(25, Some(3))];
    assert_eq!(verdict(start.iter().cloned().chain(refused).collect()), Some("CommittedOffsetBack"));
    assert_eq!(verdict(with(committed_read(15, None))), None, "asked before the commit was acknowledged");
    let forgotten = vec![Event::GroupMayBeLost { group: "g".into() }, committed_read(35, None)];
    assert_eq!(verdict(start.into_iter().chain(forgotten).collect()), None);
}

#[test]
fn commit_invented() {
    assert_eq!(verdict(vec![committed_read(0, Some(3))]), Some("CommitInvented"));
}

#[test]
fn two_owners() {
    assert_eq!(verdict(vec![owns("a", 1, 0), owns("b", 1, 0)]), Some("TwoOwners"));
}

#[test]
fn expired_early() {
    let keeps = |keep_ms| Event::Expires { partition: at(0), keep_ms };
    let begins = |offset| Event::LogStart { partition: at(0), offset };
    // Event i happens at i * 10 nanoseconds: nothing is a millisecond old.
    let gone = |keep_ms| vec![keeps(keep_ms), sent(1), acknowledged(1, 0), begins(1)];
    assert_eq!(verdict(gone(1)), Some("ExpiredEarly"));
    assert_eq!(verdict(gone(0)), None, "its size may have decided");
    let there = vec![keeps(1), sent(1), acknowledged(1, 0), begins(0), read(2, 0, &[(0, 1)])];
    assert_eq!(verdict(there), None);
    let unseen = vec![sent(1), acknowledged(1, 0), begins(1)];
    assert_eq!(verdict(unseen), Some("UnseenAcknowledged"), "nobody said that it may expire");
}

#[test]
fn wrong_by_time() {
    let mut watch = Watch::all(100);
    let mut at_ms = |ms: u64, event| watch.observe(Mono(ms * 1_000_000), event);
    let found = |ms: u64, offset| Event::FoundByTime {
        partition: at(0),
        asked: Mono(90_000_000),
        since: Mono(ms * 1_000_000),
        offset,
    };
    for (ms, event) in [(10, sent(1)), (20, sent(2)), (30, acknowledged(1, 0)), (40, acknowledged(2, 1))] {
        assert!(at_ms(ms, event).is_ok());
    }
    for (since, offset) in
        [(5, Some(0)), (10, Some(0)), (11, Some(1)), (20, Some(1)), (21, None), (21, Some(2))]
    {
        assert!(at_ms(100, found(since, offset)).is_ok(), "{since} {offset:?}");
    }
    for (since, offset) in [(11, Some(0)), (10, Some(1)), (20, None)] {
        let wrong = at_ms(100, found(since, offset)).expect_err("it is wrong");
        assert_eq!(wrong.checker, "WrongByTime", "{since} {offset:?}");
    }
}

#[test]
fn a_report_tells_the_story() {
    let mut watch = Watch::all(100);
    let events = [sent(1), Event::Committing(commit(1)), acknowledged(1, 0), read(2, 0, &[(0, 2)])];
    let result = events.into_iter().try_for_each(|event| watch.observe(Mono(1_500_000_000), event));
    let report = result.expect_err("record 1 is lost").to_string();
    assert_eq!(
        report,
        "LostWrite: c1/1 was acknowledged at orders-0@0, but c2 read 0..1 without it\n\
         \x20     1.500000s  send c1/1 to orders-0 (Once)\n\
         \x20     1.500000s  commit of g at orders-0@1 asked\n\
         \x20     1.500000s  ack c1/1 at orders-0@0\n\
         \x20     1.500000s  c2 read orders-0@0..1 (high watermark 9223372036854775807) 0=c1/2\n"
    );
}
