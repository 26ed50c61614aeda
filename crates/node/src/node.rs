//! A node from start to stop: claim the data directories, recover the logs, start the shards and the quorum, open the
//! listeners, wait for a signal, and at the end flush everything and mark it clean.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use moldau_base::disk::{DirId, Disk as _, Path};
use moldau_base::voter::VoterEndpoint;
use moldau_base::{BrokerEpoch, PartitionIndex, Rng, TopicPartition, Uuid};
use moldau_broker::{Settings, Shard, ShardId, ToQuorum, owner};
use moldau_quorum::{Voter, meta};
use moldau_storage::names::{LogDirEntry, log_dir_entry};
use moldau_storage::{Recovered, RecoveredLog, RecoveryPolicy};
use tokio::signal::unix::{SignalKind, signal};

use crate::background::Threads;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::files::Files;
use crate::fs::FsDisk;
use crate::host::{self, Host, Limits};
use crate::listeners::Open;
use crate::lock;
use crate::mailbox::Item;
use crate::shared::Shared;
use crate::{agree, listeners, machine, quorum, settings, space};

/// Descriptors that are left to sockets and everything else; log files may use half of the rest.
const RESERVED_DESCRIPTORS: u64 = 128;
/// Most jobs that wait for one thread of a log directory; each holds a descriptor.
const MOST_WAITING_JOBS: u64 = 1024;
/// How long others may take to lead what this node leads.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long requests in work may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// The directory of the metadata log, which is not a partition of the broker.
const METADATA_LOG: &str = "__cluster_metadata-0";

/// Runs a node until it is told to stop. Prints `ready HOST:PORT` to standard output when clients can be served; a node that is only a
/// controller does when it knows the leader of the quorum.
pub fn run(mut config: NodeConfig) -> anyhow::Result<()> {
    let clock = Clock::start();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let dirs = log_dirs(&config);
    let locks = lock::claim(&dirs)?;
    let disk = Arc::new(FsDisk::new(dirs.clone()));
    let mut rng = Rng::seeded(seed()?);
    let found = find(&mut config, &disk, &dirs)?;
    let metas = claim(&config, found, &disk, &dirs, &mut rng)?;
    check_metadata(&config, &disk, &dirs)?;
    let boot = machine::boot();
    let stopped_at = stopped_at(&disk, with_partitions(&config), boot)?;
    let recovered = recover(&disk, &dirs, with_partitions(&config), &clock)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let open = runtime.block_on(Open::of(&config))?;
    let settings = Arc::new(settings::settings(&config, &metas, &open.addresses(), &dirs, boot, stopped_at));
    space::measure(&settings);
    let shared = Arc::new(Shared::new(settings.shards));

    let metadata_dir = metadata_dir(&config, &dirs);
    let directory = metas[usize::from(metadata_dir.0)].directory;
    let quorum_config = quorum_config(&config, metadata_dir, directory, &mut rng);
    let start_quorum =
        || quorum::start(quorum_config, &settings.cluster_id, disk.clone(), clock.clone(), shared.clone());
    let (to_quorum, quorum) = config.role.is_voter().then(start_quorum).transpose()?.unzip();
    let start = Start { config: &config, settings: &settings, shared: &shared, clock: &clock, dirs: &dirs };
    let threads = start.shards(recovered, to_quorum, &mut rng)?;
    let served = runtime.block_on(serve(&config, &settings, &shared, open));
    runtime.shutdown_timeout(Duration::from_millis(100));
    for thread in threads {
        if thread.join().is_err() {
            bail!("a shard has failed: see the log above");
        }
    }
    served?;
    // What was proposed last is written, or the mark would call it damage.
    if quorum.is_some_and(|quorum| quorum.join().is_err()) {
        bail!("the metadata quorum has failed: see the log above");
    }
    if config.role.is_broker() || !holds_partitions(&disk, &dirs) {
        mark_clean(&disk, &shared, &dirs)?;
    }
    drop(locks);
    tracing::info!("stopped cleanly");
    Ok(())
}

