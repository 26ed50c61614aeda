//! Transactions and idempotent producers.

use super::super::def::{Def, Unit, bool, int, short};

const TX: &str = "transactions do not exist yet, and transactional requests are refused";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    int(
        "add.partitions.to.txn.retry.backoff.max.ms",
        "100",
        "Longest pause before a partition is added to a transaction again.",
    )
    .unit(Unit::Milliseconds)
    .min(0)
    .no_meaning(TX),
    int(
        "add.partitions.to.txn.retry.backoff.ms",
        "20",
        "First pause before a partition is added to a transaction again.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(TX),
    int(
        "producer.id.expiration.check.interval.ms",
        "600000",
        "Time between two looks for expired producers.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .hidden()
    .no_meaning("it is looked at whenever the log's age is"),
    int(
        "producer.id.expiration.ms",
        "86400000",
        "How long a partition remembers an idempotent producer that is silent.",
    )
    .unit(Unit::Milliseconds)
    .min(1),
    int(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "10000",
        "Time between two looks for transactions that timed out.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(TX),
    int("transaction.max.timeout.ms", "900000", "Longest timeout that a transaction may have.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(TX),
    bool(
        "transaction.partition.verification.enable",
        "true",
        "Check with the coordinator that a partition is part of a transaction.",
    )
    .cluster_wide()
    .no_meaning(TX),
    int(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "3600000",
        "Time between two looks for expired transactional ids.",
    )
    .unit(Unit::Milliseconds)
    .min(1)
    .no_meaning(TX),
    int(
        "transaction.state.log.load.buffer.size",
        "5242880",
        "Bytes per read when a coordinator loads its partition.",
    )
    .unit(Unit::Bytes)
    .min(1)
    .no_meaning(TX),
    int("transaction.state.log.min.isr", "2", "min.insync.replicas of __transaction_state.")
        .min(1)
        .no_meaning(TX),
    int("transaction.state.log.num.partitions", "50", "Partitions of __transaction_state.")
        .min(1)
        .no_meaning(TX),
    short("transaction.state.log.replication.factor", "3", "Replicas of __transaction_state.")
        .min(1)
        .no_meaning(TX),
    int("transaction.state.log.segment.bytes", "104857600", "Segment size of __transaction_state.")
        .unit(Unit::Bytes)
        .min(1)
        .no_meaning(TX),
    bool("transaction.two.phase.commit.enable", "false", "Let a client coordinate two-phase commits.")
        .only(&["false"], "transactions do not exist yet; leave transaction.two.phase.commit.enable=false"),
    int("transactional.id.expiration.ms", "604800000", "How long a transactional id that is silent is kept.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(TX),
];
