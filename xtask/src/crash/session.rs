//! A broker under load and the ledger that watches it: what every case begins and ends with.

use std::path::PathBuf;

use anyhow::Result;

use super::broker::Broker;
use super::traffic::Traffic;
pub use super::traffic::{PARTITIONS, Plan, TOPIC};
use super::{Context, Tally};

/// A broker, and what goes on at it.
pub struct Session<'a> {
    context: &'a Context,
    /// The broker.
    pub broker: Broker,
    /// Its writers and readers, and what is known of its topic.
    pub traffic: Traffic<'a>,
}

impl<'a> Session<'a> {
    /// Starts the broker and the load.
    pub fn begin(context: &'a Context, folder: PathBuf, mut broker: Broker, plan: &Plan<'_>) -> Result<Self> {
        broker.start()?;
        let traffic = Traffic::begin(&context.programs, &broker.address, folder, plan)?;
        Ok(Self { context, broker, traffic })
    }

    /// Lets the writers send what they have, the group read to the end, and everything be read once more.
    pub fn finish(&mut self) -> Result<()> {
        self.traffic.finish()?;
        self.broker.stop()?;
        self.broker.start()?;
        self.traffic.read_again()?;
        self.broker.stop()
    }
}

/// Runs `round` so often, with its seed, verifies after each, and finishes; ends early when something does not hold.
pub fn rounds(
    name: &str,
    rounds: u64,
    mut session: Session<'_>,
    mut round: impl FnMut(&mut Session<'_>, &mut super::draw::Draw) -> Result<()>,
) -> Result<Tally> {
    let context = session.context;
    for number in 0..rounds {
        let seed = context.seed + number;
        let mut once = || {
            round(&mut session, &mut super::draw::Draw::new(seed))?;
            session.traffic.verify()
        };
        once().map_err(|why| why.context(format!("round of seed {seed}")))?;
        context.tell(name, number, rounds, &session.traffic.ledger);
        if !session.traffic.ledger.problems().is_empty() {
            return Ok(Tally::of(number + 1, &session.traffic.ledger));
        }
    }
    session.finish()?;
    Ok(Tally::of(rounds, &session.traffic.ledger))
}
