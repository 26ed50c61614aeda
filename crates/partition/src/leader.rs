//! What only a leader knows: its epoch, the in-sync set that is committed and the one that is proposed, and what follows from them
//! for the high watermark. How far each follower is, and what it is suspected of, is in [`crate::peers`].
//!
//! It never counts less than what the controller may hold for the in-sync set: while a change is on its way, both sets count
//! (KIP-497's maximal in-sync set), and the high watermark rests while the set is smaller than `min.insync.replicas` (KIP-966).

use moldau_base::planted::{Bug, planted};
use moldau_base::{LeaderEpoch, Mono, NodeId, PartitionEpoch};

use crate::effect::Proposal;
use crate::input::{FollowerFetch, IsrAnswer};
use crate::peers::{Patience, Peer};

/// The controller's decision that this node leads, from its committed metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leadership {
    /// Counts leaders.
    pub epoch: LeaderEpoch,
    /// Counts changes of the partition's record.
    pub partition_epoch: PartitionEpoch,
    /// All replicas, this node among them.
    pub replicas: Box<[NodeId]>,
    /// Those in sync, this node among them.
    pub isr: Box<[NodeId]>,
    /// `min.insync.replicas` of the topic.
    pub min_isr: usize,
    /// When a follower counts as stuck or slow.
    pub patience: Patience,
}

/// A proposal that is not answered, or whose outcome metadata has yet to tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Proposed {
    what: Proposal,
    /// When it is sent again; `None` while an answer or metadata is awaited.
    again_at: Option<Mono>,
    /// Was proposed before at the same partition epoch, and nothing was heard of it: it may still be accepted, late, whatever came of
    /// the same proposal when it was made again.
    doubtful: Option<Box<[NodeId]>>,
}

impl Proposed {
    fn new(what: Proposal) -> Proposed {
        Proposed { what, again_at: None, doubtful: None }
    }

    /// Whether this replica is in sync if the controller accepts what it was asked for.
    fn names(&self, node: NodeId) -> bool {
        let proposed = self.what.isr.iter().any(|&(member, _)| member == node);
        proposed || self.doubtful.as_ref().is_some_and(|doubtful| doubtful.contains(&node))
    }

    /// Nothing was heard of it.
    fn unheard(&mut self, retry: Mono) {
        self.again_at = Some(retry);
        self.doubtful.get_or_insert_with(|| self.what.isr.iter().map(|&(member, _)| member).collect());
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    pub(crate) state: Leadership,
    /// End of the log when the epoch began.
    pub(crate) epoch_start: i64,
    /// The other replicas.
    peers: Vec<Peer>,
    /// In a box: most partitions have none.
    proposed: Option<Box<Proposed>>,
    /// Who has left the in-sync set, or was refused, since this was looked at last.
    excluded: Vec<NodeId>,
    /// No proposal before: the last one was refused.
    quiet_until: Mono,
    /// When the followers in the set are looked at next; `None` while all of them have everything.
    look_at: Option<Mono>,
    /// The last look was late and nobody was blamed for it.
    forgiven: bool,
}

/// What a leader knows of its own log when it judges others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) node: NodeId,
    /// End of what followers can have.
    pub(crate) stored: i64,
    pub(crate) high_watermark: i64,
    /// End of the last append that waits for the in-sync set.
    pub(crate) awaited: Option<i64>,
}

impl Leader {
    pub(crate) fn new(now: Mono, me: NodeId, state: Leadership, epoch_start: i64) -> Leader {
        let mut leader = Leader {
            state,
            epoch_start,
            peers: Vec::new(),
            proposed: None,
            excluded: Vec::new(),
            quiet_until: now,
            look_at: None,
            forgiven: false,
        };
        leader.meet(now, me);
        leader
    }

    /// Knows a peer for each other replica, those that stay as they were.
    fn meet(&mut self, now: Mono, me: NodeId) {
        let mut known = std::mem::take(&mut self.peers);
        for &node in self.state.replicas.iter().filter(|&&node| node != me) {
            let at = known.iter().position(|peer| peer.node == node);
            self.peers.push(at.map_or_else(|| Peer::new(node, now), |at| known.swap_remove(at)));
        }
    }

    /// Takes a newer record of the same epoch; false for an older one.
    pub(crate) fn update(&mut self, now: Mono, me: NodeId, state: Leadership) -> bool {
        if state.partition_epoch < self.state.partition_epoch {
            return false;
        }
        if state.partition_epoch > self.state.partition_epoch {
            self.proposed = None;
        }
        let before = std::mem::replace(&mut self.state, state);
        self.meet(now, me);
        self.isr_changed(now, &before.isr);
        true
    }

