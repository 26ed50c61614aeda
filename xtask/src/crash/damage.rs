//! Damaged files: one flipped bit in a file of every kind that a broker keeps, and index files that are gone.
//!
//! The damage comes after a clean stop, or after a kill, when recovery looks at more. Then the broker must refuse to start
//! and name the file, or serve what was acknowledged; what it cannot serve it, or the client's checksum, must name. It must
//! never serve something else, nor lose anything without a word.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::broker::{Broker, Started};
use super::draw::Draw;
use super::ledger::Seen;
use super::load::{Refusal, list};
use super::session::{PARTITIONS, Plan, Session, TOPIC};
use super::{Context, Tally};

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Flip,
    Delete,
}

/// A kind of file: what it is called here, the directories that have it, how its name ends, what is done to it.
struct Kind(&'static str, &'static str, &'static str, Harm);

const KINDS: [Kind; 18] = [
    Kind("segment", TOPIC, ".log", Harm::Flip),
    Kind("index", TOPIC, ".index", Harm::Flip),
    Kind("time index", TOPIC, ".timeindex", Harm::Flip),
    Kind("deleted index", TOPIC, ".index", Harm::Delete),
    Kind("deleted time index", TOPIC, ".timeindex", Harm::Delete),
    Kind("epoch checkpoint", TOPIC, "leader-epoch-checkpoint", Harm::Flip),
    Kind("producer snapshot", TOPIC, ".snapshot", Harm::Flip),
    Kind("deleted producer snapshot", TOPIC, ".snapshot", Harm::Delete),
    Kind("topic id", TOPIC, "partition.metadata", Harm::Flip),
    Kind("recovery points", "", "recovery-point-offset-checkpoint", Harm::Flip),
    Kind("log starts", "", "log-start-offset-checkpoint", Harm::Flip),
    Kind("high watermarks", "", "replication-offset-checkpoint", Harm::Flip),
    Kind("meta.properties", "", "meta.properties", Harm::Flip),
    Kind("clean mark", "", ".kafka_cleanshutdown", Harm::Flip),
    Kind("metadata log", "__cluster_metadata", ".log", Harm::Flip),
    Kind("metadata snapshot", "__cluster_metadata", ".checkpoint", Harm::Flip),
    Kind("vote", "__cluster_metadata", "quorum-state", Harm::Flip),
    Kind("group log", "__consumer_offsets", ".log", Harm::Flip),
];

/// Rounds that meet every kind after a clean stop and after a kill.
pub const ALL: u64 = 2 * KINDS.len() as u64;

/// Runs the case: which kind a round harms follows from its seed.
pub fn run(context: &Context, rounds: u64) -> Result<Tally> {
    let mut sum = Tally::default();
    for round in 0..rounds {
        let seed = context.seed + round;
        let kind = &KINDS[(seed % KINDS.len() as u64) as usize];
        let after_kill = seed / KINDS.len() as u64 % 2 == 1;
        let one = self::round(context, kind, after_kill, &mut Draw::new(seed));
        let one = one.with_context(|| format!("seed {seed}, {}", kind.0))?;
        let when = if after_kill { "killed" } else { "stopped" };
        eprintln!("damage {}/{rounds} seed {seed}: {}, {when}: {}", round + 1, kind.0, one.notes.join("; "));
        sum.rounds += 1;
        sum.acked += one.acked;
        sum.read += one.read;
        sum.notes.extend(one.notes.into_iter().map(|note| format!("{} ({when}): {note}", kind.0)));
        sum.problems.extend(one.problems.iter().map(|p| format!("seed {seed}, {} ({when}): {p}", kind.0)));
    }
    Ok(sum)
}

/// Load, an end, one harm, a start, and the reckoning.
fn round(context: &Context, kind: &Kind, after_kill: bool, draw: &mut Draw) -> Result<Tally> {
    let folder = context.folder("damage")?;
    fs::remove_dir_all(&folder)?;
    let folder = context.folder("damage")?;
    let broker = Broker::new(&context.bin, &folder.join("data"))?;
    let plan = Plan { rate: 12_000, families: 1, readers: 1, ..Plan::default() };
    let mut session = Session::begin(context, folder, broker, &plan)?;
    std::thread::sleep(draw.millis(1500, 2500));
    session.traffic.rest()?;
    match after_kill && kind.0 != "clean mark" {
        true => session.broker.kill(),
        false => session.broker.stop()?,
    }
    let mut tally = Tally::of(1, &session.traffic.ledger);
    let Some(file) = pick(session.broker.data(), kind, draw)? else {
        tally.notes.push("there is no such file".into());
        return Ok(tally);
    };
    let what = harm(&file, kind.3, draw)?;
    let said_before = session.broker.said().len();
    match session.broker.try_start()? {
        Started::Refused(said) => {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !said.contains(name) {
                tally.problems.push(format!("{what}; it refuses to start without naming {name}: {said}"));
            }
            tally.notes.push(format!("{what}: refuses to start: {}", last_line(&said)));
        }
        Started::Ready => reckon(context, &mut session, said_before, &what, draw, &mut tally)?,
    }
    session.broker.kill();
    tally.problems.extend(session.traffic.ledger.problems());
    Ok(tally)
}

fn last_line(said: &str) -> &str {
    said.lines().last().unwrap_or_default()
}

/// Some file of the kind that is not empty.
fn pick(data: &Path, kind: &Kind, draw: &mut Draw) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![data.to_owned()];
    if !kind.1.is_empty() {
        folders.clear();
        for entry in fs::read_dir(data)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name.rsplit_once('-').is_some_and(|(topic, _)| topic == kind.1) {
                folders.push(path);
            }
        }
    }
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(kind.2) && path.is_file() && fs::metadata(&path)?.len() > 0 {
                found.push(path);
            }
        }
    }
    found.sort();
    let at = draw.below(found.len() as u64) as usize;
    Ok(found.into_iter().nth(at))
}

