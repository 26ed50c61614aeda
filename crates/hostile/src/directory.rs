//! An input as the files of a log directory: a byte that chooses a name, a byte of flags, a length, the content.
//!
//! Most names that a broker looks for are in a table, so that one byte reaches each; any other name is written out. A flag
//! gives every batch of the file, or the producer snapshot, the checksum that its bytes need, as a forger would; without it hardly any
//! input would come past the checksums.

use bytes::Bytes;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_sim::disk::SimDisk;

use crate::batches::repair;
use crate::input::{Input, put_piece};

/// The directory that inputs describe.
pub(crate) const DIR: DirId = DirId(0);

/// Names of one byte. New ones go to the end: inputs that are kept name them by their place.
const NAMES: &[&str] = &[
    "orders-0/00000000000000000000.log",
    "orders-0/00000000000000000000.index",
    "orders-0/00000000000000000000.timeindex",
    "orders-0/00000000000000000000.txnindex",
    "orders-0/00000000000000000005.log",
    "orders-0/00000000000000000005.index",
    "orders-0/00000000000000000005.timeindex",
    "orders-0/00000000000000000005.snapshot",
    "orders-0/00000000000000000009.log",
    "orders-0/00000000000000000009.snapshot",
    "orders-0/leader-epoch-checkpoint",
    "orders-0/partition.metadata",
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    ".kafka_cleanshutdown",
    "meta.properties",
    "__consumer_offsets-0/00000000000000000000.log",
    "__consumer_offsets-0/00000000000000000000.index",
    "__consumer_offsets-0/00000000000000000000.timeindex",
    "__consumer_offsets-0/leader-epoch-checkpoint",
    "__consumer_offsets-0/partition.metadata",
    "__cluster_metadata-0/00000000000000000000.log",
    "__cluster_metadata-0/00000000000000000005.log",
    "__cluster_metadata-0/00000000000000000005-0000000001.checkpoint",
    "__cluster_metadata-0/00000000000000000009-0000000002.checkpoint",
    "__cluster_metadata-0/quorum-state",
    "orders-0/99999999999999999999.log",
    "orders-0/09223372036854775807.log",
    "orders-0/00000000000000000000.log.deleted",
    "orders-1.0123456789abcdef0123456789abcdef-delete/00000000000000000000.log",
    "orders-1/00000000000000000000.log",
    "orders-0.0123456789abcdef0123456789abcdef-future/00000000000000000000.log",
    "orders-1.0123456789abcdef0123456789abcdef-moved/00000000000000000000.log",
    "orders-1.fedcba9876543210fedcba9876543210-moved/00000000000000000005.log",
];
/// The byte for a name that is written out.
const WRITTEN_OUT: u8 = 255;
/// The flag for checksums that hold.
const REPAIRED: u8 = 1;

/// Writes the files that `input` describes. Of two with one name the later stays.
pub(crate) fn fill(disk: &SimDisk, input: &mut Input<'_>) {
    while let Some((name, content)) = next(input) {
        disk.replace(&Path::new(DIR, name), &content).expect("a disk in memory has room");
    }
}

fn next(input: &mut Input<'_>) -> Option<(String, Vec<u8>)> {
    let (name, flags) = (input.byte()?, input.byte()?);
    let name = match name {
        WRITTEN_OUT => written_out(input.piece()?),
        place => NAMES[usize::from(place) % NAMES.len()].to_owned(),
    };
    let mut content = input.piece()?.to_vec();
    if flags & REPAIRED != 0 {
        if name.ends_with(".snapshot") {
            repair_snapshot(&mut content);
        } else {
            repair_all(&mut content);
        }
    }
    Some((name, content))
}

/// A name as a file system might have it: at most two parts, none of them empty or special.
fn written_out(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(200).collect();
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | "." | "..")).take(2).collect();
    if parts.is_empty() { "x".to_owned() } else { parts.join("/") }
}

/// Gives the batches, one behind the other, checksums that hold.
pub(crate) fn repair_all(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(size) = bytes.get_mut(at..).and_then(repair) {
        at += size;
    }
}

/// The checksum of a producer snapshot is behind its version and covers the rest.
pub(crate) fn repair_snapshot(bytes: &mut [u8]) {
    if let Some((head, body)) = bytes.split_first_chunk_mut::<6>() {
        head[2..].copy_from_slice(&crc_fast::crc32_iscsi(body).to_be_bytes());
    }
}

/// The input that describes these files.
pub(crate) fn describe(files: &[(String, Bytes)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        match NAMES.iter().position(|known| known == name) {
            Some(place) => out.extend_from_slice(&[place as u8, REPAIRED]),
            None => {
                out.extend_from_slice(&[WRITTEN_OUT, REPAIRED]);
                put_piece(&mut out, name.as_bytes());
            }
        }
        put_piece(&mut out, content);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_what_was_described() {
        let files = vec![
            (NAMES[10].to_owned(), Bytes::from_static(b"0\n0\n")),
            ("odd/name".to_owned(), Bytes::from_static(b"anything")),
        ];
        let disk = SimDisk::default();
        fill(&disk, &mut Input(&describe(&files)));
        let mut found = Vec::new();
        disk.files(|path, content| found.push((path.name.clone(), Bytes::copy_from_slice(content))));
        found.sort();
        let mut expected = files;
        expected.sort();
        assert_eq!(found, expected);
    }
}
