//! Files that nobody of ours wrote: a start refuses them by name or takes what is whole, and never panics.

use std::sync::Arc;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{NodeId, Now, Rng, Uuid};
use moldau_quorum::{Config, Quorum};
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::sample::select;

use crate::model::ModelDisk;

fn start(disk: &Arc<ModelDisk>) -> Result<Quorum, String> {
    let config = Config::alone(NodeId(7), Uuid([9; 16]), 1);
    Quorum::start(config, disk.clone(), Now::default(), &mut vec![]).map_err(|error| error.to_string())
}

/// A directory with a snapshot and entries after it.
fn used() -> Arc<ModelDisk> {
    let disk = Arc::new(ModelDisk::default());
    let mut quorum = start(&disk).expect("starts");
    for round in 0..4 {
        for i in 0..5u8 {
            quorum.propose(vec![vec![i; 40].into()]);
            quorum.step(Now::default(), &mut vec![]);
        }
        if round == 1 {
            quorum.snapshot(std::iter::once(vec![1; 60].into())).expect("snapshot");
        }
    }
    disk
}

const FILES: &[&str] = &[
    "__cluster_metadata-0/00000000000000000000.log",
    "__cluster_metadata-0/00000000000000000012.log",
    "__cluster_metadata-0/00000000000000000099.log",
    "__cluster_metadata-0/99999999999999999999.log",
    "__cluster_metadata-0/00000000000000000012-0000000001.checkpoint",
    "__cluster_metadata-0/00000000000000000099-0000000001.checkpoint",
    "__cluster_metadata-0/x-y.checkpoint",
    "__cluster_metadata-0/quorum-state",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_file_may_hold_anything(name in select(FILES), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let disk = used();
        disk.replace(&Path::new(DirId(0), name), &bytes).expect("written");
        let _ = start(&disk);
    }

    #[test]
    fn any_byte_may_flip(seed: u64) {
        let disk = used();
        let mut rng = Rng::seeded(seed);
        for _ in 0..1 + rng.below(3) {
            let names = disk.names();
            let name = rng.pick(&names).expect("files").clone();
            disk.damage(&name, |bytes| {
                let at = rng.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            });
        }
        let _ = start(&disk);
    }
}
