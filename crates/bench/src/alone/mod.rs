//! What a broker is asked for by itself: how costs scale, and whether what should not disturb it does.
//!
//! | leg | |
//! |---|---|
//! | scale | CPU per GB by producers, partitions and size of records |
//! | W9 | reading an old, cold log while another topic is produced and tailed |
//! | W13 | many connections, and many at once |
//! | W22 | three times the requests in flight that may be in memory |
//! | W26 | a steady load with retention, for as long as wanted |

mod catch_up;
mod crowd;
mod scale;
mod soak;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::contender::Contender;
use crate::machine::touch_free_memory;
use crate::paired::Slices;
use crate::results::{Leg, Target};

/// First words of these legs.
pub const NAMES: [&str; 5] = ["scale", "W9", "W13", "W22", "W26"];

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// Bytes of the cold log.
    pub cold: u64,
    /// How long each phase of a latency leg takes.
    pub phase: Duration,
    /// Connections of the storm.
    pub connections: usize,
    /// The most partitions in the scaling table.
    pub partitions: usize,
    /// How long the steady load lasts.
    pub soak: Duration,
}

/// Runs one of the legs of [`NAMES`].
pub fn run(name: &str, contender: &Contender, dir: &Path, slices: Slices, alone: Alone) -> Result<Vec<Leg>> {
    touch_free_memory();
    match name {
        "scale" => scale::run(contender, dir, slices, alone),
        "W9" => catch_up::run(contender, dir, alone),
        "W13" => crowd::connections(contender, dir, alone),
        "W22" => crowd::overload(contender, dir, slices),
        "W26" => soak::run(contender, dir, alone.soak),
        other => bail!("no leg {other}"),
    }
}

fn at_most(most: f64) -> Option<Target> {
    Some(Target { of_kafka: None, at_most: Some(most) })
}
