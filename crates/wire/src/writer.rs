//! Writing the primitives of the protocol into a frame of segments.
//!
//! Small things go into one inline buffer. A large payload is not copied: the frame remembers where it stands between
//! inline bytes, so that a host can hand shared bytes to `writev` and a range of a file to `sendfile`. A message that
//! cannot be written does not stop the writing; the first reason is kept and [`Writer::finish`] returns it.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use moldau_base::Uuid;

use crate::reader::MAX_STRING;
use crate::{EncodeError, ErrorCode, Form, Frame, Records, Segment};

/// Shared bytes shorter than this are copied: a segment of its own costs more.
const INLINE_BELOW: usize = 512;
/// The length that stands before every frame.
const LENGTH_PREFIX: usize = 4;

/// A payload, and the place in the inline bytes that it comes before.
#[derive(Debug)]
struct Cut {
    at: usize,
    payload: Segment,
}

/// A frame, or a bare message, that is being written.
#[derive(Debug)]
pub struct Writer {
    inline: BytesMut,
    cuts: Vec<Cut>,
    payload_len: usize,
    prefix: usize,
    error: Option<EncodeError>,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $put:ident) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self, value: $name) {
            self.inline.$put(value);
        }
    };
}

impl Writer {
    /// Begins a frame; the length before it is filled in by [`Writer::finish`].
    pub fn frame() -> Self {
        let mut inline = BytesMut::with_capacity(256);
        inline.put_u32(0);
        Self { inline, cuts: Vec::new(), payload_len: 0, prefix: LENGTH_PREFIX, error: None }
    }

    /// Begins a message without a length before it: a record, or a blob inside another message.
    pub fn bare() -> Self {
        let inline = BytesMut::with_capacity(128);
        Self { inline, cuts: Vec::new(), payload_len: 0, prefix: 0, error: None }
    }

    /// How many bytes were written, payloads and length prefix included.
    pub fn len(&self) -> usize {
        self.inline.len() + self.payload_len
    }

    /// Whether nothing was written behind the length prefix.
    pub fn is_empty(&self) -> bool {
        self.len() == self.prefix
    }

    /// The finished frame, or the first reason why the message could not be written.
    pub fn finish(mut self) -> Result<Frame, EncodeError> {
        let len = self.len();
        let body = len - self.prefix;
        if body > i32::MAX as usize {
            self.fail(EncodeError::TooLong { length: body });
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.prefix == LENGTH_PREFIX {
            self.inline[..LENGTH_PREFIX].copy_from_slice(&(body as u32).to_be_bytes());
        }
        let inline = self.inline.freeze();
        let mut segments = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut from = 0;
        for cut in self.cuts {
            if cut.at > from {
                segments.push(Segment::Bytes(inline.slice(from..cut.at)));
                from = cut.at;
            }
            segments.push(cut.payload);
        }
        if from < inline.len() {
            segments.push(Segment::Bytes(inline.slice(from..)));
        }
        Ok(Frame { segments, len })
    }

    /// The finished message in one piece of memory; copies only if there are payloads.
    pub fn into_bytes(self) -> Result<Bytes, EncodeError> {
        self.finish()?.into_bytes()
    }

    /// Keeps the first reason why the message cannot be written.
    #[cold]
    pub fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    /// A field that says something has no place in this version.
    #[cold]
    pub(crate) fn unrepresentable(&mut self, message: &'static str, field: &'static str, version: i16) {
        self.fail(EncodeError::Unrepresentable { message, field, version });
    }

    /// A field is null and cannot be in this version.
    #[cold]
    pub(crate) fn null(&mut self, message: &'static str, field: &'static str, version: i16) {
        self.fail(EncodeError::Null { message, field, version });
    }

    /// A version outside the message's schema.
    #[cold]
    pub(crate) fn unknown_version(&mut self, message: &'static str, version: i16) {
        self.fail(EncodeError::UnknownVersion { message, version });
    }

    number!(
        /// One signed byte.
        i8, put_i8
    );
    number!(
        /// Two bytes, signed.
        i16, put_i16
    );
    number!(
        /// Two bytes, unsigned.
        u16, put_u16
    );
    number!(
        /// Four bytes, signed.
        i32, put_i32
    );
    number!(
        /// Eight bytes, signed.
        i64, put_i64
    );

    /// One byte, 0 or 1.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.inline.put_u8(u8::from(value));
    }