    /// The in-sync set has changed.
    fn isr_changed(&mut self, now: Mono, before: &[NodeId]) {
        for peer in &mut self.peers {
            match (before.contains(&peer.node), self.state.isr.contains(&peer.node)) {
                (false, true) => peer.joined(now),
                (true, false) => {
                    peer.excluded();
                    self.excluded.push(peer.node);
                }
                _ => {}
            }
        }
    }

    /// Everything below this is stored by that follower, which is in sync.
    pub(crate) fn end_of(&self, node: NodeId) -> Option<i64> {
        let peer = self.peers.iter().find(|peer| peer.node == node && !peer.gone)?;
        peer.end_offset().filter(|_| self.in_isr(node))
    }

    /// Where the log of that follower ended when it was heard last.
    pub(crate) fn heard_of(&self, node: NodeId) -> Option<i64> {
        self.peers.iter().find(|peer| peer.node == node)?.end_offset()
    }

    fn in_isr(&self, node: NodeId) -> bool {
        self.state.isr.contains(&node)
    }

    /// What an outsider must have to join: all that is committed, and all that was there when the epoch began.
    fn enough(&self, own: Own) -> i64 {
        if planted(Bug::ExpandEarly) { 0 } else { own.high_watermark.max(self.epoch_start) }
    }

    /// Whether this replica counts for the high watermark.
    pub(crate) fn counts(&self, node: NodeId) -> bool {
        let member = self.in_isr(node);
        let Some(proposed) = &self.proposed else { return member };
        let proposed = proposed.names(node);
        if planted(Bug::ProposedShrinkCounts) {
            return proposed;
        }
        member || proposed && !planted(Bug::ProposedExpansionIgnored)
    }

    /// The smallest end among the in-sync replicas, committed or proposed, of which `own` is this node's. `None` while one of them is yet
    /// to be heard of.
    pub(crate) fn replicated(&self, own: i64) -> Option<i64> {
        if planted(Bug::OutsiderCounts) {
            let mut ends: Vec<i64> = self.peers.iter().map(|peer| peer.end_offset().unwrap_or(0)).collect();
            ends.push(own);
            ends.sort_unstable();
            return ends.into_iter().rev().nth(self.state.isr.len().saturating_sub(1));
        }
        let counted = self.peers.iter().filter(|peer| self.counts(peer.node));
        counted.map(Peer::end_offset).try_fold(own, |least, end| Some(least.min(end?)))
    }

    /// True when an `acks=all` write would be held by as many replicas as the topic asks for, or by all there are.
    pub(crate) fn has_min_isr(&self) -> bool {
        let min_isr = if planted(Bug::MinIsrIgnored) { 1 } else { self.state.min_isr };
        self.state.isr.len() >= min_isr.min(self.state.replicas.len())
    }

    /// The log has stored more: followers that had everything are behind from now on.
    pub(crate) fn stored(&mut self, now: Mono, own: Own) {
        for peer in &mut self.peers {
            peer.behind(now, own.stored);
        }
        if self.look_at.is_none() {
            self.look_at = self.next_look(now, own);
        }
    }

