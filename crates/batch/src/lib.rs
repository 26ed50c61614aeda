//! Record batch v2 (magic 2, KIP-98) as a view on bytes: header, checksum, validation of what a producer sends,
//! stamping, and, for tools and internal topics only, reading and building records.
//!
//! The data path looks at headers and never decompresses or copies payload. Bytes come from sockets and files:
//! nothing here panics on them, and nothing allocates more than the caller allowed.

mod builder;
mod codec;
mod control;
mod error;
mod header;
mod records;
mod split;
mod stamp;
mod varint;

pub use builder::Builder;
pub use control::{Marker, Outcome};
pub use error::BatchError;
pub use header::{
    Attributes, Codec, HEADER_BYTES, Header, LENGTH_PREFIX_BYTES, NO_PRODUCER_ID, NO_TIMESTAMP,
    TimestampType, checksum,
};
pub use records::{Headers, Record, Records};
pub use split::{Batch, split};
pub use stamp::{STAMP_BYTES, Stamp};
