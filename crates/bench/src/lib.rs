//! Load against a broker over the Kafka protocol, and what the same work costs this machine at the least.
//!
//! Every figure is the processor time of the serving process, so that a slow load generator cannot flatter a broker; the
//! generator itself sends from a file in memory and throws away what it receives without copying it. [`floor`] does the
//! same work with no broker around it: the ratio of the two is what the broker adds.
//!
//! | module | |
//! |---|---|
//! | [`link`] | one blocking connection for what is asked once |
//! | [`frames`], [`pump`] | produce: the same frames again and again |
//! | [`drain`] | fetch: responses whose payload is thrown away |
//! | [`floor`], [`floors`] | receive + checksum + append, sendfile, fdatasync, ping |
//! | [`process`], [`serving`], [`leash`], [`machine`] | processor time and memory, child processes and their end, facts |
//! | [`contender`] | the brokers, and how each is started |
//! | [`paced`] | a fixed rate, and the latency from producer to consumer |
//! | [`legs`], [`paired`] | the workloads, and brokers side by side under them |
//! | [`startup`], [`recovery`], [`idle`], [`calls`] | what else is measured |
//! | [`alone`] | what a broker is asked for by itself |
//! | [`run`] | a run from its beginning to its page |
//! | [`results`], [`stats`], [`page`], [`reasons`], [`compare`] | the figures, what they say, and whether they became worse |
//!
//! What this crate must never do: fail because a machine is slow. Only [`compare`] judges, and only processor time.

pub mod alone;
pub mod calls;
pub mod compare;
pub mod contender;
pub mod drain;
pub mod floor;
pub mod floors;
pub mod frames;
pub mod idle;
pub mod leash;
pub mod legs;
pub mod link;
pub mod machine;
pub mod paced;
pub mod page;
pub mod paired;
pub mod process;
pub mod pump;
pub mod reasons;
pub mod recovery;
pub mod results;
pub mod run;
pub mod serving;
pub mod startup;
pub mod stats;

/// Bytes of a gigabyte, as this crate counts.
pub const GB: f64 = 1e9;

/// Says on standard error what happens, with the minutes and seconds since the first word.
pub fn say(what: std::fmt::Arguments<'_>) {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let seconds = FIRST.get_or_init(std::time::Instant::now).elapsed().as_secs();
    eprintln!("{:02}:{:02} {what}", seconds / 60, seconds % 60);
}
