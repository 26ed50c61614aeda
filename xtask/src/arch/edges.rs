//! The arrows between crates: those that `arch.toml` allows must be sound, those of the workspace must be allowed.

use std::collections::{BTreeMap, VecDeque};

use super::Arch;
use super::metadata::{Kind, Metadata, plain};

/// Everything that is wrong about dependencies, one line each.
pub fn breaches(arch: &Arch, metadata: &Metadata) -> Vec<String> {
    let mut found = unsound(arch);
    for name in &metadata.members {
        match arch.crates.contains_key(name) {
            true => found.extend(unallowed(arch, metadata, name)),
            false => found.push(format!("crates/{name} has no ring: add it to arch.toml")),
        }
    }
    for name in arch.crates.keys().filter(|name| !metadata.members.contains(*name)) {
        found.push(format!("arch.toml names `{name}`, the workspace has no such crate"));
    }
    for core in arch.cores() {
        found.extend(hosts_reached(arch, metadata, core));
    }
    found
}

/// Allowed arrows that do not go to a lower ring.
fn unsound(arch: &Arch) -> Vec<String> {
    let mut found = Vec::new();
    for (name, place) in &arch.crates {
        for used in &place.uses {
            let Some(below) = arch.crates.get(used) else {
                found.push(format!("arch.toml: `{name}` uses `{used}`, which is no crate of the workspace"));
                continue;
            };
            let ground = place.ring == 0 && below.ring == 0 && below.uses.is_empty();
            if below.ring >= place.ring && !ground {
                found.push(format!(
                    "arch.toml: `{name}` (ring {}) uses `{used}` (ring {}): an arrow goes to a lower ring",
                    place.ring, below.ring
                ));
            }
        }
    }
    found
}

/// Arrows of crate `name` to other crates of the workspace that `arch.toml` does not have.
fn unallowed(arch: &Arch, metadata: &Metadata, name: &str) -> Vec<String> {
    let Some(place) = arch.crates.get(name) else { return Vec::new() };
    let sibling = |used: &&str| *used != name && metadata.members.contains(*used);
    let mut found = Vec::new();
    for used in metadata.uses(name, &[Kind::Normal, Kind::Build]).into_iter().filter(sibling) {
        if !place.uses.contains(used) {
            found.push(format!("crates/{name}/Cargo.toml: `{name}` must not use `{used}` (see arch.toml)"));
        }
    }
    for used in metadata.uses(name, &[Kind::Dev]).into_iter().filter(sibling) {
        if !place.uses.contains(used) && !arch.tests.uses.contains(used) {
            found.push(format!("crates/{name}/Cargo.toml: tests of `{name}` must not use `{used}`"));
        }
    }
    found
}

/// Packages of the outer world that a core would be linked with.
fn hosts_reached(arch: &Arch, metadata: &Metadata, core: &str) -> Vec<String> {
    let mut reached_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([core]);
    let mut found = Vec::new();
    while let Some(package) = queue.pop_front() {
        for used in metadata.uses(package, &[Kind::Normal]) {
            let guests = &arch.cores.guests;
            let is_guest = guests.contains_key(used) || guests.contains_key(plain(used));
            if used == core || reached_from.contains_key(used) || is_guest {
                continue;
            }
            reached_from.insert(used, package);
            match arch.cores.packages.contains(plain(used)) {
                true => found.push(format!("`{core}` must not be linked with {}", path(&reached_from, used))),
                false => queue.push_back(used),
            }
        }
    }
    found
}

/// `tokio (by hyper, by axum)`.
fn path(reached_from: &BTreeMap<&str, &str>, package: &str) -> String {
    let mut by = Vec::new();
    let mut at = package;
    while let Some(from) = reached_from.get(at) {
        by.push(format!("by {from}"));
        at = from;
    }
    format!("{package} ({})", by.join(", "))
}
