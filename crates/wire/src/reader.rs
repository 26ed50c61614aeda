//! Reading the primitives of the protocol from one frame.
//!
//! Strings, bytes and records come out as slices of the frame and share its memory. Nothing is allocated before the
//! length that asks for it was compared with the bytes that are left, so a forged length costs nothing.

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::Uuid;

use crate::{DecodeError, ErrorCode, Records};

/// What the arrays of one request may take in memory. An empty string is one byte on the wire and 32 in memory, so a
/// frame of 100 MiB could ask for gigabytes; an OffsetCommit of a million partitions takes about 80 MiB.
pub const MAX_REQUEST_ARRAY_BYTES: usize = 128 * 1024 * 1024;
/// An array has room for this many elements at least before the first one is read.
const FIRST_ROOM: usize = 4;
/// The longest string of the protocol.
pub(crate) const MAX_STRING: usize = i16::MAX as usize;

/// How lengths are written: fixed in the first versions of a message, compact in its flexible ones (KIP-482).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Two or four bytes, -1 for null.
    Plain,
    /// An unsigned varint of length + 1, 0 for null.
    Compact,
}

impl Form {
    /// The form of a message whose flexible versions begin at `flexible`.
    #[inline]
    pub const fn of(version: i16, flexible: i16) -> Form {
        if version >= flexible { Form::Compact } else { Form::Plain }
    }

    /// The size of the length of an empty string: the smallest string there is.
    #[inline]
    pub const fn smallest_string(self) -> usize {
        match self {
            Form::Plain => 2,
            Form::Compact => 1,
        }
    }

    /// The size of the length of empty bytes.
    #[inline]
    pub const fn smallest_bytes(self) -> usize {
        match self {
            Form::Plain => 4,
            Form::Compact => 1,
        }
    }
}

/// A position in a frame.
#[derive(Clone, Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    end: usize,
    array_bytes_left: usize,
}

type Result<T> = std::result::Result<T, DecodeError>;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self) -> Result<$name> {
            Ok($name::from_be_bytes(self.array_of()?))
        }
    };
}

