//! How a quorum begins: what is on disk is read, and openraft is started on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use moldau_base::Now;
use moldau_base::disk::Disk;
use openraft::{Raft, SnapshotPolicy};

use crate::calls::Calls;
use crate::event::Event;
use crate::log::Log;
use crate::peers::Peers;
use crate::progress::Progress;
use crate::proposals::Proposals;
use crate::quorum::{Config, StartError};
use crate::runtime::Runtime;
use crate::store::{Applied, Shared, Store};
use crate::types::Types;
use crate::{snapshot, vote};

/// What is on disk, and how many bytes of it were cut.
pub(crate) fn recover(
    config: &Config,
    disk: Arc<dyn Disk>,
    now: Now,
) -> Result<(Rc<RefCell<Shared>>, u64), StartError> {
    let latest = snapshot::read_latest(&*disk, config.dir)?;
    let (snapshot, values) = latest.map_or((None, None), |(meta, values)| (Some(meta), Some(values)));
    let id = snapshot.as_ref().map(|meta| meta.id);
    let (log, cut_bytes) = Log::open(Arc::clone(&disk), config.dir, config.segment_bytes, id)?;
    let last = log.last().max(id.map(|id| id.id));
    let vote = vote::read(&*disk, config.dir)?;
    vote::check(vote.as_ref(), last)?;
    let applied = snapshot.as_ref().map(Applied::from).unwrap_or_default();
    let restored = values.map(|values| Event::Restored { next_offset: applied.next_offset, values });
    let shared = Shared {
        disk,
        dir: config.dir,
        node: config.node,
        configured: config.voters.clone(),
        directory: config.directory,
        named: Arc::default(),
        warned: None,
        log,
        vote,
        wall_ms: now.wall_ms,
        applied,
        snapshot,
        events: restored.into_iter().collect(),
        proposals: Proposals::default(),
        calls: Calls::default(),
        progress: Progress::default(),
        received: BTreeMap::new(),
        incoming: None,
        leader_lost: false,
    };
    Ok((Rc::new(RefCell::new(shared)), cut_bytes))
}

/// A voter that is alone has nobody to hear from and nobody to beat: its timers are off.
fn guest_config(config: &Config) -> openraft::Config {
    let watch = !config.is_alone();
    openraft::Config {
        cluster_name: "moldau".to_owned(),
        heartbeat_interval: config.pace.heartbeat_ms,
        election_timeout_min: config.pace.election_ms.0,
        election_timeout_max: config.pace.election_ms.1,
        enable_tick: watch,
        enable_heartbeat: watch,
        enable_elect: watch,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        // A voter that lost its disk is fed from the beginning, as a new one is.
        allow_log_reversion: Some(true),
        ..openraft::Config::default()
    }
}

/// The guest, on what was recovered.
pub(crate) fn build(
    config: &Config,
    runtime: &Runtime,
    shared: &Rc<RefCell<Shared>>,
    now: Now,
) -> Result<Raft<Types, Store>, StartError> {
    let guest = guest_config(config).validate().map_err(|error| StartError::Guest(error.to_string()))?;
    type Built = Option<Result<Raft<Types, Store>, String>>;
    let built: Rc<RefCell<Built>> = Rc::default();
    let (slot, store, node) = (Rc::clone(&built), Store(Rc::clone(shared)), config.node);
    let peers = Peers(Rc::clone(shared));
    runtime.start(async move {
        let raft = Raft::new(node, Arc::new(guest), peers, store.clone(), store).await;
        *slot.borrow_mut() = Some(raft.map_err(|error| error.to_string()));
    });
    runtime.run_until_idle(now.mono);
    let raft = built.borrow_mut().take();
    raft.unwrap_or_else(|| Err("it waits for something at start".to_owned())).map_err(StartError::Guest)
}
