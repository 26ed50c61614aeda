//! From `exec` to the first acknowledged record.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moldau_wire::produce;

use crate::contender::Contender;
use crate::frames::{PRODUCE_VERSION, Shape};
use crate::link::{Link, ok};
use crate::paired::alternate;
use crate::results::{Leg, Sample, Target};
use crate::serving::Serving;

const TOPIC: &str = "first";
const WAYS: [(&str, &str); 3] = [
    ("start empty", "exec to first acknowledged record, empty directory"),
    ("start stopped", "the same after a clean stop"),
    ("start killed", "the same after SIGKILL"),
];
const TARGET: Target = Target { of_kafka: Some(0.05), at_most: Some(50.0) };

/// Starts each broker `rounds` times in each way, below `dir`.
pub fn run(contenders: &[Contender], dir: &Path, rounds: usize) -> Result<Vec<Leg>> {
    crate::say(format_args!("start-up, {rounds} rounds"));
    let mut legs: Vec<Leg> =
        WAYS.iter().map(|(name, what)| Leg::new(name, what, "ms", Some(TARGET))).collect();
    alternate(rounds, contenders.len(), |place| {
        let contender = &contenders[place];
        let name = contender.name();
        let data = dir.join(format!("start-{name}"));
        let times = three_ways(contender, &data).with_context(|| format!("start of {name}"))?;
        for (leg, time) in legs.iter_mut().zip(times) {
            leg.add(name, Sample::of(time.as_secs_f64() * 1e3));
        }
        Ok(std::fs::remove_dir_all(&data)?)
    })?;
    Ok(legs)
}

fn three_ways(contender: &Contender, data: &Path) -> Result<[Duration; 3]> {
    let (broker, empty) = first_record(contender, data)?;
    broker.stop()?;
    let (broker, stopped) = first_record(contender, data)?;
    drop(broker);
    let (_, killed) = first_record(contender, data)?;
    Ok([empty, stopped, killed])
}

fn first_record(contender: &Contender, data: &Path) -> Result<(Serving, Duration)> {
    let broker = contender.start(data)?;
    let mut link = Link::open(broker.address)?;
    link.topic(TOPIC, 1)?;
    append_one(&mut link, TOPIC, &[0])?;
    let took = broker.started.elapsed();
    Ok((broker, took))
}

/// Appends a record to each of these partitions in one request, and returns when all are acknowledged.
pub fn append_one(link: &mut Link, topic: &str, partitions: &[i32]) -> Result<()> {
    let records = Shape::plain(100, 0).build()?;
    let data = |index: &i32| produce::request::Partition { index: *index, records: Some(records.clone()) };
    let topic = produce::request::Topic {
        name: topic.into(),
        partition_data: partitions.iter().map(data).collect(),
        ..Default::default()
    };
    let request =
        produce::Request { transactional_id: None, acks: -1, timeout_ms: 30_000, topic_data: vec![topic] };
    let answer = link.call(PRODUCE_VERSION, request)?;
    let mut taken = 0;
    for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
        ok(partition.error_code, "Produce")?;
        taken += 1;
    }
    ensure!(taken == partitions.len(), "{taken} of {} partitions answered", partitions.len());
    Ok(())
}
