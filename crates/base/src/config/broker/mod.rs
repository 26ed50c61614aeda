//! Every key that the broker of Kafka 4.3 knows, and those of Moldau alone (`moldau.*`, `cluster.id`), in the
//! parts in which the reference shows them.

mod groups;
mod log;
mod network;
mod node;
mod other;
mod quorum;
mod quotas;
mod replication;
mod security;
mod tiering;
mod topics;
mod transactions;

use super::def::{Def, Group};

/// The keys of a broker by part; sorted by name within each.
pub static BROKER: &[(Group, &[Def])] = &[
    (Group::Node, node::KEYS),
    (Group::Network, network::KEYS),
    (Group::Topics, topics::KEYS),
    (Group::Log, log::KEYS),
    (Group::Groups, groups::KEYS),
    (Group::Transactions, transactions::KEYS),
    (Group::Replication, replication::KEYS),
    (Group::Quorum, quorum::KEYS),
    (Group::Quotas, quotas::KEYS),
    (Group::Security, security::KEYS),
    (Group::Tiering, tiering::KEYS),
    (Group::Other, other::KEYS),
];

/// The keys of a broker, part after part.
pub fn broker_keys() -> impl Iterator<Item = &'static Def> {
    BROKER.iter().flat_map(|(_, keys)| keys.iter())
}

/// The broker key of this name.
pub fn broker_key(name: &str) -> Option<&'static Def> {
    BROKER
        .iter()
        .find_map(|(_, keys)| keys.binary_search_by(|def| def.name.cmp(name)).ok().map(|at| &keys[at]))
}
