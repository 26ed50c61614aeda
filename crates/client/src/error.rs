//! What can go wrong between a client and a cluster, and what that means for the data.

use std::io;
use std::time::Duration;

use moldau_batch::BatchError;
use moldau_wire::{ApiKey, DecodeError, EncodeError, ErrorCode, FrameError};

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No broker could be reached. Nothing was sent.
    #[error("cannot connect to {address}: {cause}; is a broker running there? (`moldau start` starts one)")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        cause: io::Error,
    },
    /// The address is not `host:port`.
    #[error("`{0}` is no address; write host:port, such as 127.0.0.1:9092")]
    Address(String),
    /// The broker closed the connection. What was in flight may or may not have been applied.
    #[error("the connection to {address} was closed{}", .reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Closed {
        /// Host and port.
        address: String,
        /// Why, where it is known.
        reason: Option<String>,
    },
    /// No answer in time. The request may or may not have been applied.
    #[error("{api} was not answered by {address} within {after:?}")]
    Timeout {
        /// The API.
        api: ApiKey,
        /// Host and port.
        address: String,
        /// How long it was waited.
        after: Duration,
    },
    /// The broker and this client have no version of the API in common. Nothing was sent.
    #[error("the broker at {address} does not serve {api}")]
    Unsupported {
        /// The API.
        api: ApiKey,
        /// Host and port.
        address: String,
    },
    /// The broker refused, with a code of the protocol.
    #[error("{what}: {}{}", .code.name(), describe(.code, .message))]
    Refused {
        /// What was asked.
        what: String,
        /// The code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<String>,
    },
    /// The answer cannot be read.
    #[error("the answer of {address} cannot be read: {cause}")]
    Decode {
        /// Host and port.
        address: String,
        /// Why.
        cause: DecodeError,
    },
    /// The answer's length cannot be.
    #[error("the answer of {address} cannot be read: {cause}")]
    Frame {
        /// Host and port.
        address: String,
        /// Why.
        cause: FrameError,
    },
    /// The request cannot be written. Nothing was sent.
    #[error("the request cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// Records cannot be read or written.
    #[error("{topic}-{partition}: {cause}")]
    Batch {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Why.
        cause: BatchError,
    },
    /// No leader was found in time. Nothing was sent.
    #[error("{topic}-{partition} has no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The answer lacks what was asked for.
    #[error("the broker's answer to {api} says nothing about {what}")]
    Missing {
        /// The API.
        api: ApiKey,
        /// What was asked for.
        what: String,
    },
    /// A message is larger than the producer's buffer. Nothing was sent.
    #[error("a message of {bytes} bytes is larger than the buffer of {limit} bytes")]
    TooLarge {
        /// The message.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

fn describe(code: &ErrorCode, message: &Option<String>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => format!(": {}", code.message()),
    }
}

impl ClientError {
    /// The protocol's code, if the broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// True if the same request may succeed later, or at another broker, and was certainly not applied or may be
    /// applied twice without harm.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Refused { code, .. } => code.is_retriable(),
            ClientError::Connect { .. }
            | ClientError::Closed { .. }
            | ClientError::Timeout { .. }
            | ClientError::NoLeader { .. } => true,
            _ => false,
        }
    }
}

/// Ok, or the refusal that `code` is.
pub(crate) fn check(
    what: impl FnOnce() -> String,
    code: ErrorCode,
    message: Option<&bytestring::ByteString>,
) -> crate::Result<()> {
    if code.is_ok() {
        return Ok(());
    }
    Err(ClientError::Refused { what: what(), code, message: message.map(ToString::to_string) })
}
