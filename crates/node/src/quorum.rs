//! The thread of the metadata quorum. It steps the quorum with the node's disk and clock, takes proposals and calls of other voters from shard 0 and tells
//! it what is committed; it holds an image of its own, from which snapshots are written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use moldau_base::NodeId;
use moldau_base::disk::Disk;
use moldau_base::voter::Voters;
use moldau_broker::{FromPeer, FromQuorum, Input, ShardId, ToQuorum};
use moldau_controller::{Image, Record, snapshot};
use moldau_quorum::{CallId, Config, Event, ProposalId, ProposeError, Quorum};

use crate::clock::Clock;
use crate::mailbox::Item;
use crate::shared::Shared;

/// What a node waits for that came to a running cluster.
const NOT_ADDED: &str = "this node is no voter of the cluster yet: run kafka-metadata-quorum.sh --bootstrap-controller HOST:PORT \
                         --command-config SERVER.PROPERTIES add-controller, with the address of a controller and this node's file";

/// What the thread works with.
struct Host {
    quorum: Quorum,
    clock: Clock,
    shared: Arc<Shared>,
    image: Image,
    /// Shard 0's numbers of proposals that are under way.
    under_way: BTreeMap<ProposalId, u64>,
    /// Offset of the last committed record.
    last_offset: i64,
    voters: Voters,
    /// Voters that do not answer.
    silent: Vec<NodeId>,
    leader: Option<NodeId>,
    node: NodeId,
    /// It comes to a cluster that runs.
    joins: bool,
}

/// Starts the quorum and its thread, which ends when the sender for proposals that comes back is gone. Everything that was committed before has been
/// sent to shard 0's mailbox when this returns. An error when a committed record cannot be understood.
pub fn start(
    config: Config,
    cluster_id: &str,
    disk: Arc<dyn Disk>,
    clock: Clock,
    shared: Arc<Shared>,
) -> anyhow::Result<(Sender<ToQuorum>, JoinHandle<()>)> {
    let (send, inbox) = channel();
    let (started, outcome) = channel();
    let image = Image::new(cluster_id);
    let (node, joins) = (config.node, config.voters.is_empty());
    // The quorum is bound to the thread that starts it.
    let run = move || {
        let mut events = Vec::new();
        match Quorum::start(config, disk, clock.now(), &mut events) {
            Ok(quorum) => {
                let mut host = Host {
                    quorum,
                    clock,
                    shared,
                    image,
                    under_way: BTreeMap::new(),
                    last_offset: -1,
                    voters: Voters::default(),
                    silent: Vec::new(),
                    leader: None,
                    node,
                    joins,
                };
                host.happened(events);
                host.tell_health();
                // What is committed has been replayed to its end: a record that does not fit is known before anybody is served.
                let failure = host.shared.failure().borrow().clone();
                let is_up = failure.is_none();
                let _ = started.send(failure.map_or(Ok(()), Err));
                if is_up {
                    host.run(&inbox);
                }
            }
            Err(error) => {
                let _ = started.send(Err(error.to_string()));
            }
        }
    };
    let thread = thread::Builder::new().name("quorum".into()).spawn(run)?;
    match outcome.recv() {
        Ok(Ok(())) => Ok((send, thread)),
        Ok(Err(why)) => Err(anyhow::anyhow!(why)),
        Err(_) => Err(io::Error::other("the quorum's thread ended").into()),
    }
}

