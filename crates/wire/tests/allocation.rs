//! No input makes a decoder allocate more than a small constant times its length: random messages of every kind and
//! version, with every place in them forged into a length that promises too much.
#![allow(unsafe_code)] // an allocator that counts cannot be written without

mod walk;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use moldau_base::Rng;
use moldau_wire::{
    ApiKey, DecodeError, Form, Frame, FrameError, MAX_REQUEST_ARRAY_BYTES, Message, Request, Segment, Writer,
    describe_groups, frame,
};
use walk::random::random;
use walk::{Kind, Visitor, Walk, visit_all};

/// Memory per byte of input, in the worst case an array of empty strings: 32 bytes for one, and the array is copied
/// once when it grows.
const PER_BYTE: usize = 64;
/// What the smallest input may cost: a few first rooms of arrays.
const AT_LEAST: usize = 4096;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn grown(by: usize) {
    LIVE.with(|live| {
        live.set(live.get() + by);
        PEAK.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.with(|live| live.set(live.get().saturating_sub(layout.size())));
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that was in use in the course of `work`, beyond what was in use before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

/// Byte sequences that say "very much" in one form of length or the other.
const FORGERIES: [&[u8]; 9] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x80, 0x80, 0x80, 0x01],
    &[0x7f, 0xff],
    &[0x00, 0x00, 0x00, 0x20],
    &[0x20],
];

struct Forge {
    rng: Rng,
    worst: (usize, String),
    inputs: usize,
}

impl Forge {
    fn feed<M: Message>(&mut self, input: Bytes, version: i16) {
        let length = input.len();
        let (_, peak) = peak_of(|| M::from_bytes(input, version).map(drop));
        self.inputs += 1;
        assert!(
            peak <= PER_BYTE * length + AT_LEAST,
            "{} v{version}: {length} bytes of input took {peak} bytes of memory",
            M::NAME
        );
        if length > 1000 && peak / length > self.worst.0 {
            self.worst = (peak / length, format!("{} v{version}", M::NAME));
        }
    }
}

impl Visitor for Forge {
    fn visit<M: Message + Walk>(&mut self, _: Kind) {
        for version in M::VERSIONS.iter() {
            for _ in 0..3 {
                let message: M = random(&mut self.rng, version);
                let valid = message.to_bytes(version).expect("a message of this version");
                for at in 0..valid.len().min(200) {
                    let forgery = FORGERIES[self.rng.below(FORGERIES.len() as u64) as usize];
                    let rest = valid.get(at + forgery.len()..).unwrap_or_default();
                    self.feed::<M>([&valid[..at], forgery, rest].concat().into(), version);
                }
            }
            for fill in [0x00, 0x01, 0x02, 0x10, 0x7f, 0x80, 0xff] {
                self.feed::<M>(vec![fill; 3000].into(), version);
            }
        }
    }
}

#[test]
fn forged_lengths_cost_nothing() {
    let mut forge = Forge { rng: Rng::seeded(3), worst: (0, String::new()), inputs: 0 };
    visit_all(&mut forge);
    println!("{} inputs; the dearest: {} bytes per byte, {}", forge.inputs, forge.worst.0, forge.worst.1);
}

/// The dearest request there is: group ids of no letters, one byte each on the wire.
fn empty_strings(count: usize) -> Bytes {
    let mut writer = Writer::bare();
    writer.length(Form::Compact, count);
    writer.raw(&vec![1; count]);
    writer.raw(&[0, 0]);
    writer.into_bytes().expect("no payload in it")
}

#[test]
fn many_small_elements_stay_within_the_constant() {
    let input = empty_strings(100_000);
    let length = input.len();
    let (request, peak) = peak_of(|| Request::decode(ApiKey::DescribeGroups, 5, input));
    let Ok(Request::DescribeGroups(describe_groups::Request { groups, .. })) = request else {
        panic!("{request:?}")
    };
    assert_eq!(groups.len(), 100_000);
    assert!(peak <= PER_BYTE * length, "{length} bytes took {peak}");
}

#[test]
fn a_request_cannot_ask_for_gigabytes() {
    let count = MAX_REQUEST_ARRAY_BYTES / 32 + 1;
    let input = empty_strings(count);
    let (request, peak) = peak_of(|| Request::decode(ApiKey::DescribeGroups, 5, input));
    assert!(matches!(request, Err(DecodeError::TooManyElements { .. })), "{request:?}");
    assert!(peak < 1000, "{peak}");
}

#[test]
fn lengths_of_frames_are_judged_before_memory_is_taken() {
    for (length, expected) in [
        (-1, FrameError::Negative { length: -1 }),
        (i32::MIN, FrameError::Negative { length: i32::MIN }),
        (i32::MAX, FrameError::TooLong { length: i32::MAX as u32, limit: 1000 }),
        (1001, FrameError::TooLong { length: 1001, limit: 1000 }),
        (0, FrameError::TooShort { length: 0 }),
    ] {
        let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
        let (result, peak) = peak_of(|| frame::split(&mut buffer, 1000));
        assert_eq!((result, peak), (Err(expected), 0));
    }
    let mut buffer = BytesMut::from(&b"\0\0\0\x05hello\0\0\0\x05he"[..]);
    assert_eq!(frame::split(&mut buffer, 5), Ok(Some(Bytes::from_static(b"hello"))));
    assert_eq!(frame::split(&mut buffer, 5), Ok(None));
    assert_eq!(buffer.len(), 6);
}

#[test]
fn payloads_are_not_copied() {
    let payload = Bytes::from(vec![7; 1_000_000]);
    let mut writer = Writer::frame();
    let (_, peak) = peak_of(|| writer.bytes(Form::Compact, &payload));
    assert!(peak < 1000, "{peak}");
    let frame = writer.finish().expect("short enough");
    let Frame { segments, len } = frame;
    assert_eq!(len, 4 + 3 + 1_000_000);
    let Segment::Bytes(shared) = &segments[1] else { panic!("{segments:?}") };
    assert_eq!(shared.as_ptr(), payload.as_ptr());
}
