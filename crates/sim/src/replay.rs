//! `replay(log) == live`, looked at while a run goes on: what shards hold in memory of producers, groups and committed offsets is
//! what a replay of the log files gives.

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{Mono, Rng};
use moldau_batch::Batch;
use moldau_broker::Shard;
use moldau_group::Coordinator;
use moldau_partition::{Partition, Producers};
use moldau_storage::{Log, State};

use crate::disk::SimDisk;

/// No batch of a run decompresses to more.
const BATCH_LIMIT: usize = 1 << 20;

/// The first difference between what a shard holds and what its logs say. Everything that the shard has asked to write is written.
pub(crate) fn difference(shard: &Shard, disk: &SimDisk) -> Option<String> {
    for (_, log, partition) in shard.logs().filter(|(_, log, _)| *log.state() == State::Online) {
        if is_behind(shard, partition) {
            continue;
        }
        let batches = match read(disk, log.dir(), log.folder()) {
            Ok(batches) => batches,
            Err(what) => return Some(format!("{}: {what}", log.name())),
        };
        let found = of_producers(log, partition, &batches).or_else(|| of_groups(shard, log, &batches));
        if let Some(what) = found {
            return Some(format!("{}: {what}", log.name()));
        }
    }
    None
}

/// A follower may be cutting its log at what its leader has: the core catches up when that has ended.
fn is_behind(shard: &Shard, partition: &Partition) -> bool {
    shard.image().brokers().len() > 1 && partition.leadership().is_none() && partition.to_fetch().is_none()
}

/// The batches of a log, as the running system sees its files.
pub(crate) fn read(disk: &SimDisk, dir: DirId, name: &str) -> Result<Vec<Batch>, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let files = disk.list(&Path::new(dir, name)).map_err(|error| said(&error))?;
    let mut batches = Vec::new();
    for file in files.iter().filter(|file| file.name.ends_with(".log")) {
        let path = Path::new(dir, format!("{name}/{}", file.name));
        let mut bytes: Bytes = disk
            .read(&path, 0, usize::try_from(file.len).unwrap_or(usize::MAX))
            .map_err(|error| said(&error))?;
        while !bytes.is_empty() {
            let batch = Batch::verify(&bytes).map_err(|error| format!("{}: {error}", file.name))?;
            bytes = bytes.slice(batch.bytes().len()..);
            batches.push(batch);
        }
    }
    Ok(batches)
}

fn of_producers(log: &Log, live: &Partition, batches: &[Batch]) -> Option<String> {
    let last = batches.last()?.header();
    if last.next_offset() != log.end_offset() {
        return Some(format!("ends at {}, its files at {}", log.end_offset(), last.next_offset()));
    }
    if log.start_offset() > 0 {
        // Producers are remembered longer than their records, and after a restart not by those before the start.
        return None;
    }
    let mut replayed = Producers::default();
    batches.iter().for_each(|batch| replayed.apply(batch.header(), batch.marker(), Mono(0)));
    let (live, replayed): (Vec<_>, Vec<_>) =
        (live.producers().snapshot().collect(), replayed.snapshot().collect());
    (live != replayed).then(|| format!("producers: live {live:?}, log {replayed:?}"))
}

fn of_groups(shard: &Shard, log: &Log, batches: &[Batch]) -> Option<String> {
    let number = log.name().strip_prefix("__consumer_offsets-")?;
    let (_, live) = shard.coordinators().find(|(partition, _)| partition.to_string() == number)?;
    let mut replayed = Coordinator::new(moldau_group::Config::default(), Rng::seeded(0));
    for batch in batches {
        let records = batch.records(BATCH_LIMIT).map_err(|error| error.to_string());
        let replay = records.and_then(|records| {
            for record in records {
                let record = record.map_err(|error| error.to_string())?;
                let key = record.key.unwrap_or_default();
                replayed.replay(record.offset, key, record.value).map_err(|bad| bad.to_string())?;
            }
            Ok(())
        });
        if let Err(what) = replay {
            return Some(what);
        }
    }
    live.differs_from(&replayed)
}
