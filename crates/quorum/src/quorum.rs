//! The quorum as its host sees it: proposals and calls of other voters go in, committed records and calls to others
//! come out of [`Quorum::step`].
//!
//! openraft is a guest that runs only inside the calls of this file, on a runtime that is given the time and
//! a seed: the host owns the thread and the clock, so the node and the simulator run the same code.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk};
use moldau_base::voter::{QuorumState, ReplicaState, VoterChange, VoterRefusal};
use moldau_base::{Mono, NodeId, Now, Uuid};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{AsyncRuntime, Raft};

use crate::event::{CallId, Event, ProposalId, ProposeError};
use crate::observe::{Observer, Observers, Pull};
use crate::progress;
use crate::recovery::Damage;
use crate::runtime::Runtime;
use crate::store::{Shared, Store};
use crate::types::{LogId, Records, Types, Voter};
use crate::{room, serve, start, voters};

/// Proposals whose outcome is not known yet; more are refused.
pub const MAX_PROPOSALS: usize = 10_000;
/// Bytes that a batch has beside its records, or more.
const BATCH_BYTES: u64 = 128;
/// Bytes that a record has beside its value, at most.
const RECORD_BYTES: u64 = 32;
/// Bytes of one proposal; more are refused.
pub const MAX_PROPOSAL_BYTES: usize = 64 << 20;

/// When a leader is lost, the first of the other voters stands at once, and each further one so much later: of two that stood at
/// the same time neither would be elected. It is a vote and two syncs of a slow disk.
const LOST_STEP: Duration = Duration::from_millis(50);

/// What a quorum is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// `node.id`.
    pub node: NodeId,
    /// The voters of a new quorum, the same on each of them; the log knows them afterwards. Empty on a node that is to join a quorum.
    pub voters: BTreeMap<NodeId, Voter>,
    /// How the voters watch each other; a voter that is alone does not.
    pub pace: Pace,
    /// `metadata.log.dir`.
    pub dir: DirId,
    /// The id of that directory.
    pub directory: Uuid,
    /// Of the randomness of elections.
    pub seed: u64,
    /// `metadata.log.segment.bytes`: a segment is not begun before the last one has this many.
    pub segment_bytes: u64,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub snapshot_bytes: u64,
}

/// How often a leader is heard, and how long it may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Milliseconds between two signs of life of a leader.
    pub heartbeat_ms: u64,
    /// A voter that has heard nothing for a random time between these two (in milliseconds) stands for election; the
    /// second is also how long a voter that hears its leader refuses to elect another.
    pub election_ms: (u64, u64),
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { heartbeat_ms: 50, election_ms: (250, 500) }
    }
}

impl Config {
    /// Whether this node is all there is.
    pub(crate) fn is_alone(&self) -> bool {
        self.voters.len() == 1 && self.voters.contains_key(&self.node)
    }

    /// A quorum of this one node, with sizes that keep recovery short.
    pub fn alone(node: NodeId, directory: Uuid, seed: u64) -> Config {
        Config {
            node,
            voters: BTreeMap::from([(node, Voter::from(directory))]),
            pace: Pace::default(),
            dir: DirId::default(),
            directory,
            seed,
            segment_bytes: 16 << 20,
            snapshot_bytes: 20 << 20,
        }
    }
}

/// Why a quorum does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This node is not a voter.
    #[error("node {node} is not among the voters of the metadata quorum ({voters:?})")]
    NotVoter {
        /// This node.
        node: NodeId,
        /// Those that are named.
        voters: Vec<NodeId>,
    },
    /// The log belongs to other voters.
    #[error(
        "the metadata log on this disk is of other voters: {0}; correct controller.quorum.voters, or give this node its own disk. Voters are added with \
         kafka-metadata-quorum add-controller"
    )]
    OtherVoters(String),
    /// What is on disk cannot be used.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// openraft refused to start.
    #[error("the metadata quorum does not start: {0}")]
    Guest(String),
}