    /// A follower fetches. True when it may now be fit to join the in-sync set.
    pub(crate) fn fetched(&mut self, now: Mono, fetch: &FollowerFetch, own: Own) -> bool {
        let patience = self.state.patience;
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == fetch.node) else { return false };
        peer.fetched(now, fetch, own.stored, patience) && !self.state.isr.contains(&fetch.node)
    }

    /// A follower's process is gone. True when that matters to the in-sync set.
    pub(crate) fn gone(&mut self, node: NodeId) -> bool {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) else { return false };
        peer.gone = true;
        self.in_isr(node)
    }

    /// What came of a proposal. True when the in-sync set, or what counts for it, is another one.
    pub(crate) fn answered(&mut self, now: Mono, of: PartitionEpoch, answer: IsrAnswer) -> bool {
        if let IsrAnswer::Accepted { partition_epoch, isr } = answer {
            let news = partition_epoch > self.state.partition_epoch;
            if news {
                self.proposed = None;
                self.state.partition_epoch = partition_epoch;
                let before = std::mem::replace(&mut self.state.isr, isr);
                self.isr_changed(now, &before);
            }
            return news;
        }
        let retry = now.after_ms(i64::from(self.state.patience.retry_ms));
        let Some(proposed) = self.proposed.as_mut().filter(|p| p.what.partition_epoch == of) else {
            return false;
        };
        match answer {
            IsrAnswer::Unknown => proposed.unheard(retry),
            IsrAnswer::Refused => {
                if proposed.doubtful.is_some() {
                    // The set as it is: once that is accepted, at the next partition epoch, nothing of what went before can be.
                    proposed.what.isr = self.state.isr.iter().map(|&member| (member, None)).collect();
                    proposed.again_at = Some(retry);
                } else {
                    self.proposed = None;
                }
                self.quiet_until = retry;
                let outsiders = self.peers.iter_mut().filter(|peer| !self.state.isr.contains(&peer.node));
                for peer in outsiders {
                    peer.excluded();
                    self.excluded.push(peer.node);
                }
            }
            IsrAnswer::Stale | IsrAnswer::Accepted { .. } => {}
        }
        self.proposed.is_none()
    }

    /// Who has left the in-sync set, or was refused, since the last call.
    pub(crate) fn take_excluded(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.excluded)
    }

    /// When [`Leader::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let again_at = self.proposed.as_ref().and_then(|proposed| proposed.again_at);
        [again_at, self.look_at].into_iter().flatten().min()
    }

    /// Time has passed: proposes again what was lost, looks after the followers.
    pub(crate) fn tick(&mut self, now: Mono, own: Own) -> Option<Proposal> {
        if let Some(proposed) = &mut self.proposed
            && proposed.again_at.is_some_and(|at| at <= now)
        {
            proposed.again_at = None;
            return Some(proposed.what.clone());
        }
        let due = self.look_at.filter(|&at| at <= now)?;
        // Who was asleep knows nothing of the others: what they sent meanwhile has yet to be read.
        let late = now.since(due).as_millis() > u128::from(self.state.patience.stuck_ms / 2);
        if late && !self.forgiven {
            self.forgiven = true;
            self.peers.iter_mut().for_each(|peer| peer.forgive(now));
        } else {
            self.forgiven = false;
        }
        let proposal = self.propose(now, own);
        self.look_at = self.next_look(now.after_ms(i64::from(self.state.patience.look_ms())), own);
        proposal
    }

    /// When the first of the followers would be late, or may come back; not before `earliest`.
    fn next_look(&self, earliest: Mono, own: Own) -> Option<Mono> {
        let (patience, enough) = (self.state.patience, self.enough(own));
        let next = |peer: &Peer| match self.in_isr(peer.node) {
            true => peer.due(own, patience),
            false => peer.may_join_at(enough),
        };
        self.peers.iter().filter_map(next).min().map(|at| at.max(earliest))
    }

    /// Members of the in-sync set that are too late to stay, those that are behind for longest first. As many stay as the topic asks for: without
    /// them nothing would be acknowledged at all, so to wait for one that lives is never worse than to refuse.
    fn late(&self, now: Mono, own: Own) -> Vec<NodeId> {
        let members = || self.peers.iter().filter(|peer| self.in_isr(peer.node) && !peer.gone);
        let spare = (members().count() + 1).saturating_sub(self.state.min_isr.min(self.state.replicas.len()));
        let mut late: Vec<&Peer> =
            members().filter(|peer| peer.is_late(now, own, self.state.patience)).collect();
        late.sort_by_key(|peer| peer.caught_up_at);
        late.into_iter().take(spare).map(|peer| peer.node).collect()
    }

    /// The in-sync set as it should be, if it is another one and no change is on its way. Those who leave it for being slow are noted.
    pub(crate) fn propose(&mut self, now: Mono, own: Own) -> Option<Proposal> {
        if now < self.quiet_until {
            self.look_at = Some(self.look_at.map_or(self.quiet_until, |at| at.min(self.quiet_until)));
        }
        if self.proposed.is_some() || now < self.quiet_until {
            return None;
        }
        let enough = self.enough(own);
        let late = self.late(now, own);
        let mut isr = vec![(own.node, None)];
        let mut changed = false;
        for peer in &mut self.peers {
            let member = self.state.isr.contains(&peer.node);
            let stays = match member {
                true if peer.gone => false,
                true if late.contains(&peer.node) => {
                    peer.evicted(now, self.state.patience);
                    false
                }
                true => true,
                false => peer.may_join_at(enough).is_some_and(|at| at <= now),
            };
            changed |= stays != member;
            if stays {
                isr.push((peer.node, peer.broker_epoch()));
            }
        }
        if !changed {
            self.look_at = self.look_at.or_else(|| self.next_look(now, own));
            return None;
        }
        let what = Proposal {
            leader_epoch: self.state.epoch,
            partition_epoch: self.state.partition_epoch,
            isr: isr.into(),
        };
        self.proposed = Some(Box::new(Proposed::new(what.clone())));
        Some(what)
    }
}
