//! Bugs that are planted on purpose, so that the simulator can show that it finds them: a test of the tester.
//!
//! The code that a bug is planted in asks [`planted`] once. Without the feature `planted`, which only the simulator turns on, the
//! answer is a constant and nothing of it is compiled; the release binary refuses to be built with the feature. With it, one bug at
//! a time is switched on for the thread that runs a seed.

/// Whether this build can have planted bugs. The node's program asserts that it cannot.
pub const COMPILED_IN: bool = cfg!(feature = "planted");

macro_rules! bugs {
    (
        of one node: $($(#[doc = $about:literal])+ $bug:ident,)*
        of replicas: $($(#[doc = $about_more:literal])+ $more:ident,)*
        of the controller: $($(#[doc = $about_controller:literal])+ $controller:ident,)*
        of clusters: $($(#[doc = $about_cluster:literal])+ $cluster:ident,)*
    ) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[doc = $about])+ $bug,)*
            $($(#[doc = $about_more])+ $more,)*
            $($(#[doc = $about_controller])+ $controller,)*
            $($(#[doc = $about_cluster])+ $cluster,)*
        }

        impl Bug {
            /// Those that a node by itself can have: the simulator looks for them.
            pub const ALL: &[Bug] = &[$(Bug::$bug),*];
            /// Those that need several replicas: the tests of `partition` look for them, and for most of them the simulator.
            pub const OF_REPLICAS: &[Bug] = &[$(Bug::$more),*];
            /// Those of a controller of several brokers: the tests of `controller` look for them, and for some of them the simulator.
            pub const OF_CONTROLLER: &[Bug] = &[$(Bug::$controller),*];

            /// Those that only a whole cluster shows: the simulator looks for them.
            pub const OF_CLUSTERS: &[Bug] = &[$(Bug::$cluster),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Bug::$bug => stringify!($bug),)*
                    $(Bug::$more => stringify!($more),)*
                    $(Bug::$controller => stringify!($controller),)*
                    $(Bug::$cluster => stringify!($cluster),)*
                }
            }

            /// What it does wrong, in a sentence.
            pub fn about(self) -> &'static str {
                match self {
                    $(Bug::$bug => concat!($($about),+).trim_ascii(),)*
                    $(Bug::$more => concat!($($about_more),+).trim_ascii(),)*
                    $(Bug::$controller => concat!($($about_controller),+).trim_ascii(),)*
                    $(Bug::$cluster => concat!($($about_cluster),+).trim_ascii(),)*
                }
            }
        }
    };
}

bugs! {
    of one node:
    /// With a sync per append, a record counts as stored once it is written.
    SkipSync,
    /// A sync that failed is tried again, and what the second one says is believed.
    RetrySync,
    /// Recovery syncs what it finds behind the recovery point and does not write it again.
    TrustPageCache,
    /// A produce request is acknowledged when its write is asked for, not when it is done.
    AcknowledgeEarly,
    /// After a crash a log goes on one offset too low.
    ReuseOffset,
    /// Recovery takes the last whole batch of a file for a torn one.
    RecoveryCutsOne,
    /// Recovery believes what was not synced without looking at checksums.
    RecoveryTakesTorn,
    /// Recovery does not load the producer snapshot.
    ForgetSnapshot,
    /// Recovery does not replay the batches behind the producer snapshot.
    ForgetTail,
    /// ListOffsets answers with the log's end instead of the high watermark.
    LatestIsLogEnd,
    /// An index lookup answers with the entry behind the one that is meant.
    IndexBeyond,
    /// A search by time begins up to a second too late.
    TimeBeyond,
    /// DeleteRecords and retention remove segments that begin less than a thousand offsets behind the start.
    RetainTooLittle,
    /// Retention by time takes records of half the age.
    ExpireEarly,
    /// Whatever sequence number a batch has, it is appended.
    IgnoreSequences,
    /// The files of a deleted topic stay, and the next topic of that name gets them.
    KeepDeleted,
    /// Recovery believes checkpoints by the name of a log, whoever's it was when they were written.
    MarksOfNamesake,
    /// Metadata counts as committed before it is synced.
    MetadataUnsynced,
    /// A block of producer ids is handed out without writing down where the next one begins.
    ProducerIdsAgain,
    /// A change of configuration is answered and does nothing.
    AlterNothing,
    /// The log does not tell who was assigned what.
    AssignmentUnwritten,
    /// A rebalance does not begin a new generation.
    SameGeneration,
    /// An offset commit is answered before it is written.
    CommitUnwritten,
    /// OffsetDelete is answered and does nothing.
    DeleteNothing,
    /// A member of an earlier generation may commit offsets.
    CommitOfFormer,
    /// A fetch session forgets that the client has moved on.
    SessionStands,
    /// Recovery takes what was copied so far of a partition, for a move to another log directory, for all of it.
    AdoptPartCopy,
    of replicas:
    /// A follower cuts its log at its high watermark and does not ask where the leader's parts from it.
    TruncateToHighWatermark,
    /// A leader believes fetches of another leader epoch.
    AnyEpochCounts,
    /// A replica outside of the in-sync set counts in place of one that is in it.
    OutsiderCounts,
    /// A leader takes a broker that is fenced into the in-sync set.
    FencedJoins,
    /// acks=all is acknowledged when the leader has stored it.
    LeaderAlone,
    /// A follower joins the in-sync set before it has reached the high watermark.
    ExpandEarly,
    /// A smaller in-sync set counts as soon as it is proposed.
    ProposedShrinkCounts,
    /// A larger in-sync set counts only when it is known to be committed.
    ProposedExpansionIgnored,
    of the controller:
    /// A broker that is up is elected whether it was in sync or not.
    ElectOutsideIsr,
    /// A leader that does not know of the last change of its partition may change the in-sync set.
    StalePartitionEpoch,
    /// A broker that is fenced may be in sync.
    FencedInSync,
    /// Another leader takes over in the leader epoch of the former.
    SameLeaderEpoch,
    of clusters:
    /// A partition that has more does not wake the session of a follower that has everything.
    FollowersSleepOn,
    /// A new leader tells where the log ends before it knows what its followers have.
    EndAtOnce,
    /// Consumers are given what the leader has stored, whoever else has it.
    ReadStored,
    /// A leader does not look where a follower's log parts from its own.
    LogsNeverPart,
    /// A follower that has cut its log still knows the producers of what it cut.
    KeepCutProducers,
    /// Whatever min.insync.replicas says, the leader goes on by itself.
    MinIsrIgnored,
    /// A snapshot of the metadata does not say who is eligible to lead.
    SnapshotForgetsEligible,
    /// A broker whose machine has lost power tells the controller that only its process had ended.
    BootsAlike,
    /// Neither the leader nor the controller looks whether a broker is fenced before it counts as in sync.
    FencesIgnored,
    /// Nobody looks again who is silent when the metadata has changed: a controller that is no broker is not woken by heartbeats of its own.
    SilenceUnheard,
    /// A move is complete at once, as if the replicas that are added were in sync.
    MovedTooEarly,
}

/// Whether this bug is switched on.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use switch::{plant, planted};

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches a bug on in this thread, or all off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is switched on in this thread.
    #[inline]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
