//! What producing costs by the number of producers, of partitions, and by the size of records.

use std::path::Path;

use anyhow::Result;

use super::Alone;
use crate::contender::Contender;
use crate::frames::Shape;
use crate::legs::{BATCHES, Per, Produce};
use crate::link::Link;
use crate::paired::Slices;
use crate::pump::{Bounds, Load};
use crate::results::{FLOOR, Leg, MOLDAU, Sample};

const PRODUCERS: [usize; 3] = [1, 2, 4];
const PARTITIONS: [usize; 5] = [1, 12, 100, 1000, 10_000];
/// Bytes of a record; the largest stays below the largest batch that a topic takes by default.
const RECORDS: [usize; 5] = [100, 1024, 10 * 1024, 100 * 1024, 1_000_000];
/// Rows are many; each is measured this often at the most.
const SAMPLES: usize = 3;
const TOPIC: &str = "scale";

/// One dimension at a time, the others as in W1.
pub fn run(contender: &Contender, dir: &Path, slices: Slices, alone: Alone) -> Result<Vec<Leg>> {
    let mut rows = Vec::new();
    for producers in PRODUCERS {
        let load = Load { connections: producers, ..BATCHES.load };
        rows.push((format!("scale {producers} producers"), Produce { load, ..BATCHES }));
    }
    for partitions in PARTITIONS.into_iter().filter(|count| *count <= alone.partitions) {
        let row = Produce { partitions: i32::try_from(partitions)?, ..BATCHES };
        rows.push((format!("scale {partitions} partitions"), row));
    }
    for record in RECORDS {
        let row = Produce { shape: Shape::plain(record, BATCHES.shape.batch), ..BATCHES };
        rows.push((format!("scale records of {record} B"), row));
    }
    let dir = dir.join("scale");
    let broker = contender.start(&dir)?;
    let mut legs = Vec::new();
    for (name, row) in rows {
        crate::say(format_args!("{name}"));
        let topic = row.prepare(broker.address, broker.pid(), TOPIC)?;
        topic.send(Bounds { time: slices.warm_up, bytes: slices.bounds.bytes / 4 })?;
        rustix::fs::sync();
        let what = "produce; what the name does not say is as in W1";
        let mut leg = Leg::new(&name, what, Per::Gigabyte.unit(), None);
        for _ in 0..slices.pairs.min(SAMPLES) {
            let (tally, cpu) = topic.run(slices.bounds)?;
            leg.add(MOLDAU, Sample::loaded(Per::Gigabyte.figure(&tally, cpu.serving), &tally, cpu));
            let floor = row.floor(&dir, slices.bounds)?;
            let figure = Per::Gigabyte.figure(&floor.tally, floor.cpu.serving);
            leg.add(FLOOR, Sample::loaded(figure, &floor.tally, floor.cpu));
        }
        Link::open(broker.address)?.delete(TOPIC)?;
        legs.push(leg);
    }
    drop(broker);
    std::fs::remove_dir_all(&dir)?;
    Ok(legs)
}
