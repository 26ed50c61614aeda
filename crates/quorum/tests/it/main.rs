//! The quorum from outside: a host, and a disk that forgets.

mod changes;
mod full;
mod hostile;
mod kafka;
mod meta;
mod model;
mod observers;
mod quorum;
mod voters;