    /// An error code.
    #[inline]
    pub fn error(&mut self, code: ErrorCode) {
        self.inline.put_i16(code.0);
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self, id: Uuid) {
        self.inline.put_slice(&id.0);
    }

    /// An unsigned varint.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.inline.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.inline.put_u8(value as u8);
    }

    /// A string.
    #[inline]
    pub fn string(&mut self, form: Form, value: &str) {
        let length = value.len();
        if length > MAX_STRING {
            return self.fail(EncodeError::StringTooLong { length });
        }
        match form {
            Form::Plain => self.inline.put_i16(length as i16),
            Form::Compact => self.uvarint(length as u32 + 1),
        }
        self.inline.put_slice(value.as_bytes());
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, form: Form, value: &Option<ByteString>) {
        match (value, form) {
            (Some(value), _) => self.string(form, value),
            (None, Form::Plain) => self.inline.put_i16(-1),
            (None, Form::Compact) => self.inline.put_u8(0),
        }
    }

    /// The length of a null string.
    #[inline]
    pub fn null_string(&mut self, form: Form) {
        self.nullable_string(form, &None);
    }

    /// The length of bytes or of an array.
    #[inline]
    pub fn length(&mut self, form: Form, length: usize) {
        if length >= i32::MAX as usize {
            return self.fail(EncodeError::TooLong { length });
        }
        match form {
            Form::Plain => self.inline.put_i32(length as i32),
            Form::Compact => self.uvarint(length as u32 + 1),
        }
    }

    /// The length of null bytes or of a null array.
    #[inline]
    pub fn null_length(&mut self, form: Form) {
        match form {
            Form::Plain => self.inline.put_i32(-1),
            Form::Compact => self.inline.put_u8(0),
        }
    }

    /// Bytes, shared when they are many.
    #[inline]
    pub fn bytes(&mut self, form: Form, value: &Bytes) {
        self.length(form, value.len());
        self.shared(value);
    }

    /// Bytes or null.
    #[inline]
    pub fn nullable_bytes(&mut self, form: Form, value: &Option<Bytes>) {
        match value {
            Some(value) => self.bytes(form, value),
            None => self.null_length(form),
        }
    }

    /// The records of a response.
    pub fn records(&mut self, form: Form, records: &Records) {
        match records {
            Records::Null => self.null_length(form),
            Records::Bytes(bytes) => self.bytes(form, bytes),
            Records::Segments(segments) => {
                self.length(form, records.len());
                segments.iter().for_each(|segment| self.segment(segment));
            }
            Records::File(range) => {
                self.length(form, range.len as usize);
                self.segment(&Segment::File(*range));
            }
        }
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.inline.put_slice(bytes);
    }

    fn segment(&mut self, segment: &Segment) {
        match segment {
            Segment::Bytes(bytes) => self.shared(bytes),
            Segment::File(range) if range.len == 0 => {}
            Segment::File(_) => self.payload(segment.clone()),
        }
    }

    #[inline]
    fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < INLINE_BELOW {
            self.inline.put_slice(bytes);
        } else {
            self.payload(Segment::Bytes(bytes.clone()));
        }
    }

    fn payload(&mut self, payload: Segment) {
        self.payload_len += payload.len();
        self.cuts.push(Cut { at: self.inline.len(), payload });
    }

    /// No tagged fields.
    #[inline]
    pub fn no_tags(&mut self) {
        self.inline.put_u8(0);
    }

    /// A tagged field: its size stands before it and is known after it, so its bytes make room for a long size.
    pub fn tagged(&mut self, tag: u32, content: impl FnOnce(&mut Self)) {
        self.uvarint(tag);
        let size_at = self.inline.len();
        let payload_before = self.payload_len;
        let cuts_before = self.cuts.len();
        self.inline.put_u8(0);
        content(self);
        let size = self.inline.len() - size_at - 1 + (self.payload_len - payload_before);
        if size < 0x80 {
            self.inline[size_at] = size as u8;
            return;
        }
        let mut digits = Writer::bare();
        digits.uvarint(u32::try_from(size).unwrap_or(u32::MAX));
        let digits = digits.inline;
        let end = self.inline.len();
        self.inline.put_bytes(0, digits.len() - 1);
        self.inline.copy_within(size_at + 1..end, size_at + digits.len());
        self.inline[size_at..size_at + digits.len()].copy_from_slice(&digits);
        for cut in &mut self.cuts[cuts_before..] {
            cut.at += digits.len() - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileRange, Reader};

    /// A tagged field of `small` inline bytes around a shared payload of `large` bytes.
    fn tagged(small: usize, large: usize) -> Frame {
        let mut writer = Writer::frame();
        writer.i32(7);
        writer.tagged(3, |w| {
            w.raw(&vec![1; small]);
            w.shared(&Bytes::from(vec![2; large]));
            w.raw(&[3]);
        });
        writer.shared(&Bytes::from(vec![4; 600]));
        writer.i32(8);
        writer.finish().unwrap()
    }

    #[test]
    fn the_size_of_a_tagged_field_makes_room_for_itself() {
        for small in [0, 1, 126, 127, 128, 16_382, 16_383, 16_384] {
            for large in [0, 511, 512, 20_000] {
                let frame = tagged(small, large);
                let len = frame.len;
                let bytes = frame.into_bytes().unwrap();
                assert_eq!(bytes.len(), len);
                let mut r = Reader::new(bytes);
                assert_eq!(r.i32(), Ok(len as i32 - 4));
                assert_eq!(r.i32(), Ok(7));
                assert_eq!(r.tag(), Ok((3, small + large + 1)));
                let content = r.rest().slice(..small + large + 1);
                let parts = (&content[..small], &content[small..small + large], &content[small + large..]);
                assert!(parts.0.iter().all(|b| *b == 1) && parts.1.iter().all(|b| *b == 2));
                assert_eq!(parts.2, [3]);
                r.skip(content.len() + 600).unwrap();
                assert_eq!((r.i32(), r.finish()), (Ok(8), Ok(())));
            }
        }
    }

    #[test]
    fn segments_keep_their_order() {
        let file = FileRange { file: 1, position: 4096, len: 100 };
        let large = Bytes::from(vec![9; 600]);
        let records = Records::Segments(vec![Segment::File(file), Segment::Bytes(large.clone())]);
        let mut writer = Writer::frame();
        writer.records(Form::Plain, &records);
        writer.records(Form::Plain, &Records::File(file));
        writer.records(Form::Compact, &Records::Null);
        let frame = writer.finish().unwrap();
        assert_eq!(frame.len, 4 + 4 + 700 + 4 + 100 + 1);
        let inline = |bytes: &'static [u8]| Segment::Bytes(Bytes::from_static(bytes));
        let expected = [
            inline(&[0, 0, 3, 41, 0, 0, 2, 188]),
            Segment::File(file),
            Segment::Bytes(large),
            inline(&[0, 0, 0, 100]),
            Segment::File(file),
            inline(&[0]),
        ];
        assert_eq!(frame.segments, expected);
        assert_eq!(frame.into_bytes(), Err(EncodeError::FileRange));
    }

    #[test]
    fn the_first_mistake_is_kept() {
        let long = "x".repeat(40_000);
        let mut writer = Writer::bare();
        writer.string(Form::Compact, &long);
        writer.null("Message", "field", 3);
        assert_eq!(writer.into_bytes(), Err(EncodeError::StringTooLong { length: 40_000 }));
    }
}
