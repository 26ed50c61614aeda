//! A byte stream that comes in pieces: frames are cut from it the same way however it is cut, and each is read as a
//! request.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use moldau_wire::{decode_request, frame};

const LIMIT: u32 = 1 << 16;

/// The frames of `stream`, given in pieces of this size, and whether it ended in an error.
fn frames(stream: &[u8], piece: usize) -> (Vec<Bytes>, bool) {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for bytes in stream.chunks(piece.max(1)) {
        buffer.extend_from_slice(bytes);
        loop {
            match frame::split(&mut buffer, LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = frames(stream, stream.len());
    assert_eq!(whole, frames(stream, usize::from(*piece)));
    for frame in whole.0 {
        let _ = decode_request(frame);
    }
});
