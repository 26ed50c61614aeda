//! A walk over the fields of any message, for tests: random values, values as JSON, tables of all messages.

#![allow(dead_code)] // each test uses a part of it

mod generated;
pub mod random;
pub mod show;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_wire::{ErrorCode, Message, Records};

pub use generated::visit_all;

/// Which side of the protocol a message is on, with the API's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request(i16),
    Response(i16),
    Data,
}

/// Something to do with every message type.
pub trait Visitor {
    fn visit<M: Message + Walk>(&mut self, kind: Kind);
}

/// A structure that can show the fields it has in a version.
pub trait Walk {
    fn walk<W: Walker>(&mut self, version: i16, w: &mut W);
}

/// What is done with the fields that a walk shows: they may be read or changed.
pub trait Walker: Sized {
    fn begin(&mut self);
    fn end(&mut self);
    fn name(&mut self, name: &'static str);
    fn bool(&mut self, value: &mut bool);
    fn i8(&mut self, value: &mut i8);
    fn i16(&mut self, value: &mut i16);
    fn u16(&mut self, value: &mut u16);
    fn i32(&mut self, value: &mut i32);
    fn i64(&mut self, value: &mut i64);
    fn error(&mut self, value: &mut ErrorCode);
    fn uuid(&mut self, value: &mut Uuid);
    fn string(&mut self, value: &mut ByteString);
    fn bytes(&mut self, value: &mut Bytes);
    fn records(&mut self, value: &mut Records);
    fn array<T: Default>(&mut self, items: &mut Vec<T>, each: impl FnMut(&mut T, &mut Self));
    fn nullable<T: Default>(
        &mut self,
        allowed: bool,
        value: &mut Option<T>,
        inner: impl FnOnce(&mut T, &mut Self),
    );
}
