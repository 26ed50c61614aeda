//! From `exec` to the first acknowledged record.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use moldau_wire::produce;

use crate::frames::{PRODUCE_VERSION, Shape};
use crate::link::{Link, ok};
use crate::serving::Serving;

const TOPIC: &str = "first";

/// Times from just before `exec`.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// To the line `ready`.
    pub ready: Duration,
    /// To the answer that a record is stored, in a topic made for it where there was none.
    pub acknowledged: Duration,
}

/// Medians of several starts.
#[derive(Clone, Copy, Debug)]
pub struct Starts {
    /// On a directory that is empty.
    pub empty: Start,
    /// On the directory of the start before, after a clean stop.
    pub stopped: Start,
    /// On the same directory after SIGKILL.
    pub killed: Start,
}

/// Starts the broker `rounds` times in each way, below `dir`.
pub fn measure(program: &Path, dir: &Path, rounds: usize) -> Result<Starts> {
    ensure!(rounds > 0, "no rounds");
    let (mut empty, mut stopped, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let data = dir.join(format!("start-{round}"));
        let (broker, start) = first_record(program, &data)?;
        empty.push(start);
        let status = broker.stop()?;
        ensure!(status.success(), "the broker did not stop cleanly: {status}");
        let (broker, start) = first_record(program, &data)?;
        stopped.push(start);
        drop(broker);
        killed.push(first_record(program, &data)?.1);
        std::fs::remove_dir_all(&data)?;
    }
    Ok(Starts { empty: median(&empty), stopped: median(&stopped), killed: median(&killed) })
}

fn first_record(program: &Path, data: &Path) -> Result<(Serving, Start)> {
    let broker = Serving::broker(program, data)?;
    let mut link = Link::open(broker.address)?;
    link.topic(TOPIC, 1)?;
    let records = Some(Shape { record: 100, batch: 0 }.build()?);
    let partition = produce::request::Partition { index: 0, records };
    let topic =
        produce::request::Topic { name: TOPIC.into(), partition_data: vec![partition], ..Default::default() };
    let request =
        produce::Request { transactional_id: None, acks: -1, timeout_ms: 10_000, topic_data: vec![topic] };
    let answer = link.call(PRODUCE_VERSION, request)?;
    let acknowledged = broker.started.elapsed();
    for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
        ok(partition.error_code, "Produce")?;
    }
    let ready = broker.ready.duration_since(broker.started);
    Ok((broker, Start { ready, acknowledged }))
}

fn median(starts: &[Start]) -> Start {
    let middle = |of: fn(&Start) -> Duration| {
        let mut all: Vec<Duration> = starts.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    Start { ready: middle(|start| start.ready), acknowledged: middle(|start| start.acknowledged) }
}
