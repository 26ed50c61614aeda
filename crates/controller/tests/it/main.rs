//! The controller from outside: transcripts to read, and properties of random histories.

mod cluster;
mod history;
mod model;
mod say;
mod transcripts;
mod world;
