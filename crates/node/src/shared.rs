//! What the threads of a node share: mailboxes, how many are connected, whether the node is ready or has stopped.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use moldau_base::BrokerEpoch;
use moldau_base::disk::DirId;
use moldau_broker::ShardId;
use tokio::sync::watch;

use crate::http::{Health, HealthState};
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;

/// What the threads of a node share.
pub struct Shared {
    mailboxes: Vec<Arc<Mailbox>>,
    ready: watch::Sender<Option<String>>,
    serving: watch::Sender<bool>,
    failed: watch::Sender<Option<String>>,
    broker_epoch: Mutex<Option<BrokerEpoch>>,
    left: watch::Sender<bool>,
    running: watch::Sender<u16>,
    connected: Mutex<HashMap<IpAddr, usize>>,
    offline: Mutex<BTreeSet<DirId>>,
    /// What the node counts.
    pub metrics: Metrics,
    /// What the node says of itself to probes.
    pub health: Health,
}

impl Shared {
    /// For this many shards.
    pub fn new(shards: u16) -> Shared {
        Shared {
            mailboxes: (0..shards).map(|_| Arc::default()).collect(),
            ready: watch::Sender::new(None),
            serving: watch::Sender::new(false),
            failed: watch::Sender::new(None),
            broker_epoch: Mutex::default(),
            left: watch::Sender::new(false),
            running: watch::Sender::new(shards),
            connected: Mutex::default(),
            offline: Mutex::default(),
            metrics: Metrics::default(),
            health: Health::default(),
        }
    }

    /// The mailbox of a shard.
    pub fn mailbox(&self, shard: ShardId) -> &Arc<Mailbox> {
        &self.mailboxes[usize::from(shard.0)]
    }

    /// All mailboxes.
    pub fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    /// The broker can take connections.
    pub fn ready(&self, cluster_id: String) {
        self.ready.send_replace(Some(cluster_id));
    }

    /// The cluster counts on this node.
    pub fn serve(&self) {
        self.health.set(HealthState::Ready);
        self.serving.send_replace(true);
    }

    /// Ends when the cluster counts on this node.
    pub async fn is_serving(&self) {
        let _ = self.serving.subscribe().wait_for(|serving| *serving).await;
    }

    /// The cluster's id once the broker can take connections.
    pub fn readiness(&self) -> watch::Receiver<Option<String>> {
        self.ready.subscribe()
    }

    /// A write or sync failed in this log directory.
    pub fn take_offline(&self, dir: DirId) {
        self.metrics.offline_log_dirs.inc();
        self.offline.lock().unwrap_or_else(PoisonError::into_inner).insert(dir);
    }

    /// Whether the directory was taken out of service: nobody knows what it holds.
    pub fn is_offline(&self, dir: DirId) -> bool {
        self.offline.lock().unwrap_or_else(PoisonError::into_inner).contains(&dir)
    }

    /// The node cannot go on. The first reason stays: others may follow from it.
    pub fn fail(&self, why: String) {
        self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            if is_first {
                self.health.set(HealthState::Failed(why.clone()));
                *failed = Some(why);
            }
            is_first
        });
    }

    /// Why the node cannot go on, once it cannot.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// The broker stops with this registration.
    pub fn stops_at(&self, epoch: Option<BrokerEpoch>) {
        *self.broker_epoch.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    /// The registration that the broker had when it stopped.
    pub fn broker_epoch(&self) -> Option<BrokerEpoch> {
        *self.broker_epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Others lead what this node led, or nobody can.
    pub fn leave(&self) {
        self.left.send_replace(true);
    }

    /// Waits until others lead what this node led, or it is known that nobody can.
    pub async fn has_left(&self) {
        let mut left = self.left.subscribe();
        let _ = left.wait_for(|left| *left).await;
    }

    /// Waits until all shards have flushed everything.
    pub async fn all_stopped(&self) {
        let mut running = self.running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
    }

    /// A shard has flushed everything.
    pub fn stopped(&self, shard: ShardId) {
        tracing::debug!(shard = shard.0, "flushed");
        self.running.send_modify(|running| *running -= 1);
        if *self.running.borrow() == 0 {
            self.mailboxes.iter().for_each(|mailbox| mailbox.nudge());
        }
    }

    /// Whether all shards have flushed everything.
    pub fn is_stopped(&self) -> bool {
        *self.running.borrow() == 0
    }

    /// Counts a new connection; false when there are too many, in all or from this address.
    pub fn connected(&self, address: IpAddr, most: usize, most_per_ip: usize) -> bool {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = connected.values().sum();
        let here = connected.entry(address).or_default();
        if all >= most || *here >= most_per_ip {
            return false;
        }
        *here += 1;
        true
    }

    /// A connection has ended.
    pub fn disconnected(&self, address: IpAddr) {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = connected.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                connected.remove(&address);
            }
        }
    }
}
