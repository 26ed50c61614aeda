//! One partition log on a Disk: segments, indexes, recovery, retention
