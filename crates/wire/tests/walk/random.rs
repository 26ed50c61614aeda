//! Random values of any message, valid in a version.

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::{Rng, Uuid};
use moldau_wire::{ErrorCode, Message, Records};

use super::{Walk, Walker};

/// A message with random values in every field that this version has, and defaults in the others.
pub fn random<M: Message + Walk>(rng: &mut Rng, version: i16) -> M {
    let mut message = M::default();
    message.walk(version, &mut Filler { rng, name: "", depth: 0, small: None });
    message
}

/// A message of few bytes: arrays down to this depth have three elements and deeper ones none, strings are empty,
/// what may be null is.
pub fn small<M: Message + Walk>(depth: usize, version: i16) -> M {
    let mut message = M::default();
    let rng = &mut Rng::seeded(0);
    message.walk(version, &mut Filler { rng, name: "", depth: 0, small: Some(depth) });
    message
}

struct Filler<'a> {
    rng: &'a mut Rng,
    name: &'static str,
    depth: usize,
    small: Option<usize>,
}

impl Filler<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        if self.small.is_some() { 0 } else { self.rng.below(limit) }
    }

    /// Mostly small numbers, now and then any number; the ends of the range are what codecs get wrong.
    fn number(&mut self, min: i64, max: i64) -> i64 {
        match self.below(8) {
            0 => min,
            1 => max,
            2 => -1_i64.max(min),
            3 => 0,
            4 => (self.rng.next_u64() as i64).clamp(min, max),
            _ => self.below(1000).min(max as u64) as i64,
        }
    }

    /// The other codec keeps this field as a date, which has fewer values than a number.
    fn is_date(&self) -> bool {
        self.name.contains("timestamp") || self.name.ends_with("time_ms")
    }

    fn random_bytes(&mut self) -> Bytes {
        let len = match self.below(6) {
            0 => 0,
            1 => 511 + self.below(3),
            2 => self.below(2000),
            _ => self.below(20),
        };
        (0..len).map(|_| self.rng.next_u64() as u8).collect::<Vec<u8>>().into()
    }
}

const LETTERS: [&str; 12] = ["a", "b", "topic", "-", "_", ".", "7", "é", "Ж", "日", "𝄞", " "];

impl Walker for Filler<'_> {
    fn begin(&mut self) {
        self.depth += 1;
    }

    fn end(&mut self) {
        self.depth -= 1;
    }

    fn name(&mut self, name: &'static str) {
        self.name = name;
    }

    fn bool(&mut self, value: &mut bool) {
        *value = self.below(2) == 0;
    }

    fn i8(&mut self, value: &mut i8) {
        *value = self.number(i8::MIN.into(), i8::MAX.into()) as i8;
    }

    fn i16(&mut self, value: &mut i16) {
        *value = self.number(i16::MIN.into(), i16::MAX.into()) as i16;
    }

    fn u16(&mut self, value: &mut u16) {
        *value = self.number(0, u16::MAX.into()) as u16;
    }

    fn i32(&mut self, value: &mut i32) {
        *value = self.number(i32::MIN.into(), i32::MAX.into()) as i32;
    }

    fn i64(&mut self, value: &mut i64) {
        *value = match self.is_date() {
            true => self.below(4_000_000_000_000) as i64,
            false => self.number(i64::MIN, i64::MAX),
        };
    }

    fn error(&mut self, value: &mut ErrorCode) {
        *value = ErrorCode(self.below(135) as i16 - 1);
    }

    fn uuid(&mut self, value: &mut Uuid) {
        if self.below(4) > 0 {
            *value = Uuid::random(self.rng);
        }
    }

    fn string(&mut self, value: &mut ByteString) {
        let len = match self.below(8) {
            0 => 0,
            1 => 130,
            _ => self.below(12),
        };
        let text: String = (0..len).map(|_| LETTERS[self.below(LETTERS.len() as u64) as usize]).collect();
        *value = text.into();
    }

    fn bytes(&mut self, value: &mut Bytes) {
        *value = self.random_bytes();
    }

    fn records(&mut self, value: &mut Records) {
        *value = match self.below(5) {
            0 => Records::Null,
            _ => Records::Bytes(self.random_bytes()),
        };
    }

    fn array<T: Default>(&mut self, items: &mut Vec<T>, mut each: impl FnMut(&mut T, &mut Self)) {
        let len = match self.small {
            Some(depth) if self.depth <= depth => 3,
            _ => self.below(4),
        };
        items.clear();
        for _ in 0..len {
            let mut item = T::default();
            each(&mut item, self);
            items.push(item);
        }
    }

    fn nullable<T: Default>(
        &mut self,
        allowed: bool,
        value: &mut Option<T>,
        inner: impl FnOnce(&mut T, &mut Self),
    ) {
        *value = None;
        if !allowed || self.below(4) > 0 {
            let mut some = T::default();
            inner(&mut some, self);
            *value = Some(some);
        }
    }
}
