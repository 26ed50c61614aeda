//! The id of the cluster, for a node of several whose disk and configuration do not say it: the voters are asked, with DescribeCluster
//! (KIP-919). Where none of them has one, the cluster is new: when every voter has said so, the one with the lowest node id chooses.
//!
//! A node that comes to a cluster which runs knows addresses only (`controller.quorum.bootstrap.servers`), and asks there who the voters are.
//!
//! Every voter, and not a majority: one that is not heard may have the id of a cluster whose other voters lost their disks, and a second
//! cluster under the addresses of the first must not begin by itself.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use moldau_base::{NodeId, Rng, Uuid};
use moldau_wire::describe_cluster::{Request, Response};
use moldau_wire::{ApiKey, ErrorCode, Frame, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::config::{Endpoint, NodeConfig, Voter};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a voter may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Rounds without an id after which it is said who is waited for, and again.
const ROUNDS_BEFORE_WARNING: u32 = 25;
/// The longest frame that is read: far more than any list of voters.
const FRAME_BYTES: u32 = 1 << 20;
/// The version in which one can ask for controllers.
const VERSION: i16 = 1;
/// The endpoint type of controllers.
const CONTROLLERS: i8 = 2;

/// Waits until the id is known. Meanwhile a voter tells others that it has none, on these listeners.
pub async fn cluster_id(
    config: &NodeConfig,
    listeners: &[TcpListener],
    rng: &mut Rng,
) -> anyhow::Result<String> {
    tokio::select! {
        id = ask_all(config, rng) => id,
        failed = say_that_there_is_none(listeners) => failed.map(|never| match never {}),
    }
}

async fn ask_all(config: &NodeConfig, rng: &mut Rng) -> anyhow::Result<String> {
    let others = || config.voters.iter().filter(|voter| voter.id != config.node_id);
    let is_first = config.role.is_voter() && others().all(|other| other.id > config.node_id);
    let mut rounds = 0u32;
    loop {
        let (mut ids, mut silent) = (BTreeSet::new(), Vec::new());
        for voter in others() {
            match ask(voter).await? {
                Heard::Id(id) => _ = ids.insert(id),
                Heard::New => {}
                Heard::Nothing => silent.push(voter.id),
            }
        }
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (Some(one), Some(other)) => bail!(
                "the voters in controller.quorum.voters are of different clusters, {one} and {other}: correct it, or the log.dirs of one of them"
            ),
            (Some(id), None) => return Ok(id),
            (None, _) if is_first && silent.is_empty() => {
                let id = Uuid::random(rng).to_string();
                tracing::info!(id, "all voters are new: the cluster gets its id");
                return Ok(id);
            }
            (None, _) => {}
        }
        rounds += 1;
        if rounds.is_multiple_of(ROUNDS_BEFORE_WARNING) {
            warn(&silent);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn warn(silent: &[NodeId]) {
    let names: Vec<String> = silent.iter().map(NodeId::to_string).collect();
    tracing::warn!(
        silent = names.join(","),
        "waiting for the id of the cluster: a new one gets it when all nodes in controller.quorum.voters are up; start those that are \
         silent, or set cluster.id to the same on each node"
    );
}

/// A cluster that runs.
pub struct Found {
    /// Its id.
    pub cluster_id: String,
    /// Who votes in its metadata quorum.
    pub voters: Vec<Voter>,
}

/// Waits until one of the servers says of which cluster it is, and who its voters are.
pub async fn find(servers: &[Endpoint]) -> Found {
    let mut rounds = 0u32;
    loop {
        for server in servers {
            if let Ok(Ok(response)) = timeout(PATIENCE, describe(server)).await
                && let Some(found) = cluster(response)
            {
                return found;
            }
        }
        if rounds.is_multiple_of(ROUNDS_BEFORE_WARNING) && rounds > 0 {
            let names: Vec<String> = servers.iter().map(Endpoint::to_string).collect();
            tracing::warn!(
                servers = names.join(","),
                "no server in controller.quorum.bootstrap.servers knows a cluster: start the controllers there; a new cluster begins with \
                 nodes that have the same controller.quorum.voters=ID@HOST:PORT,..."
            );
        }
        rounds += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

fn cluster(response: Response) -> Option<Found> {
    let voters = response.brokers.iter().filter_map(|known| {
        let endpoint = Endpoint { host: known.host.to_string(), port: u16::try_from(known.port).ok()? };
        Some(Voter { id: NodeId(known.broker_id), endpoint })
    });
    let found = Found { cluster_id: response.cluster_id.to_string(), voters: voters.collect() };
    let is_one = response.error_code == ErrorCode::NONE && !found.cluster_id.is_empty();
    (is_one && !found.voters.is_empty()).then_some(found)
}

/// What a voter says of its cluster.
enum Heard {
    Id(String),
    /// It does not know either.
    New,
    Nothing,
}

/// Asks one voter; an error if it is none of this cluster.
async fn ask(voter: &Voter) -> anyhow::Result<Heard> {
    let Ok(Ok(response)) = timeout(PATIENCE, describe(&voter.endpoint)).await else {
        return Ok(Heard::Nothing);
    };
    if response.error_code != ErrorCode::NONE {
        return Ok(Heard::Nothing);
    }
    if response.cluster_id.is_empty() {
        return Ok(Heard::New);
    }
    if !response.brokers.iter().any(|known| known.broker_id == voter.id.0) {
        bail!(
            "at {} is a controller of cluster {} that knows no voter {}: correct controller.quorum.voters",
            voter.endpoint,
            response.cluster_id,
            voter.id
        );
    }
    Ok(Heard::Id(response.cluster_id.to_string()))
}

async fn describe(at: &Endpoint) -> io::Result<Response> {
    let mut stream = TcpStream::connect((&*at.host, at.port)).await?;
    let request = Request { endpoint_type: CONTROLLERS, ..Request::default() };
    let request = moldau_wire::Request::DescribeCluster(request);
    let frame = moldau_wire::encode_request(0, None, VERSION, &request);
    write(&mut stream, frame.map_err(io::Error::other)?).await?;
    let frame = read(&mut stream).await?;
    match moldau_wire::decode_response(ApiKey::DescribeCluster, VERSION, frame) {
        Ok((_, moldau_wire::Response::DescribeCluster(response))) => Ok(response),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut prefix = [0; frame::LENGTH_PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; frame::body_length(prefix, FRAME_BYTES).map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    Ok(body.into())
}

async fn write(stream: &mut TcpStream, frame: Frame) -> io::Result<()> {
    stream.write_all(&frame.into_bytes().map_err(io::Error::other)?).await
}

/// Nothing, ever.
enum Never {}

/// Answers who asks for the cluster that there is none yet; one after the other, and each once: nobody else has business here.
async fn say_that_there_is_none(listeners: &[TcpListener]) -> anyhow::Result<Never> {
    let Some(listener) = listeners.first() else { return std::future::pending().await };
    loop {
        let (mut stream, _) = listener.accept().await.context("the listener for nodes has failed")?;
        // Whoever does not understand the answer asks again.
        let _ = timeout(PATIENCE, answer(&mut stream)).await;
    }
}

async fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let (api, header, _) = moldau_wire::decode_header(read(stream).await?).map_err(io::Error::other)?;
    if api != ApiKey::DescribeCluster || !api.versions().contains(header.request_api_version) {
        return Ok(());
    }
    let response = Response { endpoint_type: CONTROLLERS, ..Response::default() };
    let response = moldau_wire::Response::DescribeCluster(response);
    let frame = moldau_wire::encode_response(header.correlation_id, header.request_api_version, &response);
    write(stream, frame.map_err(io::Error::other)?).await
}
