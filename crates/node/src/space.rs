//! Room on the disks of the log directories, measured now and then for DescribeLogDirs.

use std::path::Path;

use moldau_broker::{Settings, Space};

/// Measures all log directories.
pub fn measure(settings: &Settings) {
    for dir in &settings.log_dirs {
        if let Ok(stat) = rustix::fs::statvfs(Path::new(&dir.path)) {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX);
            dir.space.set(Space { total_bytes: bytes(stat.f_blocks), usable_bytes: bytes(stat.f_bavail) });
        }
    }
}
