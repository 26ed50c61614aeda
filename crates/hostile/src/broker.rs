//! The whole broker in the simulator's host, and strangers that send it what they like beside a client that behaves.

use bytes::Bytes;
use moldau_base::disk::Path;
use moldau_sim::disk::SimDisk;
use moldau_sim::siege::{End, Move, Siege};
use moldau_wire::{ApiKey, Request, decode_request};

use crate::directory::fill;
use crate::input::{Input, put_piece};
use crate::{Memory, Target};

/// Bytes of several connections.
pub const BROKER: Target = Target {
    name: "broker",
    proves: "whatever strangers send on several connections, the broker stays up, keeps to its memory and answers a client that behaves",
    run: broker,
    memory: Memory { base: 64 << 20, per_byte: 16 << 10 },
    per_mille: 20,
};

/// Any files at start.
pub const START: Target = Target {
    name: "start",
    proves: "on a directory with any files the broker refuses to start by name, or starts and serves",
    run: start,
    memory: Memory { base: 64 << 20, per_byte: 16 << 10 },
    per_mille: 20,
};

/// Most partitions that an input may ask for: what a partition costs is not what is measured here.
const PARTITIONS: i64 = 50;
/// Milliseconds for which all moves of an input may wait: who behaves has to be done in ten minutes.
const WAITS_MS: u64 = 120_000;
/// Connections of strangers.
const CONNECTIONS: u8 = 4;

fn broker(input: &[u8]) {
    if let Some(moves) = moves(input) {
        besiege(SimDisk::default(), moves, false);
    }
}

fn start(input: &[u8]) {
    let disk = SimDisk::default();
    fill(&disk, &mut Input(input));
    besiege(disk, Vec::new(), true);
}

fn besiege(disk: SimDisk, moves: Vec<Move>, may_refuse: bool) -> End {
    Siege { disk, moves, may_refuse }.run().unwrap_or_else(|why| panic!("{why}"))
}

/// What strangers do; nothing if they ask for more partitions than this test wants to pay for.
///
/// A byte says what and on which connection; then, for a request, its API, its version and its body, for raw bytes a piece.
fn moves(input: &[u8]) -> Option<Vec<Move>> {
    let mut input = Input(input);
    let (mut moves, mut waits) = (Vec::new(), 0);
    while let Some(mut next) = next_move(&mut input) {
        if let Move::Wait(ms) = &mut next {
            *ms = (*ms).min(WAITS_MS - waits);
            waits += *ms;
        }
        if let Move::Send(_, bytes) = &next
            && partitions_asked(bytes) > PARTITIONS
        {
            return None;
        }
        moves.push(next);
    }
    Some(moves)
}

fn next_move(input: &mut Input<'_>) -> Option<Move> {
    let what = input.byte()?;
    let conn = usize::from(what % CONNECTIONS);
    Some(match what / CONNECTIONS {
        0..40 => {
            let (api, version, body) = (input.byte()?, input.byte()?, input.piece()?);
            let key = ApiKey::ALL[usize::from(api) % ApiKey::ALL.len()];
            Move::Send(conn, request(key, i16::from(version % 20), body).into())
        }
        40..48 => Move::Send(conn, Bytes::copy_from_slice(input.piece()?)),
        48..52 => Move::Close(conn),
        52..54 => Move::Vanish(conn),
        _ => {
            let ms = u64::from(input.byte()?);
            Move::Wait(ms * ms)
        }
    })
}

/// A frame with a header of this API and version.
pub(crate) fn request(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame =
        [&(key as i16).to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0, 1, b's']].concat();
    if key.request_header_version(version) >= 2 {
        frame.push(0);
    }
    frame.extend_from_slice(body);
    let len = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    [&len.to_be_bytes()[..], &frame].concat()
}

/// How many partitions a frame asks for.
fn partitions_asked(frame: &[u8]) -> i64 {
    let body = frame.get(4..).unwrap_or_default();
    match decode_request(Bytes::copy_from_slice(body)) {
        Ok((_, Request::CreateTopics(request))) => request
            .topics
            .iter()
            .map(|topic| i64::from(topic.num_partitions).max(topic.assignments.len() as i64))
            .fold(0, i64::saturating_add),
        Ok((_, Request::CreatePartitions(request))) => {
            request.topics.iter().map(|topic| i64::from(topic.count)).fold(0, i64::saturating_add)
        }
        _ => 0,
    }
}

/// The input in which strangers send these requests: number of the connection, API, version, body.
pub(crate) fn describe(requests: &[(u8, ApiKey, i16, Bytes)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (conn, key, version, body) in requests {
        let Some(place) = ApiKey::ALL.iter().position(|known| known == key) else { continue };
        out.extend_from_slice(&[conn % CONNECTIONS, place as u8, *version as u8]);
        put_piece(&mut out, body);
    }
    out
}

/// The files of a node that was stopped: what [`START`] begins with.
pub(crate) fn stopped_node() -> Vec<(String, Bytes)> {
    let disk = SimDisk::default();
    besiege(disk.clone(), Vec::new(), false);
    let mut files = Vec::new();
    disk.files(|path: &Path, content| files.push((path.name.clone(), Bytes::copy_from_slice(content))));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::describe as describe_files;
    use crate::seeds;

    #[test]
    fn strangers_are_answered() {
        let everything = seeds::of("broker").pop().expect("a stranger who asks everything");
        let end = besiege(SimDisk::default(), moves(&everything).expect("few partitions"), false);
        assert!(matches!(end, End::Served(answers) if answers > 20), "{end:?}");
    }

    #[test]
    fn a_node_starts_on_its_files_and_not_on_others() {
        let start = |files: &[(String, Bytes)]| {
            let disk = SimDisk::default();
            fill(&disk, &mut Input(&describe_files(files)));
            besiege(disk, Vec::new(), true)
        };
        let mut files = stopped_node();
        assert_eq!(start(&files), End::Served(0));
        let quorum = files.iter_mut().find(|(name, _)| name.ends_with("quorum-state")).expect("its vote");
        quorum.1 = Bytes::from_static(b"{}");
        assert_eq!(start(&files), End::Refused);
    }
}
