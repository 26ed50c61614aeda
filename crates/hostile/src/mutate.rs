//! Changes inputs where no fuzzer is at hand: what libFuzzer's own mutations do, from a seed.

use moldau_base::Rng;

/// Longest input that mutations make.
const LONGEST: usize = 16 << 10;
/// Numbers at the edges of what lengths, counts and offsets may be.
const EDGES: [&[u8]; 12] = [
    &[0],
    &[0xff],
    &[0x7f],
    &[0x80],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0, 0, 0, 0, 0],
];

/// Makes inputs out of inputs.
#[derive(Debug)]
pub struct Mutator {
    rng: Rng,
}

impl Mutator {
    /// The same seed changes in the same way.
    pub fn new(seed: u64) -> Mutator {
        Mutator { rng: Rng::seeded(seed) }
    }

    /// One of the inputs, changed in one to eight places, or joined with another.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.rng.pick(corpus).cloned().unwrap_or_default();
        bytes.truncate(LONGEST);
        for _ in 0..=self.rng.below(3) * self.rng.below(4) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn place(&mut self, len: usize) -> usize {
        self.rng.below(len as u64 + 1) as usize
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.place(bytes.len());
        let len = self.rng.below(16) as usize + 1;
        let end = (at + len).min(bytes.len());
        match self.rng.below(9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                let to = self.place(bytes.len());
                bytes.splice(to..to, piece);
            }
            3 => {
                let mut noise = vec![0; len];
                self.rng.fill(&mut noise);
                bytes.splice(at..at, noise);
            }
            4 => {
                let edge = self.rng.pick(&EDGES).copied().unwrap_or_default();
                let over = (at + edge.len()).min(bytes.len());
                bytes.splice(at..over, edge.iter().copied());
            }
            5 => {
                if let Some(other) = self.rng.pick(corpus) {
                    let from = self.place(other.len());
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
            }
            6 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.rng.below(8);
                }
            }
            7 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = byte.wrapping_add(self.rng.below(9) as u8).wrapping_sub(4);
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.rng.next_u64() as u8;
                }
            }
        }
    }
}
