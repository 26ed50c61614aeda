//! Snapshots: the records of an image in a file named after the offset and epoch they reach, in Kafka's
//! format (KIP-630).
//!
//! A file has its final name only when it is whole and durable. Its first batch says in its header which
//! entry it reaches, as the batches of the log do; its second names the voters and the entry that made them
//! so.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_batch::{Batch, Builder, Codec};

use crate::codec;
use crate::control::{self, Kind};
use crate::log::{DIRECTORY, path, read_all};
use crate::recovery::Damage;
use crate::types::{LogId, StoredMembership, log_id, term};

/// Bytes of values that share a batch.
const BATCH_BYTES: usize = 256 << 10;

/// What a snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotId {
    /// The last entry in it.
    pub(crate) id: LogId,
    /// The offset after the last record in it.
    pub(crate) end_offset: i64,
}

impl SnapshotId {
    fn name(&self) -> String {
        format!("{:020}-{:010}.checkpoint", self.end_offset, term(&self.id))
    }
}

/// The content of a snapshot, as openraft passes it on.
#[derive(Clone, Debug)]
pub(crate) enum SnapshotFile {
    /// The file that is in the directory.
    Here,
    /// A file that came from the leader.
    Received {
        /// Its content.
        bytes: Bytes,
        /// The offset after the last record in it, which only its name says.
        end_offset: i64,
    },
}

/// A snapshot without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) id: SnapshotId,
    /// Of the last record in it, in milliseconds since the epoch.
    pub(crate) timestamp: i64,
    pub(crate) membership: StoredMembership,
}

/// Writes a snapshot; when it returns, the file is durable and older ones are gone.
pub(crate) fn write(
    disk: &Arc<dyn Disk>,
    dir: DirId,
    meta: &Meta,
    values: impl Iterator<Item = Bytes>,
) -> io::Result<()> {
    let name = meta.id.name();
    let part = path(dir, &format!("{name}.part"));
    disk.remove(&part)?;
    let written = write_part(&**disk, &part, meta, values).and_then(|()| finish(&**disk, dir, &part, &name));
    if written.is_err() {
        // On a full disk it would take the place that is missing; the next start removes it otherwise.
        let _ = disk.remove(&part);
    }
    written
}

fn write_part(
    disk: &dyn Disk,
    part: &Path,
    meta: &Meta,
    values: impl Iterator<Item = Bytes>,
) -> io::Result<()> {
    let mut file = File { disk, path: part, position: 0, offset: 0, id: meta.id.id };
    file.control(
        meta.id.id,
        [(Kind::SnapshotHeader, control::snapshot_header(meta.timestamp))],
        meta.timestamp,
    )?;
    if let Some(id) = meta.membership.log_id() {
        let voters = control::voters(meta.membership.membership()).map_err(invalid)?;
        let voters = voters.into_iter().map(|voters| (Kind::Voters, Ok(voters)));
        file.control(
            *id,
            std::iter::once((Kind::KRaftVersion, control::kraft_version())).chain(voters),
            meta.timestamp,
        )?;
    }
    file.values(values, meta.timestamp)?;
    file.control(meta.id.id, [(Kind::SnapshotFooter, control::snapshot_footer())], meta.timestamp)
}

/// Gives a written file its name; when it returns, the file is durable and older ones are gone.
fn finish(disk: &dyn Disk, dir: DirId, part: &Path, name: &str) -> io::Result<()> {
    disk.sync(part)?;
    disk.rename(part, &path(dir, name))?;
    for (_, older) in list(disk, dir)?.into_iter().filter(|(_, other)| other.as_str() < name) {
        disk.remove(&path(dir, &older))?;
    }
    Ok(())
}

/// Writes a snapshot that came from the leader, as it is.
pub(crate) fn write_file(disk: &dyn Disk, dir: DirId, id: SnapshotId, file: &Bytes) -> io::Result<()> {
    let name = id.name();
    let part = path(dir, &format!("{name}.part"));
    disk.remove(&part)?;
    disk.write(&part, 0, std::slice::from_ref(file))?;
    finish(disk, dir, &part, &name)
}

/// The content of a snapshot's file.
pub(crate) fn read_file(disk: &dyn Disk, dir: DirId, id: SnapshotId) -> io::Result<Bytes> {
    read_all(disk, &path(dir, &id.name()))
}

/// A part of a snapshot's file, and how long the whole is.
pub(crate) fn read_piece(
    disk: &dyn Disk,
    dir: DirId,
    id: SnapshotId,
    position: u64,
    limit: usize,
) -> io::Result<(Bytes, u64)> {
    let path = path(dir, &id.name());
    let size = disk.len(&path)?.unwrap_or(0);
    let left = usize::try_from(size.saturating_sub(position)).unwrap_or(usize::MAX);
    let bytes = if left == 0 { Bytes::new() } else { disk.read(&path, position, left.min(limit))? };
    Ok((bytes, size))
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

/// A snapshot being written.
struct File<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    position: u64,
    offset: i64,
    id: LogId,
}

