//! A host for one coordinator, and the words to talk to it.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod host;
pub mod script;