impl Host {
    /// Ends when shard 0 is gone.
    fn run(&mut self, inbox: &Receiver<ToQuorum>) {
        loop {
            let wait = self.quorum.deadline().map(|at| at.since(self.clock.now().mono));
            let first = match inbox.recv_timeout(wait.unwrap_or(Duration::from_secs(3600))) {
                Ok(news) => Some(news),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for news in first.into_iter().chain(inbox.try_iter()) {
                self.take(news);
            }
            let mut events = Vec::new();
            self.quorum.step(self.clock.now(), &mut events);
            self.happened(events);
        }
    }

    fn take(&mut self, news: ToQuorum) {
        match news {
            ToQuorum::Propose { proposal, records } => {
                let id = self.quorum.propose(records);
                self.under_way.insert(id, proposal);
            }
            ToQuorum::Called { token, from, message } => self.quorum.called(token, from, message),
            ToQuorum::Pull { token, pull } => self.quorum.pull(token, pull, self.clock.now()),
            ToQuorum::Answered { call, message } => self.quorum.answered(CallId(call), message),
            ToQuorum::Describe { token } => {
                self.tell(FromQuorum::State { token, state: self.quorum.state() });
            }
            ToQuorum::Change { token, change } => self.quorum.change(token, change),
            ToQuorum::Lost(node) => self.quorum.lost(node),
            ToQuorum::HandOver(node) => self.quorum.hand_over(node),
        }
    }

    fn tell(&self, news: FromQuorum) {
        self.shared.mailbox(ShardId(0)).send(Item::Input(Input::Peer(FromPeer::Quorum(news))));
    }

    fn happened(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Restored { next_offset, values } => {
                    self.last_offset = next_offset - 1;
                    self.image = Image::new(self.image.cluster_id().clone());
                    self.apply(next_offset - 1, &values, false);
                    self.image.advance(next_offset - 1);
                    self.tell(FromQuorum::Snapshot { offset: next_offset - 1, records: values });
                }
                Event::Committed(committed) => {
                    self.last_offset = committed.next_offset - 1;
                    self.apply(committed.base_offset, &committed.values, true);
                    self.image.advance(self.last_offset);
                    self.tell(FromQuorum::Committed {
                        offset: committed.base_offset,
                        next_offset: committed.next_offset,
                        epoch: committed.epoch,
                        records: committed.values,
                    });
                }
                Event::Leader { epoch, leader } => {
                    self.leader = leader;
                    self.tell_health();
                    self.tell(FromQuorum::Leader { node: leader, epoch });
                }
                Event::Proposed { id, result } => {
                    if let Some(proposal) = self.under_way.remove(&id) {
                        self.tell(match result {
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
                }
                Event::SnapshotDue => self.write_snapshot(),
                Event::Call { id, to, request } => {
                    self.tell(FromQuorum::Call { call: id.0, to, message: request });
                }
                Event::Pulled { token, pulled } => self.tell(FromQuorum::Pulled { token, pulled }),
                Event::Answer { token, answer } => self.tell(FromQuorum::Answer { token, message: answer }),
                Event::Voters(voters) => {
                    self.voters = voters.clone();
                    self.tell(FromQuorum::Voters(voters));
                }
                Event::Changed { token, result } => self.tell(FromQuorum::Changed { token, result }),
                Event::Silent(silent) => {
                    self.silent.clone_from(&silent);
                    self.tell_health();
                    self.tell(FromQuorum::Silent(silent));
                }
                Event::Warning(what) => tracing::warn!("{what}"),
                Event::Failed(why) => {
                    tracing::error!(why, "the metadata log is offline: the node stops");
                    self.shared.fail(format!("the metadata log is offline: {why}"));
                }
            }
        }
    }

    /// Says to probes and in the log who is missing when nobody can lead.
    fn tell_health(&self) {
        // A leader stays one when nobody hears it any more, and decides nothing.
        let follows = self.leader.is_some_and(|leader| leader != self.node);
        let is_known =
            self.voters.voters.contains_key(&self.node) || self.voters.observers.contains_key(&self.node);
        let missing = match is_known || self.leader.is_some() || !self.joins {
            true => self.voters.without(&self.silent).filter(|_| !follows),
            false => Some(NOT_ADDED.to_owned()),
        };
        if let Some(why) = &missing {
            tracing::warn!("{why}");
        }
        self.shared.health.set_missing(missing);
    }

    fn apply(&mut self, offset: i64, values: &[Bytes], in_log: bool) {
        for (at, bytes) in values.iter().enumerate() {
            let offset = if in_log { offset + at as i64 } else { offset };
            let applied = Record::decode(bytes.clone())
                .map_err(|error| error.to_string())
                .and_then(|record| self.image.apply(offset, &record).map_err(|error| error.to_string()));
            if let Err(problem) = applied {
                // An image without it would be another one: nothing may be decided on it.
                tracing::error!(offset, problem, "a metadata record does not fit");
                self.shared.fail(format!("metadata record {offset} is not understood: {problem}"));
            }
        }
    }

    fn write_snapshot(&mut self) {
        let records: Result<Vec<Bytes>, _> =
            snapshot::records(&self.image).map(|record| record.encode()).collect();
        let written = records
            .map_err(|error| error.to_string())
            .and_then(|records| self.quorum.snapshot(records.into_iter()).map_err(|error| error.to_string()));
        match written {
            Ok(()) => tracing::info!(offset = self.last_offset, "metadata snapshot written"),
            Err(why) => tracing::warn!(why, "a metadata snapshot could not be written"),
        }
    }
}
