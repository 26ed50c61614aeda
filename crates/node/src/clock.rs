//! The node's clocks, read here and nowhere else.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use moldau_base::{Mono, Now};

/// Tells the time since the node started, and of the day.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at zero.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The moment.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            mono: Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}
