//! The process ends, or sleeps, at random moments under load: idempotent writers of every family, and a group of two
//! families that reads along.
//!
//! The kernel keeps what the process had written, so that nothing at all may be lost. A kill may also hit a broker that is
//! still starting. After each round everything acknowledged before it is read back; at the end the whole topic once
//! more, and what the group was given is compared with it.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::broker::Broker;
use super::session::{Plan, Session, rounds as run_rounds};
use super::{Context, Tally};

fn begin<'a>(context: &'a Context, name: &str) -> Result<Session<'a>> {
    let folder = context.folder(name)?;
    let broker = Broker::new(&context.bin, &folder.join("data"))?;
    Session::begin(context, folder, broker, &Plan { readers: 2, ..Plan::default() })
}

/// kill -9.
pub fn kill(context: &Context, rounds: u64) -> Result<Tally> {
    run_rounds("kill", rounds, begin(context, "kill")?, |session, draw| {
        session.traffic.progress()?;
        std::thread::sleep(draw.millis(0, 2000));
        session.broker.kill();
        while draw.one_in(4) {
            session.broker.begin()?;
            std::thread::sleep(draw.millis(0, 60));
            session.broker.kill();
        }
        session.broker.start()
    })
}

/// SIGSTOP for ten seconds, longer than the session of a group member.
pub fn pause(context: &Context, rounds: u64) -> Result<Tally> {
    run_rounds("pause", rounds, begin(context, "pause")?, |session, draw| {
        session.traffic.progress()?;
        std::thread::sleep(draw.millis(0, 1000));
        session.broker.signal(Signal::STOP)?;
        std::thread::sleep(Duration::from_secs(10));
        session.broker.signal(Signal::CONT)?;
        session.traffic.progress()
    })
}
