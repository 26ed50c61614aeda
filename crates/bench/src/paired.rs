//! Legs under load, brokers side by side: every side is started once and stays; one at a time works while the others idle.
//!
//! A leg is measured in short slices that alternate (A B C, C B A, …), so that whatever the machine does meanwhile meets all
//! sides alike, and the ratio of neighbours is what is kept. Before the first slice each broker is warmed up with the same
//! load; a JVM needs that; and all free memory is touched. The floor of the machine is one of the sides.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::contender::Contender;
use crate::floor::Floor;
use crate::legs::{BATCHES, Fetch, Latency, Per, Produce, Producing, QUANTILES, part_of_kafka};
use crate::link::Link;
use crate::machine::touch_free_memory;
use crate::paced::{self, Paced};
use crate::process::{measure, resident};
use crate::pump::Bounds;
use crate::results::{FLOOR, Leg, Sample};
use crate::serving::Serving;

/// The topic that the fetch legs read.
const FETCHED: &str = "fetched";
/// Fetching is several times faster than producing; slices of equal length take this many times the bytes.
const FETCH_VOLUME: u64 = 4;
/// A slice of a latency leg lasts this many times as long: a thousandth of its batches must be many.
const LATENCY_TIME: u32 = 2;
/// The first leg is warmed up this many times as long as the others.
const FIRST: u32 = 3;
/// A warm-up takes at most the bytes of this many slices.
const WARM_UP_VOLUME: u64 = 3;
/// Requests of one record are many in little time.
const SINGLE: Duration = Duration::from_secs(3);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Slices {
    /// Pairs of each leg.
    pub pairs: usize,
    /// Bounds of a slice.
    pub bounds: Bounds,
    /// Time of the warm-up of a leg.
    pub warm_up: Duration,
}

/// A broker that runs.
pub struct Live {
    /// Its side.
    pub name: &'static str,
    /// Its process.
    pub serving: Serving,
}

/// Starts each contender in a folder of its own below `dir`.
pub fn start_all(contenders: &[Contender], dir: &Path) -> Result<Vec<Live>> {
    let start = |contender: &Contender| -> Result<Live> {
        let name = contender.name();
        crate::say(format_args!("starting {name}"));
        Ok(Live { name, serving: contender.start(&dir.join(name))? })
    };
    contenders.iter().map(start).collect()
}

/// The brokers of a run under load, and what of them is warm already.
pub struct Brokers<'a> {
    /// All of them.
    pub lives: Vec<Live>,
    dir: &'a Path,
    slices: Slices,
    warm: bool,
    filled: bool,
}

impl Brokers<'_> {
    /// Starts all.
    pub fn start<'a>(contenders: &[Contender], dir: &'a Path, slices: Slices) -> Result<Brokers<'a>> {
        Ok(Brokers { lives: start_all(contenders, dir)?, dir, slices, warm: false, filled: false })
    }

    /// A produce leg.
    pub fn produce(&mut self, leg: &Produce) -> Result<Vec<Leg>> {
        let warm_up = self.warm_up();
        Ok(vec![produce(leg, &self.lives, self.dir, self.slices, warm_up)?])
    }

    /// A latency leg.
    pub fn latency(&mut self, leg: &Latency) -> Result<Vec<Leg>> {
        let warm_up = self.warm_up();
        latency(leg, &self.lives, self.slices, warm_up)
    }

    /// A fetch leg, of a topic that is there from the first of them on.
    pub fn fetch(&mut self, leg: &Fetch) -> Result<Vec<Leg>> {
        let warm_up = self.warm_up();
        if !self.filled {
            for live in &self.lives {
                let topic = BATCHES.prepare(live.serving.address, live.serving.pid(), FETCHED)?;
                topic.send(Bounds { time: Duration::from_secs(60), ..self.slices.bounds })?;
            }
            rustix::fs::sync();
            self.filled = true;
        }
        Ok(vec![fetch(leg, &self.lives, self.dir, self.slices, warm_up)?])
    }

    /// The most memory that each had.
    pub fn peak_memory(&self) -> Result<Leg> {
        let mut memory = Leg::new("peak memory", "most resident under the loads above", "MB", None);
        for live in &self.lives {
            memory.add(live.name, Sample::of(resident(live.serving.pid())?.1 as f64 / 1e6));
        }
        Ok(memory)
    }

    /// What a leg begins with. Its bytes are bounded too, lest a fast broker fills the disk.
    fn warm_up(&mut self) -> Bounds {
        let times = if std::mem::replace(&mut self.warm, true) { 1 } else { FIRST };
        let bytes = self.slices.bounds.bytes * WARM_UP_VOLUME * u64::from(times);
        Bounds { time: self.slices.warm_up * times, bytes }
    }
}

/// Calls `work` for each side in turn, there and back again, `pairs` times.
pub fn alternate(pairs: usize, sides: usize, mut work: impl FnMut(usize) -> Result<()>) -> Result<()> {
    for pair in 0..pairs {
        for place in 0..sides {
            work(if pair % 2 == 0 { place } else { sides - 1 - place })?;
        }
    }
    Ok(())
}

