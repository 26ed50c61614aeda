//! A node's part in the metadata quorum, the real one, on the simulated disk: what the node's quorum thread does, in virtual time. It keeps an
//! image of its own by replaying what is committed, which must equal the controller's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::DirId;
use moldau_base::{Mono, NodeId, Now, Rng, Uuid};
use moldau_broker::{FromQuorum, ToQuorum};
use moldau_controller::{Image, Record, snapshot};
use moldau_quorum::{CallId, Config, Event, ProposalId, ProposeError, Voter};

use crate::disk::SimDisk;

/// The quorum and what it has to tell shard 0.
pub(crate) struct Quorum {
    quorum: moldau_quorum::Quorum,
    image: Image,
    under_way: BTreeMap<ProposalId, u64>,
    /// The epoch and who leads in it.
    leader: Option<(i32, NodeId)>,
    /// What shard 0 has not been told yet.
    pub(crate) news: VecDeque<FromQuorum>,
    /// It does not work any more, and why.
    pub(crate) failed: Option<String>,
}

impl Quorum {
    /// Starts it on what the disk holds; refuses what the node refuses.
    pub(crate) fn start(
        disk: SimDisk,
        cluster: &str,
        node: NodeId,
        voters: impl IntoIterator<Item = NodeId>,
        rng: &mut Rng,
        now: Now,
    ) -> Result<Quorum, String> {
        // Voters that are named in a file begin without knowing each other's directories.
        let voters: BTreeMap<NodeId, Voter> = voters.into_iter().map(|id| (id, Voter::default())).collect();
        let alone = Config::alone(node, Uuid([1; 16]), 0);
        let voters = if voters.len() > 1 { voters } else { alone.voters.clone() };
        let config = Config {
            voters,
            // Small, so that there are segments and snapshots in short runs.
            segment_bytes: 2_000 + rng.below(20_000),
            snapshot_bytes: 250 << rng.below(7),
            dir: DirId(0),
            seed: rng.next_u64(),
            ..alone
        };
        let mut events = Vec::new();
        let quorum = moldau_quorum::Quorum::start(config, Arc::new(disk), now, &mut events);
        let quorum = quorum.map_err(|error| error.to_string())?;
        let image = Image::new(cluster);
        let mut quorum = Quorum {
            quorum,
            image,
            under_way: BTreeMap::new(),
            leader: None,
            news: VecDeque::new(),
            failed: None,
        };
        quorum.happened(events);
        quorum.failed.take().map_or(Ok(quorum), Err)
    }

    /// Takes what shard 0 tells it.
    pub(crate) fn take(&mut self, now: Now, news: ToQuorum) {
        match news {
            ToQuorum::Propose { proposal, records } => {
                let id = self.quorum.propose(records);
                self.under_way.insert(id, proposal);
            }
            ToQuorum::Called { token, from, message } => self.quorum.called(token, from, message),
            ToQuorum::Pull { token, pull } => self.quorum.pull(token, pull, now),
            ToQuorum::Answered { call, message } => self.quorum.answered(CallId(call), message),
            ToQuorum::Describe { token } => {
                self.news.push_back(FromQuorum::State { token, state: self.quorum.state() });
            }
            ToQuorum::Change { token, change } => self.quorum.change(token, change),
            ToQuorum::Lost(node) => self.quorum.lost(node),
            ToQuorum::HandOver(node) => self.quorum.hand_over(node),
        }
        self.step(now);
    }

    /// Does what is due.
    pub(crate) fn step(&mut self, now: Now) {
        let mut events = Vec::new();
        self.quorum.step(now, &mut events);
        self.happened(events);
    }

    /// When it wants to be stepped.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.quorum.deadline()
    }

    /// The replay of everything that is committed.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// Who leads in which epoch, and up to where the log goes; nothing while that is not known or not all of it is committed.
    pub(crate) fn standing(&self) -> Option<(i32, NodeId, i64)> {
        let next_offset = self.quorum.next_offset();
        let (epoch, leader) = self.leader.filter(|_| self.image.offset() + 1 == next_offset)?;
        Some((epoch, leader, next_offset))
    }

    fn happened(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Restored { next_offset, values } => {
                    self.image = Image::new(self.image.cluster_id().clone());
                    values.iter().for_each(|value| self.apply(next_offset - 1, value));
                    self.image.advance(next_offset - 1);
                    self.news.push_back(FromQuorum::Snapshot { offset: next_offset - 1, records: values });
                }
                Event::Committed(committed) => {
                    let offsets = committed.base_offset..;
                    offsets.zip(&committed.values).for_each(|(offset, value)| self.apply(offset, value));
                    self.image.advance(committed.next_offset - 1);
                    self.news.push_back(FromQuorum::Committed {
                        offset: committed.base_offset,
                        next_offset: committed.next_offset,
                        epoch: committed.epoch,
                        records: committed.values,
                    });
                }
                Event::Leader { epoch, leader } => {
                    self.leader = leader.map(|leader| (epoch, leader));
                    self.news.push_back(FromQuorum::Leader { node: leader, epoch });
                }
                Event::Proposed { id, result } => self.proposed(id, result),
                Event::SnapshotDue => self.snapshot(),
                Event::Call { id, to, request } => {
                    self.news.push_back(FromQuorum::Call { call: id.0, to, message: request });
                }
                Event::Pulled { token, pulled } => {
                    self.news.push_back(FromQuorum::Pulled { token, pulled });
                }
                Event::Answer { token, answer } => {
                    self.news.push_back(FromQuorum::Answer { token, message: answer });
                }
                Event::Voters(voters) => self.news.push_back(FromQuorum::Voters(voters)),
                Event::Changed { token, result } => {
                    self.news.push_back(FromQuorum::Changed { token, result });
                }
                Event::Silent(silent) => self.news.push_back(FromQuorum::Silent(silent)),
                Event::Warning(_) => {}
                Event::Failed(why) => self.failed = Some(why),
            }
        }
    }

    fn proposed(&mut self, id: ProposalId, result: Result<i64, ProposeError>) {
        let Some(proposal) = self.under_way.remove(&id) else { return };
        self.news.push_back(match result {
            Ok(offset) => FromQuorum::Accepted { proposal, offset },
            Err(error @ ProposeError::NoRoom(_)) => {
                FromQuorum::NoRoom { proposal, reason: error.to_string() }
            }
            Err(ProposeError::NotLeader(_)) => FromQuorum::NotLeader { proposal },
            Err(error) => FromQuorum::Refused {
                proposal,
                reason: error.to_string(),
                certain: !matches!(error, ProposeError::Unknown(_)),
            },
        });
    }

    fn apply(&mut self, offset: i64, value: &Bytes) {
        let record = Record::decode(value.clone()).map_err(|error| error.to_string());
        let applied =
            record.and_then(|record| self.image.apply(offset, &record).map_err(|error| error.to_string()));
        if let Err(why) = applied {
            self.failed.get_or_insert_with(|| format!("metadata record {offset} does not fit: {why}"));
        }
    }

    fn snapshot(&mut self) {
        let records: Result<Vec<Bytes>, _> =
            snapshot::records(&self.image).map(|record| record.encode()).collect();
        match records {
            // A snapshot that cannot be written, on a full disk, is tried again later.
            Ok(records) => drop(self.quorum.snapshot(records.into_iter())),
            Err(error) => self.failed = Some(error.to_string()),
        }
    }
}