/// A quorum of the voters in the configuration, of those in the log, or of this node alone.
fn quorum_config(config: &NodeConfig, dir: DirId, directory: Uuid, rng: &mut Rng) -> moldau_quorum::Config {
    let alone = moldau_quorum::Config::alone(config.node_id, directory, rng.next_u64());
    let alone = moldau_quorum::Config { dir, snapshot_bytes: config.metadata_snapshot_bytes, ..alone };
    if !config.bootstrap.is_empty() {
        return moldau_quorum::Config { voters: Default::default(), ..alone };
    }
    if config.voters.len() < 2 {
        return alone;
    }
    // Voters that are named in a file begin without knowing each other's directories, as in KRaft.
    let listener: Arc<str> = config.controller_listeners.first().map_or("", |first| &*first.name).into();
    let voters = config.voters.iter().map(|voter| {
        let host = voter.endpoint.host.as_str().into();
        let endpoint = VoterEndpoint { listener: listener.clone(), host, port: voter.endpoint.port };
        (voter.id, Voter { directory: Uuid::ZERO, endpoints: vec![endpoint] })
    });
    moldau_quorum::Config { voters: voters.collect(), ..alone }
}

/// How many of the log directories are looked through for partitions.
fn with_partitions(config: &NodeConfig) -> usize {
    if config.role.is_broker() { config.log_dirs.len() } else { 0 }
}

/// Whether the directories of a node that is only a controller hold what it left there as a broker. It does not recover that, so
/// it cannot say that it is clean either.
fn holds_partitions(disk: &FsDisk, dirs: &[PathBuf]) -> bool {
    let of = |dir: u16| disk.list(&Path::new(DirId(dir), "")).unwrap_or_default();
    let is_one = |name: &str| matches!(log_dir_entry(name), LogDirEntry::Partition { .. });
    let mut directories = (0..dirs.len()).flat_map(|dir| of(dir as u16)).filter(|entry| entry.is_dir);
    directories.any(|entry| entry.name != METADATA_LOG && is_one(&entry.name))
}

/// Says of each log directory that recovery need not read it; of one that went out of service nobody knows that.
fn mark_clean(disk: &FsDisk, shared: &Shared, dirs: &[PathBuf]) -> anyhow::Result<()> {
    let epoch = shared.broker_epoch().map_or(-1, |epoch| epoch.0);
    for (at, path) in dirs.iter().enumerate() {
        let dir = DirId(at as u16);
        if !shared.is_offline(dir) {
            moldau_storage::mark_clean(disk, dir, epoch)
                .with_context(|| format!("{} cannot be marked clean", path.display()))?;
        }
    }
    Ok(())
}

/// The broker's epoch at the last stop, if all of the first `count` directories still have what it had written then: they were stopped
/// cleanly with it, or the machine has been up since.
fn stopped_at(disk: &FsDisk, count: usize, boot: Option<Uuid>) -> anyhow::Result<Option<BrokerEpoch>> {
    let dirs = || (0..count).map(|dir| DirId(dir as u16));
    let clean = moldau_storage::common_clean_epoch(disk, dirs());
    let clean = clean.context("the mark of the last stop cannot be read")?;
    let same_boot = boot.map(|boot| moldau_storage::common_boot_epoch(disk, dirs(), boot)).transpose();
    let same_boot = same_boot.context("the mark of the last start cannot be read")?.flatten();
    Ok(clean.or(same_boot).map(BrokerEpoch))
}

/// The log directories, then that of the metadata log if it is another one.
fn log_dirs(config: &NodeConfig) -> Vec<PathBuf> {
    let mut dirs = config.log_dirs.clone();
    if !dirs.contains(&config.metadata_dir) {
        dirs.push(config.metadata_dir.clone());
    }
    dirs
}

fn metadata_dir(config: &NodeConfig, dirs: &[PathBuf]) -> DirId {
    let at = dirs.iter().position(|dir| *dir == config.metadata_dir).unwrap_or(0);
    DirId(at as u16)
}

fn seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled != bytes.len() {
        bail!("the kernel gives no randomness");
    }
    Ok(u64::from_le_bytes(bytes))
}

/// Whether no directory says of which cluster it is.
fn is_new(disk: &FsDisk, dirs: &[PathBuf]) -> bool {
    (0..dirs.len()).all(|dir| meta::read(disk, DirId(dir as u16)).is_ok_and(|meta| meta.is_none()))
}

