//! What a power loss may take from topics that do not sync before they acknowledge: everything that is not on the device for
//! certain. The checkers are told, so that they hold the broker to the rest.

use std::collections::BTreeMap;

use moldau_base::disk::Path;
use moldau_batch::Header;
use moldau_check::Event;

use crate::cx::Shared;
use crate::disk::SimDisk;

/// Tells the checkers how far each partition is safe.
pub(crate) fn tell(shared: &mut Shared, disk: &SimDisk) {
    shared.lossy = true;
    let (logs, starts) = (durable_logs(disk), starts(disk));
    for topic in shared.topics.clone() {
        for index in 0..topic.partitions {
            let directory = format!("{}-{index}", topic.name);
            let start = starts.get(&directory).copied().unwrap_or(0);
            let from = logs.get(&directory).map_or(start, |segments| durable_end(segments, start));
            shared.observe(Event::MayBeLost { partition: topic.partition(index), from });
        }
    }
    for group in shared.groups.clone() {
        shared.observe(Event::GroupMayBeLost { group });
    }
}

type Segments = BTreeMap<i64, Vec<u8>>;

/// The log directory and the first offset of a segment.
fn segment_of(path: &Path) -> Option<(&str, i64)> {
    let (directory, file) = path.name.rsplit_once('/')?;
    Some((directory, file.strip_suffix(".log")?.parse().ok()?))
}

fn durable_logs(disk: &SimDisk) -> BTreeMap<String, Segments> {
    let mut logs: BTreeMap<String, Segments> = BTreeMap::new();
    disk.durable_files(|path: &Path, content: &[u8]| {
        if let Some((directory, base)) = segment_of(path) {
            logs.entry(directory.to_owned()).or_default().insert(base, content.to_vec());
        }
    });
    logs
}

/// Where the first segments of the logs begin, durable or not.
fn starts(disk: &SimDisk) -> BTreeMap<String, i64> {
    let mut starts: BTreeMap<String, i64> = BTreeMap::new();
    disk.files(|path: &Path, _: &[u8]| {
        if let Some((directory, base)) = segment_of(path) {
            let start = starts.entry(directory.to_owned()).or_insert(base);
            *start = (*start).min(base);
        }
    });
    starts
}

/// The offset after the last batch that is whole, without a gap before it.
fn durable_end(segments: &Segments, start: i64) -> i64 {
    let mut end = start;
    for (base, content) in segments {
        if *base != end {
            return end;
        }
        let mut at = 0;
        while let Ok(header) = Header::verify(&content[at..]) {
            if header.base_offset < end {
                return end;
            }
            end = header.next_offset();
            at += header.size();
        }
    }
    end
}
