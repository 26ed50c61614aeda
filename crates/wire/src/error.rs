//! What can be wrong with bytes that claim to be a message, and with a message that is to become bytes.
//!
//! Every way in which a peer's bytes can be bad has a name here; none of them panics or allocates. A decode error is a
//! refusal (the peer's fault), an encode error is ours.

use crate::ApiKey;

/// Bytes that are not the message they claim to be. `at` is the offset in the message where reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before the field does.
    #[error("truncated at byte {at}: {need} bytes needed, {left} left")]
    Truncated {
        /// Where reading stopped.
        at: u32,
        /// How many bytes the field says it has.
        need: u32,
        /// How many bytes there are.
        left: u32,
    },
    /// An array claims more elements than the rest of the message could hold, were each as small as can be.
    #[error("forged array at byte {at}: {count} elements of at least {smallest} bytes, {left} bytes left")]
    ForgedCount {
        /// Where reading stopped.
        at: u32,
        /// The claimed number of elements.
        count: u32,
        /// The smallest size of one element.
        smallest: u32,
        /// How many bytes there are.
        left: u32,
    },
    /// Arrays that together would take more memory than a request may.
    #[error("array of {count} elements at byte {at}: the request asks for too much memory")]
    TooManyElements {
        /// Where reading stopped.
        at: u32,
        /// The number of elements.
        count: u32,
    },
    /// A length below zero where null is not allowed, or below -1.
    #[error("negative length {length} at byte {at}")]
    NegativeLength {
        /// Where reading stopped.
        at: u32,
        /// The length found.
        length: i32,
    },
    /// Null in a field that cannot be null in this version.
    #[error("null at byte {at} in a field that is never null")]
    UnexpectedNull {
        /// Where reading stopped.
        at: u32,
    },
    /// A string of more than 32767 bytes, which the protocol does not know.
    #[error("string of {length} bytes at byte {at}: at most 32767 are allowed")]
    StringTooLong {
        /// Where reading stopped.
        at: u32,
        /// The length found.
        length: u32,
    },
    /// A string that is not UTF-8.
    #[error("string at byte {at} is not UTF-8")]
    InvalidUtf8 {
        /// Where reading stopped.
        at: u32,
    },
    /// A variable-length integer of more than five bytes, or beyond 32 bits.
    #[error("variable-length integer at byte {at} is too long")]
    VarintTooLong {
        /// Where reading stopped.
        at: u32,
    },
    /// A tagged field whose content ends before or after the size it announced.
    #[error("tagged field ends at byte {at}, {size} bytes were announced")]
    TaggedSize {
        /// Where reading stopped.
        at: u32,
        /// The size announced.
        size: u32,
    },
    /// Bytes are left when the message is complete.
    #[error("{left} bytes left after the end of the message")]
    TrailingBytes {
        /// How many.
        left: u32,
    },
    /// An API key that no schema describes.
    #[error("unknown API key {key}")]
    UnknownApi {
        /// The key found.
        key: i16,
    },
    /// A version of an API that is not served.
    #[error("version {version} of {api} is not supported")]
    UnsupportedVersion {
        /// The API asked for.
        api: ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// A version of a message outside its schema: a record, a header, or an API message decoded by hand.
    #[error("version {version} of {message} is unknown")]
    UnknownVersion {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A metadata record with a frame version or a record key that is unknown.
    #[error("unknown metadata record: frame version {frame}, key {key}")]
    UnknownRecord {
        /// The frame version found.
        frame: u32,
        /// The record key found.
        key: u32,
    },
}

/// A message that has no representation in the version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A field has a value that says something, and the version has no place for it.
    #[error("{message} v{version} has no field {field}, which is not at its default")]
    Unrepresentable {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null in a field that cannot be null in this version.
    #[error("{message} v{version} needs a value in {field}")]
    Null {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A version outside the message's schema.
    #[error("version {version} of {message} is unknown")]
    UnknownVersion {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string of more than 32767 bytes.
    #[error("string of {length} bytes: at most 32767 are allowed")]
    StringTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A message, an array or a byte field beyond what 31 bits can count.
    #[error("{length} bytes or elements: at most 2147483647 are allowed")]
    TooLong {
        /// The length.
        length: usize,
    },
    /// A file range where the bytes themselves were asked for.
    #[error("a range of a file cannot be flattened into memory")]
    FileRange,
}
