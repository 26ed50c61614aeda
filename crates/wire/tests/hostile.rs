//! Bytes that nobody meant: random ones, and messages with bytes changed, cut out and put in. Nothing panics, and what
//! is accepted is a message that can be written and reads back equal.

mod walk;

use bytes::Bytes;
use moldau_base::Rng;
use moldau_wire::{ApiKey, Message, Request, Response, decode_header, decode_request, metadata_frame};
use proptest::prelude::*;
use walk::random::random;
use walk::{Kind, Visitor, Walk, visit_all};

struct Mutate(Rng);

impl Mutate {
    fn mutated(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        for _ in 0..=self.0.below(3) {
            let at = self.0.below(bytes.len().max(1) as u64) as usize;
            match self.0.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.0.next_u64() as u8),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = self.0.next_u64() as u8,
                _ => {}
            }
        }
        bytes
    }
}

impl Visitor for Mutate {
    fn visit<M: Message + Walk>(&mut self, _: Kind) {
        for version in M::VERSIONS.iter() {
            for _ in 0..40 {
                let message: M = random(&mut self.0, version);
                let valid = message.to_bytes(version).expect("a message of this version");
                let bytes = self.mutated(&valid);
                accepted_means_writable::<M>(bytes.into(), version);
            }
        }
    }
}

fn accepted_means_writable<M: Message>(bytes: Bytes, version: i16) {
    if let Ok(message) = M::from_bytes(bytes, version) {
        let again = message.to_bytes(version).unwrap_or_else(|e| panic!("{message:?}: {e}"));
        assert_eq!(M::from_bytes(again, version), Ok(message));
    }
}

#[test]
fn mutated_messages() {
    visit_all(&mut Mutate(Rng::seeded(11)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), key in 0..80_i16, version in -1..20_i16) {
        let bytes = Bytes::from(bytes);
        let _ = decode_header(bytes.clone());
        let _ = decode_request(bytes.clone());
        let _ = metadata_frame::decode(bytes.clone());
        if let Some(key) = ApiKey::from_code(key) {
            let _ = Request::decode(key, version, bytes.clone());
            let _ = Response::decode(key, version, bytes);
        }
    }

    #[test]
    fn random_bodies_behind_a_header(
        body in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), any::<u8>()], 0..120),
        key in 0..80_i16,
        version in 0..20_i16,
    ) {
        let header = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0, 1, b'c', 0]].concat();
        if let Ok((header, request)) = decode_request([header, body].concat().into()) {
            prop_assert_eq!(header.request_api_key, request.api_key() as i16);
        }
    }
}
