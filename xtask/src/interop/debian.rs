//! The main job on real input: Debian's package index goes in through one client family and comes out through another,
//! in two group members, across a kill -9 of the broker in the middle.
//!
//! Every record is a package: its key the name, its value the whole stanza. What came out must be what went in, each
//! record once: the SHA-256 of the sorted records is the same on both sides. A record that a member was given again
//! after the kill (same partition and offset) is counted; the same record at two offsets is a failure.

use super::broker::{self, Broker};
use super::cases::Bench;
use super::client::Outcome;
use super::group::{self, Member, PARTITIONS};
use super::{Args, families, rule};
use crate::{apt, toolbox};
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the whole job may take once the broker runs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Options of `cargo xtask interop debian`.
#[derive(clap::Args)]
pub struct Options {
    /// The family that writes
    #[arg(long, default_value = "confluent")]
    producer: String,
    /// The family whose two members read
    #[arg(long, default_value = "java-4.3")]
    consumer: String,
    /// How often the broker is killed
    #[arg(long, default_value_t = 1)]
    kills: usize,
}

/// Records in the encoding of a record file: key and value, each with its length.
type Records = Vec<Vec<u8>>;

/// Runs the job; an error when what came out is not what went in.
pub fn run(args: &Args, options: &Options) -> Result<()> {
    let sent = match stanzas() {
        Ok(sent) => sent,
        Err(why) => {
            println!("interop debian: SKIPPED, {}", toolbox::missing(why)?);
            return Ok(());
        }
    };
    let mut clients = Vec::new();
    for name in [&options.producer, &options.consumer] {
        let known =
            families::NAMES.iter().find(|n| *n == name).with_context(|| format!("no client `{name}`"))?;
        let client = families::prepare(known, 1)?;
        if let Some(why) = client.missing() {
            println!("interop debian: SKIPPED, {name}: {why}");
            return Ok(());
        }
        clients.push(client);
    }
    let dir = broker::scratch("debian")?;
    let mut broker = Broker::start(&args.against, &args.binary()?, &dir)?;
    let bench = Bench { patience: PATIENCE, ..super::bench(args, clients, &broker) };
    let began = Instant::now();
    let job = Job {
        bench: &bench,
        dir: &dir,
        topic: format!("{}-packages", bench.tag),
        sent: &sent,
        kills: options.kills,
    };
    let got = job.run(&mut broker)?;
    println!("{} wrote, {} read, against {:?}", options.producer, options.consumer, args.against);
    got.compare(&sent, began.elapsed())
        .with_context(|| format!("the broker's files are in {}", dir.display()))?;
    drop(broker);
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Every stanza of the package index, as records.
fn stanzas() -> Result<Records> {
    let text = apt::package_index()?;
    let mut records = Records::new();
    for stanza in text.split("\n\n").map(str::trim).filter(|s| !s.is_empty()) {
        let name =
            stanza.lines().find_map(|l| l.strip_prefix("Package: ")).context("a stanza has no name")?;
        let mut record = Vec::with_capacity(stanza.len() + name.len() + 8);
        rule::put_field(&mut record, Some(name.as_bytes()));
        rule::put_field(&mut record, Some(stanza.as_bytes()));
        records.push(record);
    }
    ensure!(records.len() > 10_000, "the package index has only {} packages", records.len());
    Ok(records)
}

struct Job<'a> {
    bench: &'a Bench,
    dir: &'a Path,
    topic: String,
    sent: &'a Records,
    kills: usize,
}

/// What came out.
struct Got {
    records: Records,
    again: usize,
    seen_at_kills: Vec<usize>,
}

