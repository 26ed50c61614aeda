//! The keys of a broker.

use super::def::Def;

/// The keys of a broker, in parts.
pub static BROKER: &[&[Def]] = &[];

/// The broker key of this name.
pub fn broker_key(name: &str) -> Option<&'static Def> {
    BROKER.iter().flat_map(|part| part.iter()).find(|def| def.name == name)
}
