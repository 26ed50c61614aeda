//! One replica of one partition, as a step machine (KIP-98, KIP-101, KIP-320, KIP-392, KIP-497, KIP-595, KIP-903, KIP-966): leader or
//! follower, epochs, the in-sync set and the high watermark, the memory of idempotent producers, acknowledgements and waiting fetches.
//!
//! It decides and never does: the log belongs to `storage`, requests and deadlines to `broker`. What it wants comes out as
//! [`Effect`]s; what came of it goes in as [`Input`]s. It reads no clock and holds no payload, only offsets.
//!
//! Its producer memory is a function of the log: replaying the appended batches gives the state that was live.
//!
//! # What a host does
//!
//! **Roles** come from committed metadata: [`Input::Lead`], [`Input::Follow`], [`Input::Stop`]. After each step look at
//! [`Partition::deadline`] (then [`Input::Tick`]) and, while following, at [`Partition::to_fetch`].
//!
//! **A leader** is told of each follower's fetch, in this order: [`Partition::check_epoch`]; does the log's epoch history part from the
//! fetch's last epoch (then answer where, and tell the core nothing); [`Input::FollowerFetch`]; read up to [`View::Stored`]; nothing found:
//! [`Input::Wait`] with what the follower was told of the high watermark. [`Input::Gone`] says that a follower's process is gone.
//! [`Effect::ProposeIsr`] goes to the controller and is answered, once, by [`Input::IsrAnswer`].
//!
//! **A follower** asks with [`Partition::to_fetch`]; the host adds the last epoch of the log. The answer is [`Input::Fetched`], which leads to
//! [`Effect::AppendFetched`] (then [`Input::FetchedAppended`]), or to [`Effect::Truncate`] or [`Effect::Restart`] (then, when the log has done it,
//! [`Input::Truncated`], maybe [`Effect::ReplayProducers`] and [`Input::Replayed`]), and to [`Effect::MoveLogStart`]. Where nothing follows though
//! the answer had batches, they did not fit: fetch again after a pause.

mod effect;
mod follower;
mod input;
mod leader;
mod partition;
mod peers;
mod producers;
mod recent;
mod refusal;
mod waiting;

pub use effect::{Effect, Proposal, ToFetch};
pub use follower::takes_over;
pub use input::{
    Acks, EpochEnd, Fetched, FollowerFetch, Following, Input, IsrAnswer, News, Token, Told, View,
};
pub use leader::Leadership;
pub use partition::{LogState, Partition};
pub use peers::Patience;
pub use producers::{Admission, Producers};
pub use refusal::Refusal;
