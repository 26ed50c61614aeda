//! A clock that jumps an hour ahead, back, and an hour behind, under load: libfaketime between the broker and the time of day.
//!
//! The library is the machine's, or Debian's package unpacked into `.tools/`. Only the time of day jumps; the monotonic
//! clock goes on, as it does when an operator sets the date.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::broker::Broker;
use super::session::{Plan, Session, rounds as run_rounds};
use super::{Context, Tally};
use crate::{apt, toolbox};

const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Whether there is a libfaketime, installed if need be.
pub fn needs() -> Result<()> {
    library().map(drop)
}

fn library() -> Result<PathBuf> {
    let system = PathBuf::from("/").join(LIBRARY);
    if system.is_file() {
        return Ok(system);
    }
    let dir = toolbox::dir("faketime")?;
    toolbox::once(&dir, "libfaketime", || apt::unpack(&["libfaketime"], &dir))
        .context("libfaketime cannot be installed into .tools")?;
    let own = dir.join(LIBRARY);
    anyhow::ensure!(own.is_file(), "the package libfaketime has no {LIBRARY}");
    Ok(own)
}

/// Runs the case.
pub fn run(context: &Context, rounds: u64) -> Result<Tally> {
    let folder = context.folder("clock")?;
    let offset = folder.join("offset");
    std::fs::write(&offset, "+0\n")?;
    let broker = Broker::new(&context.bin, &folder.join("data"))?
        .with_variable("LD_PRELOAD", &library()?.display().to_string())
        .with_variable("FAKETIME_TIMESTAMP_FILE", &offset.display().to_string())
        .with_variable("FAKETIME_NO_CACHE", "1")
        .with_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .with_variable("DONT_FAKE_MONOTONIC", "1");
    // A record from an hour ahead is refused otherwise, as Kafka does.
    let configs = ["message.timestamp.after.max.ms=86400000"];
    let session =
        Session::begin(context, folder, broker, &Plan { configs: &configs, readers: 2, ..Plan::default() })?;
    run_rounds("clock", rounds, session, |session, draw| {
        for jump in ["+3600", "+0", "-3600", "+3600", "-3600", "+0"] {
            std::fs::write(&offset, format!("{jump}\n"))?;
            session.progress()?;
            std::thread::sleep(draw.millis(500, 1500));
            session.progress()?;
            if draw.one_in(4) {
                session.broker.kill();
                session.broker.start()?;
            }
            session.verify()?;
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    })
}
