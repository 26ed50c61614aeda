//! Why a run failed: which promise was broken, and what is known of it. Promises between clients are the checkers' of
//! `moldau-check`; those that only the simulator can see have their names here.

use std::fmt;

use moldau_check::Violation;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who noticed: the name of a checker, or one of the constants here.
    pub checker: &'static str,
    /// In a sentence, with the numbers.
    pub what: String,
}

/// A client was answered what nothing excuses.
pub const BAD_ANSWER: &str = "BadAnswer";
/// Somebody does not get on although all faults are over.
pub const NO_PROGRESS: &str = "NoProgress";
/// A shard broke the contract with its host.
pub const BAD_SHARD: &str = "BadShard";
/// What is in memory is not what a replay of the log gives.
pub const REPLAY_DIFFERS: &str = "ReplayDiffers";
/// The node, or its metadata quorum, does not start or go on.
pub const BROKEN_NODE: &str = "BrokenNode";
/// The broker forgot where an idempotent producer was.
pub const NUMBERING_LOST: &str = "NumberingLost";
/// A producer id was handed out twice.
pub const PRODUCER_ID_TWICE: &str = "ProducerIdTwice";
/// A committed offset is neither what was last committed nor what may have been.
pub const WRONG_OFFSET: &str = "WrongOffset";
/// A topic's configuration or partitions are not what was last acknowledged, nor what may have been.
pub const WRONG_METADATA: &str = "WrongMetadata";
/// Retention left more than it may, or took more than it must.
pub const WRONG_SIZE: &str = "WrongSize";
/// The log ends below an offset that a reader had reached.
pub const END_WENT_BACK: &str = "EndWentBack";
/// Two nodes lead one partition in one epoch.
pub const TWO_LEADERS: &str = "TwoLeaders";
/// An in-sync replica does not have everything that is committed.
pub const NOT_IN_SYNC: &str = "NotInSync";
/// An in-sync replica has something else than what is committed.
pub const COMMITTED_DIFFERS: &str = "CommittedDiffers";
/// A broker that is fenced counts as in sync.
pub const FENCED_MEMBER: &str = "FencedMember";
/// A broker that fell silent is counted on for too long.
pub const SILENT_BROKER_STAYS_IN: &str = "SilentBrokerStaysIn";
/// Two nodes that have read the metadata log up to one offset know different things.
pub const IMAGES_DIFFER: &str = "ImagesDiffer";
/// The broker panicked.
pub const PANIC: &str = "Panic";
/// Two runs of a seed were not the same.
pub const NOT_REPRODUCIBLE: &str = "NotReproducible";

impl Failure {
    /// What `checker` noticed.
    pub fn new(checker: &'static str, what: impl Into<String>) -> Failure {
        Failure { checker, what: what.into() }
    }
}

impl From<&Violation> for Failure {
    fn from(violation: &Violation) -> Failure {
        let told = violation.to_string();
        let what = told.strip_prefix(violation.checker).and_then(|rest| rest.strip_prefix(": "));
        Failure::new(violation.checker, what.unwrap_or(&told))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}
