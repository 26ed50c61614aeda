//! What a crash has left of moves between log directories (KIP-113): before anything else is recovered, every partition is in one
//! directory, under its name.
//!
//! A copy that is called whole takes the place of a log that has stepped aside. As long as the log has its name, it may have been appended
//! to since, and the copy is none: it goes, as one that is not whole does, and the move begins again.

use std::collections::BTreeMap;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::planted::{Bug, planted};

use super::{Finding, FindingKind, RecoverError, RecoveredLog, at};
use crate::names::{LogDirEntry, log_dir_entry, part_copy_dir};

/// What became of moves that a stop has cut short.
#[derive(Debug, Default)]
pub struct Moves {
    /// What was done.
    pub findings: Vec<(DirId, Finding)>,
    /// Partitions' directories, and where they were moving to.
    unfinished: BTreeMap<String, DirId>,
}

impl Moves {
    /// Tells the logs of moves that are to begin again.
    pub fn resume(&self, logs: &mut [RecoveredLog]) {
        for log in logs {
            let to = self.unfinished.get(log.name()).copied();
            log.moves_to = to.filter(|to| *to != log.dir());
        }
    }
}

/// What is in the log directories.
#[derive(Default)]
struct Found {
    partitions: BTreeMap<String, DirId>,
    part: Vec<(DirId, String, String)>,
    whole: BTreeMap<String, Vec<(DirId, String)>>,
}

/// Ends the moves that can be ended and takes away what is left of others, in all log directories of a node. To be called before
/// [`super::recover`]. Two whole copies of a log that is not there are an error: which of them counts is not known.
pub fn recover_moves(disk: &dyn Disk, dirs: impl IntoIterator<Item = DirId>) -> Result<Moves, RecoverError> {
    let mut found = Found::default();
    for dir in dirs {
        look(disk, dir, &mut found)?;
    }
    let mut moves = Moves::default();
    for (of, copies) in found.whole {
        if found.partitions.contains_key(&of) {
            for (dir, name) in copies {
                // A power loss must not bring it back as one that counts.
                let part = part_copy_dir(&name);
                disk.rename(&Path::new(dir, name.clone()), &Path::new(dir, part.clone()))
                    .map_err(at(&name))?;
                found.part.push((dir, part, of.clone()));
            }
            continue;
        }
        if let [(first, _), (second, _), ..] = &copies[..] {
            let what = format!("{of} is whole in log directories {} and {}", first.0, second.0);
            let source = std::io::Error::other("one of the two directories must be taken away");
            return Err(RecoverError { what, source });
        }
        for (dir, name) in copies {
            disk.rename(&Path::new(dir, name.clone()), &Path::new(dir, of.clone())).map_err(at(&name))?;
            let what = FindingKind::Moved(of.clone());
            moves.findings.push((dir, Finding { log: name, what }));
        }
    }
    for (dir, name, of) in found.part {
        if planted(Bug::AdoptPartCopy) {
            take_for_whole(disk, dir, (&name, &of), found.partitions.get(&of).copied()).map_err(at(&name))?;
            continue;
        }
        disk.remove(&Path::new(dir, name.clone())).map_err(at(&name))?;
        moves.findings.push((dir, Finding { log: name, what: FindingKind::PartCopy(of.clone()) }));
        moves.unfinished.insert(of, dir);
    }
    Ok(moves)
}

fn look(disk: &dyn Disk, dir: DirId, found: &mut Found) -> Result<(), RecoverError> {
    let entries = disk.list(&Path::new(dir, "")).map_err(at("the log directory"))?;
    for name in entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name) {
        match log_dir_entry(&name) {
            LogDirEntry::Partition { .. } => {
                found.partitions.insert(name, dir);
            }
            LogDirEntry::Copy { of } => found.part.push((dir, name, of)),
            LogDirEntry::WholeCopy { of } => found.whole.entry(of).or_default().push((dir, name)),
            LogDirEntry::Deleted | LogDirEntry::Other => {}
        }
    }
    Ok(())
}

/// What must not be done about a copy that is not whole.
fn take_for_whole(
    disk: &dyn Disk,
    dir: DirId,
    (copy, of): (&str, &str),
    there: Option<DirId>,
) -> std::io::Result<()> {
    if let Some(there) = there {
        disk.rename(&Path::new(there, of), &Path::new(there, format!("{copy}.deleted")))?;
    }
    disk.rename(&Path::new(dir, copy), &Path::new(dir, of))
}
