//! Maps whose keys are numbers that this process gave out itself, one after the other: nobody can choose them so that they meet
//! in one place, which is what the standard library's slower hash is for.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from an id.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads a number over all bits by multiplication (Fibonacci hashing; Knuth, The Art of Computer Programming 3, 6.4).
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(GOLDEN);
    }

    fn finish(&self) -> u64 {
        // The map looks at the lowest bits, and a product's highest ones are the best.
        self.0.rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn ids_in_a_row_and_blocks_of_ids_are_spread_over_all_places() {
        let hash = |id: u64| BuildHasherDefault::<IdHasher>::default().hash_one(id);
        for step in [1, 4, 1 << 26] {
            let places: HashSet<u64> = (0..4096).map(|id| hash(id * step) % 4096).collect();
            assert!(places.len() > 2000, "{} of 4096 places with ids {step} apart", places.len());
        }
    }
}
