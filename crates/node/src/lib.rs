//! The production host: sockets, disks, clock, configuration, metrics. It implements the waist of the broker and nothing of
//! its behaviour.
//!
//! Threads: one per shard with an event loop of its own (`host`), one for the metadata quorum (`quorum`), three per log
//! directory that wait for the disk (`background`), and the main thread, which accepts connections, serves HTTP and
//! waits for signals (`listeners`, `node`).

mod agree;
mod background;
mod bindings;
mod clock;
pub mod config;
mod conn;
mod files;
mod fs;
mod host;
pub mod http;
mod ids;
mod links;
mod listeners;
mod lock;
pub mod logging;
mod machine;
mod mailbox;
pub mod metrics;
mod node;
mod pacing;
mod quorum;
mod settings;
mod shared;
mod space;
mod together;

pub use config::NodeConfig;
pub use fs::FsDisk;
pub use node::run;