fn produce(leg: &Produce, lives: &[Live], dir: &Path, slices: Slices, warm_up: Bounds) -> Result<Leg> {
    begin(leg.name, leg.what);
    let topic = leg.name.replace(' ', "-");
    let prepare = |live: &Live| leg.prepare(live.serving.address, live.serving.pid(), &topic);
    let brokers = lives.iter().map(prepare).collect::<Result<Vec<Producing>>>()?;
    for broker in &brokers {
        broker.send(warm_up)?;
        rustix::fs::sync();
    }
    let bounds = match leg.per {
        Per::Gigabyte => slices.bounds,
        Per::Request => Bounds { time: slices.bounds.time.min(SINGLE), ..slices.bounds },
    };
    let mut measured = Leg::new(leg.name, leg.what, leg.per.unit(), part_of_kafka(leg.of_kafka));
    alternate(slices.pairs, lives.len() + 1, |place| {
        let (side, (tally, cpu)) = match brokers.get(place) {
            Some(broker) => {
                let name = lives[place].name;
                (name, broker.run(bounds).context(name)?)
            }
            None => (FLOOR, parts(leg.floor(dir, bounds)?)),
        };
        measured.add(side, Sample::loaded(leg.per.figure(&tally, cpu.serving), &tally, cpu));
        Ok(())
    })?;
    delete(lives, &topic)?;
    Ok(measured)
}

fn fetch(leg: &Fetch, lives: &[Live], dir: &Path, slices: Slices, warm_up: Bounds) -> Result<Leg> {
    begin(leg.name, leg.what);
    for live in lives {
        leg.read(live.serving.address, FETCHED, Bounds { bytes: u64::MAX, ..warm_up })?;
    }
    let bounds = Bounds { bytes: slices.bounds.bytes * FETCH_VOLUME, ..slices.bounds };
    let mut measured = Leg::new(leg.name, leg.what, Per::Gigabyte.unit(), part_of_kafka(leg.of_kafka));
    alternate(slices.pairs, lives.len() + 1, |place| {
        let (side, (tally, cpu)) = match lives.get(place) {
            Some(live) => (live.name, leg.run(live.serving.address, live.serving.pid(), FETCHED, bounds)?),
            None => (FLOOR, parts(leg.floor(dir, bounds)?)),
        };
        measured.add(side, Sample::loaded(Per::Gigabyte.figure(&tally, cpu.serving), &tally, cpu));
        Ok(())
    })?;
    Ok(measured)
}

/// Quantiles of produce-to-consume latency; each slice takes its whole time.
fn latency(leg: &Latency, lives: &[Live], slices: Slices, warm_up: Bounds) -> Result<Vec<Leg>> {
    begin(leg.name, leg.what);
    let new = |(name, _, part): &(&str, f64, Option<f64>)| {
        let what = format!("{}: due to consumed, {name}", leg.what);
        Leg::new(&format!("{} {name}", leg.name), &what, "µs", part.and_then(part_of_kafka))
    };
    let mut measured: Vec<Leg> = QUANTILES.iter().map(new).collect();
    let mut late =
        Leg::new(&format!("{} late", leg.name), "the load generator's own delay in them, p99.9", "µs", None);
    let mut topics = 0;
    let mut slice = |live: &Live, time| {
        topics += 1;
        let topic = format!("paced-{topics}");
        let Serving { address, .. } = live.serving;
        let (done, cpu) =
            measure(live.serving.pid(), || paced::run(address, &topic, leg.pace, time, &mut |_, _| {}))?;
        delete(std::slice::from_ref(live), &topic)?;
        anyhow::Ok((done, cpu))
    };
    for live in lives {
        slice(live, warm_up.time)?;
    }
    alternate(slices.pairs, lives.len(), |place| {
        let live = &lives[place];
        let (Paced { consumed, late: own, .. }, cpu) = slice(live, slices.bounds.time * LATENCY_TIME)?;
        for (place, (leg, (_, quantile, _))) in measured.iter_mut().zip(QUANTILES).enumerate() {
            // What was done meanwhile is the same for all of them, and is kept once.
            let sample = Sample::loaded(consumed.micros(quantile), &consumed, cpu);
            leg.add(live.name, if place == 0 { sample } else { Sample::of(sample.value) });
        }
        late.add(live.name, Sample::of(own.value_at_quantile(0.999) as f64 / 1e3));
        Ok(())
    })?;
    measured.push(late);
    Ok(measured)
}

/// Says what comes, and makes the machine's memory alike for all of it.
fn begin(name: &str, what: &str) {
    crate::say(format_args!("{name}: {what}"));
    touch_free_memory();
}

fn parts(floor: Floor) -> (crate::pump::Tally, crate::process::Split) {
    (floor.tally, floor.cpu)
}

/// Deletes a topic everywhere, so that its data burden nothing that follows.
pub fn delete(lives: &[Live], topic: &str) -> Result<()> {
    for live in lives {
        Link::open(live.serving.address)?.delete(topic)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_go_there_and_back() {
        let mut order = Vec::new();
        alternate(2, 3, |place| {
            order.push(place);
            Ok(())
        })
        .unwrap();
        assert_eq!(order, [0, 1, 2, 2, 1, 0]);
    }
}