impl Reader {
    /// Reads `frame` from its beginning.
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end, array_bytes_left: usize::MAX }
    }

    /// Reads what anybody may have sent: arrays together take at most [`MAX_REQUEST_ARRAY_BYTES`] of memory.
    pub fn for_request(frame: Bytes) -> Self {
        Self { array_bytes_left: MAX_REQUEST_ARRAY_BYTES, ..Self::new(frame) }
    }

    /// How many bytes are left.
    #[inline]
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// What has not been read, sharing the frame.
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.at..self.end)
    }

    /// Refuses bytes after the end of the message.
    pub fn finish(&self) -> Result<()> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes { left: left as u32 }),
        }
    }

    #[inline]
    fn offset(&self) -> u32 {
        self.at as u32
    }

    #[cold]
    fn truncated(&self, need: usize) -> DecodeError {
        DecodeError::Truncated { at: self.offset(), need: need as u32, left: self.left() as u32 }
    }

    /// The position of the next `length` bytes, which are there.
    #[inline]
    fn take(&mut self, length: usize) -> Result<usize> {
        if length > self.left() {
            return Err(self.truncated(length));
        }
        let from = self.at;
        self.at += length;
        Ok(from)
    }

    #[inline]
    fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.frame.get(self.at..self.end).and_then(|rest| rest.first_chunk::<N>()) {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.truncated(N)),
        }
    }

    number!(
        /// One signed byte.
        i8
    );
    number!(
        /// Two bytes, signed.
        i16
    );
    number!(
        /// Two bytes, unsigned.
        u16
    );
    number!(
        /// Four bytes, signed.
        i32
    );
    number!(
        /// Eight bytes, signed.
        i64
    );

    /// One byte; anything but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// An error code.
    #[inline]
    pub fn error(&mut self) -> Result<ErrorCode> {
        Ok(ErrorCode(self.i16()?))
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid(self.array_of()?))
    }

    /// An unsigned varint of at most 32 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32> {
        let [first] = self.array_of()?;
        if first < 0x80 { Ok(u32::from(first)) } else { self.long_uvarint(first) }
    }

    fn long_uvarint(&mut self, first: u8) -> Result<u32> {
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let [byte] = self.array_of()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::VarintTooLong { at: self.offset() });
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { at: self.offset() })
    }

    fn negative(&self, length: i32) -> DecodeError {
        DecodeError::NegativeLength { at: self.offset(), length }
    }

    /// The length of a string, `None` for null.
    #[inline]
    fn string_length(&mut self, form: Form) -> Result<Option<usize>> {
        match form {
            Form::Plain => match self.i16()? {
                -1 => Ok(None),
                length => usize::try_from(length).map(Some).map_err(|_| self.negative(length.into())),
            },
            Form::Compact => match self.uvarint()? {
                0 => Ok(None),
                length if length as usize - 1 > MAX_STRING => {
                    Err(DecodeError::StringTooLong { at: self.offset(), length: length - 1 })
                }
                length => Ok(Some(length as usize - 1)),
            },
        }
    }

    /// The length of bytes or of an array, `None` for null.
    #[inline]
    fn length(&mut self, form: Form) -> Result<Option<usize>> {
        match form {
            Form::Plain => match self.i32()? {
                -1 => Ok(None),
                length => usize::try_from(length).map(Some).map_err(|_| self.negative(length)),
            },
            Form::Compact => Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize)),
        }
    }

    fn required<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or(DecodeError::UnexpectedNull { at: self.offset() })
    }

    /// A string that may be null.
    #[inline]
    pub fn nullable_string(&mut self, form: Form) -> Result<Option<ByteString>> {
        let Some(length) = self.string_length(form)? else { return Ok(None) };
        if length == 0 {
            return Ok(Some(ByteString::new()));
        }
        let from = self.take(length)?;
        ByteString::try_from(self.frame.slice(from..self.at))
            .map(Some)
            .map_err(|_| DecodeError::InvalidUtf8 { at: from as u32 })
    }

    /// A string.
    #[inline]
    pub fn string(&mut self, form: Form) -> Result<ByteString> {
        let value = self.nullable_string(form)?;
        self.required(value)
    }

    /// Bytes that may be null.
    #[inline]
    pub fn nullable_bytes(&mut self, form: Form) -> Result<Option<Bytes>> {
        let Some(length) = self.length(form)? else { return Ok(None) };
        let from = self.take(length)?;
        Ok(Some(self.frame.slice(from..self.at)))
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self, form: Form) -> Result<Bytes> {
        let value = self.nullable_bytes(form)?;
        self.required(value)
    }

    /// The records of a response.
    #[inline]
    pub fn records(&mut self, form: Form) -> Result<Records> {
        Ok(self.nullable_bytes(form)?.map_or(Records::Null, Records::Bytes))
    }

    /// An array that may be null, of elements that take at least `smallest` bytes each.
    pub fn nullable_array<T>(
        &mut self,
        form: Form,
        smallest: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.length(form)? else { return Ok(None) };
        if count > self.left() / smallest.max(1) {
            return Err(self.forged(count, smallest));
        }
        self.array_bytes_left = self
            .array_bytes_left
            .checked_sub(count.saturating_mul(size_of::<T>()))
            .ok_or(DecodeError::TooManyElements { at: self.offset(), count: count as u32 })?;
        // A forged count passes the test above and still ends early, so room is made for no more than is left to read.
        let room = (self.left() / size_of::<T>().max(1)).max(FIRST_ROOM);
        let mut elements = Vec::with_capacity(count.min(room));
        for _ in 0..count {
            if elements.len() == elements.capacity() {
                elements.reserve_exact((count - elements.len()).min(elements.len()));
            }
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// An array of elements that take at least `smallest` bytes each.
    pub fn array<T>(
        &mut self,
        form: Form,
        smallest: usize,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let value = self.nullable_array(form, smallest, element)?;
        self.required(value)
    }

    #[cold]
    fn forged(&self, count: usize, smallest: usize) -> DecodeError {
        DecodeError::ForgedCount {
            at: self.offset(),
            count: count as u32,
            smallest: smallest as u32,
            left: self.left() as u32,
        }
    }

    /// A structure that may be null.
    pub fn nullable<T>(&mut self, value: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.i8()? < 0 { Ok(None) } else { value(self).map(Some) }
    }

    /// How many tagged fields follow: each takes at least two bytes.
    #[inline]
    pub fn tag_count(&mut self) -> Result<u32> {
        let count = self.uvarint()?;
        if count as usize > self.left() / 2 {
            return Err(self.forged(count as usize, 2));
        }
        Ok(count)
    }

    /// The tag and the size of a tagged field; the content is all there.
    pub fn tag(&mut self) -> Result<(u32, usize)> {
        let tag = self.uvarint()?;
        let size = self.uvarint()? as usize;
        if size > self.left() {
            return Err(self.truncated(size));
        }
        Ok((tag, size))
    }

    /// The content of a known tagged field, which must fill its size and cannot read beyond it.
    pub fn tagged<T>(&mut self, size: usize, value: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.end;
        let end = self.at + size;
        self.end = end;
        let value = value(self)?;
        self.end = outer;
        if self.at == end {
            Ok(value)
        } else {
            Err(DecodeError::TaggedSize { at: self.offset(), size: size as u32 })
        }
    }

    /// Passes over the content of a tagged field that no schema knows.
    pub fn skip(&mut self, size: usize) -> Result<()> {
        self.take(size).map(|_| ())
    }

    /// Passes over tagged fields where the schema has none.
    #[inline]
    pub fn skip_tags(&mut self) -> Result<()> {
        for _ in 0..self.tag_count()? {
            let (_, size) = self.tag()?;
            self.skip(size)?;
        }
        Ok(())
    }
}