fn harm(file: &Path, harm: Harm, draw: &mut Draw) -> Result<String> {
    let name: PathBuf = file.components().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
    if harm == Harm::Delete {
        fs::remove_file(file)?;
        return Ok(format!("{} deleted", name.display()));
    }
    let mut bytes = fs::read(file)?;
    let (at, bit) = (draw.below(bytes.len() as u64), draw.below(8));
    bytes[at as usize] ^= 1 << bit;
    fs::write(file, bytes)?;
    Ok(format!("{} byte {at} bit {bit}", name.display()))
}

/// Reads everything, and from places in the middle; what is missing must have been named.
fn reckon(
    context: &Context,
    session: &mut Session<'_>,
    said_before: usize,
    what: &str,
    draw: &mut Draw,
    tally: &mut Tally,
) -> Result<()> {
    let mut refused = String::new();
    let ends = session.traffic.ledger.ends();
    for pass in 0..4 {
        let from: Vec<u64> = ends.iter().map(|end| if pass == 0 { 0 } else { draw.below(*end) }).collect();
        let mut seen = Seen::default();
        if let Some(why) = read(context, session, &from, &mut seen)? {
            refused = why;
        }
        let said = session.broker.said();
        let said = &said[said_before..];
        for partition in 0..PARTITIONS {
            let (due, got) = (ends[partition] - from[partition], seen.count_of(partition));
            let name = format!("{TOPIC}-{partition}");
            let named = refused.contains(&name) || said.contains(&name);
            if got < due && !named {
                tally.problems.push(format!("{what}: {name} has {got} of {due} records, without a word"));
            } else if got < due && pass == 0 {
                tally.notes.push(format!("{what}: {name} has {got} of {due} records"));
            }
        }
    }
    if !refused.is_empty() {
        tally.notes.push(refused);
    } else if tally.notes.is_empty() {
        tally.notes.push(format!("{what}: everything is served"));
    }
    // Other topics must work whatever happened to this one.
    context.programs.create(&session.broker.address, "after", 1, &[])?;
    if !session.broker.is_running() {
        bail!("{what}: the broker has ended:\n{}", session.broker.said());
    }
    session.broker.stop().context("it does not stop cleanly")
}

/// Reads from these offsets; why that was refused, if it was.
fn read(
    context: &Context,
    session: &mut Session<'_>,
    from: &[u64],
    seen: &mut Seen,
) -> Result<Option<String>> {
    let out = session.traffic.folder.join("damaged.back");
    let read = context.programs.read(&session.broker.address, TOPIC, &out, &list(from));
    session.traffic.ledger.seen(&out, seen)?;
    match read {
        Ok(_) => Ok(None),
        Err(why) => match why.downcast::<Refusal>() {
            Ok(Refusal(why)) => Ok(Some(why)),
            Err(why) => Err(why),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_in_turn_and_a_flip_is_one_bit() {
        assert_eq!(ALL, 36);
        let file = std::env::temp_dir().join(format!("moldau-damage-{}", std::process::id()));
        fs::write(&file, [0; 64]).expect("the temporary folder can be written");
        harm(&file, Harm::Flip, &mut Draw::new(3)).expect("it is there");
        let ones: u32 = fs::read(&file).expect("it is there").iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(ones, 1);
        harm(&file, Harm::Delete, &mut Draw::new(3)).expect("it is there");
        assert!(!file.exists());
    }
}
