//! A data directory that is copied while the broker writes to it, and started elsewhere.
//!
//! The copy is of no single moment. Started, it must hold everything that was acknowledged before the copying began, and
//! nothing that was not sent; or refuse by name. The original goes on meanwhile.

use std::process::Command;

use anyhow::Result;

use super::broker::{Broker, Started};
use super::load;
use super::session::{Plan, Session, TOPIC, rounds as run_rounds};
use super::{Context, Tally};
use crate::toolbox::install;

/// Runs the case.
pub fn run(context: &Context, rounds: u64) -> Result<Tally> {
    let folder = context.folder("copy")?;
    let broker = Broker::new(&context.bin, &folder.join("data"))?;
    let session = Session::begin(context, folder.clone(), broker, &Plan::default())?;
    let mut refusals = Vec::new();
    let tally = run_rounds("copy", rounds, session, |session, draw| {
        session.traffic.progress()?;
        std::thread::sleep(draw.millis(0, 1500));
        let (mut ledger, mut acks) = session.traffic.promised()?;
        let copy = folder.join("copied");
        let _ = std::fs::remove_dir_all(&copy);
        install(Command::new("cp").arg("-a").args([session.broker.data(), &copy]))?;
        let mut broker = Broker::new(&context.bin, &copy)?;
        if let Started::Refused(said) = broker.try_start()? {
            refusals.push(said);
            return Ok(());
        }
        context.programs.read_on(&broker.address, TOPIC, &folder.join("copied.back"), &mut ledger)?;
        load::settle(&mut acks, &mut ledger);
        for problem in ledger.problems() {
            session.traffic.ledger.problem(format!("in the copy: {problem}"));
        }
        broker.stop()
    })?;
    Ok(Tally { notes: refusals.into_iter().map(|said| format!("refused: {said}")).collect(), ..tally })
}
