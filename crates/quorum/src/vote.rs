//! The promise a voter made last, in the file `quorum-state`, which has the look of Kafka's.
//!
//! It is replaced as a whole and durably before the promise is given to anybody.

use std::io;

use moldau_base::disk::{DirId, Disk};
use moldau_base::{NodeId, Uuid};
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

use crate::log::{path, read_all};
use crate::recovery::Damage;
use crate::types::{LogId, Vote, term};

const FILE: &str = "quorum-state";
const VERSION: i16 = 1;
const NOBODY: i32 = -1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    leader_id: i32,
    leader_epoch: i32,
    voted_id: i32,
    voted_directory_id: String,
    #[serde(rename = "data_version")]
    data_version: i16,
}

/// Reads the last promise; `None` when there was none.
pub(crate) fn read(disk: &dyn Disk, dir: DirId) -> Result<Option<Vote>, Damage> {
    let path = path(dir, FILE);
    if disk.len(&path).map_err(Damage::io(&path))?.is_none() {
        return Ok(None);
    }
    let bytes = read_all(disk, &path).map_err(Damage::io(&path))?;
    parse(&bytes).map(Some).map_err(|why| Damage::File { file: path.name, why })
}

fn parse(bytes: &[u8]) -> Result<Vote, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.data_version != VERSION {
        return Err(format!("data_version {} is not {VERSION}", file.data_version));
    }
    let epoch = u64::try_from(file.leader_epoch).map_err(|_| "leaderEpoch below zero")?;
    if epoch == 0 {
        return Err("leaderEpoch 0, in which nobody stands".into());
    }
    match (file.leader_id, file.voted_id) {
        (leader, _) if leader > NOBODY => Ok(Vote::new_committed(epoch, NodeId(leader))),
        (_, voted) if voted > NOBODY => Ok(Vote::new(epoch, NodeId(voted))),
        _ => Err("neither leaderId nor votedId".into()),
    }
}

/// Refuses a promise that is older than the last entry: whoever leads has promised before it appends.
pub(crate) fn check(vote: Option<&Vote>, last: Option<LogId>) -> Result<(), Damage> {
    let promised = vote.map_or(0, |vote| vote.leader_id().term());
    match last {
        Some(last) if term(&last) > promised => {
            let why =
                format!("its epoch is {promised}, but entry {} is of epoch {}", last.index, term(&last));
            Err(Damage::File { file: FILE.to_owned(), why })
        }
        _ => Ok(()),
    }
}

/// Makes a promise durable.
pub(crate) fn write(disk: &dyn Disk, dir: DirId, vote: &Vote, directory: Uuid) -> io::Result<()> {
    let id = vote.leader_id();
    let epoch = i32::try_from(id.term()).map_err(|_| io::Error::other("epochs are exhausted"))?;
    let file = File {
        leader_id: if vote.is_committed() { id.node_id().0 } else { NOBODY },
        leader_epoch: epoch,
        voted_id: id.node_id().0,
        voted_directory_id: directory.to_string(),
        data_version: VERSION,
    };
    let json = serde_json::to_vec(&file).map_err(io::Error::other)?;
    disk.replace(&path(dir, FILE), &json)
}
