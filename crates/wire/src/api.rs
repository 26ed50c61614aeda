//! What all messages have in common, and what an API is beyond its two messages: version ranges and header versions.

use std::fmt;

use bytes::Bytes;

use crate::{ApiKey, DecodeError, EncodeError, Reader, Writer};

/// The versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl VersionRange {
    /// Whether `version` is one of them.
    #[inline]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// All of them, oldest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i16> {
        self.min..=self.max
    }

    /// The versions in both ranges, if there are any.
    pub fn intersection(self, other: VersionRange) -> Option<VersionRange> {
        let common = VersionRange { min: self.min.max(other.min), max: self.max.min(other.max) };
        (common.min <= common.max).then_some(common)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// A message with versions: a request, a response, a header, a record.
pub trait Message: Sized + Default + Clone + PartialEq + fmt::Debug {
    /// The name in the schema.
    const NAME: &'static str;
    /// The versions that can be read and written.
    const VERSIONS: VersionRange;

    /// Reads the message; what follows it is left unread.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message; what cannot be written is kept by the writer as its error.
    fn encode(&self, writer: &mut Writer, version: i16);

    /// Reads a message that must fill `bytes`.
    fn from_bytes(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = Self::decode(&mut reader, version)?;
        reader.finish()?;
        Ok(message)
    }

    /// Writes the message into memory, without a length before it.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::bare();
        self.encode(&mut writer, version);
        writer.into_bytes()
    }
}

/// A request type, tied to the API and to the response that answers it.
pub trait Call: Message {
    /// The API.
    const KEY: ApiKey;
    /// What a broker answers.
    type Response: Message;
}

impl ApiKey {
    /// The version of the header before a request: 2 once the request has tagged fields, 1 before.
    pub const fn request_header_version(self, version: i16) -> i16 {
        match self.flexible_since() {
            Some(first) if version >= first => 2,
            _ => 1,
        }
    }

    /// The version of the header before a response: 1 once the response has tagged fields, 0 before. The response of
    /// ApiVersions has 0 always, because a client reads it before it knows what the broker speaks (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self.flexible_since() {
            Some(first) if version >= first && !matches!(self, ApiKey::ApiVersions) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