impl File<'_> {
    fn builder(&self, id: LogId) -> io::Result<Builder> {
        let epoch = i32::try_from(term(&id)).map_err(invalid)?;
        let index = i64::try_from(id.index).map_err(invalid)?;
        Ok(Builder::new(Codec::None).base_offset(self.offset).leader_epoch(epoch).producer(index, -1, 0))
    }

    fn put(&mut self, builder: Builder) -> io::Result<()> {
        self.offset += i64::from(builder.count());
        let bytes = builder.build().map_err(invalid)?;
        let len = bytes.len() as u64;
        self.disk.write(self.path, self.position, &[bytes])?;
        self.position += len;
        Ok(())
    }

    fn control(
        &mut self,
        id: LogId,
        records: impl IntoIterator<Item = (Kind, Result<Bytes, moldau_wire::EncodeError>)>,
        timestamp: i64,
    ) -> io::Result<()> {
        let mut builder = self.builder(id)?.control();
        for (kind, value) in records {
            builder.push(timestamp, Some(&kind.key()), Some(&value.map_err(invalid)?), &[]);
        }
        self.put(builder)
    }

    fn values(&mut self, values: impl Iterator<Item = Bytes>, timestamp: i64) -> io::Result<()> {
        let mut builder = self.builder(self.id)?;
        for value in values {
            builder.push(timestamp, None, Some(&value), &[]);
            if builder.size() >= BATCH_BYTES {
                self.put(builder)?;
                builder = self.builder(self.id)?;
            }
        }
        if builder.count() > 0 {
            self.put(builder)?;
        }
        Ok(())
    }
}

/// End offsets and names of the snapshots that are there, in order.
fn list(disk: &dyn Disk, dir: DirId) -> io::Result<Vec<(i64, String)>> {
    let entries = disk.list(&Path::new(dir, DIRECTORY))?;
    let end = |name: &str| name.strip_suffix(".checkpoint")?.split_once('-')?.0.parse().ok();
    Ok(entries.into_iter().filter_map(|entry| Some((end(&entry.name)?, entry.name))).collect())
}

/// The latest snapshot and its values; what an interrupted write left is removed.
pub(crate) fn read_latest(disk: &dyn Disk, dir: DirId) -> Result<Option<(Meta, Vec<Bytes>)>, Damage> {
    let directory = Path::new(dir, DIRECTORY);
    for entry in disk.list(&directory).map_err(Damage::io(&directory))? {
        if entry.name.ends_with(".checkpoint.part") {
            let path = path(dir, &entry.name);
            disk.remove(&path).map_err(Damage::io(&path))?;
        }
    }
    let latest = list(disk, dir).map_err(Damage::io(&directory))?.pop();
    let Some((end_offset, name)) = latest else { return Ok(None) };
    let file = path(dir, &name);
    let bytes = read_all(disk, &file).map_err(Damage::io(&file))?;
    let (meta, values) =
        read(bytes, end_offset).map_err(|why| Damage::File { file: file.name.clone(), why })?;
    if meta.id.name() != name {
        let why = format!("by its content it is {}", meta.id.name());
        return Err(Damage::File { file: file.name, why });
    }
    Ok(Some((meta, values)))
}

/// Reads a snapshot's content: what it contains, and its values.
pub(crate) fn read(bytes: Bytes, end_offset: i64) -> Result<(Meta, Vec<Bytes>), String> {
    let mut id = None;
    let mut timestamp = -1;
    let mut membership = StoredMembership::default();
    let mut values = Vec::new();
    let mut whole = false;
    let (mut at, mut next_offset) = (0, 0);
    while at < bytes.len() {
        let batch = Batch::verify(&bytes.slice(at..)).map_err(|error| format!("at byte {at}: {error}"))?;
        let offset = batch.header().base_offset;
        if offset != next_offset || whole {
            return Err(format!("at byte {at}: offset {offset} where {next_offset} belongs"));
        }
        next_offset = batch.header().next_offset();
        at += batch.bytes().len();
        let (index, term) = codec::id(batch.header()).ok_or("a batch without index or epoch")?;
        let records = batch.records(batch.bytes().len()).map_err(|error| error.to_string())?;
        let records = records.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let first_key = records.first().and_then(|record| record.key.clone());
        let last_key = records.last().and_then(|record| record.key.clone());
        let mut contents = records.into_iter().filter_map(|record| record.value);
        if !batch.header().attributes.is_control() {
            values.extend(contents);
            continue;
        }
        match (first_key.as_deref().and_then(Kind::of), last_key.as_deref().and_then(Kind::of)) {
            (Some(Kind::SnapshotHeader), _) => {
                id = Some(log_id(term, index));
                let value = contents.next().ok_or("an empty header")?;
                timestamp = control::read_snapshot_header(value).map_err(|error| error.to_string())?;
            }
            (_, Some(Kind::Voters)) => {
                let voters: Vec<Bytes> = contents.skip(1).collect();
                membership = StoredMembership::new(Some(log_id(term, index)), control::read_voters(&voters)?);
            }
            (Some(Kind::SnapshotFooter), _) => whole = true,
            _ => return Err("a control record that does not belong into a snapshot".into()),
        }
    }
    match (id, whole) {
        (Some(id), true) => Ok((Meta { id: SnapshotId { id, end_offset }, timestamp, membership }, values)),
        (None, _) => Err("no snapshot header".into()),
        (_, false) => Err("no snapshot footer: the file is not whole".into()),
    }
}
