//! The test of the tester: for each planted bug (`moldau_base::planted`) the workloads and the checkers that have to find it,
//! and the search for the first seed that does.

use moldau_base::planted::Bug;

use crate::failure;
use crate::guard::guarded;
use crate::run::{Outcome, Plan};
use crate::workload;

/// A bug that is not found within so many seeds is a fault of the simulator.
pub const SEEDS: u64 = 300;

/// Who has to find a bug.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The bug.
    pub bug: Bug,
    /// The workload, by its name.
    pub workload: &'static str,
    /// The checkers that may object; the bug breaks their promises and no other.
    pub checkers: &'static [&'static str],
}

/// Lost records are noticed by whoever comes by first.
const LOST: &[&str] = &["LostWrite", "UnseenAcknowledged", "InconsistentOffset"];

/// What was forgotten in the middle of a log leaves a hole, too.
const FORGOTTEN: &[&str] = &[
    "LostWrite",
    "UnseenAcknowledged",
    "InconsistentOffset",
    "GarbledRead",
    "HighWatermarkBack",
    failure::REPLAY_DIFFERS,
];

/// What a new leader does not have, or has otherwise.
const UNSHARED: &[&str] = &[
    "LostWrite",
    "UnseenAcknowledged",
    "InconsistentOffset",
    "HighWatermarkBack",
    failure::NOT_IN_SYNC,
    failure::COMMITTED_DIFFERS,
];

/// What somebody lacks who is believed to have everything: producers notice, too, that they are forgotten.
const BELIEVED: &[&str] = &[
    "LostWrite",
    "UnseenAcknowledged",
    "InconsistentOffset",
    "HighWatermarkBack",
    failure::NOT_IN_SYNC,
    failure::COMMITTED_DIFFERS,
    failure::NUMBERING_LOST,
];

/// The bugs that are looked for.
pub fn bugs() -> Vec<Bug> {
    let all = [Bug::ALL, Bug::OF_REPLICAS, Bug::OF_CONTROLLER, Bug::OF_CLUSTERS].concat();
    all.into_iter().filter(|bug| !expectation(*bug).workload.is_empty()).collect()
}