impl Job<'_> {
    fn run(&self, broker: &mut Broker) -> Result<Got> {
        let file = self.dir.join("sent.records");
        fs::write(&file, self.sent.concat())?;
        self.bench.create(0, &self.topic, PARTITIONS, "").map_err(failed)?;
        let outs = [self.dir.join("member-1.records"), self.dir.join("member-2.records")];
        let group = format!("{}-group", self.topic);
        let mut members = Vec::new();
        for out in &outs {
            members.push(Member::join(self.bench, 1, &self.topic, &group, Some(out))?);
        }
        group::settle(&mut members.iter_mut().collect::<Vec<_>>(), "two members")?;
        let seen_at_kills = std::thread::scope(|scope| {
            let send = format!("topic={} file={} rate=10000", self.topic, file.display());
            let writer = scope.spawn(move || self.bench.ask(0, "send", &send));
            let mut seen_at_kills = Vec::new();
            for kill in 1..=self.kills {
                self.wait_for(&mut members, self.sent.len() * kill / (2 * self.kills + 2))?;
                seen_at_kills.push(members.iter().map(Member::count).sum());
                let busy = if writer.is_finished() { "has finished" } else { "is writing" };
                let (seen, all) = (seen_at_kills[kill - 1], self.sent.len());
                eprintln!("kill -9 of the broker: {seen} of {all} records read, the producer {busy}");
                broker.kill_and_restart()?;
                eprintln!("the broker is back");
            }
            let wrote = writer.join().unwrap_or_else(|_| Outcome::fail("the writer's thread failed"));
            eprintln!("the producer: {}", wrote.detail);
            if !wrote.is_ok() {
                return Err(failed(wrote));
            }
            self.wait_for(&mut members, self.sent.len())?;
            Ok(seen_at_kills)
        })?;
        for member in &mut members {
            member.leave()?;
        }
        let (records, again) = merge(&outs)?;
        Ok(Got { records, again, seen_at_kills })
    }

    /// Waits until the members together saw `count` records, and then for what else comes.
    fn wait_for(&self, members: &mut [Member], count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = (0, Instant::now());
        loop {
            for member in members.iter_mut() {
                member.pump()?;
            }
            let seen: usize = members.iter().map(Member::count).sum();
            if seen > last.0 {
                last = (seen, Instant::now());
            }
            let settled = count < self.sent.len() || last.1.elapsed() > Duration::from_secs(2);
            if seen >= count && settled {
                return Ok(());
            }
            if Instant::now() > deadline || last.1.elapsed() > Duration::from_secs(60) {
                bail!("{seen} of {count} records read, and no more came for 60 s");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn failed(outcome: Outcome) -> anyhow::Error {
    anyhow::anyhow!("{}\n{}", outcome.detail, outcome.tail.join("\n"))
}

/// The records that the members kept, each place once, and how many were given to them again.
fn merge(outs: &[std::path::PathBuf]) -> Result<(Records, usize)> {
    let mut places: BTreeMap<(u32, u64), Vec<u8>> = BTreeMap::new();
    let mut again = 0;
    for out in outs {
        let data = fs::read(out).unwrap_or_default();
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (place, record) =
                take(&mut rest).with_context(|| format!("{} is cut short", out.display()))?;
            match places.insert(place, record.to_vec()) {
                Some(before) if before != record => {
                    bail!("two different records at partition {} offset {}", place.0, place.1)
                }
                Some(_) => again += 1,
                None => {}
            }
        }
    }
    Ok((places.into_values().collect(), again))
}

/// Takes one record and its place off the front of a member's file.
fn take<'a>(rest: &mut &'a [u8]) -> Option<((u32, u64), &'a [u8])> {
    let (p, offset) = (u32::from_be_bytes(rule::take(rest)?), u64::from_be_bytes(rule::take(rest)?));
    let whole = *rest;
    rule::take_field(rest)?;
    rule::take_field(rest)?;
    Some(((p, offset), &whole[..whole.len() - rest.len()]))
}

impl Got {
    fn compare(mut self, sent: &Records, took: Duration) -> Result<()> {
        let mut sent = sent.clone();
        let (before, after) = (digest(&mut sent), digest(&mut self.records));
        let bytes: usize = sent.iter().map(Vec::len).sum();
        println!("records in    {} ({:.1} MB)", sent.len(), bytes as f64 / 1e6);
        println!("records out   {}", self.records.len());
        println!("broker killed when {:?} were read; {} were given again", self.seen_at_kills, self.again);
        println!("SHA-256 in    {before}");
        println!("SHA-256 out   {after}");
        println!("took          {:.1} s", took.as_secs_f64());
        let doubled = self.records.windows(2).filter(|w| w[0] == w[1]).count();
        let lost = sent.iter().filter(|r| self.records.binary_search(r).is_err()).count();
        if before != after {
            bail!("what came out is not what went in: {lost} lost, {doubled} doubled");
        }
        println!("interop debian: 1 passed, 0 failed");
        Ok(())
    }
}

fn digest(records: &mut Records) -> String {
    records.sort_unstable();
    let mut hash = Sha256::new();
    for record in records {
        hash.update(record);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
