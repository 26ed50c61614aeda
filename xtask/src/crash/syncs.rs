//! A disk whose syncs fail, or take long: `strace` attached to the running broker answers fsync and fdatasync in the kernel's place.
//!
//! With `flush.messages=1` an acknowledgement means that a sync has succeeded. A failed one must take the log directory offline,
//! so that no acknowledgement follows it until a restart; a slow one must only make things slow.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::broker::Broker;
use super::session::{Plan, Session, rounds as run_rounds};
use super::{Context, Tally};
use crate::toolbox;

/// So many that syncs which wait together are done by one of the whole file system.
const PARTITIONS: usize = 40;
/// The calls that sync.
pub const ALL: &str = "fsync,fdatasync,syncfs";

/// Whether the machine has strace, and lets it look into a process.
pub fn needs() -> Result<()> {
    toolbox::need(&["strace"])?;
    let looked = Command::new("strace").args(["-f", "-e", "trace=none", "true"]).output()?;
    match looked.status.success() {
        true => Ok(()),
        false => bail!("strace may not: {}", String::from_utf8_lossy(&looked.stderr).trim()),
    }
}

fn begin<'a>(context: &'a Context, name: &str) -> Result<Session<'a>> {
    let folder = context.folder(name)?;
    let broker = Broker::new(&context.bin, &folder.join("data"))?;
    let plan = Plan { configs: &["flush.messages=1"], partitions: PARTITIONS, ..Plan::default() };
    Session::begin(context, folder, broker, &plan)
}

/// Syncs fail from some moment on.
pub fn failing(context: &Context, rounds: u64) -> Result<Tally> {
    let mut seen = Seen::default();
    let tally = run_rounds("bad-sync", rounds, begin(context, "bad-sync")?, |session, draw| {
        session.traffic.progress()?;
        std::thread::sleep(draw.millis(0, 1000));
        // One failure is enough; that later ones succeed must change nothing.
        let (first, count) = (draw.below(40) + 1, if draw.one_in(2) { "" } else { "+" });
        let only_whole = draw.one_in(2);
        let offline = |session: &Session<'_>| session.broker.said().matches("taken out of service").count();
        let offline_before = offline(session);
        let strace = match only_whole {
            // Slow single ones, so that many wait together.
            true => attach(
                &session.broker,
                &["fsync,fdatasync:delay_enter=20000", &format!("syncfs:error=EIO:when=1{count}")],
            )?,
            false => attach(&session.broker, &[&format!("{ALL}:error=EIO:when={first}{count}")])?,
        };
        let is_silent = session.traffic.falls_silent(Duration::from_secs(2), Duration::from_secs(20))?;
        drop(strace);
        let failed = seen.take_in(&session.broker)?;
        // Not every file system is ever synced as a whole.
        if !is_silent && (failed > 0 || !only_whole) {
            bail!("a sync has failed and acknowledgements go on");
        }
        ensure!(
            failed == 0 || offline(session) > offline_before,
            "a sync has failed, and the log does not say so"
        );
        session.broker.kill();
        session.broker.start()
    })?;
    Ok(seen.noted(tally))
}

/// Every sync takes long, and the process may be killed meanwhile.
pub fn slow(context: &Context, rounds: u64) -> Result<Tally> {
    let mut seen = Seen::default();
    let tally = run_rounds("slow-sync", rounds, begin(context, "slow-sync")?, |session, draw| {
        session.traffic.progress()?;
        let delay = 50_000 + draw.below(400_000);
        let strace = attach(&session.broker, &[&format!("{ALL}:delay_enter={delay}")])?;
        session.traffic.progress()?;
        std::thread::sleep(draw.millis(0, 3000));
        if draw.one_in(2) {
            session.broker.kill();
            drop(strace);
            seen.take_in(&session.broker)?;
            return session.broker.start();
        }
        drop(strace);
        seen.take_in(&session.broker)?;
        session.traffic.progress()
    })?;
    Ok(seen.noted(tally))
}

/// Syncs of single files and of the whole file system, and those of them that were made to fail.
#[derive(Default)]
struct Seen {
    single: [u64; 2],
    whole: [u64; 2],
}

impl Seen {
    /// Counts what strace has written about a round; how many syncs it has made to fail.
    fn take_in(&mut self, broker: &Broker) -> Result<u64> {
        let before = self.single[1] + self.whole[1];
        for line in std::fs::read_to_string(log_of(broker))?.lines() {
            // The end of a call may be a line of its own: `<... syncfs resumed>`.
            let counts = if line.contains("syncfs") { &mut self.whole } else { &mut self.single };
            counts[0] += u64::from(line.contains("sync(") || line.contains("syncfs("));
            counts[1] += u64::from(line.contains("(INJECTED)"));
        }
        Ok(self.single[1] + self.whole[1] - before)
    }

    fn noted(&self, mut tally: Tally) -> Tally {
        let Seen { single: [single, single_failed], whole: [whole, whole_failed] } = self;
        tally.notes.push(format!(
            "syncs of a file: {single}, made to fail: {single_failed}; of the whole file system: {whole}, made to fail: {whole_failed}"
        ));
        tally
    }
}

/// Where strace writes what it sees.
fn log_of(broker: &Broker) -> PathBuf {
    broker.data().with_extension("strace")
}

fn attach(broker: &Broker, faults: &[&str]) -> Result<Strace> {
    Strace::attach(broker.id().context("the broker does not run")?, &log_of(broker), faults)
}

/// A strace that is attached; detaches when dropped.
pub struct Strace(Child);

impl Strace {
    /// To a process, with `faults`, each of the form `call,call:fault`; what it sees goes to `log`.
    pub fn attach(process: Pid, log: &Path, faults: &[&str]) -> Result<Self> {
        let id = process.as_raw_nonzero().get();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-e", &format!("trace={ALL}"), "-o"]).arg(log);
        for fault in faults {
            strace.args(["-e", &format!("inject={fault}")]);
        }
        strace.args(["-p", &id.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = strace.spawn().context("cannot start strace")?;
        let traced = || {
            let tasks = std::fs::read_dir(format!("/proc/{id}/task")).ok()?;
            let all = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
            Some(all.into_iter().all(|status| !status.contains("TracerPid:\t0\n")))
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while traced() != Some(true) {
            if Instant::now() > deadline {
                bail!("strace does not attach");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self(child))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Asked to end, it lets its process go on.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}
