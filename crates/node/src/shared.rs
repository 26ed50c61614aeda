//! What the threads of a node share: mailboxes, how many are connected, whether the node is ready or has stopped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use moldau_broker::ShardId;
use tokio::sync::watch;

use crate::mailbox::Mailbox;

/// What the threads of a node share.
pub struct Shared {
    mailboxes: Vec<Arc<Mailbox>>,
    ready: watch::Sender<Option<String>>,
    running: AtomicUsize,
    stopped: AtomicBool,
    connected: Mutex<HashMap<IpAddr, usize>>,
}

impl Shared {
    /// For this many shards.
    pub fn new(shards: u16) -> Shared {
        Shared {
            mailboxes: (0..shards).map(|_| Arc::default()).collect(),
            ready: watch::Sender::new(None),
            running: AtomicUsize::new(usize::from(shards)),
            stopped: AtomicBool::new(false),
            connected: Mutex::default(),
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

    /// The broker can serve clients.
    pub fn ready(&self, cluster_id: String) {
        self.ready.send_replace(Some(cluster_id));
    }

    /// The cluster's id once the broker can serve clients.
    pub fn readiness(&self) -> watch::Receiver<Option<String>> {
        self.ready.subscribe()
    }

    /// A shard has flushed everything.
    pub fn stopped(&self, shard: ShardId) {
        tracing::debug!(shard = shard.0, "flushed");
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.stopped.store(true, Ordering::Release);
            self.mailboxes.iter().for_each(|mailbox| mailbox.nudge());
        }
    }

    /// Whether all shards have flushed everything.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
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

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}
