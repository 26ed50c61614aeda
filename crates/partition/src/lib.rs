//! One replica of one partition, as a step machine (KIP-98, KIP-101, KIP-320, KIP-497): leadership and its epochs, the
//! in-sync set and the high watermark, the memory of idempotent producers, acknowledgements and waiting fetches.
//!
//! It decides and never does: the log belongs to `storage`, requests and deadlines to `broker`. What it wants comes out as
//! [`Effect`]s; what came of it goes in as [`Input`]s. It reads no clock and holds no payload, only offsets.
//!
//! Its producer memory is a function of the log: replaying the appended batches gives the state that was live.

mod input;
mod leader;
mod partition;
mod producers;
mod recent;
mod waiting;

pub use input::{Acks, Effect, Input, Refusal, Token, View};
pub use leader::Leadership;
pub use partition::{LogState, Partition};
pub use producers::{Admission, Producers};
