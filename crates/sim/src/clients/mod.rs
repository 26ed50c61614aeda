//! Simulated clients: each an `async` function over a [`crate::cx::Cx`] that behaves as the clients of the field do, retries
//! included, and tells the checkers what it did and saw.

pub mod admin;
pub mod cluster;
pub mod deaf;
pub mod member;
pub mod mover;
pub mod operator;
pub mod producer;
pub mod reader;
pub mod register;
pub mod relocator;
pub mod solo;
pub mod value;