/// The id of the running cluster that the node comes to, if it has to be asked for. A broker is told who the voters are, at each start; those
/// who vote know it from their log.
fn find(config: &mut NodeConfig, disk: &FsDisk, dirs: &[PathBuf]) -> anyhow::Result<Option<String>> {
    if config.bootstrap.is_empty() || (config.role.is_voter() && !is_new(disk, dirs)) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(agree::find(&config.bootstrap));
    if !config.role.is_voter() {
        config.voters = found.voters;
    }
    Ok(Some(found.cluster_id))
}

/// The cluster id of a node of several, if no directory of it says one.
fn agreed(
    config: &NodeConfig,
    disk: &FsDisk,
    dirs: &[PathBuf],
    rng: &mut Rng,
) -> anyhow::Result<Option<String>> {
    if config.is_alone() || !is_new(disk, dirs) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listeners = listeners::for_nodes(config)?;
        agree::cluster_id(config, &listeners, rng).await.map(Some)
    })
}

fn claim(
    config: &NodeConfig,
    found: Option<String>,
    disk: &FsDisk,
    dirs: &[PathBuf],
    rng: &mut Rng,
) -> anyhow::Result<Vec<meta::Meta>> {
    let wanted = match (config.cluster_id, found) {
        (Some(id), _) => Some(id.to_string()),
        (None, Some(found)) => Some(found),
        (None, None) => agreed(config, disk, dirs, rng)?,
    };
    let ids: Vec<DirId> = (0..dirs.len()).map(|dir| DirId(dir as u16)).collect();
    meta::claim(disk, &ids, config.node_id, wanted.as_deref(), rng)
        .map_err(|refused| anyhow::anyhow!("{refused} (log.dirs: {})", settings::names(dirs)))
}

/// After a clean stop the metadata log ends with a whole batch, or it is damaged. Looked at before anything is changed, so that the next
/// start refuses it as well.
fn check_metadata(config: &NodeConfig, disk: &FsDisk, dirs: &[PathBuf]) -> anyhow::Result<()> {
    if !config.role.is_voter() {
        return Ok(());
    }
    let dir = metadata_dir(config, dirs);
    if !moldau_storage::is_marked_clean(disk, dir)? {
        return Ok(());
    }
    moldau_quorum::check_end(disk, dir)
        .with_context(|| format!("the metadata log in {} cannot be used", config.metadata_dir.display()))?;
    if usize::from(dir.0) >= with_partitions(config) {
        // Recovery does not come by there.
        moldau_storage::unmark_clean(disk, dir)?;
    }
    Ok(())
}

fn recover(
    disk: &FsDisk,
    dirs: &[PathBuf],
    count: usize,
    clock: &Clock,
) -> anyhow::Result<Vec<RecoveredLog>> {
    let mut logs = Vec::new();
    let moves =
        moldau_storage::recover_moves(disk, (0..count).map(|dir| DirId(dir as u16))).with_context(|| {
            format!("moves between log directories cannot be ended ({})", settings::names(dirs))
        })?;
    for (dir, finding) in &moves.findings {
        tracing::warn!(dir = %dirs[usize::from(dir.0)].display(), "{finding}");
    }
    for (at, path) in dirs.iter().take(count).enumerate() {
        let started = clock.now().mono;
        let dir = DirId(at as u16);
        let policy = RecoveryPolicy {
            skip: vec![METADATA_LOG.to_owned()],
            index_interval_bytes: 4096,
            now_ms: clock.now().wall_ms,
        };
        let Recovered { logs: found, clean, findings, scanned_bytes } =
            moldau_storage::recover(disk, dir, &policy)
                .with_context(|| format!("log directory {} cannot be recovered", path.display()))?;
        for finding in &findings {
            tracing::warn!(dir = %path.display(), "{finding}");
        }
        let took = clock.now().mono.since(started);
        tracing::info!(dir = %path.display(), logs = found.len(), clean, scanned_bytes, ?took, "recovered");
        logs.extend(found);
    }
    moves.resume(&mut logs);
    disk.close();
    Ok(logs)
}

/// What starting the shards needs.
struct Start<'a> {
    config: &'a NodeConfig,
    settings: &'a Arc<Settings>,
    shared: &'a Arc<Shared>,
    clock: &'a Clock,
    dirs: &'a [PathBuf],
}

