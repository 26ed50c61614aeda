//! `meta.properties`: whose a log directory is. Every log directory has one, in Kafka's format (version 1); a
//! directory of another cluster, another node or a later version is refused before anything in it is touched.

use std::io;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{NodeId, Rng, Uuid};

use crate::log::read_all;

const FILE: &str = "meta.properties";
/// The longest file that is read.
const MAX_BYTES: u64 = 64 << 10;

/// What a log directory says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node: NodeId,
    /// `directory.id`.
    pub directory: Uuid,
}

/// Why log directories are refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The disk failed.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: Path,
        /// In the words of the system.
        error: io::Error,
    },
    /// The file cannot be read as what it should be.
    #[error("{path}: {why}")]
    Bad {
        /// The file.
        path: Path,
        /// What is wrong with it.
        why: String,
    },
    /// A later release wrote it.
    #[error("{path}: version {version} was written by a later release; this one reads version 1")]
    Version {
        /// The file.
        path: Path,
        /// The version it says.
        version: String,
    },
    /// It belongs to another cluster.
    #[error("{path}: this directory belongs to cluster {has}, not to {wanted}")]
    Cluster {
        /// The file.
        path: Path,
        /// The cluster it names.
        has: String,
        /// The cluster of this node.
        wanted: String,
    },
    /// It belongs to another node.
    #[error(
        "{path}: this directory belongs to node {has}, but node.id is {wanted}; correct node.id, or give this node the directory of \
         node {wanted}"
    )]
    Node {
        /// The file.
        path: Path,
        /// The node it names.
        has: NodeId,
        /// This node.
        wanted: NodeId,
    },
    /// Two directories have one id.
    #[error("{path}: directory.id {directory} is another directory's too; was it copied?")]
    Twice {
        /// The file.
        path: Path,
        /// The id.
        directory: Uuid,
    },
}

/// Checks all log directories of a node, and marks those that are new: the cluster id is that of `wanted`, of
/// a directory that has one, or a random one, in this order. Answers for each directory, in the order of
/// `dirs`.
pub fn claim(
    disk: &dyn Disk,
    dirs: &[DirId],
    node: NodeId,
    wanted: Option<&str>,
    rng: &mut Rng,
) -> Result<Vec<Meta>, Refused> {
    let found: Vec<Option<Meta>> = dirs.iter().map(|dir| read(disk, *dir)).collect::<Result<_, _>>()?;
    let first = found.iter().flatten().map(|meta| meta.cluster_id.clone()).next();
    let cluster_id = wanted.map(str::to_owned).or(first).unwrap_or_else(|| Uuid::random(rng).to_string());
    check(dirs, &found, node, &cluster_id)?;
    let mut metas = Vec::with_capacity(dirs.len());
    for (dir, meta) in dirs.iter().zip(found) {
        metas.push(match meta {
            Some(meta) => meta,
            None => {
                let meta = Meta { cluster_id: cluster_id.clone(), node, directory: Uuid::random(rng) };
                write(disk, *dir, &meta)?;
                meta
            }
        });
    }
    Ok(metas)
}

fn check(dirs: &[DirId], found: &[Option<Meta>], node: NodeId, cluster_id: &str) -> Result<(), Refused> {
    let mut seen = std::collections::BTreeSet::new();
    for (dir, meta) in dirs.iter().zip(found) {
        let Some(meta) = meta else { continue };
        let path = Path::new(*dir, FILE);
        if meta.cluster_id != cluster_id {
            return Err(Refused::Cluster {
                path,
                has: meta.cluster_id.clone(),
                wanted: cluster_id.to_owned(),
            });
        }
        if meta.node != node {
            return Err(Refused::Node { path, has: meta.node, wanted: node });
        }
        if !seen.insert(meta.directory) {
            return Err(Refused::Twice { path, directory: meta.directory });
        }
    }
    Ok(())
}

/// Reads the file of one directory; `None` when the directory is new.
pub fn read(disk: &dyn Disk, dir: DirId) -> Result<Option<Meta>, Refused> {
    let path = Path::new(dir, FILE);
    let failed = |error| Refused::Io { path: path.clone(), error };
    match disk.len(&path).map_err(failed)? {
        None => return Ok(None),
        Some(len) if len > MAX_BYTES => {
            return Err(Refused::Bad { path, why: format!("{len} bytes are too many") });
        }
        Some(_) => {}
    }
    let bytes = read_all(disk, &path).map_err(failed)?;
    parse(path, &bytes).map(Some)
}

fn parse(path: Path, bytes: &[u8]) -> Result<Meta, Refused> {
    let bad = |why: String| Refused::Bad { path: path.clone(), why };
    let text = std::str::from_utf8(bytes).map_err(|_| bad("not text".into()))?;
    let get = |key: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '!']));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    let need = |key: &str| get(key).ok_or_else(|| bad(format!("no {key}")));
    let version = need("version")?;
    if version != "1" {
        return match version.parse::<i64>() {
            Ok(later) if later > 1 => Err(Refused::Version { path, version }),
            _ => Err(bad(format!("version {version} is not 1"))),
        };
    }
    let node: i32 = need("node.id")?.parse().map_err(|_| bad("node.id is no number".into()))?;
    let directory = need("directory.id")?.parse().map_err(|e| bad(format!("directory.id: {e}")))?;
    Ok(Meta { cluster_id: need("cluster.id")?, node: NodeId(node), directory })
}

fn write(disk: &dyn Disk, dir: DirId, meta: &Meta) -> Result<(), Refused> {
    let path = Path::new(dir, FILE);
    let text = format!(
        "#\ncluster.id={}\ndirectory.id={}\nnode.id={}\nversion=1\n",
        meta.cluster_id, meta.directory, meta.node
    );
    disk.replace(&path, text.as_bytes()).map_err(|error| Refused::Io { path, error })
}
