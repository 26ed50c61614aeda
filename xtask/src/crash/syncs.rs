//! A disk whose syncs fail, or take long: `strace` attached to the running broker answers fsync and fdatasync in the kernel's place.
//!
//! With `flush.messages=1` an acknowledgement means that a sync has succeeded. A failed one must take the log directory offline,
//! so that no acknowledgement follows it until a restart; a slow one must only make things slow.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::broker::Broker;
use super::session::{Plan, Session, rounds as run_rounds};
use super::{Context, Tally};
use crate::toolbox;

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
    Session::begin(context, folder, broker, &Plan { configs: &["flush.messages=1"], ..Plan::default() })
}

/// Syncs fail from some moment on.
pub fn failing(context: &Context, rounds: u64) -> Result<Tally> {
    run_rounds("bad-sync", rounds, begin(context, "bad-sync")?, |session, draw| {
        session.progress()?;
        std::thread::sleep(draw.millis(0, 1000));
        // One failure is enough; that later ones succeed must change nothing.
        let (first, count) = (draw.below(40) + 1, if draw.one_in(2) { "" } else { "+" });
        let strace = Strace::attach(&session.broker, &format!("error=EIO:when={first}{count}"))?;
        if !session.falls_silent(Duration::from_secs(2), Duration::from_secs(20))? {
            bail!("a sync has failed and acknowledgements go on");
        }
        drop(strace);
        session.broker.kill();
        session.broker.start()
    })
}

/// Every sync takes long, and the process may be killed meanwhile.
pub fn slow(context: &Context, rounds: u64) -> Result<Tally> {
    run_rounds("slow-sync", rounds, begin(context, "slow-sync")?, |session, draw| {
        session.progress()?;
        let delay = 50_000 + draw.below(400_000);
        let strace = Strace::attach(&session.broker, &format!("delay_enter={delay}"))?;
        session.progress()?;
        std::thread::sleep(draw.millis(0, 3000));
        if draw.one_in(2) {
            session.broker.kill();
            drop(strace);
            return session.broker.start();
        }
        drop(strace);
        session.progress()
    })
}

/// A strace that is attached; detaches when dropped.
struct Strace(Child);

impl Strace {
    fn attach(broker: &Broker, fault: &str) -> Result<Self> {
        let id = broker.id().context("the broker does not run")?.as_raw_nonzero().get();
        let log = broker.data().with_extension("strace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-e", "trace=fsync,fdatasync,syncfs", "-e"]);
        strace.arg(format!("inject=fsync,fdatasync,syncfs:{fault}")).arg("-o").arg(&log);
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
