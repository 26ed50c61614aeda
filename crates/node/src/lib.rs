//! The production host: sockets, disks, clock, configuration, metrics

pub mod config;
pub mod http;
pub mod logging;
pub mod metrics;
