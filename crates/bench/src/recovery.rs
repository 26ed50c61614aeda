//! From `exec` to every partition taking records again, after SIGKILL with a large log.
//!
//! The log is written at full speed and the process killed in the same moment, so that nothing is clean. Its pages are still in
//! memory, unless they are dropped: that takes root, and where it cannot be done the cold leg is left out.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::contender::Contender;
use crate::legs::{PRODUCE, Produce};
use crate::link::Link;
use crate::pump::Bounds;
use crate::results::{Leg, Sample, Target};
use crate::startup::append_one;

const TOPIC: &str = "recovered";
/// How long writing the log may take.
const FILL: Duration = Duration::from_secs(600);
/// How long partitions may refuse records after the broker accepts connections.
const PATIENCE: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_millis(2);

/// How much is recovered.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// Bytes of the log, in all partitions.
    pub bytes: u64,
    /// Restarts with the log in memory; the first is that of the process which was killed under load.
    pub rounds: usize,
}

/// Fills, kills and restarts each broker.
pub fn run(contenders: &[Contender], dir: &Path, recovery: Recovery) -> Result<Vec<Leg>> {
    let gigabytes = recovery.bytes as f64 / crate::GB;
    let leg = &PRODUCE[1];
    let what = format!(
        "SIGKILL under load with {gigabytes} GB in {} partitions; exec to all writable",
        leg.partitions
    );
    let target = Some(Target { of_kafka: Some(0.05), at_most: None });
    let mut hot = Leg::new("recovery cached", &what, "s", target);
    let mut cold = Leg::new("recovery cold", "the same with the log no longer in memory", "s", target);
    for contender in contenders {
        let name = contender.name();
        crate::say(format_args!("recovery: {gigabytes} GB of {name}"));
        let dir = dir.join(format!("recovery-{name}"));
        fill(contender, leg, &dir, recovery.bytes)?;
        for _ in 0..recovery.rounds {
            hot.add(name, Sample::of(writable(contender, leg, &dir)?.as_secs_f64()));
        }
        if drop_caches() {
            cold.add(name, Sample::of(writable(contender, leg, &dir)?.as_secs_f64()));
        }
        std::fs::remove_dir_all(&dir)?;
        rustix::fs::sync();
    }
    Ok(vec![hot, cold])
}

fn fill(contender: &Contender, leg: &Produce, dir: &Path, bytes: u64) -> Result<()> {
    let broker = contender.start(dir)?;
    let topic = leg.prepare(broker.address, broker.pid(), TOPIC)?;
    let done = topic.send(Bounds { bytes, time: FILL })?;
    // A request that is not whole is left over; the rest must be there.
    ensure!(done.bytes + done.bytes / 100 >= bytes, "only {} bytes in {FILL:?}", done.bytes);
    Ok(())
}

/// Starts, waits until each partition has taken a record, and kills again.
fn writable(contender: &Contender, leg: &Produce, dir: &Path) -> Result<Duration> {
    let broker = contender.start(dir)?;
    let mut link = Link::open(broker.address)?;
    let partitions: Vec<i32> = (0..leg.partitions).collect();
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = append_one(&mut link, TOPIC, &partitions) {
        if Instant::now() > deadline {
            return Err(why).context(format!("partitions refuse records after {PATIENCE:?}"));
        }
        std::thread::sleep(RETRY);
    }
    Ok(broker.started.elapsed())
}

/// Writes everything to the disk and forgets what is cached of it; false where that is not allowed.
pub fn drop_caches() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
