//! The production host: sockets, disks, clock, configuration, metrics

pub mod config;