impl Start<'_> {
    fn shards(
        &self,
        recovered: Vec<RecoveredLog>,
        mut to_quorum: Option<Sender<ToQuorum>>,
        rng: &mut Rng,
    ) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let shards = self.settings.shards;
        let descriptors = raise_descriptor_limit();
        let line = descriptors / 16 / self.dirs.len().max(1) as u64;
        let background = Threads::start(self.dirs, line.clamp(16, MOST_WAITING_JOBS) as usize)?;
        let mut logs: Vec<Vec<RecoveredLog>> = (0..shards).map(|_| Vec::new()).collect();
        for log in recovered {
            // Shard 0 finds out whose the logs without an id are.
            let partition = PartitionIndex(log.partition);
            let owner =
                log.topic_id.map_or(ShardId(0), |topic| owner(TopicPartition { topic, partition }, shards));
            logs[usize::from(owner.0)].push(log);
        }
        let files_per_shard =
            (descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2 / u64::from(shards)).max(16);
        let mut threads = Vec::new();
        for (at, logs) in logs.into_iter().enumerate() {
            let id = ShardId(at as u16);
            let limits = self.limits();
            let (settings, shared, clock) = (self.settings.clone(), self.shared.clone(), self.clock.clone());
            let dirs = self.dirs.to_vec();
            let background = background.of(shared.mailbox(id).clone());
            let to_quorum = to_quorum.take_if(|_| id.0 == 0);
            let rng = rng.fork();
            let run = move || {
                let shard = Shard::new(id, settings, rng, logs, clock.now());
                let files = Files::new(dirs, files_per_shard as usize, background);
                let host = Host::new(id, shard, files, clock, shared, to_quorum, limits);
                if let Err(error) = host::run(host) {
                    tracing::error!(%error, "an event loop cannot be made");
                }
            };
            threads.push(thread::Builder::new().name(format!("shard-{at}")).spawn(run)?);
        }
        Ok(threads)
    }

    fn limits(&self) -> Limits {
        let limits = &self.config.limits;
        let shards = u64::from(self.settings.shards);
        Limits {
            frame_bytes: limits.request_bytes,
            queued_bytes: usize::try_from(limits.request_memory_bytes / shards).unwrap_or(usize::MAX),
            idle_ms: limits.idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Raises the limit of open files to the hardest one allowed, and returns it.
fn raise_descriptor_limit() -> u64 {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.maximum.is_some() {
        limit.current = limit.maximum;
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    }
    limit.current.unwrap_or(1 << 16)
}

/// Serves until a signal comes, then lets the shards finish.
async fn serve(
    config: &NodeConfig,
    settings: &Settings,
    shared: &Arc<Shared>,
    open: Open,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut failed = shared.failure();
    let mut measure = tokio::time::interval(Duration::from_secs(10));
    let served = open.serve(config, settings, shared);
    tokio::pin!(served);
    let why = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            ended = &mut served => break ended.err(),
            why = failure(&mut failed) => break Some(anyhow::anyhow!(why)),
            _ = measure.tick() => space::measure(settings),
        }
    };
    tracing::info!(
        "stopping: other nodes take over, requests in work are finished, logs flushed; a second signal ends at once"
    );
    shared.health.set(crate::http::HealthState::Stopping);
    tokio::select! {
        () = stop(shared, why.is_none()) => {}
        _ = terminate.recv() => std::process::exit(143),
        _ = interrupt.recv() => std::process::exit(130),
        () = tokio::time::sleep(GRACE * 3) => bail!("the logs could not be flushed within {:?}", GRACE * 3),
    }
    why.map_or(Ok(()), Err)
}

/// Lets others take over what this node leads, if it is well, and the shards finish.
async fn stop(shared: &Shared, is_well: bool) {
    if is_well {
        shared.mailbox(ShardId(0)).send(Item::Leave);
        if tokio::time::timeout(HAND_OVER, shared.has_left()).await.is_err() {
            tracing::warn!("other nodes have not taken over within {HAND_OVER:?}");
        }
    }
    shared.mailboxes().iter().for_each(|mailbox| mailbox.send(Item::Stop));
    shared.all_stopped().await;
}

async fn failure(failed: &mut tokio::sync::watch::Receiver<Option<String>>) -> String {
    match failed.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => std::future::pending().await,
    }
}
