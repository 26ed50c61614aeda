//! What outside bytes may do: for each parser one function that takes any bytes and asserts what must hold.
//!
//! The fuzzer (`fuzz/`, libFuzzer on a nightly toolchain) and the tests of this crate (a bounded number of seeded mutations of the
//! same corpus, on the stable toolchain) call the same functions. Besides what a target asserts itself, [`Target::check`] measures its
//! memory: no input may cost more than a constant and a small multiple of its length. Nothing here is part of the broker.

mod batches;
mod broker;
mod config;
mod directory;
mod groups;
mod host;
mod input;
mod memory;
mod metadata;
mod mutate;
pub mod seeds;
mod storage;
mod voters;
mod wire;

pub use batches::{BATCH_RECORDS, BATCH_SPLIT};
pub use broker::{BROKER, START};
pub use config::CONFIG;
pub use groups::GROUPS;
pub use memory::peak_of;
pub use metadata::{IMAGE, QUORUM};
pub use mutate::Mutator;
pub use storage::{INDEXES, RECOVERY, SMALL_FILES};
pub use voters::VOTERS;
pub use wire::{FRAMES, LOG_RECORDS, REQUESTS, RESPONSES};

/// One property of one parser, or of several that read the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What `cargo xtask fuzz` calls it: the name of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/seeds`.
    pub name: &'static str,
    /// What it proves, in a sentence.
    pub proves: &'static str,
    /// Takes any bytes; panics when something does not hold.
    pub run: fn(&[u8]),
    /// What an input may cost.
    pub memory: Memory,
    /// How many mutated inputs the stable test tries where another target tries a thousand.
    pub per_mille: u32,
}

/// Memory that an input may cost at its peak.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes for any input.
    pub base: usize,
    /// Bytes more for each byte of it.
    pub per_byte: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    FRAMES,
    REQUESTS,
    RESPONSES,
    LOG_RECORDS,
    BATCH_SPLIT,
    BATCH_RECORDS,
    RECOVERY,
    INDEXES,
    SMALL_FILES,
    QUORUM,
    VOTERS,
    IMAGE,
    GROUPS,
    CONFIG,
    START,
    BROKER,
];

impl Target {
    /// Runs the target on `input` and holds its memory against what it may cost.
    pub fn check(&self, input: &[u8]) {
        let ((), peak) = peak_of(|| (self.run)(input));
        let allowed = self.memory.base + self.memory.per_byte * input.len();
        assert!(
            peak <= allowed,
            "{}: {} bytes of input took {peak} bytes of memory, more than {allowed}",
            self.name,
            input.len()
        );
    }
}
