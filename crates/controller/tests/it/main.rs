//! The controller from outside: transcripts to read, and properties of random histories.

mod history;
mod say;
mod transcripts;
mod world;
