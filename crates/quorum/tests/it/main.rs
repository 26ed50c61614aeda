//! The quorum from outside: a host, and a disk that forgets.

mod meta;
mod model;
mod quorum;
