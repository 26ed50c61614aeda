//! Who votes, and how that changes: one change at a time and one voter at a time, each an entry of the log (KIP-853).
//!
//! A node is given the log before it votes. One that votes no more is still given it, so that its broker goes on. The leader
//! writes down by itself in which directory each voter keeps its log: from then on another disk under the same id is another
//! voter, which has to be removed and added.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use moldau_base::voter::{VoterChange, VoterRefusal, Voters};
use moldau_base::{NodeId, Uuid};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::entry::RaftPayload;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};
use openraft::{AsyncRuntime, ChangeMembers, EntryPayload, Raft};

use crate::runtime::Runtime;
use crate::store::{Shared, Store};
use crate::types::{Membership, StoredMembership, Types, Voter};

/// Between two looks at whether a change can go on.
const LOOK: Duration = Duration::from_millis(10);
/// How long a voter may take to stand in the place of a leader that steps down.
const STEP_DOWN: Duration = Duration::from_millis(200);
/// How long the voters may take to agree to a change.
const AGREE: Duration = Duration::from_secs(10);

type Guest = Raft<Types, Store>;
type Written = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

/// Who votes by this membership, and who gets the log besides.
pub(crate) fn of(membership: &Membership) -> Voters {
    let votes: BTreeSet<NodeId> = membership.voter_ids().collect();
    let nodes = membership.nodes().map(|(node, voter)| (*node, voter.clone()));
    let (voters, observers) = nodes.partition(|(node, _)| votes.contains(node));
    Voters { voters, observers }
}

/// Carries a change out, on the leader.
pub(crate) async fn change(
    raft: Guest,
    shared: Rc<RefCell<Shared>>,
    change: VoterChange,
) -> Result<(), VoterRefusal> {
    let late = || VoterRefusal::Unknown("the voters did not agree in time".to_owned());
    match change {
        VoterChange::Add { node, voter, patience_ms } => {
            add(&raft, &shared, node, voter, Duration::from_millis(patience_ms)).await
        }
        VoterChange::Remove { node, directory } => {
            let removed = Runtime::timeout(AGREE, remove(&raft, node, directory)).await;
            removed.unwrap_or_else(|_| Err(late()))
        }
    }
}

fn members(raft: &Guest) -> StoredMembership {
    StoredMembership::clone(&raft.metrics().borrow_watched().membership_config)
}

async fn add(
    raft: &Guest,
    shared: &Rc<RefCell<Shared>>,
    node: NodeId,
    voter: Voter,
    patience: Duration,
) -> Result<(), VoterRefusal> {
    let known = of(members(raft).membership());
    if known.voters.contains_key(&node) {
        return Err(VoterRefusal::Duplicate(node));
    }
    let was_there = known.observers.contains_key(&node);
    let followed = Runtime::timeout(patience, follow(raft, shared, node, voter)).await;
    match followed {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => return Err(refusal),
        Err(_) => {
            if !was_there {
                // Who asks again begins anew.
                let gone = raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([node])), true);
                let _ = Runtime::timeout(AGREE, gone).await;
            }
            return Err(VoterRefusal::Lagging(node));
        }
    }
    let promoted = again(|| async {
        let observed = members(raft);
        let mut voters: BTreeSet<NodeId> = observed.membership().voter_ids().collect();
        voters.insert(node);
        vote_by(raft, &observed, voters).await
    });
    match Runtime::timeout(AGREE, promoted).await {
        Ok(done) => done,
        Err(_) => Err(VoterRefusal::Unknown("the voters did not agree in time".to_owned())),
    }
}

/// Gives the log to the node, until it has it.
async fn follow(
    raft: &Guest,
    shared: &Rc<RefCell<Shared>>,
    node: NodeId,
    voter: Voter,
) -> Result<(), VoterRefusal> {
    let known = members(raft).membership().get_node(&node).cloned();
    if known.as_ref() != Some(&voter) {
        let named = || BTreeMap::from([(node, voter.clone())]);
        again(|| async { raft.change_membership(ChangeMembers::SetNodes(named()), true).await.into() })
            .await?;
        // What the node had on another disk does not count.
        shared.borrow_mut().progress.forget(node);
    }
    while !shared.borrow().progress.has_caught_up(node) {
        Runtime::sleep(LOOK).await;
        if raft.metrics().borrow_watched().current_leader != Some(shared.borrow().node) {
            return Err(VoterRefusal::NotLeader);
        }
    }
    Ok(())
}

