//! Takes an input apart: numbers and pieces with lengths, so that a fuzzer can change one without moving the others' meaning.

use bytes::Bytes;

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; `None` at the end.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// The next two bytes as a number.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// A length in two bytes and as many bytes, or what there is of them.
    pub(crate) fn piece(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?).min(self.0.len());
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(piece)
    }

    /// As [`Input::piece`], with the largest length for none.
    pub(crate) fn optional(&mut self) -> Option<Option<Bytes>> {
        let mut ahead = *self;
        if ahead.u16()? == u16::MAX {
            *self = ahead;
            return Some(None);
        }
        self.piece().map(|piece| Some(Bytes::copy_from_slice(piece)))
    }
}

/// Writes what [`Input::piece`] reads.
pub(crate) fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    let len = u16::try_from(piece.len()).unwrap_or(u16::MAX - 1).min(u16::MAX - 1);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&piece[..usize::from(len)]);
}
