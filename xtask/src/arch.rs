//! `cargo xtask arch`: `arch.toml` beside what the workspace is.
//!
//! Owns the comparison of the crates' dependencies with the allowed ones, and of the cores with what makes them
//! deterministic. Reads `cargo metadata` and source text; it builds nothing. Every breach is one line that names the file to mend.

mod edges;
mod metadata;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use metadata::Metadata;

/// What `arch.toml` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arch {
    crates: BTreeMap<String, Place>,
    tests: Tests,
    cores: Cores,
    #[serde(rename = "unsafe")]
    unsafe_code: Unsafe,
}

/// One crate's ring, and what it may use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    ring: u8,
    uses: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tests {
    uses: BTreeSet<String>,
}

/// What no crate below `host_ring` may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cores {
    host_ring: u8,
    packages: BTreeSet<String>,
    modules: Vec<String>,
    methods: Vec<String>,
    types: Vec<String>,
    guests: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsafe {
    files: BTreeSet<String>,
}

impl Arch {
    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).context("arch.toml")
    }

    /// The names of the crates that must be deterministic.
    fn cores(&self) -> impl Iterator<Item = &str> {
        let below = self.cores.host_ring;
        self.crates.iter().filter(move |(_, place)| place.ring < below).map(|(name, _)| name.as_str())
    }
}

/// Compares the checkout with its `arch.toml`; the error lists every breach.
pub fn check(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join("arch.toml")).context("arch.toml")?;
    let arch = Arch::parse(&text)?;
    let metadata = Metadata::of(root)?;
    let mut breaches = edges::breaches(&arch, &metadata);
    breaches.extend(sources::breaches(&arch, root)?);
    if !breaches.is_empty() {
        bail!("{} breaches of arch.toml:\n  {}", breaches.len(), breaches.join("\n  "));
    }
    println!("arch: {} crates, {} of them deterministic", arch.crates.len(), arch.cores().count());
    Ok(())
}
