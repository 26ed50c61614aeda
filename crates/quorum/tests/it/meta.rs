//! `meta.properties`: what a node does with directories that are new, its own, or somebody else's.

use crate::model::ModelDisk;
use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{NodeId, Rng};
use moldau_quorum::meta::{Refused, claim, read};

const DIR: DirId = DirId(0);

fn with(text: &str) -> ModelDisk {
    let disk = ModelDisk::default();
    disk.replace(&Path::new(DIR, "meta.properties"), text.as_bytes()).expect("written");
    disk
}

fn claimed(disk: &ModelDisk, node: i32, cluster: Option<&str>) -> Result<String, Refused> {
    claim(disk, &[DIR], NodeId(node), cluster, &mut Rng::seeded(1)).map(|metas| metas[0].cluster_id.clone())
}

#[test]
fn a_new_directory_is_marked_and_recognised() {
    let disk = ModelDisk::default();
    let id = claimed(&disk, 1, None).expect("claimed");
    assert_eq!(claimed(&disk, 1, None).expect("again"), id);
    assert_eq!(claimed(&disk, 1, Some(&id)).expect("again"), id);
    let other = claimed(&disk, 1, Some("other"));
    assert!(matches!(other, Err(Refused::Cluster { .. })), "{other:?}");
    let node = claimed(&disk, 2, None).map_err(|error| error.to_string());
    let said = "0:meta.properties: this directory belongs to node 1, but node.id is 2; correct node.id, or give this node the directory of \
                node 2";
    assert_eq!(node, Err(said.into()));
}

#[test]
fn a_file_of_kafka_is_understood() {
    let text = "#\n#Fri May 01 10:00:00 UTC 2026\ncluster.id=vPeOCWypqUOSepEvx0cbog\ndirectory.id=3Nzz3vQ9TEyR9rI7pw0yyQ\nnode.id=1\nversion=1\n";
    let disk = with(text);
    let meta = read(&disk, DIR).expect("read").expect("there");
    assert_eq!(meta.cluster_id, "vPeOCWypqUOSepEvx0cbog");
    assert_eq!(meta.directory.to_string(), "3Nzz3vQ9TEyR9rI7pw0yyQ");
}

#[test]
fn bad_files_are_refused_by_name() {
    let cases = [
        ("", "no version"),
        ("version=2\n", "later release"),
        ("version=x\n", "version x is not 1"),
        ("version=1\ncluster.id=a\ndirectory.id=b\nnode.id=1\n", "directory.id"),
        ("version=1\ncluster.id=a\nnode.id=x\n", "node.id is no number"),
        ("version=1\nnode.id=1\ndirectory.id=3Nzz3vQ9TEyR9rI7pw0yyQ\n", "no cluster.id"),
    ];
    for (text, expected) in cases {
        let error = claimed(&with(text), 1, None).expect_err(text).to_string();
        assert!(error.contains(expected) && error.contains("meta.properties"), "{error}");
    }
}
