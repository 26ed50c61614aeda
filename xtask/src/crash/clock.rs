//! A clock that jumps an hour ahead, back, and an hour behind, under load: libfaketime between the broker and the time of day.
//!
//! The library is the machine's, or Debian's package unpacked into `.tools/`. Only the time of day jumps; the monotonic
//! clock goes on, as it does when an operator sets the date. That the broker sees each jump is shown by the stamp that it gives to a
//! record of a topic with LogAppendTime.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use super::broker::Broker;
use super::session::{Plan, Session, rounds as run_rounds};
use super::{Context, Tally};
use crate::{apt, toolbox};

const STAMPED: &str = "stamped";
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

/// The environment of a process whose time of day is so far off as the file `offset` says (`+3600`).
pub fn variables(offset: &Path) -> Result<[(&'static str, String); 4]> {
    Ok([
        ("LD_PRELOAD", library()?.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("DONT_FAKE_MONOTONIC", "1".into()),
    ])
}

/// Runs the case.
pub fn run(context: &Context, rounds: u64) -> Result<Tally> {
    let folder = context.folder("clock")?;
    let offset = folder.join("offset");
    std::fs::write(&offset, "+0\n")?;
    let broker = Broker::new(&context.bin, &folder.join("data"))?.with_variable("FAKETIME_NO_CACHE", "1");
    let broker =
        variables(&offset)?.iter().fold(broker, |broker, (name, value)| broker.with_variable(name, value));
    // A record from an hour ahead is refused otherwise, as Kafka does.
    let configs = ["message.timestamp.after.max.ms=86400000"];
    let plan = Plan { configs: &configs, readers: 2, ..Plan::default() };
    let session = Session::begin(context, folder, broker, &plan)?;
    let stamps = ["message.timestamp.type=LogAppendTime"];
    context.programs.create(&session.broker.address, STAMPED, 1, &stamps)?;
    run_rounds("clock", rounds, session, |session, draw| {
        for jump in ["+3600", "+0", "-3600", "+3600", "-3600", "+0"] {
            std::fs::write(&offset, format!("{jump}\n"))?;
            session.traffic.progress()?;
            check_jump(&context.bin, session, jump.parse()?)?;
            std::thread::sleep(draw.millis(500, 1500));
            session.traffic.progress()?;
            if draw.one_in(4) {
                session.broker.kill();
                session.broker.start()?;
            }
            session.traffic.verify()?;
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    })
}

/// A record that is sent now must be stamped `jump` seconds from now.
fn check_jump(bin: &Path, session: &Session<'_>, jump: i64) -> Result<()> {
    let line = session.traffic.folder.join("line");
    std::fs::write(&line, "when\n")?;
    let ask = |words: &[&str]| -> Result<String> {
        let mut command = Command::new(bin);
        command.args(words).args(["--bootstrap-server", &session.broker.address]);
        let said = command.output().with_context(|| format!("cannot run {}", bin.display()))?;
        let problem = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "moldau {}: {problem}", words.join(" "));
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    };
    let before = millis()?;
    ask(&["produce", STAMPED, "--file", &line.display().to_string()])?;
    let after = millis()?;
    let records = ask(&["consume", STAMPED, "--from", "beginning", "--until-end", "--output", "json"])?;
    let last = records.lines().last().context("the record that was sent is not there")?;
    let record: serde_json::Value = serde_json::from_str(last)?;
    let stamp = record["timestamp"].as_i64().context("a record has a timestamp")? - 1000 * jump;
    // A second for the clock that the broker looked at last.
    let seen = before - 1000..=after + 1000;
    ensure!(seen.contains(&stamp), "with a jump of {jump} s the broker's clock is {} ms off", stamp - before);
    Ok(())
}

fn millis() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().try_into()?)
}