async fn remove(raft: &Guest, node: NodeId, directory: Uuid) -> Result<(), VoterRefusal> {
    again(|| async {
        let observed = members(raft);
        let mut voters = of(observed.membership()).voters;
        // Without a directory in the log, the id is all that is known of it.
        let is_it = |voter: &Voter| voter.directory.is_zero() || voter.directory == directory;
        if !voters.get(&node).is_some_and(is_it) {
            return Attempt::Refused(VoterRefusal::NotFound(node, directory));
        }
        voters.remove(&node);
        if voters.is_empty() {
            return Attempt::Refused(VoterRefusal::Last(node));
        }
        vote_by(raft, &observed, voters.into_keys().collect()).await
    })
    .await
}

/// A leader that does not vote any more gives its place to the voter that has most of the log, until one has taken it. A moment later, so that
/// whoever had it removed hears of that.
pub(crate) async fn step_down(raft: Guest, node: NodeId) {
    loop {
        Runtime::sleep(STEP_DOWN).await;
        let to = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let leads = metrics.current_leader == Some(node);
            let votes = metrics.membership_config.voter_ids().any(|voter| voter == node);
            let Some(has) = metrics.replication.as_ref().filter(|_| leads && !votes) else { return };
            let most = |voter: &NodeId| has.get(voter).copied().flatten();
            metrics.membership_config.voter_ids().max_by_key(most)
        };
        let Some(to) = to else { return };
        // If it does not come to that, it is tried again.
        let _ = raft.trigger().transfer_leader(to).await;
    }
}

/// Writes one entry that says who votes, one more or one less than before.
async fn vote_by(raft: &Guest, observed: &StoredMembership, voters: BTreeSet<NodeId>) -> Attempt {
    let nodes: BTreeMap<NodeId, Voter> =
        observed.membership().nodes().map(|(node, voter)| (*node, voter.clone())).collect();
    let proposed = match Membership::new(vec![voters], nodes) {
        Ok(proposed) => proposed,
        Err(error) => return Attempt::Refused(VoterRefusal::Unknown(error.to_string())),
    };
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *observed.log_id() };
    raft.append_membership(proposed, EntryPayload::blank(), [unchanged]).await.into()
}

/// What became of one attempt to write.
enum Attempt {
    Done,
    /// Something else is under way.
    Later,
    Refused(VoterRefusal),
}

impl From<Written> for Attempt {
    fn from(written: Written) -> Attempt {
        use ChangeMembershipError::{InProgress, UncommittedLeaderLog};
        match written {
            Ok(_) => Attempt::Done,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Attempt::Refused(VoterRefusal::NotLeader)
            }
            Err(RaftError::APIError(
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(InProgress(_) | UncommittedLeaderLog(_)),
            )) => Attempt::Later,
            Err(other) => Attempt::Refused(VoterRefusal::Unknown(other.to_string())),
        }
    }
}

/// Tries until nothing else is under way.
async fn again<F: Future<Output = Attempt>>(mut write: impl FnMut() -> F) -> Result<(), VoterRefusal> {
    loop {
        match write().await {
            Attempt::Done => return Ok(()),
            Attempt::Later => Runtime::sleep(LOOK).await,
            Attempt::Refused(refusal) => return Err(refusal),
        }
    }
}

/// What the log does not say of its nodes and this leader knows.
pub(crate) fn unnamed(shared: &Shared, membership: &Membership) -> BTreeMap<NodeId, Voter> {
    let learnt = |node: NodeId| match node == shared.node {
        true => Some(shared.directory),
        false => shared.progress.directory(node),
    };
    let complete = |(node, voter): (&NodeId, &Voter)| {
        let mut whole = voter.clone();
        if let Some(directory) = learnt(*node).filter(|_| voter.directory.is_zero()) {
            whole.directory = directory;
            let configured = shared.configured.get(node).filter(|_| voter.endpoints.is_empty());
            whole.endpoints = configured.map_or(whole.endpoints, |known| known.endpoints.clone());
        }
        (whole != *voter).then_some((*node, whole))
    };
    membership.nodes().filter_map(complete).collect()
}

/// Writes down what the log does not say of its nodes. What is not written is found again.
pub(crate) async fn name(raft: Guest, named: BTreeMap<NodeId, Voter>) {
    let _ = Runtime::timeout(AGREE, raft.change_membership(ChangeMembers::SetNodes(named), true)).await;
}
