//! Every message, in every version: what is written reads back equal, and what is read writes the same bytes.

mod walk;

use bytes::Bytes;
use moldau_base::Rng;
use moldau_wire::{DecodeError, Message};
use walk::random::{random, small};
use walk::{Kind, Visitor, Walk, visit_all};

const ROUNDS: usize = 20;

struct RoundTrip(Rng);

impl Visitor for RoundTrip {
    fn visit<M: Message + Walk>(&mut self, _: Kind) {
        for version in M::VERSIONS.iter() {
            let place = || format!("{} v{version}", M::NAME);
            for _ in 0..ROUNDS {
                let message: M = random(&mut self.0, version);
                let bytes = message.to_bytes(version).unwrap_or_else(|e| panic!("{}: {e}", place()));
                let read =
                    M::from_bytes(bytes.clone(), version).unwrap_or_else(|e| panic!("{}: {e}", place()));
                assert_eq!(read, message, "{}", place());
                assert_eq!(read.to_bytes(version).as_ref(), Ok(&bytes), "{}", place());
                every_cut_is_refused::<M>(&bytes, version);
            }
            for plain in (0..5).map(|depth| small(depth, version)).chain([M::default()]) {
                let bytes = plain.to_bytes(version).unwrap_or_else(|e| panic!("{}: {e}", place()));
                assert_eq!(M::from_bytes(bytes, version), Ok(plain), "{}", place());
            }
        }
        for version in [M::VERSIONS.min - 1, M::VERSIONS.max + 1] {
            assert!(M::default().to_bytes(version).is_err());
            let refused = M::from_bytes(Bytes::from_static(&[0; 64]), version);
            assert_eq!(refused, Err(DecodeError::UnknownVersion { message: M::NAME, version }));
        }
    }
}

/// No shorter message is a message, nor is a longer one.
fn every_cut_is_refused<M: Message>(bytes: &Bytes, version: i16) {
    let cuts = (0..bytes.len()).filter(|at| *at < 64 || at % 61 == 0);
    for cut in cuts {
        let short = M::from_bytes(bytes.slice(..cut), version);
        assert!(short.is_err(), "{} v{version} cut at {cut} reads as {short:?}", M::NAME);
    }
    let longer = Bytes::from([bytes.as_ref(), &[0]].concat());
    assert_eq!(M::from_bytes(longer, version), Err(DecodeError::TrailingBytes { left: 1 }));
}

#[test]
fn all_messages_in_all_versions() {
    visit_all(&mut RoundTrip(Rng::seeded(42)));
}