/// What is expected of each bug; no workload for those that nothing here shows.
pub fn expectation(bug: Bug) -> Expectation {
    let (workload, checkers): (_, &'static [&'static str]) = match bug {
        Bug::SkipSync | Bug::AcknowledgeEarly => ("power", LOST),
        Bug::RetrySync | Bug::TrustPageCache => ("bad-disk", FORGOTTEN),
        Bug::ReuseOffset => {
            ("produce", &["InconsistentOffset", "LostWrite", "HighWatermarkBack", failure::END_WENT_BACK])
        }
        Bug::RecoveryCutsOne => ("produce", LOST),
        Bug::RecoveryTakesTorn => ("unsynced", &["GarbledRead", "InventedRecord", failure::REPLAY_DIFFERS]),
        Bug::ForgetSnapshot | Bug::ForgetTail => {
            ("produce", &["Duplicate", failure::NUMBERING_LOST, failure::REPLAY_DIFFERS])
        }
        Bug::LatestIsLogEnd => ("power", &["HighWatermarkBack"]),
        Bug::IndexBeyond => ("produce", &["LostWrite", "PollSkip"]),
        Bug::TimeBeyond => ("produce", &["WrongByTime"]),
        Bug::RetainTooLittle => ("retention", LOST),
        Bug::IgnoreSequences => ("produce", &["Duplicate", "Reordered"]),
        Bug::KeepDeleted => ("churn", &["InventedRecord", "LostWrite", failure::REPLAY_DIFFERS]),
        Bug::MarksOfNamesake => {
            ("churn", &["Duplicate", "LostWrite", "UnseenAcknowledged", failure::REPLAY_DIFFERS])
        }
        Bug::MetadataUnsynced => {
            ("churn", &[failure::NO_PROGRESS, failure::BAD_ANSWER, failure::BROKEN_NODE])
        }
        Bug::ProducerIdsAgain => ("produce", &[failure::PRODUCER_ID_TWICE]),
        Bug::SameGeneration => ("groups", &["TwoOwners"]),
        Bug::CommitUnwritten => ("offsets", &[failure::WRONG_OFFSET]),
        Bug::DeleteNothing => ("offsets", &[failure::WRONG_OFFSET]),
        Bug::ExpireEarly => ("expiry", &["ExpiredEarly"]),
        Bug::AlterNothing => ("alter", &[failure::WRONG_METADATA]),
        Bug::AssignmentUnwritten => ("groups", &[failure::REPLAY_DIFFERS]),
        Bug::CommitOfFormer => ("groups", &["CommittedOffsetBack"]),
        Bug::SessionStands => ("produce", &[failure::BAD_ANSWER]),
        Bug::AdoptPartCopy => ("relocate", FORGOTTEN),
        Bug::TruncateToHighWatermark
        | Bug::OutsiderCounts
        | Bug::ProposedShrinkCounts
        | Bug::LeaderAlone
        | Bug::ExpandEarly
        | Bug::ElectOutsideIsr
        | Bug::MinIsrIgnored => ("cluster", UNSHARED),
        // The tests of `partition` and `controller` find them; here they are too rare, or were not looked for yet.
        Bug::AnyEpochCounts | Bug::ProposedExpansionIgnored | Bug::StalePartitionEpoch => ("", &[]),
        Bug::BootsAlike => ("cluster", BELIEVED),
        Bug::FencesIgnored => ("cluster", &[failure::FENCED_MEMBER]),
        Bug::SilenceUnheard => ("cluster-roles", &[failure::SILENT_BROKER_STAYS_IN]),
        Bug::MovedTooEarly => ("cluster-moves", UNSHARED),
        Bug::SameLeaderEpoch => ("cluster", &[failure::TWO_LEADERS, failure::NO_PROGRESS]),
        Bug::FollowersSleepOn => ("cluster", &[failure::NO_PROGRESS]),
        Bug::EndAtOnce => ("cluster", &["HighWatermarkBack"]),
        Bug::ReadStored => ("cluster", &["ReadAboveHighWatermark"]),
        Bug::LogsNeverPart => ("cluster", UNSHARED),
        Bug::KeepCutProducers => ("cluster", &["Duplicate", failure::REPLAY_DIFFERS]),
        Bug::SnapshotForgetsEligible => ("cluster", &[failure::IMAGES_DIFFER]),
        // Leader and controller both look whether a broker is fenced: the tests of each of them find when it does not.
        Bug::FencedJoins | Bug::FencedInSync => ("", &[]),
    };
    Expectation { bug, workload, checkers }
}

/// How a search for a bug ended.
#[derive(Clone)]
pub struct Search {
    /// What was looked for.
    pub expected: Expectation,
    /// The first seed that found it, and what came of it.
    pub found: Option<(Plan, Outcome)>,
    /// Seeds that failed before, by other checkers.
    pub others: Vec<(u64, &'static str)>,
}

/// Runs seeds with the bug until one of the expected checkers objects.
pub fn search(bug: Bug, seeds: u64) -> Search {
    let expected = expectation(bug);
    let mut others = Vec::new();
    let Some(workload) = workload::find(expected.workload) else {
        return Search { expected, found: None, others };
    };
    for seed in 1..=seeds {
        let plan = Plan { planted: Some(bug), ..Plan::whole(seed, workload) };
        let outcome = guarded(&plan);
        match &outcome.failure {
            Some(failure) if expected.checkers.contains(&failure.checker) => {
                return Search { expected, found: Some((plan, outcome)), others };
            }
            Some(failure) => others.push((seed, failure.checker)),
            None => {}
        }
    }
    Search { expected, found: None, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_workload_and_a_checker() {
        for bug in bugs() {
            let expected = expectation(bug);
            assert!(workload::find(expected.workload).is_some(), "{}", bug.name());
            assert!(!expected.checkers.is_empty(), "{}", bug.name());
            assert!(bug.about().ends_with('.'), "{}", bug.about());
        }
    }
}
