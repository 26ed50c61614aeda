//! The controller from outside: transcripts to read, and properties of random histories.

mod cluster;
mod history;
mod say;
mod transcripts;
mod world;