/// The metadata quorum of a node.
pub struct Quorum {
    node: NodeId,
    snapshot_bytes: u64,
    runtime: Runtime,
    shared: Rc<RefCell<Shared>>,
    raft: Raft<Types, Store>,
    next_proposal: u64,
    leader: Option<(i32, Option<NodeId>)>,
    snapshot_due: bool,
    failed: bool,
    cut_bytes: u64,
    observers: Observers,
    /// There are other voters.
    tell_of_commits: bool,
    /// A leader of which no majority has been heard for so long tells observers nothing.
    followed_for: Duration,
    /// The entry of the voters that the host was told of last.
    told_voters: Option<LogId>,
    /// The voters that the host was told to be silent.
    told_silent: Vec<NodeId>,
    /// A change of the voters is under way that somebody asked for.
    changing: Rc<Cell<bool>>,
    /// It is being written down what the log does not say of the voters.
    naming: Rc<Cell<bool>>,
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quorum")
            .field("node", &self.node)
            .field("leader", &self.leader)
            .finish_non_exhaustive()
    }
}

impl Quorum {
    /// Recovers what is on disk. When it returns, a voter that is alone leads and has committed everything: the
    /// events say so. Blocks for the disk.
    pub fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Quorum, StartError> {
        if !config.voters.is_empty() && !config.voters.contains_key(&config.node) {
            let voters = config.voters.keys().copied().collect();
            return Err(StartError::NotVoter { node: config.node, voters });
        }
        let (shared, cut_bytes) = start::recover(&config, Arc::clone(&disk), now)?;
        room::give_up(&*disk, config.dir);
        // Without room, what is written first says so.
        let _ = shared.borrow_mut().log.find_room(room::START_BYTES);
        let runtime = Runtime::seeded(config.seed);
        let raft = start::build(&config, &runtime, &shared, now)?;
        let mut quorum = Quorum {
            node: config.node,
            snapshot_bytes: config.snapshot_bytes,
            runtime,
            shared,
            raft,
            next_proposal: 0,
            leader: None,
            snapshot_due: false,
            failed: false,
            cut_bytes,
            observers: Observers::default(),
            followed_for: Duration::from_millis(config.pace.election_ms.1.saturating_mul(2)),
            tell_of_commits: !config.is_alone(),
            told_voters: None,
            told_silent: Vec::new(),
            changing: Rc::default(),
            naming: Rc::default(),
        };
        quorum.check_voters(&config)?;
        quorum.know_nodes();
        quorum.begin(&config);
        quorum.step(now, events);
        room::keep(&*disk, config.dir);
        let leads = quorum.leader.is_some_and(|(_, leader)| leader == Some(config.node));
        match leads || quorum.failed || !config.is_alone() {
            true => Ok(quorum),
            false => Err(StartError::Guest("this node is not elected".to_owned())),
        }
    }

    fn know_nodes(&self) {
        let named = Arc::clone(&self.raft.metrics().borrow_watched().membership_config);
        self.shared.borrow_mut().named = named;
    }

    fn check_voters(&self, config: &Config) -> Result<(), StartError> {
        let _entered = self.runtime.enter();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let is_new = membership.voter_ids().next().is_none() && self.shared.borrow().log.last().is_none();
        if config.is_alone() && membership.voter_ids().any(|voter| voter != config.node) {
            let voters: Vec<NodeId> = membership.voter_ids().collect();
            let why = format!("it names the voters {voters:?}, the configuration only node {}", config.node);
            return Err(StartError::OtherVoters(why));
        }
        match is_new {
            true => Ok(()),
            false => self.shared.borrow().check_voters(membership).map_err(StartError::OtherVoters),
        }
    }

    /// A log without entries begins with its voters, which is the same entry on each of them; otherwise a voter that
    /// is alone stands at once, as nobody else could lead.
    fn begin(&self, config: &Config) {
        // In which directory each of them has its log, and where it listens, is written down later.
        let bare = |(node, voter): (&NodeId, &Voter)| (*node, Voter::from(voter.directory));
        let voters: BTreeMap<NodeId, Voter> = config.voters.iter().map(bare).collect();
        let (raft, alone) = (self.raft.clone(), config.is_alone());
        let empty = self.shared.borrow().log.last().is_none();
        self.runtime.start(async move {
            // A failure shows in the metrics, which `step` reads.
            if empty && !voters.is_empty() {
                let _ = raft.initialize(voters).await;
            } else if alone {
                let _ = raft.trigger().elect(false).await;
            }
        });
    }

    /// A call of another voter has come; [`Event::Answer`] with this token is its answer.
    pub fn called(&mut self, token: u64, from: NodeId, request: Bytes) {
        let (raft, shared) = (self.raft.clone(), Rc::clone(&self.shared));
        self.runtime.start(async move {
            let answer = serve::answer(raft, Rc::clone(&shared), from, request).await;
            let directory = shared.borrow().directory;
            // What cannot be written down is too long, and nothing that is answered is.
            let answer = answer.encode(directory).unwrap_or_default();
            shared.borrow_mut().events.push_back(Event::Answer { token, answer });
        });
    }

    /// The answer to an [`Event::Call`], or `None` when there is none: the connection broke, nobody listens.
    pub fn answered(&mut self, call: CallId, answer: Option<Bytes>) {
        self.shared.borrow_mut().calls.answered(call, answer);
    }

    /// An observer asks; [`Event::Pulled`] with this token is its answer, which may have to wait for a commit.
    pub fn pull(&mut self, token: u64, pull: Pull, now: Now) {
        self.observers.pull(token, pull, now);
    }

    /// How far the observers are; empty on a voter that does not lead.
    pub fn observers(&self, wall_ms: i64) -> impl Iterator<Item = Observer> {
        self.observers.known(wall_ms)
    }

    /// `node` is dead beyond doubt: its connections broke and it does not listen. If it leads, the others elect at once
    /// and do not wait out its lease.
    pub fn lost(&mut self, node: NodeId) {
        if self.leader.and_then(|(_, leader)| leader) != Some(node) || node == self.node {
            return;
        }
        self.shared.borrow_mut().leader_lost = true;
        let (term, before) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.membership().voter_ids();
            let before = voters.filter(|voter| *voter != node).position(|voter| voter == self.node);
            (metrics.current_term, before)
        };
        let Some(wait) = before.and_then(|before| LOST_STEP.checked_mul(u32::try_from(before).ok()?)) else {
            return;
        };
        let (raft, shared) = (self.raft.clone(), Rc::clone(&self.shared));
        self.runtime.start(async move {
            Runtime::sleep(wait).await;
            // Whoever stood meanwhile, or was given this one's vote, has made the term another one.
            let same = raft.metrics().borrow_watched().current_term == term;
            if same && shared.borrow().leader_lost {
                // A failure shows in the metrics, which `step` reads.
                let _ = raft.trigger().elect(false).await;
            }
        });
    }

    /// Gives leadership to another voter, if this one leads: before it stops, for example.
    pub fn hand_over(&mut self, to: NodeId) {
        let raft = self.raft.clone();
        self.runtime.start(async move {
            // If it does not come to that, the voters elect.
            let _ = raft.trigger().transfer_leader(to).await;
        });
    }

    /// Changes who votes, on the leader; [`Event::Changed`] with this token is the outcome.
    pub fn change(&mut self, token: u64, change: VoterChange) {
        let leads = self.leader.is_some_and(|(_, leader)| leader == Some(self.node));
        let refusal = match () {
            () if !leads => Some(VoterRefusal::NotLeader),
            () if self.changing.get() => Some(VoterRefusal::UnderWay),
            () => None,
        };
        if let Some(refusal) = refusal {
            let refused = Event::Changed { token, result: Err(refusal) };
            return self.shared.borrow_mut().events.push_back(refused);
        }
        self.changing.set(true);
        let (raft, shared, changing) =
            (self.raft.clone(), Rc::clone(&self.shared), Rc::clone(&self.changing));
        let node = self.node;
        self.runtime.start(async move {
            let result = voters::change(raft.clone(), Rc::clone(&shared), change).await;
            changing.set(false);
            shared.borrow_mut().events.push_back(Event::Changed { token, result });
            voters::step_down(raft, node).await;
        });
    }

    /// Bytes of a write that a crash interrupted, which were cut at start. They were never acknowledged.
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// The offset that the next record gets, if no leader changes before.
    pub fn next_offset(&self) -> i64 {
        self.shared.borrow().log.next_offset()
    }

    /// The quorum, if this node leads it.
    pub fn state(&self) -> Option<QuorumState> {
        let (epoch, _) = self.leader.filter(|(_, leader)| *leader == Some(self.node))?;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let shared = self.shared.borrow();
        let mut state = progress::state(&shared, epoch, metrics.membership_config.membership());
        let mut seen: Vec<ReplicaState> =
            self.observers.known(shared.wall_ms).map(ReplicaState::from).collect();
        seen.retain(|seen| !state.voters.iter().chain(&state.observers).any(|known| known.node == seen.node));
        state.observers.extend(seen);
        Some(state)
    }

    /// Takes records to append, all or none; [`Quorum::step`] does it. Proposals are appended in the order of
    /// the calls, and those of one step become durable together.
    pub fn propose(&mut self, values: Vec<Bytes>) -> ProposalId {
        let id = ProposalId(self.next_proposal);
        self.next_proposal += 1;
        let refused = |why| Event::Proposed { id, result: Err(ProposeError::Refused(why)) };
        let bytes: usize = values.iter().map(Bytes::len).sum();
        let refusal = match () {
            () if values.is_empty() => Some("no records"),
            () if bytes > MAX_PROPOSAL_BYTES => Some("too many bytes"),
            () if self.shared.borrow().proposals.len() >= MAX_PROPOSALS => {
                Some("too many proposals are waiting")
            }
            () => None,
        };
        if let Some(why) = refusal {
            self.shared.borrow_mut().events.push_back(refused(why));
            return id;
        }
        let room = BATCH_BYTES + values.iter().map(|value| value.len() as u64 + RECORD_BYTES).sum::<u64>();
        let no_room = self.shared.borrow_mut().no_room(room);
        if let Some(why) = no_room {
            let result = Err(ProposeError::NoRoom(why));
            self.shared.borrow_mut().events.push_back(Event::Proposed { id, result });
            return id;
        }
        self.shared.borrow_mut().proposals.add(id);
        let (raft, shared) = (self.raft.clone(), Rc::clone(&self.shared));
        self.runtime.start(async move {
            let timestamp = shared.borrow().wall_ms;
            let written = raft.client_write(Records { timestamp, values, proposal: Some(id) }).await;
            let error = match written {
                // What was appended has its outcome from the log.
                Ok(_) | Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => return,
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                    ProposeError::NotLeader(to.leader_id)
                }
                Err(other) => ProposeError::Unknown(other.to_string()),
            };
            let shared = &mut *shared.borrow_mut();
            shared.proposals.end(id, Err(error), &mut shared.events);
        });
        id
    }

    /// Writes a snapshot: `values` are the records of the image after the last committed record that
    /// [`Quorum::step`] handed out. Segments that it makes needless go with the next step.
    pub fn snapshot(&mut self, values: impl Iterator<Item = Bytes>) -> std::io::Result<()> {
        self.snapshot_due = false;
        if !self.shared.borrow_mut().write_snapshot(values)? {
            return Ok(());
        }
        let raft = self.raft.clone();
        self.runtime.start(async move {
            // A failure shows in the metrics, which `step` reads.
            let _ = raft.trigger().snapshot().await;
        });
        Ok(())
    }

    /// Lets the quorum run until it waits, and appends what happened to `events`.
    pub fn step(&mut self, now: Now, events: &mut Vec<Event>) {
        self.shared.borrow_mut().wall_ms = now.wall_ms;
        self.runtime.run_until_idle(now.mono);
        self.know_nodes();
        self.shared.borrow_mut().log.settle_room();
        let before = events.len();
        events.extend(self.shared.borrow_mut().events.drain(..));
        if self.tell_of_commits && events[before..].iter().any(|event| matches!(event, Event::Committed(_))) {
            self.tell_voters(now);
        }
        self.name_voters(now);
        events.extend(self.shared.borrow_mut().calls.take());
        self.report_voters(events);
        self.report_leader(events);
        let (epoch, leader) = self.leader.unwrap_or((0, None));
        // A leader that nobody follows any more may have a successor: observers shall look for it.
        let leader = leader.filter(|leader| *leader != self.node || self.is_followed(now));
        self.observers.answer(&self.shared.borrow(), (epoch, leader), now, events);
        self.report_snapshot_due(events);
        self.report_failure(events);
    }

    /// Whether a majority has followed this leader until a moment ago.
    fn is_followed(&self, now: Now) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // The last voter is acknowledged by nobody, and is the majority.
        let is_last = metrics.membership_config.voter_ids().all(|voter| voter == self.node);
        let acked = metrics.last_quorum_acked.as_ref().map(|at| at.0);
        is_last || acked.is_some_and(|at| now.mono.since(at) < self.followed_for)
    }

    /// The other voters hear of a commit with the next thing that their leader says: at once, and not when its next sign of
    /// life is due. What a client was told by one node is then known to the others a moment later.
    fn tell_voters(&mut self, now: Now) {
        if self.leader.and_then(|(_, leader)| leader) != Some(self.node) {
            return;
        }
        let raft = self.raft.clone();
        self.runtime.start(async move {
            // A failure shows in the metrics, which `step` reads.
            let _ = raft.trigger().heartbeat().await;
        });
        self.runtime.run_until_idle(now.mono);
    }

    /// When the quorum wants to run again without an input; a voter that is alone does only for observers.
    pub fn deadline(&self) -> Option<Mono> {
        [self.runtime.deadline(), self.observers.deadline()].into_iter().flatten().min()
    }

    fn report_leader(&mut self, events: &mut Vec<Event>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let epoch = i32::try_from(metrics.current_term).unwrap_or(i32::MAX);
        // A leader leads when the first entry of its epoch is applied, and so everything before it.
        let applied =
            self.shared.borrow().applied.id.is_some_and(|id| crate::types::term(&id) == metrics.current_term);
        let leader = metrics.current_leader.filter(|leader| *leader != self.node || applied);
        let known = Some((epoch, leader));
        if known != self.leader && (leader.is_some() || self.leader.is_some()) {
            self.leader = known;
            let mut shared = self.shared.borrow_mut();
            shared.leader_lost = false;
            if leader.is_some() {
                shared.progress.clear();
            }
            events.push(Event::Leader { epoch, leader });
        }
    }

    /// A leader writes down what the log does not say of its nodes.
    fn name_voters(&mut self, now: Now) {
        let leads = self.leader.is_some_and(|(_, leader)| leader == Some(self.node));
        let busy = self.changing.get() || self.naming.get();
        if !leads || !self.tell_of_commits || busy || self.failed {
            return;
        }
        let named = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = &metrics.membership_config;
            let shared = self.shared.borrow();
            if *membership.log_id() > shared.applied.id {
                return;
            }
            voters::unnamed(&shared, membership.membership())
        };
        if named.is_empty() {
            return;
        }
        self.naming.set(true);
        let (raft, naming) = (self.raft.clone(), Rc::clone(&self.naming));
        self.runtime.start(async move {
            voters::name(raft, named).await;
            naming.set(false);
        });
        self.runtime.run_until_idle(now.mono);
    }

    fn report_voters(&mut self, events: &mut Vec<Event>) {
        let shared = self.shared.borrow();
        let membership = &shared.applied.membership;
        if *membership.log_id() != self.told_voters {
            self.told_voters = *membership.log_id();
            events.push(Event::Voters(voters::of(membership.membership())));
        }
        let votes: BTreeSet<NodeId> = membership.voter_ids().collect();
        let silent: Vec<NodeId> = shared.progress.silent().filter(|node| votes.contains(node)).collect();
        if silent != self.told_silent {
            self.told_silent.clone_from(&silent);
            events.push(Event::Silent(silent));
        }
    }

    fn report_snapshot_due(&mut self, events: &mut Vec<Event>) {
        if !self.snapshot_due && self.shared.borrow().log.bytes() >= self.snapshot_bytes {
            self.snapshot_due = true;
            events.push(Event::SnapshotDue);
        }
    }

    fn report_failure(&mut self, events: &mut Vec<Event>) {
        if self.failed {
            return;
        }
        let metrics = self.raft.metrics();
        let fatal = metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        let why = self.shared.borrow().log.failed().map(str::to_owned).or(fatal);
        let Some(why) = why else { return };
        self.failed = true;
        events.extend(self.shared.borrow_mut().proposals.fail(&why));
        events.push(Event::Failed(why));
    }
}

impl Drop for Quorum {
    fn drop(&mut self) {
        self.runtime.clear();
    }
}
